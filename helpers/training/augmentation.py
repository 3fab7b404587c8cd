"""How a training crop is varied: which part of the image it shows, turned how, in what colours."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter
from skimage.color import hed_from_rgb, rgb_from_hed
from skimage.segmentation import clear_border

from helpers.settings import Augmentation

ORIENTATIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
"""Steps along rows and columns: as is, left-right, up-down, both."""
GAINS = (0.3, 1.4)
"""Brightness that a single nucleus is multiplied by: mostly dimmed, as the dim ones are missed."""
COVERED = 0.3
"""Share of a pasted nucleus that may lie on others."""
DYED, RECOLOURED = 0.6, 0.3
"""Share of the crops whose dyes change, and of these whose blue turns brown, or whose ground does
not take eosin."""
FAINTEST = 1 / 255
"""Light below which nothing passes a stain: the darkest but black of 8 bit."""


class View(NamedTuple):
    """Which part of an image a crop shows, and how; `start` as in `helpers.network.geometry.cut`.

    `orientation` is a place in `ORIENTATIONS`; `turned` crops are transposed after that.
    """

    start: tuple[float, float] = (0.5, 0.5)
    orientation: int = 0
    turned: bool = False
    scale: float = 1.0


def draw_view(
    augmentation: Augmentation,
    rng: np.random.Generator,
    orientation: int = 0,
    diameter_px: float | None = None,
) -> View:
    """Return a random view; what the settings do not ask for draws no random number.

    `diameter_px` is the median diameter of the image's nuclei, which `diameters_px` limits.
    """
    view = View(orientation=orientation)
    if augmentation.crop == "random":
        view = view._replace(start=tuple(rng.random(2)))
    if augmentation.flips == "random":
        view = view._replace(orientation=int(rng.integers(len(ORIENTATIONS))))
    if augmentation.turns:
        view = view._replace(turned=bool(rng.integers(2)))
    if augmentation.scale > 1:
        view = view._replace(scale=augmentation.scale ** rng.uniform(-1, 1))
    if augmentation.diameters_px and diameter_px:
        limits = np.divide(augmentation.diameters_px, diameter_px)
        view = view._replace(scale=float(np.clip(view.scale, *limits)))
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
        `gamma`, `gray`, `stain`, `intensity`, `invert`, `blur` and `noise` are applied in this
        order; what is 0 (`gamma`: 1) draws no random number.
    reverse : float
        The sum of a value and its negative: 1 for values in 0..1, 0 for values around 0.
    """
    if augmentation.gamma > 1:
        exponent = np.float32(augmentation.gamma ** rng.uniform(-1, 1))
        inputs = np.sign(inputs) * np.abs(inputs) ** exponent
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


def change_brightness(
    inputs: NDArray[np.float32],
    labels: NDArray[np.integer],
    share: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return a normalised crop; in half of the draws a `share` of its nuclei is dimmer or brighter.

    Each of them by a factor of its own (`GAINS`), from the mean of what is no nucleus, with a soft
    edge. After MEDIAR (Lee et al. 2022, https://openreview.net/forum?id=iIeVXA2bzYo).
    """
    if rng.random() < 0.5:
        return inputs
    n_labels = int(labels.max()) + 1
    gains = np.exp(rng.uniform(*np.log(GAINS), n_labels)).astype(np.float32)
    gains[rng.random(n_labels) >= share] = 1
    gains[0] = 1
    gain = uniform_filter(gains[labels], 3, mode="nearest")
    ground = inputs[labels == 0].mean(axis=0) if (labels == 0).any() else np.float32(0)
    return ground + (inputs - ground) * (gain if inputs.ndim == 2 else gain[..., None])


def paste_nuclei(
    inputs: NDArray[np.float32], labels: NDArray[np.integer], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
    """Return a crop, and its labels, with about half of its nuclei a second time elsewhere.

    The crop is mirrored or not and shifted by up to .6 of its size; nuclei that the crop cuts, or
    of which more than `COVERED` would lie on others, are left out; the seam is softened.
    """
    shift = [round(px * rng.uniform(-0.6, 0.6)) for px in labels.shape]
    down = -1 if rng.random() < 0.5 else 1
    is_chosen = rng.random(int(labels.max()) + 1) < 0.5
    is_chosen[0] = False
    whole = clear_border(labels)
    moved = _shift(np.where(is_chosen[whole], whole, 0)[::down], shift)
    area = np.bincount(moved.ravel(), minlength=len(is_chosen))
    covered = np.bincount(moved.ravel(), labels.ravel() > 0, minlength=len(is_chosen))
    is_free = covered <= COVERED * area
    is_free[0] = False
    moved = np.where(is_free[moved], moved, 0)
    alpha = uniform_filter((moved > 0).astype(np.float32), 3)
    alpha = alpha if inputs.ndim == 2 else alpha[..., None]
    inputs = inputs + alpha * (_shift(inputs[::down], shift) - inputs)
    return inputs, np.where(moved > 0, moved + labels.max(), labels)


def _shift(array: NDArray, shift: list[int]) -> NDArray:
    """Return `array` moved down and right by `shift` pixels, zeros following."""
    moved = np.zeros_like(array)
    to = tuple(slice(max(0, s), n + min(0, s)) for s, n in zip(shift, array.shape, strict=False))
    of = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(shift, array.shape, strict=False))
    moved[to] = array[of]
    return moved


def change_dyes(
    light: NDArray[np.float32], strength: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return a crop of stained tissue as if its dyes were others, or of other amounts.

    Parameters
    ----------
    light : (H, W, 3) float32 array, 0 to 1
        What passes the tissue.
    strength : float, 0 to 1
        By how much the logarithm of each dye's amount, and its hue, may change.

    The amounts of haematoxylin, eosin and diaminobenzidine are those of Ruifrok & Johnston 2001
    (Anal. Quant. Cytol. Histol. 23, 291-299), as in `skimage.color.rgb2hed`; in some crops
    haematoxylin takes a hue between its own and brown, or eosin one between its own and blue.
    """
    if rng.random() >= DYED:
        return light
    blue, _, brown = rgb_from_hed
    amounts = -np.log(np.maximum(light, FAINTEST)) @ hed_from_rgb.astype(np.float32)
    amounts *= np.exp(strength * rng.uniform(-1, 1, 3)).astype(np.float32)
    hues = rgb_from_hed + 0.3 * strength * rng.uniform(-1, 1, (3, 3))
    mixed = rng.random(2)
    is_other = rng.random(2) < RECOLOURED
    hues[0] = mixed[0] * brown + (1 - mixed[0]) * blue if is_other[0] else hues[0]
    hues[1] = mixed[1] * blue + (1 - mixed[1]) * hues[1] if is_other[1] else hues[1]
    hues = np.maximum(hues, 0.01)
    lengths = np.linalg.norm(rgb_from_hed, axis=1, keepdims=True)
    hues *= lengths / np.linalg.norm(hues, axis=1, keepdims=True)
    return np.exp(-amounts @ hues.astype(np.float32))
