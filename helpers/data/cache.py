"""The cache of a data set that was read: one HDF5 file of images, label images and records."""

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np

VERSION = 3  # raise it when the same files would be read into other arrays or records
_STALE_S = 24 * 3600


def hash_members(members: dict[str, str], *more: str) -> str:
    """Return the key of a data set's content: 16 hexadecimal digits.

    Parameters
    ----------
    members : dict of str to str
        Stamp of the content (CRC32, or size and time) by file name.
    more : str
        What else decides what is read, such as the location's name.
    """
    content = json.dumps([VERSION, *more, sorted(members.items())])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class LazyArrays(Sequence):
    """Arrays that are read from the cache when asked for; a slice gives a list."""

    def __init__(self, path: Path, names: Sequence[str | None], dtype: str | None = None):
        self.path, self._names, self._dtype = path, list(names), dtype
        self._file: h5py.File | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict:
        """Leave the open file out: whoever unpickles opens it again."""
        return {"path": self.path, "names": self._names, "dtype": self._dtype}

    def __setstate__(self, state: dict) -> None:
        """Take what `__getstate__` gave."""
        self.__init__(**state)

    def __len__(self) -> int:
        """Return the number of arrays."""
        return len(self._names)

    def __getitem__(self, index):
        """Return one array, or None where there is none; a list for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        name = self._names[index]
        if name is None:
            return None
        with self._lock:
            if self._file is None:
                self._file = h5py.File(self.path, "r", locking=False)
        array = self._file[name][()]
        return array if self._dtype is None else array.astype(self._dtype)

    def take(self, indices: Iterable[int]) -> "LazyArrays":
        """Return the arrays at these positions, still unread."""
        return LazyArrays(self.path, [self._names[i] for i in indices], self._dtype)


@contextmanager
def write_cache(path: Path) -> Iterator[h5py.File]:
    """Open a file that takes the place of `path` at the end, or leaves no trace on an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path.parent)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}.tmp")
    try:
        with h5py.File(temporary, "x") as file:
            yield file
        try:
            temporary.replace(path)
        except PermissionError:  # Windows, while another process reads the same that it has made
            if not path.exists():
                raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_content(file: h5py.File, content: dict) -> None:
    """Write what is known about the arrays, last of all."""
    file["content"] = np.frombuffer(json.dumps(content).encode(), np.uint8)


def read_content(path: Path) -> dict | None:
    """Return what a whole cache knows about its arrays, or None where it must be built again."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return json.loads(file["content"][()].tobytes())
    except (OSError, KeyError, ValueError):
        return None


def _remove_stale(folder: Path) -> None:
    """Remove what a killed process left half-written a day or more ago."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()
