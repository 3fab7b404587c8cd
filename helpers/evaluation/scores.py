"""How good a trained network is: per image, per kind and overall, with what we cannot know.

Images go through one at a time. Their masks are written as they come; probabilities are not kept.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from helpers.data.data_set import DataSet
from helpers.data.maps import labels_to_target_mask
from helpers.evaluation.masks import MaskWriter, read_mask
from helpers.evaluation.metrics import (
    Calibration,
    bootstrap_interval,
    calibration,
    dice,
    iou,
    precision,
    recall,
)
from helpers.exploration.kinds import KINDS, say_kind
from helpers.run_folder import RunFolder

SCORES = {"dice": dice, "iou": iou, "precision": precision, "recall": recall}
ALL = "all"
"""The name under which the images of every kind together are summarised."""


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
        Has the columns id, kind and group for all of them, as a run's `split.csv`.
    threshold : float
        A pixel is nucleus where its probability is at least this, 0 to 1, ends excluded.
    write_mask : callable, optional
        Gets the id and the (H, W) bool mask of every image; see `masks.mask_folder`.

    Returns
    -------
    Evaluation
        The table has id, kind, group, dice, iou, precision, recall (0 to 1), fraction_true and
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
    target = network.settings.model_structure.output_params.target
    rows, pooled = [], 0
    for index, (name, probabilities) in enumerate(predict_each(network, data)):
        labels = data.labels[index]
        mask_true, mask_pred = labels_to_target_mask(labels, target), probabilities >= threshold
        if write_mask is not None:
            write_mask(name, mask_pred)
        pooled = pooled + calibration(probabilities, mask_true)
        rows.append({"id": name, **about[name], **score(mask_true, mask_pred), **_size(labels)})
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
    values = {name: measure(mask_true, mask_pred) for name, measure in SCORES.items()}
    fractions = {"fraction_true": mask_true.mean(), "fraction_pred": mask_pred.mean()}
    return values | {name: float(value) for name, value in fractions.items()}


def _size(labels: NDArray[np.integer]) -> dict[str, float]:
    """Return the number of nuclei and their median diameter: of the circle of equal area."""
    areas_px = np.bincount(labels.ravel())[1:]
    areas_px = areas_px[areas_px > 0]
    diameter = float(np.median(np.sqrt(4 * areas_px / np.pi))) if areas_px.size else float("nan")
    return {"n_nuclei": len(areas_px), "diameter_px": diameter}


def _check(data: DataSet, known: pd.DataFrame, threshold: float) -> dict[str, dict[str, Any]]:
    """Return kind and group by id, or refuse what cannot be evaluated."""
    if not 0 < threshold < 1:
        raise ValueError(f"`threshold` (={threshold}) must lie between 0 and 1; try 0.5")
    if not len(data):
        raise ValueError(
            "there is no test image; raise test_split_ratio in the settings file and execute "
            "notebook 01 with a new run"
        )
    if not data.table["labelled"].all():
        name = data.table.loc[~data.table["labelled"], "id"].iloc[0]
        raise ValueError(f"{name!r} has no masks to compare with; pass `data.labelled`")
    about = known.set_index("id")[["kind", "group"]].to_dict("index")
    unknown = [name for name in data.ids if name not in about]
    if unknown:
        raise ValueError(
            f"kind and group of {len(unknown)} images are not known (e.g. {unknown[0]!r}); "
            "execute notebook 01 with the same run"
        )
    return about


def summarise_scores(
    table: pd.DataFrame,
    scores: tuple[str, ...] = ("dice", "iou"),
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return mean and 95 % interval of each score, for every kind that occurs and for all images.

    Parameters
    ----------
    table : DataFrame
        As `evaluate` gives it.
    scores : tuple of str
        Columns of `table`.
    n_resamples : int
        Draws of the bootstrap, in which whole fields of view are drawn.
    seed : int
        Gives the same intervals for the same table.

    Returns
    -------
    DataFrame
        Columns score, kind, n_images, n_fields, estimate, low, high; kinds in the order of
        `helpers.exploration.kinds.KINDS`, then "all". `low` and `high` are NaN where there is
        one field of view: one field says nothing about the next.
    """
    kinds = [kind for kind in KINDS if (table["kind"] == kind).any()]
    rows = []
    for name in scores:
        for kind in [*kinds, ALL]:
            chosen = table if kind == ALL else table[table["kind"] == kind]
            rows.append({"score": name, "kind": kind} | _interval(chosen, name, n_resamples, seed))
    return pd.DataFrame(rows)


def _interval(table: pd.DataFrame, name: str, n_resamples: int, seed: int) -> dict[str, float]:
    n_fields = table["group"].nunique()
    found = bootstrap_interval(
        table[name].to_numpy(),
        groups=table["group"].to_numpy(),
        n_resamples=n_resamples,
        rng=np.random.default_rng(seed),
    )
    low, high = (found.low, found.high) if n_fields > 1 else (np.nan, np.nan)
    counts = {"n_images": len(table), "n_fields": n_fields}
    return counts | {"estimate": found.estimate, "low": low, "high": high}


def tabulate_summary(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the summary as a reader wants it: one row a kind, "0.81 [0.75, 0.86]" in a cell."""

    def read(row) -> str:
        if np.isnan(row["low"]):
            return f"{row['estimate']:.2f} [one field]"
        return f"{row['estimate']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"

    told = summary.assign(text=summary.apply(read, axis=1), kind=summary["kind"].map(say_kind))
    wide = told.pivot(index=["kind", "n_images", "n_fields"], columns="score", values="text")
    ordered = wide.loc[list(told["kind"].unique()), list(told["score"].unique())]
    return ordered.reset_index().rename_axis(columns=None)


def missing_kinds(table: pd.DataFrame) -> list[str]:
    """Return the kinds of which there is no image to test on."""
    return [kind for kind in KINDS if not (table["kind"] == kind).any()]


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


def pick_examples_by_kind(table: pd.DataFrame, by: str = "iou") -> pd.DataFrame:
    """Return best, median and worst of every kind, kinds in the order of `KINDS`."""
    kinds = [table[table["kind"] == kind] for kind in KINDS]
    return pd.concat([pick_examples(part, by) for part in kinds if len(part)], ignore_index=True)


def read_examples(
    data: DataSet, ids: Sequence[str], masks_dir: Path, target: str = "foreground"
) -> list[tuple[NDArray, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return image, true mask and predicted mask, read back from its PNG, of each id."""
    places = [data.ids.index(name) for name in ids]
    return [
        (
            data.images[place],
            labels_to_target_mask(data.labels[place], target),
            read_mask(masks_dir / f"{data.ids[place]}.png"),
        )
        for place in places
    ]


def summarise_training(run: RunFolder) -> dict[str, Any]:
    """Return epochs, seconds and device of the run's training, as far as they are recorded."""
    history = run.read_csv("history.csv")
    known = run.file("training.json").exists()
    device = run.read_json("training.json")["device"] if known else "not recorded"
    return {"epochs": len(history), "seconds": float(history["seconds"].sum()), "device": device}


def describe_evaluation(
    evaluation: Evaluation, summary: pd.DataFrame, **about: Any
) -> dict[str, Any]:
    """Return the content of `metrics.json`: `about`, then every number of the summary.

    "overall" and each entry of "kinds" have n_images, n_fields and, by score, estimate, low and
    high; the ends are None where there is a single field of view. "look_at_first" is the mask of
    the median test image, from the run's folder.
    """
    by_kind: dict[str, dict[str, Any]] = {}
    for row in summary.to_dict("records"):
        entry = by_kind.setdefault(
            row["kind"], {name: row[name] for name in ("n_images", "n_fields")}
        )
        ends = {end: None if np.isnan(row[end]) else round(row[end], 4) for end in ("low", "high")}
        entry[row["score"]] = {"estimate": round(row["estimate"], 4), **ends}
    ranked = _best_first(evaluation.table, "iou")["id"]
    return {
        **about,
        "overall": by_kind.pop(ALL),
        "kinds": by_kind,
        "calibration_error": round(evaluation.calibration.error, 4),
        "look_at_first": f"masks/{ranked.iloc[(len(ranked) - 1) // 2]}.png",
    }
