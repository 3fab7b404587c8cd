"""A run's folder under `results/`: what one notebook writes and the next one reads."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def resolve(path: str | Path) -> Path:
    """Return `path` as an absolute path; a relative one starts at the repository's root.

    Notebooks run in their own folder under nbval and in the caller's under papermill, so the
    working directory decides nothing.

    Examples
    --------
    >>> resolve("settings/quick.json") == ROOT / "settings" / "quick.json"
    True
    """
    return ROOT / Path(path).expanduser()


MADE_BY = {
    "faults.csv": "01 · Data exploration",
    "split.csv": "01 · Data exploration",
    "split.json": "01 · Data exploration",
    "modalities.csv": "02 · Histology and fluorescence",
    "audit.csv": "02 · Histology and fluorescence",
    "out_of_distribution.json": "02 · Histology and fluorescence",
    "network.csv": "03 · The U-Net from its settings",
    "settings.json": "04 · Training",
    "network.keras": "04 · Training",
    "history.csv": "04 · Training",
    "tuning.csv": "04 · Training",
    "metrics.csv": "05 · Evaluation",
    "metrics.json": "05 · Evaluation",
    "invariance.csv": "05 · Evaluation",
    "nuclei_scores.csv": "05 · Evaluation",
    "targets.csv": "07 · How do touching nuclei come apart?",
}
"""Which notebook makes which file."""

REFERENCE = "reference"
"""The run whose network comes with the repository, and is asked where no other is named."""


class RunFolder:
    """The folder `results/<run>`, made when first written to.

    Parameters
    ----------
    run : str
        A name of letters, digits, dots, dashes and underscores, or an absolute path.

    Raises
    ------
    ValueError
        If the name could lead out of `results/`.
    """

    def __init__(self, run: str | Path):
        is_absolute = Path(run).is_absolute()
        if not is_absolute and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", str(run)):
            raise ValueError(
                f"run {str(run)!r} must be a name of letters, digits, '.', '-' and '_' such as "
                "'my-first-run', or an absolute path"
            )
        self.path = resolve(Path("results") / run)

    def __str__(self) -> str:
        inside = self.path.is_relative_to(ROOT)
        return str(self.path.relative_to(ROOT) if inside else self.path)

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
        if name == "network.keras" and self.path == resolve(Path("results") / REFERENCE):
            return (
                f"it comes with the repository: get it back with `git checkout {self}/{name}`, or "
                "name a run that you have trained"
            )
        maker = MADE_BY.get(name)
        return f"execute notebook {maker!r} with the same run first" if maker else "make it first"

    def write(self, name: str, write: Callable[[Path], Any]) -> Path:
        """Write the file `name` whole or not at all: `write` gets a temporary path to fill.

        An interruption leaves the file as it was.
        """
        file = self.file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".part-{file.name}")
        try:
            write(part)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
        return file

    def write_json(self, name: str, values: Any) -> Path:
        """Write `values` as JSON, whole or not at all."""
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        return self.write(name, lambda part: part.write_text(text, encoding="utf-8"))

    def read_json(self, name: str) -> Any:
        """Return the values of a JSON file that this run must have."""
        return json.loads(self.require(name).read_text(encoding="utf-8"))

    def write_csv(self, name: str, table) -> Path:
        """Write a DataFrame without its index, whole or not at all."""
        return self.write(name, lambda part: table.to_csv(part, index=False))

    def read_csv(self, name: str, **options):
        """Return a CSV file that this run must have, as a DataFrame; options go to pandas."""
        import pandas as pd

        return pd.read_csv(self.require(name), **options)


def shorten(path: Path) -> str:
    """Return `path` as text, from the repository's root on if it lies in there."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
