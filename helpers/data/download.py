"""Downloads BBBC038, the images of the Data Science Bowl 2018: `python -m helpers.data.download`.

Source: Caicedo et al., Nature Methods 2019, https://doi.org/10.1038/s41592-019-0612-7; image set
BBBC038 of the Broad Bioimage Benchmark Collection, in the public domain (CC0).
"""

import argparse
import http.client
import re
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pooch
from tqdm import tqdm

from helpers.data.source import refuse_unsafe
from helpers.run_folder import ROOT, resolve

BASE_URL = "https://data.broadinstitute.org/bbbc/BBBC038/"
TRAIN, TEST = "stage1_train.zip", "stage1_test.zip"
SHA256: dict[str, str | None] = {
    TRAIN: "dcb6edc2690f137406638b2309581a71522c4dff19157d118453b448dcddcb68",
    TEST: None,  # nobody has published one
}
TIMEOUT_S = 60
N_ATTEMPTS = 5
_BLOCK = 1 << 18


class ResumingDownloader:
    """Downloads a file for pooch; goes on where an interrupted download stopped.

    What has arrived waits in `part`. A server that does not know ranges sends the file anew.

    Parameters
    ----------
    part : Path
        The unfinished file.
    """

    def __init__(self, part: Path):
        self.part = part

    def __call__(self, url: str, output_file: str, pooch_: object = None) -> None:
        """Download a file; pooch checks it afterwards.

        Raises
        ------
        ConnectionError
            The transfer broke off again and again; what arrived is kept.
        """
        for attempt in range(1, N_ATTEMPTS + 1):
            try:
                if self._fetch(url):
                    self.part.replace(output_file)
                    return
                reason = "the connection closed early"
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise ConnectionError(f"{url}: the server answers {error.code}") from error
                reason = str(error)
            except (OSError, http.client.HTTPException) as error:
                reason = str(error)
            print(f"attempt {attempt} of {N_ATTEMPTS}: {reason}", file=sys.stderr)
        raise ConnectionError(
            f"{url}: {reason}; {self._size() / 1e6:.1f} MB are kept in {self.part.name}, "
            "the same command goes on from there"
        )

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _fetch(self, url: str) -> bool:
        """Append to the part what is missing; return whether the file is whole."""
        have = self._size()
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        try:
            response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code != 416:  # the part is whole already, or longer than the file
                raise
            whole = error.headers.get("Content-Range", "").endswith(f"/{have}")
            if not whole:
                self.part.unlink()
            return whole
        with response:
            start = _read_start(response)
            if start != have:
                have = 0
            length = response.headers["Content-Length"]
            total = None if length is None else have + int(length)
            self._append(response, have, total)
        return total is None or self._size() == total

    def _append(self, response: http.client.HTTPResponse, have: int, total: int | None) -> None:
        name = self.part.stem
        with (
            self.part.open("ab" if have else "wb") as file,
            tqdm(total=total, initial=have, desc=name, unit="B", unit_scale=True) as bar,
        ):
            while block := response.read(_BLOCK):
                file.write(block)
                bar.update(len(block))


def _read_start(response: http.client.HTTPResponse) -> int:
    """Return the byte that a response starts from."""
    if response.status != 206:
        return 0
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else 0


def download_archive(
    name: str, folder: str | Path, *, base_url: str = BASE_URL, sha256: str | None = None
) -> Path:
    """Return the path of an archive, downloaded unless it is there and whole.

    Parameters
    ----------
    name : str
        File name of the archive, for example "stage1_train.zip".
    folder : str or Path
        Where it is kept; relative paths start at the repository's root.
    base_url : str
        Address of the folder that the server keeps it in.
    sha256 : str or None
        Published checksum. None: every member of the archive is checked against its own checksum,
        and the archive's is kept beside it, for the next time.

    Raises
    ------
    ValueError
        The archive does not match its checksum, is damaged or holds an unsafe name; it is deleted.
    ConnectionError
        The download failed; what has arrived is kept, and the next call goes on from there.
    """
    if not base_url.startswith(("https://", "http://")):
        raise ValueError(f"base_url (={base_url!r}) must start with https:// or http://")
    folder = resolve(folder)
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / f"{name}.sha256"
    known = sha256 or (note.read_text().split()[0] if note.is_file() else None)
    pooch.get_logger().setLevel("WARNING")
    try:
        path = pooch.retrieve(
            base_url.rstrip("/") + "/" + name,
            known_hash=known,
            fname=name,
            path=folder,
            downloader=ResumingDownloader(folder / f"{name}.part"),
        )
    except ValueError as reason:
        raise ValueError(
            f"{name} is damaged: its SHA-256 is not {known}. It was deleted; run the same command "
            f"again, and if that does not help, tell the project ({reason})"
        ) from reason
    path = Path(path)
    check_archive(path)
    if sha256 is None and known is None:
        note.write_text(f"{pooch.file_hash(str(path))}  {name}\n")
    return path


def check_archive(path: Path) -> None:
    """Raise ValueError, and delete the archive, where it is damaged or holds an unsafe name."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                refuse_unsafe(name, path)
            damaged = archive.testzip()
        reason = f"{damaged!r} in it does not match its checksum" if damaged else ""
    except zipfile.BadZipFile as error:
        reason = str(error)
    except ValueError:
        path.unlink()
        raise
    if reason:
        path.unlink()
        raise ValueError(f"{path.name} is damaged ({reason}) and was deleted; download it again")


def main(arguments: list[str] | None = None) -> int:
    """Download what the command line asks for; return 0, or 1 after a message."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.data.download", description="Download BBBC038 (CC0)."
    )
    parser.add_argument("--folder", default="data", help="where to keep the archives (%(default)s)")
    parser.add_argument("--with-test", action="store_true", help=f"{TEST} too (no masks)")
    parser.add_argument("--base-url", default=BASE_URL, help="another server (%(default)s)")
    chosen = parser.parse_args(arguments)
    for name in (TRAIN, TEST) if chosen.with_test else (TRAIN,):
        try:
            path = download_archive(
                name, chosen.folder, base_url=chosen.base_url, sha256=SHA256[name]
            )
        except (OSError, ValueError) as reason:
            print(f"{name}: {reason}", file=sys.stderr)
            return 1
        print(_describe(path, SHA256[name]))
    return 0


def _describe(path: Path, sha256: str | None) -> str:
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    about = f"{shown}: {path.stat().st_size / 1e6:.1f} MB"
    if sha256:
        return f"{about}, matches its published checksum"
    return (
        f"{about}, SHA-256 {pooch.file_hash(str(path))}. No checksum is published for it; "
        "its members match their own, and later calls compare with this one."
    )


if __name__ == "__main__":
    sys.exit(main())
