import keras
import numpy as np
import pytest

from helpers.network.unet import build_unet
from helpers.settings import generate_settings, load_settings
from helpers.targets import TARGETS

# As the original program's description prints it: type, output shape, parameters, inputs by place.
ORIGINAL = [
    ("InputLayer", (256, 256, 3), 0, []),
    ("Conv2D", (256, 256, 16), 448, [0]),
    ("Dropout", (256, 256, 16), 0, [1]),
    ("Conv2D", (256, 256, 16), 2320, [2]),
    ("MaxPooling2D", (128, 128, 16), 0, [3]),
    ("Conv2D", (128, 128, 32), 4640, [4]),
    ("Dropout", (128, 128, 32), 0, [5]),
    ("Conv2D", (128, 128, 32), 9248, [6]),
    ("MaxPooling2D", (64, 64, 32), 0, [7]),
    ("Conv2D", (64, 64, 64), 18496, [8]),
    ("Dropout", (64, 64, 64), 0, [9]),
    ("Conv2D", (64, 64, 64), 36928, [10]),
    ("MaxPooling2D", (32, 32, 64), 0, [11]),
    ("Conv2D", (32, 32, 128), 73856, [12]),
    ("Dropout", (32, 32, 128), 0, [13]),
    ("Conv2D", (32, 32, 128), 147584, [14]),
    ("MaxPooling2D", (16, 16, 128), 0, [15]),
    ("Conv2D", (16, 16, 256), 295168, [16]),
    ("Dropout", (16, 16, 256), 0, [17]),
    ("Conv2D", (16, 16, 256), 590080, [18]),
    ("MaxPooling2D", (8, 8, 256), 0, [19]),
    ("Conv2D", (8, 8, 512), 1180160, [20]),
    ("Dropout", (8, 8, 512), 0, [21]),
    ("Conv2D", (8, 8, 512), 2359808, [22]),
    ("Conv2DTranspose", (16, 16, 256), 524544, [23]),
    ("Concatenate", (16, 16, 512), 0, [19, 24]),
    ("Conv2D", (16, 16, 256), 1179904, [25]),
    ("Dropout", (16, 16, 256), 0, [26]),
    ("Conv2D", (16, 16, 256), 590080, [27]),
    ("Conv2DTranspose", (32, 32, 128), 131200, [28]),
    ("Concatenate", (32, 32, 256), 0, [15, 29]),
    ("Conv2D", (32, 32, 128), 295040, [30]),
    ("Dropout", (32, 32, 128), 0, [31]),
    ("Conv2D", (32, 32, 128), 147584, [32]),
    ("Conv2DTranspose", (64, 64, 64), 32832, [33]),
    ("Concatenate", (64, 64, 128), 0, [11, 34]),
    ("Conv2D", (64, 64, 64), 73792, [35]),
    ("Dropout", (64, 64, 64), 0, [36]),
    ("Conv2D", (64, 64, 64), 36928, [37]),
    ("Conv2DTranspose", (128, 128, 32), 8224, [38]),
    ("Concatenate", (128, 128, 64), 0, [7, 39]),
    ("Conv2D", (128, 128, 32), 18464, [40]),
    ("Dropout", (128, 128, 32), 0, [41]),
    ("Conv2D", (128, 128, 32), 9248, [42]),
    ("Conv2DTranspose", (256, 256, 16), 2064, [43]),
    ("Concatenate", (256, 256, 32), 0, [3, 44]),
    ("Conv2D", (256, 256, 16), 4624, [45]),
    ("Dropout", (256, 256, 16), 0, [46]),
    ("Conv2D", (256, 256, 16), 2320, [47]),
    ("Conv2D", (256, 256, 1), 17, [48]),
]
ORIGINAL_DROPOUT = [0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1]


@pytest.fixture(scope="module")
def original():
    return build_unet(load_settings("settings/original.json"))


def inputs_of(layer):
    tensors = layer.input if isinstance(layer.input, list) else [layer.input]
    return [tensor._keras_history.operation for tensor in tensors]


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
    assert found == ORIGINAL
    assert original.count_params() == 7_775_601
    rates = [layer.rate for layer in layers if type(layer).__name__ == "Dropout"]
    assert rates == ORIGINAL_DROPOUT
    convs = [layer for layer in layers if type(layer).__name__ == "Conv2D"]
    assert {layer.activation.__name__ for layer in convs[:-1]} == {"elu"}
    assert {type(layer.kernel_initializer).__name__ for layer in convs[:-1]} == {"HeNormal"}
    assert convs[-1].activation.__name__ == "sigmoid"
    assert sum(int(np.prod(w.shape)) for w in original.trainable_weights) == 7_775_601


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
