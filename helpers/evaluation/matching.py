"""How well predicted nuclei agree with the true ones, nucleus by nucleus.

`match` pairs the nuclei of one image and names what became of each. The scores of many images are
made from these counts by `helpers.evaluation.nuclei` and `helpers.evaluation.summary`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from skimage.metrics import contingency_table

THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
"""The ten IoU thresholds of the Data Science Bowl 2018: .50, .55, ... .95."""
TOUCH = 0.1
"""IoU above which an unmatched nucleus was found but outlined badly, rather than missed.

The value above which unet4nuclei takes two objects for related when it counts splits and merges:
Caicedo et al. 2019, https://doi.org/10.1002/cyto.a.23863
"""
OUTCOMES_TRUE = ("found", "merged", "split", "inaccurate", "missed")
"""What becomes of a true nucleus."""
OUTCOMES_PRED = ("found", "merging", "fragment", "inaccurate", "extra")
"""What a predicted object turns out to be."""


class _Overlap(NamedTuple):
    """The nuclei of two label images, and the pairs that share pixels, by their places."""

    ids_true: NDArray[np.integer]
    ids_pred: NDArray[np.integer]
    areas_true: NDArray[np.int64]
    areas_pred: NDArray[np.int64]
    index_true: NDArray[np.integer]
    index_pred: NDArray[np.integer]
    pixels: NDArray[np.int64]

    @property
    def iou(self):
        """Intersection over union of each pair, float64 (n_pairs,), above 0 to 1."""
        areas = self.areas_true[self.index_true] + self.areas_pred[self.index_pred]
        return self.pixels / (areas - self.pixels)


@dataclass(frozen=True, eq=False)
class Matching:
    """What one image adds to every score. Made by `match`, which explains the outcomes.

    Attributes
    ----------
    ids_true, ids_pred, areas_true, areas_pred : int array, shape (n_true,) or (n_pred,)
        The labels of the nuclei, in rising order, and their pixels.
    iou_true, iou_pred : float64 array, shape (n_true,) or (n_pred,)
        IoU of each nucleus with its partner, 0 to 1; 0 without a partner.
    outcomes_true, outcomes_pred : str array, shape (n_true,) or (n_pred,)
        One of `OUTCOMES_TRUE` for each true nucleus, of `OUTCOMES_PRED` for each object.
    n_merges : int
        Predicted objects that cover more than half of each of two or more true nuclei.
    n_splits : int
        True nuclei that hold more than half of each of two or more predicted objects.
    aji_intersection, aji_union : int
        Pixels above and below the line of the aggregated Jaccard index.
    """

    ids_true: NDArray[np.integer]
    ids_pred: NDArray[np.integer]
    areas_true: NDArray[np.int64]
    areas_pred: NDArray[np.int64]
    iou_true: NDArray[np.float64]
    iou_pred: NDArray[np.float64]
    outcomes_true: NDArray[np.str_]
    outcomes_pred: NDArray[np.str_]
    n_merges: int
    n_splits: int
    aji_intersection: int
    aji_union: int

    @property
    def n_true(self):
        """Number of true nuclei."""
        return len(self.ids_true)

    @property
    def n_pred(self):
        """Number of predicted objects."""
        return len(self.ids_pred)

    @property
    def tp(self):
        """Pairs of at least each of `THRESHOLDS`, int64 (10,)."""
        return np.array([self.count(threshold) for threshold in THRESHOLDS])

    @property
    def iou_sum(self):
        """Sum of the IoU of all pairs above .5, the numerator of panoptic quality."""
        return float(self.iou_true[self.iou_true > 0.5].sum())

    def count(self, threshold):
        """Return the number of pairs whose IoU is at least `threshold`, .5 to 1."""
        return int(np.count_nonzero(self.iou_true >= threshold))


def _overlap(labels_true, labels_pred) -> _Overlap:
    """Return the pairs of nuclei that share pixels, from scikit-image's contingency table."""
    ids_true, places_true = _rank(labels_true)
    ids_pred, places_pred = _rank(labels_pred)
    table = contingency_table(places_true, places_pred, sparse_type="array").astype(np.int64)
    index_true, index_pred = table.nonzero()
    nuclei = (index_true > 0) & (index_pred > 0)
    return _Overlap(
        ids_true[1:],
        ids_pred[1:],
        table.sum(axis=1)[1:],
        table.sum(axis=0)[1:],
        index_true[nuclei] - 1,
        index_pred[nuclei] - 1,
        table.data[nuclei],
    )


def _rank(labels):
    """Return the labels that occur, 0 first, and the place of every pixel's label among them.

    A pixel of background is added: images without background or pixels have a table as well.
    """
    labels = np.append(labels.ravel(), labels.dtype.type(0))
    ids = np.sort(pd.unique(labels))
    return ids, np.searchsorted(ids, labels)


def match(labels_true, labels_pred):
    """Return which true nuclei were found, how well, and what became of the others.

    Parameters
    ----------
    labels_true, labels_pred : array_like of int, shape (H, W)
        Label images: 0 = background, any positive number a nucleus; gaps do not matter.

    Raises
    ------
    TypeError
        If the labels are not integers; a mask (bool) has no nuclei yet.
    ValueError
        If an image is not 2-D, the shapes differ, or a label is negative.

    Notes
    -----
    Partners are one to one. As many pairs as possible have an IoU of at least .5, and the sum of
    IoU is the greatest that allows. The number of pairs with IoU >= threshold is the one that
    StarDist's `matching` counts, for every threshold from .5 on; the Bowl asked for more than the
    threshold, which differs in exact ties alone.

    A nucleus or an object whose pair has an IoU of at least .5 is *found*. Every other true
    nucleus has the first of these outcomes that fits, after [1]_ but defined by halves, so that
    each object belongs to one nucleus at most:

    - *merged*: a predicted object covers more than half of it and of another true nucleus;
    - *split*: two or more predicted objects lie with more than half of themselves inside it;
    - *inaccurate*: its IoU with some predicted object is above `TOUCH`;
    - *missed*.

    And every other predicted object, likewise:

    - *merging*: it covers more than half of each of two or more true nuclei;
    - *fragment*: it lies mainly inside a true nucleus that holds another such object;
    - *inaccurate*: its IoU with some true nucleus is above `TOUCH`;
    - *extra*.

    An object that merges a large nucleus with a small one may be the match of the large one; then
    the small one alone is lost, as merged. `Matching.n_merges` counts the object all the same.

    References
    ----------
    .. [1] Caicedo et al. 2019, Cytometry A 95, 952-965, https://doi.org/10.1002/cyto.a.23863

    Examples
    --------
    >>> found = match([[1, 1, 1, 1, 0, 2]], [[5, 5, 5, 0, 0, 0]])
    >>> found.iou_true.tolist(), found.outcomes_true.tolist(), found.outcomes_pred.tolist()
    ([0.75, 0.0], ['found', 'missed'], ['found'])
    """
    pairs = _overlap(*_check_labels(labels_true, labels_pred))
    chosen = _pair_up(pairs)
    iou_true, iou_pred = np.zeros(len(pairs.ids_true)), np.zeros(len(pairs.ids_pred))
    iou_true[pairs.index_true[chosen]] = pairs.iou[chosen]
    iou_pred[pairs.index_pred[chosen]] = pairs.iou[chosen]
    return Matching(
        pairs.ids_true,
        pairs.ids_pred,
        pairs.areas_true,
        pairs.areas_pred,
        iou_true,
        iou_pred,
        *_find_outcomes(pairs, iou_true >= 0.5, iou_pred >= 0.5),
        *_aggregate(pairs),
    )


def average_precision(matchings, threshold=0.5):
    """Return TP / (TP + FP + FN) over the nuclei of all images together, 0 to 1.

    A pair of these `Matching` counts from an IoU of `threshold` on, .5 to 1; another raises
    ValueError. NaN if no image has a nucleus or an object. Schmidt et al. 2018,
    https://doi.org/10.1007/978-3-030-00934-2_30
    """
    if not 0.5 <= threshold <= 1:
        raise ValueError(
            f"`threshold` (={threshold}) must lie between 0.5 and 1: below, a nucleus may be "
            "paired in several ways; try 0.5."
        )
    counts = [(found.count(threshold), found.n_true, found.n_pred) for found in matchings]
    tp, n_true, n_pred = np.sum(counts, axis=0) if counts else (0, 0, 0)
    return float(tp / (n_true + n_pred - tp)) if n_true + n_pred else float("nan")


def _pair_up(pairs):
    """Return the places of the pairs that become partners, one to one."""
    iou, true, pred = pairs.iou, pairs.index_true, pairs.index_pred
    # Halves of a nucleus overlap nothing else, so either half may stay.
    half = np.flatnonzero(iou >= 0.5)
    half = half[np.unique(true[half], return_index=True)[1]]
    half = half[np.unique(pred[half], return_index=True)[1]]
    free = np.flatnonzero(~(np.isin(true, true[half]) | np.isin(pred, pred[half])))
    rows, row = np.unique(true[free], return_inverse=True)
    columns, column = np.unique(pred[free], return_inverse=True)
    gain, place = np.zeros((len(rows), len(columns))), np.full((len(rows), len(columns)), -1)
    gain[row, column], place[row, column] = iou[free], free
    assigned = place[linear_sum_assignment(gain, maximize=True)]
    return np.concatenate([half, assigned[assigned >= 0]])


def _find_outcomes(pairs, matched_true, matched_pred):
    """Return the outcomes of true nuclei and predicted objects, and how many merges and splits."""
    true, pred, near = pairs.index_true, pairs.index_pred, pairs.iou > TOUCH
    covered = 2 * pairs.pixels > pairs.areas_true[true]
    inside = 2 * pairs.pixels > pairs.areas_pred[pred]
    merging = np.bincount(pred[covered], minlength=len(matched_pred)) >= 2
    split = np.bincount(true[inside], minlength=len(matched_true)) >= 2

    def mark(places, n):
        return np.bincount(places, minlength=n) > 0

    merged = mark(true[covered & merging[pred]], len(matched_true))
    fragment = mark(pred[inside & split[true]], len(matched_pred))
    near_true, near_pred = mark(true[near], len(matched_true)), mark(pred[near], len(matched_pred))
    return (
        np.select([matched_true, merged, split, near_true], OUTCOMES_TRUE[:-1], OUTCOMES_TRUE[-1]),
        np.select(
            [matched_pred, merging, fragment, near_pred], OUTCOMES_PRED[:-1], OUTCOMES_PRED[-1]
        ),
        int(merging.sum()),
        int(split.sum()),
    )


def _aggregate(pairs):
    """Return the intersection and the union, in pixels, of the aggregated Jaccard index."""
    order = np.lexsort((-pairs.pixels, -pairs.iou, pairs.index_true))
    best = order[np.unique(pairs.index_true[order], return_index=True)[1]]
    unused = np.setdiff1d(np.arange(len(pairs.ids_pred)), pairs.index_pred[best])
    intersection = pairs.pixels[best].sum()
    chosen = pairs.areas_pred[pairs.index_pred[best]].sum() + pairs.areas_pred[unused].sum()
    return int(intersection), int(pairs.areas_true.sum() + chosen - intersection)


def _check_labels(labels_true, labels_pred):
    labels_true, labels_pred = np.asarray(labels_true), np.asarray(labels_pred)
    for name, labels in (("labels_true", labels_true), ("labels_pred", labels_pred)):
        if labels.dtype.kind not in "iu":
            raise TypeError(
                f"`{name}` (dtype {labels.dtype}) must be integers, one number a nucleus; "
                "label a mask first, for example with `scipy.ndimage.label`."
            )
        if labels.ndim != 2:
            raise ValueError(f"`{name}` (shape {labels.shape}) must be one image, (H, W).")
        if labels.size and labels.min() < 0:
            raise ValueError(
                f"`{name}` (from {labels.min()} to {labels.max()}) must not be negative: "
                "0 is background, nuclei have positive numbers."
            )
    if labels_true.shape != labels_pred.shape:
        raise ValueError(
            f"`labels_pred` (shape {labels_pred.shape}) must have the shape of `labels_true` "
            f"(={labels_true.shape}); undo padding or cropping first."
        )
    return labels_true, labels_pred
