"""The parameters of the pages: read from their first code cell, checked before any work."""

import ast
import difflib
import json
import math
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from pydantic import TypeAdapter, ValidationError

from helpers.run_folder import RunFolder, name_locations, resolve, shorten
from helpers.settings import Settings, load_settings
from helpers.targets import TARGETS

UNDECLARED = {"replace_published": "bool"}
"""Parameters that every page takes without showing them."""

TYPES = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class ParameterError(ValueError):
    """A parameter that no page has, or a value that it cannot have."""


# ------------------------------------------------------------------ names and types


def read_declared(source: str) -> dict[str, str]:
    """Return the parameters that a cell declares, with their types as text.

    A cell with anything but imports and annotated assignments declares none.

    Examples
    --------
    >>> read_declared("epochs: Optional[int] = None  # passes over the data")
    {'epochs': 'Optional[int]'}
    """
    body = _parse(source)
    if not all(isinstance(node, ast.Import | ast.ImportFrom | ast.AnnAssign) for node in body):
        return {}
    declared = [node for node in body if isinstance(node, ast.AnnAssign)]
    return {ast.unparse(node.target): ast.unparse(node.annotation) for node in declared}


def read_values(source: str) -> dict[str, Any]:
    """Return the literal values that a cell assigns to names."""
    values = {}
    for node in _parse(source):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            try:
                values[ast.unparse(target)] = _read_literal(node.value)
            except ValueError:  # no literal: nothing to check
                continue
    return values


def _parse(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except SyntaxError:  # a cell with a magic
        return []


def _read_literal(node: ast.expr) -> Any:
    """Return the value of a literal; papermill writes float("nan") for no number."""
    is_float = isinstance(node, ast.Call) and ast.unparse(node.func) == "float"
    return float(ast.literal_eval(node.args[0])) if is_float else ast.literal_eval(node)


def check_type(name: str, value: Any, declared: str) -> Any:
    """Return `value`, or raise ParameterError if it is not of a type such as "Optional[int]"."""
    try:
        TypeAdapter(eval(declared, vars(typing).copy())).validate_python(value, strict=True)
        fits = not (isinstance(value, float) and not math.isfinite(value))
    except ValidationError:
        fits = False
    if not fits:
        kind = declared.removeprefix("Optional[").removesuffix("]")
        allowed = TYPES.get(kind, f"a {kind}") + (" or none" if kind != declared else "")
        hint = f" (papermill: -r {name} ..., not -p)" if kind == "str" else ""
        raise ParameterError(f"`{name}` (={value!r}) must be {allowed}{hint}")
    return value


def check_types(values: Mapping[str, Any], declared: Mapping[str, str]) -> None:
    """Raise ParameterError if a value has no `declared` name, or another type."""
    known = {**declared, **UNDECLARED}
    for name, value in values.items():
        if name not in known:
            raise ParameterError(explain_unknown(name, declared, "parameter `{}`".format))
        check_type(name, value, known[name])


def read_text(name: str, text: str, declared: str) -> Any:
    """Return the value that a `text` of the command line stands for, in the `declared` type.

    Text stays text; "none" is None where that is allowed; lists and mappings are JSON.

    Examples
    --------
    >>> read_text("run", "2026", "str"), read_text("epochs", "3", "Optional[int]")
    ('2026', 3)
    """
    if declared.startswith("Optional[") and text.lower() in ("none", "null", ""):
        return None
    if declared in ("str", "Optional[str]"):
        return text
    if declared == "bool" and text.lower() in (*TRUE, *FALSE):
        return text.lower() in TRUE
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    return check_type(name, value, declared)


def explain_unknown(name: str, known: Iterable[str], write: Callable[[str], str] = str) -> str:
    """Return what is wrong with a parameter `name`, and which was perhaps meant."""
    known = sorted(known)
    if close := difflib.get_close_matches(name, known, n=1):
        return f"there is no {write(name)}; did you mean {write(close[0])}?"
    others = ", ".join(map(write, known)).replace("parameter ", "")
    return f"there is no {write(name)}; there are {others}"


# ------------------------------------------------------------------ values


def check_values(values: Mapping[str, Any]) -> None:
    """Raise ParameterError for what can be seen to fail before any work.

    That is a value out of range, or a file, run, modality or target that is not there.
    """
    for name, check in CHECKS.items():
        if values.get(name) not in (None, "") or (name == "run" and name in values):
            _check(name, check, values[name])
    if values.get("settings"):
        settings = load_settings(values["settings"])
        if "data" in values and not values["data"]:
            _check("data", _data_set, settings.data_set_location)
        overrides = values.get("overrides") or {}
        _check("overrides", settings.with_overrides, overrides)
        if values.get("test_sources"):
            sources = name_locations(values.get("data") or settings.data_set_location)
            _check("test_sources", partial(_some_of, sources), values["test_sources"])
        if values.get("start_from"):
            settings = settings.with_overrides(overrides)
            _check("start_from", partial(_same_build, settings), values["start_from"])


def _check(name: str, check: Callable[[Any], Any], value: Any) -> None:
    """Raise what a check says, with the parameter's name before it."""
    try:
        check(value)
    except (FileNotFoundError, ValueError) as error:
        raise ParameterError(f"`{name}`: {error}") from None


def split_names(text: str) -> list[str]:
    """Return the names in a text that separates them by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _must(be: str, fits: Callable[[float], bool], value: float) -> None:
    """Refuse a number that does not fit; the text says how it must `be`."""
    if not fits(value):
        raise ParameterError(f"{value} must be {be}")


def _data_set(value: str) -> None:
    for each in name_locations(value).values():
        if each != "sample" and not resolve(each).exists():
            raise ParameterError(
                f"there is nothing at {each}; give a folder, a zip file or 'sample', or several, "
                "separated by commas; `nuclei data` lists data sets to download"
            )


def _images(value: str) -> None:
    if not resolve(value).exists():
        raise ParameterError(f"there is nothing at {value}; give the folder of the images")


def _network(value: str) -> None:
    RunFolder(value).require("network.keras")


def _same_build(settings: Settings, value: str) -> None:
    """Refuse to begin with a network that is built otherwise."""
    run = RunFolder(value)
    file = run.file("settings.json")
    if file.exists() and (differing := settings.differing_build(load_settings(file))):
        raise ParameterError(
            f"the network of {run} is built otherwise ({differing} differs); give the settings "
            f"{shorten(file)}, with `overrides` for how it is trained"
        )


def _one_of(known: Iterable[str], value: str) -> None:
    """Refuse a name of the text `value` that is not among those `known`."""
    for each in split_names(value):
        if each not in known:
            raise ParameterError(explain_unknown(each, known, repr))


def _some_of(known: Iterable[str], value: str) -> None:
    """Refuse a name that is not among those `known`, and all of them."""
    _one_of(known, value)
    if set(known) <= set(split_names(value)):
        raise ParameterError(f"{value} is all of the data, so nothing is left to train on")


def _modalities(value: str) -> None:
    from helpers.analysis.modality import MODALITIES

    _one_of(MODALITIES, value)


def _variants(value: str) -> None:
    from helpers.inversion.variants import choose_variants

    choose_variants(value)


COUNTS, LENGTHS = ("epochs", "steps", "seeds", "n_resamples"), ("diameter_px", "pixel_size_um")
CHECKS: dict[str, Callable[[Any], Any]] = {
    "settings": load_settings,
    "run": RunFolder,
    **dict.fromkeys(("data", "test_set"), _data_set),
    "images": _images,
    **dict.fromkeys(("start_from", "network"), _network),
    "seed": partial(_must, f"from 0 to {2**32 - 1}", lambda value: 0 <= value < 2**32),
    **dict.fromkeys(COUNTS, partial(_must, "1 or more", lambda value: value >= 1)),
    "threshold": partial(_must, "above 0 and below 1", lambda value: 0 < value < 1),
    **dict.fromkeys(LENGTHS, partial(_must, "above 0", lambda value: value > 0)),
    "operating_point": partial(_one_of, ("precise", "balanced", "complete")),
    "faults": partial(_one_of, ("refuse", "skip")),
    "masks": partial(_one_of, ("numbered", "components", "inverted")),
    "targets": partial(_one_of, TARGETS),
    "variants": _variants,
    "test_modalities": _modalities,
}
"""What a parameter's value must be, wherever it is declared."""


# ------------------------------------------------------------------ inside a page


def check_page() -> dict[str, Any]:
    """Check the parameters of the page that runs, and return their values.

    They come from the cells that the kernel has run: the one that declares parameters, and the
    one that papermill injects after it. Without them, as in a script, nothing is checked.
    ParameterError says which name is not declared, or which value cannot be used.
    """
    injected: dict[str, Any] = {}
    for cell in reversed(_executed_cells()):
        declared = read_declared(cell)
        if {"run", "settings", "network", "images"} & declared.keys():
            values = read_values(cell) | injected
            check_types(values, declared)
            check_values(values)
            return values
        if cell.startswith("# Parameters\n"):
            injected = injected or read_values(cell)
    return {}


def _executed_cells() -> list[str]:
    """Return the source of the cells that this kernel has run."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return [] if shell is None else list(shell.user_ns.get("In", []))
