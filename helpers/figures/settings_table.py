"""The settings file beside the layers that it builds."""

import json
from typing import TYPE_CHECKING, Any

from helpers.settings import Settings

if TYPE_CHECKING:
    import keras


def settings_beside_layers(settings: Settings, model: "keras.Model") -> str:
    """Return a Markdown table: each line of `model_structure`, and the layers that it becomes.

    Parameters
    ----------
    settings : Settings
    model : keras.Model
        As `helpers.network.unet.build_unet` builds it from `settings`: the layers are read off it.
    """
    rows = ["| in the settings file | layers | output | parameters |", "| :-- | :-- | :-- | --: |"]
    for key, value, builds in _list_parts(settings.model_structure):
        rows.append(f"| {_write_json(key, value)} | {_describe_layers(builds, model)} |")
    return "\n".join([*rows, f"| | | | **{model.count_params():,}** |"])


def _list_parts(structure) -> list[tuple[str, Any, str | tuple[str, ...]]]:
    """Return (key, value, what it builds: a text, or how the names of its layers begin)."""
    values = structure.model_dump(mode="json")
    encoder, decoder = values["encoder_params"], values["decoder_params"]
    bottleneck, transpose = values["bottle_neck_params"], "general_transpose_conv_params"
    conv, blocks = "general_conv_params", "changing_conv_params"
    return [
        ("input_params", values["input_params"], ("image",)),
        ("encoder_params", None, "*the way down*"),
        (conv, encoder[conv], "each Conv2D of the way down"),
        ("max_pool_size", encoder["max_pool_size"], "each MaxPooling2D"),
        *((name, block.model_dump(), (f"{name}_",)) for name, block in structure.encoder_blocks),
        ("bottle_neck_params", None, "*the bottom*"),
        (conv, bottleneck[conv], "each Conv2D of the bottom"),
        (blocks, bottleneck[blocks], ("bottleneck",)),
        ("decoder_params", None, "*the way up*"),
        (conv, decoder[conv], "each Conv2D of the way up"),
        (transpose, decoder[transpose], "each Conv2DTranspose"),
        *((name, block.model_dump(), (f"{name}_",)) for name, block in structure.decoder_blocks),
        (
            "output_params",
            values["output_params"],
            (*(head.name for head in structure.target.heads), "maps"),
        ),
    ]


def _write_json(key: str, value: Any) -> str:
    """Return a line of the file as code, a long one broken after each comma."""
    if value is None:
        return f"**`{json.dumps(key)}`**"
    text = f"{json.dumps(key)}: {json.dumps(value)}"
    if len(text) < 60:
        return f"`{text}`"
    lines = [f"{json.dumps(name)}: {json.dumps(each)}" for name, each in value.items()]
    return f"`{json.dumps(key)}: {{`<br>`" + ",`<br>`".join(lines) + "}`"


def _describe_layers(builds: str | tuple[str, ...], model: "keras.Model") -> str:
    """Return the last three columns: layers, output and parameters."""
    if isinstance(builds, str):
        return f"{builds} | | "
    built = [layer for layer in model.layers if layer.name.startswith(builds)]
    kept = [layer for layer in built if not layer.name.endswith("_pool")][-1]
    shape = " × ".join(str(n) for n in kept.output.shape[1:])
    chain = " → ".join(type(layer).__name__ for layer in built)
    return f"{chain} | {shape} | {sum(layer.count_params() for layer in built):,}"
