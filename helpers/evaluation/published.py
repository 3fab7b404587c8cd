"""Our scores of single nuclei beside the published ones, on the same images.

Published figures are quoted with their source. Ours come with a 95 % interval over fields of view
and with the range of their seeds. `python -m helpers.evaluation.published` writes the comparison of
the reference network's seeds again, as `results/comparison.csv`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.analysis.modality import MODALITIES
from helpers.evaluation.matching import THRESHOLDS
from helpers.evaluation.summary import bootstrap_interval, format_interval, name_score, split_score
from helpers.run_folder import REFERENCE, resolve

PERCENTS = tuple(round(100 * threshold) for threshold in THRESHOLDS[:9])
"""IoU .50, .55, ... .90, at which others have published."""
POOLED = tuple(f"ap_{percent}" for percent in PERCENTS)
"""Average precision, pooled over the nuclei of all images."""
AVERAGED = (*(f"mean_ap_{percent}" for percent in PERCENTS), "bowl")
"""Average precision, averaged over images; "bowl" is its mean over IoU .50, .55, ... .95."""
ENDS = ("low", "high", "seed_low", "seed_high")
"""The interval of a score, and its smallest and largest value among the seeds."""
COMPARISON = "results/comparison.csv"

SCHMIDT = "Schmidt et al. 2018, table 1, https://doi.org/10.1007/978-3-030-00934-2_30"
LALIT = "Lalit et al. 2022, test-time augmentation, https://doi.org/10.1016/j.media.2022.102523"
ARCHIT = "Archit & Pape 2026, https://doi.org/10.48550/arXiv.2603.17845"
PUBLISHED_AP = {
    "U-Net, 2 classes": (0.6739, 0.6295, 0.5975, 0.5650, 0.5339, 0.4819, 0.4151, 0.3248, 0.2032),
    "U-Net, 3 classes": (0.8060, 0.7753, 0.7431, 0.7011, 0.6543, 0.5777, 0.4910, 0.3738, 0.2258),
    "Mask R-CNN": (0.8323, 0.8051, 0.7728, 0.7299, 0.6838, 0.5974, 0.4893, 0.3525, 0.1891),
    "StarDist": (0.8641, 0.8361, 0.8043, 0.7545, 0.6850, 0.5862, 0.4495, 0.2865, 0.1191),
}
"""`POOLED` on 50 fluorescence images of the Data Science Bowl 2018, StarDist's test (`SCHMIDT`)."""
_FIVE = ("mean_ap_50", "mean_ap_60", "mean_ap_70", "mean_ap_80", "mean_ap_90")
PUBLISHED_AVERAGED = (
    ("EmbedSeg", _FIVE[:1], (0.887,), LALIT),
    ("PatchPerPix", _FIVE, (0.868, 0.827, 0.755, 0.635, 0.379), "README of PatchPerPix"),
    (
        "StarDist, trained again",
        _FIVE,
        (0.873, 0.820, 0.695, 0.477, 0.188),
        "README of stardist_pytorch, 2022",
    ),
    ("micro-SAM, prompts generated", ("bowl",), (0.665,), ARCHIT),
    ("Cellpose-SAM", ("bowl",), (0.656,), ARCHIT),
    ("micro-SAM", ("bowl",), (0.654,), ARCHIT),
    ("CellSAM", ("bowl",), (0.634,), ARCHIT),
    ("Cellpose 3", ("bowl",), (0.484,), ARCHIT),
)
"""Averages over the same images: method, scores, values, source.

All were trained on tiles of the fields of view that these images show; ours was not.
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


def read_seeds(results: str | Path = "results") -> dict[str, pd.DataFrame]:
    """Return the scores of the reference network's finished trainings, by the name of their run.

    Of `reference`, `reference_seed_2` and so on in the folder `results`, each gives what notebook
    08 left in its `nuclei_scores.csv`. Runs without it are passed over.
    """
    folder = resolve(results)
    runs = [folder / REFERENCE, *sorted(folder.glob(f"{REFERENCE}_seed_*"))]
    files = [run / "nuclei_scores.csv" for run in runs]
    return {f.parent.name: pd.read_csv(f, dtype={"id": str}) for f in files if f.exists()}


def compare_published(
    tables: Mapping[str, pd.DataFrame],
    *,
    name: str = "ours",
) -> pd.DataFrame:
    """Return the average precision of the published methods and ours, one row a method.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As `helpers.evaluation.nuclei.score_nuclei` gives it, one for each trained network ("seed"),
        all of the same images. Fields of view are those of the first.
    name : str
        What ours is called.

    Returns
    -------
    DataFrame
        method; source (empty of ours); n_seeds, n_images, n_fields, n_nuclei (<NA> of others); each
        of `POOLED` and `AVERAGED` (0 to 1; NaN where it is not published), of ours the mean over
        the seeds; and for each of them `<score>_low` and `_high`, the 95 % interval with the
        nuclei of all seeds together, and `_seed_low` and `_seed_high`.

    Raises
    ------
    ValueError
        If there is no table, or the tables are not of the same images.
    """
    quoted = [(method, POOLED, values, SCHMIDT) for method, values in PUBLISHED_AP.items()]
    rows = [
        {"method": method, "source": source} | dict(zip(scores, values, strict=True))
        for method, scores, values, source in (*quoted, *PUBLISHED_AVERAGED)
    ]
    rows.append(_measure_ours(_check_tables(tables), name))
    columns = [*rows[-1]]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:6], "Int64"))


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


def _measure_ours(seeds: list[pd.DataFrame], name: str) -> dict[str, Any]:
    first, together = seeds[0], pd.concat(seeds)
    row = {"method": name, "source": "", "n_seeds": len(seeds), "n_images": len(first)}
    row |= {"n_fields": first["group"].nunique(), "n_nuclei": int(first["n_true"].sum())}
    bounds = {}
    for score in (*POOLED, *AVERAGED):
        parts, wholes = split_score(together, score)
        found = bootstrap_interval(parts, together["group"], wholes)
        each = [_ratio(*split_score(table, score)) for table in seeds]
        spread = (min(each), max(each)) if len(seeds) > 1 else (np.nan, np.nan)
        row[score] = float(np.mean(each))
        ends = zip(ENDS, (found.low, found.high, *spread), strict=True)
        bounds |= {f"{score}_{end}": value for end, value in ends}
    return row | bounds


def _ratio(parts: pd.Series, wholes: pd.Series) -> float:
    return float(parts.sum() / wholes.sum()) if wholes.sum() else np.nan


def tabulate_published(comparison: pd.DataFrame, scores: tuple[str, ...]) -> pd.DataFrame:
    """Return the methods that have one of the scores as a reader's table: "0.871 (0.842 to 0.897)".

    Ours gets a second row where there are several seeds: from the lowest to the highest of them.
    What is not published is an empty text.
    """
    rows = {}
    for row in comparison.dropna(subset=list(scores), how="all").to_dict("records"):
        if row["source"]:
            rows[row["method"]] = ["" if np.isnan(row[s]) else f"{row[s]:.3f}" for s in scores]
            continue
        ends = [[row[s], row[f"{s}_low"], row[f"{s}_high"]] for s in scores]
        rows[row["method"]] = [format_interval(*each, digits=3) for each in ends]
        if row["n_seeds"] > 1:
            ranges = [f"{row[f'{s}_seed_low']:.3f} to {row[f'{s}_seed_high']:.3f}" for s in scores]
            rows[f"{row['method']}, range of {row['n_seeds']} seeds"] = ranges
    return pd.DataFrame(rows, index=[name_score(score) for score in scores]).T


def find_clear(comparison: pd.DataFrame, scores: tuple[str, ...] = POOLED) -> list[str]:
    """Return the scores at which the whole interval of ours lies above every published value."""
    ours, others = (comparison[comparison["source"].eq("") == own] for own in (True, False))
    return [s for s in scores if (ours[f"{s}_low"] > others[s].max()).all()]


def compare_recall(summary: pd.DataFrame) -> pd.DataFrame:
    """Return our recall at IoU .70 of each modality beside the published.

    `summary` is as `helpers.evaluation.nuclei.summarise_nuclei` gives it. Columns modality,
    n_images, n_fields, n_nuclei; estimate, low and high of ours; and one for each of
    `PUBLISHED_RECALL`, which was measured on other images.

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
    ours = chosen.loc[modalities, [*sizes, "estimate", "low", "high"]]
    ours = ours.astype(dict.fromkeys(sizes, int))
    published = pd.DataFrame(PUBLISHED_RECALL, index=pd.Index(MODALITIES, name="modality"))
    return ours.join(published).reset_index()


def main() -> None:
    """Write the comparison of the reference network's seeds with the published, and print it."""
    comparison = compare_published(read_seeds())
    comparison.round(4).to_csv(resolve(COMPARISON), index=False)
    print(tabulate_published(comparison, POOLED[::2]).to_string())
    print(tabulate_published(comparison, (*AVERAGED[:9:2], "bowl")).to_string())


if __name__ == "__main__":
    main()
