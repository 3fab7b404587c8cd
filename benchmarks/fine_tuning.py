"""What do a few labelled images of one's own bring? A network as it is, tuned further, and new.

    python benchmarks/fine_tuning.py --run reference --settings settings/fine_tuning.json \
        --output results/reference/fine_tuning.csv

The images are samples drawn from seeds that no training has seen: synthetic, and so unlike real
ones that they are foreign to a network trained on those, as anybody's images may be. With

        --data data/stage1_train.zip --output results/reference/fine_tuning_real.csv

they are real ones: those of the run's data set that it kept out of its training, so from other
fields of view, though mostly of modalities that it knows. As many are taught as a sample teaches.
Either is split by field. All three ways are scored on the same test images:

as_is          the run's network, with the thresholds that it was stored with;
fine_tuned     trained on from it on the training side (`start_from`, in `make run START_FROM=`),
               thresholds tuned on the validation side;
from_scratch   trained from random weights for as many steps on the same images, at the learning
               rate of the run's own training, since a small one is for a network that knows
               something; thresholds tuned likewise.

Trainings stay in `--folder`, under the name of the network that they began with: an interrupted
call resumes when repeated.
"""

import argparse
import hashlib
import itertools
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from speed import write_table

from helpers.analysis.fields import find_groups
from helpers.analysis.modality import find_modalities
from helpers.analysis.splits import SPLIT_NAMES, split_by_group
from helpers.data.data_set import DataSet, read_data_set
from helpers.data.sample import write_sample
from helpers.evaluation.masks import iou
from helpers.evaluation.matching import average_precision, match
from helpers.evaluation.tuning import tune_run
from helpers.network.prediction import Network, load_network
from helpers.network.saving import read_settings
from helpers.run_folder import ROOT, RunFolder
from helpers.settings import Settings, load_settings
from helpers.training.devices import Device, choose_device
from helpers.training.loop import train

WAYS = ("as_is", "fine_tuned", "from_scratch")
SAMPLE_SEEDS = (11, 12, 13)
"""Seeds of the samples. The embedded one has 0; 1 and 2 chose `settings/quick.json`."""
N_TAUGHT = 19
"""Real images on the training side; a sample has as many there."""
THRESHOLDS = (0.5, 0.7, 0.9)

Split = dict[str, DataSet]


def draw_sides(groups, modalities, seed: int, settings: Settings) -> NDArray[np.str_]:
    """Return the side of every image, by the ratios of `settings`; groups stay whole."""
    return split_by_group(
        groups,
        test_ratio=settings.training.test_split_ratio,
        validation_ratio=settings.training.validation_split_ratio,
        seed=seed,
        strata=modalities,
    )


def draw_split(folder: Path, seed: int, settings: Settings) -> Split:
    """Return a sample drawn from `seed`, by side: "train", "validation" and "test"."""
    write_sample(folder / f"sample_{seed}", seed)
    data = read_data_set(folder / f"sample_{seed}", cache_dir=folder / "cache")
    modalities = find_modalities(data.images)["modality"]
    sides = draw_sides(find_groups(data.images), modalities, seed, settings)
    return {side: data.select(sides == side) for side in SPLIT_NAMES}


def split_unseen(data: DataSet, known: pd.DataFrame, seed: int, settings: Settings) -> Split:
    """Return the labelled images that a run has not learned from, by side, `N_TAUGHT` to teach.

    `known` is the run's `split.csv`: id, modality, group and split of each of them.
    """
    known = known[~known["split"].isin(["train", "validation"])]
    sides = draw_sides(known["group"].to_numpy(), known["modality"], seed, settings)
    chosen = {side: known.loc[sides == side, "id"] for side in SPLIT_NAMES}
    chosen["train"] = chosen["train"].sample(N_TAUGHT, random_state=seed)
    return {side: data.select(np.isin(data.ids, ids)) for side, ids in chosen.items()}


def make_network(
    way: str,
    start: RunFolder,
    run: RunFolder,
    settings: Settings,
    split: Split,
    device: Device | None = None,
) -> Network:
    """Return the network of one of `WAYS`, trained into `run` unless it is that of `start`."""
    if way == "as_is":
        return load_network(start.require("network.keras"))
    learning, validation = split["train"], split["validation"]
    if way == "from_scratch":
        rate = read_settings(start.require("network.keras")).training.learning_rate
        settings = settings.with_training(learning_rate=rate)
    sides = (learning.images, learning.labels), (validation.images, validation.labels)
    start_from = start if way == "fine_tuned" else None
    train(run, settings, *sides, device=device, start_from=start_from)
    tune_run(run, validation)
    return load_network(run.require("network.keras"))


def score(network: Network, test: DataSet) -> dict[str, float]:
    """Return how well a network finds the nuclei of `test`.

    n_images, n_nuclei, then 0 to 1: ap_50, ap_70 and ap_90, pooled over nuclei, and iou, of all
    nuclei of an image together, in the mean over images.
    """
    found = [network.segment(image) for image in test.images]
    pairs = list(zip(test.labels, found, strict=True))
    matchings = [match(labels_true, labels_pred) for labels_true, labels_pred in pairs]
    masks = [iou(labels_true > 0, labels_pred > 0) for labels_true, labels_pred in pairs]
    scores = {"n_images": len(test), "n_nuclei": sum(matching.n_true for matching in matchings)}
    for threshold in THRESHOLDS:
        scores[f"ap_{round(100 * threshold)}"] = average_precision(matchings, threshold)
    return scores | {"iou": float(np.mean(masks))}


def measure(
    start: RunFolder,
    settings: Settings,
    folder: Path,
    splits: Mapping[int, Split],
    device: Device | None = None,
) -> pd.DataFrame:
    """Return the scores of every way on every split; the trainings go into `folder`.

    `start` is a run with a trained network, of the structure and preprocessing of `settings`;
    `splits` has the images by side, by seed, which is also that of the trainings. One row a way and
    a seed: way, seed, n_train (images on the training side), then the columns of `score`.
    """
    name = hashlib.sha256(start.require("network.keras").read_bytes()).hexdigest()[:16]
    rows = []
    for (seed, split), way in itertools.product(splits.items(), WAYS):
        run = RunFolder(folder / name / f"{way}_{seed}")
        network = make_network(way, start, run, settings.with_training(seed=seed), split, device)
        row = {"way": way, "seed": seed, "n_train": len(split["train"])}
        rows.append(row | score(network, split["test"]))
        print(rows[-1], flush=True)
    return pd.DataFrame(rows).round(4)


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="reference", help="folder under results/ to begin with")
    parser.add_argument("--settings", default="settings/fine_tuning.json")
    parser.add_argument("--data", help="the run's data set, instead of drawn samples")
    parser.add_argument("--folder", default="runs/fine_tuning", help="for the trainings")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=SAMPLE_SEEDS, help="of samples and splits"
    )
    parser.add_argument("--output", type=Path, help="CSV file to write")
    given = parser.parse_args()
    settings, start = load_settings(given.settings), RunFolder(given.run)
    device = choose_device(settings)
    print(device, flush=True)
    folder = ROOT / given.folder
    with tempfile.TemporaryDirectory() as samples:
        if given.data is None:
            splits = {seed: draw_split(Path(samples), seed, settings) for seed in given.seeds}
        else:
            folder /= "real"
            data = read_data_set(given.data, faults="skip").labelled
            known = start.read_csv("split.csv", dtype={"id": str})
            splits = {seed: split_unseen(data, known, seed, settings) for seed in given.seeds}
        table = measure(start, settings, folder, splits, device)
    write_table(table, given.output)


if __name__ == "__main__":
    main()
