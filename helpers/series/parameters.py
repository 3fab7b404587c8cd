"""The parameters of the notebooks: found by papermill's inspection, checked before a run."""

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.paths import ROOT

NOTEBOOKS_DIR = ROOT / "notebooks"


class SeriesError(Exception):
    """The series cannot start, or a notebook failed; the text says which and what to do."""


def shorten(path: Path) -> str:
    """Return `path` as text, from the repository's root on if it lies in there."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def find_notebooks(folder: Path = NOTEBOOKS_DIR, only: Sequence[str] = ()) -> list[Path]:
    """Return the numbered notebooks of `folder` in numerical order.

    Parameters
    ----------
    folder : Path
        Where files such as ``04_training.ipynb`` are looked for.
    only : sequence of str
        Numbers (``"04"`` or ``"4"``) to keep; empty keeps all.

    Raises
    ------
    SeriesError
        If there is no numbered notebook, or one of `only` does not exist.
    """
    numbered = {}
    for path in sorted(folder.glob("[0-9]*.ipynb")):
        numbered[int(re.match(r"\d+", path.name)[0])] = path
    if not numbered:
        raise SeriesError(f"{shorten(folder)} holds no numbered notebook such as 01_name.ipynb")
    wanted = [_read_number(text) for text in only] or list(numbered)
    for number in wanted:
        if number not in numbered:
            known = ", ".join(f"{n:02d}" for n in sorted(numbered))
            raise SeriesError(f"there is no notebook {number:02d}; `--only` takes {known}")
    return [numbered[number] for number in sorted(set(wanted))]


def _read_number(text: str) -> int:
    """Return the number that `text` spells, as `--only` takes it."""
    if not text.strip().isdecimal():
        raise SeriesError(f"`--only` (={text!r}) takes notebook numbers, for example --only 04,05")
    return int(text)


def read_parameters(notebooks: Sequence[Path]) -> dict[str, dict[str, str]]:
    """Return, for every parameter name, the notebooks that declare it and the type they give it.

    Parameters
    ----------
    notebooks : sequence of Path
        Notebooks with a cell tagged ``parameters``.

    Returns
    -------
    dict
        For example ``{"epochs": {"04_training": "int"}}``; the type of an unannotated parameter
        is ``"None"``, as papermill's inspection has it.
    """
    from papermill import inspect_notebook

    known: dict[str, dict[str, str]] = {}
    for notebook in notebooks:
        for name, found in inspect_notebook(notebook).items():
            known.setdefault(name, {})[notebook.stem] = found["inferred_type_name"]
    return known


def convert_value(name: str, value: Any, declared: str) -> Any:
    """Return `value` in the type that a notebook declares for a parameter.

    Parameters
    ----------
    name : str
        The parameter, for the error message.
    value : object
        Text as a command line gives it, or a Python value.
    declared : str
        ``str``, ``int``, ``float``, ``bool``, ``list[...]``, ``dict[...]``, or one of them in
        ``Optional[...]``, for which the text ``none`` means None. Of any other type, the value
        passes unchanged.

    Raises
    ------
    SeriesError
        If the value does not fit the type.

    Examples
    --------
    >>> convert_value("shuffle", "true", "bool"), convert_value("epochs", "3", "Optional[int]")
    (True, 3)
    >>> convert_value("epochs", "none", "Optional[int]") is None
    True
    """
    optional = re.fullmatch(r"Optional\[(.*)\]", declared)
    kind = optional[1] if optional else declared
    if optional and (value is None or str(value).lower() in {"none", "null"}):
        return None
    converters = {
        "str": _as_text,
        "int": _as_int,
        "float": _as_float,
        "bool": _as_bool,
        "list": _as_json(list),
        "dict": _as_json(dict),
    }
    convert = converters.get(re.match(r"\w*", kind)[0])
    if convert is None:
        return value
    try:
        return convert(value)
    except (AttributeError, LookupError, TypeError, ValueError):
        hint = {"bool": " (true or false)", "list": " (JSON, as in [1, 2])"}.get(kind[:4], "")
        also = " or none" if optional else ""
        raise SeriesError(f"`{name}` (={value!r}) must be {kind}{hint}{also}") from None


def _as_text(value: Any) -> str:
    if not isinstance(value, str | Path):
        raise TypeError
    return str(value)


def _as_int(value: Any) -> int:
    if isinstance(value, bool | float):
        raise TypeError
    return int(value)


def _as_float(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _as_bool(value: Any) -> bool:
    return value if isinstance(value, bool) else {"true": True, "false": False}[value.lower()]


def _as_json(kind: type) -> Callable[[Any], Any]:
    """Return a converter that reads JSON text, or takes a value, of `kind`."""

    def convert(value: Any) -> Any:
        value = json.loads(value) if isinstance(value, str) else value
        if not isinstance(value, kind):
            raise TypeError
        return value

    return convert


def check_parameters(
    parameters: Mapping[str, Any], notebooks: Sequence[Path], folder: Path = NOTEBOOKS_DIR
) -> dict[Path, dict[str, Any]]:
    """Return what each notebook is given: the parameters that it declares, in their types.

    Parameters
    ----------
    parameters : mapping
        Names and values, text or typed.
    notebooks : sequence of Path
        The notebooks that will run.
    folder : Path
        All notebooks of the series, to tell an unknown name from one that belongs elsewhere.

    Raises
    ------
    SeriesError
        If no notebook that runs declares a name, or a value does not fit its type.
    """
    known = read_parameters(notebooks)
    for name in parameters:
        if name not in known:
            raise SeriesError(
                _explain_unknown(name, known, read_parameters(find_notebooks(folder)))
            )
    return {
        notebook: {
            name: convert_value(name, value, known[name][notebook.stem])
            for name, value in parameters.items()
            if notebook.stem in known[name]
        }
        for notebook in notebooks
    }


def _explain_unknown(name: str, known: Mapping, everywhere: Mapping) -> str:
    """Return why `name` is refused, and which name was perhaps meant."""
    if name in everywhere:
        return f"`{name}` belongs to {', '.join(everywhere[name])}, which does not run this time"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return (
            f"no notebook knows the parameter `{name}`; did you mean `{near[0]}`"
            f" (of {', '.join(known[near[0]])})?"
        )
    return f"no notebook knows the parameter `{name}`; known are {', '.join(sorted(known))}"
