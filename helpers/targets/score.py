"""How likely each nucleus is right: what a flow network's maps say of it, and a score of that.

After the error of the flow by which Stringer et al. 2021, doi:10.1038/s41592-020-01018-x, drop
nuclei: a network that is wrong about a nucleus seldom points to the centre of what it outlined.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

FEATURES = ("flow_error", "flow_length", "probability", "size", "odd_size")
"""What `describe_nuclei` says of a nucleus, in the order of its columns.

flow_error: logarithm of the mean squared difference between the flow and the direction to the
nucleus's own centre. flow_length: mean length of the flow, short where the network is unsure.
probability: logit of the mean probability. size: logarithm of the area as a multiple of the
typical one, at which smaller nuclei make up half of all pixels found; odd_size: its absolute value.
"""
LEAST = 1e-3
"""Added to errors, and kept from 0 and 1 by probabilities, so that logarithms stay finite."""


def describe_nuclei(maps: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return `FEATURES` of every nucleus, (N, n_features).

    Parameters
    ----------
    maps : (H, W, 3) array of float
        Probability of nucleus and flow, down and right, as a network of the target "flow" answers.
    labels : (H, W) integer array
        Nuclei from 1 to N without gaps, 0 = background.

    Examples
    --------
    >>> labels = np.array([[1, 1, 1, 0]])
    >>> maps = np.array([[[0.9, 0, 1], [0.9, 0, 0], [0.9, 0, -1], [0, 0, 0]]])
    >>> describe_nuclei(maps, labels).round(2).tolist()
    [[-6.91, 0.67, 2.2, 0.0, 0.0]]
    """
    flat = np.flatnonzero(labels)
    number = labels.ravel()[flat] - 1
    areas = np.bincount(number).astype(float)

    def mean(values: NDArray) -> NDArray:
        return np.bincount(number, values) / areas

    inside = maps.reshape(-1, maps.shape[-1])[flat]
    flow = inside[:, 1:].T
    places = np.stack(np.divmod(flat, labels.shape[1])).astype(np.float32)
    to_centre = np.stack([mean(axis)[number] for axis in places]) - places
    to_centre /= np.maximum(np.hypot(*to_centre), 1)
    error = mean(((flow - to_centre) ** 2).sum(axis=0))
    probability = np.clip(mean(inside[:, 0]), LEAST, 1 - LEAST)
    size = np.log(areas / typical_area(areas))
    length = mean(np.hypot(*flow))
    logit = np.log(probability / (1 - probability))
    return np.stack([np.log(error + LEAST), length, logit, size, np.abs(size)], axis=1)


def typical_area(areas: NDArray, weights: NDArray | None = None) -> float:
    """Return the area at which smaller nuclei make up half of all `weights`, by default pixels.

    Specks hardly count. NaN where there are no nuclei.
    """
    if not len(areas):
        return np.nan
    order = np.argsort(areas)
    covered = np.cumsum((areas if weights is None else weights)[order])
    return float(areas[order][np.searchsorted(covered, covered[-1] / 2)])


def apply_model(
    features: NDArray[np.floating], intercept: float, weights: Mapping[str, float]
) -> NDArray[np.float64]:
    """Return the probabilities, (N,) 0 to 1, of a logistic model of `FEATURES`; others weigh 0."""
    chosen = np.array([weights.get(name, 0.0) for name in FEATURES])
    return 1 / (1 + np.exp(-(intercept + features @ chosen)))
