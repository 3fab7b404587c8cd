"""Thresholds of the postprocessing, tuned on validation images and stored with the network."""

import itertools
from collections.abc import Iterable
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from helpers.data.data_set import DataSet
from helpers.evaluation.matching import THRESHOLDS, Matching, average_precision, match
from helpers.network.prediction import Network, load_network
from helpers.network.saving import load_model, read_settings, save_network
from helpers.run_folder import RunFolder
from helpers.settings import Postprocessing, Settings
from helpers.targets import Target

SEPARATION = {
    "threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
    "seed_threshold": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
}
"""Values that are tried together: what is nucleus, and from where nuclei grow."""
SELECTION = {
    "min_area_px": (0, 10, 20, 30, 50),
    "min_confidence": (0.0, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9),
}
"""Values that are tried together, with the best of the others: which nuclei are dropped."""
_NAMES = [*SEPARATION, *SELECTION]


class Tuning(NamedTuple):
    """The best postprocessing, and what each choice was worth."""

    postprocessing: Postprocessing
    table: pd.DataFrame


def tune_postprocessing(network: Network, validation: DataSet) -> Tuning:
    """Return the thresholds with which the nuclei of validation images are found best.

    Parameters
    ----------
    network : Network
        It predicts each image once; only what is made of its maps varies.
    validation : DataSet
        Labelled images that were not trained on, and will not be tested on.

    Returns
    -------
    Tuning
        `table` has a row a choice: threshold, seed_threshold, min_area_px, min_confidence and
        score, 0 to 1: the average precision, pooled over the images, in the mean over
        `THRESHOLDS`. Of equal scores the first counts.

    Raises
    ------
    ValueError
        If there is no validation image.
    """
    if not len(validation):
        raise ValueError(
            "there is no validation image to tune on; execute notebook 01 with a new `run` and a "
            "`validation_split_ratio` above 0"
        )
    none_dropped = {name: values[0] for name, values in SELECTION.items()}
    without = none_dropped | {"score": None}  # one that was fitted before judges other nuclei
    before = network.settings.postprocessing.model_copy(update=without)
    images = tqdm(validation.images[:], desc="predicting", unit=" images", leave=False)
    maps = [network.predict_maps(image) for image in images]

    def score(choice: Postprocessing) -> float:
        matchings = match_maps(maps, validation, network.target, choice)
        return float(np.mean([average_precision(matchings, level) for level in THRESHOLDS]))

    names = SEPARATION if network.target.is_seeded else ("threshold",)
    scores = [(choice, score(choice)) for choice in _vary(before, names)]
    best = max(scores, key=itemgetter(1))[0]
    scores += [(choice, score(choice)) for choice in _vary(best, SELECTION)[1:]]
    rows = [choice.model_dump(include=set(_NAMES)) | {"score": value} for choice, value in scores]
    return Tuning(max(scores, key=itemgetter(1))[0], pd.DataFrame(rows)[[*_NAMES, "score"]])


def _vary(choice: Postprocessing, names: Iterable[str]) -> list[Postprocessing]:
    """Return `choice` with every combination of the values of `names`."""
    values = [(SEPARATION | SELECTION)[name] for name in names]
    changes = [dict(zip(names, each, strict=True)) for each in itertools.product(*values)]
    return [choice.model_copy(update=change) for change in changes]


def match_maps(
    maps: list[NDArray], data: DataSet, target: Target, choice: Postprocessing
) -> list[Matching]:
    """Return how the nuclei that one postprocessing makes of each image's maps match the truth."""
    found = [target.decode(each, choice) for each in maps]
    pairs = zip(data.labels[:], found, strict=True)
    return [match(labels_true, labels_pred) for labels_true, labels_pred in pairs]


def tune_run(run: RunFolder, validation: DataSet) -> pd.DataFrame:
    """Return what each choice was worth, after storing the best with the network of `run`.

    A network that answers a mask alone is left as it is, and so is any without validation images:
    the table then has one row, without a score.
    """
    network = load_network(run.require("network.keras"))
    if network.target.is_mask or not len(validation):
        kept = network.settings.postprocessing.model_dump(include=set(_NAMES))
        return pd.DataFrame([kept | {"score": np.nan}])
    return tune_network(run, network, validation)


def tune_network(run: RunFolder, network: Network, validation: DataSet) -> pd.DataFrame:
    """Return what each choice was worth; `network`, read from `run`, and its file get the best.

    `tuning.csv` keeps the table.
    """
    tuning = tune_postprocessing(network, validation)
    network.settings = store_postprocessing(run, tuning.postprocessing)
    run.write_csv("tuning.csv", tuning.table.round(4))
    return tuning.table


def store_postprocessing(run: RunFolder, postprocessing: Postprocessing) -> Settings:
    """Write the network of `run` again, with other postprocessing, and return its settings."""
    file = run.require("network.keras")
    settings = read_settings(file).with_postprocessing(**postprocessing.model_dump())
    model = load_model(file)
    run.write("network.keras", lambda part: save_network(model, part, settings))
    return settings
