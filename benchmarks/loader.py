"""First and second read of a data set, beside the original program's way, paired in one run.

    python benchmarks/loader.py --data data/stage1_train.zip --output benchmarks/results/loader.json

The original adds one mask file after the other to a blank image, by OpenCV's `addWeighted`, on one
core, at every start. OpenCV is used where it is installed (`opencv-python-headless`; the project
does not depend on it), else Pillow and NumPy do the same arithmetic; the table says which. Both
ways begin with the files in the operating system's memory: a pass that is not timed reads them.
The original reads folders only; for a zip archive it is given the members' bytes.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from speed import write_report

from helpers.data.data_set import read_data_set
from helpers.data.layout import find_entries
from helpers.data.reading import decode
from helpers.data.source import Source
from helpers.run_folder import resolve

try:
    import cv2
except ImportError:
    cv2 = None

WAYS = ("original", "first", "second")
"""One file after the other; a first read, which leaves the cache; a second one, from it."""


def measure_pair(location: str) -> dict:
    """Return the seconds of the original's read, of our first read and of our second."""
    if location == "sample":
        with tempfile.TemporaryDirectory() as cache_dir:
            read_data_set(location, cache_dir=cache_dir)  # draws the sample
    path = resolve("data/sample" if location == "sample" else location)
    with Source(path) as source:
        entries, _ = find_entries(source)
        for entry in entries:
            for name in (*entry.images, *entry.masks):
                source.read(name)
        seconds = {"original": measure(partial(read_all_as_original, source, entries))}
    with tempfile.TemporaryDirectory() as cache_dir:
        read = partial(read_data_set, location, faults="skip", cache_dir=cache_dir)
        seconds |= {way: measure(read) for way in ("first", "second")}
        n_images = len(read())
    times = {f"{way}_{unit}": s for way, both in seconds.items() for unit, s in both.items()}
    return times | {"n_images": n_images, "n_masks": sum(len(entry.masks) for entry in entries)}


def measure(read: Callable[[], object]) -> dict[str, float]:
    """Return the seconds on the clock, and those of the processor on all cores, of one call."""
    start, start_processor = time.perf_counter(), time.process_time()
    read()
    return {"s": time.perf_counter() - start, "cpu_s": time.process_time() - start_processor}


def read_all_as_original(source: Source, entries: list) -> None:
    """Read every image with its masks, one file after the other, and keep none."""
    for entry in entries:
        read_pixels(source.read(entry.images[0]))
        mask = None
        for name in entry.masks:
            one = read_pixels(source.read(name))
            mask = one if mask is None else add_weighted(mask, one)


def read_pixels(raw: bytes) -> np.ndarray:
    """Return the pixels as OpenCV's `imread` gives them: three channels of 8 bits."""
    if cv2 is not None:
        return cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
    stored = decode(raw).pixels
    return np.repeat(stored[..., np.newaxis], 3, 2) if stored.ndim == 2 else stored[..., :3]


def add_weighted(mask: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Return the saturated sum of two masks."""
    if cv2 is not None:
        return cv2.addWeighted(mask, 1, one, 1, 0)
    return np.minimum(mask.astype(np.uint16) + one, 255).astype(np.uint8)


def main() -> None:
    """Measure, print and write the medians of the runs, and what they ran on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sample", help="folder or zip archive (%(default)s)")
    parser.add_argument("--repeats", type=int, default=1, help="pairs of runs (%(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    given = parser.parse_args()
    runs = [measure_pair(given.data) for _ in range(given.repeats)]
    names = [f"{way}_{unit}" for way in WAYS for unit in ("s", "cpu_s")]
    report = {
        "data": Path(given.data).name,
        "n_images": runs[0]["n_images"],
        "n_masks": runs[0]["n_masks"],
        **{name: round(float(np.median([run[name] for run in runs])), 3) for name in names},
        "runs": [{name: round(run[name], 3) for name in names} for run in runs],
        "original_by": f"OpenCV {cv2.__version__}" if cv2 else "Pillow and NumPy",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    print(f"original by {report['original_by']}")
    for way in WAYS:
        seconds, of_processor = report[f"{way}_s"], report[f"{way}_cpu_s"]
        print(f"{way}: {seconds:.2f} s, {of_processor:.2f} s of the processor, ", end="")
        print(f"{report['original_s'] / seconds:.1f} times as fast as the original")
    write_report(report, given.output)


if __name__ == "__main__":
    main()
