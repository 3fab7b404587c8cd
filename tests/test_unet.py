import keras
import numpy as np
import pytest

from helpers.network.unet import build_unet
from helpers.settings import generate_settings, load_settings
from helpers.targets import TARGETS

# As the original program's description prints it.
ENCODER = {
    (256, 16): (448, 2320),
    (128, 32): (4640, 9248),
    (64, 64): (18496, 36928),
    (32, 128): (73856, 147584),
    (16, 256): (295168, 590080),
}
BOTTLENECK = {(8, 512): (1180160, 2359808)}
DECODER = {
    (16, 256): (524544, 1179904, 590080),
    (32, 128): (131200, 295040, 147584),
    (64, 64): (32832, 73792, 36928),
    (128, 32): (8224, 18464, 9248),
    (256, 16): (2064, 4624, 2320),
}
"""Parameters of the convolutions of each block, by its side and filters."""
ORIGINAL_DROPOUT = [0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1]


@pytest.fixture(scope="module")
def original():
    return build_unet(load_settings("settings/original.json"))


def inputs_of(layer):
    tensors = layer.input if isinstance(layer.input, list) else [layer.input]
    return [tensor._keras_history.operation for tensor in tensors]


def original_layers():
    """Type, output shape, parameters and inputs by place, layer by layer."""
    layers, skips = [("InputLayer", (256, 256, 3), 0, [])], {}

    def add(kind, side, filters, n_parameters=0, skip=()):
        layers.append((kind, (side, side, filters), n_parameters, [*skip, len(layers) - 1]))

    for (side, filters), (first, second) in (ENCODER | BOTTLENECK).items():
        add("Conv2D", side, filters, first)
        add("Dropout", side, filters)
        add("Conv2D", side, filters, second)
        skips[side] = len(layers) - 1
        if side > 8:
            add("MaxPooling2D", side // 2, filters)
    for (side, filters), (up, first, second) in DECODER.items():
        add("Conv2DTranspose", side, filters, up)
        add("Concatenate", side, 2 * filters, skip=[skips[side]])
        add("Conv2D", side, filters, first)
        add("Dropout", side, filters)
        add("Conv2D", side, filters, second)
    add("Conv2D", 256, 1, 17)
    return layers


def test_original_settings_build_the_original_layer_by_layer(original):
    layers = original.layers
    found = [
        (
            type(layer).__name__,
            tuple(layer.output.shape[1:]),
            layer.count_params(),
            [] if k == 0 else [layers.index(before) for before in inputs_of(layer)],
        )
        for k, layer in enumerate(layers)
    ]
    assert found == original_layers() and original.count_params() == 7_775_601
    rates = [layer.rate for layer in layers if type(layer).__name__ == "Dropout"]
    assert rates == ORIGINAL_DROPOUT
    convs = [layer for layer in layers if type(layer).__name__ == "Conv2D"]
    assert {layer.activation.__name__ for layer in convs[:-1]} == {"elu"}
    assert {type(layer.kernel_initializer).__name__ for layer in convs[:-1]} == {"HeNormal"}
    assert convs[-1].activation.__name__ == "sigmoid"


@pytest.mark.parametrize("n_blocks", [1, 4, 7])
def test_any_number_of_blocks_gives_probabilities_of_the_inputs_size(n_blocks):
    size = 2**n_blocks
    model = build_unet(generate_settings(n_blocks, base_filters=2, input_size=size))
    result = np.asarray(model(np.random.default_rng(0).random((2, size, size, 3), np.float32)))
    assert result.shape == (2, size, size, 1)
    assert result.dtype == np.float32
    assert ((result > 0) & (result < 1)).all()


def test_rectangular_kernels_pools_and_inputs():
    settings = generate_settings(2, base_filters=2, input_size=36)
    kernel = {"kernel_size": [1, 5], "activation": "relu", "kernel_initializer": "glorot_uniform"}
    transpose = {"kernel_size": [3, 2], "strides": [3, 2]}
    structure = {
        "encoder_params": {"max_pool_size": [3, 2], "general_conv_params": kernel},
        "decoder_params.general_transpose_conv_params": transpose,
        "input_params": {"height": 18, "width": 20, "channels": 1},
    }
    settings = settings.with_overrides({"model_structure": structure})
    model = build_unet(settings)
    assert settings.model_structure.size_multiple == (9, 4)
    assert model.get_layer("encoder_block_2_pool").output.shape == (None, 2, 5, 4)
    assert model.get_layer("encoder_block_1_conv_1").kernel.shape == (1, 5, 1, 2)
    assert model.output_shape == (None, 18, 20, 1)


def test_null_skip_leaves_the_concatenation_out():
    settings = generate_settings(2, base_filters=2, input_size=8)
    skip = "model_structure.decoder_params.changing_conv_params.decoder_block_1.concatenate_layer"
    model = build_unet(settings.with_overrides({skip: None}))
    names = [layer.name for layer in model.layers]
    assert "decoder_block_1_concatenate" not in names
    assert "decoder_block_2_concatenate" in names
    assert model.get_layer("decoder_block_1_conv_1").kernel.shape[2] == 4


# ---------------------------------------------------------------- targets and normalisation


def small(target="foreground", normalisation="none"):
    settings = generate_settings(2, base_filters=2, dropout=0.2, input_size=16)
    return settings.with_overrides({"target": target, "normalisation": normalisation})


def some_images(n=4):
    return np.random.default_rng(0).random((n, 16, 16, 3), np.float32)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_answers_have_the_channels_and_the_range_of_their_maps(target, normalisation):
    model = build_unet(small(target, normalisation))
    maps = np.asarray(model(100 * some_images()))
    assert maps.shape == (4, 16, 16, len(TARGETS[target].channels))
    assert maps.dtype == np.float32
    judged = maps[..., :1] if target == "flow" else maps
    assert ((judged >= 0) & (judged <= 1)).all()
    if target == "boundary":
        np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-5)
    if target == "flow":
        assert maps[..., 1:].min() < 0 < maps[..., 1:].max()


def test_the_normalisation_stands_between_convolution_and_activation():
    model = build_unet(small(normalisation="batch"))
    for name in ("encoder_block_1_conv_2", "bottleneck_conv_1", "decoder_block_2_conv_2"):
        convolution = model.get_layer(name)
        assert convolution.activation.__name__ == "linear"
        assert not convolution.use_bias
        normalisation = model.get_layer(f"{name}_normalisation")
        assert inputs_of(normalisation) == [convolution]
        activation = model.get_layer(f"{name}_activation")
        assert inputs_of(activation) == [normalisation]
        assert activation.activation.__name__ == "elu"
    assert model.get_layer("probability").use_bias


@pytest.mark.parametrize("target", ["foreground", "flow"])
def test_a_saved_and_loaded_network_answers_the_same(tmp_path, target):
    settings = small(target, "batch")
    model, images = build_unet(settings), some_images()
    before, rng = np.asarray(model(images)), np.random.default_rng(1)
    for weight in model.weights:  # as if trained: what a normalisation has measured, too
        weight.assign(weight + rng.uniform(0, 0.5, weight.shape))
    trained = np.asarray(model(images))
    assert not np.allclose(before, trained)
    model.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_allclose(np.asarray(loaded(images)), trained, atol=1e-6)
    free = build_unet(settings, free_size=True)
    free.set_weights(model.get_weights())
    np.testing.assert_allclose(np.asarray(free(images)), trained, atol=1e-5)


@pytest.mark.parametrize("target", ["foreground", "flow"])
def test_mixed_precision_answers_in_float32(target):
    model = build_unet(small(target, "batch"), precision="mixed_bfloat16")
    assert model.get_layer("bottleneck_conv_1_normalisation").compute_dtype == "bfloat16"
    assert {str(weight.dtype) for weight in model.trainable_weights} == {"float32"}
    assert np.asarray(model(some_images())).dtype == np.float32
