"""Aliases: names of a checkpoint that can be moved, and are references."""

import json
import shutil

import pytest

from data_pipelines.errors import InputError
from experiments.__main__ import run
from experiments.runs import find_checkpoint, find_run
from tests.experiments.conftest import train_arguments
from tests.experiments.registry.folders import copy_run


@pytest.fixture
def root(runs, tmp_path):
    """Two runs without weights, `one` with checkpoints of steps 6 and 12."""
    for name in ("one", "two"):
        copy_run(runs, tmp_path / "perturb" / name)
    (tmp_path / "perturb" / "one" / "checkpoints" / "6").mkdir()
    return tmp_path


def runs_command(root, *arguments) -> int:
    return run(["runs", *map(str, arguments), "--runs", str(root)])


def test_an_alias_is_a_reference_to_a_run_and_a_step(root, capsys):
    assert runs_command(root, "alias", "production", "one", "--step", 6) == 0
    assert capsys.readouterr().out == "production: perturb/one, step 6\n"
    folder, step = find_checkpoint("production", root)
    assert (folder.id, step) == ("one", 6) and find_run("production", root).id == "one"
    assert runs_command(root, "alias", "production", "two") == 0
    assert capsys.readouterr().out == "production: perturb/two, step 12 (was perturb/one, step 6)\n"
    assert find_checkpoint("production", root)[1] == 12
    assert runs_command(root, "alias") == 0 and capsys.readouterr().out == "production: perturb/two, step 12\n"
    assert runs_command(root) == 0 and "production (12)" in capsys.readouterr().out
    assert runs_command(root, "show", "production") == 0 and "production (12)" in capsys.readouterr().out
    assert runs_command(root, "alias", "staging", "production") == 0
    assert find_checkpoint("staging", root) == find_checkpoint("production", root)
    assert runs_command(root, "unalias", "production") == 0
    with pytest.raises(InputError, match="no run 'production'"):
        find_run("production", root)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["alias", "latest", "one"], "no name for an alias"),
        (["alias", "../one", "one"], "no name for an alias"),
        (["alias", "two", "one"], "'two' is the name of a run"),
        (["alias", "best", "three"], "no run 'three'"),
        (["alias", "best", "one", "--step", "7"], "no checkpoint of step 7. There are: 6, 12"),
        (["alias", "best"], "lingshu runs alias NAME RUN"),
        (["unalias", "best"], "no alias 'best'"),
        (["diff", "one", "two", "--step", "3"], "--step says which checkpoint an alias names"),
    ],
)
def test_what_is_no_alias_is_one_line(root, capsys, arguments, said):
    assert runs_command(root, *arguments) == 2
    assert said in capsys.readouterr().err
    assert not (root / "aliases").exists() or not list((root / "aliases").iterdir())


def test_the_list_says_which_checkpoint_is_gone(root, capsys):
    assert runs_command(root, "alias", "production", "one", "--step", 6) == 0
    shutil.rmtree(root / "perturb" / "one" / "checkpoints" / "6")
    capsys.readouterr()
    assert runs_command(root, "alias") == 0
    assert capsys.readouterr().out == "production: perturb/one, step 6 (checkpoint is gone)\n"
    assert runs_command(root) == 0 and "production (6, gone)" in capsys.readouterr().out


def test_an_alias_of_a_run_that_is_gone_or_damaged_says_so(root, capsys):
    assert runs_command(root, "alias", "production", "one") == 0
    shutil.rmtree(root / "perturb" / "one")
    capsys.readouterr()
    assert runs_command(root, "alias") == 0 and "step 12 (run is gone)" in capsys.readouterr().out
    with pytest.raises(InputError, match="lingshu runs unalias production"):
        find_run("production", root)
    (root / "aliases" / "production.json").write_text(json.dumps({"run": 3}))
    with pytest.raises(InputError, match="is damaged"):
        find_run("production", root)
    assert runs_command(root) == 0


def test_a_name_is_a_run_or_an_alias(store, runs, root, capsys):
    assert runs_command(root, "alias", "production", "one") == 0
    assert run(train_arguments(store, root, "--run", "production")) == 2
    assert "is an alias" in capsys.readouterr().err
    copy_run(runs, root / "perturb" / "production")
    with pytest.raises(InputError, match=r"is an alias, of perturb/one, and a run. Write perturb/production or"):
        find_run("production", root)


def test_cells_are_drawn_from_the_checkpoint_that_an_alias_names(runs, tmp_path, capsys):
    # Without the cells that other tests drew.
    shutil.copytree(runs / "perturb" / "tiny", tmp_path / "perturb" / "tiny", ignore=shutil.ignore_patterns("samples"))
    assert runs_command(tmp_path, "alias", "production", "tiny", "--step", 6) == 0
    assert run(["sample", "production", "--split", "test", "--n", "2", "--runs", str(tmp_path)]) == 0
    (cells,) = (tmp_path / "perturb" / "tiny" / "samples").glob("*.h5ad")
    assert cells.name.startswith("test-6-")
    note = json.loads(cells.with_suffix(".json").read_text())
    assert note["file"] == str(cells) and note["provenance"]["step"] == 6
    assert note["provenance"]["cells_per_condition"] == 2


def test_an_alias_is_not_set_under_a_registry_that_is_none(root, monkeypatch, capsys):
    for name, value in (("LINGSHU_REGISTRY", "off"), ("MLFLOW_TRACKING_URI", "http://[::1")):
        with monkeypatch.context() as patch:
            patch.delenv("LINGSHU_REGISTRY", raising=False)
            patch.setenv(name, value)
            assert runs_command(root, "alias", "production", "one") == 2
        assert name in capsys.readouterr().err and not (root / "aliases").exists()


def test_removing_the_alias_of_a_run_that_is_gone_is_quiet(root, capsys):
    assert runs_command(root, "alias", "production", "two") == 0
    shutil.rmtree(root / "perturb" / "two")
    capsys.readouterr()
    assert runs_command(root, "unalias", "production") == 0
    assert capsys.readouterr().err == ""
