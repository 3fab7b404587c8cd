"""The network's part of the settings file: blocks, filters, skips, and whether they fit together.

Nothing here needs Keras: what cannot be built is refused before anything is built.
"""

import difflib
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from helpers.targets import TARGETS, Target, get_target

MAX_BLOCKS = 7
Activation = Literal[
    "celu", "elu", "exponential", "gelu", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu",
    "linear", "log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softplus",
    "softsign", "swish", "tanh",
]  # fmt: skip
Initializer = Literal[
    "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal",
    "lecun_uniform", "orthogonal", "random_normal", "random_uniform", "truncated_normal",
    "variance_scaling",
]  # fmt: skip
PositiveInt = Annotated[int, Field(ge=1)]
Pair = tuple[PositiveInt, PositiveInt]
Rate = Annotated[float, Field(ge=0, lt=1)]


def nearest(name: str, known: list[str]) -> str:
    """Return "did you mean 'x'? " for the known name closest to `name`, or an empty text.

    Examples
    --------
    >>> nearest("kernel_sise", ["kernel_size", "padding"])
    "did you mean 'kernel_size'? "
    """
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}? " if close else ""


class Strict(BaseModel):
    """A part of the settings file: types are exact, unknown keys are refused, nothing changes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class ConvParams(Strict):
    """What all convolutions of one part of the network share.

    `normalisation`: "batch" puts a batch normalisation (Ioffe & Szegedy 2015,
    https://arxiv.org/abs/1502.03167) between each convolution and its activation.
    """

    kernel_size: Pair = (3, 3)
    activation: Activation = "elu"
    padding: Literal["same"] = Field("same", description="skips need sizes that stay the same")
    kernel_initializer: Initializer = "he_normal"
    normalisation: Literal["none", "batch"] = "none"


class TransposeConvParams(Strict):
    """What all transposed convolutions (the steps up) share."""

    kernel_size: Pair = (2, 2)
    padding: Literal["same"] = "same"
    strides: Pair = (2, 2)


class BlockParams(Strict):
    """One block: two convolutions of `filter_size` filters with dropout between them."""

    dropout_rate: Rate
    filter_size: PositiveInt


class DecoderBlockParams(BlockParams):
    """One block on the way up, joined with an encoder block (null: without a skip)."""

    concatenate_layer: str | None


def _numbered(part: str) -> AfterValidator:
    """Return a check that blocks are named `<part>_block_1`, `<part>_block_2` and so on."""

    def check(blocks: dict[str, Any]) -> dict[str, Any]:
        if not 1 <= len(blocks) <= MAX_BLOCKS:
            raise ValueError(f"{len(blocks)} {part} blocks; allowed are 1 to {MAX_BLOCKS}")
        for name in blocks:
            if not re.fullmatch(rf"{part}_block_[1-9]\d*", name):
                raise ValueError(
                    f"block {name!r} must be named {part}_block_<number>, e.g. {part}_block_1"
                )
        for k in range(1, len(blocks) + 1):
            if f"{part}_block_{k}" not in blocks:
                raise ValueError(
                    f"'{part}_block_{k}' is missing among {', '.join(blocks)}; "
                    f"number {part} blocks from 1 without gaps"
                )
        return blocks

    return AfterValidator(check)


class EncoderParams(Strict):
    """The way down: blocks `encoder_block_1` (full size) to `encoder_block_n`, each then pooled."""

    general_conv_params: ConvParams
    max_pool_size: Pair = (2, 2)
    changing_conv_params: Annotated[dict[str, BlockParams], _numbered("encoder")]


class BottleNeckParams(Strict):
    """The block at the lowest resolution."""

    general_conv_params: ConvParams
    changing_conv_params: BlockParams


class DecoderParams(Strict):
    """The way up: `decoder_block_1` stands above the bottleneck, the last one at full size.

    `skip` joins the encoder's map by "concatenate" or, cheaper, by "add"; `convolutions` is how
    many follow in each block.
    """

    general_conv_params: ConvParams
    general_transpose_conv_params: TransposeConvParams
    skip: Literal["concatenate", "add"] = "concatenate"
    convolutions: Literal[1, 2] = 2
    changing_conv_params: Annotated[dict[str, DecoderBlockParams], _numbered("decoder")]


class InputParams(Strict):
    """Size of the crops that the network trains on, in pixels; prediction takes any size."""

    height: PositiveInt = 256
    width: PositiveInt = 256
    channels: Literal[1, 3] = 3


class OutputParams(Strict):
    """What the network predicts; `helpers.targets` describes each target.

    "foreground": every pixel of a nucleus, as the original does; "interior": those not on its rim.
    "boundary" (background, interior or rim), "distance" (nucleus, and how deep inside) and "flow"
    (nucleus, and the direction to its centre) separate touching nuclei.
    """

    target: Literal[tuple(TARGETS)] = "foreground"


class ModelStructure(Strict):
    """The whole network."""

    encoder_params: EncoderParams
    bottle_neck_params: BottleNeckParams
    decoder_params: DecoderParams
    input_params: InputParams = InputParams()
    output_params: OutputParams = OutputParams()

    @property
    def target(self) -> Target:
        """What the network predicts, with its way to maps and from maps to nuclei."""
        return get_target(self.output_params.target)

    @property
    def encoder_blocks(self) -> list[tuple[str, BlockParams]]:
        """Encoder blocks as (name, parameters), from full size down."""
        return _sort(self.encoder_params.changing_conv_params)

    @property
    def decoder_blocks(self) -> list[tuple[str, DecoderBlockParams]]:
        """Decoder blocks as (name, parameters), from the bottleneck up."""
        return _sort(self.decoder_params.changing_conv_params)

    @property
    def size_multiple(self) -> Pair:
        """The (height, width) in pixels that an input's size must be a multiple of."""
        n = len(self.encoder_blocks)
        return tuple(pool**n for pool in self.encoder_params.max_pool_size)

    @model_validator(mode="after")
    def _blocks_fit(self):
        size = (self.input_params.height, self.input_params.width)
        _check_divisible(size, self.size_multiple, len(self.encoder_blocks))
        _check_decoder(self)
        return self


def describe_blocks(
    n_blocks: int, base_filters: int, dropout: float | None = None
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the blocks of encoder, bottleneck and decoder, shaped as the original's are.

    Filters double from block to block; without a `dropout` it rises from .1 to .3.
    """
    blocks = [
        {
            "dropout_rate": min(0.1 * (k // 2 + 1), 0.3) if dropout is None else dropout,
            "filter_size": base_filters * 2**k,
        }
        for k in range(n_blocks + 1)
    ]
    encoder = {f"encoder_block_{k}": block for k, block in enumerate(blocks[:-1], 1)}
    decoder = {
        f"decoder_block_{k}": encoder[skip] | {"concatenate_layer": skip}
        for k, skip in enumerate(reversed(encoder), 1)
    }
    return encoder, blocks[-1], decoder


def _sort(blocks: dict[str, BlockParams]) -> list[tuple[str, BlockParams]]:
    """Return blocks as (name, parameters) by the number in their names."""
    return sorted(blocks.items(), key=lambda block: int(block[0].rsplit("_", 1)[1]))


def _check_divisible(size: Pair, multiple: Pair, n_blocks: int) -> None:
    for axis, pixels, step in zip(("height", "width"), size, multiple, strict=True):
        if pixels % step:
            below = step * (pixels // step)
            remedy = " or ".join(str(size) for size in (below, below + step) if size)
            raise ValueError(
                f"input_params.{axis} (={pixels}) must be a multiple of {step} "
                f"({n_blocks} poolings); try {remedy}, or fewer encoder blocks"
            )


def _check_decoder(structure: ModelStructure) -> None:
    """Refuse a decoder that does not lead back to the input's size, or skips of other sizes."""
    pool = structure.encoder_params.max_pool_size
    strides = structure.decoder_params.general_transpose_conv_params.strides
    input_size = (structure.input_params.height, structure.input_params.width)
    skips = {
        name: tuple(s // p**k for s, p in zip(input_size, pool, strict=True))
        for k, (name, _) in enumerate(structure.encoder_blocks)
    }
    mismatch = f"strides {list(strides)} do not undo the pooling {list(pool)}"
    size = tuple(s // m for s, m in zip(input_size, structure.size_multiple, strict=True))
    for name, block in structure.decoder_blocks:
        size = tuple(s * stride for s, stride in zip(size, strides, strict=True))
        skip = block.concatenate_layer
        if skip is not None and skip not in skips:
            raise ValueError(
                f"{name}: concatenate_layer {skip!r} is no encoder block; "
                f"{nearest(skip, list(skips))}there are {', '.join(skips)}"
            )
        if skip is not None and skips[skip] != size:
            fitting = [
                f"use {other!r}" for other, other_size in skips.items() if other_size == size
            ]
            raise ValueError(
                f"{name}: works at {size[0]}x{size[1]} but its concatenate_layer {skip!r} is "
                f"{skips[skip][0]}x{skips[skip][1]}; "
                f"{fitting[0] if fitting else f'{mismatch}; set strides to {list(pool)}'}"
            )
        if skip is not None and structure.decoder_params.skip == "add":
            n_filters = structure.encoder_params.changing_conv_params[skip].filter_size
            if n_filters != block.filter_size:
                raise ValueError(
                    f"{name}: filter_size (={block.filter_size}) must be that of {skip!r} "
                    f"(={n_filters}) for maps to be added; make them equal, or set "
                    'decoder_params.skip to "concatenate"'
                )
    if size != input_size:
        raise ValueError(
            f"{name} ends at {size[0]}x{size[1]}, the input is {input_size[0]}x{input_size[1]}: "
            f"{len(structure.decoder_blocks)} decoder blocks with strides {list(strides)} do not "
            f"undo {len(skips)} poolings by {list(pool)}; "
            f"use {len(skips)} decoder blocks with strides {list(pool)}"
        )
