"""What the scores of many images come to: by modality, with intervals over fields of view."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from helpers.analysis.modality import MODALITIES, display_name

ALL = "all"
"""The name under which the images of every modality together are summarised."""
_NAMES = {"iou": "IoU", "dice": "Dice", "pq": "PQ", "aji": "AJI", "bowl": "mean AP .50 to .95"}


class Interval(NamedTuple):
    """A mean or a ratio, and the ends of its bootstrap interval."""

    low: float
    estimate: float
    high: float


def bootstrap_interval(
    parts: Sequence[float],
    groups: Sequence[Any],
    wholes: Sequence[float] | None = None,
    *,
    seed: int = 0,
    n_resamples: int = 2000,
) -> Interval:
    """Return the sum of the parts over that of the wholes, with its 95 % bootstrap interval.

    Whole groups are drawn with replacement: tiles of one field of view are not independent, and
    drawing them one by one would give intervals that are too narrow. The ends are percentiles of
    the draws: Davison & Hinkley 1997, section 3.8, https://doi.org/10.1017/CBO9780511802843

    Parameters
    ----------
    parts : sequence of float, shape (n,)
        One finite number an image, such as its score or its pairs.
    groups : sequence, shape (n,)
        Images with an equal entry, a field of view, are drawn together.
    wholes : sequence of float, shape (n,), optional
        What the parts are divided by, such as the nuclei; ones by default, which gives the mean.

    Returns
    -------
    Interval
        `estimate` is NaN where the wholes add up to 0; `low` and `high` are NaN too where there
        is one group: one field says nothing about the next. Draws without any whole are left out.

    Raises
    ------
    ValueError
        If there is no part, one is not finite, or the lengths differ.

    Examples
    --------
    >>> bootstrap_interval([0.5, 0.5, 0.5], ["a", "b", "b"])
    Interval(low=0.5, estimate=0.5, high=0.5)
    """
    parts = _check_finite(parts)
    wholes = np.ones(len(parts)) if wholes is None else _check_finite(wholes)
    if not len(parts) == len(wholes) == len(groups):
        raise ValueError(
            f"`groups` (={len(groups)} entries) and `wholes` (={len(wholes)}) must have one for "
            f"each of the {len(parts)} `parts`"
        )
    places = np.unique(np.asarray(groups), return_inverse=True)[1]
    sums = [np.bincount(places, weights=values) for values in (parts, wholes)]
    estimate = float(_ratio_of_sums(*sums))
    if len(sums[0]) == 1 or np.isnan(estimate):
        return Interval(np.nan, estimate, np.nan)
    options = {"paired": True, "vectorized": True, "method": "percentile"}
    options |= {"n_resamples": n_resamples, "rng": np.random.default_rng(seed)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # draws without any whole
        drawn = stats.bootstrap(sums, _ratio_of_sums, **options).bootstrap_distribution
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Interval(float(low), estimate, float(high))


def _ratio_of_sums(parts, wholes, axis: int = -1):
    parts, wholes = parts.sum(axis=axis), wholes.sum(axis=axis)
    return np.divide(parts, wholes, out=np.full(np.shape(wholes), np.nan), where=wholes != 0)


def _check_finite(values: Sequence[float]) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        n_bad = np.count_nonzero(~np.isfinite(values))
        raise ValueError(
            f"the values to summarise (shape {values.shape}, {n_bad} not finite) must be one row "
            "of finite numbers; drop images without a score, and say so"
        )
    return values


def by_modality(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each modality that occurs, in the order of `MODALITIES`, then "all"."""
    parts = [(modality, table[table["modality"] == modality]) for modality in MODALITIES]
    return [(modality, part) for modality, part in parts if len(part)] + [(ALL, table)]


def split_score(table: pd.DataFrame, score: str) -> tuple[pd.Series, pd.Series]:
    """Return the two columns whose sums make a score: part and whole.

    Of a table of `helpers.evaluation.nuclei.score_nuclei`, `ap_70`, `recall_70`, `pq` and `aji`
    pool the nuclei of all images. `mean_ap_70`, and any other column, is averaged over images; an
    image without nuclei in which none was predicted counts 1.0.
    """
    name, _, percent = score.rpartition("_")
    if name in ("ap", "mean_ap"):
        tp = table[f"tp_{percent}"]
        unions = table["n_true"] + table["n_pred"] - tp
        if name == "mean_ap":
            return pd.Series(share_or_one(tp, unions), table.index), pd.Series(1, table.index)
        return tp, unions
    if name == "recall" and percent.isdigit():
        return table[f"tp_{percent}"], table["n_true"]
    if score == "pq":
        return 2 * table["iou_sum"], table["n_true"] + table["n_pred"]
    if score == "aji":
        return table["aji_intersection"], table["aji_union"]
    return table[score], pd.Series(1, table.index)


def share_or_one(parts, wholes) -> np.ndarray:
    """Return part over whole of each image, float64; 1.0 where there is nothing at all."""
    wholes = np.asarray(wholes, dtype=float)
    return np.divide(parts, wholes, out=np.ones_like(wholes), where=wholes > 0)


def summarise_scores(
    table: pd.DataFrame,
    scores: Sequence[str] = ("dice", "iou"),
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return each score with its 95 % interval, for every modality that occurs and for all.

    Parameters
    ----------
    table : DataFrame
        One row an image, with modality and group (its field of view), as
        `helpers.evaluation.masks.evaluate` or `helpers.evaluation.nuclei.score_nuclei` give it.
    scores : sequence of str
        As `split_score` takes them.

    Returns
    -------
    DataFrame
        Columns score, modality, n_images, n_fields, n_nuclei (of a table of `score_nuclei`),
        estimate, low, high (of `bootstrap_interval`). A pooled score without nuclei is NaN.
    """
    rows = []
    for score in scores:
        for modality, part in by_modality(table):
            parts, wholes = split_score(part, score)
            found = bootstrap_interval(
                parts, part["group"], wholes, seed=seed, n_resamples=n_resamples
            )
            counts = {"n_images": len(part), "n_fields": part["group"].nunique()}
            if "n_true" in part:
                counts["n_nuclei"] = int(part["n_true"].sum())
            ends = {"estimate": found.estimate, "low": found.low, "high": found.high}
            rows.append({"score": score, "modality": modality, **counts, **ends})
    return pd.DataFrame(rows)


def format_interval(estimate: float, low: float, high: float, digits: int = 2) -> str:
    """Return an estimate with its interval, as a reader finds it in a table.

    Examples
    --------
    >>> format_interval(0.871, 0.842, 0.897), format_interval(0.388, np.nan, np.nan)
    ('0.87 (0.84 to 0.90)', '0.39 (one field)')
    """
    if np.isnan(estimate):
        return ""
    ends = "one field" if np.isnan(low) else f"{low:.{digits}f} to {high:.{digits}f}"
    return f"{estimate:.{digits}f} ({ends})"


def name_score(score: str) -> str:
    """Return the name of a score as it stands in a table or on an axis.

    Examples
    --------
    >>> name_score("ap_70"), name_score("mean_ap_50"), name_score("recall_70"), name_score("dice")
    ('AP .70', 'averaged AP .50', 'recall .70', 'Dice')
    """
    name, _, percent = score.rpartition("_")
    if not percent.isdigit():
        return _NAMES.get(score, score)
    return f"{name.replace('mean_', 'averaged ').replace('ap', 'AP')} .{percent}"


def tabulate_summary(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the summary for a reader: a row a modality, "0.81 (0.75 to 0.86)" in a cell."""
    ends = summary[["estimate", "low", "high"]].itertuples(index=False)
    cells = summary.assign(
        cell=[format_interval(*row) for row in ends],
        score=summary["score"].map(name_score),
        modality=summary["modality"].map(display_name),
    )
    wide = cells.pivot(index="modality", columns="score", values="cell")
    wide = wide.loc[cells["modality"].unique(), cells["score"].unique()]
    counts = cells.drop_duplicates("modality").set_index("modality")[["n_images", "n_fields"]]
    return counts.rename(columns={"n_images": "images", "n_fields": "fields"}).join(wide)
