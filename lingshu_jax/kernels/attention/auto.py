"""The automatic choice: what was validated for the platform that the program is compiled for."""

import dataclasses

from lingshu_jax.kernels.attention.implementation import Implementation
from lingshu_jax.kernels.attention.pallas_tpu import PallasTpu
from lingshu_jax.kernels.attention.reference import Xla
from lingshu_jax.kernels.platform import target_platform


@dataclasses.dataclass(frozen=True)
class Auto(Implementation):
    """TPU: the Pallas kernel, for rows that fit on a chip. Everything else: XLA.

    On GPU no fused kernel has been measured yet (docs/BENCHMARKS.md): `mosaic_gpu`, `cudnn` and `tokamax` can be chosen
    by name.
    """

    def __call__(self, q, k, v, segment_ids, rope):
        on_chip = target_platform() == "tpu" and PallasTpu().unsupported(q.shape, q.dtype) is None
        return (PallasTpu() if on_chip else Xla())(q, k, v, segment_ids, rope)
