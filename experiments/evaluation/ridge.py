"""Linear maps to effects: from genes' components, which deep models have failed to beat on unseen perturbations, and
from contexts' controls.

P training perturbations, C training contexts, G genes, K components
"""

import dataclasses

import numpy as np

COMPONENTS = 10
PENALTY = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class RidgeMap:
    """effect = embedding @ weights @ (embedding of the targets) + mean."""

    genes: dict[str, int]
    embedding: np.ndarray
    """(G, K) principal components of the genes over the training effects."""
    weights: np.ndarray
    """(K, K)."""
    mean: np.ndarray
    """(G,) mean training effect; NaN where no training effect is known."""

    @classmethod
    def fit(cls, deltas: dict[str, np.ndarray], genes: tuple[str, ...]) -> "RidgeMap | None":
        """Fit to mean effects (G,) per perturbation; None with fewer than two perturbations that are genes.

        Y = E W P' + mean with E the genes' components of Y, P the rows of E at the perturbed genes (their sum for
        'A+B'), and W from ridge regression on both sides.
        """
        index = {gene: i for i, gene in enumerate(genes)}
        names = [name for name in sorted(deltas) if all(part in index for part in _parts(name, index))]
        if len(names) < 2:
            return None
        effects = np.stack([deltas[name] for name in names], axis=1)  # (G, P)
        holes = np.isnan(effects).any(1)
        effects = np.where(holes[:, None], 0.0, effects)
        u, s, _ = np.linalg.svd(effects - effects.mean(0), full_matrices=False)
        k = min(COMPONENTS, len(names) - 1)
        embedding = u[:, :k] * s[:k]
        mean = effects.mean(1)
        targets = np.stack([_embedded(name, index, embedding) for name in names])
        ridge = PENALTY * np.eye(k)
        left = np.linalg.solve(embedding.T @ embedding + ridge, embedding.T @ (effects - mean[:, None]) @ targets)
        weights = np.linalg.solve(targets.T @ targets + ridge, left.T).T
        return cls(genes=index, embedding=embedding, weights=weights, mean=np.where(holes, np.nan, mean))

    def effect(self, perturbation: str) -> np.ndarray | None:
        """(G,) predicted effect; None for a perturbation that is no gene of the panel."""
        if not all(part in self.genes for part in _parts(perturbation, self.genes)):
            return None
        return self.embedding @ self.weights @ _embedded(perturbation, self.genes, self.embedding) + self.mean


def ridge_over_contexts(controls: np.ndarray, deltas: np.ndarray, control: np.ndarray) -> np.ndarray:
    """(G,) effect in a new context: a ridge regression of effects on the contexts' controls.

    The penalty is PENALTY times the mean squared length of a centred control, so that it has no unit. Genes with a hole
    in any control tell nothing; an effect with a hole is a hole.

    Args:
        controls: (C, G) pseudobulks of the training contexts' controls.
        deltas: (C, G) the perturbation's effects in them.
        control: (G,) the new context's.
    """
    known = np.isfinite(controls).all(0) & np.isfinite(control)
    centred = controls[:, known] - controls[:, known].mean(0)
    gram = centred @ centred.T
    near = centred @ (control[known] - controls[:, known].mean(0))
    ridge = max(PENALTY * np.trace(gram) / len(gram), 1e-12) * np.eye(len(gram))
    mean = deltas.mean(0)
    return mean + np.linalg.solve(gram + ridge, near) @ (deltas - mean)


def _parts(name: str, index: dict[str, int]) -> list[str]:
    return [name] if name in index else name.split("+")


def _embedded(name: str, index: dict[str, int], embedding: np.ndarray) -> np.ndarray:
    return embedding[[index[part] for part in _parts(name, index)]].sum(0)
