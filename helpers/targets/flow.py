"""The target whose pixels point to the centre of their nucleus."""

import numpy as np
import scipy
from numpy.typing import NDArray
from skimage import color, measure, segmentation

from helpers.targets.base import Head, Target
from helpers.targets.mask import PROBABILITY

STEP_PX = 1.5
"""Length of one step along the flow. Above sqrt(2), so that each step leaves its own pixel."""
MIN_LENGTH = 0.05
"""Shorter vectors are no direction. Of the others only the direction counts: where a network is
unsure its vectors are short, and a path would end there."""
DOUBLINGS = 8
"""2 ** 8 = 256 steps: enough for nuclei of a radius of 380 pixels."""
GATHER_PX = 3
"""Ends of paths at most so far apart, in rows and in columns, belong to one centre."""
MIN_ARRIVALS = 20
"""Connected pixels that must arrive at an end for it to be a centre. Where a nucleus is bent, some
paths end in its rim; those pixels join the nearest centre."""


class Flow(Target):
    """1 in every nucleus, and the direction to its centre: down and right.

    After Stringer et al. 2021, doi:10.1038/s41592-020-01018-x, whose directions follow the
    diffusion of heat instead.
    """

    def make_channels(self, labels):
        """Return the mask, and the way down and right."""
        return [labels > 0, *np.moveaxis(flow_to_centre(labels), -1, 0)]

    def separate(self, maps, mask, choices):
        """Return the pixels of the mask numbered by the centre at which their path ends."""
        if not mask.any():
            return np.zeros(mask.shape, int)
        rows, columns = np.nonzero(mask)
        arrived = np.zeros(mask.shape, int)
        arrived[mask] = gather(follow_flow(maps[..., 1:], mask), rows, columns, mask.shape)
        parts = measure.label(arrived, connectivity=1)  # a path over a gap joins no nuclei
        is_lost = np.bincount(parts.ravel())[parts] < MIN_ARRIVALS
        return join_lost(np.where(is_lost, 0, parts), mask)

    def flip(self, maps, down, right):
        """Return the maps of the mirror image; directions are mirrored, too."""
        return maps[::down, ::right] * np.float32([1, down, right])

    def transpose(self, maps):
        """Return the maps of the transpose: down is right, right is down."""
        return maps.swapaxes(0, 1)[..., [0, 2, 1]]

    def paint(self, maps):
        """Return the direction as a hue, and the background in black."""
        down, right = maps[..., 1], maps[..., 2]
        hue = (np.arctan2(down, right) / (2 * np.pi)) % 1
        length = np.clip(np.hypot(down, right), 0, 1)
        return color.hsv2rgb(np.stack([hue, length, np.clip(maps[..., 0], 0, 1)], axis=-1))


def flow_to_centre(labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return the direction from every pixel of a nucleus to its centre, (H, W, 2): down, right.

    Vectors of length 1; 0 at the centre and in the background. The centre is the pixel of the
    nucleus that is nearest to its centre of mass, so it lies inside, whatever the shape. On
    either side of the line where two nuclei touch the vectors point away from each other.

    Examples
    --------
    >>> flow_to_centre(np.array([[1, 1, 1, 2, 2, 2]]))[0, :, 1]
    array([ 1.,  0., -1.,  1.,  0., -1.], dtype=float32)
    """
    numbers = np.unique(labels[labels > 0])
    if not len(numbers):
        return np.zeros((*labels.shape, 2), np.float32)
    place = np.searchsorted(numbers, labels).clip(max=len(numbers) - 1)  # of each pixel's nucleus
    axes = np.indices(labels.shape)
    to_mean = [np.array(scipy.ndimage.mean(axis, labels, numbers))[place] - axis for axis in axes]
    centres = scipy.ndimage.minimum_position(np.hypot(*to_mean), labels, numbers)
    vectors = np.array(centres, float)[place] - np.moveaxis(axes, 0, -1)
    length = np.maximum(np.hypot(vectors[..., 0], vectors[..., 1]), 1)
    return np.where(labels[..., None] > 0, vectors / length[..., None], 0).astype(np.float32)


def follow_flow(flow: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return where the path of every pixel of `mask` ends, as its place among those pixels.

    All pixels walk at once: if every pixel knows where one step leads, then the step's own step
    is known too, and after k doublings each knows where 2 ** k steps lead.
    """
    rows, columns = np.nonzero(mask)
    here = np.arange(len(rows))
    place = np.full(mask.shape, -1)
    place[mask] = here
    lengths = np.linalg.norm(flow[mask], axis=1, keepdims=True)
    steps = np.rint(STEP_PX * flow[mask] / np.maximum(lengths, MIN_LENGTH)).astype(int)
    to_rows = np.clip(rows + steps[:, 0], 0, mask.shape[0] - 1)
    to_columns = np.clip(columns + steps[:, 1], 0, mask.shape[1] - 1)
    ends = place[to_rows, to_columns]
    ends = np.where(ends < 0, here, ends)  # a pixel whose step leaves the mask stays
    for _ in range(DOUBLINGS):
        ends = ends[ends]
    return ends


def gather(ends, rows, columns, shape) -> NDArray[np.intp]:
    """Return for each path the number of its centre: ends that lie close together are one."""
    is_end = np.zeros(shape, bool)
    is_end[rows[ends], columns[ends]] = True
    near = scipy.ndimage.binary_dilation(is_end, np.ones((GATHER_PX,) * 2, bool))
    return measure.label(near, connectivity=2)[rows[ends], columns[ends]]


def join_lost(labels: NDArray[np.integer], mask: NDArray[np.bool_]) -> NDArray[np.integer]:
    """Return `labels` grown over the rest of `mask`; parts that none of them touches stay alone."""
    parts = measure.label(mask, connectivity=1)
    is_alone = np.bincount(parts.ravel(), labels.ravel() > 0) == 0
    alone = np.where(is_alone[parts] & mask, parts + labels.max(), 0)
    return segmentation.watershed(np.zeros(mask.shape), labels + alone, mask=mask)


FLOW = Flow(
    name="flow",
    meaning="the mask, and the direction to the centre",
    channels=("nucleus", "down", "right"),
    heads=(PROBABILITY, Head("flow", 2, "linear")),
    caption="flow (hue: direction)",
)
