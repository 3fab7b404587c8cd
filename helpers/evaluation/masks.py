"""Masks: how well two agree, how calibrated their probabilities are, and how good a network's are.

Images go through a network one at a time. Their masks are written as they come; probabilities are
not kept.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from helpers.analysis.describe import measure_nuclei
from helpers.data.data_set import DataSet
from helpers.evaluation.summary import ALL
from helpers.targets import Target, get_target

MaskWriter = Callable[[str, NDArray[np.bool_]], Any]
"""Takes the id of an image and its mask; made by `mask_folder`."""
EDGES = np.arange(11) / 10
"""Ends of the bins of `calibration`. A bin includes its lower end; the last one both."""


def score_mask(mask_true, mask_pred) -> dict[str, float]:
    """Return dice, iou, precision and recall, 0 to 1, of a predicted mask against the true one.

    Parameters
    ----------
    mask_true, mask_pred : array_like of bool, same shape
        Foreground is True.

    Returns
    -------
    dict
        All are 1.0 where both masks are empty, for they agree. Precision without predicted and
        recall without true foreground are undefined; where the other mask has some, they are 0.0,
        so that an empty prediction is never rewarded.

    Raises
    ------
    TypeError
        If a mask is not bool: label images and probabilities would be counted wrongly.
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> score_mask(np.array([True, True, False]), np.array([True, False, False]))
    {'dice': 0.6666666666666666, 'iou': 0.5, 'precision': 1.0, 'recall': 0.5}
    """
    mask_true, mask_pred = np.asarray(mask_true), np.asarray(mask_pred)
    _check_bool("mask_true", mask_true)
    _check_bool("mask_pred", mask_pred)
    _check_shapes("mask_pred", mask_pred, "mask_true", mask_true)
    n_true, n_pred = int(np.count_nonzero(mask_true)), int(np.count_nonzero(mask_pred))
    tp = int(np.count_nonzero(mask_true & mask_pred))
    shares = {
        "dice": (2 * tp, n_true + n_pred),
        "iou": (tp, n_true + n_pred - tp),
        "precision": (tp, n_pred),
        "recall": (tp, n_true),
    }
    empty = float(n_true == n_pred == 0)
    return {name: part / whole if whole else empty for name, (part, whole) in shares.items()}


def dice(mask_true, mask_pred) -> float:
    """Return the Dice coefficient, 0 to 1: twice the common pixels over the sum of both.

    Parameters, errors and empty masks as for `score_mask`. Dice 1945,
    https://doi.org/10.2307/1932409; Sørensen 1948, Biologiske Skrifter 5(4), 1-34.
    """
    return score_mask(mask_true, mask_pred)["dice"]


def iou(mask_true, mask_pred) -> float:
    """Return the intersection over union, 0 to 1, of two masks.

    Parameters, errors and empty masks as for `score_mask`. Jaccard 1912,
    https://doi.org/10.1111/j.1469-8137.1912.tb05611.x
    """
    return score_mask(mask_true, mask_pred)["iou"]


def calibration(probabilities, mask) -> pd.DataFrame:
    """Return predicted probabilities of foreground beside what is there, in bins between `EDGES`.

    Parameters
    ----------
    probabilities : array_like of float, any shape
        0 to 1.
    mask : array_like of bool, same shape

    Returns
    -------
    DataFrame
        One row a bin: `count` of its pixels, `probability_sum`, and `foreground`, how many of the
        pixels are. The tables of several images add up to that of all their pixels.

    Raises
    ------
    TypeError, ValueError
        If a type, a shape or a probability is another.
    """
    probabilities, mask = np.asarray(probabilities), np.asarray(mask)
    if not np.issubdtype(probabilities.dtype, np.floating):
        raise TypeError(
            f"`probabilities` (dtype {probabilities.dtype}) must be float from 0 to 1; "
            "divide 8-bit values by 255."
        )
    _check_bool("mask", mask)
    _check_shapes("probabilities", probabilities, "mask", mask)
    if probabilities.size and not (probabilities.min() >= 0 and probabilities.max() <= 1):
        raise ValueError(
            f"`probabilities` (from {probabilities.min()} to {probabilities.max()}) must lie "
            "between 0 and 1; apply the sigmoid first."
        )
    probabilities, mask = probabilities.ravel(), mask.ravel()
    bins = np.searchsorted(EDGES[1:-1], probabilities, side="right")
    return pd.DataFrame(
        {
            "count": np.bincount(bins, minlength=10),
            "probability_sum": np.bincount(bins, weights=probabilities, minlength=10),
            "foreground": np.bincount(bins[mask], minlength=10),
        }
    )


def calibration_error(bins: pd.DataFrame) -> float:
    """Return the expected calibration error, 0 (calibrated) to 1, of a table of `calibration`.

    NaN when there are no pixels. Equation 3 of Guo et al. 2017,
    https://doi.org/10.48550/arXiv.1706.04599, with the probability of foreground in place of the
    confidence in the likelier class.

    Examples
    --------
    >>> bins = calibration(np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 0, 1, 1], bool))
    >>> round(calibration_error(bins), 3)
    0.1
    """
    n_pixels = bins["count"].sum()
    wrong = (bins["probability_sum"] - bins["foreground"]).abs().sum()
    return float(wrong / n_pixels) if n_pixels else float("nan")


def _check_bool(name: str, mask: NDArray) -> None:
    if mask.dtype != bool:
        raise TypeError(
            f"`{name}` (dtype {mask.dtype}) must be bool; compare first, "
            "for example `labels > 0` or `probabilities >= 0.5`."
        )


def _check_shapes(name: str, array: NDArray, other: str, expected: NDArray) -> None:
    if array.shape != expected.shape:
        raise ValueError(
            f"`{name}` (shape {array.shape}) must have the shape of `{other}` "
            f"(={expected.shape}); undo padding or cropping first."
        )


@contextmanager
def mask_folder(folder: Path) -> Iterator[MaskWriter]:
    """Give a function that writes masks as PNG; all of them replace `folder` at the end.

    A mask of id "a" becomes `a.png`, 8 bit, 0 = background, 255 = nucleus, in the image's own
    size. After an error the folder is as it was.
    """
    part = folder.with_name(f".part-{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)

    def write_mask(name: str, mask: NDArray[np.bool_]) -> None:
        Image.fromarray(mask.astype(np.uint8) * 255).save(part / f"{name}.png", optimize=True)

    try:
        yield write_mask
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_mask(file: Path) -> NDArray[np.bool_]:
    """Return a mask that `mask_folder` has written, (H, W) bool."""
    with Image.open(file) as image:
        return np.asarray(image) > 0


class Evaluation(NamedTuple):
    """What came out of predicting the test images: one row an image, and the pooled pixels."""

    table: pd.DataFrame
    calibration: pd.DataFrame


def evaluate(
    network,
    data: DataSet,
    known: pd.DataFrame,
    *,
    threshold: float = 0.5,
    write_mask: MaskWriter | None = None,
) -> Evaluation:
    """Return how well the network masks each image of `data`.

    Parameters
    ----------
    network : helpers.network.prediction.Network
        Anything whose `predict(image)` gives (H, W) probabilities and which has `settings`.
    data : DataSet
        Labelled images.
    known : DataFrame
        Has the columns id, modality and group for all of them, as a run's `split.csv`.
    threshold : float
        A pixel is nucleus where its probability is at least this, 0 to 1, ends excluded.
    write_mask : callable, optional
        Gets the id and the (H, W) bool mask of every image; see `mask_folder`.

    Returns
    -------
    Evaluation
        The table has id, modality, group, dice, iou, precision, recall (0 to 1), fraction_true and
        fraction_pred (share of the pixels that is foreground), n_nuclei and diameter_px (median
        of the nuclei; NaN without any). The truth is what the network was trained to predict:
        whole nuclei or their interiors. `calibration` has the pixels of all images.

    Raises
    ------
    ValueError
        If there is no image, an image has no masks, `known` lacks one, or the threshold is out
        of range.
    """
    about = _check(data, known, threshold)
    target = get_target(network.settings.model_structure.output_params.target)
    rows, bins = [], []
    for index, (name, probabilities) in enumerate(predict_each(network, data)):
        labels = data.labels[index]
        mask_true, mask_pred = target.true_mask(labels), probabilities >= threshold
        if write_mask is not None:
            write_mask(name, mask_pred)
        bins.append(calibration(probabilities, mask_true))
        rows.append({"id": name, **about[name], **_measure_one(labels, mask_true, mask_pred)})
    return Evaluation(pd.DataFrame(rows), sum(bins))


def _measure_one(labels, mask_true, mask_pred) -> dict[str, float]:
    diameters = measure_nuclei([labels])["diameter_px"]
    return {
        **score_mask(mask_true, mask_pred),
        "fraction_true": float(mask_true.mean()),
        "fraction_pred": float(mask_pred.mean()),
        "n_nuclei": len(diameters),
        "diameter_px": diameters.median(),
    }


def predict_each(network, data: DataSet) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the id and the (H, W) probabilities of each image, under a progress bar."""
    for index, name in enumerate(tqdm(data.ids, desc="predicting", unit=" images", leave=False)):
        yield name, network.predict(data.images[index])


def _check(data: DataSet, known: pd.DataFrame, threshold: float) -> dict[str, dict[str, Any]]:
    """Return modality and group by id, or refuse what cannot be evaluated."""
    if not 0 < threshold < 1:
        raise ValueError(f"`threshold` (={threshold}) must lie between 0 and 1; try 0.5")
    if not len(data):
        raise ValueError("there is no image to evaluate; give a `test_set`")
    if not data.table["labelled"].all():
        name = data.table.loc[~data.table["labelled"], "id"].iloc[0]
        raise ValueError(f"{name!r} has no masks to compare with; pass `data.labelled`")
    about = known.set_index("id")[["modality", "group"]].to_dict("index")
    unknown = [name for name in data.ids if name not in about]
    if unknown:
        raise ValueError(
            f"modality and group of {len(unknown)} images are not known (e.g. {unknown[0]!r}); "
            "execute notebook 01 with the same run"
        )
    return about


def pick_examples(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the best, the median and the worst IoU, in a column `rank`.

    Two images give best and worst, a single one is the only one.

    Examples
    --------
    >>> table = pd.DataFrame({"id": list("abcd"), "iou": [0.1, 0.9, 0.5, 0.7]})
    >>> pick_examples(table)[["rank", "id"]].to_numpy().tolist()
    [['best', 'b'], ['median', 'd'], ['worst', 'a']]
    """
    ranked = table.sort_values("iou", ascending=False, kind="stable")
    last = len(ranked) - 1
    places = {"best": 0, "median": last // 2, "worst": last} if last else {"only": 0}
    return ranked.iloc[list(places.values())].assign(rank=list(places)).drop_duplicates("id")


def read_examples(
    data: DataSet, ids: Sequence[str], masks_dir: Path, target: Target
) -> list[tuple[NDArray, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return image, true mask and predicted mask, read back from its PNG, of each id."""
    places = {name: data.ids.index(name) for name in ids}
    return [
        (data.images[n], target.true_mask(data.labels[n]), read_mask(masks_dir / f"{name}.png"))
        for name, n in places.items()
    ]


def describe_evaluation(
    evaluation: Evaluation, summary: pd.DataFrame, **about: Any
) -> dict[str, Any]:
    """Return the content of `metrics.json`: `about`, then every number of the summary.

    Ends of intervals are None where there is a single field of view; "look_at_first" is the mask
    of the median test image.
    """
    numbers = summary.round(4).astype(object).where(summary.notna(), None)
    parts = {
        modality: part.iloc[0][["n_images", "n_fields"]].to_dict()
        | part.set_index("score")[["estimate", "low", "high"]].to_dict("index")
        for modality, part in numbers.groupby("modality", sort=False)
    }
    ranked = evaluation.table.sort_values("iou", ascending=False, kind="stable")["id"]
    return {
        **about,
        "overall": parts.pop(ALL),
        "modalities": parts,
        "calibration_error": round(calibration_error(evaluation.calibration), 4),
        "look_at_first": f"masks/{ranked.iloc[(len(ranked) - 1) // 2]}.png",
    }
