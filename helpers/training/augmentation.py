"""How a training crop is varied: which part of the image it shows, turned how, in what colours."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from helpers.settings import Augmentation

ORIENTATIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
"""Steps along rows and columns: as is, left-right, up-down, both."""


class View(NamedTuple):
    """Which part of an image a crop shows, and how; `start` as in `helpers.network.geometry.cut`.

    `orientation` is a place in `ORIENTATIONS`; `turned` crops are transposed after that.
    """

    start: tuple[float, float] = (0.5, 0.5)
    orientation: int = 0
    turned: bool = False
    scale: float = 1.0


def draw_view(augmentation: Augmentation, rng: np.random.Generator, orientation: int = 0) -> View:
    """Return a random view; what the settings do not ask for draws no random number."""
    view = View(orientation=orientation)
    if augmentation.crop == "random":
        view = view._replace(start=tuple(rng.random(2)))
    if augmentation.flips == "random":
        view = view._replace(orientation=int(rng.integers(len(ORIENTATIONS))))
    if augmentation.turns:
        view = view._replace(turned=bool(rng.integers(2)))
    if augmentation.scale > 1:
        view = view._replace(scale=augmentation.scale ** rng.uniform(-1, 1))
    return view


def vary(
    inputs: NDArray[np.float32],
    augmentation: Augmentation,
    rng: np.random.Generator,
    *,
    reverse: float = 1.0,
) -> NDArray[np.float32]:
    """Return a normalised crop in other colours and intensities, as the settings ask for.

    Parameters
    ----------
    inputs : (H, W) or (H, W, 3) float32 array
        Normalised: background and nuclei somewhere near 0..1.
    augmentation : Augmentation
        `gray`, `stain`, `intensity`, `invert`, `blur` and `noise` are applied in this order; what
        is 0 draws no random number.
    reverse : float
        The sum of a value and its negative: 1 for values in 0..1, 0 for values around 0.
    """
    if augmentation.gray and rng.random() < augmentation.gray and inputs.ndim == 3:
        inputs = np.broadcast_to(inputs.mean(axis=2, keepdims=True), inputs.shape)
    if augmentation.stain and inputs.ndim == 3:
        inputs = _stretch(inputs, augmentation.stain, rng, size=3)
    if augmentation.intensity:
        inputs = _stretch(inputs, augmentation.intensity, rng, size=1)
    if augmentation.invert and rng.random() < augmentation.invert:
        inputs = np.float32(reverse) - inputs
    if augmentation.blur:
        sigma = rng.uniform(0, augmentation.blur)
        inputs = gaussian_filter(inputs, (sigma, sigma, 0)[: inputs.ndim])
    if augmentation.noise:
        strength = np.float32(rng.uniform(0, augmentation.noise))
        inputs = inputs + strength * rng.standard_normal(inputs.shape, np.float32)
    return inputs


def _stretch(inputs: NDArray, strength: float, rng: np.random.Generator, *, size: int) -> NDArray:
    """Return `inputs` with contrast changed by up to `strength` and shifted by half as much."""
    gain, shift = rng.uniform(-strength, strength, (2, size)).astype(np.float32)
    return inputs * (1 + gain) + shift / 2
