"""Training settings, importable without jax."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with global-norm clipping, warm-up and cosine decay (paper section 5)."""

    learning_rate: float = 3e-4
    """Peak learning rate."""
    warmup_steps: int = 1000
    """Steps of linear warm-up from 0."""
    final_share: float = 0.1
    """Learning rate at the last step, as a share of the peak."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices; norms and vectors have none."""
    perturbation_decay: float | None = None
    """Decoupled weight decay of perturbations' own rows, in a model with target features: the larger, the more the
    features must tell. None: as for matrices."""
    b1: float = 0.9
    """Decay of the first moment."""
    b2: float = 0.99
    """Decay of the second moment."""
    clip_norm: float = 1.0
    """Largest global norm of the gradients."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.clip_norm <= 0:
            raise ValueError("optimizer.learning_rate and optimizer.clip_norm must be > 0.")
        if self.warmup_steps < 0:
            raise ValueError(f"optimizer.warmup_steps must be >= 0, got {self.warmup_steps}.")
        if self.weight_decay < 0:
            raise ValueError(f"optimizer.weight_decay must be >= 0, got {self.weight_decay}.")
        if self.perturbation_decay is not None and self.perturbation_decay < 0:
            raise ValueError(f"optimizer.perturbation_decay must be >= 0, got {self.perturbation_decay}.")
        if not 0.0 <= self.final_share <= 1.0:
            raise ValueError(f"optimizer.final_share must be in [0, 1], got {self.final_share}.")
        for name in ("b1", "b2"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"optimizer.{name} must be in [0, 1), got {getattr(self, name)}.")


MOST_STEPS = 2**31 - 1
"""The step is an int32."""
PARAMETER_DTYPES = ("float32", "bfloat16")
_COUNTS = (
    "steps batch_size microbatches max_skipped log_every evaluate_every evaluate_cells evaluate_draws save_every keep "
    "keep_every"
).split()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long, on what batches, and what is kept."""

    steps: int = 100_000
    """Optimizer steps of the whole run."""
    batch_size: int = 256
    """Cells per step over all devices and hosts; a multiple of 32, the loader's slab."""
    ema_decay: float = 0.999
    """Largest decay of the weights' moving average; at step n it is min(this, (1 + n) / (10 + n))."""
    microbatches: int = 1
    """Parts of the batch that are computed one after another; loss and gradients are those of the whole batch."""
    parameter_dtype: str = "float32"
    """Type that weight matrices have in the forward and backward pass: float32, or bfloat16, rounded in every step
    from the float32 master copy that the optimizer updates and checkpoints hold."""
    max_skipped: int = 10
    """Steps in a row with a non-finite loss or gradient before the run stops; each is skipped: nothing changes."""
    spike_deviations: float = 10.0
    """A loss so many robust standard deviations above the running median is reported with its batch. 0: never."""
    condition_dropout: float = 0.1
    """Share of cells whose perturbation is replaced by the null condition. 0: the model knows no null."""
    number_dropout: float = 0.2
    """Share of cells of which a number field (dose, library size) is left out, each field by itself, so that cells can
    be drawn without it; in (0, 1)."""
    token_noise: float = 0.0
    """Share of each cell's visible expressed genes that the model sees as not expressed, in [0, 1)."""
    log_every: int = 50
    """Steps between two lines of metrics."""
    evaluate_every: int = 1000
    """Steps between two held-out bounds of the EMA weights; one more comes at the end."""
    evaluate_cells: int = 256
    """Held-out cells of each such bound."""
    evaluate_draws: int = 4
    """Noised copies of each of them."""
    save_every: int = 1000
    """Steps between two checkpoints; one more is saved at the end, and where the held-out bound is the best so far."""
    save_minutes: float | None = None
    """Also save when the last checkpoint is so old, looked at every `log_every` steps; by default never."""
    keep: int = 3
    """Checkpoints kept, the newest ones, beside the one with the best held-out bound."""
    keep_every: int | None = None
    """Checkpoints of steps that this divides are kept for good; by default none."""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"training.{name} must be >= 1, got {value}.")
        if self.steps > MOST_STEPS:
            raise ValueError(f"training.steps must be <= {MOST_STEPS:,}, got {self.steps:,}.")
        if self.save_minutes is not None and self.save_minutes <= 0:
            raise ValueError(f"training.save_minutes must be > 0, got {self.save_minutes}.")
        if self.spike_deviations < 0:
            raise ValueError(f"training.spike_deviations must be >= 0, got {self.spike_deviations}.")
        if self.parameter_dtype not in PARAMETER_DTYPES:
            raise ValueError(
                f"training.parameter_dtype must be one of {', '.join(PARAMETER_DTYPES)}, got {self.parameter_dtype!r}."
            )
        if self.batch_size % self.microbatches:
            raise ValueError(
                f"training.batch_size {self.batch_size} does not divide into {self.microbatches} microbatches."
            )
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"training.ema_decay must be in [0, 1), got {self.ema_decay}.")
        if not 0.0 <= self.condition_dropout < 1.0:
            raise ValueError(f"training.condition_dropout must be in [0, 1), got {self.condition_dropout}.")
        if not 0.0 <= self.token_noise < 1.0:
            raise ValueError(f"training.token_noise must be in [0, 1), got {self.token_noise}.")
        if not 0.0 < self.number_dropout < 1.0:
            raise ValueError(f"training.number_dropout must be in (0, 1), got {self.number_dropout}.")
        if self.batch_size % 32:
            below = max(32, self.batch_size // 32 * 32)
            raise ValueError(
                f"training.batch_size must be a multiple of 32 (the loader reads slabs of 32 cells); "
                f"nearest: {below}, {below + 32}."
            )
