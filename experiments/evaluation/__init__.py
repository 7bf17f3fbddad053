"""How good generated cells are: metrics beside baselines and replicate ceilings, and a report to look at.

The entry is `experiments.evaluation.evaluate.evaluate`; what stands here are the names around it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.evaluation.pairing import paired_difference
    from experiments.evaluation.report import write_report
    from experiments.evaluation.results import Evaluation

_HOME = {
    "Evaluation": "results",
    "paired_difference": "pairing",
    "write_report": "report",
}
__all__ = [
    "Evaluation",
    "paired_difference",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # Lazy (PEP 562): scipy, scikit-learn and scanpy take seconds to import, and `lingshu --help` needs none of them.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
