"""Every test runs on the CPU, as 8 virtual devices; programs are compiled fast rather than well, and no
registry is written."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["LINGSHU_REGISTRY"] = "none"  # its own tests switch it on
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
)
