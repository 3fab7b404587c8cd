"""What a network is compared with: a threshold, and itself on the same image stored otherwise."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from helpers.data.data_set import read_data_set
from helpers.evaluation.masks import mask_folder
from helpers.evaluation.scores import (
    Threshold,
    evaluate,
    measure_invariance,
    negate,
    tabulate_invariance,
)
from helpers.network.prediction import Network
from helpers.network.unet import build_unet
from helpers.settings import generate_settings, parse_settings
from tests.conftest import box, files_of

SHAPE = (24, 32)


def gray_image():
    """Return dark ground with a bright box in its left upper corner."""
    image = np.full(SHAPE, 20, np.uint8)
    image[:8, :8] = 200
    return image


def red_image():
    """Return the same, red on black."""
    return np.stack([gray_image(), *[np.full(SHAPE, 20, np.uint8)] * 2], axis=-1)


@pytest.fixture
def data(write_set, tmp_path):
    files = files_of("gray", gray_image(), [box(0, 0, 8, 8)])
    files |= files_of("red", red_image(), [box(0, 0, 8, 16)])
    return read_data_set(write_set(files), cache_dir=tmp_path / "cache")


@pytest.fixture
def known():
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


def test_a_threshold_is_scored_like_a_network(data, known):
    table = evaluate(Threshold(Bright.settings), data, known).table.set_index("id")
    assert table["iou"].to_dict() == {"gray": 1.0, "red": 0.5}


def test_what_looks_at_brightness_alone_changes_its_mind_on_the_negative(data, known, tmp_path):
    table = agreement_of(Bright(), data, known, tmp_path)
    found = table.set_index(["id", "variation"])["agreement"].to_dict()
    box_px, image_px = 64, SHAPE[0] * SHAPE[1]
    # The negative of 200 is 55, which is still bright: the box is found, with all the ground.
    assert found == {
        ("gray", "negative"): pytest.approx(box_px / image_px),
        ("red", "negative"): pytest.approx(box_px / image_px),
        ("red", "gray"): 1.0,
    }
    assert table.set_index("id").loc["red", "modality"].tolist() == ["purple_tissue"] * 2


def test_dark_ground_gives_a_network_the_same_mask_of_an_image_and_its_negative(
    data, known, tmp_path
):
    values = generate_settings(1, base_filters=2, input_size=16).model_dump(mode="json")
    values["preprocessing"] = {"normalisation": "percentile", "polarity": "dark_ground"}
    settings = parse_settings(json.dumps(values))
    keras.utils.set_random_seed(0)
    network = Network(build_unet(settings), settings)
    for image in data.images:
        probabilities = network.predict(image)
        assert np.ptp(probabilities) > 0.01, "two empty masks would agree too"
        np.testing.assert_allclose(network.predict(negate(image)), probabilities, atol=1e-6)
    table = agreement_of(network, data, known, tmp_path)
    assert (table.loc[table["variation"] == "negative", "agreement"] == 1).all()


def test_agreement_is_told_kind_by_kind(data, known, tmp_path):
    told = tabulate_invariance(agreement_of(Bright(), data, known, tmp_path))
    assert told.index.tolist() == ["small_fluorescent", "purple_tissue"]
    assert told.loc["small_fluorescent"].tolist() == ["0.08 (lowest 0.08)", ""]
    assert told.loc["purple_tissue", "gray"] == "1.00 (lowest 1.00)"
