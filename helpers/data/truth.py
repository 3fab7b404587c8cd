"""The label image of one picture, from a file a nucleus or one for all, and whether it makes sense.

A mask of all nuclei is a valid label image of one giant nucleus: connected pieces tell them apart.
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from helpers.data.layout import Entry
from helpers.data.problems import MAX_OVERLAP, Fault, name_some
from helpers.data.reading import JPEG_SIGNATURE, Patch, read_label_image, read_mask
from helpers.data.source import Source

MASKS = ("numbered", "components", "inverted")
"""A number (or a file) a nucleus; every connected piece of a number; or of what is not marked."""
TINY_PX = 5  # smaller pieces do not count: a nucleus can lose a pixel or two to its neighbour
MAX_PIECES = 1.5  # pieces a number, over the set, above which numbers are not those of nuclei
GROUND_SHARE = 0.5  # of the image: a larger nucleus that touches all borders is the ground


class Truth(NamedTuple):
    """The label image of one picture."""

    labels: np.ndarray  # (H, W), the smallest unsigned type, 0 = background, 1 to n
    faults: list[Fault]
    n_numbers: int = 0  # numbers or files with foreground
    n_pieces: int = 0  # connected pieces of one number, of `TINY_PX` or more


def read_truth(
    source: Source, entry: Entry, shape: tuple[int, int], masks: str = "numbered"
) -> Truth:
    """Return the label image of an entry's mask files or of its one label image.

    Nuclei are numbered from 1 in the order of the mask files' names, or of the numbers in a label
    image. A pixel that several masks claim belongs to the last of them; a mask that is empty, or
    hidden by later ones, takes no number. `masks` is one of `MASKS`.
    """
    truth = (_read_one if entry.label_images else _read_files)(source, entry, shape, masks)
    if masks == "numbered":
        return _judge_ground(entry, truth)
    labels = separate(truth.labels, invert=masks == "inverted")
    return Truth(labels.astype(np.min_scalar_type(int(labels.max(initial=0)))), truth.faults)


def separate(numbers: NDArray[np.integer], *, invert: bool = False) -> NDArray[np.integer]:
    """Return a label image with a number for every connected piece of one number.

    Of values that fade at the edges, those above half of the highest count. With `invert` the
    number of most pixels is the background instead, and 0 is one like others.

    Examples
    --------
    >>> separate(np.array([[7, 0, 7, 3], [0, 0, 0, 3]]))
    array([[1, 0, 2, 3],
           [0, 0, 0, 3]])
    """
    if _fades(numbers):
        numbers = (numbers > numbers.max() / 2).astype(np.uint8)
    if invert:
        _, places, areas = np.unique(numbers, return_inverse=True, return_counts=True)
        places = places.reshape(numbers.shape)
        numbers = np.where(places == areas.argmax(), 0, places + 1)
    return label(numbers, connectivity=2)


def judge_pieces(counts: dict[str, tuple[int, int]]) -> list[Fault]:
    """Return the faults of images whose numbers are in several pieces.

    `counts` holds numbers and pieces of every image that has any, by id. One nucleus in two pieces
    is nothing unusual, so the set decides; an image alone only where it is beyond doubt.
    """
    n_numbers, n_pieces = (sum(counted) for counted in zip(*counts.values(), strict=True))
    is_wrong = n_pieces >= MAX_PIECES * n_numbers
    return [
        Fault("number in several pieces", name, pieces, f"{name}: {pieces} pieces, {n} numbers")
        for name, (n, pieces) in counts.items()
        if (pieces > n and is_wrong) or pieces >= max(2 * n, n + 3)
    ]


def _read_one(source: Source, entry: Entry, shape: tuple[int, int], masks: str) -> Truth:
    """Return the truth of an entry with one label image."""
    (name,) = entry.masks
    nothing = np.zeros(shape, np.uint8)
    try:
        raw = source.read(name)
        if masks == "numbered" and raw.startswith(JPEG_SIGNATURE):
            raise ValueError(
                "a JPEG, which changes numbers; save it as PNG or TIFF, or let `--masks "
                "components` count the pieces"
            )
        stored = read_label_image(raw, allow_colours=masks != "numbered")
    except Exception as reason:  # decoders raise many types for a damaged file
        return Truth(nothing, [Fault("unreadable mask", entry.id, 1, f"{name}: {reason}")])
    if stored.shape != shape:
        detail = f"{name}: {stored.shape}, image {shape}"
        return Truth(nothing, [Fault("mask of another size", entry.id, 1, detail)])
    if masks != "numbered":
        return Truth(stored, [])
    values = np.unique(stored[stored > 0])
    labels = np.searchsorted(values, stored, side="right").astype(np.min_scalar_type(len(values)))
    if not len(values):
        return Truth(labels, [Fault("empty mask", entry.id, 1, name)])
    areas = _measure_pieces(labels)
    faults = []
    if _fades(labels, areas):
        detail = f"{name}: {len(values)} values in {len(areas)} pieces"
        return Truth(labels, [Fault("faded edges", entry.id, len(areas), detail)])
    if len(values) == 1 and len(areas) > 1:
        detail = f"{name}: {values[0]}, in {len(areas)} pieces"
        faults = [Fault("label image of one value", entry.id, 1, detail)]
    return Truth(labels, faults, len(values), int(np.count_nonzero(areas >= TINY_PX)))


def _read_files(source: Source, entry: Entry, shape: tuple[int, int], masks: str) -> Truth:
    """Return the truth of an entry with a file a nucleus."""
    labels = np.zeros(shape, np.int32)
    found: dict[str, list[str]] = defaultdict(list)
    n_masks = overlap_px = n_pieces = 0
    for name in entry.masks:
        try:
            patch = read_mask(source.read(name))
        except Exception as reason:  # decoders raise many types for a damaged file
            found["unreadable mask"].append(f"{name}: {reason}")
            continue
        if patch.shape != shape:
            found["mask of another size"].append(f"{name}: {patch.shape}, image {shape}")
            continue
        if not patch.values.size:
            found["empty mask"].append(name)
            continue
        if ((patch.values != 0) & (patch.values != patch.values.max())).any():
            found["mask of several values"].append(name)
        n_masks += 1
        n_pieces += int(np.count_nonzero(_measure_pieces(patch.values != 0) >= TINY_PX))
        overlap_px += _add_mask(labels, patch, n_masks)
    present = np.bincount(labels.ravel(), minlength=n_masks + 1)[1:] > 0
    if not present.all():
        found["hidden mask"] = [""] * int(np.count_nonzero(~present))
        labels = np.concatenate([[0], np.cumsum(present)])[labels]
    faults = [
        Fault(name, entry.id, len(texts), name_some(filter(None, texts), 3, "; "))
        for name, texts in found.items()
    ]
    if overlap_px:
        share = overlap_px / max(np.count_nonzero(labels), 1)
        fault = "overlapping masks" if share > MAX_OVERLAP else "small overlap"
        detail = f"pixels, {share:.2%} of the foreground"
        faults.append(Fault(fault, entry.id, overlap_px, detail))
    return Truth(labels.astype(np.min_scalar_type(n_masks)), faults, n_masks, n_pieces)


def _add_mask(labels: np.ndarray, patch: Patch, number: int) -> int:
    """Write a number where a mask is foreground and return the pixels that had one already."""
    below, foreground = labels[patch.box], patch.values != 0
    taken = int(np.count_nonzero(below[foreground]))
    below[foreground] = number
    return taken


def _judge_ground(entry: Entry, truth: Truth) -> Truth:
    """Add a fault where one number covers most of the image and all four borders."""
    labels = truth.labels
    areas = np.bincount(labels.ravel())[1:]
    if not areas.size or areas.max() <= GROUND_SHARE * labels.size:
        return truth
    ground = labels == 1 + int(areas.argmax())
    sides = (ground[0], ground[-1], ground[:, 0], ground[:, -1])
    if not all(side.any() for side in sides):
        return truth
    detail = f"{entry.id}: one nucleus covers {areas.max() / labels.size:.0%} of the image"
    fault = Fault("ground as nucleus", entry.id, int(areas.max()), detail)
    return truth._replace(faults=[*truth.faults, fault], n_numbers=0, n_pieces=0)


def _measure_pieces(numbers: NDArray) -> NDArray[np.integer]:
    """Return the areas of the connected pieces of one number, in pixels."""
    return np.bincount(label(numbers, connectivity=2).ravel())[1:]


def _fades(numbers: NDArray[np.integer], areas: NDArray[np.integer] | None = None) -> bool:
    """Return whether most pieces are specks of many values, as at smoothed edges."""
    areas = _measure_pieces(numbers) if areas is None else areas
    n_tiny = np.count_nonzero(areas < TINY_PX)
    return bool(n_tiny >= 10 and n_tiny > len(areas) / 2 and len(np.unique(numbers)) > 4)
