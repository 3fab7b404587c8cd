"""What is written for each image, whole or not at all, with a note of what made it.

Beside the results a folder `.parts` holds a note (JSON: image, network, parameters) and the nuclei
(CSV) of every image: by it an interrupted run knows what is done, and nothing is replaced that was
made otherwise.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation
from skimage.segmentation import find_boundaries

from helpers.data.problems import name_some
from helpers.figures.common import PREDICTION, stretch
from helpers.run_folder import RunFolder, write_json, write_whole
from helpers.segment.measure import COLUMNS, median_diameter

LABELS, MASK, OVERLAY = "_labels.tif", "_mask.png", "_overlay.png"
OUTPUTS = (MASK, OVERLAY, LABELS)
"""Endings of what is made of an image, in the order of writing: the labels say that it is done."""
PARTS = ".parts"
NUCLEI, SUMMARY = "nuclei.csv", "summary.csv"


class OutputFolder:
    """The results of a folder of images; `made_with` is what they depend on beside the images."""

    def __init__(self, path: str | Path, made_with: Mapping[str, Any]):
        self.path = Path(path).expanduser()
        self.parts = self.path / PARTS
        self.made_with = json.loads(json.dumps(made_with))  # as it will be read back

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, and keep other processes from writing into it meanwhile."""
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{str(self.path)!r} is a file; give a folder for the results")
        try:
            with RunFolder(self.parts.resolve()).lock("predicting", str(self.path)):
                yield
        finally:
            for folder in (self.parts, self.path):  # where nothing was written, nothing stays
                with suppress(OSError):
                    folder.rmdir()

    def refuse_obstacles(self, images: Iterable[Path]) -> None:
        """Raise FileExistsError if a result would replace a file that was made otherwise."""
        found = [why for image in images if (why := self._find_obstacle(image))]
        if not any(self.parts.glob("*.json")):
            tables = [name for name in (NUCLEI, SUMMARY) if (self.path / name).exists()]
            found += [f"{name} was not made by this program" for name in tables]
        if found:
            raise FileExistsError(
                f"{str(self.path)!r} holds what would be overwritten: "
                f"{name_some(found, 3, '; ')}. Give another folder, or ask to overwrite"
            )

    def is_done(self, image: Path) -> bool:
        """Tell whether all results of an image are there, made of it as it is and in this way."""
        files = [self.parts / f"{image.stem}.csv", *(self.path / (image.stem + e) for e in OUTPUTS)]
        return all(file.exists() for file in files) and self._find_obstacle(image) is None

    def write(
        self,
        image: Path,
        pixels: NDArray,
        labels: NDArray[np.integer],
        nuclei: pd.DataFrame,
        summary: Mapping[str, Any],
    ) -> None:
        """Write the results of one image; the labels, last, say that it is done."""
        stem = image.stem
        (self.path / (stem + LABELS)).unlink(missing_ok=True)
        note = {"image": _describe(image), "made_with": self.made_with, "summary": dict(summary)}
        _write_table(self.parts / f"{stem}.csv", nuclei)
        write_json(note, self.parts / f"{stem}.json")
        mask, overlay = (labels > 0).astype(np.uint8) * 255, draw_overlay(pixels, labels)
        write_whole(self.path / (stem + MASK), Image.fromarray(mask).save)
        write_whole(self.path / (stem + OVERLAY), Image.fromarray(overlay).save)
        write_whole(self.path / (stem + LABELS), lambda part: write_labels(part, labels))

    def discard(self, image: Path) -> None:
        """Remove the results of an image that this program made; it fails now."""
        if self._read_note(image.stem) is None:
            return
        for end in OUTPUTS:
            (self.path / (image.stem + end)).unlink(missing_ok=True)
        for end in (".csv", ".json"):
            (self.parts / (image.stem + end)).unlink(missing_ok=True)

    def read_notes(self, images: Path) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the notes of all images that are done and exist, and sentences on odd ones.

        `images` is the folder of this call's images, for notes that name none.
        """
        stems = [table.stem for table in sorted(self.parts.glob("*.csv"))]
        stems = [stem for stem in stems if (self.path / (stem + LABELS)).exists()]
        notes = [note for stem in stems if (note := self._read_note(stem))]
        where = [Path(n["image"].get("folder", images), n["image"]["name"]) for n in notes]
        there = [note for note, file in zip(notes, where, strict=True) if file.exists()]
        gone = [note["image"]["name"] for note in notes if note not in there]
        messages = []
        if gone:
            names = name_some(gone)
            messages.append(f"not in the tables, as the image is gone, {len(gone)}: {names}")
        changes = [change for note in there if (change := self._list_changes(note))]
        if changes:
            names = " and ".join(sorted({name for change in changes for name in change}))
            messages.append(f"in the tables, of earlier calls with another {names}, {len(changes)}")
        return there, messages

    def read_nuclei(self, stem: str) -> pd.DataFrame:
        """Return the nuclei of an image, as `write` was given them."""
        file = self.parts / f"{stem}.csv"
        table = pd.read_csv(file, dtype={"image": str}, keep_default_na=False)
        table = table.assign(score=pd.to_numeric(table.get("score", np.nan)))
        return table[list(COLUMNS)].astype(COLUMNS)

    def write_tables(self, nuclei: pd.DataFrame, summary: pd.DataFrame) -> None:
        """Write `nuclei.csv` and `summary.csv`, each whole or not at all."""
        _write_table(self.path / NUCLEI, nuclei)
        _write_table(self.path / SUMMARY, summary)

    def _read_note(self, stem: str) -> dict[str, Any] | None:
        try:
            note = json.loads((self.parts / f"{stem}.json").read_text(encoding="utf-8"))
            return note if {"image", "made_with", "summary"} <= set(note) else None
        except (OSError, ValueError):
            return None

    def _list_changes(self, note: dict[str, Any]) -> list[str]:
        """Return the names of what a result was made with that is another now."""
        return [k for k, v in self.made_with.items() if note["made_with"].get(k) != v]

    def _find_obstacle(self, image: Path) -> str | None:
        existing = [image.stem + e for e in OUTPUTS if (self.path / (image.stem + e)).exists()]
        if not existing:
            return None
        note = self._read_note(image.stem)
        if note is None:
            return f"{existing[0]} was not made by this program"
        if names := self._list_changes(note):
            return f"{existing[0]} was made with another {' and '.join(names)}"
        if not _is_same(image, note["image"]):
            return f"{existing[0]} was made of another image than {image.name} is now"
        return None


def _write_table(file: Path, table: pd.DataFrame) -> None:
    write_whole(file, lambda part: table.to_csv(part, index=False, float_format="%.8g"))


def write_labels(file: Path, labels: NDArray[np.integer]) -> None:
    """Write a label image as a compressed TIFF, 16 bit, or 32 bit above 65,535 nuclei."""
    dtype = np.promote_types(np.uint16, np.min_scalar_type(int(labels.max(initial=0))))
    options = {"photometric": "minisblack", "compression": "zlib", "metadata": None}
    tifffile.imwrite(file, labels.astype(dtype), **options)


def _describe(image: Path) -> dict[str, Any]:
    about = {"name": image.name, "folder": str(image.resolve().parent), "sha256": _digest(image)}
    return about | {"size": image.stat().st_size, "modified_ns": image.stat().st_mtime_ns}


def _is_same(image: Path, described: dict[str, Any]) -> bool:
    """Tell whether a file holds the bytes described; they are read only if its date differs."""
    status = image.stat()
    if status.st_size != described["size"]:
        return False
    return status.st_mtime_ns == described["modified_ns"] or _digest(image) == described["sha256"]


def _digest(image: Path) -> str:
    with image.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


PX_A_LINE = 450
"""An outline is one pixel wide for each so many pixels of the overlay's longer side."""


def draw_overlay(
    image: NDArray, labels: NDArray[np.integer], max_side_px: int = 2000
) -> NDArray[np.uint8]:
    """Return the image, its contrast stretched, with every nucleus outlined in orange.

    Outlines are wider in a large image, so that they are seen where the overlay is shown small;
    never wider than an eighth of the nuclei. Of an image larger than `max_side_px` every second,
    third, ... row and column is shown, as (h, w, 3) uint8.
    """
    step = -(-max(image.shape[:2]) // max_side_px)
    image, labels = image[::step, ::step], labels[::step, ::step]
    shown = np.atleast_3d(np.floor(stretch(image) * 255 + 0.5).astype(np.uint8))
    colour = np.floor(np.array(to_rgb(PREDICTION)) * 255 + 0.5).astype(np.uint8)
    return np.where(_outline(labels)[..., np.newaxis], colour, shown)


def _outline(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the outermost pixels of every nucleus, more of them in a large image."""
    outline = find_boundaries(labels, mode="inner")
    areas = np.bincount(labels.ravel())[1:]
    if not areas.any():
        return outline
    width = int(min(max(labels.shape) / PX_A_LINE, median_diameter(areas[areas > 0]) / 8))
    if width < 2:
        return outline
    return binary_dilation(outline, iterations=width - 1, mask=labels > 0)
