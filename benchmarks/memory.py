"""What it is worth to keep freed memory: the same training with and without it, in turns.

    python benchmarks/memory.py --output benchmarks/results/memory.json

A training step frees the memory of the step before and asks for it again. The C library of Linux
gives large pieces back to the system in between, which must then clear and map them anew. The
Makefile sets the variables below, which tell it to keep them. Each training is a process of its
own, because the library reads them at its start.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from speed import describe_machine, draw_images, write_report

from helpers.paths import ROOT

KEEP = dict(re.findall(r"export (MALLOC_\w+) \?= (\d+)", (ROOT / "Makefile").read_text()))
"""The Makefile's: no piece of memory of its own, growth by 256 MiB, nothing given back."""


def train_once(settings_file: str, steps: int, epochs: int) -> None:
    """Train on random images and print the seconds of the last epochs and the peak memory."""
    from helpers import load_settings
    from helpers.run_folder import RunFolder
    from helpers.training.loop import train

    settings = load_settings(settings_file).without_callbacks()
    settings = settings.with_training(steps_per_epoch=steps, epoch_num=epochs)
    size, batch = settings.model_structure.input_params.height, settings.training.batch_size
    with tempfile.TemporaryDirectory() as folder:
        history = train(RunFolder(folder), settings, draw_images(2 * batch, size))
    seconds = statistics.median(history["seconds"][1:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": round(peak)}))


def measure(settings_file: str, steps: int, rounds: int) -> dict:
    """Return the seconds of an epoch and the peak memory of both ways, and their ratios."""
    given = [sys.executable, __file__, "--settings", settings_file, "--steps", str(steps), "--once"]
    bare = {name: value for name, value in os.environ.items() if name not in KEEP}
    bare |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TQDM_DISABLE": "1"}
    found = {"given back": [], "kept": []}
    for _ in range(rounds):
        for way, environment in (("given back", bare), ("kept", bare | KEEP)):
            done = subprocess.run(
                given, env=environment, check=True, capture_output=True, text=True
            )
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
            print(way, found[way][-1], flush=True)
    pairs = list(zip(found["given back"], found["kept"], strict=True))
    ratios = [before["seconds"] / after["seconds"] for before, after in pairs]
    return {
        "machine": describe_machine(),
        "settings": settings_file,
        "rounds": found,
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
    }


def main() -> None:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", default="settings/default.json")
    parser.add_argument("--steps", type=int, default=10, help="batches in an epoch")
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each way")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        train_once(given.settings, given.steps, epochs=4)
        return
    report = measure(given.settings, given.steps, given.rounds)
    write_report(report, given.output)


if __name__ == "__main__":
    main()
