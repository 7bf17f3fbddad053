"""Small screens, files and stores that the tests of this package share."""

import anndata
import pytest

from data_pipelines import CellStore, Columns, ingest, simulate_screen

SCREEN = Columns(context=("cell_line",), perturbation="target_gene", control=("non-targeting",), batch="gem_group")


@pytest.fixture(scope="session")
def screen() -> anndata.AnnData:
    """440 cells x 80 genes: 2 contexts x (4 perturbations x 40 cells + 60 controls)."""
    return simulate_screen(genes=80, contexts=2, perturbations=4, cells=40, controls=60, median_library=300)


@pytest.fixture(scope="session")
def screen_file(screen, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "screen.h5ad"
    screen.write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def shared_store(screen_file, tmp_path_factory) -> CellStore:
    """A store that tests only read."""
    return ingest(screen_file, tmp_path_factory.mktemp("stores") / "store", columns=SCREEN)


@pytest.fixture
def store(screen_file, tmp_path) -> CellStore:
    """A store that a test may add splits and statistics to."""
    return ingest(screen_file, tmp_path / "store", columns=SCREEN)
