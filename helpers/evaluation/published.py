"""Our scores of single nuclei beside the published ones, on the same images.

`results/published.csv` quotes others with their source. Ours come with a 95 % interval over fields
of view and with the range of their seeds. `python -m helpers.evaluation.published` writes the
comparison of the reference network's seeds again, as `results/comparison.csv`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from helpers.evaluation.matching import THRESHOLDS
from helpers.evaluation.summary import bootstrap_interval, format_interval, name_score, split_score
from helpers.run_folder import REFERENCE, RESULTS

PERCENTS = tuple(round(100 * threshold) for threshold in THRESHOLDS[:9])
"""IoU .50, .55, ... .90, at which others have published."""
POOLED = tuple(f"ap_{percent}" for percent in PERCENTS)
"""Average precision, pooled over the nuclei of all images."""
AVERAGED = (*(f"mean_ap_{percent}" for percent in PERCENTS), "bowl")
"""Average precision, averaged over images; "bowl" is its mean over IoU .50, .55, ... .95."""
ENDS = ("low", "high", "seed_low", "seed_high")
"""The interval of a score, and its smallest and largest value among the seeds."""
COMPARISON = RESULTS / "comparison.csv"


def read_published() -> pd.DataFrame:
    """Return method, source and scores of others on StarDist's 50 test images of the Bowl.

    Scores that are not published are NaN. The methods of which averages are published were trained
    on tiles of the fields of view that these images show; ours was not.
    """
    return pd.read_csv(RESULTS / "published.csv")


def read_seeds() -> dict[str, pd.DataFrame]:
    """Return the scores of the reference network's finished trainings, by the name of their run.

    They are what notebook 08 left in `nuclei_scores.csv` of `results/reference`,
    `results/reference_seed_2` and so on.
    """
    files = sorted(RESULTS.glob(f"{REFERENCE}*/nuclei_scores.csv"))
    return {file.parent.name: pd.read_csv(file, dtype={"id": str}) for file in files}


def compare_published(tables: Mapping[str, pd.DataFrame], *, name: str = "ours") -> pd.DataFrame:
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
    ours = {"method": name, "source": ""} | _measure_ours(_check_tables(tables))
    rows = [*read_published().to_dict("records"), ours]
    counts = ["n_seeds", "n_images", "n_fields", "n_nuclei"]
    return pd.DataFrame(rows, columns=list(ours)).astype(dict.fromkeys(counts, "Int64"))


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


def _measure_ours(seeds: list[pd.DataFrame]) -> dict[str, Any]:
    first, together = seeds[0], pd.concat(seeds)
    row = {"n_seeds": len(seeds), "n_images": len(first), "n_fields": first["group"].nunique()}
    row |= {"n_nuclei": int(first["n_true"].sum())}
    bounds = {}
    for score in (*POOLED, *AVERAGED):
        parts, wholes = split_score(together, score)
        found = bootstrap_interval(parts, together["group"], wholes)
        sums = [[column.sum() for column in split_score(table, score)] for table in seeds]
        each = [part / whole if whole else np.nan for part, whole in sums]
        spread = (min(each), max(each)) if len(seeds) > 1 else (np.nan, np.nan)
        row[score] = float(np.mean(each))
        ends = zip(ENDS, (found.low, found.high, *spread), strict=True)
        bounds |= {f"{score}_{end}": value for end, value in ends}
    return row | bounds


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


def main() -> None:
    """Write the comparison of the reference network's seeds with the published, and print it."""
    comparison = compare_published(read_seeds())
    comparison.round(4).to_csv(COMPARISON, index=False)
    print(tabulate_published(comparison, POOLED[::2]).to_string())
    print(tabulate_published(comparison, (*AVERAGED[:9:2], "bowl")).to_string())


if __name__ == "__main__":
    main()
