"""What `helpers.startup` is worth: the same training with and without it, in turns.

    python benchmarks/environment.py --output benchmarks/results/environment.json

A training step frees the memory of the step before and asks for it again. The C library of Linux
gives large pieces back to the system in between, which must then clear and map them once more;
asked to keep them, it does not. And TensorFlow has convolutions of oneDNN, which it takes by
itself only on processors with certain instructions. Each training is a process of its own, because
both are read at its start.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import helpers  # noqa: F401   sets what is measured here

if "--bare-onednn" in sys.argv:
    os.environ.pop("TF_ENABLE_ONEDNN_OPTS")  # before `speed` loads Keras

from speed import describe_machine, draw_images, write_report

WAYS = {"bare": (True, True), "memory kept": (False, True), "memory kept, oneDNN": (False, False)}
"""Each way of training: whether memory is left to the system, and oneDNN to TensorFlow."""


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
    """Return the seconds of an epoch and the peak memory of every way, and how much faster it is.

    `times_as_fast` is against the way before it: median, lowest and highest of the rounds.
    """
    given = [sys.executable, __file__, "--settings", settings_file, "--steps", str(steps), "--once"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    kept.pop("TF_ENABLE_ONEDNN_OPTS", None)
    kept |= {"TQDM_DISABLE": "1"}
    found = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, (bare_memory, bare_onednn) in WAYS.items():
            # With any MALLOC_... of the user's, helpers leave memory alone; 8 is the default.
            variables = {"MALLOC_ARENA_TEST": "8"} if bare_memory else {}
            done = subprocess.run(
                [*given, "--bare-onednn"] if bare_onednn else given,
                env=kept | variables, check=True, capture_output=True, text=True,
            )  # fmt: skip
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
            print(way, found[way][-1], flush=True)
    return {
        "machine": describe_machine(),
        "settings": settings_file,
        "rounds": found,
        "times_as_fast": {
            later: compare(found[earlier], found[later])
            for earlier, later in itertools.pairwise(WAYS)
        },
    }


def compare(before: list[dict], after: list[dict]) -> list[float]:
    """Return the median, lowest and highest ratio of the seconds of two ways, round by round."""
    ratios = [b["seconds"] / a["seconds"] for b, a in zip(before, after, strict=True)]
    return [round(pick(ratios), 2) for pick in (statistics.median, min, max)]


def main() -> None:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", default="settings/reference.json")
    parser.add_argument("--steps", type=int, default=10, help="batches in an epoch")
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each way")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--bare-onednn", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        train_once(given.settings, given.steps, epochs=4)
        return
    report = measure(given.settings, given.steps, given.rounds)
    write_report(report, given.output)


if __name__ == "__main__":
    main()
