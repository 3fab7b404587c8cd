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
    """Pixel counts of a predicted mask against the true one, and the scores that they give."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def dice(self):
        """Dice coefficient, 0 to 1; 1.0 where both masks are empty."""
        return _share(2 * self.tp, self.fp + self.fn, True)

    @property
    def iou(self):
        """Intersection over union, 0 to 1; 1.0 where both masks are empty."""
        return _share(self.tp, self.fp + self.fn, True)

    @property
    def precision(self):
        """Share of predicted foreground that is true; with none, 1.0 if none was there, else 0.0.

        Undefined there, it counts as a failure, so that an empty prediction is never rewarded.
        """
        return _share(self.tp, self.fp, self.fn == 0)

    @property
    def recall(self):
        """Share of true foreground that is predicted; with none, as `precision`."""
        return _share(self.tp, self.fn, self.fp == 0)


def _share(right: int, wrong: int, empty: bool) -> float:
    return right / (right + wrong) if right + wrong else float(empty)


class Calibration(NamedTuple):
    """Probabilities against observed foreground, in ten bins of equal width from 0 to 1.

    Made by `calibration`: pixels, sum of their probabilities and true foreground pixels in each
    bin. Bins without pixels have NaN for their mean and fraction and no part in the error.
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

        Equation 3 of Guo et al. 2017, https://doi.org/10.48550/arXiv.1706.04599, with the
        probability of foreground in place of the confidence in the likelier class.
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
        Foreground is True.

    Raises
    ------
    TypeError
        If a mask is not bool: label images and probabilities would be counted wrongly.
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

    Parameters and errors as for `confusion`. Both masks empty: 1.0, for they agree. Dice 1945,
    https://doi.org/10.2307/1932409; Sørensen 1948, Biologiske Skrifter 5(4), 1-34.

    Examples
    --------
    >>> dice(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    return confusion(mask_true, mask_pred).dice


def iou(mask_true, mask_pred) -> float:
    """Return the intersection over union, 0 to 1, of two masks.

    Parameters, errors and empty masks as for `dice`. Jaccard 1912,
    https://doi.org/10.1111/j.1469-8137.1912.tb05611.x

    Examples
    --------
    >>> iou(np.array([True, True, False]), np.array([True, False, False]))
    0.5
    """
    return confusion(mask_true, mask_pred).iou


def calibration(probabilities, mask) -> Calibration:
    """Return how predicted probabilities of foreground compare with what is there.

    `probabilities` are floats of any shape, 0 to 1, `mask` is bool of the same shape.

    Raises
    ------
    TypeError, ValueError
        If a type, a shape or a probability is another.

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
