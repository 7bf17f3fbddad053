"""What a run computed on: versions, devices, platform; no host names and no paths."""

import importlib.metadata
import os
import pathlib
import platform
from typing import Any

import lingshu_jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorstore", "grain", "anndata", "numpy", "scipy")


def describe() -> dict[str, Any]:
    """JSON-serialisable description of software and devices."""
    import jax

    devices = jax.devices()
    return {
        "lingshu_jax": lingshu_jax.__version__,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": devices[0].platform,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "processes": jax.process_count(),
        "cores": len(os.sched_getaffinity(0)),
    }


def enable_compilation_cache(folder: pathlib.Path) -> None:
    """Keep compiled programs between starts, so that a restart does not compile again."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
