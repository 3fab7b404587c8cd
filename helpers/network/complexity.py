"""What settings mean before anything is trained: layers, parameters, cost, receptive field.

All of it is worked out from the settings alone, without Keras, so that networks can be compared
in no time. The tests hold it against the networks that are built.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.settings import Settings, parse_settings

FLOP_PER_MULTIPLY_ADD = 2


class Layer(NamedTuple):
    """One layer of the network, as `list_layers` gives it.

    `shape` is (height, width, channels) of its output for one image, `multiply_adds` what it costs
    for that image: multiplications by a weight, each with its addition.
    """

    name: str
    type: str
    shape: tuple[int, int, int]
    parameters: int
    inputs: tuple[str, ...]
    multiply_adds: int = 0


def list_layers(settings: Settings) -> list[Layer]:
    """Return the layers that `build_unet` makes of `settings`, in its order."""
    structure = settings.model_structure
    size = structure.input_params
    layers = [Layer("image", "InputLayer", (size.height, size.width, size.channels), 0, ())]
    encoder, bottleneck = structure.encoder_params, structure.bottle_neck_params
    last_of = {}
    for name, block in structure.encoder_blocks:
        _add_block(layers, name, block, encoder.general_conv_params)
        last_of[name] = layers[-1].name
        _add_pool(layers, name, encoder.max_pool_size)
    _add_block(
        layers, "bottleneck", bottleneck.changing_conv_params, bottleneck.general_conv_params
    )
    for name, block in structure.decoder_blocks:
        _add_up(layers, name, block, structure.decoder_params.general_transpose_conv_params)
        if block.concatenate_layer is not None:
            _add_skip(layers, name, last_of[block.concatenate_layer])
        _add_block(layers, name, block, structure.decoder_params.general_conv_params)
    _add_heads(layers, structure.target.heads)
    return layers


def _add_block(layers, name, block, general):
    _add_normalised(layers, f"{name}_conv_1", block, general)
    last = layers[-1]
    layers.append(Layer(f"{name}_dropout", "Dropout", last.shape, 0, (last.name,)))
    _add_normalised(layers, f"{name}_conv_2", block, general)


def _add_normalised(layers, name, block, general):
    is_plain = general.normalisation == "none"
    _add_conv(layers, name, block.filter_size, general.kernel_size, bias=is_plain)
    if not is_plain:
        shape = layers[-1].shape
        normalised, n_parameters = f"{name}_normalisation", 4 * shape[2]
        layers.append(Layer(normalised, "BatchNormalization", shape, n_parameters, (name,)))
        layers.append(Layer(f"{name}_activation", "Activation", shape, 0, (normalised,)))


def _add_conv(layers, name, filters, kernel_size, *, bias=True, after=-1):
    last = layers[after]
    height, width, channels = last.shape
    weights = math.prod(kernel_size) * channels * filters
    shape, cost = (height, width, filters), height * width * weights
    n_parameters = weights + filters * bias
    layers.append(Layer(name, "Conv2D", shape, n_parameters, (last.name,), cost))


def _add_heads(layers, heads):
    """Add the last layers, all of them after the same feature map, and what joins them."""
    place = len(layers) - 1
    for name, n_channels, _ in heads:
        _add_conv(layers, name, n_channels, (1, 1), after=place)
    if len(heads) > 1:
        parts = layers[place + 1 :]
        shape = (*parts[0].shape[:2], sum(part.shape[2] for part in parts))
        names = tuple(part.name for part in parts)
        layers.append(Layer("maps", "Concatenate", shape, 0, names))


def _add_pool(layers, name, pool_size):
    last = layers[-1]
    height, width, channels = last.shape
    shape = (height // pool_size[0], width // pool_size[1], channels)
    layers.append(Layer(f"{name}_pool", "MaxPooling2D", shape, 0, (last.name,)))


def _add_up(layers, name, block, transpose):
    last = layers[-1]
    height, width, channels = last.shape
    weights = math.prod(transpose.kernel_size) * channels * block.filter_size
    shape = (height * transpose.strides[0], width * transpose.strides[1], block.filter_size)
    parameters, cost = weights + block.filter_size, height * width * weights
    layers.append(Layer(f"{name}_up", "Conv2DTranspose", shape, parameters, (last.name,), cost))


def _add_skip(layers, name, skip):
    last = layers[-1]
    channels = last.shape[2] + next(layer.shape[2] for layer in layers if layer.name == skip)
    shape, inputs = (*last.shape[:2], channels), (skip, last.name)
    layers.append(Layer(f"{name}_concatenate", "Concatenate", shape, 0, inputs))


def tabulate_layers(settings: Settings) -> pd.DataFrame:
    """Return one row a layer: layer, type, output shape, parameters, connected to."""
    rows = [
        {
            "layer": layer.name,
            "type": layer.type,
            "output shape": " × ".join(map(str, layer.shape)),
            "parameters": layer.parameters,
            "connected to": ", ".join(layer.inputs),
        }
        for layer in list_layers(settings)
    ]
    return pd.DataFrame(rows)


def count_parameters(settings: Settings) -> int:
    """Return how many numbers the network holds; all are learnt, or measured by normalisations."""
    return sum(layer.parameters for layer in list_layers(settings))


def count_flop(settings: Settings) -> int:
    """Return the floating-point operations for one image of the input's size, forward only.

    A multiply-add counts as two. Activations, biases, pooling and dropout are left out: they cost
    less than one per cent of it. A training step costs about three times as much.
    """
    return FLOP_PER_MULTIPLY_ADD * sum(layer.multiply_adds for layer in list_layers(settings))


def measure_receptive_field(settings: Settings) -> tuple[int, int]:
    """Return the receptive field, (height, width) in pixels: how far the network can look.

    It is the smallest rectangle that holds every input pixel which can change one output pixel.
    It is found by following an output pixel back to the input, layer by layer (Araujo, Norris and
    Sim 2019, doi:10.23915/distill.00021, equations 3 and 4). How an output pixel lies to the
    grid of the poolings matters by some pixels; the largest field counts. Pixels at its rim have
    far less weight than those in its centre.
    """
    multiple = settings.model_structure.size_multiple
    return tuple(
        max(_trace_back(settings.model_structure, axis, pixel) for pixel in range(multiple[axis]))
        for axis in (0, 1)
    )


def _trace_back(structure, axis: int, pixel: int) -> int:
    """Return the length along `axis` of the interval of inputs that output `pixel` depends on."""
    encoder, decoder = structure.encoder_params, structure.decoder_params
    seen, joined = (pixel, pixel), {}
    for _, block in reversed(structure.decoder_blocks):
        seen = _before_convs(seen, decoder.general_conv_params.kernel_size[axis])
        skip = block.concatenate_layer
        joined[skip] = _unite(joined.get(skip, seen), seen)
        seen = _before_up(seen, decoder.general_transpose_conv_params, axis)
    seen = _before_convs(seen, structure.bottle_neck_params.general_conv_params.kernel_size[axis])
    for name, _ in reversed(structure.encoder_blocks):
        pool = encoder.max_pool_size[axis]
        seen = (seen[0] * pool, seen[1] * pool + pool - 1)
        seen = _unite(joined.get(name, seen), seen)
        seen = _before_convs(seen, encoder.general_conv_params.kernel_size[axis])
    return seen[1] - seen[0] + 1


def _before_convs(seen, kernel, n_convs=2):
    # Keras pads one pixel less before than after where a kernel's size is even.
    return (seen[0] - n_convs * ((kernel - 1) // 2), seen[1] + n_convs * (kernel // 2))


def _before_up(seen, transpose, axis):
    kernel, stride = transpose.kernel_size[axis], transpose.strides[axis]
    shift = max(kernel - stride, 0) // 2
    reach = max(kernel, stride) - 1  # a kernel below the stride leaves pixels without any input
    return (-(-(seen[0] + shift - reach) // stride), (seen[1] + shift) // stride)


def _unite(a, b):
    return (min(a[0], b[0]), max(a[1], b[1]))


def tabulate_networks(networks: Mapping[str, Settings]) -> pd.DataFrame:
    """Return one row a network: parameters, receptive field, cost an image and a pixel."""
    rows = {}
    for name, settings in networks.items():
        size = settings.model_structure.input_params
        flop = count_flop(settings)
        rows[name] = {
            "parameters": count_parameters(settings),
            "receptive field (px)": max(measure_receptive_field(settings)),
            "GFLOP an image": round(flop / 1e9, 2),
            "kFLOP a pixel": round(flop / 1e3 / (size.height * size.width), 1),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def change_network(
    settings: Settings,
    *,
    kernel_size: tuple[int, int] | None = None,
    activation: str | None = None,
    channels: int | None = None,
    target: str | None = None,
) -> Settings:
    """Return the same settings with another kernel or activation in all blocks, input or target.

    Raises
    ------
    SettingsError
        If the result cannot be built.
    """
    values = settings.model_dump(mode="json", by_alias=True)
    structure = values["model_structure"]
    for part in ("encoder_params", "bottle_neck_params", "decoder_params"):
        _update(
            structure[part]["general_conv_params"], kernel_size=kernel_size, activation=activation
        )
    _update(structure["input_params"], channels=channels)
    _update(structure["output_params"], target=target)
    return parse_settings(json.dumps(values), source="changed settings")


def _update(values: dict[str, Any], **changes: Any) -> None:
    values |= {name: value for name, value in changes.items() if value is not None}


def measure_diameters(label_images: Iterable[NDArray[np.integer]]) -> NDArray[np.float64]:
    """Return the diameter in pixels of every nucleus: that of a disc of the same area.

    Parameters
    ----------
    label_images : iterable of (H, W) integer arrays
        0 = background.

    Examples
    --------
    >>> measure_diameters([np.array([[0, 1, 1], [2, 1, 1]])]).round(2)
    array([2.26, 1.13])
    """
    areas = [np.bincount(labels.ravel())[1:] for labels in label_images]
    areas = np.concatenate([*areas, []])
    return 2 * np.sqrt(areas[areas > 0] / np.pi)
