"""What raw counts are: finite, whole, not negative. Checked block by block; the first offender is named."""

import numpy as np
import scipy.sparse

from data_pipelines.errors import InputError

LARGEST_COUNT = np.iinfo(np.int32).max
"""Largest count a store can hold; real UMI counts are far below."""


def raw_counts(
    block: scipy.sparse.csr_matrix, *, first: int, where: str, slots: tuple[str, ...] = ()
) -> scipy.sparse.csr_matrix:
    """The block (n, G) as int32 counts without explicit zeros and with sorted columns.

    Args:
        block: rows as stored, any numeric dtype.
        first: input row of the block's first row, for messages.
        where: file and slot, for messages.
        slots: other matrices of the file that may hold the counts, for messages.

    Raises:
        InputError: a value is not finite, negative, fractional, or too large for a count.
    """
    with np.errstate(invalid="ignore"):  # what no integer is equal to is named below
        whole = block.data.astype(np.int32)
    if (whole != block.data).any() or (whole.size and whole.min() < 0):
        fault = find_fault(block.data)
        assert fault is not None
        position, what, way_out = fault
        row = int(np.searchsorted(block.indptr, position, side="right")) - 1
        others = f" (this file also has: {', '.join(slots)})" if slots else ""
        raise InputError(
            f"{where} holds {what}: {block.data[position]:g} at cell {first + row}, gene {block.indices[position]}. "
            f"{way_out} or choose another matrix with --layer{others}."
        )
    counts = scipy.sparse.csr_matrix((whole, block.indices, block.indptr), shape=block.shape)
    counts.eliminate_zeros()
    counts.sort_indices()
    return counts


def find_fault(values: np.ndarray) -> tuple[int, str, str] | None:
    """The first value that is no raw count: (position, what it is, the way out), or None."""
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            return int(np.argmin(finite)), "values that are not finite", "Remove those cells or genes,"
    if values.size and values.min() < 0:
        return int(np.argmax(values < 0)), "negative values (scaled or regressed data)", "Pass raw UMI counts,"
    if values.dtype.kind == "f":
        whole = values == np.floor(values)
        if not whole.all():
            return (
                int(np.argmin(whole)),
                "fractional values (normalised or log-transformed data)",
                "Pass raw UMI counts,",
            )
    # Not `> LARGEST_COUNT`: 32-bit floats round that number up to this one.
    if values.size and values.max() >= LARGEST_COUNT + 1:
        return int(np.argmax(values >= LARGEST_COUNT + 1)), f"counts above {LARGEST_COUNT}", "Pass raw UMI counts,"
    return None
