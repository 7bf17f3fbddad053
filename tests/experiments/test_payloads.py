"""Stores, checkpoints, h5ad files and manifests with code in them: none of it runs."""

import hashlib
import io
import json
import os
import pathlib
import pickle
import shutil
import zipfile
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from data_pipelines import CellStore, InputError, load_split, load_statistics
from data_pipelines.stored_arrays import stored_arrays
from data_pipelines.target_features import read_targets
from experiments.__main__ import run
from experiments.evaluation.plain import plain
from experiments.evaluation.results import FIGURES_FILE, METRICS_FILE, Evaluation
from experiments.runs import RunFolder

RAN = "ran"


class Payload:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / RAN),)


@pytest.fixture
def payload(tmp_path, monkeypatch):
    """A payload; nothing may have come of it when the test ends."""
    monkeypatch.chdir(tmp_path)
    os.environ.pop("ZARR_ARRAY__ALLOW_UNSAFE_PICKLE_DECODE", None)
    yield Payload(tmp_path)
    assert not (tmp_path / RAN).exists()


def _objects(payload: Payload, *names: str) -> bytes:
    """An npz of object arrays that hold the payload."""
    file = io.BytesIO()
    arrays: Any = {name: np.array([payload, payload], object) for name in names}
    np.savez(file, **arrays)
    return file.getvalue()


def _refused(arguments: list[str], capsys) -> str:
    """The one line that a command says to bad input."""
    capsys.readouterr()
    assert run(arguments) == 2
    *warnings, said = capsys.readouterr().err.splitlines()
    assert all(line.startswith("warning: ") for line in warnings)
    assert said.startswith(f"lingshu {arguments[0]}: ")
    return said


def test_the_payload_would_run(tmp_path):
    with np.load(io.BytesIO(_objects(Payload(tmp_path), "a")), allow_pickle=True) as arrays:
        list(arrays["a"])
    assert (tmp_path / RAN).is_dir()


def test_target_features_of_objects_are_refused(payload, tmp_path):
    (tmp_path / "features.npz").write_bytes(_objects(payload, "labels", "features"))
    with pytest.raises(InputError, match=r"features\.npz must hold .* without objects"):
        read_targets(str(tmp_path / "features.npz"))


@pytest.mark.parametrize("content", ["npz", "pickle", "zip of a pickle"])
def test_learnt_arrays_of_objects_are_refused(content, payload, store, runs, tmp_path):
    own = pathlib.Path(shutil.copytree(store, tmp_path / "own.store"))
    opened = CellStore.open(own)
    split = load_split(opened)
    folder = own / "statistics" / split.hash
    assert load_statistics(opened, split).n_cells
    bad = {"npz": _objects(payload, "histogram", "mean", "dispersion"), "pickle": pickle.dumps(payload)}
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        for name in ("histogram", "mean", "dispersion"):
            file.writestr(f"{name}.npy", bad["pickle"])
    bad["zip of a pickle"] = zipped.getvalue()
    (folder / "statistics.npz").write_bytes(bad[content])
    with pytest.raises(InputError, match="cannot be read"):
        load_statistics(opened, split)
    (folder / "means.npz").write_bytes(bad[content])
    with pytest.raises(InputError, match="cannot be read"):
        stored_arrays(opened, split, "means", dict)


def test_figures_of_objects_are_refused(payload, tmp_path):
    found = Evaluation(
        store_hash="s", split_hash="s", split_name="s", split_kind="s", part="test", seed=0,
        n_genes=3, n_real=1, n_generated=1, provenance={}, versions={},
    )  # fmt: skip
    found.save(tmp_path / "evaluation")
    assert plain(Evaluation.load(tmp_path / "evaluation").to_json()) == plain(found.to_json())
    figures = _objects(payload, "a")
    (tmp_path / "evaluation" / FIGURES_FILE).write_bytes(figures)
    tree = json.loads((tmp_path / "evaluation" / METRICS_FILE).read_text())
    tree["figures_digest"] = hashlib.blake2b(figures, digest_size=16).hexdigest()
    (tmp_path / "evaluation" / METRICS_FILE).write_text(json.dumps(tree))
    with pytest.raises(InputError, match="is damaged"):
        Evaluation.load(tmp_path / "evaluation")


def _cells() -> anndata.AnnData:
    obs = pd.DataFrame({"target": ["ctrl", "KO", "ctrl"]}, index=list("xyz"))
    counts = np.array([[1, 0, 2], [0, 3, 1], [4, 0, 0]], np.float32)
    return anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=list("abc")))


def test_pickled_bytes_in_an_h5ad_stay_bytes(payload, tmp_path, capsys):
    path = tmp_path / "cells.h5ad"
    _cells().write_h5ad(path)
    pickled = np.void(pickle.dumps(payload))
    with h5py.File(path, "r+") as file:
        for place in ("/", "X", "obs", "obs/target", "var"):
            file[place].attrs["pickle"] = pickled
        file["uns/pickled"] = pickled
        file["uns/lingshu"] = pickled
        file["obs"].attrs["dtype"] = "object"
    assert run(["ingest", str(path), "--out", str(tmp_path / "out"), "--columns.context", "target"]) == 0
    with h5py.File(path, "r+") as file:
        del file["obs/target"]
        file["obs/target"] = np.array([pickled] * 3)
        file["obs/target"].attrs.update({"encoding-type": "pickle", "encoding-version": "0.1.0"})
    capsys.readouterr()
    assert "cells.h5ad (obs)" in _refused(["inspect", str(path)], capsys)


@pytest.mark.parametrize("array", ["X", "obs/_index", "obs/target/categories"])
@pytest.mark.parametrize("place", ["filters", "compressor", "object codec", "behind a text codec"])
def test_zarr_arrays_are_not_unpickled(array, place, payload, tmp_path, capsys):
    path = tmp_path / "cells.zarr"
    with anndata.settings.override(zarr_write_format=2), pytest.warns(Warning):
        _cells().write_zarr(path)
    (path / ".zmetadata").unlink(missing_ok=True)
    folder = path / array if (path / array / ".zarray").exists() else path / array / "values"
    meta = json.loads((folder / ".zarray").read_text())
    codec, text = {"id": "pickle"}, {"id": "vlen-utf8"}
    meta |= {
        "filters": {"filters": [codec], "object codec": [codec], "behind a text codec": [text, codec]}.get(place),
        "compressor": codec if place == "compressor" else None,
    }
    if place in ("object codec", "behind a text codec"):
        meta |= {"dtype": "|O", "fill_value": ""}
    (folder / ".zarray").write_text(json.dumps(meta))
    for chunk in folder.iterdir():
        if not chunk.name.startswith("."):
            chunk.write_bytes(pickle.dumps(payload))
    assert "cells.zarr" in _refused(["inspect", str(path)], capsys)


def test_a_store_whose_codec_would_unpickle_is_refused(payload, store, tmp_path, capsys):
    own = pathlib.Path(shutil.copytree(store, tmp_path / "own.store"))
    for name in ("X/data", "obs/cell_line/codes"):
        meta = json.loads((own / name / "zarr.json").read_text())
        meta["codecs"] = [{"name": "numcodecs.pickle", "configuration": {"id": "pickle"}}]
        (own / name / "zarr.json").write_text(json.dumps(meta))
    assert "own.store" in _refused(["split", str(own), "--name", "mine"], capsys)


def test_a_checkpoint_with_pickles_in_it_runs_none(payload, runs, tmp_path, capsys):
    own = pathlib.Path(shutil.copytree(runs, tmp_path / "runs"))
    newest = own / "perturb" / "tiny" / "checkpoints" / "12"
    pickled = pickle.dumps(payload)
    for place in ("", "ema", "fixed", "meta", "state"):
        for name in ("checkpoint", "data.pkl", "__init__.py", "pickle"):
            (newest / place / name).write_bytes(pickled)
    arguments = ["--runs", str(own), "--condition.cell_line", "line_A", "--n", "1", "--out", str(tmp_path / "a.h5ad")]
    arguments += ["--condition.target_gene", "non-targeting"]
    # Orbax takes `checkpoint` for msgpack, which knows no code either.
    assert "was not saved with it" in _refused(["sample", "tiny", *arguments], capsys)
    for place in ("ema", "fixed", "meta", "state"):
        (newest / place / "checkpoint").unlink()
    assert run(["sample", "tiny", *arguments]) == 0
    (tmp_path / "a.h5ad").unlink()
    for file in (newest / "ema").rglob("*"):
        if file.is_file():
            file.write_bytes(pickled)
    (newest / "checksums.json").unlink()
    assert "cannot be read" in _refused(["sample", "tiny", "--step", "12", *arguments], capsys)


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.mkdir [ran]", "!!python/object/new:os.mkdir [ran]", "!!python/name:os.mkdir"]
)
def test_a_manifest_cannot_name_python(tag, payload, tmp_path, capsys):
    (tmp_path / "cells.yaml").write_text(f"sources:\n  - path: {tag}\n")
    assert "is no YAML" in _refused(["inspect", str(tmp_path / "cells.yaml")], capsys)


def test_settings_name_only_types_of_ours(payload, runs, tmp_path):
    own = pathlib.Path(shutil.copytree(runs, tmp_path / "runs"))
    path = own / "perturb" / "tiny" / "config.json"
    config = json.loads(path.read_text())
    config["experiment"]["sampler"] = {"type": "os.mkdir", "py/reduce": ["os.mkdir", "ran"]}
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config\.json: settings of type 'os.mkdir' are not known"):
        RunFolder(path.parent).experiment()
