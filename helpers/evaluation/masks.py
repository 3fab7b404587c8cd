"""Masks: how well two agree, how honest their probabilities are, and how they lie in files."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MaskWriter = Callable[[str, NDArray[np.bool_]], Any]
"""Takes the id of an image and its mask; made by `mask_folder`."""


class Confusion(NamedTuple):
    """Pixel counts of a predicted mask against the true one; they add up to the pixels."""

    tp: int
    fp: int
    fn: int
    tn: int


@dataclass(frozen=True, eq=False)
class Calibration:
    """Probabilities against observed foreground, in bins of equal width from 0 to 1.

    Made by `calibration`; two of the same number of bins add up to that of both their pixels.
    Bins without pixels have NaN for their mean and fraction and count for nothing in the error.

    Attributes
    ----------
    edges : numpy.ndarray of float64, shape (n_bins + 1,)
        Ends of the bins. A bin includes its lower end; the last one both.
    count : numpy.ndarray of int64, shape (n_bins,)
        Pixels in each bin.
    probability_sum : numpy.ndarray of float64, shape (n_bins,)
        Sum of the probabilities in each bin.
    foreground : numpy.ndarray of int64, shape (n_bins,)
        True foreground pixels in each bin.
    """

    edges: np.ndarray
    count: np.ndarray
    probability_sum: np.ndarray
    foreground: np.ndarray

    @property
    def mean_probability(self):
        """Mean probability of each bin, float64 (n_bins,), 0 to 1; NaN where a bin is empty."""
        return _ratio(self.probability_sum, self.count)

    @property
    def fraction(self):
        """Observed share of foreground in each bin, float64 (n_bins,); NaN where it is empty."""
        return _ratio(self.foreground, self.count)

    @property
    def error(self):
        """Expected calibration error, 0 (honest) to 1; NaN when there are no pixels.

        The mean distance between probability and observed fraction, bins weighted by their
        pixels: equation 3 of Guo et al. 2017, https://doi.org/10.48550/arXiv.1706.04599, with
        the probability of foreground in place of the confidence in the likelier class.
        """
        n_pixels = int(self.count.sum())
        if n_pixels == 0:
            return float("nan")
        return float(np.abs(self.probability_sum - self.foreground).sum() / n_pixels)

    def __add__(self, other):
        """Return the calibration of the pixels of both."""
        if not isinstance(other, Calibration):
            return NotImplemented
        if len(self.count) != len(other.count):
            raise ValueError(
                f"`n_bins` (={len(self.count)} and {len(other.count)}) must be equal to add two "
                "calibrations; use the same `n_bins` for every image."
            )
        return Calibration(
            self.edges,
            self.count + other.count,
            self.probability_sum + other.probability_sum,
            self.foreground + other.foreground,
        )

    def __radd__(self, other):
        """Let `sum(calibrations)` start from its 0."""
        return self if isinstance(other, int) and other == 0 else NotImplemented


def confusion(mask_true, mask_pred):
    """Return the pixel counts of a predicted mask against the true one.

    Parameters
    ----------
    mask_true, mask_pred : array_like of bool, same shape
        Foreground is True. Integers and floats are refused: a label image or a probability
        map would count wrongly without a word.

    Returns
    -------
    Confusion
        True positives, false positives, false negatives, true negatives.

    Raises
    ------
    TypeError
        If a mask is not bool.
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> confusion(np.array([True, True, False]), np.array([True, False, False]))
    Confusion(tp=1, fp=0, fn=1, tn=1)
    """
    mask_true, mask_pred = _check_masks(mask_true, mask_pred)
    n_true, n_pred = int(np.count_nonzero(mask_true)), int(np.count_nonzero(mask_pred))
    tp = int(np.count_nonzero(mask_true & mask_pred))
    return Confusion(tp, n_pred - tp, n_true - tp, mask_true.size - n_true - n_pred + tp)


def dice(mask_true, mask_pred):
    """Return the Dice coefficient, 0 to 1: twice the common pixels over the sum of both.

    Parameters and errors as for `confusion`. Both masks empty: 1.0, for they agree. One of
    them empty: 0.0.

    References
    ----------
    Dice 1945, https://doi.org/10.2307/1932409; Sørensen 1948, Biologiske Skrifter 5(4), 1-34.

    Examples
    --------
    >>> dice(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    tp, fp, fn, _ = confusion(mask_true, mask_pred)
    return _share(2 * tp, 2 * tp + fp + fn)


def iou(mask_true, mask_pred):
    """Return the intersection over union, 0 to 1 (Jaccard index) of two masks.

    Parameters and errors as for `confusion`. Both masks empty: 1.0, for they agree. One of
    them empty: 0.0.

    References
    ----------
    Jaccard 1912, https://doi.org/10.1111/j.1469-8137.1912.tb05611.x

    Examples
    --------
    >>> iou(np.array([True, True, False]), np.array([True, False, False]))
    0.5
    """
    tp, fp, fn, _ = confusion(mask_true, mask_pred)
    return _share(tp, tp + fp + fn)


def precision(mask_true, mask_pred):
    """Return the share of predicted foreground that is true, 0 to 1.

    Parameters and errors as for `confusion`. Nothing predicted: 1.0 if nothing was there,
    else 0.0 (undefined; counted as a failure so that an empty prediction is never rewarded).
    """
    tp, fp, fn, _ = confusion(mask_true, mask_pred)
    return _share(tp, tp + fp) if tp + fp else float(fn == 0)


def recall(mask_true, mask_pred):
    """Return the share of true foreground that is predicted, 0 to 1.

    Parameters and errors as for `confusion`. Nothing there: 1.0 if nothing was predicted,
    else 0.0 (undefined; counted as a failure, as in `precision`).
    """
    tp, fp, fn, _ = confusion(mask_true, mask_pred)
    return _share(tp, tp + fn) if tp + fn else float(fp == 0)


def calibration(probabilities, mask, n_bins: int = 10):
    """Return how predicted probabilities of foreground compare with what is there.

    Parameters
    ----------
    probabilities : array_like of float, any shape
        Probability of foreground, 0 to 1.
    mask : array_like of bool, same shape
        Foreground is True.
    n_bins : int, optional
        Bins of equal width, at least 1.

    Returns
    -------
    Calibration
        Mean probability, observed fraction, count per bin, and the expected calibration error.
        Add those of several images to pool their pixels: ``sum(calibrations)``.

    Raises
    ------
    TypeError
        If the mask is not bool or the probabilities are not float.
    ValueError
        If the shapes differ, a probability is outside 0 to 1, or `n_bins` is below 1.

    Examples
    --------
    >>> result = calibration(np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 0, 1, 1], bool))
    >>> round(result.error, 3)
    0.1
    """
    probabilities, mask = _check_probabilities(probabilities, mask)
    if not isinstance(n_bins, int | np.integer) or n_bins < 1:
        raise ValueError(f"`n_bins` (={n_bins}) must be a whole number >= 1; try 10.")
    edges = np.arange(n_bins + 1) / n_bins
    bins = np.searchsorted(edges[1:-1], probabilities, side="right")
    return Calibration(
        edges,
        np.bincount(bins, minlength=n_bins),
        np.bincount(bins, weights=probabilities, minlength=n_bins),
        np.bincount(bins[mask], minlength=n_bins),
    )


def _share(part, whole):
    return part / whole if whole else 1.0


def _ratio(sums, counts):
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def _check_masks(mask_true, mask_pred):
    mask_true, mask_pred = np.asarray(mask_true), np.asarray(mask_pred)
    for name, mask in (("mask_true", mask_true), ("mask_pred", mask_pred)):
        if mask.dtype != bool:
            raise TypeError(
                f"`{name}` (dtype {mask.dtype}) must be bool; compare first, "
                "for example `labels > 0` or `probabilities >= 0.5`."
            )
    if mask_true.shape != mask_pred.shape:
        raise ValueError(
            f"`mask_pred` (shape {mask_pred.shape}) must have the shape of `mask_true` "
            f"(={mask_true.shape}); undo padding or cropping first."
        )
    return mask_true, mask_pred


def _check_probabilities(probabilities, mask):
    probabilities, mask = np.asarray(probabilities), np.asarray(mask)
    if not np.issubdtype(probabilities.dtype, np.floating):
        raise TypeError(
            f"`probabilities` (dtype {probabilities.dtype}) must be float from 0 to 1; "
            "divide 8-bit values by 255."
        )
    if mask.dtype != bool:
        raise TypeError(f"`mask` (dtype {mask.dtype}) must be bool; use `labels > 0`.")
    if probabilities.shape != mask.shape:
        raise ValueError(
            f"`probabilities` (shape {probabilities.shape}) must have the shape of `mask` "
            f"(={mask.shape}); undo padding or cropping first."
        )
    if probabilities.size and not (probabilities.min() >= 0 and probabilities.max() <= 1):
        raise ValueError(
            f"`probabilities` (from {probabilities.min()} to {probabilities.max()}) must lie "
            "between 0 and 1; apply the sigmoid first."
        )
    return probabilities.ravel(), mask.ravel()


@contextmanager
def mask_folder(folder: Path) -> Iterator[MaskWriter]:
    """Give a function that writes masks as PNG; all of them replace `folder` at the end.

    A mask of id "a" becomes `a.png`, 8 bit, 0 = background, 255 = nucleus, in the image's own
    size. After an error the folder is as it was.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as top:
    ...     with mask_folder(Path(top) / "masks") as write_mask:
    ...         _ = write_mask("a", np.array([[True, False]]))
    ...     read_mask(Path(top) / "masks" / "a.png")
    array([[ True, False]])
    """
    part = folder.with_name(f".part-{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)

    def write_mask(name: str, mask: NDArray[np.bool_]) -> None:
        Image.fromarray(mask.astype(np.uint8) * 255).save(part / f"{name}.png", optimize=True)

    try:
        yield write_mask
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_mask(file: Path) -> NDArray[np.bool_]:
    """Return a mask that `mask_folder` has written, (H, W) bool."""
    with Image.open(file) as image:
        return np.asarray(image) > 0
