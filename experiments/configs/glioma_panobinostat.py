"""Glioma of four patients with and without panobinostat (4,000 cells, 300 genes): each patient's response held out.

    lingshu train glioma-panobinostat --store STORE --data.split SPLIT
    lingshu results --data DATA --only glioma-panobinostat

STORE has the context `patient_id` and the perturbation `condition` (control `ctrl`). Cost: four runs of about 4 minutes
on 2 CPU cores. Expected: within noise of `mean_effect`, the other patients' mean response, or nearer.
"""

from data_pipelines.columns import Columns
from data_pipelines.held_out_contexts import HeldOutContexts
from experiments.configs.sizes import DataShape, sized_experiment
from experiments.experiment import Experiment
from experiments.real_cells.responses import LeftOut
from experiments.real_cells.task import DataSet, LastStep, NamedSplit, Task

DATA = DataSet(
    file="glioma_panobinostat.h5ad",
    columns=Columns(context=("patient_id",), perturbation="condition", control=("ctrl",)),
    about="glioma of four patients with and without panobinostat, 4,000 cells x 300 genes",
    source="R package lemur",
)
PATIENTS = ("PW030", "PW032", "PW034", "PW036")


def _without(patient: str) -> NamedSplit:
    """All treated cells of a patient, and a fifth of its controls."""
    kind = HeldOutContexts(field="patient_id", contexts=(patient,), val=0.0, control_val=0.0, controls_of="held out")
    return NamedSplit(name=f"without-{patient}", kind=kind)


TASKS = (
    Task(
        experiment="glioma-panobinostat",
        data=DATA,
        splits=tuple(map(_without, PATIENTS)),
        reads=(
            LeftOut(
                columns=(
                    ("pearson_delta", ("mean_effect", "ridge_contexts", "real vs real")),
                    ("mae", ("mean_effect", "mean_effect (sampled)", "ridge_contexts", "real vs real")),
                    ("energy_distance", ("mean_effect (sampled)", "no_change", "real vs real")),
                )
            ),
        ),
        stop=LastStep(),
    ),
)


def experiment() -> Experiment:
    """A tiny model that is told patient and treatment."""
    return sized_experiment("glioma-panobinostat", "tiny", DataShape(cells=4_000, genes=300))
