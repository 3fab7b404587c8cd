import json

import keras
import numpy as np
import pytest

from helpers.network.unet import build_unet
from helpers.settings import generate_settings, parse_settings
from helpers.training.loop import KNOWN, compile_network, overfit_batch, settle_normalisation


def a_network(normalisation="batch"):
    keras.utils.set_random_seed(0)
    settings = generate_settings(1, base_filters=8, dropout=0, input_size=16, learning_rate=0.01)
    values = settings.model_dump(mode="json", by_alias=True)
    for part in ("encoder_params", "bottle_neck_params", "decoder_params"):
        values["model_structure"][part]["general_conv_params"]["normalisation"] = normalisation
    settings = parse_settings(json.dumps(values))
    return compile_network(build_unet(settings), settings)


def a_batch():
    rng = np.random.default_rng(0)
    targets = np.zeros((2, 16, 16, 1), np.float32)
    targets[:, 4:12, 4:12] = 1
    inputs = np.repeat(targets, 3, axis=-1) * 5 + 3
    return inputs + rng.normal(0, 0.1, inputs.shape).astype(np.float32), targets


@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_an_easy_batch_is_known_long_before_the_steps_are_over(normalisation):
    model = a_network(normalisation)
    history = overfit_batch(model, *a_batch(), max_steps=300)
    assert len(history["iou"]) < 300
    assert history["iou"][-1] >= KNOWN > max(history["iou"][:-1])
    assert model.evaluate(*a_batch(), verbose=0, return_dict=True)["iou"] > 0.8


def test_no_more_steps_are_taken_than_allowed():
    assert len(overfit_batch(a_network(), *a_batch(), max_steps=2)["loss"]) == 2


def test_a_settled_network_predicts_what_it_answers_in_training():
    model, (inputs, _) = a_network(), a_batch()
    in_training = np.asarray(model(inputs, training=True))
    assert np.abs(np.asarray(model(inputs)) - in_training).max() > 0.05
    settle_normalisation(model, inputs)
    np.testing.assert_allclose(np.asarray(model(inputs)), in_training, atol=1e-3)


def test_settling_leaves_how_fast_the_running_statistics_change():
    model = a_network()
    settle_normalisation(model, a_batch()[0])
    momenta = {
        layer.momentum
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert momenta == {0.99}
