"""Training and prediction throughput: the original program's way against ours, in one run.

    python benchmarks/speed.py --output benchmarks/results/speed.json

Both ways run the same network on the same images, in turns, so that other work on the machine
slows both. The original's way is Keras in float32, fed from arrays that hold the whole data set;
ours is `helpers.training` with the precision that its `devices` chooses and batches that are cut,
mirrored and normalised on the way. The last rows say what an epoch costs beyond its steps.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TQDM_DISABLE", "1")

import keras
import numpy as np
import pandas as pd

from helpers import build_unet, load_settings
from helpers.network.prediction import Network
from helpers.run_folder import RunFolder
from helpers.training.batches import Batches
from helpers.training.devices import choose_device
from helpers.training.loop import compile_network, train


def draw_images(n_images: int, size: int, seed: int = 0) -> tuple[list, list]:
    """Return `n_images` random RGB images and label images of `size` x `size` pixels."""
    rng = np.random.default_rng(seed)
    images = list(rng.integers(0, 256, (n_images, size, size, 3), dtype=np.uint8))
    labels = list((rng.random((n_images, size, size)) > 0.8).astype(np.int32))
    return images, labels


def time_pair(first: Callable, second: Callable, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of both functions, called in turns, after one call of each to warm up."""
    seconds = ([], [])
    for round_number in range(rounds + 1):
        for function, times in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            function()
            if round_number:
                times.append(time.perf_counter() - start)
    return seconds


def compare(name: str, original: Callable, ours: Callable, n_images: int, rounds: int) -> dict:
    """Return one row of the report: images per second of both ways and their ratio by pairs."""
    slow, fast = time_pair(original, ours, rounds)
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    row = {
        "what": name,
        "original_images_per_s": round(n_images / statistics.median(slow), 2),
        "ours_images_per_s": round(n_images / statistics.median(fast), 2),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
    }
    print(row, flush=True)
    return row


def measure(settings_file: str, steps: int, rounds: int) -> dict:
    """Return the whole report for the network of a settings file."""
    settings = load_settings(settings_file).without_callbacks()
    settings = settings.with_training(steps_per_epoch=steps, epoch_num=1)
    size, batch = settings.model_structure.input_params.height, settings.training.batch_size
    images, labels = draw_images(steps * batch, size)
    x = np.stack(images).astype(np.float32) / 255
    y = np.stack(labels)[..., None].astype(np.float32)
    device = choose_device(settings)
    print(device, flush=True)

    plain = compile_network(build_unet(settings), settings)
    chosen = compile_network(build_unet(settings, precision=device.precision), settings)
    batches = Batches(images, labels, settings)
    network = Network(chosen, settings, precision=device.precision)
    ways = {
        "training": (
            lambda: plain.fit(x, y, batch_size=batch, verbose=0),
            lambda: chosen.fit(batches, shuffle=False, verbose=0),
        ),
        "prediction": (
            lambda: plain.predict(x, batch_size=batch, verbose=0),
            lambda: [network.predict(image) for image in images],
        ),
    }
    rows = [compare(what, *both, len(images), rounds) for what, both in ways.items()]
    epoch = measure_epoch(settings, images, labels, chosen, batches, rounds, device)
    return {"machine": describe_machine(), "device": str(device), "settings": settings_file,
            "rows": rows, "epoch": epoch}  # fmt: skip


def measure_epoch(settings, images, labels, model, batches, rounds, device) -> dict:
    """Return what an epoch of `train` costs beside the bare steps on the same batches."""
    ready = [batches[k] for k in range(len(batches))]

    def bare_steps():
        for inputs, targets in ready:
            model.train_on_batch(inputs, targets)

    keras.utils.set_random_seed(0)
    steps, _ = time_pair(bare_steps, lambda: None, rounds)
    with tempfile.TemporaryDirectory() as folder:
        longer = settings.with_training(epoch_num=rounds + 1)
        history = train(RunFolder(folder), longer, (images, labels), device=device)
    step_s, epoch_s = statistics.median(steps), statistics.median(history["seconds"][1:])
    row = {"steps_s": round(step_s, 2), "epoch_s": round(epoch_s, 2)}
    row["ratio"] = round(epoch_s / step_s, 3)
    print(row, flush=True)
    return row


def describe_machine() -> str:
    """Return the processor's name, where the system tells it, and the number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def write_report(report: dict, output: Path | None) -> None:
    """Write the report as JSON, if a file was named."""
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def write_table(table: pd.DataFrame, output: Path | None) -> None:
    """Print the table, and write it as CSV, if a file was named."""
    print(table.to_string(index=False))
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(output, index=False)


def main() -> None:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", default="settings/original.json")
    parser.add_argument("--steps", type=int, default=3, help="batches in one timing")
    parser.add_argument("--rounds", type=int, default=3, help="timings of each way")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    given = parser.parse_args()
    report = measure(given.settings, given.steps, given.rounds)
    write_report(report, given.output)


if __name__ == "__main__":
    main()
