import os
import pathlib
import subprocess
import sys

import anndata
import grain
import numpy as np
import pandas as pd
import pytest

from data_pipelines import (
    Columns,
    InputError,
    RandomCells,
    condition_rows,
    ingest,
    load_statistics,
    make_loader,
    make_split,
)
from data_pipelines.layouts import Slabbed, dense_counts, padded_pairs
from data_pipelines.slabs import SLAB, Slabs, slabs_of
from lingshu_jax.vocabulary import ConditionVocabulary, UnknownLabel

ALONE = grain.sharding.ShardOptions(shard_index=0, shard_count=1)


@pytest.fixture(scope="module")
def fed(shared_store, tmp_path_factory):
    """A store, its training rows (352 of 440: 11 slabs) and their vocabulary."""
    split = make_split(shared_store, RandomCells(val=0.0), name="loader")
    return shared_store, split.train, load_statistics(shared_store, split).vocabulary


def _batches(fed, count, *, state=None, shards=ALONE, batch_size=64, **settings):
    settings = {"seed": 0, "workers": 0} | settings
    with make_loader(*fed, batch_size=batch_size, shards=shards, **settings) as loader:
        if state is not None:
            loader.set_state(state)
        return [next(loader) for _ in range(count)], loader.state()


def _same(left, right):
    return all(
        np.array_equal(a[name], b[name])
        for a, b in zip(left, right, strict=True)
        for name in ("cell", "genes", "counts", "position")
    )


def test_batches_hold_the_cells_of_the_store(fed):
    store, rows, vocabulary = fed
    (batch,), _ = _batches(fed, 1)
    assert batch["genes"].shape == batch["counts"].shape == (64, store.capacity)
    assert {name: batch[name].dtype for name in ("genes", "counts", "source", "position", "cell")} == {
        "genes": np.uint16,
        "counts": np.uint16,
        "source": np.int32,
        "position": np.int32,
        "cell": np.int64,
    }
    dense = np.zeros((64, store.n_genes + 1), np.int32)
    np.put_along_axis(dense, batch["genes"].astype(int), batch["counts"], 1)
    np.testing.assert_array_equal(dense[:, :-1], store.counts(batch["cell"]).toarray())
    expected = condition_rows(store, batch["cell"], vocabulary)
    for name, values in expected.items():
        np.testing.assert_array_equal(batch["conditions"][name], values)
        assert values.dtype == np.int32
    assert set(batch["cell"]) <= set(rows)
    np.testing.assert_array_equal(batch["position"], np.arange(64))


def test_an_epoch_is_a_permutation_of_the_slabs(fed):
    """11 slabs, batches of 1: every training cell once per epoch, in another order each time."""
    batches, _ = _batches(fed, 22, batch_size=SLAB)
    epochs = [np.concatenate([batch["cell"] for batch in batches[i : i + 11]]) for i in (0, 11)]
    for epoch in epochs:
        assert sorted(epoch) == list(fed[1])
    assert not np.array_equal(*epochs)
    other, _ = _batches(fed, 11, batch_size=SLAB, seed=1)
    assert not np.array_equal(epochs[0], np.concatenate([batch["cell"] for batch in other]))


def test_the_last_slab_wraps_around(fed):
    store, rows, vocabulary = fed
    for n in (40, 5):
        slabs = Slabs(store, rows[:n], vocabulary)
        last = slabs[len(slabs) - 1]
        seen = np.concatenate([slabs[i]["cell"] for i in range(len(slabs))])
        np.testing.assert_array_equal(seen, np.resize(rows[:n], len(slabs) * SLAB))
        cells = Slabbed(*(last[name][None] for name in ("genes", "counts", "ends")), store.n_genes, store.capacity)
        np.testing.assert_array_equal(dense_counts(cells)["counts"], store.counts(last["cell"]).toarray())


def test_dense_batches_hold_the_same_cells(fed):
    store = fed[0]
    (pairs,), _ = _batches(fed, 1)
    (dense,), _ = _batches(fed, 1, layout=dense_counts)
    np.testing.assert_array_equal(dense["cell"], pairs["cell"])
    np.testing.assert_array_equal(dense["counts"], store.counts(pairs["cell"]).toarray())
    assert dense["counts"].dtype == np.uint16
    assert "genes" not in dense


def test_resuming_continues_exactly(fed):
    whole, _ = _batches(fed, 9)
    _, state = _batches(fed, 4)
    assert state == {"global_next_index": 8}
    rest, _ = _batches(fed, 5, state=state)
    assert _same(rest, whole[4:])


def test_two_processes_share_the_same_global_stream(fed):
    """The cell at each position of each global batch is the same for 1 and 2 processes, also across a change."""
    whole, _ = _batches(fed, 6)
    halves = [
        _batches(fed, 6, shards=grain.sharding.ShardOptions(shard_index=i, shard_count=2), batch_size=64)
        for i in range(2)
    ]
    assert halves[0][1] == halves[1][1]
    for batch, *parts in zip(whole, halves[0][0], halves[1][0], strict=True):
        position = np.concatenate([part["position"] for part in parts])
        cell = np.concatenate([part["cell"] for part in parts])
        assert sorted(position) == list(range(64))
        np.testing.assert_array_equal(cell[np.argsort(position)], batch["cell"])
    longer, _ = _batches(fed, 8)
    assert _same(_batches(fed, 2, state=halves[0][1])[0], longer[6:])


def test_rare_conditions_are_seen_as_often_as_others(fed):
    store, rows, _ = fed
    label = store.obs["target_gene"].to_numpy()
    shares = {}
    for evenness in (0.0, 1.0):
        batches, _ = _batches(fed, 100, batch_size=SLAB, balance=("target_gene",), evenness=evenness)
        slabs = [set(label[batch["cell"]]) for batch in batches]
        assert all(len(labels) == 1 for labels in slabs)
        shares[evenness] = np.mean([labels == {"non-targeting"} for labels in slabs])
    assert shares[1.0] == pytest.approx(1 / 5, abs=0.02)
    assert shares[0.0] == pytest.approx(np.mean(label[rows] == "non-targeting"), abs=0.02)
    resumed = {"balance": ("target_gene",)}
    whole, _ = _batches(fed, 6, **resumed)
    _, state = _batches(fed, 3, **resumed)
    assert _same(_batches(fed, 3, state=state, **resumed)[0], whole[3:])
    with pytest.raises(InputError, match="no obs column 'lane' to balance over"):
        _batches(fed, 1, balance=("lane",))


def test_cells_without_a_label_are_a_group_of_their_own(tmp_path):
    obs = pd.DataFrame(
        {"kind": pd.Categorical(["b", "a", None, "a", None, None]), "share": [1.5, np.nan] * 3}, index=[*"abcdef"]
    )
    anndata.AnnData(np.ones((6, 3)), obs=obs).write_h5ad(tmp_path / "a.h5ad")
    store = ingest(tmp_path / "a.h5ad", tmp_path / "s", columns=Columns())
    place = store.obs["_input_index"].to_numpy()
    for balance, expected in (
        (["kind"], [[1, 3], [0], [2, 4, 5]]),
        (["kind", "share"], [[1, 3], [0], [2, 4], [5]]),
    ):
        groups = slabs_of(store, np.arange(6), ConditionVocabulary(()), balance)
        assert [sorted(place[slabs.rows]) for slabs in groups] == expected


def test_neighbours_in_the_input_are_not_neighbours_in_a_batch(fed):
    """Chi-square: the input place of a batch's cells, in eight parts, is as in the whole training set."""
    from scipy.stats import chi2_contingency

    store, rows, _ = fed
    place = store.obs["_input_index"].to_numpy() * 8 // store.n_cells
    batches, _ = _batches(fed, 11, batch_size=SLAB)
    table = np.stack([np.bincount(place[batch["cell"]], minlength=8) for batch in batches])
    assert chi2_contingency(table).pvalue > 0.001
    in_order = np.sort(store.obs["_input_index"].to_numpy()[rows])[: 11 * SLAB].reshape(11, SLAB) * 8 // store.n_cells
    unshuffled = np.stack([np.bincount(parts, minlength=8) for parts in in_order])
    assert chi2_contingency(unshuffled).pvalue < 1e-10  # what it would be without the shuffle


@pytest.mark.slow
def test_a_loader_that_nobody_closes_leaves_nothing_behind(fed, tmp_path):
    """Workers and shared memory end with the process, also when it ends by an exception."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, grain\n"
        "from data_pipelines import CellStore, load_split, load_statistics, make_loader\n"
        "if __name__ == '__main__':\n"
        "    store = CellStore.open(sys.argv[1])\n"
        "    split = load_split(store, 'loader')\n"
        "    alone = grain.sharding.ShardOptions(shard_index=0, shard_count=1)\n"
        "    vocabulary = load_statistics(store, split).vocabulary\n"
        "    loader = make_loader(store, split.train, vocabulary, batch_size=32, seed=0, workers=2, shards=alone)\n"
        "    next(loader)\n"
        "    raise SystemExit('left open')\n"
    )
    before = set(os.listdir("/dev/shm"))
    ended = subprocess.run([sys.executable, program, fed[0].path], capture_output=True, text=True, timeout=120)
    assert "left open" in ended.stderr
    assert ended.returncode == 1
    assert set(os.listdir("/dev/shm")) <= before
    assert not [line for line in _processes() if str(program) in line]


def _processes():
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield (entry / "cmdline").read_text()
            except OSError:
                continue


@pytest.mark.slow
def test_hosts_and_workers_can_change_at_every_restart(fed):
    """1 host with 2 workers, then 2 hosts with none, then 4 hosts with 1: one global stream."""
    whole, _ = _batches(fed, 6, batch_size=128)
    state, done = None, 0
    for hosts, workers in ((1, 2), (2, 0), (4, 1)):
        parts = [
            _batches(
                fed,
                2,
                state=state,
                workers=workers,
                batch_size=128,
                shards=grain.sharding.ShardOptions(shard_index=host, shard_count=hosts),
            )
            for host in range(hosts)
        ]
        for number in range(2):
            position, cell = (np.concatenate([p[0][number][name] for p in parts]) for name in ("position", "cell"))
            np.testing.assert_array_equal(cell[np.argsort(position)], whole[done + number]["cell"])
        state, done = parts[0][1], done + 2


@pytest.mark.slow
@pytest.mark.parametrize("processes, layout", [(4, padded_pairs), (16, dense_counts), (64, dense_counts)])
def test_more_processes_than_slabs_share_the_same_batches(fed, processes, layout):
    """Each takes a part of a slab: the global batch is that of one process, cell by cell."""
    alone, state = _batches(fed, 3, layout=layout)
    shards = [grain.sharding.ShardOptions(shard_index=i, shard_count=processes) for i in range(processes)]
    parts, states = zip(*(_batches(fed, 3, shards=shard, layout=layout) for shard in shards), strict=True)
    assert all(each == state for each in states)
    for step, whole in enumerate(alone):
        together = {
            name: np.concatenate([part[step][name] for part in parts]) for name in whole if name != "conditions"
        }
        order = np.argsort(together["position"])
        assert all(np.array_equal(together[name][order], whole[name]) for name in together)
        for name, values in whole["conditions"].items():
            mine = np.concatenate([part[step]["conditions"][name] for part in parts])
            assert np.array_equal(mine[order], values, equal_nan=values.dtype.kind == "f")
    (last,), _ = _batches(fed, 1, state=_batches(fed, 2)[1], shards=shards[1], layout=layout)
    assert np.array_equal(last["cell"], parts[1][2]["cell"])


def test_workers_do_not_change_the_stream(fed):
    alone, _ = _batches(fed, 6)
    helped, state = _batches(fed, 3, workers=2)
    assert _same(helped, alone[:3])
    assert _same(_batches(fed, 3, state=state, workers=1)[0], alone[3:])


def test_batch_sizes_that_do_not_fit(fed):
    with pytest.raises(InputError, match=r"batch size 40 must be a multiple of 32 .* Pass 32\."):
        make_loader(*fed, batch_size=40, seed=0, shards=ALONE)
    with pytest.raises(InputError, match=r"5 processes cannot take equal parts of a batch of 96 cells. Start 4\."):
        make_loader(*fed, batch_size=96, seed=0, shards=grain.sharding.ShardOptions(shard_index=0, shard_count=5))
    with pytest.raises(InputError, match="seed must be >= 0, got -1"):
        make_loader(*fed, batch_size=32, seed=-1, shards=ALONE)
    with pytest.raises(InputError, match="no cells to load"):
        make_loader(fed[0], fed[1][:0], fed[2], batch_size=32, seed=0, shards=ALONE)


def test_labels_outside_the_vocabulary_are_refused(shared_store, fed):
    store, rows, vocabulary = fed
    obs = store.obs.iloc[rows].astype(str)
    obs.iloc[3, obs.columns.get_loc("target_gene")] = "STAT9"
    with pytest.raises(UnknownLabel, match="target_gene 'STAT9' is not in the training vocabulary"):
        condition_rows(obs, np.arange(len(obs)), vocabulary)
    with pytest.raises(InputError, match="'target_gene' is no obs column"):
        condition_rows(obs[["cell_line"]], np.arange(3), vocabulary)
