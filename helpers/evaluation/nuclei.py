"""Every image of a data set taken apart into nuclei, and matched with its truth."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from helpers.analysis.modality import MODALITIES
from helpers.data.data_set import DataSet
from helpers.evaluation.masks import Interval
from helpers.evaluation.matching import (
    FATES_PRED,
    FATES_TRUE,
    THRESHOLDS,
    Matching,
    match,
    share_or_one,
)
from helpers.evaluation.scores import ALL
from helpers.network.prediction import Network


class MatchedImage(NamedTuple):
    """One image, its modality, its field of view (`group`) and how its nuclei were matched."""

    id: str
    modality: str
    group: Any
    matching: Matching


def match_network(network: Network, data: DataSet, known: pd.DataFrame) -> list[MatchedImage]:
    """Return the matching of every image of `data` with what the network makes of it."""
    return match_data_set(lambda place: network.segment(data.images[place]), data, known)


def match_data_set(
    segment: Callable[[int], NDArray], data: DataSet, known: pd.DataFrame
) -> list[MatchedImage]:
    """Return the matching of every image of `data`, under a progress bar.

    Parameters
    ----------
    segment : callable
        Takes the place of an image in `data`, gives its predicted labels, (H, W) int.
    data : DataSet
        Labelled images.
    known : DataFrame
        Has the columns id, modality and group for all of them, as a run's `split.csv`.
    """
    about = known.set_index("id")[["modality", "group"]].to_dict("index")

    def each() -> Iterator[tuple]:
        places = tqdm(range(len(data)), desc="segmenting", unit=" images", leave=False)
        for place in places:
            name = data.ids[place]
            yield (
                name,
                about[name]["modality"],
                about[name]["group"],
                data.labels[place],
                segment(place),
            )

    return match_images(each())


SCORES = ("ap_50", "ap_70", "ap_90", "mean_ap_50", "bowl", "recall_70", "pq", "aji")
"""What `summarise_nuclei` tells. All are pooled over nuclei but mean_ap_50 and bowl."""
ERRORS = ("merged", "split", "inaccurate", "missed", "spurious")
"""The ways to go wrong: four of a true nucleus, and an object where there is none."""
SIZE_EDGES_PX = (0, 8, 11.3, 16, 22.6, 32, 45.3, 64, np.inf)
"""Ends of the size classes; from one to the next the area of a nucleus doubles."""
PUBLISHED_AP = {
    "U-Net, 2 classes": (0.6739, 0.6295, 0.5975, 0.5650, 0.5339, 0.4819, 0.4151, 0.3248, 0.2032),
    "U-Net, 3 classes": (0.8060, 0.7753, 0.7431, 0.7011, 0.6543, 0.5777, 0.4910, 0.3738, 0.2258),
    "Mask R-CNN": (0.8323, 0.8051, 0.7728, 0.7299, 0.6838, 0.5974, 0.4893, 0.3525, 0.1891),
    "StarDist": (0.8641, 0.8361, 0.8043, 0.7545, 0.6850, 0.5862, 0.4495, 0.2865, 0.1191),
}
"""Pooled AP at IoU .50, .55, ... .90 on 50 fluorescence images of the Data Science Bowl 2018.

Table 1 of Schmidt et al. 2018, https://doi.org/10.1007/978-3-030-00934-2_30
"""
_COLUMNS = [f"tp_{round(100 * threshold)}" for threshold in THRESHOLDS]
_SIZE_COLUMNS = [
    *("threshold", "from_px", "to_px", "diameter_px", "n_nuclei", "n_fields"),
    *("estimate", "low", "high"),
]
_RENAMED = {"inaccurate": "inaccurate_pred"}  # of predicted objects; both sides have the word


def match_images(
    images: Iterable[tuple[str, str, Any, NDArray[np.integer], NDArray[np.integer]]],
) -> list[MatchedImage]:
    """Return the matching of every image; label images go through one at a time.

    Parameters
    ----------
    images : iterable of (id, modality, group, labels_true, labels_pred)
        May be a generator. The label images are as `helpers.evaluation.instances.match` takes
        them; `group` is the field of view, which several images may share.

    Raises
    ------
    TypeError, ValueError
        As `match`, with the image named in a note.
    """
    matched = []
    for name, modality, group, labels_true, labels_pred in images:
        try:
            found = match(labels_true, labels_pred)
        except (TypeError, ValueError) as error:
            error.add_note(f"It happened at image {name!r}.")
            raise
        matched.append(MatchedImage(name, modality, group, found))
    return matched


def score_nuclei(matched: Iterable[MatchedImage]) -> pd.DataFrame:
    """Return the scores of every image and the counts from which they can be pooled.

    Returns
    -------
    DataFrame
        One row an image. id, modality, group; n_true, n_pred; tp_50, tp_55, ... tp_95 (pairs of at
        least that IoU); ap_50, ap_70, ap_90, f1_50, bowl, pq, aji (0 to 1; 1.0 for an image
        without nuclei in which none was predicted); the fates merged, split, inaccurate, missed
        (with tp_50 they add up to n_true) and merging, fragment, inaccurate_pred, spurious (with
        tp_50, to n_pred); n_merges, n_splits; iou_sum, aji_intersection and aji_union (px).

    Raises
    ------
    ValueError
        If there is no image.
    """
    table = pd.DataFrame([_count_nuclei(image) for image in matched])
    if table.empty:
        raise ValueError("there is no image to score; call `match_images` on at least one")
    nuclei = table["n_true"] + table["n_pred"]
    unions = {tp: nuclei - table[tp] for tp in _COLUMNS}
    precisions = {tp: share_or_one(table[tp], unions[tp]) for tp in _COLUMNS}
    scores = {f"ap_{percent}": precisions[f"tp_{percent}"] for percent in (50, 70, 90)} | {
        "f1_50": share_or_one(2 * table["tp_50"], nuclei),
        "bowl": np.mean(list(precisions.values()), axis=0),
        "pq": share_or_one(2 * table["iou_sum"], nuclei),
        "aji": share_or_one(table["aji_intersection"], table["aji_union"]),
    }
    after = table.columns.get_loc(_COLUMNS[-1]) + 1
    return pd.concat(
        [table.iloc[:, :after], pd.DataFrame(scores, table.index), table.iloc[:, after:]], axis=1
    )


def _count_nuclei(image: MatchedImage) -> dict[str, Any]:
    found = image.matching
    lost = {fate: int((found.fates_true == fate).sum()) for fate in FATES_TRUE[1:]}
    false = {
        _RENAMED.get(fate, fate): int((found.fates_pred == fate).sum()) for fate in FATES_PRED[1:]
    }
    return {
        "id": image.id,
        "modality": image.modality,
        "group": image.group,
        "n_true": found.n_true,
        "n_pred": found.n_pred,
        **dict(zip(_COLUMNS, found.tp.tolist(), strict=True)),
        **lost,
        **false,
        "n_merges": found.n_merges,
        "n_splits": found.n_splits,
        "iou_sum": found.iou_sum,
        "aji_intersection": found.aji_intersection,
        "aji_union": found.aji_union,
    }


def nuclei_table(matched: Iterable[MatchedImage]) -> pd.DataFrame:
    """Return one row a true nucleus of all images.

    Returns
    -------
    DataFrame
        id, modality, group of its image; label; area_px; diameter_px (of the circle of equal area);
        iou (with its partner, 0 without one); fate (one of `instances.FATES_TRUE`). Without any
        nucleus the table is empty but has these columns.
    """
    parts = [
        pd.DataFrame(
            {
                "id": image.id,
                "modality": image.modality,
                "group": image.group,
                "label": image.matching.ids_true,
                "area_px": image.matching.areas_true,
                "diameter_px": np.sqrt(4 * image.matching.areas_true / np.pi),
                "iou": image.matching.iou_true,
                "fate": image.matching.fates_true.astype(object),
            }
        )
        for image in matched
    ]
    if not parts:
        raise ValueError("there is no image to tabulate; call `match_images` on at least one")
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]


def ratio_interval(
    parts: Sequence[float],
    wholes: Sequence[float],
    groups: Sequence[Any],
    *,
    rng: np.random.Generator,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Return the sum of the parts over the sum of the wholes, with its bootstrap interval.

    Whole groups are drawn, all draws at once. With ones as `wholes` the ratio is the mean, and
    this is `helpers.evaluation.metrics.bootstrap_interval`, draw by draw.

    Parameters
    ----------
    parts, wholes : sequence of float, shape (n,)
        Of each image, for example its pairs and its nuclei.
    groups : sequence, shape (n,)
        Images with an equal entry are drawn together.
    rng : numpy.random.Generator
        The source of the draws.
    n_resamples : int
        Number of draws, at least 1.
    level : float
        Coverage of the interval, between 0 and 1.

    Returns
    -------
    Interval
        `estimate` is NaN where the wholes add up to 0. `low` and `high` are NaN too where there
        is one group: one field says nothing about the next. A draw without any whole, as of
        fields without nuclei, is left out.

    References
    ----------
    Davison & Hinkley 1997, section 3.8, https://doi.org/10.1017/CBO9780511802843
    """
    places = pd.factorize(np.asarray(groups), sort=True)[0]
    parts = np.bincount(places, weights=np.asarray(parts, dtype=float))
    wholes = np.bincount(places, weights=np.asarray(wholes, dtype=float))
    if not wholes.sum():
        return Interval(np.nan, np.nan, np.nan)
    estimate = float(parts.sum() / wholes.sum())
    if len(wholes) == 1:
        return Interval(np.nan, estimate, np.nan)
    draws = rng.integers(len(wholes), size=(n_resamples, len(wholes)))
    drawn = wholes[draws].sum(axis=1)
    ratios = parts[draws].sum(axis=1)[drawn > 0] / drawn[drawn > 0]
    if not len(ratios):
        return Interval(np.nan, estimate, np.nan)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), estimate, float(high))


def summarise_nuclei(
    table: pd.DataFrame, *, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Return each of `SCORES` with its 95 % interval, for every modality that occurs and for all.

    Parameters
    ----------
    table : DataFrame
        As `score_nuclei` gives it.
    n_resamples : int
        Draws of the bootstrap, in which whole fields of view are drawn.
    seed : int
        Gives the same intervals for the same table.

    Returns
    -------
    DataFrame
        Columns score, modality, n_images, n_fields, n_nuclei, estimate, low, high; modalities in
        the order of `helpers.analysis.modality.MODALITIES`, then "all". ap_50, ap_70, ap_90,
        recall_70, pq and aji pool the nuclei of the images, and are NaN where there are none;
        mean_ap_50 and bowl average over the images. `low` and `high` are NaN where there is one
        field of view. `helpers.evaluation.scores.tabulate_summary` makes it a table for readers.
    """
    rows = []
    for score in SCORES:
        for modality, chosen in _by_modality(table):
            parts, wholes = split_score(chosen, score)
            rng = np.random.default_rng(seed)
            found = ratio_interval(parts, wholes, chosen["group"], n_resamples=n_resamples, rng=rng)
            rows.append({"score": score, "modality": modality, **_sizes(chosen), **_ends(found)})
    return pd.DataFrame(rows)


def _by_modality(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    modalities = [(modality, table[table["modality"] == modality]) for modality in MODALITIES]
    return [(modality, chosen) for modality, chosen in modalities if len(chosen)] + [(ALL, table)]


def split_score(table: pd.DataFrame, score: str) -> tuple[pd.Series, pd.Series]:
    """Return the two columns of `score_nuclei` whose sums make the score: part and whole."""
    nuclei = table["n_true"] + table["n_pred"]
    name, _, percent = score.rpartition("_")
    if name == "ap":
        return table[f"tp_{percent}"], nuclei - table[f"tp_{percent}"]
    if name == "recall":
        return table[f"tp_{percent}"], table["n_true"]
    if score == "pq":
        return 2 * table["iou_sum"], nuclei
    if score == "aji":
        return table["aji_intersection"], table["aji_union"]
    return table[score.removeprefix("mean_")], pd.Series(1, table.index)


def _sizes(table: pd.DataFrame) -> dict[str, int]:
    return {
        "n_images": len(table),
        "n_fields": table["group"].nunique(),
        "n_nuclei": int(table["n_true"].sum()),
    }


def _ends(found: Interval) -> dict[str, float]:
    return {"estimate": found.estimate, "low": found.low, "high": found.high}


def precision_curve(table: pd.DataFrame) -> pd.DataFrame:
    """Return the pooled average precision at each of the ten thresholds, modality by modality.

    Columns modality, threshold (.50 to .95), ap (0 to 1; NaN without nuclei); modalities in the
    order of `MODALITIES`, then "all". `table` is as `score_nuclei` gives it.
    """
    rows = []
    for modality, chosen in _by_modality(table):
        for column, threshold in zip(_COLUMNS, THRESHOLDS, strict=True):
            tp, unions = split_score(chosen, column.replace("tp", "ap"))
            ap = tp.sum() / unions.sum() if unions.sum() else np.nan
            rows.append({"modality": modality, "threshold": threshold, "ap": ap})
    return pd.DataFrame(rows)


def tabulate_errors(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many errors of each type there are per 100 true nuclei, modality by modality.

    Columns modality, n_images, n_true, then `ERRORS`: true nuclei that were merged, split, outlined
    inaccurately or missed, and spurious objects (NaN without true nuclei). Merging and inaccurate
    objects and fragments are the other side of the same errors and not told again. Modalities in
    the order of `MODALITIES`, then "all"; `table` is as `score_nuclei` gives it.
    """
    rows = []
    for modality, chosen in _by_modality(table):
        n_true = int(chosen["n_true"].sum())
        shares = {
            error: 100 * chosen[error].sum() / n_true if n_true else np.nan for error in ERRORS
        }
        rows.append({"modality": modality, "n_images": len(chosen), "n_true": n_true, **shares})
    return pd.DataFrame(rows)


def score_by_size(
    nuclei: pd.DataFrame,
    *,
    edges_px: Sequence[float] = SIZE_EDGES_PX,
    thresholds: Sequence[float] = (0.5, 0.7),
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return which share of the true nuclei is found, by their diameter.

    Parameters
    ----------
    nuclei : DataFrame
        As `nuclei_table` gives it.
    edges_px : sequence of float
        Rising ends of the classes, px; a class includes its lower end.
    thresholds : sequence of float
        A nucleus is found where its IoU is at least this, .5 to 1.
    n_resamples, seed : int
        Of the bootstrap over fields of view.

    Returns
    -------
    DataFrame
        Columns threshold, from_px, to_px, diameter_px (median of the class), n_nuclei, n_fields,
        estimate, low, high (0 to 1; the ends NaN where there is one field). Classes without
        nuclei are left out.

    Raises
    ------
    ValueError
        If the edges do not rise or a threshold is out of range.
    """
    edges = _check_sizes(edges_px, thresholds)
    classes = pd.cut(nuclei["diameter_px"], edges, right=False, labels=False)
    rows = []
    for threshold in thresholds:
        for place, chosen in nuclei.groupby(classes):
            found = ratio_interval(
                chosen["iou"] >= threshold,
                np.ones(len(chosen)),
                chosen["group"],
                n_resamples=n_resamples,
                rng=np.random.default_rng(seed),
            )
            low_px, high_px = edges[int(place)], edges[int(place) + 1]
            counts = (chosen["diameter_px"].median(), len(chosen), chosen["group"].nunique())
            ends = (found.estimate, found.low, found.high)
            rows.append((threshold, low_px, high_px, *counts, *ends))
    return pd.DataFrame(rows, columns=_SIZE_COLUMNS)


def _check_sizes(edges_px: Sequence[float], thresholds: Sequence[float]) -> NDArray[np.float64]:
    edges = np.asarray(edges_px, dtype=float)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"`edges_px` (={edges_px}) must be two or more rising numbers, in pixels")
    for threshold in thresholds:
        if not 0.5 <= threshold <= 1:
            raise ValueError(f"`thresholds` (={threshold}) must lie between 0.5 and 1; try 0.5")
    return edges


def describe_nuclei(summary: pd.DataFrame) -> dict[str, Any]:
    """Return what `metrics.json` holds of single nuclei: every number of `summarise_nuclei`.

    By modality, then "all": n_images, n_fields, n_nuclei and, by score, estimate, low and high.
    What is unknown is None: the ends where there is one field of view, all three where there are
    no nuclei.
    """
    described: dict[str, Any] = {}
    for row in summary.to_dict("records"):
        sizes = {name: row[name] for name in ("n_images", "n_fields", "n_nuclei")}
        numbers = {name: row[name] for name in ("estimate", "low", "high")}
        known = {k: None if np.isnan(v) else round(v, 4) for k, v in numbers.items()}
        described.setdefault(row["modality"], sizes)[row["score"]] = known
    return described
