"""Run the notebooks in their order, with parameters that are checked before the first one starts.

From a shell: ``python -m helpers.series --run quick --settings settings/quick.json``.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.paths import resolve
from helpers.run_folder import RunFolder
from helpers.series.parameters import (
    NOTEBOOKS_DIR,
    SeriesError,
    check_parameters,
    find_notebooks,
    shorten,
)

KERNEL_ARGUMENTS = ["--IPKernelApp.log_level=40", "--IPKernelApp.capture_fd_output=False"]
"""Errors only, and what C libraries say at their start stays out of the notebooks."""

LOOK_FIRST = "look_at_first"  # key of a run's metrics.json: the mask that a reader opens first


def run_series(
    run: str,
    settings: str | Path | None = None,
    data_set_location: str | Path | None = None,
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
    settings, data_set_location, seed : optional
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
        "data_set_location": data_set_location,
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
    settings, location = given.get("settings"), given.get("data_set_location")
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
            data_set_location=options.data,
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
