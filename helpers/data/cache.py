"""The cache of a data set that was read: one HDF5 file of images, label images and records."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np

from helpers.run_folder import write_whole

VERSION = 3  # raise it when the same files would be read into other arrays or records


def hash_members(members: dict[str, str], *more: str) -> str:
    """Return the key of a data set's content, from its files' stamps and what else decides."""
    content = json.dumps([VERSION, *more, sorted(members.items())])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class LazyArrays(Sequence):
    """Arrays that are read from caches when asked for; a slice gives a list.

    A place is the file of a cache and a name in it, or None for no array.
    """

    def __init__(self, places: Iterable[tuple[Path, str] | None], dtype: str | None = None):
        self._places, self._dtype = list(places), dtype

    def __len__(self) -> int:
        """Return the number of arrays."""
        return len(self._places)

    def __add__(self, other: "LazyArrays") -> "LazyArrays":
        """Return these arrays and then the others."""
        return LazyArrays([*self._places, *other._places], self._dtype)

    def __getitem__(self, index):
        """Return one array, or None where there is none; a list for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = self._places[index]
        if place is None:
            return None
        path, name = place
        with h5py.File(path, "r", locking=False) as file:
            array = file[name][()]
        return array if self._dtype is None else array.astype(self._dtype)

    def take(self, indices: Iterable[int]) -> "LazyArrays":
        """Return the arrays at these positions, still unread."""
        return LazyArrays([self._places[i] for i in indices], self._dtype)


def write_cache(path: Path, fill: Callable[[h5py.File], dict]) -> dict:
    """Return what `fill` says of the arrays that it writes; the file is whole or not there."""
    content = {}

    def write(part: Path) -> None:
        with h5py.File(part, "x") as file:
            content.update(fill(file))
            file["content"] = np.frombuffer(json.dumps(content).encode(), np.uint8)

    write_whole(path, write)
    return content


def read_content(path: Path) -> dict | None:
    """Return what a whole cache knows about its arrays, or None where it must be built again."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return json.loads(file["content"][()].tobytes())
    except (OSError, KeyError, ValueError):
        return None
