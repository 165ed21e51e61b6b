"""How XLA compiles the programs of tests: quickly, for most of a test's time is compilation.

The programs are the same and run on few numbers, so that optimising their machine code and the
loops of fused operations takes longer than it saves.
"""

FLAGS = " ".join(
    [
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_use_fusion_emitters=false",
    ]
)


def simulated(devices: int) -> str:
    """The flag that makes so many devices of the CPU."""
    return f"--xla_force_host_platform_device_count={devices}"


def flags(devices: int = 1) -> str:
    """XLA_FLAGS of a process of its own that has so many devices."""
    return f"{FLAGS} {simulated(devices)}"
