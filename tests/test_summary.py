"""Means and ratios with their intervals, drawn by whole fields of view."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.evaluation.summary import bootstrap_interval, summarise_scores


def test_a_mean_has_the_normal_interval(rng):
    values = rng.normal(0.8, 0.1, 400)
    interval = bootstrap_interval(values, np.arange(400))
    half = stats.norm.ppf(0.975) * values.std() / np.sqrt(len(values))
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_fields_of_equal_values_widen_the_interval_by_the_root_of_their_size(rng):
    values, groups = np.repeat(rng.random(100), 4), np.repeat(np.arange(100), 4)
    single, grouped = bootstrap_interval(values, np.arange(400)), bootstrap_interval(values, groups)
    ratio = (grouped.high - grouped.low) / (single.high - single.low)
    assert ratio == pytest.approx(2, rel=0.15)
    assert grouped.estimate == pytest.approx(single.estimate)


def test_a_ratio_is_drawn_by_whole_fields_as_written_by_hand(rng):
    wholes, groups = rng.integers(1, 50, 30), np.repeat(list("abcdef"), 5)
    parts = rng.binomial(wholes, 0.7)
    found = bootstrap_interval(parts, groups, wholes, seed=4, n_resamples=300)
    ratios = []
    for draw in np.random.default_rng(4).integers(6, size=(300, 6)):
        rows = np.concatenate([np.flatnonzero(groups == "abcdef"[place]) for place in draw])
        ratios.append(parts[rows].sum() / wholes[rows].sum())
    expected = np.quantile(ratios, [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx(expected.tolist())
    assert found.estimate == pytest.approx(parts.sum() / wholes.sum())


def test_one_field_has_no_interval_and_no_nucleus_no_ratio():
    low, estimate, high = bootstrap_interval([0.2, 0.6], [5, 5])
    assert estimate == pytest.approx(0.4) and np.isnan([low, high]).all()
    assert np.isnan(bootstrap_interval([0, 0], [1, 2], [0, 0])).all()
    # Draws of the empty field alone are left out.
    assert bootstrap_interval([1, 0], ["a", "b"], [2, 0]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), r"shape \(0,\)"),
        (([[0.1, 0.2]], [1]), r"shape \(1, 2\)"),
        (([0.1, np.nan, np.inf], [1, 2, 3]), r"2 not finite"),
        (([0.1, 0.2, 0.3], [1, 2]), r"`groups` \(=2 entries\).*3 `parts`"),
        (([0.1, 0.2], [1, 2], [1.0]), r"`wholes` \(=1\).*2 `parts`"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(*arguments)


@pytest.fixture
def table(rng):
    modalities = ["small_fluorescent"] * 6 + ["grayscale_tissue"] * 2
    columns = {name: rng.uniform(0.3, 0.9, 8) for name in ("dice", "iou")}
    groups = [0, 0, 1, 1, 2, 3, 4, 4]
    return pd.DataFrame({"modality": modalities, "group": groups, **columns})


def test_a_summary_has_every_modality_and_its_fields(table):
    summary = summarise_scores(table, n_resamples=200).set_index(["score", "modality"])
    assert summary.loc["iou"].index.tolist() == ["small_fluorescent", "grayscale_tissue", "all"]
    assert summary.loc[("iou", "all"), ["n_images", "n_fields"]].tolist() == [8, 5]
    assert summary.loc[("dice", "all"), "estimate"] == pytest.approx(table["dice"].mean())
    small = summary.loc[("iou", "small_fluorescent")]
    assert small["low"] < small["estimate"] < small["high"]
    assert summary.loc[("iou", "grayscale_tissue"), ["low", "high"]].isna().all()
