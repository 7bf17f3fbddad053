"""Writes a cell store: an AnnData root in zarr v3 whose CSR arrays are sharded, one whole shard at a time."""

import pathlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

if TYPE_CHECKING:
    import pandas

CHUNK = 65_536
"""Elements that are compressed, and read back, together."""
SHARD = 128 * CHUNK
"""Elements of one file."""


class StoreWriter:
    """Appends cells in stored order to the arrays of a new store at `path`."""

    def __init__(
        self,
        path: pathlib.Path,
        shape: tuple[int, int],
        dtype: np.dtype,
        entries: int,
        *,
        chunk: int = CHUNK,
        shard: int = SHARD,
    ) -> None:
        """Lay out the empty store.

        Args:
            path: a folder that does not exist yet.
            shape: cells and genes.
            dtype: of the counts.
            entries: number of expressed (cell, gene) pairs that will be appended.
            chunk: elements per compressed chunk.
            shard: elements per file, a multiple of `chunk`.
        """
        import zarr

        self.root = zarr.open_group(path, mode="w", zarr_format=3)
        self.root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        matrix = self.root.create_group("X")
        matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(shape)})
        rows = {"indptr": (np.dtype(np.int64), shape[0] + 1)}
        self._arrays = {
            name: _ShardedArray(matrix, path, name, kind, size, chunk, shard)
            for name, (kind, size) in {
                "data": (dtype, entries),
                "indices": (np.dtype(np.int32), entries),
                **rows,
            }.items()
        }
        self._arrays["indptr"].append(np.zeros(1, np.int64))
        self._last = 0

    def append(self, cells: scipy.sparse.csr_matrix) -> None:
        """Append cells (n, G)."""
        self._arrays["data"].append(cells.data)
        self._arrays["indices"].append(cells.indices)
        self._arrays["indptr"].append(self._last + cells.indptr[1:].astype(np.int64))
        self._last += int(cells.indptr[-1])

    def finish(self, obs: "pandas.DataFrame", var: "pandas.DataFrame", uns: dict[str, Any]) -> None:
        """Write the last shards, then obs, var and uns, and consolidate the metadata."""
        import zarr
        from anndata.io import write_elem

        for array in self._arrays.values():
            array.finish()
        write_elem(self.root, "obs", obs)
        write_elem(self.root, "var", var)
        write_elem(self.root, "uns", uns)
        for name in ("layers", "obsm", "varm", "obsp", "varp"):
            write_elem(self.root, name, {})
        with warnings.catch_warnings():
            # Consolidated metadata is not yet in the zarr v3 standard; it saves one request per array on remote stores.
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            zarr.consolidate_metadata(self.root.store, zarr_format=3)


class _ShardedArray:
    """A flat array of known size that is written through TensorStore in whole shards."""

    def __init__(
        self, group: Any, path: pathlib.Path, name: str, dtype: np.dtype, size: int, chunk: int, shard: int
    ) -> None:
        import tensorstore
        import zarr

        group.create_array(
            name,
            shape=(size,),
            dtype=dtype,
            chunks=(chunk,),
            shards=(shard,),
            compressors=zarr.codecs.ZstdCodec(level=3),
        )
        file = {"driver": "file", "path": str((path / "X" / name).resolve())}
        self._array = tensorstore.open({"driver": "zarr3", "kvstore": file}, open=True).result()
        self._shard, self._size, self._dtype = shard, size, dtype
        self._waiting: list[np.ndarray] = []
        self._held = self._written = 0

    def append(self, values: np.ndarray) -> None:
        self._waiting.append(values.astype(self._dtype, copy=False))
        self._held += len(values)
        if self._held >= self._shard:
            self._write(self._held // self._shard * self._shard)

    def finish(self) -> None:
        self._write(self._held)
        if self._written != self._size:
            raise RuntimeError(f"wrote {self._written} of {self._size} elements: the input changed while it was read.")

    def _write(self, count: int) -> None:
        values = np.concatenate([*self._waiting, np.zeros(0, self._dtype)])
        for start in range(0, count, self._shard):
            stop = min(start + self._shard, count)
            low = self._written + start
            self._array[low : low + stop - start].write(values[start:stop]).result()
        self._written += count
        self._waiting, self._held = [values[count:]], len(values) - count
