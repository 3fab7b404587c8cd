"""Predicted masks as PNG files, in the image's own size: a whole folder of them or none."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MaskWriter = Callable[[str, NDArray[np.bool_]], Any]


@contextmanager
def mask_folder(folder: Path) -> Iterator[MaskWriter]:
    """Give a function that writes masks as PNG; all of them replace `folder` at the end.

    A mask of id "a" becomes `a.png`, 8 bit, 0 = background, 255 = nucleus, in the image's own
    size. After an error the folder is as it was.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as top:
    ...     with mask_folder(Path(top) / "masks") as write_mask:
    ...         _ = write_mask("a", np.array([[True, False]]))
    ...     read_mask(Path(top) / "masks" / "a.png")
    array([[ True, False]])
    """
    part = folder.with_name(f".part-{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)

    def write_mask(name: str, mask: NDArray[np.bool_]) -> None:
        Image.fromarray(mask.astype(np.uint8) * 255).save(part / f"{name}.png", optimize=True)

    try:
        yield write_mask
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_mask(file: Path) -> NDArray[np.bool_]:
    """Return a mask that `mask_folder` has written, (H, W) bool."""
    with Image.open(file) as image:
        return np.asarray(image) > 0
