"""What a network costs and how far it looks, before anything is trained."""

import math
from collections.abc import Mapping

import keras
import pandas as pd

from helpers.network.unet import build_unet
from helpers.settings import Settings

FLOP_PER_MULTIPLY_ADD = 2


def count_flop(model: keras.Model) -> int:
    """Return the floating-point operations of `model` for one image, forward only.

    A multiply-add counts as two. Activations, biases, pooling and dropout are left out: they cost
    less than one per cent of it. A training step costs about three times as much.
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Conv2DTranspose):
            is_up = isinstance(layer, keras.layers.Conv2DTranspose)
            size = (layer.input if is_up else layer.output).shape[1:3]  # where its kernel is put
            total += math.prod(layer.kernel.shape) * math.prod(size)
    return FLOP_PER_MULTIPLY_ADD * total


def measure_receptive_field(settings: Settings) -> tuple[int, int]:
    """Return the receptive field, (height, width) in pixels: how far the network looks.

    The smallest rectangle that holds every input pixel which can change one output pixel, found by
    following that back to the input (Araujo, Norris and Sim 2019, doi:10.23915/distill.00021,
    equations 3 and 4). How it lies to the grid of the poolings matters by some pixels; the largest
    field counts.
    """
    structure = settings.model_structure
    return tuple(
        max(_trace_back(structure, axis, pixel) for pixel in range(multiple))
        for axis, multiple in enumerate(structure.size_multiple)
    )


def _trace_back(structure, axis: int, pixel: int) -> int:
    """Return the length along `axis` of the interval of inputs that output `pixel` depends on."""
    encoder, decoder = structure.encoder_params, structure.decoder_params
    seen, joined = (pixel, pixel), {}
    for _, block in reversed(structure.decoder_blocks):
        kernel = decoder.general_conv_params.kernel_size[axis]
        seen = _before_convs(seen, kernel, decoder.convolutions)
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
        model, size = build_unet(settings), settings.model_structure.input_params
        flop = count_flop(model)
        rows[name] = {
            "parameters": model.count_params(),
            "receptive field (px)": max(measure_receptive_field(settings)),
            "GFLOP an image": round(flop / 1e9, 2),
            "kFLOP a pixel": round(flop / 1e3 / (size.height * size.width), 1),
        }
    return pd.DataFrame.from_dict(rows, orient="index")
