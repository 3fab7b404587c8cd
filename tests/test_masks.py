"""Masks: scores and calibration against known answers and scipy; files; a network's evaluation."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import distance

from helpers.data.data_set import read_data_set
from helpers.evaluation.masks import (
    calibration,
    calibration_error,
    describe_evaluation,
    dice,
    evaluate,
    iou,
    mask_folder,
    pick_examples,
    read_examples,
    read_mask,
    score_mask,
)
from helpers.evaluation.summary import summarise_scores
from helpers.targets import get_target
from tests.conftest import box, files_of, some_image


@pytest.fixture
def masks(rng):
    return rng.random((31, 17)) < 0.4, rng.random((31, 17)) < 0.3


def test_scores_agree_with_scipy_and_with_each_other(masks):
    flat, scores = [mask.ravel() for mask in masks], score_mask(*masks)
    assert scores["dice"] == dice(*masks) == pytest.approx(1 - distance.dice(*flat))
    assert scores["iou"] == iou(*masks) == pytest.approx(1 - distance.jaccard(*flat))
    p, r = scores["precision"], scores["recall"]
    assert p == (masks[0] & masks[1]).sum() / masks[1].sum()
    assert scores["dice"] == pytest.approx(2 * p * r / (p + r))


def test_perfect_disjoint_and_empty_masks(masks):
    none, some, nowhere = np.zeros((4, 4), bool), np.eye(4, dtype=bool), np.zeros((0, 3), bool)
    for alike in (masks[0], none, nowhere):
        assert set(score_mask(alike, alike).values()) == {1.0}
    for pair in ((masks[0], ~masks[0]), (some, none), (none, some)):
        assert set(score_mask(*pair).values()) == {0.0}


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_masks_must_be_bool_and_of_one_shape(dtype):
    mask = np.eye(3, dtype=bool)
    with pytest.raises(TypeError, match=r"`mask_pred` .*must be bool.*labels > 0"):
        dice(mask, mask.astype(dtype))
    with pytest.raises(TypeError, match=r"`mask_true`"):
        iou(mask.astype(dtype), mask)
    with pytest.raises(ValueError, match=r"\(3, 1\).*shape of `mask_true` \(=\(3, 3\)\)"):
        score_mask(mask, np.ones((3, 1), bool))


def test_calibration_by_hand():
    probabilities = np.array([[0.0, 0.2, 0.6], [0.7, 0.8, 1.0]])
    mask = np.array([[0, 1, 0], [1, 1, 1]], bool)
    bins = calibration(probabilities, mask)
    assert bins["count"].tolist() == [1, 0, 1, 0, 0, 0, 1, 1, 1, 1]
    assert bins["probability_sum"].tolist() == [0, 0, 0.2, 0, 0, 0, 0.6, 0.7, 0.8, 1]
    assert bins["foreground"].tolist() == [0, 0, 1, 0, 0, 0, 0, 1, 1, 1]
    assert calibration_error(bins) == pytest.approx((0 + 0.8 + 0.6 + 0.3 + 0.2 + 0) / 6)
    last = calibration(np.full(4, 0.95, np.float32), np.ones(4, bool))
    assert last["count"].tolist() == [0] * 9 + [4]
    assert calibration_error(last) == pytest.approx(0.05, abs=1e-6)
    assert np.isnan(calibration_error(calibration(np.zeros(0), np.zeros(0, bool))))


@pytest.mark.parametrize(
    ("probabilities", "mask", "error", "message"),
    [
        (np.zeros(3, np.uint8), np.zeros(3, bool), TypeError, "must be float"),
        (np.zeros(3), np.zeros(4, bool), ValueError, r"\(3,\).*\(=\(4,\)\)"),
        (np.array([0.1, 1.5]), np.zeros(2, bool), ValueError, "from 0.1 to 1.5"),
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


# A network whose answers are known ------------------------------------------------------------

SHAPES = {"a": (24, 32), "b": (20, 33), "c": (24, 32)}


class Oracle:
    """Says .95 for the left half of every image and .05 for the right one."""

    def __init__(self, target="foreground"):
        structure = SimpleNamespace(output_params=SimpleNamespace(target=target))
        self.settings = SimpleNamespace(model_structure=structure)

    def predict(self, image):
        probabilities = np.full(image.shape[:2], 0.05, np.float32)
        probabilities[:, : image.shape[1] // 2] = 0.95
        return probabilities


@pytest.fixture
def data(write_set, tmp_path):
    """Three images: a right in all, b right in nothing, c half right; d has no masks."""
    files = files_of("a", some_image(0), [box(0, 0, 24, 16)])
    wrong = box(0, 16, 20, 17, shape=SHAPES["b"])
    files |= files_of("b", some_image(1, SHAPES["b"]), [wrong])
    files |= files_of("c", some_image(2), [box(0, 0, 24, 8)])
    return read_data_set(write_set(files), cache_dir=tmp_path / "cache")


@pytest.fixture
def known():
    modalities = ["small_fluorescent", "small_fluorescent", "purple_tissue"]
    return pd.DataFrame({"id": list("abc"), "modality": modalities, "group": [0, 1, 2]})


def test_scores_masks_and_calibration_have_known_values(data, known, tmp_path):
    with mask_folder(tmp_path / "masks") as write_mask:
        table, calibration = evaluate(Oracle(), data, known, write_mask=write_mask)
    assert table["id"].tolist() == data.ids == ["a", "b", "c"]
    assert table["iou"].tolist() == [1, 0, 0.5]
    assert table["dice"].tolist() == pytest.approx([1, 0, 2 / 3])
    assert table["precision"].tolist() == [1, 0, 0.5]
    assert table["recall"].tolist() == [1, 0, 1]
    assert table["fraction_true"].tolist() == pytest.approx([1 / 2, 17 / 33, 1 / 4])
    assert table["fraction_pred"].tolist() == pytest.approx([1 / 2, 16 / 33, 1 / 2])
    assert table["n_nuclei"].tolist() == [1, 1, 1]
    assert table.loc[0, "diameter_px"] == pytest.approx(2 * np.sqrt(24 * 16 / np.pi))
    count = calibration["count"]
    assert count.sum() == count[[0, 9]].sum() == sum(h * w for h, w in SHAPES.values())
    assert calibration["foreground"][9] == 24 * 16 + 24 * 8
    for name, shape in SHAPES.items():
        mask = read_mask(tmp_path / "masks" / f"{name}.png")
        assert mask.shape == shape
        assert mask[:, 0].all() and not mask[:, -1].any()


def test_the_threshold_decides_what_is_nucleus(data, known):
    everything = evaluate(Oracle(), data, known, threshold=0.04).table
    nothing = evaluate(Oracle(), data, known, threshold=0.96).table
    assert everything["fraction_pred"].tolist() == [1, 1, 1]
    assert nothing["fraction_pred"].tolist() == [0, 0, 0]
    assert nothing["iou"].tolist() == [0, 0, 0]


def test_interiors_are_compared_with_interiors(data, known):
    table = evaluate(Oracle("interior"), data, known).table
    assert table.loc[0, "iou"] == pytest.approx(15 / 16)


@pytest.mark.parametrize("threshold", [0, 1, -1, 50, float("nan")])
def test_an_impossible_threshold_is_refused(data, known, threshold):
    with pytest.raises(ValueError, match="`threshold`"):
        evaluate(Oracle(), data, known, threshold=threshold)


def test_what_cannot_be_evaluated_is_refused(data, known, write_set, tmp_path):
    with pytest.raises(ValueError, match="no image to evaluate"):
        evaluate(Oracle(), data.select([]), known)
    with pytest.raises(ValueError, match="1 images are not known"):
        evaluate(Oracle(), data, known[known["id"] != "b"])
    files = files_of("d", some_image(3), folder="test/")
    files |= files_of("e", some_image(4), [box(0, 0, 2, 2)], folder="train/")
    unlabelled = read_data_set(write_set(files, name="bare"), cache_dir=tmp_path / "cache")
    with pytest.raises(ValueError, match="'d' has no masks"):
        evaluate(Oracle(), unlabelled.select(~unlabelled.table["labelled"]), known)


def test_metrics_are_json_and_point_at_the_median(data, known):
    evaluation = evaluate(Oracle(), data, known)
    summary = summarise_scores(evaluation.table, n_resamples=20)
    metrics = describe_evaluation(evaluation, summary, run="x")
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert metrics["look_at_first"] == "masks/c.png"
    assert metrics["overall"]["n_images"] == 3
    assert metrics["overall"]["iou"]["estimate"] == 0.5
    alone = {"estimate": 0.5, "low": None, "high": None}
    assert metrics["modalities"]["purple_tissue"]["iou"] == alone
    assert 0 <= metrics["calibration_error"] <= 1


def test_examples_are_read_back_from_their_masks(data, known, tmp_path):
    with mask_folder(tmp_path / "masks") as write_mask:
        table = evaluate(Oracle(), data, known, write_mask=write_mask).table
    assert pick_examples(table[:2])["rank"].tolist() == ["best", "worst"]
    assert pick_examples(table[:1])["rank"].tolist() == ["only"]
    read = read_examples(data, ["a", "b", "c"], tmp_path / "masks", get_target("foreground"))
    for (image, mask_true, mask_pred), name in zip(read, "abc", strict=True):
        assert image.shape == mask_true.shape == mask_pred.shape == SHAPES[name]
    assert (read[0][1] == read[0][2]).all()
    assert not (read[1][1] & read[1][2]).any()
