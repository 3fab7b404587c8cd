"""Masks: scores and calibration against known answers and scipy; masks in files."""

from functools import reduce

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from scipy.spatial import distance

from helpers.evaluation.masks import (
    Calibration,
    Confusion,
    calibration,
    confusion,
    dice,
    iou,
    mask_folder,
    read_mask,
)

NAMES = ("dice", "iou", "precision", "recall")


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def masks(rng):
    return rng.random((31, 17)) < 0.4, rng.random((31, 17)) < 0.3


def test_confusion_counts_by_hand():
    mask_true = np.array([[1, 1, 1], [0, 0, 0]], bool)
    mask_pred = np.array([[1, 0, 0], [1, 1, 0]], bool)
    assert confusion(mask_true, mask_pred) == Confusion(tp=1, fp=2, fn=2, tn=1)


def test_confusion_adds_up_to_the_pixels(masks):
    counts = confusion(*masks)
    assert sum(counts) == masks[0].size
    assert counts.tp + counts.fn == masks[0].sum()
    assert counts.tp + counts.fp == masks[1].sum()


def test_dice_and_iou_agree_with_scipy(masks):
    flat = [mask.ravel() for mask in masks]
    assert dice(*masks) == pytest.approx(1 - distance.dice(*flat))
    assert iou(*masks) == pytest.approx(1 - distance.jaccard(*flat))


def test_relations_between_the_scores(masks):
    counts, turned = confusion(*masks), confusion(*masks[::-1])
    p, r = counts.precision, counts.recall
    assert counts.dice == dice(*masks) == pytest.approx(2 * p * r / (p + r))
    assert counts.iou == iou(*masks) == pytest.approx(counts.dice / (2 - counts.dice))
    assert counts.precision == turned.recall and counts.dice == turned.dice


@pytest.mark.parametrize("score", NAMES)
def test_perfect_disjoint_and_empty_masks(score, masks):
    none, some, nowhere = np.zeros((4, 4), bool), np.eye(4, dtype=bool), np.zeros((0, 3), bool)
    for alike in (masks[0], none, nowhere):
        assert getattr(confusion(alike, alike), score) == 1.0
    for pair in ((masks[0], ~masks[0]), (some, none), (none, some)):
        assert getattr(confusion(*pair), score) == 0.0


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_masks_must_be_bool_and_of_one_shape(dtype):
    mask = np.eye(3, dtype=bool)
    with pytest.raises(TypeError, match=r"`mask_pred` .*must be bool.*labels > 0"):
        dice(mask, mask.astype(dtype))
    with pytest.raises(TypeError, match=r"`mask_true`"):
        iou(mask.astype(dtype), mask)
    with pytest.raises(ValueError, match=r"\(3, 1\).*shape of `mask_true` \(=\(3, 3\)\)"):
        confusion(mask, np.ones((3, 1), bool))


def test_calibration_by_hand():
    probabilities = np.array([[0.0, 0.2, 0.6], [0.7, 0.8, 1.0]])
    mask = np.array([[0, 1, 0], [1, 1, 1]], bool)
    result = calibration(probabilities, mask)
    assert result.count.tolist() == [1, 0, 1, 0, 0, 0, 1, 1, 1, 1]
    assert result.mean_probability[[2, 6]] == pytest.approx([0.2, 0.6])
    assert result.fraction[[0, 2, 6, 9]].tolist() == [0, 1, 0, 1]
    assert result.error == pytest.approx((0 + 0.8 + 0.6 + 0.3 + 0.2 + 0) / 6)


def test_the_error_is_that_of_the_definition(rng):
    probabilities, mask = rng.random(5000) ** 2, rng.random(5000) < 0.3
    mean, _, _ = stats.binned_statistic(probabilities, probabilities, bins=10, range=(0, 1))
    seen, _, _ = stats.binned_statistic(probabilities, mask, bins=10, range=(0, 1))
    count, _, _ = stats.binned_statistic(probabilities, mask, "count", bins=10, range=(0, 1))
    expected = np.sum(count / count.sum() * np.abs(seen - mean))
    assert calibration(probabilities, mask).error == pytest.approx(expected)


def test_images_add_up_to_their_pixels(rng):
    images = [(rng.random(shape), rng.random(shape) < 0.5) for shape in [(8, 9), (5, 5), (1, 30)]]
    together = reduce(Calibration.pool, [calibration(*image) for image in images])
    pooled = calibration(*(np.concatenate([i[k].ravel() for i in images]) for k in (0, 1)))
    assert together.count.tolist() == pooled.count.tolist()
    assert together.mean_probability == pytest.approx(pooled.mean_probability)
    assert together.error == pytest.approx(pooled.error)


def test_empty_bins_are_nan_and_count_for_nothing():
    result = calibration(np.full(4, 0.95, np.float32), np.ones(4, bool))
    assert np.isnan(result.fraction[:9]).all() and result.fraction[9] == 1
    assert result.error == pytest.approx(0.05, abs=1e-6)
    assert np.isnan(calibration(np.zeros(0), np.zeros(0, bool)).error)


@pytest.mark.parametrize(
    ("probabilities", "mask", "error", "message"),
    [
        (np.zeros(3, np.uint8), np.zeros(3, bool), TypeError, "must be float"),
        (np.zeros(3), np.zeros(3), TypeError, "`mask` .*must be bool"),
        (np.zeros(3), np.zeros(4, bool), ValueError, r"\(3,\).*\(=\(4,\)\)"),
        (np.array([0.1, 1.5]), np.zeros(2, bool), ValueError, "from 0.1 to 1.5"),
        (np.array([0.1, np.nan]), np.zeros(2, bool), ValueError, "between 0 and 1"),
    ],
)
def test_bad_calibration_input_is_named(probabilities, mask, error, message):
    with pytest.raises(error, match=message):
        calibration(probabilities, mask)


def test_a_failing_prediction_leaves_the_old_masks(tmp_path):
    folder = tmp_path / "masks"
    with mask_folder(folder) as write_mask:
        write_mask("old", np.ones((2, 3), bool))
    with pytest.raises(RuntimeError), mask_folder(folder) as write_mask:
        write_mask("new", np.ones((2, 3), bool))
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["old.png"]
    with mask_folder(folder) as write_mask:
        write_mask("new", np.zeros((2, 3), bool))
    assert [path.name for path in tmp_path.rglob("*.png")] == ["new.png"]


def test_a_mask_has_two_values_and_its_own_size(tmp_path):
    mask = np.random.default_rng(0).random((5, 7)) > 0.5
    with mask_folder(tmp_path / "masks") as write_mask:
        write_mask("a", mask)
    stored = np.asarray(Image.open(tmp_path / "masks" / "a.png"))
    assert stored.dtype == np.uint8 and stored.shape == (5, 7)
    assert (stored == mask * 255).all()
    assert (read_mask(tmp_path / "masks" / "a.png") == mask).all()
