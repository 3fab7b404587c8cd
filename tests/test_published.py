"""Beside the published: what is quoted, what is ours, and where ours is clearly above."""

import numpy as np
import pandas as pd
import pytest

from helpers.analysis.modality import MODALITIES
from helpers.evaluation.nuclei import match_images, score_nuclei
from helpers.evaluation.published import COMPARISON, POOLED, compare_published, read_seeds
from helpers.evaluation.summary import bootstrap_interval


def draw(*, n_images=6, seed=0, lost=10):
    """Return scores of squares of 8 px in two modalities, some lost, others moved by a pixel."""
    rng = np.random.default_rng(seed)
    images = []
    for place in range(n_images):
        true = np.kron(np.arange(60).reshape(6, 10), np.ones((8, 8), int))
        pred = np.roll(true, place % 2, 0)
        pred[np.isin(pred, rng.permutation(60)[: rng.integers(0, lost)])] = 0
        images.append((str(place), MODALITIES[place % 2], place // 2, true, pred))
    return score_nuclei(match_images(images))


def ours(comparison):
    return comparison[comparison["source"] == ""].iloc[0]


def test_the_committed_comparison_is_that_of_the_committed_seeds():
    kept = pd.read_csv(COMPARISON, keep_default_na=False, na_values=[""])
    again = compare_published(read_seeds()).round(4)
    for column in again.columns.drop("source"):
        same = kept[column].eq(again[column]) | (kept[column].isna() & again[column].isna())
        assert same.all(), f"{column}: run `python -m helpers.evaluation.published`"
    row = ours(again)
    averaged = [row[f"mean_ap_{percent}"] for percent in (50, 60, 70, 80, 90)]
    assert np.round(averaged, 3).tolist() == [0.878, 0.838, 0.779, 0.655, 0.398]
    assert [round(row[name], 3) for name in ("bowl", "bowl_seed_low", "bowl_seed_high")] == [
        *(0.668, 0.666, 0.671)
    ]
    others = again[again["source"] != ""]
    clear = [score for score in POOLED if row[f"{score}_low"] > others[score].max()]
    assert clear == ["ap_75", "ap_80"]


def test_several_seeds_give_their_mean_and_their_range():
    seeds = {"1": draw(), "2": draw(seed=1, lost=30), "3": draw(seed=2)}
    each = [ours(compare_published({name: table}))["ap_50"] for name, table in seeds.items()]
    row = ours(compare_published(seeds))
    assert row["ap_50"] == pytest.approx(np.mean(each))
    assert [row["ap_50_seed_low"], row["ap_50_seed_high"]] == [min(each), max(each)]
    together = pd.concat(seeds.values())
    wholes = together["n_true"] + together["n_pred"] - together["tp_50"]
    found = bootstrap_interval(together["tp_50"], together["group"], wholes)
    assert (row["ap_50_low"], row["ap_50_high"]) == (found.low, found.high)


def test_seeds_are_matched_by_image_and_share_the_fields_of_the_first():
    table = draw()
    shuffled = table.sample(frac=1, random_state=3).assign(group=range(6))
    row = ours(compare_published({"1": table, "2": shuffled}))
    alone = ours(compare_published({"1": table}))
    assert row["n_fields"] == 3
    for end in ("", "_low", "_high"):
        assert row[f"ap_70{end}"] == pytest.approx(alone[f"ap_70{end}"])


def test_other_images_or_none_are_refused():
    with pytest.raises(ValueError, match="scores of '2' are of other images \\(1 ids differ"):
        compare_published({"1": draw(), "2": draw(n_images=5)})
    with pytest.raises(ValueError, match="no table"):
        compare_published({})
