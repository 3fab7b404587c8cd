"""How our scores of single nuclei stand beside the published ones, and how readers are told.

Published figures are quoted as published. Ours come with what we do not know: a 95 % interval
over fields of view and, where several networks were trained, the range of their seeds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.analysis.modality import MODALITIES, display_name
from helpers.evaluation.matching import THRESHOLDS
from helpers.evaluation.nuclei import PUBLISHED_AP, ratio_interval, split_score
from helpers.run_folder import REFERENCE, resolve

AP_SCORES = tuple(f"ap_{round(100 * threshold)}" for threshold in THRESHOLDS[:9])
"""Average precision, pooled over the nuclei of all images, at IoU .50, .55, ... .90."""
MEAN_AP = "mean_ap_50"
"""Average precision at IoU .50, averaged over images."""
TOLD = ("ap_50", "ap_70", "ap_90", MEAN_AP)
"""What a table for readers shows unless it is asked for more."""
ENDS = ("low", "high", "seed_low", "seed_high")
"""The interval of a score, and its smallest and largest value among the seeds."""
PUBLISHED_MEAN_AP = {"EmbedSeg": 0.887}
"""AP at IoU .50, averaged over the images of StarDist's test, with test-time augmentation.

As published: Lalit et al. 2022, https://doi.org/10.1016/j.media.2022.102523
"""
PUBLISHED_RECALL = {
    "best of the Bowl's top three": (0.89, 0.88, 0.66, 0.77, 0.45),
    "their plain U-Net": (0.77, 0.53, 0.36, 0.13, 0.04),
}
"""Recall at IoU .70 of each modality, in the order of `MODALITIES`, on the Bowl's final test.

That test is of other images than ours, so these are no opponents on equal terms. The first row
takes the best of three networks for each modality. Caicedo et al. 2019,
https://doi.org/10.1038/s41592-019-0612-7
"""


def compare_published(
    tables: Mapping[str, pd.DataFrame],
    *,
    name: str = "ours",
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the average precision of the published methods and ours, one row a method.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As `helpers.evaluation.nuclei_scores.score_nuclei` gives it, one for each trained network
        ("seed"), all of the same images. Fields of view are those of the first.
    name : str
        What ours is called.
    n_resamples, seed : int
        Of the bootstrap over fields of view.

    Returns
    -------
    DataFrame
        method; published (bool); n_seeds, n_images, n_fields, n_nuclei (<NA> of others); each of
        `AP_SCORES` and `MEAN_AP` (0 to 1; NaN where it is not published), of ours the mean over
        the seeds; and for each of them `<score>_low` and `_high`, the 95 % interval with the
        nuclei of all seeds together (NaN of others, and where there is one field of view), and
        `_seed_low` and `_seed_high` (NaN where there is one seed).

    Raises
    ------
    ValueError
        If there is no table, or the tables are not of the same images.
    """
    rows = [_quote(method, AP_SCORES, values) for method, values in PUBLISHED_AP.items()]
    rows += [_quote(method, [MEAN_AP], [value]) for method, value in PUBLISHED_MEAN_AP.items()]
    rows.append(_measure_ours(_check_tables(tables), name, n_resamples, seed))
    columns = [*rows[-1]]
    counts = dict.fromkeys(columns[2:6], "Int64")
    return pd.DataFrame(rows, columns=columns).astype(counts)


def read_seeds(results: str | Path = "results") -> dict[str, pd.DataFrame]:
    """Return the scores of the reference network's finished trainings, by the name of their run.

    `results` is the folder of all runs; a relative path starts at the repository's root. Of
    `reference` and, beside it, `reference_seed_2` and so on, in this order, each gives what
    notebook 05 left in its `nuclei_scores.csv`. Runs without it are passed over.
    """
    folder = resolve(results)
    runs = [folder / REFERENCE, *sorted(folder.glob(f"{REFERENCE}_seed_*"))]
    files = [run / "nuclei_scores.csv" for run in runs]
    return {f.parent.name: pd.read_csv(f, dtype={"id": str}) for f in files if f.exists()}


def _quote(method: str, scores: Sequence[str], values: Sequence[float]) -> dict[str, Any]:
    return {"method": method, "published": True, **dict(zip(scores, values, strict=True))}


def _check_tables(tables: Mapping[str, pd.DataFrame]) -> list[pd.DataFrame]:
    """Return the tables in one order of images, with the fields of view of the first."""
    if not tables:
        raise ValueError("there is no table of scores to compare; pass one for each seed")
    first = next(iter(tables.values())).set_index("id")
    for name, table in tables.items():
        others = set(first.index) ^ set(table["id"])
        if others:
            raise ValueError(
                f"the scores of {name!r} are of other images ({len(others)} ids differ, e.g. "
                f"{min(others)!r}); compare networks that were tested on the same"
            )
    ordered = [table.set_index("id").loc[first.index] for table in tables.values()]
    return [table.assign(group=first["group"]) for table in ordered]


def _measure_ours(
    seeds: list[pd.DataFrame], name: str, n_resamples: int, seed: int
) -> dict[str, Any]:
    first, together = seeds[0], pd.concat(seeds)
    row = {"method": name, "published": False, "n_seeds": len(seeds), "n_images": len(first)}
    row |= {"n_fields": first["group"].nunique(), "n_nuclei": int(first["n_true"].sum())}
    bounds = {}
    for score in (*AP_SCORES, MEAN_AP):
        rng = np.random.default_rng(seed)
        found = ratio_interval(
            *split_score(together, score), together["group"], rng=rng, n_resamples=n_resamples
        )
        each = [_ratio(*split_score(table, score)) for table in seeds]
        spread = (min(each), max(each)) if len(seeds) > 1 else (np.nan, np.nan)
        row[score] = float(np.mean(each))
        ends = zip(ENDS, (found.low, found.high, *spread), strict=True)
        bounds |= {f"{score}_{end}": value for end, value in ends}
    return row | bounds


def _ratio(parts: pd.Series, wholes: pd.Series) -> float:
    return float(parts.sum() / wholes.sum()) if wholes.sum() else np.nan


def tabulate_published(
    comparison: pd.DataFrame, scores: Sequence[str] = TOLD, *, emphasis: str = ""
) -> pd.DataFrame:
    """Return the comparison as readers want it: ".864", ours ".871 (.842 to .897)".

    Parameters
    ----------
    comparison : DataFrame
        As `compare_published` gives it. Ours gets a second row where there are several seeds:
        from the lowest to the highest of them.
    scores : sequence of str
        Of `AP_SCORES` and `MEAN_AP`; one column each.
    emphasis : str
        Put before and after the best of each column, such as "**" in Markdown.

    Returns
    -------
    DataFrame of str
        What is not published is an empty text.
    """
    best = comparison[list(scores)].max()
    rows = []
    for row in comparison.to_dict("records"):
        marks = {score: emphasis if row[score] == best[score] else "" for score in scores}
        cells = {say_score(score): _tell(row, score, marks[score]) for score in scores}
        rows.append({"method": row["method"], **cells})
        if not row["published"] and row["n_seeds"] > 1:
            ranges = {say_score(score): _tell_range(row, score) for score in scores}
            told = f"{row['method']}, lowest to highest of {row['n_seeds']} seeds"
            rows.append({"method": told, **ranges})
    return pd.DataFrame(rows)


def say_score(score: str) -> str:
    """Return the name of a score as a reader says it.

    Examples
    --------
    >>> say_score("ap_70"), say_score("mean_ap_50"), say_score("recall_70"), say_score("dice")
    ('AP .70', 'averaged AP .50', 'recall .70', 'Dice')
    """
    name, _, percent = score.rpartition("_")
    if not percent.isdigit():
        return {"iou": "IoU", "dice": "Dice"}.get(score, score)
    return f"{name.replace('mean_', 'averaged ').replace('ap', 'AP')} .{percent}"


def _tell(row: Mapping[str, Any], score: str, mark: str) -> str:
    if np.isnan(row[score]):
        return ""
    if row["published"]:
        return f"{mark}{say_share(row[score])}{mark}"
    return say_interval(row[score], row[f"{score}_low"], row[f"{score}_high"], mark=mark)


def _tell_range(row: Mapping[str, Any], score: str) -> str:
    return f"{say_share(row[f'{score}_seed_low'])} to {say_share(row[f'{score}_seed_high'])}"


def compare_recall(summary: pd.DataFrame) -> pd.DataFrame:
    """Return our recall at IoU .70 of each modality beside the published.

    Parameters
    ----------
    summary : DataFrame
        As `helpers.evaluation.nuclei_scores.summarise_nuclei` gives it, or the summary of a
        cross-validation in the same columns: score, modality, n_images, n_fields, n_nuclei,
        estimate, low, high.

    Returns
    -------
    DataFrame
        One row a modality, in the order of `MODALITIES`: modality, n_images, n_fields, n_nuclei;
        estimate, low and high of ours; and a column for each of `PUBLISHED_RECALL`, which was
        measured on other images.

    Raises
    ------
    ValueError
        If the summary has no recall at .70.
    """
    chosen = summary[summary["score"] == "recall_70"].set_index("modality")
    modalities = [modality for modality in MODALITIES if modality in chosen.index]
    if not modalities:
        raise ValueError("the summary has no score 'recall_70'; summarise scores of single nuclei")
    sizes = ["n_images", "n_fields", "n_nuclei"]
    ours = chosen.loc[modalities, [*sizes, "estimate", "low", "high"]].astype(
        dict.fromkeys(sizes, int)
    )
    published = pd.DataFrame(PUBLISHED_RECALL, index=pd.Index(MODALITIES, name="modality"))
    return ours.join(published).reset_index()


def tabulate_recall(comparison: pd.DataFrame, *, emphasis: str = "") -> pd.DataFrame:
    """Return our recall beside the published as readers want it, the best of each modality marked.

    `comparison` is as `compare_recall` gives it; `emphasis` is put before and after the best, such
    as "**" in Markdown.
    """
    published = list(PUBLISHED_RECALL)
    rows = []
    for row in comparison.to_dict("records"):
        best = np.nanmax([row["estimate"], *(row[name] for name in published)])
        marks = {name: emphasis if row[name] == best else "" for name in ("estimate", *published)}
        ours = say_interval(row["estimate"], row["low"], row["high"], mark=marks["estimate"])
        quoted = {n: f"{marks[n]}{say_share(row[n], 2)}{marks[n]}" for n in published}
        images = f"{row['n_images']} ({row['n_fields']})"
        about = {"images (fields of view)": images, "nuclei": f"{row['n_nuclei']:,}"}
        rows.append({"modality": display_name(row["modality"]), **about, "ours": ours, **quoted})
    return pd.DataFrame(rows)


def say_share(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """Return a share of 1, or the difference of two, as readers of the field write it.

    Examples
    --------
    >>> say_share(0.8254), say_share(1.0), say_share(-0.0123, 2), say_share(0.0123, sign=True)
    ('.825', '1.000', '-.01', '+.012')
    """
    rounded = round(value, digits) + 0.0  # no minus before a zero
    return f"{rounded:{'+' if sign else ''}.{digits}f}".replace("0.", ".", 1)


def say_interval(
    estimate: float | None,
    low: float | None,
    high: float | None,
    *,
    mark: str = "",
    sign: bool = False,
) -> str:
    """Return an estimate with its interval, whose ends are None or NaN where one field says it all.

    `mark` is put before and after the estimate, `sign` gives a difference its plus or minus.

    Examples
    --------
    >>> say_interval(0.871, 0.842, 0.897), say_interval(0.388, None, None)
    ('.871 (.842 to .897)', '.388 (one field)')
    """
    if estimate is None or np.isnan(estimate):
        return ""
    told = f"{mark}{say_share(estimate, sign=sign)}{mark}"
    if low is None or np.isnan(low):
        return f"{told} (one field)"
    return f"{told} ({say_share(low, sign=sign)} to {say_share(high, sign=sign)})"
