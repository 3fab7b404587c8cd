"""Downloads published sets of annotated nuclei."""

import zipfile
from pathlib import Path

import pooch

from helpers.data.sets import SETS
from helpers.data.source import refuse_unsafe
from helpers.run_folder import ROOT, shorten


def fetch(name: str, folder: str | Path = ROOT / "data") -> Path:
    """Return the path of a set's archive, downloaded unless it is there and whole.

    ValueError: the set is not known, or what arrived is damaged or unsafe; it is deleted.
    ConnectionError: the server cannot be reached, or the transfer broke off again and again.
    """
    if name not in SETS:
        raise ValueError(f"`name` (={name!r}) must be one of {', '.join(SETS)}")
    chosen, folder = SETS[name], Path(folder).expanduser().absolute()
    pooch.get_logger().setLevel("ERROR")
    known, urls = {chosen.file: chosen.sha256}, {chosen.file: chosen.address}
    fetcher = pooch.create(folder, base_url="", registry=known, urls=urls, retry_if_failed=4)
    by_http = pooch.HTTPDownloader(progressbar=True, timeout=60)
    try:
        path = Path(fetcher.fetch(chosen.file, downloader=by_http))
    except ValueError as reason:
        raise ValueError(
            f"{chosen.file} from {chosen.address} is damaged: its SHA-256 is not {chosen.sha256}. "
            "It was deleted; run the same command again, and if that does not help, report it"
        ) from reason
    except OSError as reason:  # what requests raises is one
        raise ConnectionError(
            f"{chosen.address} cannot be downloaded ({reason}); check the connection, or put the "
            f"file there yourself: {shorten(folder / chosen.file)}"
        ) from reason
    if chosen.sha256 is None:
        _check_archive(path)
    return path


def describe(name: str) -> str:
    """Return a paragraph on a set: what it is, its licence and what to cite."""
    chosen = SETS[name]
    size = f" · {chosen.size_mb} MB" if chosen.size_mb else ""
    return (
        f"{name}: {chosen.title}{size} · {chosen.licence}\n"
        f"  cite {chosen.citation}\n  from {chosen.address}"
    )


def _check_archive(path: Path) -> None:
    """Raise ValueError, and delete the archive, where it is damaged or holds an unsafe name."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                refuse_unsafe(name, path)
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"{damaged!r} in it does not match its checksum")
    except (zipfile.BadZipFile, ValueError) as reason:
        path.unlink()
        if isinstance(reason, ValueError):
            raise
        raise ValueError(
            f"{path.name} is damaged ({reason}) and was deleted; download it again"
        ) from None
