"""Which device runs, and in which precision it is fastest."""

import time
from pathlib import Path
from typing import NamedTuple

from helpers.settings import Settings

WORTH_IT = 1.3
"""bfloat16 is chosen when a convolution is at least this many times faster in it."""


class Device(NamedTuple):
    """What runs the network, and how: print it, so that nobody has to guess."""

    kind: str
    backend: str
    precision: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} · Keras on {self.backend} · {self.precision} ({self.reason})"


def choose_device(settings: Settings) -> Device:
    """Return the device that Keras uses and the precision to use on it.

    The setting `precision` decides. Where it is "auto", bfloat16 is taken if a small convolution
    is clearly faster in it, and the processor has instructions for it.
    """
    import keras

    kind = "GPU" if any("gpu" in name for name in keras.distribution.list_devices()) else "CPU"
    backend, precision = keras.backend.backend(), settings.training.precision
    if precision != "auto":
        return Device(kind, backend, precision, "as the settings say")
    if kind == "CPU" and not has_bfloat16():
        return Device(kind, backend, "float32", "the processor has no bfloat16 instructions")
    gain = measure_bfloat16_gain()
    precision = "mixed_bfloat16" if gain >= WORTH_IT else "float32"
    return Device(kind, backend, precision, f"bfloat16 is {gain:.1f} times as fast")


def has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor says that it has bfloat16 instructions.

    Only Linux tells; elsewhere the answer is False, and float32 is used.
    """
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return any({"avx512_bf16", "amx_bf16", "bf16"} & set(line.split()) for line in lines)


def measure_bfloat16_gain(repeats: int = 5) -> float:
    """Return how many times as fast a convolution is in bfloat16 as in float32, by best times."""
    types = ("float32", "bfloat16")
    rounds = [[_time_convolution(dtype) for dtype in types] for _ in range(repeats + 1)]
    best = [min(times) for times in zip(*rounds[1:], strict=True)]  # the first one compiles
    return best[0] / best[1]


def _time_convolution(dtype: str, size: int = 64, filters: int = 64) -> float:
    import numpy as np
    from keras import ops

    x = ops.ones((4, size, size, filters), dtype)
    kernel = ops.ones((3, 3, filters, filters), dtype)
    start = time.perf_counter()
    result = ops.sum(ops.conv(x, kernel, padding="same"))
    np.asarray(ops.convert_to_numpy(ops.cast(result, "float32")))
    return time.perf_counter() - start
