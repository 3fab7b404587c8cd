"""An image with the outlines of its nuclei, to look at."""

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries

from helpers.figures.common import PREDICTION, stretch

MAX_SIDE_PX = 2000
"""Overlays are reduced to this, because no screen shows more."""


def draw_overlay(
    image: NDArray, labels: NDArray[np.integer], max_side_px: int = MAX_SIDE_PX
) -> NDArray[np.uint8]:
    """Return the image, its contrast stretched, with every nucleus outlined in orange.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array of uint8, uint16 or float
    labels : (H, W) integer array
        0 is background. Touching nuclei have an outline each, along their outermost pixels.
    max_side_px : int
        Of a larger image every second, third, ... row and column is shown, so that no side is
        longer.

    Returns
    -------
    (h, w, 3) uint8 array

    Examples
    --------
    >>> draw_overlay(np.zeros((3, 3), np.uint8), np.eye(3, dtype=int)).shape
    (3, 3, 3)
    """
    step = -(-max(image.shape[:2]) // max_side_px)
    image, labels = image[::step, ::step], labels[::step, ::step]
    shown = np.floor(stretch(image) * 255 + 0.5).astype(np.uint8)
    shown = shown if shown.ndim == 3 else np.repeat(shown[..., np.newaxis], 3, axis=2)
    colour = np.floor(np.array(to_rgb(PREDICTION)) * 255 + 0.5)
    shown[find_boundaries(labels, mode="inner")] = colour.astype(np.uint8)
    return shown
