"""Lays out and completes a cell store: an AnnData root in zarr v3 whose CSR arrays are sharded.

The root's metadata is written last of all: before that the store does not open.
"""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.contents import write_contents
from data_pipelines.location import Location
from data_pipelines.system_errors import told_as_system_errors

if TYPE_CHECKING:
    import pandas

CHUNK = 65_536
"""Elements that are compressed, and read back, together."""
SHARD = 128 * CHUNK
"""Elements of one file."""


def lay_out(
    store: Location,
    shape: tuple[int, int],
    dtype: np.dtype,
    entries: int,
    *,
    chunk: int = CHUNK,
    shard: int = SHARD,
) -> None:
    """Make the empty arrays of X; those that are there already, with what was written to them, stay.

    Args:
        store: where.
        shape: cells and genes.
        dtype: of the counts.
        entries: number of expressed (cell, gene) pairs.
        chunk: elements per compressed chunk.
        shard: elements per file, a multiple of `chunk`.
    """
    import zarr

    from data_pipelines.zarr_store import RootLast

    root = zarr.open_group(RootLast(store), mode="a", zarr_format=3)
    matrix = root["X"] if "X" in root else root.create_group("X")
    assert isinstance(matrix, zarr.Group)
    matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(shape)})
    # Most of a count's bits, and most of the bytes of sorted columns, are zeros: put together, lz4 packs them as
    # small as zstd would without, and reads them several times faster.
    arrays = {
        "data": (dtype, entries, "bitshuffle"),
        "indices": (np.dtype(np.int32), entries, "shuffle"),
        "indptr": (np.dtype(np.int64), shape[0] + 1, "shuffle"),
    }
    for name, (kind, size, shuffle) in arrays.items():
        if store.exists(f"X/{name}/zarr.json"):
            continue
        matrix.create_array(
            name,
            shape=(size,),
            dtype=kind,
            chunks=(chunk,),
            shards=(shard,),
            # A checksum of every chunk: lz4 makes other numbers of a bit that flipped.
            compressors=(zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle=shuffle), zarr.codecs.Crc32cCodec()),
        )


def complete(
    store: Location, indptr: np.ndarray, obs: "pandas.DataFrame", var: "pandas.DataFrame", uns: dict[str, Any]
) -> None:
    """Write the row pointers, obs, var and uns, and at last the root."""
    import zarr
    from anndata.io import write_elem

    from data_pipelines.zarr_store import RootLast

    with told_as_system_errors(store / "X"):
        store.array("X/indptr", write=True).write(indptr).result()
    target = RootLast(store)
    root = zarr.open_group(target, mode="a", zarr_format=3)
    root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    write_elem(root, "obs", obs)
    write_elem(root, "var", var)
    write_elem(root, "uns", uns)
    for name in ("layers", "obsm", "varm", "obsp", "varp"):
        write_elem(root, name, {})
    # What a killed process left behind of a file it was writing.
    store.delete(key for key in store.list_keys() if key.endswith(".__lock"))
    with warnings.catch_warnings():
        # Consolidated metadata is not yet in the zarr v3 standard; it saves one request per array on remote stores.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(target, zarr_format=3)
    write_contents(store, target.root)
    target.publish()
