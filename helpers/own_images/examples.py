"""A handful of drawn images in the formats that people have, to try the program on."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from helpers.data.sample import draw_image

ENLARGED = 5
"""How many times one example is enlarged: its nuclei are then larger than a network knows."""


def write_examples(folder: str | Path, seed: int = 1) -> Path:
    """Return the folder, after writing six synthetic images as plain files.

    One of each kind of the embedded sample, drawn anew, so that no network was trained on them:
    PNG, PNG with alpha, JPEG, TIFF of 16 bit and of floats; and one of small nuclei, enlarged.
    The same seed writes the same bytes.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.Generator(np.random.PCG64(seed))
    small, large, gray = (
        draw_image(kind, rng)[0]
        for kind in ("small_fluorescent", "large_fluorescent", "grayscale_tissue")
    )
    purple, pink = (draw_image(kind, rng)[0] for kind in ("purple_tissue", "pink_purple_tissue"))
    Image.fromarray(small).save(folder / "small nuclei.png")
    tifffile.imwrite(folder / "large_nuclei_16bit.tif", large.astype(np.uint16) * 257)
    tifffile.imwrite(folder / "grayscale_tissue_float.tif", gray.astype(np.float32) / 255)
    Image.fromarray(purple).save(folder / "purple_tissue.jpg", quality=95)
    Image.fromarray(pink).convert("RGBA").save(folder / "pink_purple_tissue.png")
    height, width = small.shape[:2]
    enlarged = Image.fromarray(small).resize((width * ENLARGED, height * ENLARGED), Image.BICUBIC)
    enlarged.save(folder / "enlarged.png")
    return folder
