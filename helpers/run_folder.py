"""A run's folder: what one notebook writes and the next one reads."""

import json
import re
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs"
"""Where runs go; git leaves it alone."""
RESULTS = ROOT / "results"
"""Where the published runs lie."""

REFERENCE = "reference"
"""The run whose network comes with the repository, and is asked where no other is named."""
PUBLISHED = (
    "cross_validation", "default", "inversion", "original", REFERENCE, "reference_seed_2",
    "reference_seed_3", "sources", "targets",
)  # fmt: skip
"""The runs that the repository keeps: read by anybody, written to only on request."""

_MAKES = {
    "01_data_exploration": "faults.csv masks.json split.csv split.json",
    "02_histology_and_fluorescence": "modalities.csv audit.csv out_of_distribution.json",
    "03_the_unet": "network.csv",
    "04_training": "settings.json network.keras history.csv training.json tuning.csv",
    "05_masks": "metrics.csv metrics.json invariance.csv",
    "07_touching_nuclei": "targets.csv",
    "08_nuclei": "nuclei_scores.csv",
}
MADE_BY = {file: page for page, files in _MAKES.items() for file in files.split()}
"""Which notebook makes which file."""
OTHER_FILES = (
    "checkpoint.keras", "curves.png", "series.json", "masks", "overlays", "notebooks", "own_images",
    "experiment", "targets",
)  # fmt: skip
"""What else a run's folder may hold."""

TEXT_COLUMNS = ("id", "image", "file", "modality")
"""Columns that stay text, even "NA", "001" or "1e5". `split` is not one: it may be a count."""


class PublishedRunError(ValueError):
    """Something was about to be written into a run that the repository keeps."""


def resolve(path: str | Path) -> Path:
    """Return `path` as an absolute path.

    A relative one starts where the caller is if it exists there, and else at the repository's root.
    """
    path = Path(path).expanduser()
    return path.absolute() if path.exists() else ROOT / path


def name_locations(data: str | Path) -> dict[str, str]:
    """Return the location of each data set in `data`, which commas separate, by the set's name.

    Raises ValueError where there is none, or two have one name.

    Examples
    --------
    >>> name_locations("data/stage1_train.zip, data/nuinsseg")
    {'stage1_train': 'data/stage1_train.zip', 'nuinsseg': 'data/nuinsseg'}
    """
    parts = [str(data)] if resolve(data).exists() else str(data).split(",")
    parts = [part.strip() for part in parts if part.strip()]
    named = [(Path(part).absolute().name.removesuffix(".zip"), part) for part in parts]
    twice = {name for name, count in Counter(name for name, _ in named).items() if count > 1}
    if twice or not named:
        wrong = f"two of the name {min(twice)!r}; rename one" if twice else "none"
        raise ValueError(f"`data` (={str(data)!r}) must name data sets, but holds {wrong}")
    return dict(named)


def shorten(path: Path) -> str:
    """Return `path` as text, from the repository's root on if it lies in there."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def write_whole(file: str | Path, write: Callable[[Path], Any]) -> Path:
    """Write `file` whole or not at all: `write` gets a temporary path, of its suffix, to fill.

    An interruption leaves the file as it was. Two that write at once do not disturb each other.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".part-{secrets.token_hex(4)}{file.suffix}")
    try:
        write(part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file


def write_json(values: Any, file: str | Path) -> Path:
    """Write `values` as JSON, whole or not at all."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    return write_whole(file, lambda part: part.write_text(text, encoding="utf-8"))


class RunFolder:
    """The folder of a run, made when first written to.

    `run` is a name of letters, digits, dots, dashes and underscores (one of `PUBLISHED` lies in
    `results/`, any other in `runs/`) or an absolute path; another raises ValueError. With
    `replace_published` a run that the repository keeps may be written to.
    """

    def __init__(self, run: str | Path, *, replace_published: bool = False):
        if not isinstance(run, str | Path):
            raise ValueError(f"run (={run!r}) must be text")
        is_absolute = Path(run).is_absolute()
        if not is_absolute and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", str(run)):
            raise ValueError(
                f"run {str(run)!r} must be a name of letters, digits, '.', '-' and '_' such as "
                "'my-first-run', or an absolute path"
            )
        self.path = Path(run) if is_absolute else _find(str(run))
        self.replace_published = replace_published

    def __str__(self) -> str:
        return shorten(self.path)

    @property
    def name(self) -> str:
        """What to say for this run on a command line."""
        return self.path.name if self.path.parent in (RUNS, RESULTS) else str(self.path)

    def file(self, name: str) -> Path:
        """Return where the file `name` of this run is or will be."""
        return self.path / name

    def require(self, name: str) -> Path:
        """Return the file `name`, or raise FileNotFoundError saying where it comes from."""
        file = self.file(name)
        if not file.exists():
            raise FileNotFoundError(f"{self}/{name} is missing; {self._say_remedy(name)}")
        return file

    def _say_remedy(self, name: str) -> str:
        if name == "network.keras" and self.path == RESULTS / REFERENCE:
            return (
                f"it comes with the repository: get it back with `git checkout {self}/{name}`, or "
                "name a run that you have trained"
            )
        if name not in MADE_BY:
            return "make it first"
        command = f"nuclei run --only {MADE_BY[name][:2]} --run {self.name}"
        return f"execute notebook {MADE_BY[name]} with the same run first (`{command}`)"

    def refuse_published(self) -> None:
        """Raise PublishedRunError if the repository keeps this run and replacing was not asked."""
        kept = self.path.parent == RESULTS and self.path.name in PUBLISHED
        if kept and not self.replace_published:
            raise PublishedRunError(
                f"{self} belongs to the repository and is not written to; give another `run`, such "
                f"as 'my_{self.path.name}', or confirm with `replace_published`"
            )

    def write(self, name: str, write: Callable[[Path], Any]) -> Path:
        """Write the file `name` whole or not at all; see `write_whole`."""
        self.refuse_published()
        return write_whole(self.file(name), write)

    def write_json(self, name: str, values: Any) -> Path:
        """Write `values` as JSON, whole or not at all."""
        self.refuse_published()
        return write_json(values, self.file(name))

    def read_json(self, name: str) -> Any:
        """Return the values of a JSON file that this run must have."""
        return json.loads(self.require(name).read_text(encoding="utf-8"))

    def write_csv(self, name: str, table) -> Path:
        """Write a DataFrame without its index, whole or not at all."""
        return self.write(name, lambda part: table.to_csv(part, index=False))

    def read_csv(self, name: str, **options):
        """Return a CSV file that this run must have, as a DataFrame; `TEXT_COLUMNS` stay text."""
        import pandas as pd

        file = self.require(name)
        columns = pd.read_csv(file, nrows=0).columns
        text = {column: str for column in TEXT_COLUMNS if column in columns}
        missing = {column: ["", "nan", "NaN"] for column in columns if column not in text}
        dtype = options.pop("dtype", {}) | text
        return pd.read_csv(file, dtype=dtype, keep_default_na=False, na_values=missing, **options)

    @contextmanager
    def lock(self, purpose: str, name: str = "") -> Iterator[None]:
        """Raise BlockingIOError if another process does the same in this folder at this time.

        The system forgets the lock of a process that dies. `name` is what errors call the folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.file(f".{purpose}.lock")
        with file.open("w") as handle:
            if not _lock(handle):
                raise BlockingIOError(
                    f"{name or self}: another process is {purpose} in this folder; wait for it, or "
                    f"give another {'folder' if name else '`run`'}"
                )
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no open file
                    file.unlink()


def _find(name: str) -> Path:
    """Return the folder of a run's name; one of an earlier version may lie in results/."""
    earlier = (RESULTS / name).is_dir() and not (RUNS / name).is_dir()
    return RESULTS / name if name in PUBLISHED or earlier else RUNS / name


def _lock(handle) -> bool:
    """Return whether the lock on an open file was free and is now ours."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as reason:  # of other systems: a file system without locks
        return sys.platform != "win32" and not isinstance(reason, BlockingIOError)
    return True
