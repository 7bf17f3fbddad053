"""A perturb-seq screen with planted truth: the demo's data, and the one place where a hard pass mark is possible.

Genes belong to co-expressed programs whose activity varies from cell to cell, so that programs show in control cells.
Knocking down a target shifts the programs it belongs to, in proportion to its loading: what a target does can be
learnt from what it is co-expressed with. Every effect has a part shared by all contexts, scaled per context, and a
smaller part of its own in each context.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import anndata

CONTROL = "non-targeting"

# C contexts, P perturbations, G genes, K programs, n cells of one condition


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScreenConfig:
    """The size and the biology of a simulated screen."""

    genes: int = 1000
    """Genes of the panel, targets included."""
    contexts: int = 3
    """Cell lines, each with its own baseline."""
    perturbations: int = 30
    """Targets, each a gene of the panel."""
    cells: int = 60
    """Cells per context and perturbation."""
    controls: int = 300
    """Control cells per context."""
    median_library: float = 4000.0
    """Median UMI counts of a cell."""
    library_sd: float = 0.35
    """Standard deviation of the log library size between cells."""
    programs: int = 12
    """Co-expressed gene programs."""
    program_share: float = 0.1
    """Share of the genes that one program moves, 0..1."""
    program_sd: float = 0.25
    """Standard deviation of a program's activity between cells of one condition."""
    effect: float = 1.5
    """Typical strength of a perturbation; 0 leaves only the knocked-down target."""
    context_specific: float = 0.3
    """Size of the part of an effect that is private to a context, relative to the shared part."""
    common_response: float = 0.15
    """Size of the response that all perturbations have in common, relative to `effect`."""
    residual: float = 0.2
    """Share of the target's expression that is left after the knock-down, 0..1."""
    dispersion: float = 0.1
    """Negative-binomial overdispersion of an average gene: var = mean + dispersion * mean^2."""
    gem_groups: int = 2
    """Sequencing lanes per context; they differ a little in depth."""

    def __post_init__(self) -> None:
        counted = ("genes", "contexts", "perturbations", "cells", "controls", "programs", "gem_groups")
        for name in counted:
            if getattr(self, name) < 1:
                raise ValueError(f"ScreenConfig.{name} must be at least 1, got {getattr(self, name)}.")
        if self.perturbations * 2 > self.genes:
            raise ValueError(f"{self.perturbations} targets need a panel of at least {2 * self.perturbations} genes.")


@dataclasses.dataclass(frozen=True)
class _Truth:
    """The planted biology, before any cell is drawn. Natural logarithms of expression rates."""

    genes: np.ndarray  # (G,) names
    contexts: np.ndarray  # (C,) names
    targets: np.ndarray  # (P,) gene positions
    loadings: np.ndarray  # (K, G)
    baseline: np.ndarray  # (C, G)
    effects: np.ndarray  # (C, P, G)
    dispersion: np.ndarray  # (G,)


def simulate_screen(config: ScreenConfig | None = None, *, seed: int = 0, **settings: Any) -> "anndata.AnnData":
    """Simulate a screen; the same config and seed give the same cells.

    Args:
        config: the screen; None takes the defaults.
        seed: of the biology and of the cells.
        **settings: fields of `ScreenConfig` that replace those of `config`.

    Returns:
        AnnData with integer CSR counts (n, G), obs columns `cell_line`, `target_gene` (controls: 'non-targeting') and
        `gem_group`, and the truth in uns['planted_truth']: `contexts` (C,), `perturbations` (P,), `log2_fold_change`
        (C, P, G) of the expected share of a cell's counts against control, `baseline_mean` (C, G) counts of a control
        cell of median depth. Cells come condition by condition.
    """
    import anndata
    import pandas
    import scipy.sparse

    config = dataclasses.replace(config or ScreenConfig(), **settings)
    rng = np.random.default_rng(seed)
    truth = _plant(config, rng)
    blocks, obs = [], []
    for c, context in enumerate(truth.contexts):
        for p in range(-1, config.perturbations):
            effect = truth.effects[c, p] if p >= 0 else np.zeros(config.genes)
            lanes = rng.integers(config.gem_groups, size=config.cells if p >= 0 else config.controls)
            blocks.append(scipy.sparse.csr_matrix(_draw(truth, config, truth.baseline[c] + effect, lanes, rng)))
            label = truth.genes[truth.targets[p]] if p >= 0 else CONTROL
            obs += [(context, label, f"{context}_gem{lane + 1}") for lane in lanes]
    frame = pandas.DataFrame(obs, columns=pandas.Index(["cell_line", "target_gene", "gem_group"]), dtype="category")
    frame.index = pandas.Index([f"cell{i:06d}" for i in range(len(obs))])
    var = pandas.DataFrame(index=pandas.Index(truth.genes.tolist()))
    counts = scipy.sparse.vstack(blocks, format="csr", dtype=np.int32)
    return anndata.AnnData(counts, obs=frame, var=var, uns={"planted_truth": _record(truth, config)})


def _plant(config: ScreenConfig, rng: np.random.Generator) -> _Truth:
    K, G, C, P = config.programs, config.genes, config.contexts, config.perturbations
    common = rng.normal(0.0, 1.3, G)
    targets = np.sort(rng.choice(G, P, replace=False))
    common[targets] = np.abs(common[targets]) + 0.5  # a knock-down is only seen where there is something to lose
    # Members move together, most of them up: a program shows as positive co-expression with a few opposed genes.
    member = rng.random((K, G)) < config.program_share
    loadings = member * rng.choice([1.0, -1.0], (K, G), p=[0.75, 0.25]) * rng.gamma(4.0, 0.25, (K, G))
    loadings[:, targets] = 0.0
    for target in targets:
        chosen = rng.choice(K, min(2, K), replace=False)
        loadings[chosen, target] = rng.uniform(0.6, 1.6, len(chosen))
    contexts = np.array([f"line_{_letters(c)}" for c in range(C)])
    baseline = common + rng.normal(0.0, 0.8, (C, K)) @ loadings + rng.normal(0.0, 0.4, (C, G))
    baseline[:, targets] = np.maximum(baseline[:, targets], common[targets] - 0.3)
    # Else a few genes would take most of a cell: no real one holds more than some percent of the counts.
    baseline = np.minimum(baseline, np.quantile(baseline, 0.985, axis=1, keepdims=True))
    return _Truth(
        genes=_symbols(G, rng),
        contexts=contexts,
        targets=targets,
        loadings=loadings,
        baseline=baseline,
        effects=_effects(config, loadings, targets, rng),
        dispersion=config.dispersion * np.exp(rng.normal(0.0, 0.4, G)),
    )


def _effects(config: ScreenConfig, loadings: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Log fold changes (C, P, G) of the expression rates."""
    (K, G), C, P = loadings.shape, config.contexts, config.perturbations
    strength = config.effect * np.exp(rng.normal(-0.1, 0.35, (P, 1)))
    shift = -0.45 * loadings[:, targets].T * strength  # (P, K): losing the target turns its programs down
    common = config.common_response * config.effect * rng.normal(0.0, 0.25, K) @ loadings
    direct = (rng.random((P, G)) < 0.02) * rng.normal(0.0, 0.7, (P, G)) * strength
    shared = shift @ loadings + common + direct
    scale = rng.uniform(0.7, 1.2, (C, P, 1))
    # The private part re-weights the same programs, and moves others, as far as `context_specific` says.
    spread = config.context_specific * np.linalg.norm(shift, axis=1, keepdims=True) / np.sqrt(K)
    private = (rng.normal(size=(C, P, K)) * spread) @ loadings
    effects = np.clip(scale * shared + private, -2.0, 2.0)
    effects[:, np.arange(P), targets] = np.log(config.residual)
    return effects


def _draw(
    truth: _Truth, config: ScreenConfig, log_rate: np.ndarray, lanes: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Counts (n, G) of the cells of one condition, whose expected shares are softmax-like in `log_rate`."""
    activity = rng.normal(0.0, config.program_sd, (len(lanes), len(truth.loadings)))
    rate = np.exp(log_rate + activity @ truth.loadings)
    depth = config.median_library * np.exp(rng.normal(0.0, config.library_sd, len(lanes)) + 0.1 * (lanes % 2) - 0.05)
    mean = depth[:, None] * rate / _expected_total(truth, config, log_rate)
    return rng.poisson(mean * rng.gamma(1 / truth.dispersion, truth.dispersion, mean.shape)).astype(np.int32)


def _expected_total(truth: _Truth, config: ScreenConfig, log_rate: np.ndarray) -> np.ndarray:
    return np.exp(log_rate + _log_mean_activity(truth, config)).sum(-1, keepdims=True)


def _log_mean_activity(truth: _Truth, config: ScreenConfig) -> np.ndarray:
    """Log of the mean factor (G,) by which varying programs raise a gene: E exp(N(0, v)) = exp(v / 2)."""
    return 0.5 * config.program_sd**2 * (truth.loadings**2).sum(0)


def _record(truth: _Truth, config: ScreenConfig) -> dict[str, np.ndarray]:
    def log_share(log_rate: np.ndarray) -> np.ndarray:
        log_mean = log_rate + _log_mean_activity(truth, config)
        return log_mean - np.log(np.exp(log_mean).sum(-1, keepdims=True))

    control = log_share(truth.baseline)
    perturbed = log_share(truth.baseline[:, None] + truth.effects)
    return {
        "contexts": truth.contexts,
        "perturbations": truth.genes[truth.targets],
        "log2_fold_change": ((perturbed - control[:, None]) / np.log(2)).astype(np.float32),
        "baseline_mean": (config.median_library * np.exp(control)).astype(np.float32),
    }


def _symbols(n: int, rng: np.random.Generator) -> np.ndarray:
    """Invented gene symbols: three letters and a number, all different."""
    letters = np.array(list("ABCDEFGHIKLMNPQRSTUVWXYZ"))
    names: dict[str, None] = {}
    while len(names) < n:
        names["".join(rng.choice(letters, 3)) + str(rng.integers(1, 100))] = None
    return np.array(list(names))


def _letters(i: int) -> str:
    return chr(ord("A") + i) if i < 26 else f"{_letters(i // 26 - 1)}{chr(ord('A') + i % 26)}"
