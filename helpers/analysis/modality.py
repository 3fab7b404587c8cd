"""Find the modality of an image from its pixels alone.

The Data Science Bowl 2018 set mixes five modalities [1]_. Three questions tell them apart: is
the ground dark or bright, is the image coloured and by which stain, and how large are the nuclei.
Every answer is a number with a limit, so each decision can be explained and looked at.

References
----------
.. [1] J. C. Caicedo et al. (2019). Nucleus segmentation across imaging experiments: the 2018 Data
   Science Bowl. Nature Methods 16, 1247-1253. doi:10.1038/s41592-019-0612-7
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.filters import threshold_otsu

from helpers.data.reading import check_image

MODALITIES = (
    "small_fluorescent",
    "large_fluorescent",
    "purple_tissue",
    "pink_purple_tissue",
    "grayscale_tissue",
)


def display_name(modality: str) -> str:
    """Return a modality as a reader says it, "pink-and-purple tissue"."""
    return modality.replace("pink_purple", "pink-and-purple").replace("_", " ")


BRIGHT_GROUND = 1 / 3
"""Median brightness above which the ground is bright: in transmitted light it is close to the lamp,
in fluorescence close to no light."""
ONE_HUE = 1.25
"""Colour over ground up to which a coloured image is tissue, however dark: light of every colour
comes through. In fluorescence a channel is empty, and this ratio is 1.5 or more."""
COLOURED = 0.02
"""Mean difference between the strongest and the weakest channel above which an image is coloured:
more than the compression of a gray image leaves between channels."""
REDDISH = 0.01
"""Mean of red less green above which what colours an image may be a dye of tissue."""
EOSIN = 0.0
"""Mean red minus mean blue above which an image is pink: haematoxylin, the stain of nuclei, absorbs
red more than blue; eosin, that of the tissue between, absorbs green and blue."""
LARGE_RADIUS_PX = 14.0
"""Radius from which nuclei may be large: the geometric middle of 10 and 20 px, usual radii at one
magnification and at twice that."""
LARGE_RADIUS_SHARE = 0.05
"""Radius, as a share of the field's side, from which nuclei are large: ten in a row fill it. Fields
of more pixels often come from finer cameras. This limit rests on what the set holds."""
_GROUND_PX = 81  # wider than a nucleus, narrower than uneven light
_HALVED_FROM_PX = 500  # shorter side from which every second pixel is enough, at a quarter the time


class Measures(NamedTuple):
    """What is measured in an image; intensities are shares of full scale, 0 to 1."""

    ground: float
    colour: float
    redness: float
    nucleus_radius_px: float
    nucleus_radius_share: float


def find_modalities(images: Iterable[np.ndarray]) -> pd.DataFrame:
    """Return one row an image: its modality, and the `Measures` that decided it.

    `images` are (H, W) or (H, W, 3) arrays of uint8 or uint16.
    """
    measures = [measure_image(image) for image in images]
    table = pd.DataFrame(measures, columns=Measures._fields)
    return table.assign(modality=[classify(measured) for measured in measures])


def classify(measures: Measures) -> str:
    """Return the modality of an image by its measures: a rule of thumb, not a diagnosis."""
    if _has_dark_ground(measures.ground, measures.colour):
        large = (
            measures.nucleus_radius_px >= LARGE_RADIUS_PX
            and measures.nucleus_radius_share >= LARGE_RADIUS_SHARE
        )
        return "large_fluorescent" if large else "small_fluorescent"
    if measures.colour <= COLOURED:
        return "grayscale_tissue"
    return "pink_purple_tissue" if measures.redness > EOSIN else "purple_tissue"


def measure_image(image: np.ndarray) -> Measures:
    """Measure ground, colour and nucleus size of one image.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array of uint8 or uint16
        The full scale is 255 for 8 bit. For 16 bit it is the smallest power of two above the
        brightest pixel, because cameras of 10, 12 or 14 bit store their values in 16. Another
        shape or dtype raises ValueError.

    Returns
    -------
    Measures
        `ground`: median brightness. `colour`: mean difference of the strongest and the weakest
        channel; 0 for a gray image. `redness`: mean red minus mean blue, -1 to 1.
        `nucleus_radius_px`: typical radius of the nuclei, weighted by area; 0 if nothing stands
        out. `nucleus_radius_share`: the same over the square root of the field's area.
    """
    if check_image(image).dtype.kind == "f":
        raise ValueError(
            f"an image must be uint8 or uint16, received {image.dtype}; pass it as it was read"
        )
    scaled = np.asarray(image, dtype=np.float32) / full_scale(image)
    scaled = scaled[..., 0] if scaled.shape[2:] == (1,) else scaled
    gray, colour, redness = scaled, 0.0, 0.0
    if scaled.ndim == 3:
        gray = scaled.mean(axis=2)
        colour = float(np.ptp(scaled, axis=2).mean())
        redness = float((scaled[..., 0] - scaled[..., 2]).mean())
    ground = float(np.median(gray))
    radius = _measure_radius(gray if _has_dark_ground(ground, colour) else 1 - gray)
    return Measures(ground, colour, redness, radius, radius / float(np.sqrt(gray.size)))


def _has_dark_ground(ground: float, colour: float) -> bool:
    return ground <= BRIGHT_GROUND and not _is_stained(ground, colour)


def _is_stained(ground: float, colour: float) -> bool:
    return COLOURED < colour <= ONE_HUE * ground


def is_stained(image: np.ndarray) -> bool:
    """Return whether an image, (H, W) or (H, W, C) of any type, is of stained tissue.

    Light of every colour comes through it, and of the usual dyes more red than green (haematoxylin,
    eosin, diaminobenzidine: Ruifrok & Johnston 2001, Anal. Quant. Cytol. Histol. 23, 291-299).
    """
    full = full_scale(image) if image.dtype.kind == "u" else 1.0
    if image.ndim == 2 or image[..., 0].mean() - image[..., 1].mean() <= REDDISH * full:
        return False
    ground = float(np.median(image.mean(axis=2, dtype=np.float32)))
    colour = float(np.ptp(image, axis=2).mean(dtype=np.float64))
    return _is_stained(ground / full, colour / full)


def _measure_radius(signal: np.ndarray) -> float:
    """Return the typical radius in pixels of what is brighter than its surroundings.

    Otsu's threshold parts nuclei from the ground, once that is taken away by an opening; in a disc
    of radius r the mean distance to the edge is r / 3. Clumps without gaps are measured too large.
    """
    step = 2 if min(signal.shape) >= _HALVED_FROM_PX else 1
    smooth = ndimage.gaussian_filter(signal, 1.0)[::step, ::step]
    opened = ndimage.minimum_filter(smooth, _GROUND_PX // step)
    opened = ndimage.maximum_filter(opened, _GROUND_PX // step)
    raised = np.maximum(smooth - ndimage.uniform_filter(opened, _GROUND_PX // step), 0)
    if np.ptp(raised) < 1e-6:
        return 0.0
    nuclei = ndimage.binary_opening(raised > threshold_otsu(raised))
    if not nuclei.any():
        return 0.0
    # A nucleus that the border cuts goes on outside: the border is no edge of it.
    padded = np.pad(nuclei, 1, mode="edge")
    distance = ndimage.distance_transform_edt(padded)[1:-1, 1:-1]
    return 3 * step * float(distance[nuclei].mean())


def full_scale(image: np.ndarray) -> float:
    """Return the brightest level that an image can hold, as `measure_image` says."""
    if image.dtype == np.uint8:
        return 255.0
    return float(2 ** max(int(image.max()).bit_length(), 8) - 1)


def measure_contrast(images: Sequence[np.ndarray], labels: Sequence) -> pd.DataFrame:
    """Return one row an image: how bright nuclei and surroundings are, and how they differ.

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, 3) arrays of uint8 or uint16
    labels : sequence of (H, W) integer arrays, or None
        0 is background.

    Returns
    -------
    DataFrame
        `foreground`: share of the pixels that are nucleus. `nuclei`, `surroundings`: mean
        brightness as a share of full scale. `contrast`: their difference over their sum, -1 to 1
        (Michelson 1927, Studies in Optics); negative where nuclei are darker. NaN without masks;
        the last three also where there is no nucleus or nothing else.
    """
    rows = [_measure_one(image, mask) for image, mask in zip(images, labels, strict=True)]
    columns = ["foreground", "nuclei", "surroundings"]
    table = pd.DataFrame(rows, columns=columns, dtype=float)
    difference = table["nuclei"] - table["surroundings"]
    return table.assign(contrast=difference / (table["nuclei"] + table["surroundings"]))


def _measure_one(image: np.ndarray, labels: np.ndarray | None) -> tuple[float, float, float]:
    if labels is None:
        return np.nan, np.nan, np.nan
    gray = (image if image.ndim == 2 else image.mean(axis=2)) / np.iinfo(image.dtype).max
    mask = labels > 0
    if not mask.any() or mask.all():
        return float(mask.mean()), np.nan, np.nan
    return float(mask.mean()), float(gray[mask].mean()), float(gray[~mask].mean())


def guess_nuclei(image: np.ndarray) -> np.ndarray:
    """Return where an image may hold nuclei, (H, W) bool: the rarer side of Otsu's threshold [1]_.

    It is wrong where nuclei cover more than half of the image, and where other things are as
    bright or as dark as they are. All False where the image is constant.

    References
    ----------
    .. [1] N. Otsu (1979). A threshold selection method from gray-level histograms. IEEE Trans.
       Systems, Man, and Cybernetics 9, 62-66. doi:10.1109/TSMC.1979.4310076

    Examples
    --------
    >>> guess_nuclei(np.array([[200, 200, 90]], np.uint8))
    array([[False, False,  True]])
    """
    gray = image if image.ndim == 2 else image.mean(axis=2).astype(image.dtype)
    bright = gray > threshold_otsu(gray)
    return bright if bright.mean() <= 0.5 else ~bright
