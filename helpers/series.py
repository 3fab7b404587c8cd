"""Runs the notebooks one after the other, each with the parameters that it declares."""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from helpers.parameters import UNDECLARED, check_types, check_values, read_declared, read_values
from helpers.run_folder import ROOT, RunFolder, shorten
from helpers.startup import redirect_errors

NOTEBOOKS_DIR = ROOT / "notebooks"
LOOK_FIRST = "look_at_first"
"""Key of a run's metrics.json: the mask that a reader opens first."""
ENVIRONMENT = {"JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
"""Kernels come from this interpreter's environment; a debugger's warning stays out of the pages."""


class SeriesError(Exception):
    """The series cannot start, or a notebook failed; the text says which and what to do."""


class Declared(NamedTuple):
    """A parameter of a notebook: its type as text, the comment beside it, and its value there."""

    type: str
    about: str
    default: Any = None


def find_notebooks(folder: Path = NOTEBOOKS_DIR, only: Sequence[str] = ()) -> list[Path]:
    """Return the numbered notebooks of `folder` in numerical order; `only` keeps those numbers.

    Raises SeriesError if there is none, or if one of `only` does not exist.
    """
    found = sorted(folder.glob("[0-9]*.ipynb"))
    numbered = {re.match(r"\d+", path.name)[0]: path for path in found}
    if not numbered:
        raise SeriesError(f"{shorten(folder)} holds no numbered notebook such as 01_name.ipynb")
    wanted = sorted({number.strip().zfill(2) for number in only} or numbered)
    if missing := [number for number in wanted if number not in numbered]:
        raise SeriesError(f"there is no notebook {missing[0]}; there are {', '.join(numbered)}")
    return [numbered[number] for number in wanted]


def read_parameters(notebook: Path) -> dict[str, Declared]:
    """Return the parameters that a notebook declares in its cell tagged "parameters"."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    source = "".join(next(tagged, {"source": ""})["source"])
    values = read_values(source)
    about = dict(re.findall(r"^(\w+):.*?# *(.*)$", source, re.MULTILINE))
    return {
        name: Declared(kind, about.get(name, ""), values.get(name))
        for name, kind in read_declared(source).items()
    }


def check_parameters(
    parameters: Mapping[str, Any], notebooks: Sequence[Path]
) -> dict[Path, dict[str, Any]]:
    """Return what each notebook is given: the parameters that it declares.

    Raises ParameterError if none declares a name, or a value has another type or cannot be used.
    """
    declared = {notebook: read_parameters(notebook) for notebook in notebooks}
    every = {name: each for found in declared.values() for name, each in found.items()}
    check_types(parameters, {name: each.type for name, each in every.items()})
    check_values({name: each.default for name, each in every.items()} | parameters)
    return {
        notebook: {n: v for n, v in parameters.items() if n in found or n in UNDECLARED}
        for notebook, found in declared.items()
    }


def run_series(
    parameters: Mapping[str, Any],
    only: Sequence[str] = (),
    notebooks_dir: Path = NOTEBOOKS_DIR,
) -> RunFolder:
    """Return the folder of the run that `parameters` name, after running notebooks into it.

    `only` holds the numbers of the notebooks to run; empty runs all. What is wrong with a parameter
    or an input is raised before anything runs (ParameterError, PublishedRunError); SeriesError says
    which notebook failed, whose partial copy stays in the run's folder.
    """
    notebooks = find_notebooks(notebooks_dir, only)
    jobs = check_parameters(parameters, notebooks)
    confirmed = parameters.get("replace_published", False)
    run = RunFolder(parameters["run"], replace_published=confirmed)
    run.refuse_published()
    seconds = {}
    with _environment(), run.lock("running notebooks"):
        for number, (notebook, values) in enumerate(jobs.items(), 1):
            print(f"[{number}/{len(jobs)}] {notebook.stem} ...", end="", flush=True)
            start = time.monotonic()
            run_notebook(notebook, run.file("notebooks") / notebook.name, values)
            seconds[notebook.stem] = round(time.monotonic() - start, 1)
            print(f" {seconds[notebook.stem]:.1f} s", flush=True)
    before = run.read_json("series.json") if run.file("series.json").exists() else {}
    run.write_json("series.json", before | {"seconds": before.get("seconds", {}) | seconds})
    return run


@contextmanager
def _environment() -> Iterator[None]:
    """Run kernels of this interpreter's environment, without progress bars in their pages."""
    before = dict(os.environ)
    os.environ.pop("JUPYTER_PATH", None)
    os.environ.update(ENVIRONMENT)
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run_notebook(notebook: Path, copy: Path, parameters: Mapping[str, Any]) -> None:
    """Execute `notebook` into `copy` (.ipynb), and write an HTML page of it beside the copy.

    It runs where the caller is, so that relative paths are the caller's. If a cell fails or the
    kernel dies, SeriesError says so; `copy` then holds the cells that ran, and there is no page.
    """
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from nbconvert import HTMLExporter
    from papermill import PapermillExecutionError, execute_notebook

    page, log = copy.with_suffix(".html"), copy.with_suffix(".log")
    copy.parent.mkdir(parents=True, exist_ok=True)
    for old in (copy, page):
        old.unlink(missing_ok=True)
    options = {"kernel_name": "python3", "progress_bar": False, "start_timeout": 180}
    try:
        with redirect_errors(log):  # what kernels and C libraries say; kept after a failure
            execute_notebook(notebook, copy, dict(parameters), stdout_file=_Epochs(), **options)
        log.unlink()
    except NoSuchKernel:
        raise SeriesError(
            "there is no kernel `python3` in this environment; install the package again "
            "(`make install`, or pip install -r requirements.lock)"
        ) from None
    except PapermillExecutionError as error:
        raise _failure(notebook, copy, f"{error.ename}: {error.evalue}") from None
    except (DeadKernelError, CellExecutionError) as error:
        reason = f"{type(error).__name__}: the kernel died (out of memory is the usual reason)"
        raise _failure(notebook, copy, reason) from None
    finally:
        _forget_paths(copy)
    page.write_text(HTMLExporter().from_filename(str(copy))[0], encoding="utf-8")


class _Epochs:
    """What papermill writes a kernel's output to: shows the lines of training epochs only."""

    def write(self, text: str) -> None:
        for line in text.splitlines():
            if re.match(r"\s*epoch\s+\d", line, re.IGNORECASE):
                print(f"\n    {line.strip()}", end="", flush=True)

    def flush(self) -> None:
        """Nothing is held back."""


def _failure(notebook: Path, copy: Path, reason: str) -> SeriesError:
    """Return the error that names the notebook, the last cell that started, and what went wrong."""
    import nbformat

    cells = nbformat.read(copy, as_version=4).cells if copy.is_file() else []
    code = enumerate((cell for cell in cells if cell.cell_type == "code"), 1)
    started = [(n, c.source) for n, c in code if c.metadata.get("papermill", {}).get("start_time")]
    place = "no cell: the kernel did not start"
    for number, source in started[-1:]:
        place = f"cell In [{number}], `{source.strip().splitlines()[0]}`"
    return SeriesError(
        f"{notebook.stem} failed in {place}\n  {reason}\n  as far as it came: {shorten(copy)}"
    )


def _forget_paths(copy: Path) -> None:
    """Drop this machine's paths, which papermill records, from an executed notebook."""
    import nbformat

    if copy.is_file():
        notebook = nbformat.read(copy, as_version=4)
        for key in ("input_path", "output_path"):
            notebook.metadata.get("papermill", {}).pop(key, None)
        nbformat.write(notebook, copy)


def describe_run(run: RunFolder) -> str:
    """Return where the results of a run are, what to look at first, and whether it has learned."""
    lines = [f"Results: {run} (notebooks/ holds the pages to read)"]
    if run.file("metrics.json").is_file():
        first = run.read_json("metrics.json").get(LOOK_FIRST)
        lines += [f"Look first at: {run}/{first}"] if first else []
    if run.file("history.csv").is_file():
        from helpers.training.history import judge_training

        lines += judge_training(run.read_csv("history.csv"))
    return "\n".join(lines)
