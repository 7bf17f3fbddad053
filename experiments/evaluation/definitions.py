"""What the numbers of a report mean, in plain words, and what a reader must know about one evaluation."""

from typing import Any

from experiments.evaluation.cell_eval import missing_packages
from experiments.evaluation.challenge import BASELINE, PSEUDOBULK_CELLS
from experiments.evaluation.collapse import COLLAPSED
from experiments.evaluation.effects import METRICS
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
    "MMD² per perturbation": "As mmd, on the cells and components of the energy distance.",
    "averages": "Per context, then over contexts; 95 % intervals by bootstrap over perturbations.",
    "ceiling": "sqrt(2r / (1 + r)) with r the correlation between replicate halves: what a noise-free prediction could "
    "reach. A method above it is flagged: look for a leak.",
    "no_change": "Resampled training controls of the context.",
    "mean_effect": "Training control of the context plus one effect for all perturbations: the mean over training "
    "perturbations. 'sampled' adds it to as many resampled control cells as the model generated.",
    "context_mean": "Mean of the context's training perturbations.",
    "perturbation_transfer": "Training control of the context plus the same perturbation's mean effect in the others.",
    "perturbation_transfer (same COLUMN)": "The same from those of the other contexts that have the same label in one "
    "context column: with cell_type, the perturbation's effect in the same cell type of other donors.",
    "scored conditions": "A condition is scored with --min-cells real held-out cells and --min-controls held-out "
    "controls in its context; others are listed. Fewer cells, more noise: read it beside the row real vs real.",
    "additive": "Training control plus a context part plus a perturbation part, fitted to the training effects.",
    "training_mean": "The condition's own training cells, where it was seen in training.",
    "ridge_pca": "Training control plus a linear map from the target genes' places on 10 principal components of the "
    "training effects (ridge penalty .1): applies to perturbations that are genes, seen or not.",
    "ridge_contexts": "Training control plus a ridge regression, over the other contexts, of the same perturbation's "
    "effect on the control's expression (penalty .1 of the controls' mean squared spread): applies to perturbations "
    "seen in two or more other contexts.",
    "NAME (sampled)": "A baseline as cells: resampled training controls of the context, each gene thinned binomially "
    "or raised by Poisson counts to the predicted fold change; as many as the model generated.",
    "collapse": "Variance of predicted effects between a context's perturbations, summed over genes, over that of the "
    "real ones; what the number of cells alone gives is subtracted on both sides. 0: one effect for all, whatever the "
    "perturbation; 1: as different as the real ones, right or wrong; far above 1: exaggerated.",
    "calibration": "Where a held-out count falls among generated counts of its gene and condition (randomised "
    "probability integral transform), per expression level. Flat is calibrated; mass at both ends: generated counts "
    "vary too little; in the middle: too much; on one side: they are off. The error is the largest gap of the "
    "distribution function to the flat one.",
    "DES": "Among genes with FDR < .05, ordered by absolute log2 fold change: overlap of the predicted and real top k, "
    "over k, the number of real ones. Mann-Whitney against control, Benjamini-Hochberg over all perturbations.",
    "PDS": "Of cell-eval (v1): rank of the true perturbation by L1 distance of effects, its own gene left out, "
    f"1 - rank/n counted from 0; chance (n + 1)/(2n). Given with {PDS_CANDIDATES} scored perturbations in a context.",
    "MAE": "As mae above.",
    "Spearman #DEG": "Over a context's perturbations, of the numbers of predicted and real DE genes.",
    "Spearman LFC": "Per perturbation, of log2 fold changes on the really significant genes.",
    "AUPRC": "Average precision of -log10 predicted FDR for the set of real DE genes.",
    "Pearson-delta": "As pearson_delta above.",
    "average (v1)": f"Mean over the columns named under the table of (u - b)/(1 - b), for MAE 1 - u/b, clipped at 0, "
    f"undefined is 0; b is {BASELINE}. The number depends on which columns are averaged.",
    "vcc2026": "The six metrics of the Virtual Cell Challenge 2026 by cell-eval2's preset, on raw counts (scaled by it "
    "alone), with one change: each side is taken against its own half of the controls, where the challenge uses the "
    "same ones for both. Columns: pds_cosine, expr_mse_unbiased_capped_norm, lfc_nmae, direction fidelity yield, "
    "direction reach, sig_jaccard. The average is by the challenge's own rules, which go below 0.",
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
            f"{skipped} of {len(table.conditions)} conditions are listed, not scored: a condition needs "
            f"{table.fewest_cells} real held-out cells, generated cells, and {table.fewest_controls} held-out controls "
            "in its context (--min-cells, --min-controls)."
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
    for row in result.collapse:
        if row.name == "model" and row.share < COLLAPSED:
            notes.append(
                f"Predictions hardly depend on the perturbation: they vary between perturbations {row.share:.2f} times "
                "as much as the real ones."
            )
    return notes + _challenge_notes(result)


def _challenge_notes(result: Evaluation) -> list[str]:
    if not result.challenge:
        missing = missing_packages()
        return [
            f"The paper's seven columns and those of VCC 2026 are missing: {' and '.join(missing)} not installed. "
            "Run: pip install 'lingshu-jax[eval]'."
        ] if missing else []  # fmt: skip
    notes = []
    first = result.challenge[0]
    rows = {row.name: row for row in first.rows}
    model = rows["model"]
    if model.cells is not None and model.cells < PSEUDOBULK_CELLS:
        notes.append(
            f"{model.cells} generated cells a condition: below {PSEUDOBULK_CELLS} a sampled prediction's MAE and PDS "
            "carry its own sampling noise. Sample more cells per condition before comparing them with constant rows."
        )
    constant = {name: row.metrics["MAE"].value for name, row in rows.items() if row.cells is None}
    known = {name: value for name, value in constant.items() if value is not None}
    reached = model.metrics["MAE"].value
    if known and reached is not None and min(known.values()) < reached:
        best = min(known, key=lambda name: known[name])
        notes.append(
            f"The constant {best} has a lower MAE ({known[best]:.4f}) than the model ({reached:.4f}): a mean has no "
            "sampling noise, and MAE counts noise as error. Compare the model with the rows marked (sampled)."
        )
    return notes
