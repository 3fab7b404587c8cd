"""Find the modality of an image from its pixels alone.

The Data Science Bowl 2018 set mixes five modalities [1]_. Three questions tell them apart: is
the ground dark or bright, is the image coloured and by which stain, and how large are the nuclei.
Every answer is a number with a limit, so each decision can be explained and looked at. The limits
follow from optics and stains where they can, and say so where they rest on what the set holds.
No masks are needed.

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

MODALITIES = (
    "small_fluorescent",
    "large_fluorescent",
    "purple_tissue",
    "pink_purple_tissue",
    "grayscale_tissue",
)


def display_name(modality: str) -> str:
    """Return a modality as a reader says it.

    Examples
    --------
    >>> display_name("small_fluorescent"), display_name("pink_purple_tissue")
    ('small fluorescent', 'pink-and-purple tissue')
    """
    return modality.replace("pink_purple", "pink-and-purple").replace("_", " ")


BRIGHT_GROUND = 1 / 3
"""Median brightness above which the ground is bright.

Nuclei cover less than half of nearly every image, so the median is ground. In transmitted light
the ground is close to the lamp, in fluorescence close to no light; a third is far from both.
"""

COLOURED = 0.02
"""Mean difference between an image's strongest and weakest channel above which it is coloured.

Five of 255 levels: more than the compression of a gray image leaves between channels.
"""

EOSIN = 0.0
"""Mean red minus mean blue above which the image is pink.

Haematoxylin, the stain of nuclei, is blue-violet: it absorbs red more than blue. Eosin, the
stain of the tissue between, absorbs green and blue and lets red pass. Above zero it outweighs.
"""

LARGE_RADIUS_PX = 14.0
"""Radius from which nuclei may be large: the geometric middle of 10 and 20 px.

An objective of twice the magnification doubles the radius in pixels: 10 px is usual for the small
modality, 20 px and more for the large one.
"""

LARGE_RADIUS_SHARE = 0.05
"""Radius, as a share of the field's side, from which nuclei are large: ten in a row fill it.

The pixel size is not recorded, and fields with more pixels often come from finer cameras: there
a nucleus of 20 px is still a small part of the picture. This limit rests on what the set holds.
"""

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
    """Return the modality of every image, with the measures that decided it.

    Parameters
    ----------
    images : iterable of (H, W) or (H, W, 3) arrays of uint8 or uint16

    Returns
    -------
    DataFrame
        One row an image: the fields of `Measures` and `modality`, one of `MODALITIES`.

    Examples
    --------
    >>> white, black = (np.full((64, 64), level, np.uint8) for level in (230, 5))
    >>> list(find_modalities([white, black])["modality"])
    ['grayscale_tissue', 'small_fluorescent']
    """
    measures = [measure_image(image) for image in images]
    table = pd.DataFrame(measures, columns=Measures._fields)
    return table.assign(modality=[classify(measured) for measured in measures])


def classify(measures: Measures) -> str:
    """Return the modality, one of `MODALITIES`, that an image's measures belong to.

    A rule of thumb, not a diagnosis: every image gets one of the five names, even a constant one.
    """
    if measures.ground <= BRIGHT_GROUND:
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
        brightest pixel, because cameras of 10, 12 or 14 bit store their values in 16.

    Returns
    -------
    Measures
        `ground`: median brightness. `colour`: mean difference of the strongest and the weakest
        channel; 0 for a gray image. `redness`: mean red minus mean blue, -1 to 1.
        `nucleus_radius_px`: typical radius of the nuclei, weighted by area; 0 if nothing stands
        out from the ground. `nucleus_radius_share`: the same over the field's side, the square
        root of its area.

    Raises
    ------
    ValueError
        If the image has another shape or dtype.
    """
    _check_image(image)
    scaled = np.asarray(image, dtype=np.float32) / full_scale(image)
    gray, colour, redness = scaled, 0.0, 0.0
    if scaled.ndim == 3:
        gray = scaled.mean(axis=2)
        colour = float(np.ptp(scaled, axis=2).mean())
        redness = float((scaled[..., 0] - scaled[..., 2]).mean())
    ground = float(np.median(gray))
    radius = _measure_radius(gray if ground <= BRIGHT_GROUND else 1 - gray)
    return Measures(ground, colour, redness, radius, radius / float(np.sqrt(gray.size)))


def _measure_radius(signal: np.ndarray) -> float:
    """Return the typical radius in pixels of what is brighter than its surroundings.

    The ground is taken away (opening with a square wider than a nucleus, so that haze and uneven
    light do not count), Otsu's threshold parts nuclei from the rest, and the distance to the
    nearest edge is averaged over their pixels. In a disc of radius r that mean is r / 3. Nuclei
    that touch hardly spoil it: their necks are narrow, so the distances stay those of single
    ones. Clumps without gaps are measured too large.
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


def _check_image(image: np.ndarray) -> None:
    shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not shaped or 0 in image.shape:
        raise ValueError(
            f"`image` has shape {image.shape}, must be (H, W) or (H, W, 3) and not empty; "
            "drop an alpha channel first"
        )
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"`image` has dtype {image.dtype}, must be uint8 or uint16; "
            "pass the image as it was read, not scaled to 0..1"
        )


def measure_contrast(images: Sequence[np.ndarray], labels: Sequence) -> pd.DataFrame:
    """Return one row an image: how bright nuclei and surroundings are, and how they differ.

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, 3) arrays of uint8 or uint16
        Colour is averaged over the channels.
    labels : sequence of (H, W) integer arrays, or None
        0 is background.

    Returns
    -------
    DataFrame
        `foreground`: share of the pixels that are nucleus, 0 to 1. `nuclei`, `surroundings`: mean
        brightness as a share of full scale, 0 to 1. `contrast`: (nuclei - surroundings) / (nuclei
        + surroundings), -1 to 1 [1]_; negative where nuclei are darker. NaN without masks; the
        last three also where there is no nucleus or nothing else.

    References
    ----------
    .. [1] A. A. Michelson (1927). Studies in Optics. University of Chicago Press: the visibility
       of fringes.
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
    """Return where an image may hold nuclei: the rarer side of Otsu's threshold.

    A guess that takes no masks and knows nothing but brightness. It is wrong where nuclei cover
    more than half of the image, and where other things are as bright or as dark as they are.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array of uint8 or uint16
        Colour is averaged over the channels.

    Returns
    -------
    (H, W) array of bool
        All False where the image is constant.

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
