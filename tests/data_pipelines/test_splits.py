import json

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from data_pipelines import (
    Columns,
    HeldOutCombinations,
    HeldOutPerturbations,
    InputError,
    RandomCells,
    default_split_kind,
    ingest,
    load_split,
    make_default_split,
    make_split,
)
from data_pipelines.split_toml import read_split_toml, split_toml
from data_pipelines.splits import HeldOutContexts, RandomGroups, confounded

EVERY_KIND = (RandomCells(), HeldOutCombinations(), HeldOutPerturbations())


def _screen(tmp_path, sizes):
    """A store with sizes[(line, target)] cells of each condition."""
    labels = [key for key, n in sizes.items() for _ in range(n)]
    obs = pd.DataFrame(labels, columns=["line", "target"], index=[f"c{i}" for i in range(len(labels))])
    counts = scipy.sparse.csr_matrix(np.ones((len(labels), 2), np.int32))
    anndata.AnnData(counts, obs=obs).write_h5ad(tmp_path / "a.h5ad")
    columns = Columns(context=("line",), perturbation="target", control=("ctrl",))
    return ingest(tmp_path / "a.h5ad", tmp_path / "s", columns=columns)


@pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: type(kind).__name__)
def test_every_cell_is_in_exactly_one_part(kind, store):
    split = make_split(store, kind)
    everything = np.concatenate([split.train, split.val, split.test])
    assert sorted(everything) == list(range(store.n_cells))
    assert min(len(split.train), len(split.val), len(split.test)) > 0
    for part in ("train", "val", "test"):
        rows = split.rows(part)
        assert rows.dtype == np.int64
        assert (np.diff(rows) > 0).all()


@pytest.mark.parametrize(
    ("sizes", "kind", "noted"),
    [
        ({("A", "ctrl"): 40, ("A", "x"): 40, ("B", "ctrl"): 40, ("B", "x"): 40}, "HeldOutCombinations", False),
        ({("A", "ctrl"): 40, ("A", "x"): 40, ("B", "ctrl"): 40, ("B", "y"): 40}, "RandomCells", True),
        ({("A", "ctrl"): 1, ("A", "x"): 1, ("B", "x"): 1}, "RandomCells", True),
    ],
)
def test_every_store_gets_a_split(sizes, kind, noted, tmp_path):
    store = _screen(tmp_path, sizes)
    split, note = make_default_split(store)
    assert (split.kind, load_split(store).hash) == (kind, split.hash)
    assert len(split.train) > 0
    assert noted == (note is not None and "random cells: " in note)


@pytest.mark.parametrize("seed", [0, 5])
def test_random_cells_are_the_standard_split(seed, store):
    """permutation(n) over input order; test = the last 20 %; val = the last eighth of the rest."""
    split = make_split(store, RandomCells(seed=seed))
    order = np.random.default_rng(seed).permutation(store.n_cells)
    first = order[: int(0.8 * store.n_cells)]
    place = store.obs["_input_index"].to_numpy()
    assert set(place[split.test]) == set(order[int(0.8 * store.n_cells) :])
    assert set(place[split.val]) == set(first[int(0.875 * len(first)) :])


def test_standard_split_does_not_depend_on_the_shuffle(screen_file, store, tmp_path):
    other = ingest(screen_file, tmp_path / "other", columns=store.columns, seed=9)
    names = [set(s.obs_names) for s in (_test_cells(store), _test_cells(other))]
    assert names[0] == names[1]


def _test_cells(store):
    return anndata.AnnData(obs=store.obs.iloc[make_split(store, RandomCells(), name="x").test])


@pytest.mark.parametrize("seed", range(5))
def test_held_out_combinations_stay_answerable(seed, tmp_path):
    sizes = {(line, target): 40 for line in "ABC" for target in ("t1", "t2", "t3", "t4", "t5")}
    sizes |= {("A", "rare"): 5, ("B", "rare"): 6, ("A", "single"): 50} | {(line, "ctrl"): 50 for line in "ABC"}
    store = _screen(tmp_path, sizes)
    split = make_split(store, HeldOutCombinations(seed=seed))
    train = _pairs(store, split.train)
    held = {part: {(h["line"], h["target"]) for h in split.held_out if h["part"] == part} for part in ("test", "val")}
    assert len(held["test"]) == 4
    assert len(held["val"]) == 1
    for part, pairs in held.items():
        assert not pairs & train
        assert {target for _, target in pairs} <= {target for _, target in train}
        assert _pairs(store, split.rows(part)) - pairs == {(line, "ctrl") for line in "ABC"}
        assert len(split.rows(part)) == sum(sizes[pair] for pair in pairs) + 3 * {"test": 10, "val": 5}[part]
    assert not held["test"] & {("A", "rare"), ("B", "rare"), ("A", "single")}
    assert {line for line, _ in train} == set("ABC")


def test_named_combinations_are_held_out(store):
    pair = (store.obs["cell_line"].iloc[0], next(t for t in store.obs["target_gene"] if t != "non-targeting"))
    split = make_split(store, HeldOutCombinations(combinations=(pair,)))
    assert [tuple(h.values())[:2] for h in split.held_out if h["part"] == "test"] == [pair]
    with pytest.raises(InputError, match=r"no perturbed combination 'x\|y'"):
        make_split(store, HeldOutCombinations(combinations=(("x", "y"),)), name="other")


def test_controls_may_come_from_held_out_contexts_alone(store):
    targets = store.obs["target_gene"].astype(str)
    wanted = ("line_A", sorted(set(targets) - {"non-targeting"})[0])
    kind = HeldOutCombinations(combinations=(wanted,), val=0, control_test=0.5, controls_of="held out")
    test = make_split(store, kind, name="theirs").test
    line, control = store.obs["cell_line"].astype(str).to_numpy(), targets.to_numpy() == "non-targeting"
    assert set(line[test]) == {"line_A"}
    assert control[test].sum() == round(0.5 * (control & (line == "line_A")).sum())


def test_held_out_perturbations_are_in_no_context(store):
    split = make_split(store, HeldOutPerturbations())
    train = {target for _, target in _pairs(store, split.train)}
    for held in split.held_out:
        assert held["target_gene"] not in train
    assert "non-targeting" in train
    assert {line for line, _ in _pairs(store, split.test)} == set(store.obs["cell_line"])


def test_sets_follow_their_held_out_member(tmp_path):
    sizes = {("L", target): 40 for target in ("ctrl", "A", "B", "C", "A+B", "B+C")}
    split = make_split(_screen(tmp_path, sizes), HeldOutPerturbations(perturbations=("A",), val=0))
    assert {h["target"] for h in split.held_out} == {"A", "A+B"}


def test_default_kind_asks_the_hardest_question_the_data_allows(tmp_path, store):
    assert isinstance(default_split_kind(store.columns, store.obs), HeldOutCombinations)
    one_context = store.obs[store.obs["cell_line"] == store.obs["cell_line"].iloc[0]]
    assert isinstance(default_split_kind(store.columns, one_context), RandomCells)
    assert isinstance(default_split_kind(Columns(context=("cell_line",)), store.obs), RandomCells)


def test_a_split_survives_its_file_and_refuses_another_store(store, screen_file, tmp_path):
    split = make_split(store, HeldOutCombinations(), name="mine")
    read = load_split(store, "mine")
    assert (read.hash, read.held_out, read.settings) == (split.hash, split.held_out, split.settings)
    np.testing.assert_array_equal(read.train, split.train)
    other = ingest(screen_file, tmp_path / "other", columns=store.columns, seed=3)
    (other.path.path / "splits").mkdir()
    (other.path.path / "splits" / "mine.json").write_text((store.path.path / "splits" / "mine.json").read_text())
    with pytest.raises(InputError, match="belongs to store"):
        load_split(other, "mine")


def test_an_edited_or_missing_split_is_refused(store):
    make_split(store, RandomCells(), name="cells")
    path = store.path.path / "splits" / "cells.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | {"test": value["test"][1:]}))
    with pytest.raises(InputError, match="changed by hand"):
        load_split(store, "cells")
    path.write_text("{}")
    with pytest.raises(InputError, match="no split file"):
        load_split(store, "cells")
    with pytest.raises(InputError, match=r"no split 'cell' \(nearest: cells\)"):
        load_split(store, "cell")


def test_a_name_is_not_given_twice(store):
    make_split(store, RandomCells())
    make_split(store, RandomCells())
    with pytest.raises(InputError, match="holds another split"):
        make_split(store, RandomCells(seed=1))


def test_kinds_that_the_data_do_not_allow(tmp_path):
    store = _screen(tmp_path, {("A", "ctrl"): 40, ("A", "x"): 40})
    for kind in (HeldOutCombinations(), HeldOutPerturbations()):
        with pytest.raises(InputError, match="can be held out"):
            make_split(store, kind)
    plain = ingest(tmp_path / "a.h5ad", tmp_path / "plain", columns=Columns(context=("line",)))
    with pytest.raises(InputError, match="without a perturbation column"):
        make_split(plain, HeldOutCombinations())


def _pairs(store, rows):
    fields = list(store.columns.fields)
    return set(store.obs[fields].iloc[rows].astype(str).itertuples(index=False, name=None))


def test_groups_stay_whole(store):
    split = make_split(store, RandomGroups(column="gem_group"), name="groups")
    labels = store.obs["gem_group"].to_numpy()
    train, test = set(labels[split.train]), set(labels[split.test])
    assert test
    assert not train & test
    with pytest.raises(InputError, match=r"no obs column 'lane' to group by .present: .*gem_group"):
        make_split(store, RandomGroups(column="lane"), name="other")


@pytest.mark.parametrize("controls", ["train", "test"])
def test_a_held_out_context_keeps_its_controls_unless_asked(store, controls):
    split = make_split(store, HeldOutContexts(contexts=("line_B",), controls=controls, val=0), name=f"c-{controls}")
    line, control = store.obs["cell_line"].to_numpy(), store.columns.is_control(store.obs["target_gene"])
    train, test = (np.isin(np.arange(store.n_cells), rows) for rows in (split.train, split.test))
    assert not (train & (line == "line_B") & ~control).any()
    assert (test & (line == "line_B") & ~control).sum() == ((line == "line_B") & ~control).sum()
    assert bool((train & (line == "line_B") & control).any()) == (controls == "train")
    assert {condition["cell_line"] for condition in split.held_out} == {"line_B"}


def test_a_share_of_a_held_out_contexts_conditions_is_held_out(store):
    split = make_split(store, HeldOutContexts(contexts=("line_A",), share=0.5, val=0), name="half")
    assert len(split.held_out) == 2  # of four perturbations
    assert {condition["cell_line"] for condition in split.held_out} == {"line_A"}
    with pytest.raises(InputError, match=r"no perturbed context 'line_C' .nearest: line_"):
        make_split(store, HeldOutContexts(contexts=("line_C",)), name="wrong")
    with pytest.raises(InputError, match="none would be left for training"):
        make_split(store, HeldOutContexts(contexts=("line_A", "line_B")), name="wrong")


def test_toml_of_state_is_read_and_written(store, tmp_path):
    first, second, *_ = sorted({label for label in store.obs["target_gene"]} - {"non-targeting"})
    text = f"""
[datasets]
x = "somewhere"
[training]
x = "train"
[zeroshot]
"x.line_B" = "test"
[fewshot."x.line_A"]
val = ["{first}"]
test = ["{second}"]
"""
    (tmp_path / "s.toml").write_text(text)
    split = make_split(store, read_split_toml(tmp_path / "s.toml"), name="toml")
    parts = {(c["cell_line"], c["target_gene"]): c["part"] for c in split.held_out}
    assert parts.pop(("line_A", first)) == "val"
    assert parts.pop(("line_A", second)) == "test"
    assert set(parts.values()) == {"test"}
    assert {line for line, _ in parts} == {"line_B"}
    (tmp_path / "again.toml").write_text(split_toml(store, split))
    again = make_split(store, read_split_toml(tmp_path / "again.toml"), name="again")
    assert again.held_out == split.held_out
    with pytest.raises(InputError, match="TOML cannot say it"):
        split_toml(store, make_split(store, RandomCells(), name="cells"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[zeroshot", "is no TOML"),
        ('[zeroshot]\n"x.line_B" = "train"', "goes into 'val' or 'test', not 'train'"),
        ('[zeroshot]\n"line_B" = "test"', "names no context"),
        ('[zeroshot]\n"x.a" = "test"\n"y.b" = "test"', "speaks of 2 datasets"),
        ('[zeroshot]\n"x.line_Z" = "test"', r"no perturbed cells with cell_line 'line_Z' \(nearest: line_"),
        ('[fewshot."x.line_A"]\ntest = ["NOPE"]', "no perturbation 'NOPE' in 'line_A'"),
        ('[fewshot."x.line_A"]\ntrain = ["NOPE"]', "must have lists 'val' and 'test'"),
        ('[fewshot."x.line_A"]\ntest = "NOPE"', "must be a list"),
    ],
)
def test_wrong_toml_says_what_to_write(text, match, store, tmp_path):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(InputError, match=match):
        make_split(store, read_split_toml(tmp_path / "s.toml"), name="toml")


def test_perturbations_without_controls_in_their_batch_are_named(tmp_path):
    counts = np.random.default_rng(0).poisson(1.0, (60, 5))
    obs = pd.DataFrame(
        {"lane": ["1"] * 40 + ["2"] * 20, "target": ["ctrl"] * 20 + ["A"] * 20 + ["B"] * 20},
        index=[str(i) for i in range(60)],
    )
    anndata.AnnData(counts, obs=obs).write_h5ad(tmp_path / "a.h5ad")
    columns = Columns(perturbation="target", control=("ctrl",), batch="lane")
    assert confounded(ingest(tmp_path / "a.h5ad", tmp_path / "s", columns=columns)) == ["B"]
