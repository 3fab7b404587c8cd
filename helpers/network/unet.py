"""The U-Net, built block by block from its settings.

Ronneberger, Fischer and Brox (2015), doi:10.1007/978-3-319-24574-4_28, with dropout between the
two convolutions of a block and zero-padded convolutions, so that the mask has the input's size.
"""

import keras
from keras import layers

from helpers.settings import Settings


def build_unet(
    settings: Settings, *, free_size: bool = False, precision: str = "float32"
) -> keras.Model:
    """Return the untrained network that `settings` describe.

    Parameters
    ----------
    settings : Settings
    free_size : bool
        True leaves height and width open, for images of any multiple of
        `settings.model_structure.size_multiple`; the weights are the same.
    precision : str
        A Keras dtype policy: "float32", "mixed_bfloat16" or "mixed_float16".

    Returns
    -------
    keras.Model
        Takes (batch, height, width, channels) float32, gives (batch, height, width, n_channels)
        float32 maps, as `helpers.targets` describes them for the settings' target: for
        "foreground" one channel, the probability of nucleus in 0..1. Layers are named by block and
        role, e.g. `encoder_block_1_conv_2`.
    """
    structure = settings.model_structure
    size = structure.input_params
    height, width = (None, None) if free_size else (size.height, size.width)
    policy = keras.DTypePolicy(precision)
    inputs = keras.Input((height, width, size.channels), name="image")

    x, skips = _encode(inputs, structure, policy)
    bottom = structure.bottle_neck_params
    x = _convolve(x, "bottleneck", bottom.changing_conv_params, bottom.general_conv_params, policy)
    x = _decode(x, skips, structure, policy)
    return keras.Model(inputs, _answer(x, structure.target), name="unet")


def _answer(x, target):
    """Return the maps, in float32 whatever the precision of the rest."""
    parts = [
        layers.Conv2D(n_channels, 1, activation=activation, dtype="float32", name=name)(x)
        for name, n_channels, activation in target.heads
    ]
    return parts[0] if len(parts) == 1 else layers.Concatenate(dtype="float32", name="maps")(parts)


def _encode(x, structure, policy):
    """Return the lowest feature map and, by block name, the map that each block hands across."""
    params = structure.encoder_params
    skips = {}
    for name, block in structure.encoder_blocks:
        skips[name] = _convolve(x, name, block, params.general_conv_params, policy)
        pool = layers.MaxPooling2D(params.max_pool_size, dtype=policy, name=f"{name}_pool")
        x = pool(skips[name])
    return x, skips


def _decode(x, skips, structure, policy):
    """Return the feature map at full size."""
    params = structure.decoder_params
    transpose = params.general_transpose_conv_params.model_dump()
    for name, block in structure.decoder_blocks:
        options = {"dtype": policy, "name": f"{name}_up"}
        x = layers.Conv2DTranspose(block.filter_size, **transpose, **options)(x)
        if block.concatenate_layer is not None:
            join = layers.Add if params.skip == "add" else layers.Concatenate
            joined = [skips[block.concatenate_layer], x]
            x = join(dtype=policy, name=f"{name}_{params.skip}")(joined)
        convolve = _convolve if params.convolutions == 2 else _convolve_first
        x = convolve(x, name, block, params.general_conv_params, policy)
    return x


def _convolve(x, name, block, general, policy):
    """Return `x` after convolution, dropout, convolution."""
    x = _convolve_first(x, name, block, general, policy)
    return _convolve_once(x, f"{name}_conv_2", block, general, policy)


def _convolve_first(x, name, block, general, policy):
    """Return `x` after convolution and dropout."""
    x = _convolve_once(x, f"{name}_conv_1", block, general, policy)
    return layers.Dropout(block.dropout_rate, dtype=policy, name=f"{name}_dropout")(x)


def _convolve_once(x, name, block, general, policy):
    """Return `x` after one convolution, normalised where the settings say so, and its activation.

    A normalisation shifts by itself, so the convolution before it has no bias.
    """
    conv = general.model_dump(exclude={"normalisation"}) | {"filters": block.filter_size}
    if general.normalisation == "none":
        return layers.Conv2D(**conv, dtype=policy, name=name)(x)
    activation = conv.pop("activation")
    x = layers.Conv2D(**conv, use_bias=False, dtype=policy, name=name)(x)
    x = layers.BatchNormalization(dtype=policy, name=f"{name}_normalisation")(x)
    return layers.Activation(activation, dtype=policy, name=f"{name}_activation")(x)
