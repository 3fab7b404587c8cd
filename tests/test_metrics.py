"""The metrics against known answers, closed forms and scipy."""

import time

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from helpers.evaluation.masks import (
    Calibration,
    Confusion,
    bootstrap_interval,
    calibration,
    confusion,
    dice,
    iou,
    precision,
    recall,
)

SCORES = [dice, iou, precision, recall]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def masks(rng):
    return rng.random((31, 17)) < 0.4, rng.random((31, 17)) < 0.3


# Overlap -----------------------------------------------------------------------------------


def test_confusion_counts_by_hand():
    mask_true = np.array([[1, 1, 1], [0, 0, 0]], bool)
    mask_pred = np.array([[1, 0, 0], [1, 1, 0]], bool)
    assert confusion(mask_true, mask_pred) == Confusion(tp=1, fp=2, fn=2, tn=1)


def test_confusion_adds_up_to_the_pixels(masks):
    counts = confusion(*masks)
    assert sum(counts) == masks[0].size
    assert counts.tp + counts.fn == masks[0].sum()
    assert counts.tp + counts.fp == masks[1].sum()
    assert all(type(count) is int for count in counts)


def test_dice_and_iou_agree_with_scipy(masks):
    flat = [mask.ravel() for mask in masks]
    assert dice(*masks) == pytest.approx(1 - distance.dice(*flat))
    assert iou(*masks) == pytest.approx(1 - distance.jaccard(*flat))


def test_relations_between_the_scores(masks):
    p, r = precision(*masks), recall(*masks)
    assert dice(*masks) == pytest.approx(2 * p * r / (p + r))
    assert iou(*masks) == pytest.approx(dice(*masks) / (2 - dice(*masks)))
    assert precision(*masks) == recall(*masks[::-1])
    assert dice(*masks) == dice(*masks[::-1])


@pytest.mark.parametrize("score", SCORES)
def test_perfect_and_disjoint(score, masks):
    assert score(masks[0], masks[0]) == 1.0
    assert score(masks[0], ~masks[0]) == 0.0


@pytest.mark.parametrize("score", SCORES)
def test_empty_masks(score):
    empty, some = np.zeros((4, 4), bool), np.eye(4, dtype=bool)
    assert score(empty, empty) == 1.0
    assert score(some, empty) == 0.0
    assert score(empty, some) == 0.0


def test_no_pixels_at_all_agree():
    assert dice(np.zeros((0, 3), bool), np.zeros((0, 3), bool)) == 1.0


@pytest.mark.parametrize("score", [confusion, *SCORES])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_masks_must_be_bool(score, dtype):
    mask = np.eye(3, dtype=bool)
    with pytest.raises(TypeError, match=r"`mask_pred` .*must be bool.*labels > 0"):
        score(mask, mask.astype(dtype))
    with pytest.raises(TypeError, match=r"`mask_true`"):
        score(mask.astype(dtype), mask)


@pytest.mark.parametrize("score", [confusion, *SCORES])
def test_masks_must_have_one_shape(score):
    with pytest.raises(ValueError, match=r"\(3, 1\).*shape of `mask_true` \(=\(3, 3\)\)"):
        score(np.eye(3, dtype=bool), np.ones((3, 1), bool))


# Bootstrap ---------------------------------------------------------------------------------


def test_bootstrap_of_a_mean_matches_the_normal_interval(rng):
    values = rng.normal(0.8, 0.1, 400)
    interval = bootstrap_interval(values, rng=rng)
    half = stats.norm.ppf(0.975) * values.std() / np.sqrt(len(values))
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_bootstrap_agrees_with_scipy(rng):
    values = rng.beta(8, 2, 120)
    ours = bootstrap_interval(values, statistic=np.median, n_resamples=4000, rng=rng)
    theirs = stats.bootstrap(
        (values,), np.median, n_resamples=4000, method="percentile", rng=rng
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.15 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.15 * width)


def test_bootstrap_covers_the_true_mean_as_often_as_it_says():
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        low, _, high = bootstrap_interval(rng.random(60), n_resamples=400, level=0.8, rng=rng)
        hits += low <= 0.5 <= high
    assert 0.7 < hits / 200 < 0.9


def test_groups_of_equal_values_widen_the_interval_by_the_root_of_their_size(rng):
    field = rng.random(100)
    values, groups = np.repeat(field, 4), np.repeat(np.arange(100), 4)
    single = bootstrap_interval(values, rng=rng)
    grouped = bootstrap_interval(values, groups=groups, rng=rng)
    ratio = (grouped.high - grouped.low) / (single.high - single.low)
    assert ratio == pytest.approx(2, rel=0.15)
    assert grouped.estimate == single.estimate


def test_groups_of_one_are_the_plain_bootstrap(rng):
    values = rng.random(50)
    plain = bootstrap_interval(values, rng=np.random.default_rng(1))
    grouped = bootstrap_interval(values, groups=np.arange(50), rng=np.random.default_rng(1))
    assert grouped == pytest.approx(plain)


def test_groups_take_any_statistic_and_any_names(rng):
    values = rng.random(12)
    names = np.array(list("aaabbccccdda"))
    draws = {"groups": names, "n_resamples": 300}
    fast = bootstrap_interval(values, rng=np.random.default_rng(1), **draws)
    slow = bootstrap_interval(
        values, statistic=lambda v: v.sum() / v.size, rng=np.random.default_rng(1), **draws
    )
    assert slow == pytest.approx(fast)


def test_own_statistic_gives_what_the_vectorised_one_gives(rng):
    values = rng.random(30)
    fast = bootstrap_interval(values, n_resamples=200, rng=np.random.default_rng(1))
    slow = bootstrap_interval(
        values, statistic=lambda v: v.mean(), n_resamples=200, rng=np.random.default_rng(1)
    )
    assert slow == pytest.approx(fast)


def test_same_generator_same_interval(rng):
    values = rng.random(30)
    assert bootstrap_interval(values, rng=np.random.default_rng(3)) == bootstrap_interval(
        values, rng=np.random.default_rng(3)
    )


def test_one_value_and_one_group_have_no_width(rng):
    assert bootstrap_interval([0.4], rng=rng) == (0.4, 0.4, 0.4)
    assert bootstrap_interval([0.2, 0.6], groups=[5, 5], rng=rng) == pytest.approx([0.4] * 3)


@pytest.mark.parametrize("groups", [None, np.arange(664) // 4])
def test_bootstrap_of_the_whole_set_is_quick(rng, groups):
    start = time.perf_counter()
    bootstrap_interval(rng.random(664), groups=groups, rng=rng)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": []}, r"`values` \(shape \(0,\)\)"),
        ({"values": [[0.1, 0.2]]}, r"`values` \(shape \(1, 2\)\)"),
        ({"values": [0.1, np.nan, np.inf]}, r"2 of 3 that are NaN or infinite"),
        ({"groups": [1, 2]}, r"`groups` \(shape \(2,\)\).*3 values"),
        ({"n_resamples": 0}, r"`n_resamples` \(=0\)"),
        ({"n_resamples": 10.5}, r"`n_resamples` \(=10.5\)"),
        ({"level": 95}, r"`level` \(=95\).*0\.95"),
    ],
)
def test_bad_bootstrap_input_is_named(rng, change, message):
    arguments = {"values": [0.1, 0.2, 0.3], "rng": rng} | change
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(arguments.pop("values"), **arguments)


# Calibration -------------------------------------------------------------------------------


def test_calibration_by_hand():
    probabilities = np.array([[0.0, 0.2, 0.6], [0.7, 0.8, 1.0]])
    mask = np.array([[0, 1, 0], [1, 1, 1]], bool)
    result = calibration(probabilities, mask, n_bins=2)
    assert result.count.tolist() == [2, 4]
    assert result.mean_probability == pytest.approx([0.1, 0.775])
    assert result.fraction == pytest.approx([0.5, 0.75])
    assert result.error == pytest.approx((2 * 0.4 + 4 * 0.025) / 6)


def test_honest_probabilities_have_a_small_error_and_overconfident_ones_a_known_one(rng):
    probabilities = rng.random(200_000)
    mask = rng.random(200_000) < probabilities
    assert calibration(probabilities, mask).error < 0.01
    sure = np.where(probabilities > 0.5, 1.0, 0.0)
    # P(wrong) is the mean of min(p, 1 - p), a quarter.
    assert calibration(sure, mask).error == pytest.approx(0.25, abs=0.01)


def test_the_error_is_that_of_the_definition(rng):
    probabilities, mask = rng.random(5000) ** 2, rng.random(5000) < 0.3
    mean, _, _ = stats.binned_statistic(probabilities, probabilities, bins=10, range=(0, 1))
    seen, _, _ = stats.binned_statistic(probabilities, mask, bins=10, range=(0, 1))
    count, _, _ = stats.binned_statistic(probabilities, mask, "count", bins=10, range=(0, 1))
    expected = np.sum(count / count.sum() * np.abs(seen - mean))
    assert calibration(probabilities, mask).error == pytest.approx(expected)


def test_images_add_up_to_their_pixels(rng):
    images = [(rng.random(shape), rng.random(shape) < 0.5) for shape in [(8, 9), (5, 5), (1, 30)]]
    together = sum(calibration(*image) for image in images)
    pooled = calibration(*(np.concatenate([i[k].ravel() for i in images]) for k in (0, 1)))
    assert isinstance(together, Calibration)
    assert together.count.tolist() == pooled.count.tolist()
    assert together.mean_probability == pytest.approx(pooled.mean_probability)
    assert together.error == pytest.approx(pooled.error)


def test_empty_bins_are_nan_and_count_for_nothing():
    result = calibration(np.full(4, 0.95, np.float32), np.ones(4, bool))
    assert np.isnan(result.fraction[:9]).all() and result.fraction[9] == 1
    assert result.error == pytest.approx(0.05, abs=1e-6)
    assert np.isnan(calibration(np.zeros(0), np.zeros(0, bool)).error)


def test_the_ends_belong_to_the_outer_bins():
    result = calibration(np.array([0.0, 0.1, 1.0]), np.array([False, True, True]))
    assert np.flatnonzero(result.count).tolist() == [0, 1, 9]


@pytest.mark.parametrize(
    ("probabilities", "mask", "n_bins", "error", "message"),
    [
        (np.zeros(3, np.uint8), np.zeros(3, bool), 10, TypeError, "must be float"),
        (np.zeros(3), np.zeros(3), 10, TypeError, "`mask` .*must be bool"),
        (np.zeros(3), np.zeros(4, bool), 10, ValueError, r"\(3,\).*\(=\(4,\)\)"),
        (np.array([0.1, 1.5]), np.zeros(2, bool), 10, ValueError, "from 0.1 to 1.5"),
        (np.array([0.1, np.nan]), np.zeros(2, bool), 10, ValueError, "between 0 and 1"),
        (np.zeros(3), np.zeros(3, bool), 0, ValueError, r"`n_bins` \(=0\)"),
    ],
)
def test_bad_calibration_input_is_named(probabilities, mask, n_bins, error, message):
    with pytest.raises(error, match=message):
        calibration(probabilities, mask, n_bins)


def test_calibrations_of_other_bins_do_not_add():
    one, other = (calibration(np.zeros(3), np.zeros(3, bool), n) for n in (5, 10))
    with pytest.raises(ValueError, match="5 and 10"):
        one + other
    with pytest.raises(TypeError):
        one + 1
