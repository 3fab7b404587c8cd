"""Masks: how well two agree, how calibrated their probabilities are, and how they lie in files."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MaskWriter = Callable[[str, NDArray[np.bool_]], Any]
"""Takes the id of an image and its mask; made by `mask_folder`."""
EDGES = np.arange(11) / 10
"""Ends of the bins of a `Calibration`. A bin includes its lower end; the last one both."""


class Confusion(NamedTuple):
    """Pixel counts of a predicted mask against the true one; they add up to the pixels."""

    tp: int
    fp: int
    fn: int
    tn: int


class Calibration(NamedTuple):
    """Probabilities against observed foreground, in ten bins of equal width from 0 to 1.

    Made by `calibration`. Bins without pixels have NaN for their mean and fraction and count for
    nothing in the error.

    Attributes
    ----------
    count : int64 array, shape (10,)
        Pixels in each bin.
    probability_sum : float64 array, shape (10,)
        Sum of the probabilities in each bin.
    foreground : int64 array, shape (10,)
        True foreground pixels in each bin.
    """

    count: NDArray[np.int64]
    probability_sum: NDArray[np.float64]
    foreground: NDArray[np.int64]

    @property
    def mean_probability(self):
        """Mean probability of each bin, float64 (10,), 0 to 1; NaN where a bin is empty."""
        return _ratio(self.probability_sum, self.count)

    @property
    def fraction(self):
        """Observed share of foreground in each bin, float64 (10,); NaN where it is empty."""
        return _ratio(self.foreground, self.count)

    @property
    def error(self):
        """Expected calibration error, 0 (calibrated) to 1; NaN when there are no pixels.

        The mean distance between probability and observed fraction, bins weighted by their
        pixels: equation 3 of Guo et al. 2017, https://doi.org/10.48550/arXiv.1706.04599, with
        the probability of foreground in place of the confidence in the likelier class.
        """
        n_pixels = int(self.count.sum())
        if n_pixels == 0:
            return float("nan")
        return float(np.abs(self.probability_sum - self.foreground).sum() / n_pixels)

    def pool(self, other: "Calibration") -> "Calibration":
        """Return the calibration of the pixels of both."""
        return Calibration(*(one + two for one, two in zip(self, other, strict=True)))


def confusion(mask_true, mask_pred) -> Confusion:
    """Return the pixel counts of a predicted mask against the true one.

    Parameters
    ----------
    mask_true, mask_pred : array_like of bool, same shape
        Foreground is True. Integers and floats are refused: a label image or a probability
        map would count wrongly without a word.

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
    mask_true, mask_pred = np.asarray(mask_true), np.asarray(mask_pred)
    _check_bool("mask_true", mask_true)
    _check_bool("mask_pred", mask_pred)
    _check_shapes("mask_pred", mask_pred, "mask_true", mask_true)
    n_true, n_pred = int(np.count_nonzero(mask_true)), int(np.count_nonzero(mask_pred))
    tp = int(np.count_nonzero(mask_true & mask_pred))
    return Confusion(tp, n_pred - tp, n_true - tp, mask_true.size - n_true - n_pred + tp)


def dice(mask_true, mask_pred) -> float:
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
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0


def iou(mask_true, mask_pred) -> float:
    """Return the intersection over union, 0 to 1 (Jaccard index) of two masks.

    Parameters, errors and empty masks as for `dice`.

    References
    ----------
    Jaccard 1912, https://doi.org/10.1111/j.1469-8137.1912.tb05611.x

    Examples
    --------
    >>> iou(np.array([True, True, False]), np.array([True, False, False]))
    0.5
    """
    tp, fp, fn, _ = confusion(mask_true, mask_pred)
    return tp / (tp + fp + fn) if tp + fp + fn else 1.0


def precision(mask_true, mask_pred) -> float:
    """Return the share of predicted foreground that is true, 0 to 1.

    Parameters and errors as for `confusion`. Nothing predicted: 1.0 if nothing was there,
    else 0.0 (undefined; counted as a failure so that an empty prediction is never rewarded).
    """
    tp, fp, fn, _ = confusion(mask_true, mask_pred)
    return tp / (tp + fp) if tp + fp else float(fn == 0)


def recall(mask_true, mask_pred) -> float:
    """Return the share of true foreground that is predicted, 0 to 1.

    Parameters and errors as for `confusion`. Nothing there: 1.0 if nothing was predicted,
    else 0.0 (undefined; counted as a failure, as in `precision`).
    """
    tp, fp, fn, _ = confusion(mask_true, mask_pred)
    return tp / (tp + fn) if tp + fn else float(fp == 0)


def calibration(probabilities, mask) -> Calibration:
    """Return how predicted probabilities of foreground compare with what is there.

    Parameters
    ----------
    probabilities : array_like of float, any shape
        Probability of foreground, 0 to 1.
    mask : array_like of bool, same shape
        Foreground is True.

    Raises
    ------
    TypeError
        If the mask is not bool or the probabilities are not float.
    ValueError
        If the shapes differ or a probability is outside 0 to 1.

    Examples
    --------
    >>> result = calibration(np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 0, 1, 1], bool))
    >>> round(result.error, 3)
    0.1
    """
    probabilities, mask = np.asarray(probabilities), np.asarray(mask)
    if not np.issubdtype(probabilities.dtype, np.floating):
        raise TypeError(
            f"`probabilities` (dtype {probabilities.dtype}) must be float from 0 to 1; "
            "divide 8-bit values by 255."
        )
    _check_bool("mask", mask)
    _check_shapes("probabilities", probabilities, "mask", mask)
    if probabilities.size and not (probabilities.min() >= 0 and probabilities.max() <= 1):
        raise ValueError(
            f"`probabilities` (from {probabilities.min()} to {probabilities.max()}) must lie "
            "between 0 and 1; apply the sigmoid first."
        )
    probabilities, mask = probabilities.ravel(), mask.ravel()
    bins = np.searchsorted(EDGES[1:-1], probabilities, side="right")
    return Calibration(
        np.bincount(bins, minlength=10),
        np.bincount(bins, weights=probabilities, minlength=10),
        np.bincount(bins[mask], minlength=10),
    )


def _ratio(sums, counts):
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def _check_bool(name: str, mask: NDArray) -> None:
    if mask.dtype != bool:
        raise TypeError(
            f"`{name}` (dtype {mask.dtype}) must be bool; compare first, "
            "for example `labels > 0` or `probabilities >= 0.5`."
        )


def _check_shapes(name: str, array: NDArray, other: str, expected: NDArray) -> None:
    if array.shape != expected.shape:
        raise ValueError(
            f"`{name}` (shape {array.shape}) must have the shape of `{other}` "
            f"(={expected.shape}); undo padding or cropping first."
        )


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
