"""Evaluation of a network whose answers are known beforehand."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from helpers.data.data_set import read_data_set
from helpers.evaluation.masks import mask_folder, read_mask
from helpers.evaluation.scores import (
    describe_evaluation,
    evaluate,
    missing_modalities,
    pick_examples,
    pick_examples_by_modality,
    read_examples,
    summarise_scores,
    summarise_training,
    tabulate_summary,
)
from helpers.run_folder import RunFolder
from tests.conftest import box, files_of, some_image

SHAPES = {"a": (24, 32), "b": (20, 33), "c": (24, 32)}


class Oracle:
    """Says .95 for the left half of every image and .05 for the right one."""

    settings = SimpleNamespace(
        model_structure=SimpleNamespace(output_params=SimpleNamespace(target="foreground"))
    )

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
    assert calibration.count.sum() == sum(height * width for height, width in SHAPES.values())
    assert calibration.count[[0, 9]].sum() == calibration.count.sum()
    assert calibration.foreground[9] == 24 * 16 + 24 * 8
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
    oracle = Oracle()
    oracle.settings = SimpleNamespace(
        model_structure=SimpleNamespace(output_params=SimpleNamespace(target="interior"))
    )
    assert evaluate(oracle, data, known).table.loc[0, "iou"] == pytest.approx(15 / 16)


@pytest.mark.parametrize("threshold", [0, 1, -1, 50, float("nan")])
def test_an_impossible_threshold_is_refused(data, known, threshold):
    with pytest.raises(ValueError, match="`threshold`"):
        evaluate(Oracle(), data, known, threshold=threshold)


def test_what_cannot_be_evaluated_is_refused(data, known, write_set, tmp_path):
    with pytest.raises(ValueError, match="no test image; raise test_split_ratio"):
        evaluate(Oracle(), data.select([]), known)
    with pytest.raises(ValueError, match="1 images are not known"):
        evaluate(Oracle(), data, known[known["id"] != "b"])
    bare = write_set({"test/d/images/d.png": files_of("d", some_image(3))["d/images/d.png"],
                      "train/e/images/e.png": files_of("e", some_image(4))["e/images/e.png"],
                      "train/e/masks/0.png": files_of("e", some_image(4), [box(0, 0, 2, 2)])[
                          "e/masks/00.png"]}, name="bare")  # fmt: skip
    unlabelled = read_data_set(bare, cache_dir=tmp_path / "cache")
    with pytest.raises(ValueError, match="'d' has no masks"):
        evaluate(Oracle(), unlabelled.select(~unlabelled.table["labelled"]), known)


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    modalities = ["small_fluorescent"] * 6 + ["grayscale_tissue"] * 2
    columns = {name: rng.uniform(0.3, 0.9, 8) for name in ("dice", "iou")}
    groups = [0, 0, 1, 1, 2, 3, 4, 4]
    return pd.DataFrame(
        {"id": list("abcdefgh"), "modality": modalities, "group": groups, **columns}
    )


def test_the_summary_has_every_kind_and_its_fields(table):
    summary = summarise_scores(table, n_resamples=200).set_index(["score", "modality"])
    assert summary.loc["iou"].index.tolist() == ["small_fluorescent", "grayscale_tissue", "all"]
    assert summary.loc[("iou", "all"), ["n_images", "n_fields"]].tolist() == [8, 5]
    assert summary.loc[("dice", "all"), "estimate"] == pytest.approx(table["dice"].mean())
    small = summary.loc[("iou", "small_fluorescent")]
    assert small["low"] < small["estimate"] < small["high"]
    assert missing_modalities(table) == ["large_fluorescent", "purple_tissue", "pink_purple_tissue"]


def test_one_field_of_view_has_no_interval(table):
    gray = summarise_scores(table, n_resamples=50).set_index("modality").loc["grayscale_tissue"]
    assert gray["low"].isna().all() and gray["high"].isna().all()
    told = tabulate_summary(summarise_scores(table, n_resamples=50))
    assert told["modality"].tolist() == ["small fluorescent", "grayscale tissue", "all"]
    assert told.loc[1, "iou"].endswith("[one field]")
    assert told.columns.tolist() == ["modality", "n_images", "n_fields", "dice", "iou"]


def test_the_same_seed_gives_the_same_intervals(table):
    first, again, other = (summarise_scores(table, n_resamples=99, seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first["low"].equals(other["low"])


@pytest.mark.parametrize(
    "n, ranks", [(1, ["only"]), (2, ["best", "worst"]), (3, ["best", "median", "worst"])]
)
def test_few_images_are_not_shown_twice(table, n, ranks):
    examples = pick_examples(table.head(n))
    assert examples["rank"].tolist() == ranks
    assert examples["id"].is_unique
    assert examples["iou"].is_monotonic_decreasing


def test_metrics_are_json_and_point_at_the_median(data, known):
    evaluation = evaluate(Oracle(), data, known)
    summary = summarise_scores(evaluation.table, n_resamples=20)
    metrics = describe_evaluation(evaluation, summary, run="x")
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert metrics["look_at_first"] == "masks/c.png"
    assert metrics["overall"]["n_images"] == 3
    assert metrics["overall"]["iou"]["estimate"] == 0.5
    assert metrics["modalities"]["purple_tissue"]["iou"] == {
        "estimate": 0.5,
        "low": None,
        "high": None,
    }
    assert 0 <= metrics["calibration_error"] <= 1


def test_training_is_summarised_as_far_as_recorded(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.write_csv("history.csv", pd.DataFrame({"epoch": [1, 2], "seconds": [1.5, 2]}))
    assert summarise_training(run) == {"epochs": 2, "seconds": 3.5, "device": "not recorded"}
    run.write_json("training.json", {"device": "CPU"})
    assert summarise_training(run)["device"] == "CPU"


def test_examples_are_read_back_from_their_masks(data, known, tmp_path):
    with mask_folder(tmp_path / "masks") as write_mask:
        table = evaluate(Oracle(), data, known, write_mask=write_mask).table
    examples = pick_examples_by_modality(table)
    assert examples["modality"].tolist() == ["small_fluorescent"] * 2 + ["purple_tissue"]
    assert examples["rank"].tolist() == ["best", "worst", "only"]
    assert examples["id"].tolist() == ["a", "b", "c"]
    read = read_examples(data, examples["id"], tmp_path / "masks")
    for (image, mask_true, mask_pred), name in zip(read, "abc", strict=True):
        assert image.shape == mask_true.shape == mask_pred.shape == SHAPES[name]
    assert (read[0][1] == read[0][2]).all()
    assert not (read[1][1] & read[1][2]).any()
