"""Training batches: crops, normalised and varied, the same for the same seed on every machine."""

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from helpers.analysis.modality import find_modalities
from helpers.network.geometry import cut, pad, rescale
from helpers.network.intensities import (
    IntensityRange,
    measure_range,
    normalise,
    to_channels,
)
from helpers.settings import Augmentation, Settings

ORIENTATIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
"""Steps along rows and columns: as is, left-right, up-down, both."""


class View(NamedTuple):
    """Which part of an image a crop shows, and how: see `helpers.network.preprocessing.cut`."""

    start: tuple[float, float] = (0.5, 0.5)
    orientation: int = 0
    turned: bool = False
    scale: float = 1.0


class Batches(keras.utils.PyDataset):
    """Batches of (image, target) for `keras.Model.fit`.

    An item depends on the seed, the epoch and its place alone: a training that was interrupted
    sees the same images after it as it would have seen without.

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, 3) arrays, uint8 or uint16
        Of any sizes; cut or zero-padded to the size of the network's input.
    labels : sequence of (H, W) integer arrays
        Label images, 0 = background.
    settings : Settings
        Give the batch size, the crop's size, normalisation, augmentation and seed.
    augment : bool
        False for validation: every image once, upright, cut in the centre, in order.

    Attributes
    ----------
    epoch : int
        The epoch, from 0, that the next items belong to; the training sets it.
    """

    def __init__(
        self,
        images: Sequence[NDArray],
        labels: Sequence[NDArray],
        settings: Settings,
        *,
        augment: bool = True,
    ):
        super().__init__()
        if len(images) != len(labels) or not len(images):
            raise ValueError(
                f"{len(images)} images and {len(labels)} label images; give one label image for "
                "each image, and at least one"
            )
        self.images, self.labels, self.settings, self.augment = images, labels, settings, augment
        self.epoch = 0
        self.batch_size = settings.training.batch_size
        self.steps = settings.training.steps_per_epoch if augment else None
        self._order = lru_cache(maxsize=2)(self._draw_order)
        self._range = lru_cache(maxsize=None)(self._measure_range)

    @property
    def n_items(self) -> int:
        """Items in one pass over the images: four per image where every orientation is shown."""
        all_flips = self.augment and self.settings.training.augmentation.flips == "all"
        return len(self.images) * (len(ORIENTATIONS) if all_flips else 1)

    def __len__(self) -> int:
        return self.steps or -(-self.n_items // self.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return batch `index`: inputs (n, height, width, channels), and the maps of the target."""
        rng = np.random.default_rng([self.settings.training.seed, self.epoch, index])
        pairs = [self._item(item, rng) for item in self._items(index)]
        inputs, targets = zip(*pairs, strict=True)
        return np.stack(inputs), np.stack(targets)

    def _items(self, index: int) -> list[int]:
        """Return which items make batch `index`; with fixed steps, one pass follows another."""
        if self.steps is None:
            return list(self._order(self.epoch)[index * self.batch_size :][: self.batch_size])
        first = (self.epoch * self.steps + index) * self.batch_size
        places = [divmod(place, self.n_items) for place in range(first, first + self.batch_size)]
        return [self._order(n_pass)[place] for n_pass, place in places]

    def _draw_order(self, n_pass: int) -> NDArray[np.intp]:
        if not self.augment:
            return np.arange(self.n_items)
        rng = np.random.default_rng([self.settings.training.seed, n_pass])
        if not (self.settings.training.balance or self.settings.training.crowding):
            return rng.permutation(self.n_items)
        share = np.tile(self._shares, self.n_items // len(self.images))
        return rng.choice(self.n_items, self.n_items, p=share / share.sum())

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        """How often each image is shown, up to a factor: see `balance` and `crowding`."""
        training = self.settings.training
        modalities = find_modalities(self.images)["modality"]
        shares = (modalities.map(modalities.value_counts()) ** -training.balance).to_numpy()
        if training.crowding:
            n_nuclei = np.array([len(np.unique(labels[labels > 0])) for labels in self.labels])
            shares = shares * np.maximum(n_nuclei, 1) ** training.crowding
        return shares

    def _item(self, item: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        """Return one crop of an image, normalised, and the maps of its nuclei."""
        orientation, index = divmod(item, len(self.images))
        view = self._draw(orientation, rng)
        structure = self.settings.model_structure
        inputs = normalise(self._cut(self.images[index], view, order=1), self._range(index))
        if self.augment:
            reverse = 0.0 if self.settings.preprocessing.normalisation == "standardise" else 1.0
            inputs = vary(inputs, self.settings.training.augmentation, rng, reverse=reverse)
        inputs = to_channels(inputs, structure.input_params.channels)
        maps = self._maps(self._cut(self.labels[index], view, order=0), view)
        return _as_float(self._turn(inputs, view)), _as_float(maps)

    def _draw(self, orientation: int, rng: np.random.Generator) -> View:
        """Return which part of an image to show, and how; what is not asked draws no number."""
        augmentation = self.settings.training.augmentation
        view = View(orientation=orientation)
        if not self.augment:
            return view
        if augmentation.crop == "random":
            view = view._replace(start=tuple(rng.random(2)))
        if augmentation.flips == "random":
            view = view._replace(orientation=int(rng.integers(len(ORIENTATIONS))))
        if augmentation.turns:
            view = view._replace(turned=bool(rng.integers(2)))
        if augmentation.scale > 1:
            view = view._replace(scale=augmentation.scale ** rng.uniform(-1, 1))
        return view

    def _cut(self, array: NDArray, view: View, order: int) -> NDArray:
        """Return the part of an image or label image that `view` shows, in the crop's scale."""
        size = self.settings.model_structure.input_params
        whole = (size.height, size.width)
        # Rounded up: a crop that the image can fill is filled to its last row.
        part = cut(array, *(math.ceil(px / view.scale) for px in whole), start=view.start)
        if view.scale == 1:
            return part
        shape = [
            min(n, max(1, round(px * view.scale))) for n, px in zip(whole, part.shape, strict=False)
        ]
        return rescale(part, tuple(shape), order=order)

    def _turn(self, array: NDArray, view: View) -> NDArray:
        """Return a crop padded to its full size, in the orientation that `view` asks for."""
        size = self.settings.model_structure.input_params
        down, right = ORIENTATIONS[view.orientation]
        array = pad(array, size.height, size.width)[::down, ::right]
        return array.swapaxes(0, 1) if view.turned else array

    def _maps(self, labels: NDArray, view: View) -> NDArray:
        """Return the maps of a crop, turned as the crop is, and background where it is padded.

        Maps come before padding: where an image ends, the network is taught what is true of the
        whole image (for one, the image's border is no rim).
        """
        target = self.settings.model_structure.target
        size = self.settings.model_structure.input_params
        background = target.encode(np.zeros((1, 1), int))
        maps = pad(target.encode(labels) - background, size.height, size.width)
        maps = target.flip(maps + background, *ORIENTATIONS[view.orientation])
        return target.transpose(maps) if view.turned else maps

    def _measure_range(self, index: int) -> IntensityRange:
        return measure_range(self.images[index], self.settings)


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
        Normalised: ground and nuclei somewhere near 0..1.
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


def _as_float(array: NDArray) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)
