"""The header of a model card: what a hub's index reads of a run, as YAML."""

from typing import Any

import yaml

from experiments.evaluation.plain import plain
from experiments.evaluation.results import Evaluation

_HEADLINE = ("pearson_delta", "pds", "mae")


def model_card(run: str, config: Any, evaluations: list[tuple[str, Evaluation]]) -> str:
    """YAML with name, tags, data and the model's main numbers of every evaluation.

    Args:
        run: EXPERIMENT/ID.
        config: the run's config.json; None where it is missing.
        evaluations: by name.
    """
    known = config if isinstance(config, dict) else {}
    card = {
        "library_name": "lingshu_jax",
        "tags": ["single-cell", "transcriptomics", "masked-diffusion", "perturbation-prediction", "jax"],
        "base_method": "arXiv:2603.25240",
        "datasets": [f"{known['store']} ({known['store_hash']})"] if "store_hash" in known else [],
        "model-index": [{"name": run, "results": [_result(name, found) for name, found in evaluations]}],
    }
    return yaml.safe_dump(plain(card), sort_keys=False, allow_unicode=True, width=100)


def _result(name: str, evaluation: Evaluation) -> dict[str, Any]:
    return {
        "task": {"type": "cell-generation" if evaluation.effects is None else "perturbation-prediction"},
        "dataset": {
            "name": evaluation.store_hash,
            "split": f"{evaluation.split_name} ({evaluation.split_hash})",
            "part": evaluation.part,
        },
        "source": {"name": name, "step": evaluation.step},
        "metrics": list(_metrics(evaluation)),
    }


def _metrics(evaluation: Evaluation) -> Any:
    for bound in evaluation.bound:
        if bound.name == "model":
            yield {"type": "nats_per_cell", "value": bound.nats.value}
    for row in evaluation.effects.rows if evaluation.effects else ():
        if row.name == "model":
            yield from ({"type": key, "value": row.metrics[key].value} for key in _HEADLINE if key in row.metrics)
    for metric in evaluation.distribution:
        if metric.name == "model":
            yield from ({"type": key, "value": value} for key, value in metric.values.items())
