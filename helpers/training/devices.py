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
    is clearly faster in it. A processor without bfloat16 instructions (AVX512-BF16, AMX, or those
    of ARM) is not even asked: it computes bfloat16 in float32, with conversions.
    """
    import keras

    kind = "GPU" if any("gpu" in name for name in _devices()) else "CPU"
    backend, precision = keras.backend.backend(), settings.training.precision
    if precision != "auto":
        return Device(kind, backend, precision, "as the settings say")
    if kind == "CPU" and not has_bfloat16():
        return Device(kind, backend, "float32", "the processor has no bfloat16 instructions")
    gain = measure_bfloat16_gain()
    precision = "mixed_bfloat16" if gain >= WORTH_IT else "float32"
    return Device(kind, backend, precision, f"bfloat16 is {gain:.1f} times as fast")


def _devices() -> list[str]:
    import keras

    return keras.distribution.list_devices()


def has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor says that it has bfloat16 instructions.

    Only Linux tells; elsewhere the answer is False, and float32 is used.
    """
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return any({"avx512_bf16", "amx_bf16", "bf16"} & set(line.split()) for line in lines)


def measure_bfloat16_gain(repeats: int = 5) -> float:
    """Return how many times as fast a convolution is in bfloat16 as in float32, above 0.

    Each type is timed `repeats` times in turn and its best time counts, so that other work on the
    machine matters little.
    """
    seconds = {"float32": [], "bfloat16": []}
    for _ in range(repeats + 1):
        for dtype, times in seconds.items():
            times.append(_time_convolution(dtype))
    best = {dtype: min(times[1:]) for dtype, times in seconds.items()}
    return best["float32"] / best["bfloat16"]


def _time_convolution(dtype: str, size: int = 64, filters: int = 64) -> float:
    import numpy as np
    from keras import ops

    x = ops.ones((4, size, size, filters), dtype)
    kernel = ops.ones((3, 3, filters, filters), dtype)
    start = time.perf_counter()
    result = ops.sum(ops.conv(x, kernel, padding="same"))
    np.asarray(ops.convert_to_numpy(ops.cast(result, "float32")))
    return time.perf_counter() - start
