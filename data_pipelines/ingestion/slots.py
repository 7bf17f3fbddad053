"""Which matrix of an AnnData holds the raw counts, where nobody says."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.sparse

from data_pipelines.errors import InputError
from data_pipelines.ingestion.counts import find_fault
from data_pipelines.ingestion.inputs import Input
from data_pipelines.ingestion.source import Source, open_source

_BUDGET = 16 * 2**20


def with_slots(inputs: Sequence[Input]) -> tuple[list[Input], list[str]]:
    """The inputs with the matrix to read, and one note per input whose X holds no raw counts.

    X is taken wherever its first cells are raw counts, or nothing else is; the counts themselves are checked later.

    Raises:
        InputError: an input cannot be opened.
    """
    notes, chosen = [], []
    for given in inputs:
        with open_source(given) as source:
            # Without another slot there is nothing to choose; a matrix by columns would be read whole to look at it.
            fault = _fault_of_x(source) if given.layer is None and source.other_slots else None
            slot = _slot(given, source) if fault else None
        if slot is not None:
            notes.append(
                f"{given.path.name}: X holds {fault}; {slot} holds raw counts and is taken instead (--layer {slot})."
            )
        chosen.append(given if slot is None else dataclasses.replace(given, layer=slot))
    return chosen, notes


def _fault_of_x(source: Source) -> str | None:
    return first_fault(source) if source.has_x else "nothing"


def first_fault(source: Source) -> str | None:
    """What is wrong with the values of the first few cells, or None."""
    for first, block in source.matrix.blocks(_BUDGET):
        return fault_in(block, first)
    return None


def fault_in(block: scipy.sparse.csr_matrix, first: int) -> str | None:
    """What is wrong with the values of a block that begins at row `first`, or None."""
    found = find_fault(block.data)
    if found is None:
        return None
    position, what, _ = found
    row = int(np.searchsorted(block.indptr, position, side="right")) - 1
    return f"{what}: {block.data[position]:g} at cell {first + row}, gene {block.indices[position]}"


def _slot(given: Input, source: Source) -> str | None:
    for slot in sorted(source.other_slots, key=lambda slot: slot not in ("counts", "raw.X")):
        try:
            with open_source(dataclasses.replace(given, layer=slot)) as other:
                if first_fault(other) is None:
                    return slot
        except InputError:
            continue
    return None
