"""Columns of numbers from obs to batches, and the library size from the counts."""

import anndata
import grain
import numpy as np
import pandas as pd
import pytest

from data_pipelines import (
    CellStore,
    Columns,
    InputError,
    RandomCells,
    condition_rows,
    ingest,
    inspect_files,
    load_statistics,
    make_loader,
    make_split,
)
from data_pipelines.proposal import propose_columns
from lingshu_jax.vocabulary import ConditionVocabulary, LibrarySizeField
from tests.data_pipelines.conftest import SCREEN

ALONE = grain.sharding.ShardOptions(shard_index=0, shard_count=1)


def with_numbers(screen, dose):
    cells = screen.copy()
    cells.obs["dose"] = dose
    return cells


def ingested(cells, folder, **columns) -> CellStore:
    cells.write_h5ad(folder / "cells.h5ad")
    roles = {"context": SCREEN.context, "perturbation": SCREEN.perturbation, "control": SCREEN.control}
    return ingest(
        folder / "cells.h5ad", folder / "store", columns=Columns(**{**roles, "numbers": ("dose",), **columns})
    )


@pytest.fixture(scope="module")
def dosed(screen, tmp_path_factory):
    dose = np.random.default_rng(0).choice([0.0, 1.0, 10.0], screen.n_obs)
    return ingested(with_numbers(screen, dose), tmp_path_factory.mktemp("dosed"))


def test_numbers_come_last_with_mean_and_scale_of_training_cells_alone(dosed):
    split = make_split(dosed, RandomCells(test=0.5), name="half")
    statistics = load_statistics(dosed, split)
    again = load_statistics(dosed, split)
    assert statistics.vocabulary == again.vocabulary
    assert statistics.vocabulary.names == ("cell_line", "target_gene", "dose")
    field, trained = statistics.vocabulary.field("dose"), dosed.obs["dose"].iloc[split.train]
    np.testing.assert_allclose([field.mean, field.scale], [trained.mean(), trained.std(ddof=0)])
    logs = np.log(np.asarray(dosed.counts(split.train).sum(1)).ravel())
    size = statistics.library_size
    np.testing.assert_allclose([size.mean, size.scale], [np.median(logs), logs.std()], rtol=1e-3)
    assert all(len(labels) == 2 for labels in statistics.conditions)  # numbers group no cells


def test_batches_hold_each_cells_numbers_and_its_library_size(dosed):
    split = make_split(dosed, RandomCells(val=0.0), name="loader")
    vocabulary = load_statistics(dosed, split).vocabulary
    vocabulary = ConditionVocabulary((*vocabulary.fields, LibrarySizeField()))
    with make_loader(dosed, split.train, vocabulary, batch_size=64, seed=0, shards=ALONE) as loader:
        batches = [next(loader) for _ in range(6)]  # the last slab wraps around to the first cells
    for batch in batches:
        told, cells = batch["conditions"], batch["cell"]
        assert told["dose"].dtype == told["log_library_size"].dtype == np.float32
        np.testing.assert_array_equal(told["dose"], dosed.obs["dose"].iloc[cells].astype(np.float32))
        totals = np.asarray(dosed.counts(cells).sum(1)).ravel()
        np.testing.assert_allclose(told["log_library_size"], np.log(totals), rtol=1e-6)
    rows = condition_rows(dosed, split.train[:5], vocabulary)
    assert np.isnan(rows["log_library_size"]).all() and np.isfinite(rows["dose"]).all()


@pytest.mark.parametrize(
    ("bad", "shown"), [("high", "'high'"), (np.inf, "'inf'"), (np.nan, "'nan'")], ids=["text", "infinite", "missing"]
)
def test_a_value_that_is_no_finite_number_is_refused(bad, shown, screen, tmp_path):
    dose = np.full(screen.n_obs, 1.0).astype(object if isinstance(bad, str) else float)
    dose[7] = bad
    if isinstance(bad, str):
        dose = dose.astype(str)
    with pytest.raises(
        InputError, match=rf"obs column 'dose' of cells.h5ad holds {shown} \(cell 7\), no finite number"
    ):
        ingested(with_numbers(screen, dose), tmp_path)
    assert not (tmp_path / "store").exists()


def test_wrong_roles_are_refused(screen, tmp_path):
    with pytest.raises(InputError, match=r"no obs column 'dose'.*--columns\.numbers"):
        ingested(screen, tmp_path)
    with pytest.raises(InputError, match="'cell_line' is named in two roles"):
        Columns(context=("cell_line",), numbers=("cell_line",))
    with pytest.raises(InputError, match="computed from the counts"):
        Columns(numbers=("log_library_size",))


def test_columns_without_numbers_are_said_as_ever():
    assert "numbers" not in SCREEN.to_json() and Columns.from_json(SCREEN.to_json()) == SCREEN
    numbered = Columns(numbers=("dose", "time"))
    assert Columns.from_json(numbered.to_json()) == numbered


def test_inspect_proposes_doses_and_times_that_are_no_labels(screen, tmp_path):
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"dose_um": rng.choice([0.1, 0.5], 90), "plate": 1.5, "mito": rng.random(90)}).assign(hours=6.0)
    assert propose_columns(obs).numbers == ("dose_um",)
    cells = with_numbers(screen, rng.random(screen.n_obs))
    cells.write_h5ad(tmp_path / "cells.h5ad")
    found = inspect_files([tmp_path / "cells.h5ad"])
    assert found.columns.numbers == ("dose",) and "--columns.numbers" in found.ingest_arguments()
    assert any(line.split() == ["numbers", "dose"] for line in found.lines())


def test_the_store_keeps_the_numbers_for_others(dosed):
    kept = anndata.read_zarr(str(dosed.path)).obs["dose"]
    assert set(kept.unique()) == {0.0, 1.0, 10.0}
