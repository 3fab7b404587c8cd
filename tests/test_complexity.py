"""What a network costs, and how far it looks: known answers."""

import keras
import numpy as np
import pytest

from helpers.network.complexity import count_flop, measure_receptive_field, tabulate_networks
from helpers.network.unet import build_unet
from helpers.settings import generate_settings, load_settings
from helpers.targets import TARGETS

SMALL = generate_settings(2, base_filters=2, input_size=16)


def uneven_settings(
    height=16, width=120, pool=(1, 2), kernel=(3, 3), up=(1, 2), n_blocks=2, convolutions=2
):
    """Small blocks with rectangular poolings and kernels, one channel, wide in one direction."""
    settings = generate_settings(n_blocks, base_filters=2, input_size=128)
    parts = ("encoder_params", "bottle_neck_params", "decoder_params")
    structure = {
        "input_params": {"height": height, "width": width, "channels": 1},
        "encoder_params.max_pool_size": pool,
        "decoder_params.convolutions": convolutions,
        "decoder_params.general_transpose_conv_params": {"kernel_size": up, "strides": pool},
        **{f"{part}.general_conv_params.kernel_size": kernel for part in parts},
    }
    return settings.with_overrides({"model_structure": structure})


@pytest.mark.parametrize(
    ("decoder", "joined"), [({}, 4 * 2 + 2 * 2), ({"skip": "add", "convolutions": 1}, 2 * 2)]
)
def test_cost_of_one_block_by_hand(decoder, joined):
    overrides = {f"model_structure.decoder_params.{key}": value for key, value in decoder.items()}
    settings = generate_settings(1, base_filters=2, input_size=4).with_overrides(overrides)
    full, half = 16, 4
    down = full * 9 * (3 * 2 + 2 * 2)
    bottom = half * 9 * (2 * 4 + 4 * 4) + half * 4 * (4 * 2)
    up = full * 9 * joined + full * 2
    assert count_flop(build_unet(settings)) == 2 * (down + bottom + up)


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_parameters_and_cost_of_the_answer_by_hand(target):
    model = build_unet(SMALL.with_overrides({"target": target.name}))
    plain, more = build_unet(SMALL), len(target.channels) - 1
    assert model.count_params() - plain.count_params() == more * (2 + 1)
    assert count_flop(model) - count_flop(plain) == 2 * more * 16 * 16 * 2


def test_a_normalisation_has_parameters_no_cost_and_no_field_of_its_own():
    normalised = SMALL.with_overrides({"normalisation": "batch"})
    model, plain = build_unet(normalised), build_unet(SMALL)
    filters = 2 * (2 + 4 + 8 + 4 + 2)  # of all convolutions in the blocks
    added = model.count_params() - plain.count_params()
    assert added == 4 * filters - filters  # scale, shift, mean and variance, but no bias
    assert count_flop(model) == count_flop(plain)
    assert measure_receptive_field(normalised) == measure_receptive_field(SMALL)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel": (3, 4)},
        {"up": (1, 4)},
        {"pool": (1, 3), "up": (1, 3), "width": 126},
        {"n_blocks": 1, "kernel": (1, 1)},
        {"convolutions": 1},
    ],
    ids=str,
)
def test_receptive_field_is_that_of_impulses_through_the_network(options):
    settings = uneven_settings(height=1, **{"kernel": (1, 3), **options})
    width = settings.model_structure.input_params.width
    model = build_unet(settings)
    for weight in model.weights:  # positive, so that nothing cancels
        weight.assign(np.full(weight.shape, 0.0 if weight.name == "bias" else 0.5))
    before_sigmoid = keras.Model(model.input, model.layers[-2].output)
    impulses = np.eye(width, dtype=np.float32)[:, None, :, None]
    reached = before_sigmoid.predict_on_batch(impulses)[:, 0].max(axis=-1) > 0
    middle = range(width // 2 - 6, width // 2 + 6)
    spans = [np.flatnonzero(reached[:, pixel]) for pixel in middle]
    assert max(s[-1] - s[0] + 1 for s in spans if len(s)) == measure_receptive_field(settings)[1]


def test_receptive_field_by_hand():
    # Two convolutions widen by 4 pixels at full size, twice by 4 at half: 1 + 4 + 8 + 4 = 17,
    # and one more as the pixels' pairs need not lie in the middle.
    assert measure_receptive_field(generate_settings(1)) == (18, 18)


def test_receptive_field_knows_the_axes():
    high, wide = measure_receptive_field(uneven_settings())
    assert high == 1 + 2 * 2 * 5
    assert wide == measure_receptive_field(generate_settings(2))[1]


def test_networks_are_compared_row_by_row():
    table = tabulate_networks(
        {"original": load_settings("settings/original.json"), "one block": generate_settings(1)}
    )
    assert table.loc["original"].tolist() == [7_775_601, 412, 7.49, 114.3]
    assert table.loc["one block", ["parameters", "receptive field (px)"]].tolist() == [25_681, 18]
