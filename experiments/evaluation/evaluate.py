"""One evaluation: generated cells and held-out bounds against the held-out cells of one part of a split."""

import dataclasses
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.progress import Progress, silent
from experiments.evaluation.calibration import calibration_table
from experiments.evaluation.cells import Cells
from experiments.evaluation.challenge import Challenge, challenge_tables
from experiments.evaluation.collapse import collapse_table
from experiments.evaluation.composition import compare_composition
from experiments.evaluation.definitions import DEFINITIONS, notes_on
from experiments.evaluation.effects import Generated, evaluate_effects
from experiments.evaluation.held_out import FEWEST, Fewest, HeldOut, read_held_out
from experiments.evaluation.injected import Injected, injected_genes
from experiments.evaluation.labels import labels_of
from experiments.evaluation.likelihood import baseline_nats
from experiments.evaluation.pairing import paired_difference
from experiments.evaluation.planted import planted_recovery
from experiments.evaluation.populations import MODEL, MOST_CELLS, REAL, baseline_samples, cell_table, distribution_table
from experiments.evaluation.results import BoundRow, Estimate, Evaluation, InjectedTable
from experiments.evaluation.sides import Sides, stored_in_order
from experiments.evaluation.training_effects import TrainingEffects
from experiments.evaluation.umap import with_umap
from experiments.evaluation.volcano import volcano_arrays

_VERSIONED = (
    "lingshu-jax", "jax", "numpy", "scipy", "anndata", "scikit-learn", "scanpy", "umap-learn", "cell-eval2",
    "pdex",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Bounds:
    """Upper bounds on -log p of held-out cells."""

    rows: np.ndarray
    """(n,) stored rows."""
    nats: np.ndarray
    """(n,)."""
    standard_errors: np.ndarray
    """(n,)."""
    given_library_size: bool = False
    """Of -log p given the library size: no baseline is, so that nothing is compared with them."""

    @property
    def name(self) -> str:
        return f"{MODEL}, given library size" if self.given_library_size else MODEL


def evaluate(
    *,
    store: Any,
    split: Any,
    statistics: Any,
    generated: Any,
    bounds: Bounds | None = None,
    part: str = "test",
    seed: int = 0,
    embedding: bool = True,
    challenge: Challenge | None = None,
    fewest: Fewest = FEWEST,
    progress: Progress = silent,
) -> Evaluation:
    """Compare generated cells, and held-out bounds, with the held-out cells of a split.

    Args:
        store: the cell store.
        split: a split of it.
        statistics: of that split's training cells.
        generated: AnnData of integer counts; var = the panel in order, obs = the condition fields as text.
        bounds: of held-out cells.
        part: the part of the split whose cells count as held out.
        seed: of everything random here.
        embedding: whether to lay out the UMAP picture (the slowest part on small data).
        challenge: how perturbations are scored by the field's evaluator; None leaves it out.
        fewest: real held-out cells that a condition and its context's controls need to be scored.
        progress: called as progress(stage, done, total).

    Returns:
        The evaluation, arrays of its pictures included.

    Raises:
        InputError: genes or conditions do not fit the store, `part` has no cells, or the `eval` extra is missing.
    """
    sides = Sides.read(store, split, statistics, generated, part=part, seed=seed)
    result = Evaluation(
        store_hash=store.hash,
        split_name=split.name,
        split_kind=_kind_name(split),
        split_hash=split.hash,
        part=part,
        seed=seed,
        n_genes=store.n_genes,
        n_real=len(np.asarray(getattr(split, part))),
        n_generated=generated.n_obs,
        provenance=provenance_of(generated),
        versions=versions(),
    )
    result = _with_bounds(result, sides, bounds, progress)
    result = _with_populations(result, sides, progress)
    if embedding and len(sides.model) >= 10:
        result = with_umap(result, sides, progress)
    result = _with_effects(result, sides, challenge, fewest, progress)
    notes, definitions = notes_on(result, store), DEFINITIONS
    return dataclasses.replace(result, notes=notes, definitions=dict(definitions))


def _with_bounds(result: Evaluation, sides: Sides, bounds: Bounds | None, progress: Progress) -> Evaluation:
    store = sides.store
    held_out = np.asarray(getattr(sides.split, sides.part))
    rows = held_out[:MOST_CELLS] if bounds is None else np.asarray(bounds.rows)
    labels = labels_of(store.obs.iloc[rows], store.columns)
    assert labels is not None
    nats = baseline_nats(
        sides.training, stored_in_order(store, rows, sides.statistics), labels, seed=sides.seed, progress=progress
    )
    table = [BoundRow(name=name, nats=_mean(values), nats_per_gene=values.mean() / store.n_genes, difference=None)
             for name, values in nats.items()]  # fmt: skip
    arrays = {"bound_rows": rows} | {f"nats {name}": values for name, values in nats.items()}
    if bounds is not None:
        mine, errors = np.asarray(bounds.nats, np.float64), np.asarray(bounds.standard_errors, np.float64)
        model = BoundRow(name=bounds.name, nats=_mean(mine), nats_per_gene=mine.mean() / store.n_genes)
        if not bounds.given_library_size:
            table = [
                dataclasses.replace(row, difference=paired_difference(mine, nats[row.name], errors)) for row in table
            ]
        table.insert(0, model)
        arrays |= {f"nats {bounds.name}": mine, f"standard_errors {bounds.name}": errors}
    return dataclasses.replace(result, bound=tuple(table), arrays=result.arrays | arrays)


def _with_populations(result: Evaluation, sides: Sides, progress: Progress) -> Evaluation:
    rng = np.random.default_rng(sides.seed + 1)
    samples = baseline_samples(sides.training, sides.real_labels, rng)
    others = {MODEL: sides.model} | samples
    carried = None if sides.model_labels is None else sides.model_labels.context
    labelled: dict[str, tuple[Cells, np.ndarray | None]] = {name: (cells, None) for name, cells in samples.items()}
    composition = compare_composition(
        sides.training,
        {REAL: (sides.real, sides.real_labels.context), MODEL: (sides.model, carried)} | labelled,
        column=" x ".join(sides.store.columns.context),
        seed=sides.seed,
    )
    arrays: dict[str, np.ndarray] = {}
    methods = {REAL: sides.real} | others
    for i, cells in enumerate(methods.values()):
        arrays |= {f"library_{i}": cells.libraries, f"zero_fraction_{i}": cells.zero_fractions}
    target = float(sides.statistics.median_library)
    for name, cells in methods.items():
        if name in (REAL, MODEL):
            arrays[f"gene_mean_{name}"] = _mean_counts(cells, target)
    return dataclasses.replace(
        result,
        distribution=distribution_table(sides.real, others, rng=rng, seed=sides.seed, progress=progress),
        cells=cell_table(sides.real, others, rng),
        composition=composition,
        calibration=calibration_table(sides.real, sides.real_labels, sides.model, sides.model_labels, rng),
        pictures=dataclasses.replace(result.pictures, cell_methods=tuple(methods)),
        arrays=result.arrays | arrays,
    )


def _with_effects(
    result: Evaluation, sides: Sides, challenge: Challenge | None, fewest: Fewest, progress: Progress
) -> Evaluation:
    if sides.store.columns.perturbation is None or sides.generated_labels is None:
        return result
    store, split, statistics, part, seed = sides.store, sides.split, sides.statistics, sides.part, sides.seed
    training = TrainingEffects.read(store, split, statistics, seed=seed, progress=progress)
    generated = Generated.of(sides.generated, sides.generated_labels, training.target_sum)
    held_out = read_held_out(store, split, statistics, training, part, np.random.default_rng(seed), fewest)
    table, arrays, pictured = evaluate_effects(held_out, training, generated, seed=seed, progress=progress)
    arrays |= volcano_arrays(held_out, generated, pictured)
    names = tuple(" · ".join(condition) for condition in pictured)
    tables = ()
    if challenge is not None:
        challenge = dataclasses.replace(challenge, cache=_cache_folder(challenge.cache, result))
        tables = challenge_tables(held_out, training, generated, challenge, seed=seed, progress=progress)
    planted = ()
    if store.planted_truth is not None:
        planted = planted_recovery(store, split, statistics, training, generated, part=part, seed=seed)
    return dataclasses.replace(
        result,
        effects=table,
        collapse=collapse_table(held_out, training, generated),
        challenge=tables,
        planted=planted,
        injected=_injected(result, sides, held_out, training, generated, progress),
        pictures=dataclasses.replace(result.pictures, delta_conditions=names),
        arrays=result.arrays | arrays,
    )


def _cache_folder(cache: Path | None, result: Evaluation) -> Path | None:
    """Names what the tables of the real side follow from."""
    parts = [result.store_hash, result.split_hash, result.part, str(result.seed)]
    parts += [f"{name}={result.versions.get(name)}" for name in ("cell-eval2", "pdex")]
    name = hashlib.blake2b("|".join(parts).encode(), digest_size=8).hexdigest()
    return None if cache is None else cache / name


def _injected(
    result: Evaluation,
    sides: Sides,
    held_out: HeldOut,
    training: TrainingEffects,
    generated: Generated,
    progress: Progress,
) -> InjectedTable | None:
    """What became of injected genes, and every score of effects without them."""
    store, split, statistics = sides.store, sides.split, sides.statistics
    found = Injected.of(result.provenance, store.columns, store.panel.genes)
    if found is None:
        return None
    data = (store, split, statistics, training, generated)
    how = {"seed": sides.seed, "hidden": found.hidden}
    table, _, _ = evaluate_effects(held_out, training, generated, **how, progress=progress)
    return InjectedTable(
        genes=injected_genes(*data, part=sides.part, found=found),
        effects=table.rows,
        planted=() if store.planted_truth is None else planted_recovery(*data, part=sides.part, **how),
    )


def _mean(nats: np.ndarray) -> Estimate:
    reach = 1.96 * nats.std(ddof=1) / np.sqrt(len(nats)) if len(nats) > 1 else 0.0
    return Estimate(
        value=float(nats.mean()), low=float(nats.mean() - reach), high=float(nats.mean() + reach), n=len(nats)
    )


def _mean_counts(cells: Cells, target: float) -> np.ndarray:
    """(G,) mean counts of cells scaled to `target` counts each."""
    scaled = cells.log_expression(target)
    scaled.data = np.expm1(scaled.data)
    return (np.asarray(scaled.sum(0)).ravel() / np.maximum(cells.times_measured, 1)).astype(np.float32)


def _kind_name(split: Any) -> str:
    return split.kind if isinstance(split.kind, str) else type(split.kind).__name__


def provenance_of(generated: Any) -> dict[str, Any]:
    """What drew the cells, as the sampler wrote it; {} for cells of something else.

    Raises:
        InputError: it is damaged.
    """
    value = generated.uns.get("lingshu", {})
    try:
        return dict(json.loads(value) if isinstance(value, str) else value)
    except (TypeError, ValueError) as error:
        raise InputError(f"uns['lingshu'] of the generated cells is damaged ({error}). Sample them again.") from error


def versions() -> dict[str, str]:
    """Of the packages that an evaluation's numbers come from."""
    found = {}
    for package in _VERSIONED:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
