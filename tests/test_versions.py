"""What an older version wrote is opened; what a newer one wrote is refused in one clear line."""

import json
import pathlib
import shutil

import pytest

from data_pipelines import CellStore, InputError, load_split, load_statistics
from data_pipelines.formats import check_format
from experiments import load_run
from experiments.assembly import META_FORMAT, ModelPlan
from experiments.evaluation.results import Evaluation
from experiments.evaluation.sweep_rows import Sweep
from experiments.registry.aliases import read_alias
from experiments.runs import RunFolder, find_checkpoint

V1 = pathlib.Path(__file__).parent / "fixtures" / "v1"


@pytest.fixture
def first(tmp_path) -> pathlib.Path:
    """The files of the first layout, to be changed."""
    return pathlib.Path(shutil.copytree(V1, tmp_path / "v1"))


def test_the_first_layout_is_opened(first):
    store = CellStore.open(first / "screen.store")
    split = load_split(store)
    assert (store.n_cells, store.n_genes) == (len(store.obs), len(store.panel)) and store.counts([0]).sum() > 0
    assert load_statistics(store, split).n_cells == len(split.train)
    run, step = find_checkpoint("best", first / "runs")
    assert (run.name, step) == ("perturb/tiny", 2)
    assert run.experiment().name == "perturb" and run.read_metrics()
    assert run.config()["store_hash"] == store.hash
    (evaluation,) = run.evaluations.glob("*")
    assert Evaluation.load(evaluation).store_hash == store.hash
    loaded = load_run("best", runs=first / "runs")
    assert loaded.plan.panel == store.panel and loaded.step == 2


def _edited(path: pathlib.Path, **change) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_what_a_newer_version_wrote_is_refused(first):
    run = RunFolder(first / "runs" / "perturb" / "tiny")
    store = CellStore.open(first / "screen.store")
    split = load_split(store)
    (evaluation,) = run.evaluations.glob("*")
    (first / "sweep.json").write_text("{}")
    for path, read in (
        (run.path / "config.json", run.config),
        (evaluation / "metrics.json", lambda: Evaluation.load(evaluation)),
        (first / "sweep.json", lambda: Sweep.load(first / "sweep.json")),
        (first / "screen.store/statistics" / split.hash / "statistics.json", lambda: load_statistics(store, split)),
        (first / "screen.store/splits/default.json", lambda: load_split(store)),
    ):
        _edited(pathlib.Path(path), format=99)
        with pytest.raises(InputError, match=r"newer lingshu_jax \(format 99; this one reads \d\)\. Update"):
            read()
    meta = json.loads((run.checkpoints / "2" / "meta" / "metadata").read_text())
    for version, said in ((META_FORMAT + 1, "newer"), (1, "older")):
        with pytest.raises(InputError, match=f"the checkpoint was written by an? {said} lingshu_jax"):
            ModelPlan.from_json(meta | {"format": version})
    alias = read_alias(first / "runs", "best")
    assert alias is not None and alias.step == 2


@pytest.mark.parametrize("found", ["2", 0, -1, True, [], 1.5])
def test_what_is_no_version_is_damage(found):
    with pytest.raises(InputError, match=r"it is damaged: .* is no version"):
        check_format("it", found, 3, "Make it again.")


def test_a_file_without_a_version_is_of_the_first():
    assert check_format("it", None, 3, "Make it again.") == 1
    with pytest.raises(InputError, match=r"it was written by an older .*\. Make it again\."):
        check_format("it", None, 3, "Make it again.", oldest=2)
