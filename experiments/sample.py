"""The sampling job: a table of conditions in, an AnnData of integer counts with its provenance out."""

import hashlib
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

import lingshu_jax
from data_pipelines.errors import InputError
from data_pipelines.progress import Progress
from experiments.config_json import to_json
from lingshu_jax.diffusion import NoGuidance, NullGuidance, SamplerConfig
from lingshu_jax.tokens import decode_tokens
from lingshu_jax.vocabulary import NULL_ROW, PAD_ROW, ConditionField, ConditionVocabulary, UnknownLabel

if TYPE_CHECKING:
    import anndata

    from experiments.load import LoadedRun

Unseen = Literal["error", "null"]
N_CELLS = "n_cells"
MOST_CELLS = 100_000_000
"""Of one condition in one table: more do not fit into one AnnData."""
_DECODE_STREAM = 0x7FFF_FFFF
"""Fold of a cell's key that counts above 99 are drawn with; the sampler's own folds are its steps."""


def draw_cells(
    run: "LoadedRun",
    conditions: pd.DataFrame,
    sampler: SamplerConfig,
    seed: int,
    unseen: Unseen = "error",
    *,
    progress: Progress,
) -> "anndata.AnnData":
    """See `LoadedRun.sample`."""
    import anndata
    import jax.numpy as jnp

    from lingshu_jax.diffusion import sample

    vocabulary = run.plan.vocabulary
    table: Any = check_conditions(conditions, vocabulary)
    _check_guidance(table, sampler, run)
    rows = {field.name: _rows(table[field.name], field, unseen, run) for field in vocabulary.fields}
    repeats = table[N_CELLS].to_numpy()
    labels = table[list(vocabulary.names)]
    per_cell = {name: jnp.asarray(np.repeat(values, repeats, axis=0)) for name, values in rows.items()}
    replicate = np.concatenate([np.arange(n) for n in repeats])
    keys = cell_keys(seed, np.repeat(condition_digests(labels), repeats), replicate)
    tokens = sample(
        run.model,
        per_cell or int(repeats.sum()),
        sampler,
        keys,
        progress=lambda done, total: progress("sample", done, total),
    )
    cells = anndata.AnnData(
        X=_counts(tokens, keys),
        obs=labels.loc[labels.index.repeat(repeats)].astype("category").set_axis(_names(labels, repeats), axis=0),
        var=pd.DataFrame(index=pd.Index(run.plan.panel.genes)),
    )
    cells.uns["lingshu"] = json.dumps(provenance(run, sampler, seed, unseen))
    return cells


def check_conditions(conditions: pd.DataFrame, vocabulary: ConditionVocabulary) -> pd.DataFrame:
    """The table with the model's fields as text and n_cells as whole numbers.

    Raises:
        InputError: a column is missing or unknown, or a number of cells is not a whole number >= 1.
    """
    wanted, present = {*vocabulary.names, N_CELLS}, set(conditions.columns)
    if wanted - present:
        raise InputError(
            f"the conditions lack {', '.join(sorted(wanted - present))} (columns there: "
            f"{', '.join(map(str, conditions))}). The model takes: {', '.join([*vocabulary.names, N_CELLS])}."
        )
    if present - wanted:
        raise InputError(
            f"the model has no condition field {sorted(present - wanted)[0]!r}; "
            f"it takes: {', '.join(vocabulary.names) or 'none'}."
        )
    numbers = np.asarray(pd.to_numeric(conditions[N_CELLS], errors="coerce"), np.float64)
    bad = ~((numbers >= 1) & (numbers <= MOST_CELLS))
    bad[~bad] = numbers[~bad] % 1 != 0
    if bad.any():
        raise InputError(
            f"n_cells must be a whole number in 1..{MOST_CELLS:,}, got {str(conditions[N_CELLS][bad].iloc[0])[:40]!r}. "
            "Draw more in several calls with other seeds."
        )
    if not len(numbers):
        raise InputError("the table of conditions has no row. Give it a row per condition.")
    table = conditions[list(vocabulary.names)].astype(str)
    table = table.assign(**{N_CELLS: numbers.astype(int)}).reset_index(drop=True)
    twice = table.duplicated(list(vocabulary.names))
    if twice.any() or (len(table) > 1 and not vocabulary.names):
        raise InputError(
            f"condition {tuple(table[list(vocabulary.names)][twice].iloc[0])} is listed twice. Add up its n_cells."
        )
    return table


def _rows(labels: pd.Series, field: ConditionField, unseen: Unseen, run: "LoadedRun") -> np.ndarray:
    """Vocabulary rows (n,), or (n, M) where a label is a set of perturbations."""
    sets = []
    for label in labels:
        try:
            sets.append(field.row_set(label))
        except UnknownLabel as error:
            if unseen == "error":
                hint = " Pass --unseen null to use the null condition." if field.kind == "perturbation" else ""
                raise InputError(f"{error}{hint}") from None
            if field.kind != "perturbation" or run.plan.experiment.training.condition_dropout == 0:
                raise InputError(
                    f"{error} This model was trained without a null {field.name}, so --unseen null cannot be used."
                ) from None
            sets.append((NULL_ROW,))
    width = max(map(len, sets))
    rows = np.full((len(sets), width), PAD_ROW, np.int32)
    for i, members in enumerate(sets):
        rows[i, : len(members)] = members
    return rows[:, 0] if width == 1 else rows


def _check_guidance(table: pd.DataFrame, sampler: SamplerConfig, run: "LoadedRun") -> None:
    if isinstance(sampler.guidance, NoGuidance):
        return
    field = run.plan.vocabulary.perturbation
    if field is None:
        raise InputError("guidance needs a perturbation field, and this model has none. Leave --guidance out.")
    if isinstance(sampler.guidance, NullGuidance):
        if run.plan.experiment.training.condition_dropout == 0:
            raise InputError(
                f"this model was trained without a null {field.name} (training.condition_dropout 0), so nothing can be "
                "guided against it. Use control guidance."
            )
        return
    contexts = [field.name for field in run.plan.vocabulary.contexts]
    for labels in table[contexts].drop_duplicates().itertuples(index=False):
        if contexts and tuple(labels) not in run.plan.controls:
            raise InputError(
                f"context {', '.join(labels)} has no training controls, so nothing can be guided against them. "
                "Sample it without guidance."
            )


def condition_digests(labels: pd.DataFrame) -> np.ndarray:
    """A 64-bit number per condition from its labels alone: uint64 (n,)."""
    texts = (json.dumps(dict(zip(labels.columns, row, strict=True))) for row in labels.itertuples(index=False))
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), "<u8")


def cell_keys(seed: int, digests: np.ndarray, replicate: np.ndarray) -> Any:
    """One key per cell from (seed, condition, replicate index): never from the row of the output."""
    import jax
    import jax.numpy as jnp

    def key(low: Any, high: Any, index: Any) -> Any:
        folded = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), low), high)
        return jax.random.fold_in(folded, index)

    low, high = (digests & 0xFFFFFFFF).astype(np.uint32), (digests >> np.uint64(32)).astype(np.uint32)
    return jax.vmap(key)(jnp.asarray(low), jnp.asarray(high), jnp.asarray(replicate, jnp.uint32))


def _counts(tokens: np.ndarray, keys: Any, *, block: int = 512) -> Any:
    """Counts (n, G) as CSR int32, drawn inside each token's bin with the cell's own key."""
    import jax
    import scipy.sparse

    decode = jax.jit(jax.vmap(lambda cell, key: decode_tokens(cell, rng=jax.random.fold_in(key, _DECODE_STREAM))))
    blocks = range(0, len(tokens), block)
    return scipy.sparse.vstack(
        [scipy.sparse.csr_matrix(np.asarray(decode(tokens[b : b + block], keys[b : b + block]))) for b in blocks],
        format="csr",
    )


def provenance(run: "LoadedRun", sampler: SamplerConfig, seed: int, unseen: Unseen) -> dict[str, Any]:
    """Where generated cells come from; enough to draw them again."""
    import jax

    device = jax.devices()[0]
    return {
        "lingshu_jax": lingshu_jax.__version__,
        "jax": jax.__version__,
        "run": run.folder.id,
        "experiment": run.plan.experiment.name,
        "step": run.step,
        "store_hash": run.plan.store_hash,
        "split_hash": run.plan.split_hash,
        "sampler": to_json(sampler),
        "seed": seed,
        "unseen": unseen,
        "dtype": run.plan.experiment.model.dtype,
        "platform": device.platform,
        "device": device.device_kind,
    }


def write_cells(cells: "anndata.AnnData", out: pathlib.Path) -> None:
    """Write an h5ad in one step: whole, or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}.h5ad")
    try:
        cells.write_h5ad(partial, compression="gzip")
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _names(labels: pd.DataFrame, repeats: np.ndarray) -> list[str]:
    stems = ["_".join(row) or "cell" for row in labels.itertuples(index=False, name=None)] or ["cell"]
    return [f"{stem}_{i}" for stem, n in zip(stems, repeats, strict=True) for i in range(n)]
