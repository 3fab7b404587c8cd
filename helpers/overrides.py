"""Other values for a settings file, by dotted names: a variant needs no file of its own."""

import copy
import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from helpers.architecture import describe_blocks, nearest

PLACES = {
    "augmentation": ("training_configuration", "training_parameters", "augmentation"),
    "training": ("training_configuration", "training_parameters"),
    "callbacks": ("training_configuration", "call_backs_conf"),
    "target": ("model_structure", "output_params", "target"),
}
"""Short first names, and the place in the file that each stands for; inner places first."""

SHAPE = ("blocks", "filters", "dropout", "size", "activation", "normalisation")
"""Names that change every block of the network at once."""

PARTS = ("encoder_params", "bottle_neck_params", "decoder_params")


class OverrideError(ValueError):
    """An override that names nothing in a settings file."""


def list_names(model: type[BaseModel]) -> list[str]:
    """Return the names that overrides of a settings `model` may have, the short ones first."""
    places = {".".join(place): short for short, place in PLACES.items()}
    names = [*SHAPE]
    for name in _walk(model):
        begin = next((place for place in places if f"{name}.".startswith(f"{place}.")), "")
        names.append(places[begin] + name[len(begin) :] if begin else name)
    return names


def _walk(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Yield the dotted names of all values of a settings model."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _walk(inner, f"{before}{name}.")
        elif name != "schema_location":
            yield before + name


def read_override(text: str) -> tuple[str, Any]:
    """Return (name, value) of a text such as "training.learning_rate=0.001"; values are JSON.

    Examples
    --------
    >>> read_override("training.learning_rate=0.001"), read_override("target=flow")
    (('training.learning_rate', 0.001), ('target', 'flow'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise OverrideError(
            f"override {text!r} must be name=value, for example training.learning_rate=0.001"
        )
    try:
        return name.strip(), json.loads(value)
    except json.JSONDecodeError:
        return name.strip(), value.strip()


def apply_overrides(
    values: dict[str, Any], overrides: Mapping[str, Any], known: list[str]
) -> dict[str, Any]:
    """Return the `values` of a settings file with those of `overrides` in their places.

    OverrideError for a name that is not among those `known` gives the nearest one.
    """
    values = copy.deepcopy(values)
    whole = ("callbacks", "postprocessing.score")
    flat = dict(flatten(overrides, whole=whole))
    flat = {name: value for name, value in flat.items() if value != {} or name.startswith(whole)}
    _reshape(values["model_structure"], {name: flat.pop(name) for name in SHAPE if name in flat})
    for name, value in flat.items():
        first, *rest = name.split(".")
        *parents, key = (*PLACES.get(first, (first,)), *rest)
        part = values
        for parent in parents:
            part = part.get(parent) if isinstance(part, dict) else None
        is_callback = first == "callbacks" and len(rest) <= 1
        if not isinstance(part, dict) or (key not in part and not is_callback):
            raise OverrideError(_explain_unknown(name, known))
        part[key] = value
    return values


def flatten(
    values: Mapping[str, Any], before: str = "", whole: tuple[str, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values of nested mappings, but not of empty or `whole` ones."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value and not f"{before}{name}".startswith(whole):
            yield from flatten(value, f"{before}{name}.", whole)
        else:
            yield before + name, value


def _explain_unknown(name: str, known: list[str]) -> str:
    lasts = {each.rsplit(".", 1)[-1]: each for each in reversed(known)}
    last = difflib.get_close_matches(name.rsplit(".", 1)[-1], lasts, n=1)
    close = nearest(name, known) or (f"did you mean {lasts[last[0]]!r}? " if last else "")
    return (
        f"a settings file has nothing named {name!r}; {close}"
        "names are those of the file, such as 'training.learning_rate', 'augmentation.flips', "
        f"'postprocessing.threshold', 'target', {', '.join(map(repr, SHAPE))}"
    )


def _reshape(structure: dict[str, Any], shape: dict[str, Any]) -> None:
    """Change every block of the network; `blocks` and `filters` build all of them again."""
    for name in ("blocks", "filters", "size"):
        if name in shape and (type(shape[name]) is not int or shape[name] < 1):
            raise OverrideError(f"{name} (={shape[name]!r}) must be a whole number from 1")
    for name in ("activation", "normalisation"):
        for part in PARTS if name in shape else ():
            structure[part]["general_conv_params"][name] = shape[name]
    if "size" in shape:
        structure["input_params"] |= {"height": shape["size"], "width": shape["size"]}
    encoder = structure["encoder_params"]["changing_conv_params"]
    if "blocks" in shape or "filters" in shape:
        first = encoder["encoder_block_1"]["filter_size"]
        blocks = describe_blocks(
            shape.get("blocks", len(encoder)), shape.get("filters", first), shape.get("dropout")
        )
        for part, described in zip(PARTS, blocks, strict=True):
            structure[part]["changing_conv_params"] = described
    elif "dropout" in shape:
        decoder = structure["decoder_params"]["changing_conv_params"]
        middle = structure["bottle_neck_params"]["changing_conv_params"]
        for block in (*encoder.values(), middle, *decoder.values()):
            block["dropout_rate"] = shape["dropout"]
