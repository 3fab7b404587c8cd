"""Masks and label images.

A label image holds 0 where there is background and one positive number per nucleus.
"""

import numpy as np
from numpy.typing import NDArray


def labels_to_mask(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the foreground: True where any nucleus is.

    Parameters
    ----------
    labels : (H, W) integer array
        Label image, 0 = background.

    Examples
    --------
    >>> labels_to_mask(np.array([[0, 7], [3, 0]]))
    array([[False,  True],
           [ True, False]])
    """
    return _check(labels) > 0


def labels_to_interior(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the nuclei without their rims: pixels whose four neighbours have the same label.

    Touching nuclei come apart by a gap of two pixels; the image's border is no rim. Nuclei
    thinner than three pixels vanish.

    Examples
    --------
    >>> labels_to_interior(np.array([[1, 1, 2, 2], [1, 1, 2, 2], [1, 1, 2, 2]])).astype(int)
    array([[1, 0, 0, 1],
           [1, 0, 0, 1],
           [1, 0, 0, 1]])
    """
    padded = np.pad(_check(labels), 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    same = np.logical_and.reduce([neighbour == centre for neighbour in neighbours])
    return (centre > 0) & same


def _check(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(
            "a label image must be a 2-D array of integers, "
            f"received shape {labels.shape} of {labels.dtype}"
        )
    return labels
