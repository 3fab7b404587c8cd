"""Targets whose nuclei grow by a watershed from their interiors or from their deepest pixels."""

import numpy as np
import scipy
from numpy.typing import NDArray
from skimage import measure, segmentation

from helpers.targets.base import Head, Target
from helpers.targets.mask import PROBABILITY, find_interiors


class Seeded(Target):
    """The second channel is highest inside a nucleus: there it begins, and it fills the mask."""

    is_seeded = True

    def separate(self, maps, mask, choices):
        """Return the watershed of the mask (Beucher and Lantuéjoul 1979).

        Each connected part in which the second channel reaches `choices.seed_threshold` is a seed.
        """
        height = maps[..., 1]
        seeds = measure.label((height >= choices.seed_threshold) & mask, connectivity=1)
        return segmentation.watershed(-height, seeds, mask=mask)


class Boundary(Seeded):
    """One class a pixel: 1 in its channel."""

    def make_channels(self, labels):
        """Return background, interiors and rims."""
        mask, interior = labels > 0, find_interiors(labels)
        return [~mask, interior, mask & ~interior]

    def foreground(self, maps):
        """Return the probability of anything but background."""
        return 1 - maps[..., 0]

    def paint(self, maps):
        """Return black background, gray interiors and white rims."""
        return maps @ np.array([0, 0.5, 1])


class Distance(Seeded):
    """1 in every nucleus, and how deep inside its nucleus a pixel lies."""

    def make_channels(self, labels):
        """Return the mask and the distance to the rim."""
        return [labels > 0, distance_to_rim(labels)]


def distance_to_rim(labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return how deep inside its nucleus a pixel lies: 1 at the deepest, near 0 at the rim.

    The Euclidean distance to the nearest pixel of something else, the image's border included,
    divided by the largest one of that nucleus; 0 in the background.

    Examples
    --------
    >>> distance_to_rim(np.array([[1, 1, 1, 2, 2]] * 3))[1]
    array([0.5, 1. , 0.5, 1. , 1. ], dtype=float32)
    """
    distances = np.zeros(labels.shape, np.float32)
    for number, box in enumerate(scipy.ndimage.find_objects(labels), 1):
        if box is not None:
            nucleus = labels[box] == number
            inside = scipy.ndimage.distance_transform_edt(np.pad(nucleus, 1))[1:-1, 1:-1]
            distances[box][nucleus] = inside[nucleus] / inside.max()
    return distances


BOUNDARY = Boundary(
    name="boundary",
    meaning="background, interior or rim",
    channels=("background", "interior", "boundary"),
    heads=(Head("classes", 3, "softmax"),),
)
DISTANCE = Distance(
    name="distance",
    meaning="the mask, and how deep inside a pixel lies",
    channels=("nucleus", "distance"),
    heads=(PROBABILITY, Head("distance", 1, "sigmoid")),
)
