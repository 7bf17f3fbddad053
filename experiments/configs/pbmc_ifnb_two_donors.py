"""PBMC of two donors, five types, with and without interferon-beta (1,556 cells, 1,267 genes, full factorial).

    lingshu train pbmc-ifnb-two-donors --store STORE       # also: ...-unlabelled, ...-held-out
    lingshu results --data DATA --only pbmc-ifnb-two-donors pbmc-ifnb-two-donors-held-out

STORE has the contexts `donor` and `cell_type` and the perturbation `condition` (control `ctrl`). Cost: about 5 minutes
on 2 CPU cores; held-out is ten runs, one per donor and type whose stimulated cells are left out, of 3 minutes each.
Expected: held-out bounds below NB with depth per label; held-out responses within noise of the same type's in the other
donor.
"""

from data_pipelines.columns import Columns
from data_pipelines.held_out import HeldOutCombinations
from experiments.configs.sizes import DataShape, sized_experiment, without_labels
from experiments.experiment import Experiment
from experiments.real_cells.bounds import Bounds
from experiments.real_cells.responses import LeftOut
from experiments.real_cells.task import DataSet, LastStep, NamedSplit, Task

DATA = DataSet(
    file="pbmc_ifnb_two_donors.h5ad",
    columns=Columns(context=("donor", "cell_type"), perturbation="condition", control=("ctrl",)),
    about="PBMC of two donors with and without interferon-beta, 1,556 cells x 1,267 genes",
    source="R package muscat",
)
DONORS = ("101", "107")
CELL_TYPES = ("B cells", "CD4 T cells", "CD8 T cells", "CD14+ Monocytes", "FCGR3A+ Monocytes")


def _without(donor: str, cell_type: str) -> NamedSplit:
    """All stimulated cells of a donor's type, and half of its controls: it has as few as 20."""
    kind = HeldOutCombinations(
        combinations=((donor, cell_type, "stim"),), val=0.0, control_test=0.5, control_val=0.0, controls_of="held out"
    )
    return NamedSplit(name=f"without-{donor}-{cell_type.replace(' ', '-').replace('+', '')}", kind=kind)


SAME_TYPE = "perturbation_transfer (same cell_type)"
TASKS = (
    Task(experiment="pbmc-ifnb-two-donors", data=DATA, reads=(Bounds(),), evaluation=("--n", "match")),
    Task(experiment="pbmc-ifnb-two-donors-unlabelled", data=DATA, reads=(Bounds(),)),
    Task(
        experiment="pbmc-ifnb-two-donors-held-out",
        data=DATA,
        splits=tuple(_without(donor, cell_type) for donor in DONORS for cell_type in CELL_TYPES),
        reads=(
            LeftOut(
                columns=(
                    ("pearson_delta", (SAME_TYPE, "mean_effect", "real vs real")),
                    ("mae", (SAME_TYPE, "mean_effect", "mean_effect (sampled)", "real vs real")),
                    ("energy_distance", ("mean_effect (sampled)", "no_change", "real vs real")),
                )
            ),
        ),
        stop=LastStep(),
        evaluation=("--min-cells", "15", "--min-controls", "10"),
    ),
)


def experiment() -> Experiment:
    """A tiny model that is told donor, type and treatment."""
    return sized_experiment("pbmc-ifnb-two-donors", "tiny", DataShape(cells=1_556, genes=1_267))


def unlabelled() -> Experiment:
    """The same, told nothing of a cell."""
    return without_labels(experiment(), "pbmc-ifnb-two-donors-unlabelled")


def held_out() -> Experiment:
    """A shorter training, for each of the ten groups left out."""
    return sized_experiment("pbmc-ifnb-two-donors-held-out", "tiny", DataShape(cells=1_556, genes=1_267), steps=600)
