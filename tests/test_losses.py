from typing import get_args

import keras
import numpy as np
import pytest

from helpers.network.losses import (
    BinaryCrossentropyDice,
    ForegroundIoU,
    MapsLoss,
    build_loss,
    build_metrics,
)
from helpers.settings import TrainingParameters
from helpers.targets import TARGETS, get_target

TRUTH = np.zeros((2, 4, 4, 1), np.float32)
TRUTH[0, :2] = 1
TRUTH[1, 1, 1] = 1


LABELS = np.zeros((2, 12, 12), np.int32)
LABELS[0, 1:8, 1:6], LABELS[0, 1:8, 6:11], LABELS[1, 4:9, 2:9] = 1, 2, 1


def loss_of(name, truth, prediction, target="foreground"):
    return float(build_loss(name, target)(truth, np.asarray(prediction, np.float32)))


def true_maps(target):
    return np.stack([get_target(target).encode(labels) for labels in LABELS])


def dull_maps(target):
    """What a network says that has learnt nothing: the same everywhere."""
    middle = {"boundary": [1 / 3] * 3, "distance": [0.5, 0.5], "flow": [0.5, 0, 0]}.get(
        target, [0.5]
    )
    return np.broadcast_to(np.float32(middle), (*LABELS.shape, len(middle)))


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


# ---------------------------------------------------------------- several maps


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", get_args(TrainingParameters.model_fields["loss"].annotation))
def test_perfect_maps_are_near_zero_and_better_maps_have_a_lower_loss(name, target):
    truth, dull = true_maps(target), dull_maps(target)
    shares = (0, 0.3, 0.6, 0.9)
    values = [loss_of(name, truth, dull + share * (truth - dull), target) for share in shares]
    assert values == sorted(set(values), reverse=True)
    assert loss_of(name, truth, truth, target) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("target", ["distance", "flow"])
def test_what_the_further_maps_say_in_the_background_is_never_asked(target):
    truth = true_maps(target)
    other = truth.copy()
    other[..., 1:][LABELS == 0] = 7
    assert loss_of("dice", truth, other, target) == loss_of("dice", truth, truth, target)
    other[0, 4, 4, 1] += 0.5
    assert loss_of("dice", truth, other, target) > loss_of("dice", truth, truth, target)


def test_flow_and_distance_by_hand():
    truth = np.zeros((1, 2, 2, 3), np.float32)
    truth[0, 0] = [[1, 0, 1], [1, 0, -1]]  # two pixels of nuclei
    said = truth.copy()
    said[0, 0, 0, 1:] = 0.5, 0.7
    said[0, 1] = [0, 9, 9]
    mask_alone = loss_of("binary_crossentropy", truth[..., :1], said[..., :1])
    expected = mask_alone + (0.5**2 + 0.3**2) / 2
    assert loss_of("binary_crossentropy", truth, said, "flow") == pytest.approx(expected, rel=1e-5)
    said[0, 0, 1, 2] = -0.8
    expected = mask_alone + (0.3**2 + 0.2**2) / 2
    truth, said = truth[..., [0, 2]], said[..., [0, 2]]
    found = loss_of("binary_crossentropy", truth, said, "distance")
    assert found == pytest.approx(expected, rel=1e-5)


def test_boundary_by_hand():
    truth = np.zeros((1, 1, 2, 3), np.float32)
    truth[0, 0] = [[1, 0, 0], [0, 0, 1]]
    said = np.zeros((1, 1, 2, 3), np.float32)
    said[0, 0] = [[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]]
    half, quarter = -np.log(0.5), -np.log(0.75)  # of each pixel and class: right or wrong by what
    expected = np.mean([half, quarter, quarter, quarter, quarter, half])
    found = loss_of("binary_crossentropy", truth, said, "boundary")
    assert found == pytest.approx(expected, rel=1e-5)


def test_registered_names_are_those_in_saved_networks():
    for each in (BinaryCrossentropyDice(), MapsLoss("dice", "flow"), ForegroundIoU("flow")):
        config = keras.saving.serialize_keras_object(each)
        assert config["registered_name"] == f"helpers>{type(each).__name__}"


@pytest.mark.parametrize("target", TARGETS)
def test_loss_and_metric_survive_saving(target):
    truth, dull = true_maps(target), dull_maps(target)
    loss, (metric,) = build_loss("binary_crossentropy_dice", target), build_metrics(target)
    again, measured = (
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(each))
        for each in (loss, metric)
    )
    assert float(again(truth, dull)) == float(loss(truth, dull))
    assert again.get_config() == loss.get_config()
    assert measured.get_config() == metric.get_config()
    assert measured.name == "iou"
    for each in (metric, measured):
        each.update_state(truth, 0.8 * truth + 0.2 * dull)
    assert float(measured.result()) == float(metric.result()) > 0.9


def test_iou_of_boundary_maps_counts_rims_as_nuclei():
    (metric,) = build_metrics("boundary")
    said = np.zeros((1, 1, 4, 3), np.float32)
    said[0, 0] = [[0.2, 0.4, 0.4], [0.4, 0.3, 0.3], [0.6, 0.2, 0.2], [0.9, 0.1, 0]]
    truth = np.zeros((1, 1, 4, 3), np.float32)
    truth[0, 0] = [[0, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]]
    metric.update_state(truth, said)
    assert float(metric.result()) == pytest.approx(2 / 3, rel=1e-5)
