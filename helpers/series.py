"""The parameters of the notebooks: found by papermill's inspection, checked before a run."""

import argparse
import difflib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.run_folder import ROOT, RunFolder, resolve, shorten

NOTEBOOKS_DIR = ROOT / "notebooks"


class SeriesError(Exception):
    """The series cannot start, or a notebook failed; the text says which and what to do."""


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


KERNEL_ARGUMENTS = ["--IPKernelApp.log_level=40", "--IPKernelApp.capture_fd_output=False"]
"""Errors only, and what C libraries say at their start stays out of the notebooks."""

LOOK_FIRST = "look_at_first"  # key of a run's metrics.json: the mask that a reader opens first


def run_series(
    run: str,
    settings: str | Path | None = None,
    data: str | Path | None = None,
    seed: int | str | None = None,
    parameters: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    notebooks_dir: Path = NOTEBOOKS_DIR,
) -> Path:
    """Return the run's folder, after running the notebooks into it.

    Parameters
    ----------
    run : str
        Folder under ``results/``; an absolute path leads elsewhere.
    settings, data, seed : optional
        Parameters that all notebooks share; None leaves the notebooks' own default.
    parameters : mapping, optional
        Further parameters, each given to the notebooks that declare it.
    only : sequence of str
        Numbers of the notebooks to run; empty runs all.
    notebooks_dir : Path
        The folder of the notebooks.

    Raises
    ------
    SeriesError
        If a parameter or an input is wrong, before anything runs; or if a notebook fails, whose
        partial copy then stays in the run's folder.
    """
    shared = {
        "run": run,
        "settings": settings,
        "data": data,
        "seed": seed,
    }
    given = {name: value for name, value in shared.items() if value is not None}
    given |= parameters or {}
    notebooks = find_notebooks(notebooks_dir, only)
    jobs = check_parameters(given, notebooks, notebooks_dir)
    _check_inputs(given)
    run_folder = _read_run(run)
    copies = run_folder / "notebooks"
    copies.mkdir(parents=True, exist_ok=True)
    seconds = {}
    with _own_kernel():
        for number, (notebook, values) in enumerate(jobs.items(), 1):
            _say(f"[{number}/{len(jobs)}] {notebook.stem} ...")
            start = time.monotonic()
            run_notebook(notebook, copies / notebook.name, values)
            seconds[notebook.stem] = round(time.monotonic() - start, 1)
            _say(f" {seconds[notebook.stem]:.1f} s\n")
    _record_cost(RunFolder(run), seconds)
    return run_folder


def _record_cost(run: RunFolder, seconds: dict[str, float]) -> None:
    """Add to the run's `series.json` what this pass took; the highest peak of memory stays."""
    before = run.read_json("series.json") if run.file("series.json").exists() else {}
    peaks = [before.get("peak_memory_gib"), measure_peak_memory()]
    cost = {
        "seconds": before.get("seconds", {}) | seconds,
        "peak_memory_gib": max((peak for peak in peaks if peak is not None), default=None),
    }
    run.write_json("series.json", cost)


def measure_peak_memory() -> float | None:
    """Return the most memory that one kernel has held, in GiB; None where no system call tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 2**30, 2)


def _read_run(run: str) -> Path:
    try:
        return RunFolder(run).path
    except ValueError as error:
        raise SeriesError(str(error)) from None


def _check_inputs(given: Mapping[str, Any]) -> None:
    """Refuse a settings file or a data set that is not there."""
    settings, location = given.get("settings"), given.get("data")
    if settings is not None and not resolve(settings).is_file():
        raise SeriesError(
            f"there is no settings file {settings}; settings/ of the repository holds some"
        )
    for place in (location, given.get("test_set")):
        embedded = place is None or str(place).lower() in {"sample", "none"}
        if not embedded and not resolve(place).exists():
            raise SeriesError(
                f"there is no data set at {place}; give a folder, a zip file or `sample`,"
                " or download one with `make data`"
            )


@contextmanager
def _own_kernel() -> Iterator[None]:
    """Run kernels of this interpreter's environment, whatever kernels the user has installed."""
    before = dict(os.environ)
    os.environ.pop("JUPYTER_PATH", None)
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # a debugger's warning in every notebook
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TQDM_DISABLE", "1")  # a progress bar fills a page with red lines
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run_notebook(notebook: Path, copy: Path, parameters: Mapping[str, Any]) -> None:
    """Execute `notebook` into `copy` (.ipynb), and write an HTML page of it beside the copy.

    Raises
    ------
    SeriesError
        If a cell fails or the kernel dies; `copy` then holds the cells that ran, and no page.
    """
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook

    copy.unlink(missing_ok=True)
    copy.with_suffix(".html").unlink(missing_ok=True)
    try:
        with _keep_out_of_sight(copy.with_suffix(".log")):
            execute_notebook(
                notebook,
                copy,
                dict(parameters),
                kernel_name="python3",
                cwd=notebook.parent,
                progress_bar=False,
                start_timeout=180,
                stdout_file=_EpochLines(),
                extra_arguments=KERNEL_ARGUMENTS,
            )
    except PapermillExecutionError as error:
        cell = f"cell In [{error.exec_count}], {_first_line(error.source)}"
        raise _failure(notebook, copy, cell, f"{error.ename}: {error.evalue}") from None
    except (DeadKernelError, CellExecutionError) as error:
        raise _failure(notebook, copy, _last_cell(copy), _kernel_died(error)) from None
    finally:
        _forget_paths(copy)
    write_page(copy)


@contextmanager
def _keep_out_of_sight(log: Path) -> Iterator[None]:
    """Send what kernels and C libraries say on standard error to `log`, kept after a failure."""
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 2)
            yield
        log.unlink()
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        os.close(terminal)


def write_page(notebook: Path) -> Path:
    """Return the HTML page written beside an executed notebook."""
    from nbconvert import HTMLExporter

    html, _ = HTMLExporter().from_filename(str(notebook))
    page = notebook.with_suffix(".html")
    page.write_text(html, encoding="utf-8")
    return page


class _EpochLines:
    """What papermill writes a kernel's output to: shows the lines of training epochs only."""

    def write(self, text: str) -> None:
        for line in text.splitlines():
            if re.match(r"\s*epoch\s+\d", line, re.IGNORECASE):
                _say(f"\n    {line.strip()}")

    def flush(self) -> None:
        """Nothing is held back."""


def _failure(notebook: Path, copy: Path, cell: str, error: str) -> SeriesError:
    """Return the error that names the notebook, the cell and what went wrong there."""
    return SeriesError(
        f"{notebook.stem} failed in {cell}\n  {error}\n  as far as it came: {shorten(copy)}"
    )


def _kernel_died(error: Exception) -> str:
    return f"{type(error).__name__}: the kernel died (out of memory is the usual reason)"


def _last_cell(copy: Path) -> str:
    """Return a description of the last cell that was started before the kernel died."""
    import nbformat

    cells = nbformat.read(copy, as_version=4).cells if copy.is_file() else []
    numbered = enumerate((cell for cell in cells if cell.cell_type == "code"), 1)
    started = [pair for pair in numbered if pair[1].metadata.get("papermill", {}).get("start_time")]
    if not started:
        return "no cell: the kernel did not start"
    number, cell = started[-1]
    return f"cell In [{number}], {_first_line(cell.source)}"


def _first_line(source: str) -> str:
    lines = [line for line in source.splitlines() if line.strip()]
    return f"`{lines[0].strip()}`" if lines else "an empty cell"


def _forget_paths(copy: Path) -> None:
    """Drop this machine's paths, which papermill records, from an executed notebook."""
    import nbformat

    if not copy.is_file():
        return
    notebook = nbformat.read(copy, as_version=4)
    for key in ("input_path", "output_path"):
        notebook.metadata.get("papermill", {}).pop(key, None)
    nbformat.write(notebook, copy)


def _say(text: str) -> None:
    print(text, end="", flush=True)


def describe_run(run_folder: Path) -> str:
    """Return where the results of a run are, and which mask to look at first."""
    metrics_file = run_folder / "metrics.json"
    text = f"Results: {shorten(run_folder)} (notebooks/ holds the pages to read)"
    if metrics_file.is_file():
        first = json.loads(metrics_file.read_text(encoding="utf-8")).get(LOOK_FIRST)
        text += f"\nLook first at: {shorten(run_folder / first)}" if first else ""
    return text


def _read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m helpers.series", description=__doc__)
    parser.add_argument("--run", help="folder under results/ (default: the settings file's name)")
    parser.add_argument("--settings", default="settings/quick.json", help="settings file")
    parser.add_argument("--data", help="folder or zip file of the data set, or `sample`")
    parser.add_argument("--seed", help="of everything random")
    parser.add_argument("--only", default="", help="numbers of the notebooks to run, as in 04,05")
    parser.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="any other parameter of a notebook; may be given several times",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of the command line: 0, or 1 after one clear message."""
    options = _read_arguments(arguments)
    try:
        run_folder = run_series(
            run=options.run or Path(options.settings).stem,
            settings=options.settings,
            data=options.data,
            seed=options.seed,
            parameters=dict(options.parameter),
            only=[number for number in options.only.split(",") if number],
        )
    except SeriesError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    print(describe_run(run_folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
