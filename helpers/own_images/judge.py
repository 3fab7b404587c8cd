"""What to be wary of in the result of one image, in sentences."""

import math

import numpy as np
from numpy.typing import NDArray

from helpers.exploration.familiarity import Familiarity
from helpers.network.preprocessing import cut, rescale
from helpers.own_images.measure import median_diameter
from helpers.own_images.scale import Scale

LOOK_PX = 1024
"""Side of the square in the centre by which an image's looks are judged."""
MOSTLY = 0.5
"""Share of an image above which it is strange that nuclei cover so much."""


def measure_distance(familiarity: Familiarity, image: NDArray, scale: float = 1.0):
    """Return how far an image is from the training images, and a sentence where that is far.

    Parameters
    ----------
    familiarity : Familiarity
        Of the network.
    image : (H, W) or (H, W, 3) array of uint8, uint16 or float
        Floats outside 0..1 are judged as if their own range were the full scale.
    scale : float
        The factor by which the network sees the image resized.

    Returns
    -------
    distance : float
        0 the same, up to 1 usual, above unlike the training images.
    warning : str or None
    """
    seen = _as_seen(image, scale)
    distance = float(familiarity.distance(seen))
    return distance, familiarity.warn(seen) if distance > 1 else None


def _as_seen(image: NDArray, scale: float) -> NDArray:
    """Return the centre of an image at the network's scale, uint8 or uint16."""
    side = math.ceil(LOOK_PX / scale)
    centre = cut(image, side, side)
    if centre.dtype.kind == "f":
        low, high = min(float(image.min()), 0.0), max(float(image.max()), 1.0)
        centre = np.floor((centre - low) / (high - low) * 65535 + 0.5).astype(np.uint16)
    return rescale(centre, tuple(max(1, round(side * scale)) for side in centre.shape[:2]))


def list_warnings(areas: NDArray, n_pixels: int, scale: Scale, known: tuple[float, float]):
    """Return sentences on what the labels of an image should make one look twice at.

    Parameters
    ----------
    areas : (N,) array
        Of the nuclei, in pixels.
    n_pixels : int
        Of the image.
    scale : Scale
    known : (low, high)
        Median diameters in pixels that the network knows.

    Returns
    -------
    list of str

    Examples
    --------
    >>> list_warnings(np.array([]), 256, Scale(1.0, math.nan, ""), (10, 60))
    ['no nucleus found']
    """
    if not len(areas):
        return ["no nucleus found"]
    warnings = []
    covered = float(np.sum(areas)) / n_pixels
    if covered > MOSTLY:
        warnings.append(f"nuclei cover {covered:.0%} of the image: ground may be taken for nucleus")
    seen = median_diameter(areas) * scale.scale
    if not known[0] <= seen <= known[1]:
        warnings.append(
            f"the median diameter is {seen:.1f} px as the network sees it, and it knows "
            f"{known[0]:g} to {known[1]:g} px: check `scale`, or give the diameter"
        )
    return warnings
