import json

import keras
import numpy as np
import pytest

from helpers.network.complexity import (
    change_network,
    count_flop,
    count_parameters,
    list_layers,
    measure_diameters,
    measure_receptive_field,
    tabulate_layers,
    tabulate_networks,
)
from helpers.network.unet import build_unet
from helpers.settings import SettingsError, generate_settings, load_settings, parse_settings
from helpers.targets import TARGETS

ORIGINAL = load_settings("settings/original.json")


def uneven_settings(height=16, width=120, pool=(1, 2), kernel=(3, 3), up=(1, 2), n_blocks=2):
    """Small blocks with rectangular poolings and kernels, one channel, wide in one direction."""
    values = generate_settings(n_blocks, base_filters=2, input_size=128).model_dump(
        mode="json", by_alias=True
    )
    structure = values["model_structure"]
    structure["input_params"] = {"height": height, "width": width, "channels": 1}
    structure["encoder_params"]["max_pool_size"] = pool
    structure["decoder_params"]["general_transpose_conv_params"] |= {
        "kernel_size": up,
        "strides": pool,
    }
    for part in ("encoder_params", "bottle_neck_params", "decoder_params"):
        structure[part]["general_conv_params"]["kernel_size"] = kernel
    return parse_settings(json.dumps(values))


def network_of(target="foreground", normalisation="none"):
    """Small blocks that answer `target`, with or without batch normalisation."""
    values = generate_settings(2, base_filters=2, input_size=16).model_dump(
        mode="json", by_alias=True
    )
    structure = values["model_structure"]
    structure["output_params"]["target"] = target
    for part in ("encoder_params", "bottle_neck_params", "decoder_params"):
        structure[part]["general_conv_params"]["normalisation"] = normalisation
    return parse_settings(json.dumps(values))


def input_names(layer):
    tensors = layer.input if isinstance(layer.input, list) else [layer.input]
    return tuple(t._keras_history.operation.name for t in tensors)


@pytest.mark.parametrize(
    "settings",
    [
        ORIGINAL,
        load_settings("settings/quick.json"),
        generate_settings(1),
        uneven_settings(),
        *(network_of(target, "none") for target in TARGETS),
        *(network_of(target, "batch") for target in TARGETS),
    ],
    ids=["original", "quick", "one block", "uneven", *TARGETS, *(f"{t}, batch" for t in TARGETS)],
)
def test_layers_are_those_of_the_network_that_is_built(settings):
    model = build_unet(settings)
    layers = list_layers(settings)
    assert [x.name for x in layers] == [x.name for x in model.layers]
    assert [x.type for x in layers] == [type(x).__name__ for x in model.layers]
    assert [x.parameters for x in layers] == [x.count_params() for x in model.layers]
    assert [(None, *x.shape) for x in layers] == [x.output.shape for x in model.layers]
    assert [x.inputs for x in layers[1:]] == [input_names(x) for x in model.layers[1:]]
    assert count_parameters(settings) == model.count_params()


def test_original_has_its_published_size_and_cost():
    assert count_parameters(ORIGINAL) == 7_775_601
    assert round(count_flop(ORIGINAL) / 1e9, 1) == 7.5


def test_cost_of_one_block_by_hand():
    settings = generate_settings(1, base_filters=2, input_size=4)
    full, half = 16, 4
    down = full * 9 * (3 * 2 + 2 * 2)
    bottom = half * 9 * (2 * 4 + 4 * 4) + half * 4 * (4 * 2)
    up = full * 9 * (4 * 2 + 2 * 2) + full * 2
    assert count_flop(settings) == 2 * (down + bottom + up)


@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_interiors_take_the_same_network_as_the_foreground(normalisation):
    one, other = (network_of(target, normalisation) for target in ("foreground", "interior"))
    assert list_layers(one) == list_layers(other)


@pytest.mark.parametrize(
    ("target", "n_maps"),
    [("foreground", 1), ("interior", 1), ("boundary", 3), ("distance", 2), ("flow", 3)],
)
def test_parameters_and_cost_of_the_answer_by_hand(target, n_maps):
    settings, plain = network_of(target), network_of()
    more = n_maps - 1
    assert count_parameters(settings) - count_parameters(plain) == more * (2 + 1)
    assert count_flop(settings) - count_flop(plain) == 2 * more * 16 * 16 * 2


def test_parameters_of_the_normalisation_by_hand():
    filters = 2 * (2 + 4 + 8 + 4 + 2)  # of all convolutions in the blocks
    added = count_parameters(network_of(normalisation="batch")) - count_parameters(network_of())
    assert added == 4 * filters - filters  # scale, shift, mean and variance, but no bias
    assert count_flop(network_of(normalisation="batch")) == count_flop(network_of())


def test_a_normalisation_does_not_widen_the_view():
    fields = {measure_receptive_field(network_of(t, n)) for t in TARGETS for n in ("none", "batch")}
    assert len(fields) == 1


def test_table_has_a_row_for_every_layer():
    table = tabulate_layers(ORIGINAL)
    assert list(table) == ["layer", "type", "output shape", "parameters", "connected to"]
    assert table["parameters"].sum() == 7_775_601
    assert table.iloc[1].tolist() == [
        "encoder_block_1_conv_1",
        "Conv2D",
        "256 × 256 × 16",
        448,
        "image",
    ]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel": (3, 5)},
        {"kernel": (3, 4)},
        {"up": (1, 3)},
        {"up": (1, 4)},
        {"pool": (1, 3), "up": (1, 3), "width": 126},
        {"n_blocks": 1, "kernel": (1, 1)},
        {"n_blocks": 1, "up": (1, 1)},
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


def test_changes_reach_every_block_and_are_checked():
    changed = change_network(
        ORIGINAL, kernel_size=(5, 3), activation="relu", channels=1, target="interior"
    )
    structure = changed.model_structure
    for part in (structure.encoder_params, structure.bottle_neck_params, structure.decoder_params):
        assert part.general_conv_params.kernel_size == (5, 3)
        assert part.general_conv_params.activation == "relu"
    assert structure.input_params.channels == 1
    assert structure.output_params.target == "interior"
    assert change_network(ORIGINAL) == ORIGINAL
    with pytest.raises(SettingsError, match="activation"):
        change_network(ORIGINAL, activation="rellu")


def test_networks_are_compared_row_by_row():
    table = tabulate_networks({n: generate_settings(n) for n in range(1, 8)})
    assert table.index.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert table.loc[5].tolist() == [7_775_601, 412, 7.49, 114.3]
    assert table["parameters"].is_monotonic_increasing
    assert table["receptive field (px)"].is_monotonic_increasing


def test_diameter_of_a_disc_is_its_own():
    rows, columns = np.mgrid[:101, :101]
    labels = 3 * (np.hypot(rows - 50, columns - 50) <= 20).astype(np.int32)
    assert measure_diameters([labels]) == pytest.approx([40], rel=0.01)


def test_images_without_nuclei_have_no_diameters():
    assert measure_diameters([np.zeros((4, 4), int)]).size == 0
    assert measure_diameters([]).size == 0
