"""Per-gene statistics of training cells, as far as a model's start needs them."""

from typing import Protocol

import numpy as np


class GeneStatistics(Protocol):
    """What `LogFrequency` and `DepthNB` start from; `data_pipelines.Statistics` is one."""

    @property
    def histogram(self) -> np.ndarray:
        """int64 (G, V): how often each gene has each token, over training cells that measured it."""
        ...

    @property
    def mean(self) -> np.ndarray:
        """float64 (G,): negative-binomial mean at size factor 1, counts."""
        ...

    @property
    def dispersion(self) -> np.ndarray:
        """float64 (G,): theta of var = mu + mu^2 / theta."""
        ...

    @property
    def library_log_variance(self) -> float:
        """Variance of the log size factor."""
        ...
