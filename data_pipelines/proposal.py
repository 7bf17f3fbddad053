"""Guesses what the columns of obs mean, from their names and, because names are arbitrary, from their contents."""

import dataclasses
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from data_pipelines.columns import UNKNOWN, Columns, label_text, numbers_of
from data_pipelines.errors import InputError

if TYPE_CHECKING:
    import pandas

_CONTROL_EXACT = frozenset(
    {
        "nontargeting",
        "nt",
        "ntc",
        "nts",
        "nontarget",
        "ctrl",
        "control",
        "controls",
        "ctl",
        "con",
        "negctrl",
        "negcontrol",
        "negativecontrol",
        "neg",
        "pbs",
        "dmso",
        "vehicle",
        "veh",
        "mock",
        "wt",
        "wildtype",
        "untreated",
        "unperturbed",
        "unstim",
        "unstimulated",
        "nostim",
        "notreatment",
        "scramble",
        "scrambled",
        "scrambledcontrol",
        "safetargeting",
        "safe",
        "intergenic",
        "medium",
        "media",
        "resting",
        "sham",
    }
)
_CONTROL_PREFIX = re.compile(
    r"(non[-_ ]?target|unstim|untreat|unperturb|neg(ative)?[-_ ]?(ctrl|control)|ctrl|control|nt[-_ ]?\d)", re.I
)
_BATCH_NAME = re.compile(
    r"batch|^rep|replicate|gem_?(group|well)|lane|plate|library|^lib_?id|\bwell|(^|_)run(_|$)|channel", re.I
)
_BATCH_LABEL = re.compile(
    r"(batch|rep|replicate|lane|gem|gem_?group|plate|library|lib|well|run|channel|pool)[-_ ]?\d+", re.I
)
_MEASURED_NAME = re.compile(
    r"^n_?(genes|counts|umis?|features?)|ncount|nfeature|total_|percent|pct|score|phase|doublet|singlet|barcode|"
    r"outlier|filter|qc|colou?r|size_?factor|^n_?cells",
    re.I,
)
_DERIVED_NAME = re.compile(r"leiden|louvain|cluster|snn_res", re.I)
_BIOLOGY_NAME = re.compile(
    r"cell_?(type|line|state)|celltype|line$|donor|patient|individual|subject|tissue|organ|disease|species|organism|"
    r"time|stage|age|sex|strain|genotype|region|dose|context",
    re.I,
)
_PERTURBATION_NAME = re.compile(
    r"target|perturb|treat|condition|stim|cytokine|drug|compound|knock|crispr|guide|gene|ko$|agent|ligand", re.I
)
_NUMBER_NAME = re.compile(r"dose|concentration|(^|_)conc(_|$)|(^|_)(time|hours?|days?|minutes?)(_|$|point)", re.I)
_MOST_LABELS = 100
_MOST_CONTEXTS = 4


@dataclasses.dataclass(frozen=True)
class _Column:
    """One obs column as labels."""

    name: str
    codes: np.ndarray  # (n,) label number of each cell
    labels: tuple[str, ...]

    @property
    def known(self) -> tuple[str, ...]:
        return tuple(label for label in self.labels if label != UNKNOWN)

    def determines(self, other: "_Column") -> bool:
        """Whether cells with the same label here always have the same label there."""
        pairs = np.unique(self.codes.astype(np.int64) * len(other.labels) + other.codes)
        return len(pairs) == len(np.unique(self.codes))


def propose_columns(obs: "pandas.DataFrame", gene_ids: Collection[str] = ()) -> Columns:
    """Propose the roles of the obs columns.

    The perturbation is the column with a known control label (non-targeting, ctrl, PBS, DMSO, ...); batches are known
    by name or by labels like rep_1; other columns of 2 to 100 labels are contexts, unless they repeat what another
    column says. Numbers are columns called dose, concentration or time of more values than labels have.

    Args:
        obs: the cells.
        gene_ids: genes of the panel; a column whose labels are genes looks like targets.
    """
    columns = _label_columns(obs)
    perturbation = max(columns, key=lambda column: _perturbation_score(column, gene_ids), default=None)
    if perturbation is not None and _perturbation_score(perturbation, gene_ids) <= 0:
        perturbation = None
    others = [column for column in columns if column is not perturbation]
    batches = [column for column in others if _is_batch(column)]
    candidates = [column for column in others if column not in batches and _may_be_context(column, len(obs))]
    if perturbation is not None:
        # A guide says its target, a target says its class: neither is a context.
        candidates = [c for c in candidates if not c.determines(perturbation) and not perturbation.determines(c)]
    return Columns(
        context=tuple(column.name for column in _distinct(candidates)),
        perturbation=perturbation.name if perturbation is not None else None,
        control=control_labels(perturbation.known) if perturbation is not None else (),
        batch=batches[0].name if batches else None,
        numbers=_numbers(obs, {column.name for column in columns}),
    )


def control_labels(labels: Collection[str]) -> tuple[str, ...]:
    """Which labels name controls: those that are known words, else those that begin like one."""
    exact = [label for label in labels if re.sub(r"[^a-z]", "", label.lower()) in _CONTROL_EXACT]
    return tuple(exact or [label for label in labels if _CONTROL_PREFIX.match(label)])


def _label_columns(obs: "pandas.DataFrame") -> list[_Column]:
    """The columns that are labels: text, categories, and whole numbers of few values; not constant, not an id."""
    import pandas

    columns = []
    for name in obs.columns:
        values: Any = obs[name]
        if (
            _MEASURED_NAME.search(str(name))
            or pandas.api.types.is_bool_dtype(values.dtype)
            or re.search(r"^_|[/,]", str(name))
        ):
            continue
        if pandas.api.types.is_numeric_dtype(values.dtype) and (
            values.nunique() > 20 or not (values.dropna() % 1 == 0).all()
        ):
            continue
        labels, codes = np.unique(label_text(values).astype(str), return_inverse=True)
        column = _Column(str(name), codes, tuple(str(label) for label in labels))
        if len(column.known) >= 1 and 2 <= len(labels) <= len(obs) / 2:
            columns.append(column)
    return columns


def _numbers(obs: "pandas.DataFrame", labels: Collection[str]) -> tuple[str, ...]:
    """Columns of finite, different numbers that no column of labels is, known by name."""
    found = []
    for name in map(str, obs.columns):
        if name in labels or not _NUMBER_NAME.search(name) or _MEASURED_NAME.search(name):
            continue
        try:
            numbers = numbers_of(obs[name], name, "obs")
        except InputError:
            continue
        if len(np.unique(numbers)) > 1:
            found.append(name)
    return tuple(found)


def _perturbation_score(column: _Column, gene_ids: Collection[str]) -> float:
    """Above 0 when the column has a control label and something else beside it."""
    controls = control_labels(column.known)
    perturbed = [label for label in column.known if label not in controls]
    if not controls or not perturbed:
        return 0.0
    exact = any(re.sub(r"[^a-z]", "", label.lower()) in _CONTROL_EXACT for label in controls)
    genes = set(gene_ids)
    targets = sum(label in genes for label in perturbed) / len(perturbed)
    return 1.0 + 2.0 * exact + 2.0 * targets + 1.5 * bool(_PERTURBATION_NAME.search(column.name))


def _is_batch(column: _Column) -> bool:
    named = _BATCH_NAME.search(column.name) is not None
    return named or all(_BATCH_LABEL.fullmatch(label) for label in column.known)


def _may_be_context(column: _Column, n_cells: int) -> bool:
    return len(column.known) <= _MOST_LABELS and len(column.labels) >= 2 and len(column.labels) * 5 <= n_cells


def _distinct(candidates: list[_Column]) -> list[_Column]:
    """Drop columns that another one determines, computed clusters beside annotations, and what is beyond the limit."""
    if any(not _DERIVED_NAME.search(column.name) for column in candidates):
        candidates = [column for column in candidates if not _DERIVED_NAME.search(column.name)]
    kept: list[_Column] = []
    # Finer columns first, so that a coarser one is seen as their repetition; known names win among equals.
    ranked = sorted(candidates, key=lambda c: (-len(c.labels), not _BIOLOGY_NAME.search(c.name)))
    for column in ranked:
        if not any(other.determines(column) for other in kept):
            kept.append(column)
    named_first = sorted(kept, key=lambda c: (not _BIOLOGY_NAME.search(c.name), candidates.index(c)))
    chosen = named_first[:_MOST_CONTEXTS]
    return [column for column in candidates if column in chosen]
