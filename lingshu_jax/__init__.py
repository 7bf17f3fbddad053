"""Lingshu-Cell in JAX: masked discrete diffusion over the raw counts of a whole transcriptome (arXiv 2603.25240)."""

__version__ = "0.1.0"
