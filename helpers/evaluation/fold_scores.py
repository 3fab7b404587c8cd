"""What a cross-validation found, and by how much a random one flatters: from its folds' tables."""

from pathlib import Path

import pandas as pd

from helpers.analysis.modality import MODALITIES
from helpers.evaluation.nuclei import summarise_nuclei
from helpers.evaluation.summary import ALL, bootstrap_interval, summarise_scores
from helpers.run_folder import resolve

SCORES = "scores.csv"
RESULT = "fold.json"
"""A fold's files; the second is written last, so that a fold which has it is finished."""
FOREGROUND = ("dice", "iou")
SIBLINGS = {"any": (True, False), "with": (True,), "without": (False,)}
"""Parts of the images, by whether the random split taught a tile of the same field of view."""


def read_folds(folder: str | Path) -> pd.DataFrame:
    """Return the scores of all images of the finished folds of one split.

    Parameters
    ----------
    folder : str or Path
        As `helpers.evaluation.folds` leaves it, for example "results/cross_validation/grouped"; a
        relative path starts at the repository's root.

    Returns
    -------
    DataFrame
        One row an image, fold by fold, with the columns of `helpers.evaluation.folds.score_fold`
        and `fold`, from 1.

    Raises
    ------
    FileNotFoundError
        If no fold is finished.
    """
    folder = resolve(folder)
    results = {int(f.parent.name.removeprefix("fold_")): f for f in folder.glob(f"fold_*/{RESULT}")}
    if not results:
        raise FileNotFoundError(
            f"{folder} holds no finished fold; run `python -m helpers.evaluation.folds --output "
            f"{folder.parent.name} --split {folder.name}` first, with --data and --settings"
        )
    tables = [
        pd.read_csv(results[fold].with_name(SCORES), dtype={"id": str}).assign(fold=fold)
        for fold in sorted(results)
    ]
    return pd.concat(tables, ignore_index=True)


def summarise_folds(table: pd.DataFrame, *, n_resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Return scores with 95 % intervals over fields of view, by modality and for all images.

    Parameters
    ----------
    table : DataFrame
        From `read_folds`. Every image is tested by the one network that has not seen it, so the
        images of all folds are summarised as those of one test set are.
    n_resamples, seed : int
        Of the bootstrap, in which whole fields of view are drawn.

    Returns
    -------
    DataFrame
        Columns score, modality, n_images, n_fields, n_nuclei, estimate, low, high: the rows of
        `helpers.evaluation.nuclei_scores.summarise_nuclei`, then those of "dice" and "iou", means
        over the images. `low` and `high` are NaN where there is one field of view. What two
        trainings would differ by is not in the interval.
    """
    nuclei = summarise_nuclei(table, n_resamples=n_resamples, seed=seed)
    foreground = summarise_scores(table, FOREGROUND, n_resamples=n_resamples, seed=seed)
    counts = nuclei.drop_duplicates("modality").set_index("modality")["n_nuclei"]
    foreground["n_nuclei"] = counts.loc[foreground["modality"]].to_numpy()
    return pd.concat([nuclei, foreground[nuclei.columns]], ignore_index=True)


def compare_splits(
    grouped: pd.DataFrame, random: pd.DataFrame, *, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Return by how much the random split scores higher on the same images, and where.

    Pairing takes out what makes an image hard for every network. What is left on images without
    a sibling in training is chance and the other training images; what images with one gain
    beyond that is leakage. A modality of one field of view is, in a grouped split, tested only by a
    network that never saw the modality, so its difference is not leakage alone, nor is that of
    "all".

    Parameters
    ----------
    grouped, random : DataFrame
        From `read_folds`. Images that only one of them has are left out, so that one finished
        fold of the random split can be compared.
    n_resamples, seed : int
        Of the bootstrap, in which whole fields of view are drawn.

    Returns
    -------
    DataFrame
        Columns score ("dice", "iou"), modality, siblings, n_images, n_fields, grouped, random
        (means over the images, 0 to 1), difference (random - grouped), low and high (its 95 %
        interval; NaN where there is one field of view). Modalities in the order of `MODALITIES`,
        then "all", each for the entries of `SIBLINGS`; a part without images is left out.

    Raises
    ------
    ValueError
        If no image is in both, or one table has an image twice.
    """
    pairs = _pair(grouped, random)
    rows = []
    for score in FOREGROUND:
        for modality in [*MODALITIES, ALL]:
            of_modality = pairs if modality == ALL else pairs[pairs["modality"] == modality]
            for siblings, wanted in SIBLINGS.items():
                part = of_modality[of_modality["has_sibling"].isin(wanted)]
                if len(part):
                    about = {"score": score, "modality": modality, "siblings": siblings}
                    rows.append(about | _difference(part, score, n_resamples, seed))
    return pd.DataFrame(rows)


def _pair(grouped: pd.DataFrame, random: pd.DataFrame) -> pd.DataFrame:
    """Return the images of both tables, with the two values of each score side by side."""
    for name, table in (("grouped", grouped), ("random", random)):
        if (repeated := table["id"].duplicated()).any():
            raise ValueError(
                f"`{name}` has {table.loc[repeated, 'id'].iloc[0]!r} more than once; give the "
                "folds of one cross-validation, as `read_folds` returns them"
            )
    one = grouped[["id", "modality", "group", *FOREGROUND]]
    pairs = one.merge(
        random[["id", "has_sibling", *FOREGROUND]], on="id", suffixes=("_grouped", "_random")
    )
    if pairs.empty:
        raise ValueError(
            f"none of the {len(random)} images of `random` is among the {len(grouped)} of "
            "`grouped`; finish more folds of either split"
        )
    return pairs


def _difference(pairs: pd.DataFrame, score: str, n_resamples: int, seed: int) -> dict[str, float]:
    one, other = pairs[f"{score}_grouped"], pairs[f"{score}_random"]
    low, estimate, high = bootstrap_interval(
        other - one, pairs["group"], seed=seed, n_resamples=n_resamples
    )
    counts = {"n_images": len(pairs), "n_fields": pairs["group"].nunique()}
    means = {"grouped": one.mean(), "random": other.mean()}
    return counts | means | {"difference": estimate, "low": low, "high": high}
