"""Targets of one map: the mask of the nuclei, and the mask of their interiors."""

import numpy as np
from numpy.typing import NDArray
from skimage import measure, segmentation

from helpers.targets.base import Head, Target

PROBABILITY = Head("probability", 1, "sigmoid")


class Foreground(Target):
    """1 in every nucleus; a nucleus is a connected part, so touching ones stay together."""

    def make_channels(self, labels):
        """Return the mask."""
        return [labels > 0]

    def separate(self, maps, mask, choices):
        """Return the connected parts of the mask."""
        return measure.label(mask, connectivity=1)


class Interior(Target):
    """1 in every nucleus but on its rim; a nucleus is a connected interior, grown by its rim."""

    def make_channels(self, labels):
        """Return the mask of the interiors."""
        return [find_interiors(labels)]

    def separate(self, maps, mask, choices):
        """Return the connected parts of the mask, each one pixel wider."""
        return segmentation.expand_labels(measure.label(mask, connectivity=1), distance=1)

    def true_mask(self, labels):
        """Return the interiors: the network knows nothing of rims."""
        return find_interiors(labels)


def find_interiors(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the nuclei without their rims: pixels whose four neighbours have the same label.

    Touching nuclei are separated by a gap of two pixels; the image's border is not a rim. Nuclei
    thinner than three pixels vanish.

    Examples
    --------
    >>> find_interiors(np.array([[1, 1, 2, 2], [1, 1, 2, 2], [1, 1, 2, 2]])).astype(int)
    array([[1, 0, 0, 1],
           [1, 0, 0, 1],
           [1, 0, 0, 1]])
    """
    padded = np.pad(labels, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    same = np.logical_and.reduce([neighbour == centre for neighbour in neighbours])
    return (centre > 0) & same


FOREGROUND = Foreground(
    name="foreground",
    meaning="the mask; touching nuclei have no gap",
    channels=("nucleus",),
    heads=(PROBABILITY,),
)
INTERIOR = Interior(
    name="interior",
    meaning="the mask without its rims",
    channels=("interior",),
    heads=(PROBABILITY,),
)
