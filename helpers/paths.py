"""Where things are: every relative path in the series starts at the repository's root."""

from pathlib import Path

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
