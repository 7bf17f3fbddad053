"""Every parser of ours, as a call on the bytes of one document; the documents are those of tests/fixtures/v1."""

import dataclasses
import functools
import io
import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from data_pipelines import CellStore, Columns, InputError, ingest, load_split, load_statistics
from data_pipelines.ingestion.inputs import find_inputs
from data_pipelines.ingestion.pairs import read_pairs
from data_pipelines.ingestion.panel import read_panel
from data_pipelines.split_toml import read_split_toml
from data_pipelines.target_features import read_targets
from lingshu_jax.training.checkpoint import CheckpointError
from lingshu_jax.vocabulary import UnknownLabel
from tests.fuzz.mutations import of_document

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "v1"
STORE, RUN = FIXTURES / "screen.store", FIXTURES / "runs" / "perturb" / "tiny"
OURS = (InputError, UnknownLabel, CheckpointError)
"""Each ends in one line and exit status 2."""


@dataclasses.dataclass(frozen=True)
class Target:
    """One parser."""

    name: str
    parse: Callable[[bytes, pathlib.Path], object]
    """Of one document, with an empty folder to write it into."""
    inputs: st.SearchStrategy[bytes]


def file_of(name: str, read: Callable[[pathlib.Path], object]) -> Callable[[bytes, pathlib.Path], object]:
    """A parser of a file of this name."""

    def parse(content: bytes, folder: pathlib.Path) -> object:
        (folder / name).write_bytes(content)
        return read(folder / name)

    return parse


def inside(tree: pathlib.Path, name: str, read: Callable[[pathlib.Path], object]):
    """A parser of one file of a folder, the others being as they were."""

    def parse(content: bytes, folder: pathlib.Path) -> object:
        own = folder / tree.name
        shutil.copytree(tree, own)
        (own / name).write_bytes(content)
        return read(own)

    return parse


def documents(name: str, parse: Callable, *valid: bytes) -> Target:
    return Target(name, parse, st.one_of(*map(of_document, valid)))


def _of_store(read: Callable[[CellStore], object]) -> Callable[[pathlib.Path], object]:
    return lambda path: read(CellStore.open(path))


def _use(store: CellStore) -> object:
    split = load_split(store)
    return store.obs, store.var, store.measured, store.counts(np.arange(min(3, store.n_cells))), split


def stores() -> Iterator[Target]:
    """What a store is made of."""
    split = load_split(CellStore.open(STORE))
    statistics = f"statistics/{split.hash}"
    for name, read in {
        "zarr.json": _use,
        "X/data/zarr.json": _use,
        "X/indices/c/0": _use,
        "X/indptr/zarr.json": _use,
        "obs/cell_line/categories/c/0": _use,
        "obs/_index/values/c/0": _use,
        "uns/cell_store/manifest/c": _use,
        "contents/files.txt": _use,
        "splits/default.json": load_split,
        f"{statistics}/statistics.json": lambda store: load_statistics(store, load_split(store)),
        f"{statistics}/statistics.npz": lambda store: load_statistics(store, load_split(store)),
    }.items():
        label = f"store: {name.replace(split.hash, 'SPLIT')}"
        yield documents(label, inside(STORE, name, _of_store(read)), (STORE / name).read_bytes())
    manifest = json.dumps(CellStore.open(STORE).manifest).encode()
    yield documents("store: manifest", _manifest, manifest)


def _manifest(content: bytes, folder: pathlib.Path) -> object:
    import zarr
    from anndata.io import write_elem

    own = folder / "screen.store"
    shutil.copytree(STORE, own)
    group: Any = zarr.open_group(own, mode="r+", use_consolidated=False)["uns/cell_store"]
    write_elem(group, "manifest", content.decode(errors="replace"))
    return _use(CellStore.open(own))


def inputs() -> Iterator[Target]:
    """What people bring."""
    manifest = b"sources:\n  - path: a.h5ad\n    layer: counts\n    rename: {line: cell_line}\n    keep: {q: [pass]}\n"
    yield documents("manifest of inputs", file_of("cells.yaml", lambda path: find_inputs(str(path))), manifest)
    yield documents("gene panel", file_of("genes.csv", read_panel), b"gene_id,name\nENSG1,a\nENSG2,b\n")
    yield documents("aliases", file_of("alias.csv", _pairs), b"alias,gene\na,b\nc,d\n")
    toml = b'[datasets]\ns = "s.store"\n[training]\ns = "train"\n[zeroshot]\n"s.line_A" = "test"\n'
    toml += b'[fewshot."s.line_B"]\nval = ["WZV21"]\n'
    yield documents("split TOML", file_of("split.toml", _toml), toml)
    npz = _npz()
    yield documents("target features", file_of("features.npz", lambda path: read_targets(str(path))), npz)
    yield documents("target features, parquet", file_of("f.parquet", lambda path: read_targets(str(path))), _parquet())


def _pairs(path: pathlib.Path) -> object:
    return read_pairs(path, "alias", "gene")


def _toml(path: pathlib.Path) -> object:
    store = CellStore.open(STORE)
    kind = read_split_toml(path)
    return kind.assign(store, np.random.default_rng(0))


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, labels=np.array(["a", "b"]), features=np.eye(2))
    return file.getvalue()


def _parquet() -> bytes:
    return pd.DataFrame({"label": ["a", "b"], "x": [0.0, 1.0]}).to_parquet() or b""


def cells() -> Iterator[Target]:
    """Files of cells, through ingest."""
    yield documents("h5ad", file_of("cells.h5ad", _ingest), _h5ad())
    yield documents("10x h5", file_of("cells.h5", _ingest), _tenx_h5())
    parts = {
        "matrix.mtx": b"%%MatrixMarket matrix coordinate integer general\n2 3 3\n1 1 4\n2 2 1\n1 3 2\n",
        "features.tsv": b"ENSG1\ta\tGene Expression\nENSG2\tb\tGene Expression\n",
        "barcodes.tsv": b"x\ny\nz\n",
    }
    for name, valid in parts.items():
        yield documents(f"10x {name}", functools.partial(_tenx, parts, name), valid)


def _tenx(parts: dict[str, bytes], name: str, content: bytes, folder: pathlib.Path) -> object:
    (folder / "tenx").mkdir()
    for part, valid in parts.items():
        (folder / "tenx" / part).write_bytes(content if part == name else valid)
    return _ingest(folder / "tenx")


def _ingest(path: pathlib.Path) -> object:
    return ingest(path, path.parent / "out.store", columns=Columns())


def _h5ad() -> bytes:
    import anndata

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "a.h5ad"
        anndata.AnnData(
            np.array([[1, 0], [2, 3], [0, 1]], np.float32),
            obs=pd.DataFrame({"line": ["a", "b", "a"]}, index=list("xyz")),
            var=pd.DataFrame(index=list("gh")),
        ).write_h5ad(path)
        return path.read_bytes()


def _tenx_h5() -> bytes:
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        matrix = root.create_group("matrix")
        matrix["data"], matrix["indices"], matrix["indptr"] = [1, 2, 3], [0, 1, 0], [0, 1, 2, 3]
        matrix["shape"], matrix["barcodes"] = [2, 3], [b"x", b"y", b"z"]
        features = matrix.create_group("features")
        for name, values in {
            "id": [b"1", b"2"],
            "name": [b"g", b"h"],
            "feature_type": [b"Gene Expression"] * 2,
        }.items():
            features[name] = values
    return file.getvalue()


def targets() -> list[Target]:
    """All of them."""
    from tests.fuzz.run_targets import runs, words

    return [*inputs(), *cells(), *stores(), *runs(), *words()]
