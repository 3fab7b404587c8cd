"""Reads a data set of images and their truth, whatever its layout, and says what is wrong."""

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Literal, NamedTuple

import h5py
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from helpers.data.channels import GIVE
from helpers.data.layout import Entry, find_entries
from helpers.data.problems import GRAVE, DataFaultError, Fault, refuse_faults, tabulate_faults
from helpers.data.reading import ImageFile, read_any_image
from helpers.data.source import Source, find_known_groups
from helpers.data.truth import MASKS, Truth, judge_pieces, read_truth
from helpers.run_folder import ROOT, name_locations, resolve, write_whole

CACHE_DIR = "data/cache"
VERSION = 3  # raise it when the same files would be read into other arrays or records
SAMPLE = "sample"
COLUMNS = ["id", "part", "height", "width", "channels", "dtype", "n_nuclei", "labelled"]
"""Of a data set's table, before `source`, the name of its location, and `known_group`: what the
image shares with others that a split must keep together, "" where nothing says so."""


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
        if self._places[index] is None:
            return None
        path, name = self._places[index]
        with h5py.File(path, "r", locking=False) as file:
            return file[name][()].astype(self._dtype or file[name].dtype, copy=False)

    def take(self, indices: Iterable[int]) -> "LazyArrays":
        """Return the arrays at these positions, still unread."""
        return LazyArrays([self._places[i] for i in indices], self._dtype)


@dataclass(frozen=True)
class DataSet:
    """Images, their label images, and what is known about both; arrays are read when asked for."""

    images: LazyArrays  # (H, W) or (H, W, 3), uint8 or uint16; alpha dropped, equal channels merged
    labels: LazyArrays  # (H, W) int32 from `helpers.data.truth.read_truth`; None without masks
    table: pd.DataFrame  # one row an image: `COLUMNS`, part being "train", "validation" or "test",
    # source and known_group
    faults: pd.DataFrame  # of the location, from `helpers.data.problems.tabulate_faults`
    key: str  # changes with the files of the location

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
    masks: Literal["numbered", "components", "inverted"] = "numbered",
    cache_dir: str | Path = CACHE_DIR,
) -> DataSet:
    """Return the images, label images and faults of a data set, or of several as one.

    Parameters
    ----------
    location : str or Path
        "sample", or a folder or zip archive in one of `helpers.data.layout.LAYOUTS`, or several,
        separated by commas: then each id begins with the name of its source. FileNotFoundError or
        ValueError if it is not there, or has no images in an allowed layout.
    faults : {"refuse", "skip"}
        What becomes of images with a grave fault (`helpers.data.problems.GRAVE`): raise
        DataFaultError, or read the others and warn; with none left, or no nucleus, raise too.
    masks : {"numbered", "components", "inverted"}
        What is a nucleus: a number or a file; a connected piece; a piece of what is not marked.
    cache_dir : str or Path
        Folder for what the first read has decoded; it can be deleted at any time.
    """
    for name, value, allowed in (("faults", faults, ("refuse", "skip")), ("masks", masks, MASKS)):
        if value not in allowed:
            shown = ", ".join(f'"{one}"' for one in allowed)
            raise ValueError(f"`{name}` (={value!r}) must be one of {shown}")
    action = {"refuse": "refused", "skip": "skipped"}[faults]
    sets = [
        _read_one(name, location, action, masks, ROOT / cache_dir)
        for name, location in name_locations(location).items()
    ]
    return sets[0] if len(sets) == 1 else _join(sets)


def _read_one(name: str, location: str, action: str, masks: str, cache_dir: Path) -> DataSet:
    """Return the data set at one location."""
    path = write_sample_once() if location == SAMPLE else resolve(location)
    with Source(path) as source:
        if source.published and masks == "numbered":
            masks = source.published.masks
        stamps = [VERSION, path.stem, masks, sorted(source.members.items())]
        key = _hash(json.dumps(stamps).encode())[:16]
        cache = cache_dir / f"{path.stem}-{key}.h5"
        content = _open_cache(cache, source, masks)
        records = content["images"]
        groups = find_known_groups(source, name, [record["id"] for record in records])
    table = tabulate_faults((Fault(*fault) for fault in content["faults"]), action)
    _judge(table, location, content)
    images = [(cache, f"images/{each['number']}") for each in records]
    labels = [(cache, f"labels/{r['number']}") if r["labelled"] else None for r in records]
    return DataSet(
        LazyArrays(images),
        LazyArrays(labels, "int32"),
        pd.DataFrame(records)[COLUMNS].assign(source=name, known_group=groups),
        table,
        key,
    )


def _join(sets: Sequence[DataSet]) -> DataSet:
    """Return several data sets as one."""
    tables, faults = [], []
    for each in sets:
        prefix = each.table["source"].iloc[0] + "-"
        tables.append(each.table.assign(id=prefix + each.table["id"]))
        ids = each.faults["id"]
        faults.append(each.faults.assign(id=ids.where(ids == "", prefix + ids)))
    return DataSet(
        reduce(LazyArrays.__add__, (each.images for each in sets)),
        reduce(LazyArrays.__add__, (each.labels for each in sets)),
        pd.concat(tables, ignore_index=True),
        pd.concat(faults, ignore_index=True),
        _hash("".join(each.key for each in sets).encode())[:16],
    )


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_sample_once() -> Path:
    """Return the folder of the embedded sample, written again when its generator has changed."""
    from helpers.data import drawing, sample

    folder = ROOT / "data" / SAMPLE
    made_by = _hash(b"".join(Path(each.__file__).read_bytes() for each in (drawing, sample)))
    mark = folder / ".made-by"
    if mark.is_file() and mark.read_text() == made_by:
        return folder
    sample.write_sample(folder, seed=0)
    mark.write_text(made_by)
    return folder


def _judge(table: pd.DataFrame, location: str, content: dict) -> None:
    """Refuse or announce grave faults, as the table's column `action` says."""
    n_images, records = content["n_entries"], content["images"]
    if (table["action"] == "refused").any() or not records:
        refuse_faults(table, location, n_images)
    counts = [record["n_nuclei"] for record in records if record["labelled"]]
    if counts and not any(counts):
        raise DataFaultError(
            f"none of the {len(counts)} images with masks in {location!r} has a nucleus: every "
            "mask is empty; save nuclei as numbers from 1 on, or as 255, on a ground of 0",
            table,
        )
    if len(records) < n_images:
        names = ", ".join(table.loc[table["action"] == "skipped", "fault"].unique())
        warnings.warn(
            f"{n_images - len(records)} of {n_images} images in {location!r} skipped ({names}); "
            "the table `faults` lists them",
            stacklevel=3,
        )


class Reading(NamedTuple):
    """What the files of one image hold; without arrays where it cannot be read."""

    record: dict
    image: np.ndarray | None  # (H, W) or (H, W, 3), uint8 or uint16
    truth: Truth | None  # None without masks
    faults: list[Fault]


def read_entry(source: Source, masks: str, entry: Entry) -> Reading:
    """Return the image and the label image of one entry, and what is wrong with them."""
    if fault := _check_files(entry):
        return Reading({"id": entry.id}, None, None, [fault])
    try:
        file = read_any_image(source.read(entry.images[0]), min_side_px=1)
        if file.pixels.dtype.kind == "f":
            raise ValueError(f"pixels are {file.pixels.dtype}; convert them to 8 or 16 bit")
    except Exception as reason:  # decoders raise many types for a damaged file
        found, give, _ = str(reason).partition(GIVE)
        reason = f"{found}; save the one with the nuclei as a file of its own" if give else reason
        fault = Fault("unreadable image", entry.id, 1, f"{entry.images[0]}: {reason}")
        return Reading({"id": entry.id}, None, None, [fault])
    truth = read_truth(source, entry, file.pixels.shape[:2], masks) if entry.masks else None
    faults = [] if truth is None else truth.faults
    if file.valid is not None:
        n_outside = int(np.count_nonzero(~file.valid))
        faults = [*faults, Fault("transparent pixels", entry.id, n_outside, "pixels")]
    return Reading(_record(entry, file, truth), file.pixels, truth, faults)


def _check_files(entry: Entry) -> Fault | None:
    """Return what is wrong with the number of an entry's files."""
    if len(entry.images) != 1:
        fault = "several image files" if entry.images else "no image file"
        detail = ", ".join(name.rsplit("/", 1)[-1] for name in entry.images)
        return Fault(fault, entry.id, len(entry.images), detail)
    if not entry.masks and (entry.part != "test" or entry.label_images):
        return Fault("no masks", entry.id, 1, "")
    if entry.label_images and len(entry.masks) > 1:
        return Fault("several label images", entry.id, len(entry.masks), ", ".join(entry.masks))
    return None


def _record(entry: Entry, file: ImageFile, truth: Truth | None) -> dict:
    pixels = file.pixels
    return {
        "id": entry.id,
        "part": entry.part,
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "channels": file.n_channels,
        "dtype": pixels.dtype.name,
        "n_nuclei": 0 if truth is None else int(truth.labels.max()),
        "labelled": truth is not None,
        "digest": _hash(f"{pixels.shape}".encode() + pixels.tobytes()),
    }


def _open_cache(path: Path, source: Source, masks: str) -> dict:
    """Return the records and faults of a source from its cache, written unless it is whole."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return json.loads(file["content"][()].tobytes())
    except (OSError, KeyError, ValueError):
        content = {}

    def write(part: Path) -> None:
        with h5py.File(part, "x") as file:
            content.update(_fill_cache(source, masks, file))
            file["content"] = np.frombuffer(json.dumps(content).encode(), np.uint8)

    write_whole(path, write)
    return content


def _fill_cache(source: Source, masks: str, file: h5py.File) -> dict:
    """Write the arrays of every file of a source and return the records and faults."""
    entries, others = find_entries(source)
    faults = [Fault("file not in the layout", "", 1, name) for name in others]
    unique, repeated = _split_repeated(entries)
    faults += repeated
    records, counts = [], {}
    for number, reading in enumerate(_read_entries(source, unique, masks)):
        faults += reading.faults
        if any(fault.fault in GRAVE for fault in reading.faults):
            continue
        file[f"images/{number}"] = reading.image
        if reading.truth is not None:
            file[f"labels/{number}"] = reading.truth.labels
            if reading.truth.n_numbers:
                counts[reading.record["id"]] = reading.truth[-2:]
        records.append({**reading.record, "number": number})
    if counts:
        pieces = judge_pieces(counts)
        wrong = {fault.id for fault in pieces}
        one_value = "label image of one value"
        faults = [f for f in faults if f.fault != one_value or f.id not in wrong] + pieces
        records = [record for record in records if record["id"] not in wrong]
    first: dict[str, str] = {}
    faults += [
        Fault("identical pixels", record["id"], 1, f"same as {same}")
        for record in records
        if (same := first.setdefault(record["digest"], record["id"])) != record["id"]
    ]
    return {"images": records, "faults": faults, "n_entries": len(entries)}


def _split_repeated(entries: list[Entry]) -> tuple[list[Entry], list[Fault]]:
    """Keep the first entry of each id; the others are faults."""
    first: dict[str, Entry] = {}
    faults = [
        Fault("duplicate id", entry.id, 1, f"in {kept.folder or '.'} and in {entry.folder or '.'}")
        for entry in entries
        if (kept := first.setdefault(entry.id, entry)) is not entry
    ]
    return list(first.values()), faults


def _read_entries(source: Source, entries: list[Entry], masks: str) -> Iterator[Reading]:
    """Yield the readings in order, decoded on all cores, under a progress bar."""
    # Threads, not processes: decoding releases the lock of the interpreter, so they are as fast,
    # and they work the same in a script, in a notebook and beside a running TensorFlow.
    with ThreadPoolExecutor() as pool:
        readings = pool.map(partial(read_entry, source, masks), entries)
        name = f"reading {source.path.name}"
        try:
            yield from tqdm(readings, name, len(entries), unit=" images", delay=1, mininterval=1)
        finally:
            pool.shutdown(cancel_futures=True)
