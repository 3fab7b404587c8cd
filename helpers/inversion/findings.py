"""What the arms of the experiment say: means per modality with what we cannot know, and shares."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers.analysis.audit import FAILS_BELOW
from helpers.analysis.modality import MODALITIES
from helpers.evaluation.summary import bootstrap_interval
from helpers.inversion.variants import ARMS

MEASURES = ("iou", "fraction_true", "fraction_pred", "ground_marked", "inverted")


def mark_inverted(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` with the columns ground_marked (0 to 1) and inverted (bool).

    `ground_marked` is the share of the true background that is marked as nucleus. A mask is called
    inverted when that is more than half, or more than the share of the nuclei that is marked: so
    is a mask that marks everything, and one that is reversed, however little of it there is.

    Examples
    --------
    >>> scores = {"recall": [1.0, 0.0, 0.5], "fraction_true": 0.5, "fraction_pred": [1.0, 0.1, 0.3]}
    >>> mark_inverted(pd.DataFrame(scores))["inverted"].tolist()
    [True, True, False]
    """
    found = (table["recall"] * table["fraction_true"]).fillna(0)
    ground = 1 - table["fraction_true"]
    marked = ((table["fraction_pred"] - found) / ground).where(ground > 0, 0.0)
    return table.assign(ground_marked=marked, inverted=(marked > 0.5) | (marked > table["recall"]))


def summarise_arms(table: pd.DataFrame, *, n_resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Return each measure by arm, view and modality, with its interval and its spread over seeds.

    Parameters
    ----------
    table : DataFrame
        As `helpers.inversion.runs.run_experiment` returns it.
    n_resamples, seed : int
        Of the bootstrap over fields of view; the seeds of an image are averaged before it.

    Returns
    -------
    DataFrame
        One row an arm, view, modality and measure (iou, fraction_true, fraction_pred,
        ground_marked, inverted; all 0 to 1): estimate, low and high (95 %; NaN where there is one
        field of view), seed_low and seed_high (smallest and largest mean of one seed), n_images,
        n_fields and n_seeds. Arms, views and modalities in the order in which they come.
    """
    rows = []
    for (arm, view, modality), part in table.groupby(["arm", "view", "modality"], sort=False):
        images = part.groupby("id").agg({"group": "first", **dict.fromkeys(MEASURES, "mean")})
        seeds = part.groupby("seed")[list(MEASURES)].mean()
        fields = images["group"].to_numpy()
        about = {"arm": arm, "view": view, "modality": modality, "n_images": len(images)}
        about |= {"n_fields": len(set(fields)), "n_seeds": len(seeds)}
        for measure in MEASURES:
            interval = bootstrap_interval(
                images[measure], fields, seed=seed, n_resamples=n_resamples
            )
            low, high = interval.low, interval.high
            spread = {"seed_low": seeds[measure].min(), "seed_high": seeds[measure].max()}
            numbers = {"estimate": interval.estimate, "low": low, "high": high}
            rows.append(about | {"measure": measure} | numbers | spread)
    summary = pd.DataFrame(rows)
    order = {modality: place for place, modality in enumerate(MODALITIES)}
    return summary.sort_values(
        "modality", key=lambda modalities: modalities.map(order), kind="stable"
    )


def tabulate_steps(summary: pd.DataFrame, steps: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Return IoU and share of inverted images, one row a step (arm, view), one column a modality.

    An entry reads "IoU .72 · inverted 0 %".
    """
    rows = {}
    for arm, view in steps:
        chosen = summary[(summary["arm"] == arm) & (summary["view"] == view)]
        values = chosen.pivot_table(
            index="modality", columns="measure", values="estimate", sort=False
        )
        rows[arm if view == "ours" else f"{arm} · {view}"] = {
            modality: f"{row['iou']:.2f} · {row['inverted']:.0%}"
            for modality, row in values.iterrows()
        }
    return pd.DataFrame(rows).T.reindex(
        columns=[k for k in MODALITIES if k in set(summary["modality"])]
    )


def compare_arms(
    table: pd.DataFrame,
    one: tuple[str, str],
    other: tuple[str, str],
    measure: str = "iou",
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return by how much `other` exceeds `one` on the same images, by modality, with its interval.

    Pairing image with image takes out what makes an image hard for every network. Images that
    only one of the two was tested on are left out.

    Parameters
    ----------
    table : DataFrame
        As `helpers.inversion.runs.run_experiment` returns it.
    one, other : (arm, view)

    Returns
    -------
    DataFrame
        One row a modality: difference, low, high (95 %, over fields of view; NaN with one field),
        n_images and n_fields.

    Raises
    ------
    ValueError
        If the table does not hold both.
    """
    values = []
    for arm, view in (one, other):
        part = table[(table["arm"] == arm) & (table["view"] == view)]
        if part.empty:
            raise ValueError(f"no image was scored for arm {arm!r}, view {view!r}; run it first")
        values.append(part.groupby(["modality", "group", "id"])[measure].mean())
    difference = (values[1] - values[0]).dropna().rename("difference").reset_index()
    rows = []
    for modality in (
        modality for modality in MODALITIES if modality in set(difference["modality"])
    ):
        part = difference[difference["modality"] == modality]
        low, estimate, high = bootstrap_interval(
            part["difference"], part["group"], seed=seed, n_resamples=n_resamples
        )
        n_fields = part["group"].nunique()
        numbers = {"difference": estimate, "low": low, "high": high}
        rows.append({"modality": modality, **numbers, "n_images": len(part), "n_fields": n_fields})
    return pd.DataFrame(rows)


def tabulate_changes(
    table: pd.DataFrame, steps: Sequence[tuple[str, str]], measure: str = "iou"
) -> pd.DataFrame:
    """Return by how much `measure` changes from each step to the next, one column a modality.

    An entry reads "+0.12 (+0.05 to +0.20)": the mean over images and its 95 % interval.
    """
    rows = {}
    for one, other in itertools.pairwise(steps):
        compared = compare_arms(table, one, other, measure).set_index("modality")
        name = other[0] if other[1] == "ours" else " · ".join(other)
        rows[name] = {modality: _tell_change(row) for modality, row in compared.iterrows()}
    return pd.DataFrame(rows).T


def _tell_change(row: pd.Series) -> str:
    text = f"{row['difference']:+.2f}"
    return text if np.isnan(row["low"]) else f"{text} ({row['low']:+.2f} to {row['high']:+.2f})"


def judge_prediction(predicted: pd.DataFrame, measured: pd.Series) -> dict[str, str]:
    """Return how a prediction of failures fared against the scores of one network.

    Parameters
    ----------
    predicted : DataFrame
        As `helpers.analysis.audit.predict_failures` returns it, indexed by modality.
    measured : Series
        Mean IoU, 0 to 1, by modality; modalities that stand in only one of the two are left out.

    Returns
    -------
    dict of str to str
        "by confusion" and "by rarity": how many pairs of modalities come out in the predicted
        order, such as "9 of 10"; ties in the prediction are no pairs. "failures": of how many
        modalities it was rightly said whether their mean IoU is below `FAILS_BELOW`.
    """
    modalities = [modality for modality in predicted.index if modality in measured.index]
    ranks = {"by confusion": "rank", "by rarity": "rarity_rank"}
    told = {
        name: _tell_pairs(predicted.loc[modalities, column], measured.loc[modalities])
        for name, column in ranks.items()
    }
    right = (measured.loc[modalities] < FAILS_BELOW) == predicted.loc[modalities, "fails"]
    return told | {"failures": f"{right.sum()} of {len(modalities)}"}


def _tell_pairs(ranks: pd.Series, measured: pd.Series) -> str:
    """Return of how many pairs the one with the smaller rank has the lower score."""
    right = total = 0
    for one, other in itertools.permutations(ranks.index, 2):
        if ranks[one] < ranks[other]:
            total += 1
            right += measured[one] < measured[other]
    return f"{right} of {total}"


def compare_left_out(
    table: pd.DataFrame, predicted: pd.DataFrame, reference: str = "scaled"
) -> pd.DataFrame:
    """Return scores on modalities that a network has never seen, beside one that has.

    Parameters
    ----------
    table : DataFrame
        As `helpers.inversion.runs.run_experiment` returns it.
    predicted : DataFrame
        As `helpers.analysis.audit.predict_failures` returns it, indexed by modality.
    reference : str
        The arm that has seen every modality. The others are those that differ from it in their
        modalities.

    Returns
    -------
    DataFrame
        One row an arm and modality that it has not seen: modality, arm; mean IoU, 0 to 1, of a
        threshold, of the reference (NaN where no image of the modality was tested) and of the arm;
        and the share of the arm's masks that are inverted.
    """
    ours = table[table["view"] == "ours"]
    means = ours.groupby(["arm", "modality"])[["iou", "inverted"]].mean()
    rows = []
    for modality, arm in itertools.product(MODALITIES, ours["arm"].unique()):
        known = ARMS[arm].kinds
        if (
            ARMS[arm].differs_from == reference
            and modality not in known
            and (arm, modality) in means.index
        ):
            rows.append(
                {
                    "modality": modality,
                    "arm": arm,
                    "threshold": predicted["threshold_iou"].get(modality, np.nan),
                    "trained with it": means["iou"].get((reference, modality), np.nan),
                    "trained without it": means.loc[(arm, modality), "iou"],
                    "inverted without it": means.loc[(arm, modality), "inverted"],
                }
            )
    return pd.DataFrame(rows)
