"""How good the masks of a trained network are, image by image, and what they are compared with.

Images go through one at a time. Their masks are written as they come; probabilities are not kept.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from helpers.analysis.modality import guess_nuclei
from helpers.data.data_set import DataSet
from helpers.evaluation.masks import (
    Calibration,
    MaskWriter,
    calibration,
    confusion,
    iou,
    read_mask,
)
from helpers.evaluation.summary import ALL, by_modality
from helpers.network.complexity import measure_diameters
from helpers.settings import Settings
from helpers.targets import Target, get_target


class Threshold:
    """Otsu's threshold in the place of a network; see `helpers.analysis.modality.guess_nuclei`.

    `settings` are those of the network that it is compared with; only the target is read.
    """

    def __init__(self, settings: Settings):
        self.settings = settings

    def predict(self, image: NDArray) -> NDArray[np.float32]:
        """Return 1 where `image` is guessed to be nucleus and 0 elsewhere, float32 (H, W)."""
        return guess_nuclei(image).astype(np.float32)


def remove_colour(image: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Return an (H, W, 3) image as gray, (H, W): the mean of its channels, rounded.

    Examples
    --------
    >>> remove_colour(np.array([[[10, 20, 60]]], np.uint8))
    array([[30]], dtype=uint8)
    """
    return np.rint(image.mean(axis=2)).astype(image.dtype)


VARIATIONS = {"negative": np.invert, "gray": remove_colour}
"""What is done to an image before its mask is predicted once more."""


def measure_invariance(
    network, data: DataSet, known: pd.DataFrame, masks_dir: Path, *, threshold: float = 0.5
) -> pd.DataFrame:
    """Return how alike the masks of an image and of its variations are.

    Parameters
    ----------
    network, data, known
        As `evaluate` takes them; labels are not read.
    masks_dir : Path
        Holds the mask of every image as it is, made at `threshold`, as `masks.mask_folder`
        writes them.

    Returns
    -------
    DataFrame
        One row an image and variation: id, modality, group, variation ("negative" or "gray") and
        agreement, the IoU of the two predictions, 0 to 1. An image without colour has no row
        "gray".
    """
    about = known.set_index("id")[["modality", "group"]].to_dict("index")
    rows = []
    for place, name in enumerate(tqdm(data.ids, desc="varying", unit=" images", leave=False)):
        image = data.images[place]
        mask = read_mask(masks_dir / f"{name}.png")
        for variation, vary in VARIATIONS.items():
            if variation == "gray" and image.ndim == 2:
                continue
            agreement = iou(mask, network.predict(vary(image)) >= threshold)
            about_it = {"id": name, **about[name], "variation": variation}
            rows.append(about_it | {"agreement": agreement})
    return pd.DataFrame(rows)


def tabulate_invariance(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean agreement of `measure_invariance` by modality, and the lowest.

    One row a modality, in the order of `MODALITIES`; columns such as ("negative", "mean").
    """
    found = table.groupby(["modality", "variation"])["agreement"].agg(["mean", "min"]).unstack()
    modalities = [modality for modality, _ in by_modality(table)[:-1]]
    names = [name for name in VARIATIONS if name in set(table["variation"])]
    found = found.swaplevel(axis=1).reindex(index=modalities, columns=names, level=0)
    return found.rename(columns={"min": "lowest"}).rename_axis(columns=[None, None])


class Evaluation(NamedTuple):
    """What came out of predicting the test images: one row an image, and the pooled pixels."""

    table: pd.DataFrame
    calibration: Calibration


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
        Gets the id and the (H, W) bool mask of every image; see `masks.mask_folder`.

    Returns
    -------
    Evaluation
        The table has id, modality, group, dice, iou, precision, recall (0 to 1), fraction_true and
        fraction_pred (share of the pixels that is foreground), n_nuclei and diameter_px (median
        of the nuclei; NaN without any). The truth is what the network was trained to predict:
        whole nuclei or their interiors.

    Raises
    ------
    ValueError
        If there is no image, an image has no masks, `known` lacks one, or the threshold is out
        of range.
    """
    about = _check(data, known, threshold)
    target = get_target(network.settings.model_structure.output_params.target)
    rows, pooled = [], calibration(np.zeros(0), np.zeros(0, bool))
    for index, (name, probabilities) in enumerate(predict_each(network, data)):
        labels = data.labels[index]
        mask_true, mask_pred = target.true_mask(labels), probabilities >= threshold
        if write_mask is not None:
            write_mask(name, mask_pred)
        pooled = pooled.pool(calibration(probabilities, mask_true))
        diameters = measure_diameters([labels])
        sizes = (len(diameters), np.median(diameters) if len(diameters) else np.nan)
        row = {"id": name, **about[name], **score(mask_true, mask_pred)}
        rows.append(row | dict(zip(("n_nuclei", "diameter_px"), sizes, strict=True)))
    return Evaluation(pd.DataFrame(rows), pooled)


def predict_each(network, data: DataSet) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the id and the (H, W) probabilities of each image, under a progress bar."""
    for index, name in enumerate(tqdm(data.ids, desc="predicting", unit=" images", leave=False)):
        yield name, network.predict(data.images[index])


def score(mask_true: NDArray[np.bool_], mask_pred: NDArray[np.bool_]) -> dict[str, float]:
    """Return the scores of one mask, and which share of the image each mask covers.

    Examples
    --------
    >>> numbers = score(np.array([[True, True]]), np.array([[True, False]]))
    >>> numbers["iou"], numbers["fraction_true"], numbers["fraction_pred"]
    (0.5, 1.0, 0.5)
    """
    counts = confusion(mask_true, mask_pred)
    values = {name: getattr(counts, name) for name in ("dice", "iou", "precision", "recall")}
    fractions = {"fraction_true": mask_true.mean(), "fraction_pred": mask_pred.mean()}
    return values | {name: float(value) for name, value in fractions.items()}


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


def pick_examples(table: pd.DataFrame, by: str = "iou") -> pd.DataFrame:
    """Return the rows with the best, the median and the worst score, in a column `rank`.

    Two images give best and worst, a single one is the only one.

    Examples
    --------
    >>> table = pd.DataFrame({"id": list("abcd"), "iou": [0.1, 0.9, 0.5, 0.7]})
    >>> pick_examples(table)[["rank", "id"]].to_numpy().tolist()
    [['best', 'b'], ['median', 'd'], ['worst', 'a']]
    """
    ranked = _best_first(table, by)
    places = {"best": 0, "median": (len(ranked) - 1) // 2, "worst": len(ranked) - 1}
    if len(ranked) <= 2:
        places = {"only": 0} if len(ranked) == 1 else {"best": 0, "worst": 1}
    return ranked.iloc[list(places.values())].assign(rank=list(places))


def _best_first(table: pd.DataFrame, by: str) -> pd.DataFrame:
    return table.sort_values(by, ascending=False, kind="stable")


def pick_examples_by_modality(table: pd.DataFrame, by: str = "iou") -> pd.DataFrame:
    """Return best, median and worst of every modality, modalities in the order of `MODALITIES`."""
    parts = [pick_examples(part, by) for _, part in by_modality(table)[:-1]]
    return pd.concat(parts, ignore_index=True)


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
    parts: dict[str, dict[str, Any]] = {}
    for row in numbers.to_dict("records"):
        counts = {name: row[name] for name in ("n_images", "n_fields")}
        ends = {name: row[name] for name in ("estimate", "low", "high")}
        parts.setdefault(row["modality"], counts)[row["score"]] = ends
    ranked = _best_first(evaluation.table, "iou")["id"].tolist()
    return {
        **about,
        "overall": parts.pop(ALL),
        "modalities": parts,
        "calibration_error": round(evaluation.calibration.error, 4),
        "look_at_first": f"masks/{ranked[(len(ranked) - 1) // 2]}.png",
    }
