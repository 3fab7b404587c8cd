"""The embedded sample: synthetic images in the five modalities of the Data Science Bowl 2018 set.

Nothing here is a measurement: the images teach and test the series where the real set is absent.
"""

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import tifffile
from PIL import Image
from skimage.io import imsave

from helpers.data.drawing import draw_image

NOTICE = "SYNTHETIC.txt"
ENLARGED = 5  # times: the nuclei of that example are larger than a network knows


class Field(NamedTuple):
    """One drawn field of view, cut into `grid` rows and columns of images of `tile_px`."""

    modality: str
    tile_px: tuple[int, int]
    grid: tuple[int, int] = (1, 1)
    stored: str = "rgba"


# Unequal counts, as in the real set; at least four fields a modality, so that a split by field
# can put every modality on both sides.
FIELDS = (
    Field("small_fluorescent", (128, 128), (2, 2)),
    Field("small_fluorescent", (128, 128), (2, 2), "gray"),
    Field("small_fluorescent", (128, 160), (2, 2)),
    Field("small_fluorescent", (160, 160), stored="gray"),
    Field("small_fluorescent", (128, 128)),
    Field("small_fluorescent", (128, 160), stored="gray"),
    Field("small_fluorescent", (160, 128)),
    Field("large_fluorescent", (160, 160), (2, 2)),
    Field("large_fluorescent", (160, 160), stored="gray"),
    Field("large_fluorescent", (160, 160)),
    Field("large_fluorescent", (200, 160), stored="gray"),
    Field("large_fluorescent", (160, 160)),
    Field("purple_tissue", (128, 160), (2, 2)),
    Field("purple_tissue", (128, 160), stored="rgb"),
    Field("purple_tissue", (128, 160)),
    Field("purple_tissue", (160, 160), stored="rgb"),
    Field("purple_tissue", (128, 160)),
    *[Field("pink_purple_tissue", (128, 160))] * 4,
    *[Field("grayscale_tissue", (200, 160))] * 3,
    Field("grayscale_tissue", (200, 160), stored="gray"),
)


def sample_truth():
    """Return what the sample holds, for checking what is found from its pixels.

    One row an image: `id`, `modality`, `field` (images cut from one field of view share its
    number), `row` and `column` in that field, `height`, `width` (pixels), `channels` (as stored).
    """
    n_channels = {"gray": 1, "rgb": 3, "rgba": 4}
    rows = [
        (field.modality, number, row, column, *field.tile_px, n_channels[field.stored])
        for number, field in enumerate(FIELDS)
        for row, column in np.ndindex(field.grid)
    ]
    columns = ["modality", "field", "row", "column", "height", "width", "channels"]
    table = pd.DataFrame(rows, columns=columns)
    order = table.groupby("modality").cumcount().map("{:02d}".format)
    table.insert(0, "id", "sample_" + table["modality"] + "_" + order)
    return table


def write_sample(folder: str | Path, seed: int = 0) -> Path:
    """Write the sample in the layout of BBBC038 and return its folder.

    The folder appears complete or not at all; a sample that is already there is replaced, but
    other files raise FileExistsError. The same seed, from 0, writes the same pixels.
    """
    folder = Path(folder)
    is_ours = folder.is_dir() and ((folder / NOTICE).exists() or not any(folder.iterdir()))
    if folder.exists() and not is_ours:
        raise FileExistsError(
            f"`folder` (={folder}) exists and is not an earlier sample (no {NOTICE} in it); "
            "name a new folder, or remove this one."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".sample-") as temporary:
        fresh = Path(temporary) / "fresh"
        fresh.mkdir()
        _write_images(fresh, seed)
        (fresh / NOTICE).write_text(
            "These images are synthetic: drawn by helpers/data/drawing.py, not taken by a "
            f"microscope.\nSeed {seed}. Use them to try the series, never as evidence about real "
            "nuclei.\n",
            encoding="utf-8",
        )
        if folder.exists():
            folder.rename(Path(temporary) / "old")
        with suppress(OSError):  # another process may have finished the same sample meanwhile
            fresh.rename(folder)
    if not (folder / NOTICE).exists():
        raise OSError(f"the sample could not be moved to {folder}")
    return folder


def write_examples(folder: str | Path, seed: int = 1) -> Path:
    """Return the folder, after writing six synthetic images as plain files.

    One of each modality of the embedded sample, drawn anew, so that no network was trained on them:
    PNG, PNG with alpha, JPEG, TIFF of 16 bit and of floats; and one of small nuclei, enlarged.
    The same seed writes the same bytes.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.Generator(np.random.PCG64(seed))
    names = ["small_fluorescent", "large_fluorescent"]
    names += ["grayscale_tissue", "purple_tissue", "pink_purple_tissue"]
    small, large, gray, purple, pink = (draw_image(name, rng)[0] for name in names)
    Image.fromarray(small).save(folder / "small nuclei.png")
    tifffile.imwrite(folder / "large_nuclei_16bit.tif", large.astype(np.uint16) * 257)
    tifffile.imwrite(folder / "grayscale_tissue_float.tif", gray.astype(np.float32) / 255)
    Image.fromarray(purple).save(folder / "purple_tissue.jpg", quality=95)
    Image.fromarray(pink).convert("RGBA").save(folder / "pink_purple_tissue.png")
    height, width = small.shape[:2]
    enlarged = Image.fromarray(small).resize((width * ENLARGED, height * ENLARGED), Image.BICUBIC)
    enlarged.save(folder / "enlarged.png")
    return folder


def _write_images(folder, seed):
    truth = sample_truth()
    for number, field in enumerate(FIELDS):
        rng = np.random.Generator(np.random.PCG64([seed, number]))
        (height, width), (rows, columns) = field.tile_px, field.grid
        image, labels = draw_image(field.modality, rng, shape_px=(height * rows, width * columns))
        for tile in truth[truth["field"] == number].itertuples():
            cut = np.s_[
                tile.row * height : (tile.row + 1) * height,
                tile.column * width : (tile.column + 1) * width,
            ]
            _write_one(folder / tile.id, _store(image[cut], field.stored), labels[cut])


def _write_one(folder, image, labels):
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    imsave(folder / "images" / f"{folder.name}.png", image, check_contrast=False)
    for number, nucleus in enumerate(np.unique(labels[labels > 0])):
        mask = (labels == nucleus).astype(np.uint8) * 255
        imsave(folder / "masks" / f"{folder.name}_{number:02d}.png", mask, check_contrast=False)


def _store(image, stored):
    if stored == "gray":
        return image
    image = np.dstack([image] * 3) if image.ndim == 2 else image
    opaque = np.full(image.shape[:2], 255, np.uint8)
    return np.dstack([image, opaque]) if stored == "rgba" else image
