"""How well predicted nuclei agree with the true ones, nucleus by nucleus.

`match` pairs the nuclei of one image; the scores take the matchings of many and either pool their
nuclei, so that crowded images count for more, or average over images.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array

THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
"""The ten IoU thresholds of the Data Science Bowl 2018: .50, .55, ... .95."""
TOUCH = 0.1
"""IoU above which an unmatched nucleus was found but outlined badly, rather than missed.

The value above which unet4nuclei takes two objects for related when it counts splits and merges:
Caicedo et al. 2019, https://doi.org/10.1002/cyto.a.23863
"""
FATES_TRUE = ("matched", "merged", "split", "inaccurate", "missed")
FATES_PRED = ("matched", "merging", "fragment", "inaccurate", "spurious")


class Overlap(NamedTuple):
    """The nuclei of two label images, and which of them share pixels.

    Attributes
    ----------
    ids_true, ids_pred : int array, shape (n_true,) and (n_pred,)
        The labels that occur, in rising order, without 0.
    areas_true, areas_pred : int64 array, shape (n_true,) and (n_pred,)
        Pixels of each nucleus.
    index_true, index_pred : int array, shape (n_pairs,)
        Of each pair that shares pixels, the places of its nuclei in the arrays above.
    pixels : int64 array, shape (n_pairs,)
        How many pixels the pair shares, at least 1.
    """

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
    """What one image adds to every score. Made by `match`, which explains the fates.

    Attributes
    ----------
    ids_true, ids_pred : int array, shape (n_true,) and (n_pred,)
        The labels of the nuclei, in rising order.
    areas_true : int64 array, shape (n_true,)
        Pixels of each true nucleus.
    iou_true : float64 array, shape (n_true,)
        IoU of each true nucleus with its partner, 0 to 1; 0 without a partner.
    fates_true : str array, shape (n_true,)
        One of `FATES_TRUE` for each true nucleus.
    fates_pred : str array, shape (n_pred,)
        One of `FATES_PRED` for each predicted object.
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
    iou_true: NDArray[np.float64]
    fates_true: NDArray[np.str_]
    fates_pred: NDArray[np.str_]
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


def overlap(labels_true, labels_pred):
    """Return the nuclei of two label images, and which of them share how many pixels.

    Parameters
    ----------
    labels_true, labels_pred : array_like of int, shape (H, W)
        Label images: 0 = background, any positive number a nucleus; gaps do not matter.

    Returns
    -------
    Overlap
        As long as the pairs that touch, not as all pairs; the cost grows with the pixels.

    Raises
    ------
    TypeError
        If the labels are not integers; a mask (bool) has no nuclei yet.
    ValueError
        If an image is not 2-D, the shapes differ, or a label is negative.

    Examples
    --------
    >>> pairs = overlap([[1, 1, 0, 7]], [[4, 4, 4, 0]])
    >>> pairs.ids_true.tolist(), pairs.ids_pred.tolist(), pairs.iou.round(2).tolist()
    ([1, 7], [4], [0.67])
    """
    labels_true, labels_pred = _check_labels(labels_true, labels_pred)
    ids_true, places_true = _rank(labels_true)
    ids_pred, places_pred = _rank(labels_pred)
    shape = (len(ids_true), len(ids_pred))
    ones = np.ones(labels_true.size, np.int64)
    table = coo_array((ones, (places_true, places_pred)), shape=shape).tocsr()
    index_true, index_pred = table.nonzero()
    nuclei = (index_true > 0) & (index_pred > 0)
    return Overlap(
        ids_true[1:],
        ids_pred[1:],
        table.sum(axis=1)[1:],
        table.sum(axis=0)[1:],
        index_true[nuclei] - 1,
        index_pred[nuclei] - 1,
        table.data[nuclei],
    )


def match(labels_true, labels_pred):
    """Return which true nuclei were found, how well, and what became of the others.

    Parameters and errors as for `overlap`. No image is too empty: without nuclei the arrays have
    length 0.

    Returns
    -------
    Matching
        To be collected over images and handed to the scores below.

    Notes
    -----
    Partners are one to one. As many pairs as possible have an IoU of at least .5, and the sum of
    IoU is the greatest that allows. Above .5 nobody can have two such partners. At .5 exactly a
    nucleus can, if it was cut into halves; one half is then its partner. So the number of pairs
    with IoU >= threshold is the one that StarDist's `matching` counts, for every threshold from
    .5 on. The Bowl asked for more than the threshold, which differs in exact ties alone.

    A nucleus or an object whose pair has an IoU of at least .5 is *matched*. Every other true
    nucleus has the first of these fates that fits, which the house defines by halves so that
    each object belongs to one nucleus at most; unet4nuclei, where the distinction comes from,
    asks for an IoU above .1 with two or more [1]_:

    - *merged*: a predicted object covers more than half of it and of another true nucleus;
    - *split*: two or more predicted objects lie with more than half of themselves inside it;
    - *inaccurate*: its IoU with some predicted object is above `TOUCH`;
    - *missed*.

    And every other predicted object, likewise:

    - *merging*: it covers more than half of each of two or more true nuclei;
    - *fragment*: it lies mainly inside a true nucleus that holds another such object;
    - *inaccurate*: its IoU with some true nucleus is above `TOUCH`;
    - *spurious*.

    An object that merges a large nucleus with a small one may be the match of the large one; then
    the small one alone is lost, as merged. `Matching.n_merges` counts the object all the same.

    References
    ----------
    .. [1] Caicedo et al. 2019, Cytometry A 95, 952-965, https://doi.org/10.1002/cyto.a.23863

    Examples
    --------
    >>> found = match([[1, 1, 1, 1, 0, 2]], [[5, 5, 5, 0, 0, 0]])
    >>> found.iou_true.tolist(), found.fates_true.tolist(), found.fates_pred.tolist()
    ([0.75, 0.0], ['matched', 'missed'], ['matched'])
    """
    pairs = overlap(labels_true, labels_pred)
    chosen = _pair_up(pairs)
    iou_true, iou_pred = np.zeros(len(pairs.ids_true)), np.zeros(len(pairs.ids_pred))
    iou_true[pairs.index_true[chosen]] = pairs.iou[chosen]
    iou_pred[pairs.index_pred[chosen]] = pairs.iou[chosen]
    return Matching(
        pairs.ids_true,
        pairs.ids_pred,
        pairs.areas_true,
        iou_true,
        *_tell_fates(pairs, iou_true >= 0.5, iou_pred >= 0.5),
        *_aggregate(pairs),
    )


def average_precision(matchings, threshold=0.5):
    """Return TP / (TP + FP + FN) over the nuclei of all images together, 0 to 1.

    Parameters
    ----------
    matchings : iterable of Matching
        At least one.
    threshold : float, optional
        A pair counts from this IoU on, .5 to 1.

    Returns
    -------
    float
        An image without nuclei and without predictions adds nothing; NaN if all are such.

    Raises
    ------
    ValueError
        If there is no matching or the threshold is out of range.

    References
    ----------
    Schmidt et al. 2018, https://doi.org/10.1007/978-3-030-00934-2_30
    """
    tp, n_true, n_pred = _count(matchings, threshold)
    return _pool(tp, n_true + n_pred - tp)


def mean_average_precision(matchings, threshold=0.5):
    """Return TP / (TP + FP + FN) of each image, averaged over the images, 0 to 1.

    Parameters and errors as for `average_precision`. An image without nuclei and without
    predictions counts 1.0: the answer is right, and leaving it out would hide an object invented
    there, which counts 0.0. StarDist's `matching` gives both 0.

    References
    ----------
    Lalit et al. 2022 (EmbedSeg), https://doi.org/10.1016/j.media.2022.102523
    """
    tp, n_true, n_pred = _count(matchings, threshold)
    return float(share_or_one(tp, n_true + n_pred - tp).mean())


def bowl_score(matchings):
    """Return the average precision, averaged over the ten `THRESHOLDS` and over images, 0 to 1.

    Parameters, errors and empty images as for `mean_average_precision`.

    References
    ----------
    Caicedo et al. 2019, https://doi.org/10.1038/s41592-019-0612-7
    """
    matchings = list(matchings)
    return float(np.mean([mean_average_precision(matchings, level) for level in THRESHOLDS]))


def f1_at(matchings, threshold=0.5):
    """Return 2 TP / (2 TP + FP + FN) over the nuclei of all images together, 0 to 1.

    Parameters, errors and empty images as for `average_precision`.
    """
    tp, n_true, n_pred = _count(matchings, threshold)
    return _pool(2 * tp, n_true + n_pred)


def recall_at(matchings, threshold=0.5):
    """Return the share of the true nuclei of all images that were found, 0 to 1.

    Parameters and errors as for `average_precision`. NaN without a true nucleus.
    """
    tp, n_true, _ = _count(matchings, threshold)
    return _pool(tp, n_true)


def precision_at(matchings, threshold=0.5):
    """Return the share of the predicted objects of all images that are nuclei, 0 to 1.

    Parameters and errors as for `average_precision`. NaN without a predicted object.
    """
    tp, _, n_pred = _count(matchings, threshold)
    return _pool(tp, n_pred)


def panoptic_quality(matchings):
    """Return the sum of IoU of all pairs above .5 over TP + FP / 2 + FN / 2, 0 to 1.

    Nuclei of all images together; NaN if there is none, true or predicted. The denominator is
    half the number of nuclei, true and predicted: here a pair of exactly .5 counts as none.

    References
    ----------
    Kirillov et al. 2019, https://doi.org/10.1109/CVPR.2019.00963
    """
    matchings = list(matchings)
    _, n_true, n_pred = _count(matchings, 0.5)
    return _pool(2 * np.array([found.iou_sum for found in matchings]), n_true + n_pred)


def aggregated_jaccard(matchings):
    """Return the aggregated Jaccard index (AJI) of all images together, 0 to 1.

    Each true nucleus brings intersection and union with the predicted object of the greatest
    IoU, which several nuclei may share; what no nucleus chose is added to the union. Of equal
    IoU, the greater intersection is taken. NaN if there is no nucleus, true or predicted.

    References
    ----------
    Kumar et al. 2017, algorithm 1, https://doi.org/10.1109/TMI.2017.2677499
    """
    sums = [(found.aji_intersection, found.aji_union) for found in matchings]
    if not sums:
        raise ValueError(_NO_MATCHING)
    return _pool(*np.array(sums).T)


def share_or_one(parts, wholes):
    """Return part over whole of each image, float64; 1.0 where there is nothing at all."""
    wholes = np.asarray(wholes, dtype=float)
    return np.divide(parts, wholes, out=np.ones_like(wholes), where=wholes > 0)


_NO_MATCHING = "`matchings` is empty; call `match` on at least one image first."


def _pool(parts, wholes):
    whole = wholes.sum()
    return float(parts.sum() / whole) if whole else float("nan")


def _count(matchings, threshold):
    """Return pairs, true nuclei and predicted objects of each image."""
    if not 0.5 <= threshold <= 1:
        raise ValueError(
            f"`threshold` (={threshold}) must lie between 0.5 and 1: below, a nucleus may be "
            "paired in several ways; try 0.5."
        )
    counts = [(found.count(threshold), found.n_true, found.n_pred) for found in matchings]
    if not counts:
        raise ValueError(_NO_MATCHING)
    return np.array(counts).T


def _rank(labels):
    """Return the labels that occur, 0 first, and the place of every pixel's label among them."""
    labels = labels.ravel()
    if labels.size and labels.max() > labels.size:
        ids, places = np.unique(np.append(labels, labels.dtype.type(0)), return_inverse=True)
        return ids, places[:-1]
    # Numbers no greater than the pixels, as nearly always, are counted instead of sorted.
    labels = labels.astype(np.int64, copy=False)
    occurs = np.bincount(labels, minlength=1) > 0
    occurs[0] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[labels]


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


def _tell_fates(pairs, matched_true, matched_pred):
    """Return the fates of true nuclei and predicted objects, and how many merges and splits."""
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
        np.select([matched_true, merged, split, near_true], FATES_TRUE[:-1], FATES_TRUE[-1]),
        np.select([matched_pred, merging, fragment, near_pred], FATES_PRED[:-1], FATES_PRED[-1]),
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
