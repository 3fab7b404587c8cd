"""The cache of a data set that was read: one flat file of pixels and an index beside it."""

import hashlib
import json
import secrets
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

CACHE_VERSION = 2  # raise it when the same files would be read into other arrays or records
_ALIGN = 64
_BLOCK = 1 << 22
_STALE_S = 24 * 3600


def hash_members(members: dict[str, str], name: str) -> str:
    """Return the key of a data set's content: 16 hexadecimal digits.

    Parameters
    ----------
    members : dict of str to str
        Stamp of the content (CRC32, or size and time) by file name.
    name : str
        The location's own name, which can decide whether the images are for training.
    """
    content = json.dumps([CACHE_VERSION, name, sorted(members.items())])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class FlatFile:
    """Arrays in one file, mapped into memory when first asked for; pickled by its path."""

    def __init__(self, path: Path):
        self.path = path
        self._bytes: np.ndarray | None = None

    def __getstate__(self) -> dict:
        """Leave the mapped bytes out: whoever unpickles maps the file again."""
        return {"path": self.path, "_bytes": None}

    def get(self, place: dict) -> np.ndarray:
        """Return the array at a place as a read-only view."""
        if self._bytes is None:
            self._bytes = np.memmap(self.path, np.uint8, mode="r").view(np.ndarray)
        dtype = np.dtype(place["dtype"])
        n_bytes = dtype.itemsize * int(np.prod(place["shape"]))
        raw = self._bytes[place["offset"] : place["offset"] + n_bytes]
        return raw.view(dtype).reshape(place["shape"])


class FlatWriter:
    """Writes arrays one after the other and returns the place of each."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.size = 0
        self.checksum = 0

    def add(self, array: np.ndarray) -> dict:
        """Append an array; the place is what `FlatFile.get` takes."""
        raw = np.ascontiguousarray(array).tobytes()
        place = {"offset": self.size, "shape": list(array.shape), "dtype": array.dtype.name}
        padded = raw + bytes(-len(raw) % _ALIGN)
        self._file.write(padded)
        self.size += len(padded)
        self.checksum = zlib.crc32(padded, self.checksum)
        return place


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` at the end, or leaves no trace on an error."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_index(path: Path, writer: FlatWriter, key: str, content: dict) -> None:
    """Write the index of a finished flat file, with checksums of both."""
    index = {"version": CACHE_VERSION, "key": key, "size": writer.size, "crc": writer.checksum}
    body = json.dumps({**index, **content}).encode()
    with replace_file(path) as file:
        file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def read_index(path: Path, flat: Path, key: str) -> dict | None:
    """Return an index whose flat file is whole, or None where either is missing or damaged."""
    try:
        checksum, body = path.read_bytes().split(b"\n", 1)
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            return None
        index = json.loads(body)
        whole = (index["version"], index["key"]) == (CACHE_VERSION, key)
        whole = whole and flat.stat().st_size == index["size"]
        return index if whole and _sum_file(flat) == index["crc"] else None
    except (OSError, ValueError, KeyError):
        return None


def remove_stale(folder: Path) -> None:
    """Remove what a killed process left half-written a day or more ago."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()


def _sum_file(path: Path) -> int:
    """Return the CRC32 of a file without holding it in memory."""
    checksum, block = 0, bytearray(_BLOCK)
    with path.open("rb", buffering=0) as file:
        while n := file.readinto(block):
            checksum = zlib.crc32(memoryview(block)[:n], checksum)
    return checksum
