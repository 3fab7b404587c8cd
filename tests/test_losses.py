from typing import get_args

import keras
import numpy as np
import pytest

from helpers.network.losses import LOSSES, BinaryCrossentropyDice, build_loss, build_metrics
from helpers.settings import TrainingParameters

TRUTH = np.zeros((2, 4, 4, 1), np.float32)
TRUTH[0, :2] = 1
TRUTH[1, 1, 1] = 1


def loss_of(name, truth, prediction):
    return float(build_loss(name)(truth, np.asarray(prediction, np.float32)))


def test_every_loss_that_settings_may_name_exists():
    assert set(LOSSES) == set(get_args(TrainingParameters.model_fields["loss"].annotation))


@pytest.mark.parametrize("name", LOSSES)
def test_perfect_is_near_zero_and_wrong_is_worse(name):
    assert loss_of(name, TRUTH, TRUTH) == pytest.approx(0, abs=1e-4)
    assert loss_of(name, TRUTH, 1 - TRUTH) > 0.9


@pytest.mark.parametrize("name", LOSSES)
def test_moving_towards_the_truth_lowers_the_loss(name):
    values = [loss_of(name, TRUTH, 0.5 + share * (TRUTH - 0.5)) for share in (0, 0.4, 0.8)]
    assert values == sorted(values, reverse=True)


def test_known_answers_for_one_half_everywhere():
    half = np.full_like(TRUTH, 0.5)
    dice = np.mean([2 * 4 / (8 + 8), 2 * 0.5 / (1 + 8)])
    assert loss_of("binary_crossentropy", TRUTH, half) == pytest.approx(np.log(2), rel=1e-5)
    assert loss_of("dice", TRUTH, half) == pytest.approx(1 - dice, rel=1e-4)
    expected = 0.5 * (np.log(2) + 1 - dice)
    assert loss_of("binary_crossentropy_dice", TRUTH, half) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["dice", "binary_crossentropy_dice"])
def test_dice_counts_every_image_alike(name):
    prediction = np.stack([TRUTH[0], 0 * TRUTH[1]])
    one_wrong = loss_of(name, TRUTH, prediction)
    alone = loss_of(name, TRUTH[1:], prediction[1:])
    assert one_wrong == pytest.approx(alone / 2, rel=1e-3)


def test_combined_loss_survives_saving():
    config = keras.saving.serialize_keras_object(BinaryCrossentropyDice())
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, BinaryCrossentropyDice)
    assert config["registered_name"] == "helpers>BinaryCrossentropyDice"


def test_iou_is_that_of_the_foreground_at_one_half():
    (metric,) = build_metrics()
    prediction = np.zeros_like(TRUTH)
    prediction[0, :1] = 0.6  # 4 of 8 pixels found, the single pixel of the other image missed
    prediction[1, 3, 3] = 0.7  # one false
    metric.update_state(TRUTH, prediction)
    assert metric.name == "iou"
    assert float(metric.result()) == pytest.approx(4 / 10, rel=1e-5)
