"""From the maps that a network answers to label images: every nucleus by itself.

The way back of `helpers.targets.maps`. What is decided here, and not by the network, stands in the
settings under `postprocessing`.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import expand_labels, relabel_sequential, watershed

from helpers.settings import Postprocessing
from helpers.targets.maps import foreground_of

STRIDE_PX = 1.5
"""Length of one step along the flow. Above sqrt(2), so that each step leaves its own pixel."""
STILL = 0.05
"""Shorter vectors of the flow are no direction. Of the others only the direction counts: where a
network is unsure its vectors are short, and a walk would end there."""
DOUBLINGS = 8
"""2 ** 8 = 256 steps: enough for nuclei of a radius of 380 pixels."""
GATHER_PX = 3
"""Ends of the flow at most so far apart, in rows and in columns, belong to one centre."""
MIN_ARRIVALS = 20
"""Connected pixels that must arrive at an end of the flow for it to be a centre. Where a nucleus is
bent, some walk into its rim and stop there; they join the nearest centre."""


def maps_to_labels(
    maps: NDArray[np.floating], target: str, postprocessing: Postprocessing | None = None
) -> NDArray[np.int32]:
    """Return the label image that the maps of one image speak of.

    Parameters
    ----------
    maps : (H, W, n_channels) float array
        As a network of that target answers, or `helpers.data.maps.labels_to_maps` makes.
    target : str
        One of `helpers.data.maps.CHANNELS`.
    postprocessing : Postprocessing, optional
        The thresholds; by default those that the settings have by default.

    Returns
    -------
    (H, W) int32 array
        0 = background, nuclei from 1 to N without gaps. "foreground": connected parts of the mask,
        so that touching nuclei stay together. "interior": connected interiors, grown by their rim.
        "boundary" and "distance": watershed (Beucher & Lantuejoul 1979) in the mask, from the
        connected parts above the seed threshold. "flow": pixels that arrive at the same centre.
    """
    choices = postprocessing or Postprocessing()
    probabilities = foreground_of(maps, target)
    labels = _DECODERS[target](maps, probabilities >= choices.threshold, choices)
    sure = remove_doubtful(labels, probabilities, choices.min_confidence)
    return remove_small(sure, choices.min_area_px)


def _connected(maps, mask, choices):
    return label(mask, connectivity=1)


def _grow_interiors(maps, mask, choices):
    return expand_labels(label(mask, connectivity=1), distance=1)


def _flood_interiors(maps, mask, choices):
    return _flood(maps[..., 1], mask, choices.seed_threshold)


def _flood(height, mask, seed_threshold):
    """Return the watershed of `mask`, flooded downhill from where `height` has its summits."""
    seeds = label((height >= seed_threshold) & mask, connectivity=1)
    return watershed(-height, seeds, mask=mask)


def _follow_flow(maps, mask, choices):
    """Return the pixels of `mask` numbered by the centre at which they arrive.

    All pixels walk at once: if every pixel knows where one step leads, then the step's own step
    is known too, and after k doublings each knows where 2 ** k steps lead.
    """
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return np.zeros(mask.shape, int)
    place = np.full(mask.shape, -1)
    place[rows, columns] = np.arange(len(rows))
    flow = maps[rows, columns, 1:]
    lengths = np.linalg.norm(flow, axis=1, keepdims=True)
    steps = np.rint(STRIDE_PX * flow / np.maximum(lengths, STILL)).astype(int)
    to_rows = np.clip(rows + steps[:, 0], 0, mask.shape[0] - 1)
    to_columns = np.clip(columns + steps[:, 1], 0, mask.shape[1] - 1)
    target = place[to_rows, to_columns]
    target = np.where(target < 0, np.arange(len(rows)), target)  # a step out of the mask is none
    for _ in range(DOUBLINGS):
        target = target[target]
    ends = np.zeros(mask.shape, bool)
    ends[rows[target], columns[target]] = True
    gathered = ndimage.binary_dilation(ends, np.ones((GATHER_PX,) * 2, bool))
    arrived = np.zeros(mask.shape, int)
    arrived[rows, columns] = label(gathered, connectivity=2)[rows[target], columns[target]]
    parts = label(arrived, connectivity=1)  # what walked over a gap is no part of that nucleus
    is_lost = np.bincount(parts.ravel())[parts] < MIN_ARRIVALS
    return _join_lost(np.where(is_lost, 0, parts), mask)


def _join_lost(labels, mask):
    """Return `labels` grown over the rest of `mask`; parts that none of them touches stay alone."""
    parts = label(mask, connectivity=1)
    is_alone = np.bincount(parts.ravel(), labels.ravel() > 0) == 0
    alone = np.where(is_alone[parts] & mask, parts + labels.max(), 0)
    return watershed(np.zeros(mask.shape), labels + alone, mask=mask)


_DECODERS = {
    "foreground": _connected,
    "interior": _grow_interiors,
    "boundary": _flood_interiors,
    "distance": _flood_interiors,
    "flow": _follow_flow,
}


def remove_doubtful(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], min_confidence: float
) -> NDArray[np.integer]:
    """Return `labels` without nuclei whose mean probability, 0 to 1, is below `min_confidence`.

    What is no nucleus but ground with a tinge of one is rarely more than just above the threshold;
    a small nucleus mostly is, so this spares it where `remove_small` would not.

    Examples
    --------
    >>> remove_doubtful(np.array([[0, 1, 1, 2]]), np.array([[0.1, 0.9, 0.7, 0.6]]), 0.75)
    array([[0, 1, 1, 0]])
    """
    areas = np.maximum(np.bincount(labels.ravel()), 1)
    means = np.bincount(labels.ravel(), probabilities.ravel()) / areas
    return np.where(means[labels] >= min_confidence, labels, 0)


def remove_small(labels: NDArray[np.integer], min_area_px: int) -> NDArray[np.int32]:
    """Return `labels` without nuclei of fewer than `min_area_px` pixels, renumbered from 1.

    Examples
    --------
    >>> remove_small(np.array([[0, 3, 3, 7]]), 2)
    array([[0, 1, 1, 0]], dtype=int32)
    """
    areas = np.bincount(labels.ravel())
    kept = np.where(areas[labels] >= min_area_px, labels, 0)
    return relabel_sequential(kept)[0].astype(np.int32)
