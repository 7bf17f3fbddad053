"""What the numbers of a report mean, in plain words, and what a reader must know about one evaluation."""

from typing import Any

from experiments.evaluation.effects import METRICS
from experiments.evaluation.held_out import CONTROL_CELLS, REAL_CELLS
from experiments.evaluation.likelihood import CLUSTERS, LABEL_CELLS, TRAINING_CELLS, label_description
from experiments.evaluation.planted import EXPECTED_COUNT, STRONG
from experiments.evaluation.results import Evaluation
from experiments.evaluation.scores import DRAWS, PDS_CANDIDATES

DEFINITIONS = {
    "nats per cell": "Upper bound on -log p of a held-out cell's count tokens (281 of them: exact below 100, two "
    "digits above), averaged over cells; lower is better. Genes that a cell's source did not measure count nothing.",
    "paired difference": "Model minus baseline on the same cells, with a 95 % interval over cells; below 0 the model "
    "is better. The model's number is a bound, the baselines' are exact, so the comparison is hard on the model.",
    "independent genes": "Every gene's own token histogram: knows nothing of depth or of other genes.",
    "nb_depth": "A negative binomial per gene, scaled by a depth that is averaged over 24 quantiles of the training "
    "cells' size factors.",
    "per label": f"The same fitted to the training cells of a cell's label (at least {LABEL_CELLS}).",
    "clusters": f"A mixture of {CLUSTERS} such fits on k-means clusters of the training cells (30 components of "
    f"log1p(1e3 x / L)); grouped fits see at most {TRAINING_CELLS:,} training cells.",
    "real vs real": "Two disjoint halves of the real held-out cells compared with each other: what sampling noise "
    "alone gives.",
    "pearson_means": "Pearson correlation over genes of mean log1p expression (1e4 counts per cell). Independent genes "
    "reach .98 too: it proves nothing by itself.",
    "spearman_means": "The same by ranks.",
    "mmd": "Squared maximum mean discrepancy, biased estimate, sum of 5 Gaussian kernels (factor 2 around the mean "
    "squared distance), on 50 joint principal components; lower is better.",
    "w1_sinkhorn": "1-Wasserstein distance on the same components by Sinkhorn iterations (entropy .005 of the mean "
    "cost); lower is better. It depends on n: compare only within a table.",
    "ilisi": "How well real and generated cells mix among 90 neighbours: 0 apart, 1 mixed (fewer neighbours with few "
    "cells).",
    "correlation_error": "Root mean square error of gene-gene correlations on the 100 most variable genes.",
    "library_ks": "Largest gap between the two distribution functions of counts per cell; lower is better.",
    "zero_ks": "The same for the share of genes without a count.",
    "pseudobulk": "Mean over cells of log1p counts, every cell scaled to the training cells' median library.",
    "pearson_delta": "Pearson correlation over all genes of predicted and real effect (pseudobulk minus control). "
    "Prediction and truth are taken against disjoint halves of the held-out real controls.",
    "pearson_residual": "The same after the mean training effect is subtracted from both: what is particular to the "
    "perturbation. Where the real effect is nil, predicting no change scores above 0 here.",
    "pds": "Perturbation discrimination: the true perturbation's rank among the context's candidates by L1 distance of "
    f"effects, 1 - (rank - 1)/(n - 1), ties at their mean rank, chance .5; given with {PDS_CANDIDATES} candidates or "
    "more. Genes that candidates are named after are left out. Candidates are held-out cells of scored perturbations "
    "and, for the context's other perturbations, as many of their training cells.",
    "pds_p": f"Share of {DRAWS:,} permutations of the candidates' labels that reach the observed mean PDS.",
    "mae": "Mean absolute difference of predicted and real pseudobulk (not of effects). Sampled cells pay for their "
    "own sampling noise; a constant mean does not.",
    "energy_distance": "Between generated and real cells of a condition on 20 joint principal components, equal "
    "numbers; lower is better. Only for methods that give cells.",
    "averages": "Per context, then over contexts; 95 % intervals by bootstrap over perturbations.",
    "ceiling": "sqrt(2r / (1 + r)) with r the correlation between replicate halves: what a noise-free prediction could "
    "reach. A method above it is flagged: look for a leak.",
    "no_change": "Resampled training controls of the context.",
    "mean_effect": "Training control of the context plus one effect for all perturbations: the mean over training "
    "perturbations. 'sampled' adds it to as many resampled control cells as the model generated.",
    "context_mean": "Mean of the context's training perturbations.",
    "perturbation_transfer": "Training control of the context plus the same perturbation's mean effect in the others.",
    "additive": "Training control plus a context part plus a perturbation part, fitted to the training effects.",
    "training_mean": "The condition's own training cells, where it was seen in training.",
    "injected genes": "Genes whose count was told before the others were drawn (`sample --prior`), by condition. "
    "Their means are of counts scaled to the training cells' median library, over the conditions of their injection; "
    "controls are the contexts' training controls. Whoever is told a gene has not predicted it: every score of effects "
    "is given without them too, for all methods alike.",
    "planted effects": f"Strong planted effects of a simulated screen: |log2 fold change| >= {STRONG:g} at genes with "
    f"at least {EXPECTED_COUNT:g} expected counts in a control cell; the share whose sign is predicted right.",
}


def notes_on(result: Evaluation, store: Any) -> tuple[str, ...]:
    """What holds for this evaluation in particular."""
    notes = [f"'per label' means per {label_description(store.columns)}."] if result.bound else []
    if result.bound and result.bound[0].name.endswith("given library size"):
        notes.append(
            "The held-out bound is given each cell's library size: it is compared with no baseline, nor with a bound "
            "without it."
        )
    if given := result.provenance.get("given"):
        notes.append(f"Generated cells were drawn given {', '.join(given)}.")
    if result.bound and not result.bound[0].name.startswith("model"):
        notes.append("No held-out bound was computed; the baselines are shown for orientation.")
    if result.distribution:
        notes.append(
            f"Distribution metrics: {result.distribution[0].n} cells a side, every row against the same half of the "
            "real cells, with the composition of labels matched."
        )
    if len(store.measured) > 1:
        notes.append(
            "Sources measured different genes: libraries and zero fractions are over each cell's measured genes."
        )
    return (*notes, *_effect_notes(result), *_injection_notes(result))


def _injection_notes(result: Evaluation) -> list[str]:
    if result.injected is None:
        return []
    genes = result.injected.genes
    raised = sum((gene.generated or 0.0) > gene.control for gene in genes if gene.control is not None)
    return [
        f"{len(genes):,} genes were injected before cells were drawn; the generated mean of {raised:,} of them lies "
        "above that of controls. Effects are scored with these genes, and without them."
    ]


def _effect_notes(result: Evaluation) -> list[str]:
    table = result.effects
    if table is None:
        return []
    notes = [
        "Controls are real held-out cells, halved; 'model (generated controls)' takes its effects against its own."
    ]
    skipped = sum(not row.scored for row in table.conditions)
    if skipped:
        notes.append(
            f"{skipped} of {len(table.conditions)} conditions are listed, not scored: a condition needs {REAL_CELLS} "
            f"real held-out cells, generated cells, and {CONTROL_CELLS} held-out controls in its context."
        )
    short = [context for context, n in table.candidates.items() if n < PDS_CANDIDATES]
    if short:
        notes.append(
            f"PDS is n/a in {len(short)} of {len(table.candidates)} contexts: fewer than {PDS_CANDIDATES} candidate "
            "perturbations."
        )
    notes += [
        f"{row.name} lies above the replicate ceiling: look for a leak." for row in table.rows if row.above_ceiling
    ]
    seen = sum(row.n_training > 0 for row in table.conditions if row.scored)
    scored = sum(row.scored for row in table.conditions)
    if scored:
        notes.append(
            f"{scored - seen} of {scored} scored conditions have no training cells; metrics: {', '.join(METRICS)}."
        )
    return notes
