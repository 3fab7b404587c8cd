"""What another threshold, and four flips instead of one look, are worth on validation images.

    python benchmarks/thresholds.py --run default --output benchmarks/results/thresholds.json

A run must have been made before (`make run ...`). No test image is read.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from speed import write_report

from helpers.evaluation.masks import iou
from helpers.network.prediction import load_network
from helpers.session import start_session
from helpers.training.batches import ORIENTATIONS

THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)


def predict_flipped(network, image: np.ndarray) -> np.ndarray:
    """Return the mean probability, (H, W), over an image's four orientations."""
    flips = [network.predict(image[::y, ::x])[::y, ::x] for y, x in ORIENTATIONS]
    return np.mean(flips, axis=0)


def measure(run: str, settings: str, data_set_location: str) -> dict:
    """Return the mean IoU of the validation images by threshold, looked at once and four times."""
    session = start_session(settings, data_set_location, run)
    network = load_network(session.run.require("network.keras"))
    validation = session.read_split(session.read_data(faults="skip"))["validation"]
    rows = []
    for image, labels in zip(validation.images, validation.labels, strict=True):
        ways = {"once": network.predict(image), "four flips": predict_flipped(network, image)}
        for way, probabilities in ways.items():
            for threshold in THRESHOLDS:
                score = iou(labels > 0, probabilities >= threshold)
                rows.append({"way": way, "threshold": threshold, "iou": score})
    table = pd.DataFrame(rows).pivot_table("iou", "threshold", "way").round(4)
    print(table)
    by_way = {way: {str(t): float(x) for t, x in column.items()} for way, column in table.items()}
    return {"run": run, "n_images": len(validation), "iou": by_way}


def main() -> None:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="default", help="folder under results/")
    parser.add_argument("--settings", default="settings/default.json")
    parser.add_argument("--data", default="data/stage1_train.zip")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    given = parser.parse_args()
    report = measure(given.run, given.settings, given.data)
    write_report(report, given.output)


if __name__ == "__main__":
    main()
