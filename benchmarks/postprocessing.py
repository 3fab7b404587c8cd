"""What each choice behind the network is worth on validation images: looks, and dropped nuclei.

    python benchmarks/postprocessing.py --output results/reference/postprocessing.csv

A run of a network that tells nuclei apart must have been made before (`make run ...`). Its stored
choices are scored, and again with one of them taken back. No test image is read.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from speed import write_table
from tqdm import tqdm

from helpers.data.data_set import DataSet
from helpers.evaluation.matching import THRESHOLDS, average_precision
from helpers.evaluation.tuning import match_maps
from helpers.network.prediction import LOOKS, Network, load_network
from helpers.session import start_session
from helpers.settings import Postprocessing
from helpers.targets import Target

TAKEN_BACK = {
    "as stored": {},
    "without the score": {"score": None},
    "nothing dropped by its probability": {"score": None, "min_confidence": 0.0},
    "nothing dropped by its area": {"min_area_px": 0},
    "nothing dropped": {"score": None, "min_confidence": 0.0, "min_area_px": 0},
}
"""What is changed in the stored choices."""


def measure(network: Network, validation: DataSet) -> pd.DataFrame:
    """Return the scores of the validation images with and without each choice.

    Columns: looks (of `LOOKS`), choice (of `TAKEN_BACK`), n_images, n_nuclei, ap_50, ap_70, ap_90
    and ap (mean over `THRESHOLDS`), pooled over nuclei, 0 to 1; seconds, of the prediction alone.
    """
    stored = network.settings
    rows = []
    for looks in LOOKS:
        network.settings = stored.with_postprocessing(test_time_augmentation=looks)
        started = time.perf_counter()
        images = tqdm(validation.images[:], desc=f"predicting, {looks}", leave=False)
        maps = [network.predict_maps(image) for image in images]
        seconds = round(time.perf_counter() - started, 1)
        for choice, changed in TAKEN_BACK.items():
            postprocessing = stored.postprocessing.model_copy(update=changed)
            scores = score(maps, validation, network.target, postprocessing)
            rows.append({"looks": looks, "choice": choice, **scores, "seconds": seconds})
    network.settings = stored
    return pd.DataFrame(rows)


def score(
    maps: list[np.ndarray], validation: DataSet, target: Target, postprocessing: Postprocessing
) -> dict[str, float]:
    """Return the pooled average precision of images whose maps are given."""
    matchings = match_maps(maps, validation, target, postprocessing)
    found = {threshold: average_precision(matchings, threshold) for threshold in THRESHOLDS}
    chosen = {f"ap_{round(100 * t)}": found[t] for t in THRESHOLDS if t in (0.5, 0.7, 0.9)}
    n_nuclei = sum(matching.n_true for matching in matchings)
    mean = float(np.mean(list(found.values())))
    return {"n_images": len(maps), "n_nuclei": n_nuclei, **chosen, "ap": mean}


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="reference", help="folder under results/")
    parser.add_argument("--settings", default="settings/reference.json")
    parser.add_argument("--data", default="data/stage1_train.zip")
    parser.add_argument("--output", type=Path, help="CSV file to write")
    given = parser.parse_args()
    session = start_session(given.settings, given.data, given.run)
    network = load_network(session.run.require("network.keras"))
    validation = session.read_split(session.read_data(faults="skip"))["validation"]
    table = measure(network, validation).round(4)
    write_table(table, given.output)


if __name__ == "__main__":
    main()
