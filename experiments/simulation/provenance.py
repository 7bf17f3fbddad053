"""Where generated cells come from: enough to draw them again."""

from typing import TYPE_CHECKING, Any

import lingshu_jax
from experiments.config_json import to_json
from lingshu_jax.vocabulary import content_hash

if TYPE_CHECKING:
    from experiments.load import LoadedRun


def run_provenance(run: "LoadedRun", seed: int) -> dict[str, Any]:
    """What every result of a run carries in uns['lingshu']."""
    import jax

    device = jax.devices()[0]
    vocabulary = run.plan.vocabulary
    return {
        "lingshu_jax": lingshu_jax.__version__,
        "jax": jax.__version__,
        "run": run.folder.id,
        "run_uid": run.folder.config().get("uid"),
        "experiment": run.plan.experiment.name,
        "config_hash": content_hash(to_json(run.plan.experiment)),
        "step": run.step,
        "store_hash": run.plan.store_hash,
        "split_hash": run.plan.split_hash,
        "contexts": [field.name for field in vocabulary.contexts],
        "perturbation": None if vocabulary.perturbation is None else vocabulary.perturbation.name,
        "controls": [] if vocabulary.perturbation is None else list(vocabulary.perturbation.controls),
        "seed": seed,
        "dtype": run.plan.experiment.model.dtype,
        "platform": device.platform,
        "device": device.device_kind,
    }
