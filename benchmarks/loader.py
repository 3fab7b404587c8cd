"""First and second read of a data set, beside the original program's way, paired in one run.

    python benchmarks/loader.py --data data/stage1_train.zip --output benchmarks/results/loader.json

The original adds one mask file after the other to a blank image, by OpenCV's `addWeighted`, on one
core, at every start. OpenCV is used where it is installed (`opencv-python-headless`; the project
does not depend on it), else Pillow and NumPy do the same arithmetic; the table says which. Both
ways begin with the files in the operating system's memory: a pass that is not timed reads them.
The original reads folders only; for a zip archive it is given the members' bytes.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from helpers.data.data_set import read_data_set
from helpers.data.layout import find_entries
from helpers.data.reading import decode
from helpers.data.source import Source
from helpers.run_folder import ROOT, resolve

try:
    import cv2
except ImportError:
    cv2 = None

WAYS = {
    "original": "original: one file after the other ({by})",
    "first": "first read, leaves the cache",
    "second": "second read, from the cache",
}


def main() -> None:
    """Measure, print a table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sample", help="folder or zip archive (%(default)s)")
    parser.add_argument("--repeats", type=int, default=1, help="pairs of runs (%(default)s)")
    parser.add_argument("--output", default="benchmarks/results/loader.json")
    chosen = parser.parse_args()
    runs = [measure_pair(chosen.data) for _ in range(chosen.repeats)]
    record = describe_run(chosen.data, runs)
    print_table(record)
    output = resolve(chosen.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=2) + "\n")
    shown = output.relative_to(ROOT) if output.is_relative_to(ROOT) else output
    print(f"written: {shown}")


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
        original = measure(partial(read_all_as_original, source, entries))
    with tempfile.TemporaryDirectory() as cache_dir:
        read = partial(read_data_set, location, faults="skip", cache_dir=cache_dir)
        first, second = measure(read), measure(read)
        n_images = len(read())
    return {
        **{f"original_{unit}": value for unit, value in original.items()},
        **{f"first_{unit}": value for unit, value in first.items()},
        **{f"second_{unit}": value for unit, value in second.items()},
        "n_images": n_images,
        "n_masks": int(sum(len(entry.masks) for entry in entries)),
    }


def measure(read: Callable[[], object]) -> dict[str, float]:
    """Return the seconds on the clock, and those of the processor on all cores, of one call."""
    start, start_processor = time.perf_counter(), time.process_time()
    read()
    return {"s": time.perf_counter() - start, "cpu_s": time.process_time() - start_processor}


def read_all_as_original(source: Source, entries: list) -> None:
    """Read every image with its masks, and keep none."""
    for entry in entries:
        read_as_original(source, entry)


def read_as_original(source: Source, entry) -> tuple[np.ndarray, np.ndarray | None]:
    """Return image and united mask, read one file after the other."""
    image = read_pixels(source.read(entry.images[0]))
    mask = None
    for name in entry.masks:
        one = read_pixels(source.read(name))
        mask = one if mask is None else add_weighted(mask, one)
    return image, mask


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


def describe_run(location: str, runs: list[dict]) -> dict:
    """Return the record: medians of the runs, and what they ran on."""
    names = [f"{way}_{unit}" for way in WAYS for unit in ("s", "cpu_s")]
    return {
        "data": Path(location).name,
        "n_images": runs[0]["n_images"],
        "n_masks": runs[0]["n_masks"],
        **{name: round(float(np.median([run[name] for run in runs])), 3) for name in names},
        "runs": [{name: round(run[name], 3) for name in names} for run in runs],
        "original_by": f"OpenCV {cv2.__version__}" if cv2 else "Pillow and NumPy",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def print_table(record: dict) -> None:
    """Print the record as a Markdown table."""
    print(f"{record['n_images']} images, {record['n_masks']} masks of {record['data']}\n")
    print("| way | seconds | of processor | times as fast |\n|---|---|---|---|")
    for way, text in WAYS.items():
        seconds, cpu_s = record[f"{way}_s"], record[f"{way}_cpu_s"]
        faster = record["original_s"] / seconds
        text = text.format(by=record["original_by"])
        print(f"| {text} | {seconds:.2f} | {cpu_s:.2f} | {faster:.1f} |")


if __name__ == "__main__":
    main()
