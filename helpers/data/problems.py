"""What can be wrong with a data set, how grave each fault is, and the table that lists them."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage

from helpers.data.layout import Entry, Source
from helpers.data.reading import (
    ImageFile,
    Patch,
    read_any_image,
    read_label_image,
    read_mask,
)

# A larger share of an image's foreground claimed by two masks says that the masks are wrong.
MAX_OVERLAP = 0.05

GRAVE = {
    "no image file": "a folder <id> without a file in <id>/images, or a label image alone",
    "several image files": "more than one file in <id>/images, or two of one id",
    "duplicate id": "the same id in two places; the first counts, train before test",
    "unreadable image": "damaged, not PNG or TIFF, or not 8- or 16-bit integers",
    "no masks": "a training image without mask files, or no label image where others have one",
    "several label images": "more than one label image for an image",
    "unreadable mask": "damaged, or not PNG or TIFF",
    "mask of another size": "a mask whose height and width are not those of the image",
    "overlapping masks": f"more than {MAX_OVERLAP:.0%} of the foreground claimed twice",
}
NOTED = {
    "small overlap": f"at most {MAX_OVERLAP:.0%} of the foreground claimed twice",
    "empty mask": "a mask file without foreground",
    "hidden mask": "a mask whose every pixel later masks claim; it counts as no nucleus",
    "label image of one value": "one nucleus in several pieces: perhaps a mask, not numbers",
    "mask of several values": "values other than one foreground value; all count as foreground",
    "identical pixels": "the same pixels under another id",
    "transparent pixels": "alpha below its maximum; alpha is dropped",
    "file not in the layout": "a file outside images/, masks/ and labels/",
}
COLUMNS = ["fault", "id", "count", "detail", "action"]


class Fault(NamedTuple):
    """One fault of one image."""

    fault: str  # a name in GRAVE or NOTED
    id: str  # of the image; "" for a file that belongs to none
    count: int  # of files, or of pixels where the fault is about pixels
    detail: str


class DataFaultError(ValueError):
    """A data set has grave faults and was to be refused; `faults` is the table of all faults."""

    def __init__(self, message: str, faults: pd.DataFrame):
        super().__init__(message)
        self.faults = faults


def tabulate_faults(faults: Iterable[Fault], action: str) -> pd.DataFrame:
    """Return one row a fault: fault, id, count, detail and action, grave faults first.

    Parameters
    ----------
    faults : iterable of Fault
        In any order.
    action : {"refused", "skipped"}
        What becomes of an image with a grave fault. Others are "kept"; a file outside the layout
        is "not read".
    """
    order = [*GRAVE, *NOTED]
    rows = [(*fault, _name_action(fault.fault, action)) for fault in faults]
    rows.sort(key=lambda row: (order.index(row[0]), row[1], row[3]))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"count": "int64"})


def summarise_faults(faults: pd.DataFrame, n_ids: int = 3) -> pd.DataFrame:
    """Return one row for each kind of fault: images, total count, action and the first ids."""
    rows = [
        {
            "fault": fault,
            "images": group.loc[group["id"] != "", "id"].nunique(),
            "count": int(group["count"].sum()),
            "action": group["action"].iloc[0],
            "ids": _shorten(list(dict.fromkeys(group["id"])), n_ids),
        }
        for fault, group in faults.groupby("fault", sort=False)
    ]
    return pd.DataFrame(rows, columns=["fault", "images", "count", "action", "ids"])


def refuse_faults(faults: pd.DataFrame, location: str, n_images: int) -> None:
    """Raise DataFaultError with the table of faults where one of them is grave."""
    grave = faults[faults["fault"].isin(GRAVE)]
    if grave.empty:
        return
    table = summarise_faults(faults).to_string(index=False)
    raise DataFaultError(
        f"{grave['id'].nunique()} of {n_images} images in {location!r} have faults:\n{table}\n"
        "Mend the files (every row is in `.faults` of this error), or read without these images "
        'by faults="skip".',
        faults,
    )


def _name_action(fault: str, action: str) -> str:
    if fault in GRAVE:
        return action
    return "not read" if fault == "file not in the layout" else "kept"


def _shorten(ids: list[str], n: int) -> str:
    return ", ".join(name[:12] for name in ids[:n]) + (", ..." if len(ids) > n else "")


class Reading(NamedTuple):
    """What the files of one image hold; without arrays where a fault is grave."""

    record: dict
    image: np.ndarray | None  # (H, W) or (H, W, 3), uint8 or uint16
    labels: np.ndarray | None  # (H, W), the smallest unsigned type; None without masks
    digest: str  # of the image's pixels
    faults: list[Fault]


def read_entry(source: Source, entry: Entry) -> Reading:
    """Return the image and the label image of one entry, and what is wrong with them."""
    if len(entry.images) != 1:
        fault = "several image files" if entry.images else "no image file"
        detail = ", ".join(name.rsplit("/", 1)[-1] for name in entry.images)
        return _fail(entry, fault, len(entry.images), detail)
    if not entry.masks and (entry.part == "train" or entry.label_images):
        return _fail(entry, "no masks", 1, "")
    if entry.label_images and len(entry.masks) > 1:
        return _fail(entry, "several label images", len(entry.masks), _join(list(entry.masks)))
    try:
        pixels = read_any_image(source.read(entry.images[0]), min_side_px=1)
        if pixels.pixels.dtype.kind == "f":
            raise ValueError("pixels are float32; convert them to 8 or 16 bit")
    except Exception as reason:  # decoders raise many types for a damaged file
        return _fail(entry, "unreadable image", 1, f"{entry.images[0]}: {reason}")
    labels, faults = None, []
    if entry.masks:
        read = read_numbered if entry.label_images else read_labels
        labels, faults = read(source, entry, pixels.pixels.shape[:2])
    if pixels.valid is not None:
        n_outside = int(np.count_nonzero(~pixels.valid))
        faults.append(Fault("transparent pixels", entry.id, n_outside, "pixels"))
    digest = hashlib.sha256(str(pixels.pixels.shape).encode() + pixels.pixels.tobytes()).hexdigest()
    return Reading(_record(entry, pixels, labels), pixels.pixels, labels, digest, faults)


def read_labels(
    source: Source, entry: Entry, shape: tuple[int, int]
) -> tuple[np.ndarray, list[Fault]]:
    """Return the label image of an entry's masks, numbered from 1 in file-name order, and faults.

    A pixel that several masks claim belongs to the last of them. A mask that is empty, or hidden
    by later ones, takes no number.

    Parameters
    ----------
    source : Source
        Where the mask files are.
    entry : Entry
        The image whose masks are read.
    shape : tuple of int
        Height and width of the image, pixels.
    """
    labels = np.zeros(shape, np.int32)
    found: dict[str, list[str]] = {}
    n_masks = overlap_px = 0
    for name in entry.masks:
        try:
            patch = read_mask(source.read(name))
        except Exception as reason:  # decoders raise many types for a damaged file
            found.setdefault("unreadable mask", []).append(f"{name}: {reason}")
            continue
        if patch.shape != shape:
            detail = f"{name}: {patch.shape}, image {shape}"
            found.setdefault("mask of another size", []).append(detail)
            continue
        if _has_several_values(patch):
            found.setdefault("mask of several values", []).append(name)
        if not patch.values.any():
            found.setdefault("empty mask", []).append(name)
            continue
        n_masks += 1
        overlap_px += add_mask(labels, patch, n_masks)
    labels, n_hidden = _close_gaps(labels, n_masks)
    if n_hidden:
        found["hidden mask"] = [""] * n_hidden
    faults = [
        Fault(fault, entry.id, len(details), _join(details)) for fault, details in found.items()
    ]
    if overlap_px:
        faults.append(_judge_overlap(entry, overlap_px, np.count_nonzero(labels)))
    return labels.astype(np.min_scalar_type(n_masks)), faults


def read_numbered(
    source: Source, entry: Entry, shape: tuple[int, int]
) -> tuple[np.ndarray, list[Fault]]:
    """Return an entry's label image, renumbered from 1 without gaps in its own order, and faults.

    A label image of one value is one nucleus. Where that is in several pieces the file is more
    likely a mask of many nuclei, which is noted.

    Parameters
    ----------
    source : Source
        Where the file is.
    entry : Entry
        The image whose label image, the only one of `masks`, is read.
    shape : tuple of int
        Height and width of the image, pixels.
    """
    (name,) = entry.masks
    nothing = np.zeros(shape, np.uint8)
    try:
        stored = read_label_image(source.read(name))
    except Exception as reason:  # decoders raise many types for a damaged file
        return nothing, [Fault("unreadable mask", entry.id, 1, f"{name}: {reason}")]
    if stored.shape != shape:
        detail = f"{name}: {stored.shape}, image {shape}"
        return nothing, [Fault("mask of another size", entry.id, 1, detail)]
    values = np.unique(stored[stored > 0])
    labels = np.searchsorted(values, stored, side="right").astype(np.min_scalar_type(len(values)))
    if not len(values):
        return labels, [Fault("empty mask", entry.id, 1, name)]
    n_pieces = ndimage.label(labels, np.ones((3, 3)))[1] if len(values) == 1 else 1
    if n_pieces == 1:
        return labels, []
    detail = f"{name}: {values[0]}, in {n_pieces} pieces"
    return labels, [Fault("label image of one value", entry.id, 1, detail)]


def add_mask(labels: np.ndarray, patch: Patch, number: int) -> int:
    """Write a number where a mask is foreground and return the pixels that had one already.

    Examples
    --------
    >>> labels = np.array([[1, 0, 0]])
    >>> add_mask(labels, Patch((1, 3), 0, 0, np.array([[255, 255, 0]])), 2)
    1
    >>> labels
    array([[2, 2, 0]])
    """
    height, width = patch.values.shape
    below = labels[patch.top : patch.top + height, patch.left : patch.left + width]
    foreground = patch.values != 0
    taken = int(np.count_nonzero(below[foreground]))
    below[foreground] = number
    return taken


def _close_gaps(labels: np.ndarray, n_masks: int) -> tuple[np.ndarray, int]:
    """Renumber labels of which later masks hide some; return them and how many are hidden."""
    present = np.bincount(labels.ravel(), minlength=n_masks + 1)[1:] > 0
    n_hidden = n_masks - int(present.sum())
    if not n_hidden:
        return labels, 0
    numbers = np.concatenate([[0], np.cumsum(present)])
    return numbers[labels], n_hidden


def _has_several_values(patch: Patch) -> bool:
    """Tell whether the foreground has more than one value."""
    if not patch.values.size:
        return False
    return bool(((patch.values != 0) & (patch.values != patch.values.max())).any())


def _judge_overlap(entry: Entry, overlap_px: int, foreground_px: int) -> Fault:
    share = overlap_px / max(foreground_px, 1)
    fault = "overlapping masks" if share > MAX_OVERLAP else "small overlap"
    return Fault(fault, entry.id, overlap_px, f"pixels, {share:.2%} of the foreground")


def _record(entry: Entry, pixels: ImageFile, labels: np.ndarray | None) -> dict:
    return {
        "id": entry.id,
        "part": entry.part,
        "height": pixels.pixels.shape[0],
        "width": pixels.pixels.shape[1],
        "channels": pixels.n_channels,
        "dtype": pixels.pixels.dtype.name,
        "n_nuclei": 0 if labels is None else int(labels.max()),
        "labelled": labels is not None,
    }


def _fail(entry: Entry, fault: str, count: int, detail: str) -> Reading:
    return Reading({"id": entry.id}, None, None, "", [Fault(fault, entry.id, count, detail)])


def _join(details: list[str]) -> str:
    details = [detail for detail in details if detail]
    more = f" and {len(details) - 3} more" if len(details) > 3 else ""
    return "; ".join(details[:3]) + more
