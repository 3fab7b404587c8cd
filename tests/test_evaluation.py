"""Evaluation of a network whose answers are known beforehand."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

from helpers.data.data_set import read_data_set
from helpers.evaluation.masks import mask_folder, read_mask
from helpers.evaluation.scores import (
    Threshold,
    describe_evaluation,
    evaluate,
    measure_invariance,
    pick_examples_by_modality,
    read_examples,
    tabulate_invariance,
)
from helpers.evaluation.summary import summarise_scores
from helpers.network.prediction import Network
from helpers.network.unet import build_unet
from helpers.settings import generate_settings, parse_settings
from helpers.targets import get_target
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
    with pytest.raises(ValueError, match="no image to evaluate"):
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
    examples = pick_examples_by_modality(table)
    assert examples["modality"].tolist() == ["small_fluorescent"] * 2 + ["purple_tissue"]
    assert examples["rank"].tolist() == ["best", "worst", "only"]
    assert examples["id"].tolist() == ["a", "b", "c"]
    read = read_examples(data, examples["id"], tmp_path / "masks", get_target("foreground"))
    for (image, mask_true, mask_pred), name in zip(read, "abc", strict=True):
        assert image.shape == mask_true.shape == mask_pred.shape == SHAPES[name]
    assert (read[0][1] == read[0][2]).all()
    assert not (read[1][1] & read[1][2]).any()


def gray_image():
    """Return dark ground with a bright box in its left upper corner."""
    image = np.full(SHAPES["a"], 20, np.uint8)
    image[:8, :8] = 200
    return image


def red_image():
    """Return the same, red on black."""
    return np.stack([gray_image(), *[np.full(SHAPES["a"], 20, np.uint8)] * 2], axis=-1)


@pytest.fixture
def colours(write_set, tmp_path):
    files = files_of("gray", gray_image(), [box(0, 0, 8, 8)])
    files |= files_of("red", red_image(), [box(0, 0, 8, 16)])
    return read_data_set(write_set(files), cache_dir=tmp_path / "cache")


@pytest.fixture
def known_colours():
    modalities = ["small_fluorescent", "purple_tissue"]
    return pd.DataFrame({"id": ["gray", "red"], "modality": modalities, "group": [0, 1]})


class Bright:
    """Calls nucleus what is brighter than 50 of 255, in the mean of the channels."""

    settings = generate_settings(1)

    def predict(self, image):
        gray = image if image.ndim == 2 else image.mean(axis=2)
        return (gray > 50).astype(np.float32)


def agreement_of(network, data, known, tmp_path):
    with mask_folder(tmp_path / "masks") as write_mask:
        for name, image in zip(data.ids, data.images, strict=True):
            write_mask(name, network.predict(image) >= 0.5)
    return measure_invariance(network, data, known, tmp_path / "masks")


def test_a_threshold_is_scored_like_a_network(colours, known_colours):
    table = evaluate(Threshold(Bright.settings), colours, known_colours).table.set_index("id")
    assert table["iou"].to_dict() == {"gray": 1.0, "red": 0.5}


def test_brightness_alone_fails_on_the_negative(colours, known_colours, tmp_path):
    table = agreement_of(Bright(), colours, known_colours, tmp_path)
    found = table.set_index(["id", "variation"])["agreement"].to_dict()
    box_px, image_px = 64, SHAPES["a"][0] * SHAPES["a"][1]
    # The negative of 200 is 55, which is still bright: the box is found, with all the ground.
    assert found == {
        ("gray", "negative"): pytest.approx(box_px / image_px),
        ("red", "negative"): pytest.approx(box_px / image_px),
        ("red", "gray"): 1.0,
    }
    assert table.set_index("id").loc["red", "modality"].tolist() == ["purple_tissue"] * 2


def test_dark_ground_gives_a_network_the_same_mask_of_an_image_and_its_negative(
    colours, known_colours, tmp_path
):
    values = generate_settings(1, base_filters=2, input_size=16).model_dump(mode="json")
    values["preprocessing"] = {"normalisation": "percentile", "polarity": "dark_ground"}
    settings = parse_settings(json.dumps(values))
    keras.utils.set_random_seed(0)
    network = Network(build_unet(settings), settings)
    for image in colours.images:
        probabilities = network.predict(image)
        assert np.ptp(probabilities) > 0.01, "two empty masks would agree too"
        np.testing.assert_allclose(network.predict(np.invert(image)), probabilities, atol=1e-6)
    table = agreement_of(network, colours, known_colours, tmp_path)
    assert (table.loc[table["variation"] == "negative", "agreement"] == 1).all()


def test_agreement_is_a_table_by_modality(colours, known_colours, tmp_path):
    table = tabulate_invariance(agreement_of(Bright(), colours, known_colours, tmp_path))
    assert table.index.tolist() == ["small_fluorescent", "purple_tissue"]
    assert table[("negative", "lowest")].tolist() == pytest.approx([64 / (24 * 32)] * 2)
    assert np.isnan(table.loc["small_fluorescent", ("gray", "mean")])
    assert table.loc["purple_tissue", ("gray", "mean")] == 1
