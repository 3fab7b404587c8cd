"""Reads a data set of images and masks, whatever its layout, and says what is wrong with it."""

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from helpers.data.cache import (
    FlatFile,
    FlatWriter,
    hash_members,
    read_index,
    remove_stale,
    replace_file,
    write_index,
)
from helpers.data.layout import Entry, Source, find_entries
from helpers.data.problems import (
    GRAVE,
    Fault,
    read_entry,
    refuse_faults,
    tabulate_faults,
)
from helpers.run_folder import ROOT, resolve

CACHE_DIR = "data/cache"
SAMPLE = "sample"
COLUMNS = ["id", "part", "height", "width", "channels", "dtype", "n_nuclei", "labelled"]


class LazyArrays(Sequence):
    """Arrays that are taken from the cache when asked for; a slice gives a list."""

    def __init__(self, flat: FlatFile, places: list[dict | None], dtype: str | None = None):
        self._flat, self._places, self._dtype = flat, places, dtype

    def __len__(self) -> int:
        """Return the number of arrays."""
        return len(self._places)

    def __getitem__(self, index):
        """Return one array, or None where there is none; a list for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = self._places[index]
        if place is None:
            return None
        array = self._flat.get(place)
        return array if self._dtype is None else array.astype(self._dtype)

    def take(self, indices: Iterable[int]) -> "LazyArrays":
        """Return the arrays at these positions, still unread."""
        return LazyArrays(self._flat, [self._places[i] for i in indices], self._dtype)


@dataclass(frozen=True)
class DataSet:
    """Images, their label images, and what is known about both.

    Attributes
    ----------
    images : sequence of uint8 or uint16 ndarray, (H, W) or (H, W, 3)
        Read-only views of the cache. Alpha is dropped; three equal channels are one.
    labels : sequence of int32 ndarray, (H, W), or None
        0 = background, nuclei from 1 in the order of the mask files' names, or of the numbers in a
        label image; a pixel that two masks claim belongs to the last. None for an image without
        masks.
    table : DataFrame
        One row an image: id, part ("train" or "test"), height and width in pixels, channels and
        dtype as in the file, n_nuclei, labelled.
    faults : DataFrame
        One row a fault of the whole location: fault, id, count, detail, action.
    key : str
        Changes with the content of the location.
    """

    images: LazyArrays
    labels: LazyArrays
    table: pd.DataFrame
    faults: pd.DataFrame
    key: str

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.table)

    @property
    def ids(self) -> list[str]:
        """Names of the images, in the order of the table."""
        return self.table["id"].tolist()

    @property
    def labelled(self) -> "DataSet":
        """The images that have masks."""
        return self.select(self.table["labelled"])

    def select(self, chosen: Sequence[int] | Sequence[bool]) -> "DataSet":
        """Return the images at these positions, or where a mask of `len(self)` is true."""
        chosen = np.asarray(chosen)
        if chosen.dtype == bool and chosen.shape != (len(self),):
            raise ValueError(f"mask has shape {chosen.shape}; it must be ({len(self)},)")
        indices = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(int)
        table = self.table.iloc[indices].reset_index(drop=True)
        images, labels = self.images.take(indices), self.labels.take(indices)
        return DataSet(images, labels, table, self.faults, self.key)


def read_data_set(
    location: str | Path,
    *,
    faults: Literal["refuse", "skip"] = "refuse",
    cache_dir: str | Path = CACHE_DIR,
) -> DataSet:
    """Return the images, label images and faults of a data set.

    The first read decodes every file, on all cores, and leaves a cache; later reads of the same
    content take it from there.

    Parameters
    ----------
    location : str or Path
        "sample" for the embedded sample; a folder or a zip archive; relative paths start at the
        repository's root. `helpers.data.layout.LAYOUTS` lists the layouts.
    faults : {"refuse", "skip"}
        What to do about images with a grave fault (`helpers.data.faults.GRAVE`): raise, or read the
        others and warn. Faults that are only noted never stop a read.
    cache_dir : str or Path
        Folder for the cache; it can be deleted at any time.

    Raises
    ------
    FileNotFoundError, ValueError
        No such location, or no images in an allowed layout there.
    helpers.data.faults.DataFaultError
        With "refuse": some images have grave faults.
    """
    if faults not in ("refuse", "skip"):
        raise ValueError(f'faults (={faults!r}) must be "refuse" or "skip"')
    path = write_sample_once() if location == SAMPLE else resolve(location)
    with Source(path) as source:
        key = hash_members(source.members, path.stem)
        folder = resolve(cache_dir)
        flat, index = folder / f"{path.stem}-{key}.pixels", folder / f"{path.stem}-{key}.json"
        content = read_index(index, flat, key) or _build_cache(source, flat, index, key)
    action = "refused" if faults == "refuse" else "skipped"
    table = tabulate_faults((Fault(*fault) for fault in content["faults"]), action)
    _judge_faults(table, str(location), content)
    return _open_data_set(content, FlatFile(flat), table, key)


def write_sample_once() -> Path:
    """Return the folder of the embedded sample, written anew when its generator has changed."""
    from helpers.data import sample

    folder = ROOT / "data" / SAMPLE
    made_by = hashlib.sha256(Path(sample.__file__).read_bytes()).hexdigest()
    mark = folder / ".made-by"
    if mark.is_file() and mark.read_text() == made_by:
        return folder
    sample.write_sample(folder, seed=0)
    mark.write_text(made_by)
    return folder


def _judge_faults(table: pd.DataFrame, location: str, content: dict) -> None:
    """Refuse or announce grave faults, as the table's column `action` says."""
    n_images, n_read = content["n_entries"], len(content["images"])
    if (table["action"] == "refused").any() or not n_read:
        refuse_faults(table, location, n_images)
    elif n_read < n_images:
        names = ", ".join(table.loc[table["action"] == "skipped", "fault"].unique())
        warnings.warn(
            f"{n_images - n_read} of {n_images} images in {location!r} skipped ({names}); "
            "the table `faults` lists them",
            stacklevel=3,
        )


def _open_data_set(content: dict, flat: FlatFile, faults: pd.DataFrame, key: str) -> DataSet:
    records = content["images"]
    images = LazyArrays(flat, [record["image"] for record in records])
    labels = LazyArrays(flat, [record["labels"] for record in records], "int32")
    return DataSet(images, labels, pd.DataFrame(records)[COLUMNS], faults, key)


def _build_cache(source: Source, flat: Path, index: Path, key: str) -> dict:
    """Read every file of a source into the flat file, then write the index."""
    entries, others = find_entries(source)
    faults = [Fault("file not in the layout", "", 1, name) for name in others]
    unique, repeated = _split_repeated(entries)
    faults += repeated
    flat.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(flat.parent)
    records, digests = [], {}
    with replace_file(flat) as file:
        writer = FlatWriter(file)
        for reading in _read_entries(source, unique):
            faults += reading.faults
            if any(fault.fault in GRAVE for fault in reading.faults):
                continue
            first = digests.setdefault(reading.digest, reading.record["id"])
            if first != reading.record["id"]:
                detail = f"same as {first}"
                faults.append(Fault("identical pixels", reading.record["id"], 1, detail))
            labels = None if reading.labels is None else writer.add(reading.labels)
            record = {**reading.record, "image": writer.add(reading.image), "labels": labels}
            records.append(record)
    content = {"images": records, "faults": faults, "n_entries": len(entries)}
    write_index(index, writer, key, content)
    return content


def _split_repeated(entries: list[Entry]) -> tuple[list[Entry], list[Fault]]:
    """Keep the first entry of each id; the others are faults."""
    first: dict[str, Entry] = {}
    faults = []
    for entry in entries:
        kept = first.setdefault(entry.id, entry)
        if kept is not entry:
            places = f"in {kept.folder or '.'} and in {entry.folder or '.'}"
            faults.append(Fault("duplicate id", entry.id, 1, places))
    return list(first.values()), faults


def _read_entries(source: Source, entries: list[Entry]) -> Iterator:
    """Yield the readings in order, decoded on all cores, under a progress bar."""
    n_files = sum(len(entry.images) + len(entry.masks) for entry in entries)
    # Threads, not processes: decoding releases the lock of the interpreter, so they are as fast,
    # and they work the same in a script, in a notebook and beside a running TensorFlow.
    name = f"reading {source.path.name}"
    with (
        ThreadPoolExecutor(_count_cores()) as pool,
        tqdm(total=n_files, desc=name, unit=" files", delay=1, mininterval=1) as bar,
    ):
        readings = pool.map(partial(read_entry, source), entries)
        try:
            for entry, reading in zip(entries, readings, strict=True):
                bar.update(len(entry.images) + len(entry.masks))
                yield reading
        finally:
            pool.shutdown(cancel_futures=True)


def _count_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
