"""Training batches: crops, normalised and varied, the same for the same seed on every machine."""

import math
from collections.abc import Sequence
from functools import cache, cached_property, lru_cache

import keras
import numpy as np
from numpy.typing import NDArray

from helpers.analysis.modality import find_modalities
from helpers.network.geometry import cut, pad, rescale
from helpers.network.intensities import measure_range, normalise, to_channels
from helpers.settings import Settings
from helpers.training.augmentation import (
    ORIENTATIONS,
    View,
    change_brightness,
    change_dyes,
    draw_view,
    paste_nuclei,
    vary,
)


class Batches(keras.utils.PyDataset):
    """Batches of (image, target) for `keras.Model.fit`; they depend on seed, epoch and place alone.

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
        self._range = cache(lambda index: measure_range(images[index], settings))
        self._diameter = cache(self._measure_diameter)

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
        augmentation = self.settings.training.augmentation
        view = View()
        if self.augment:
            view = draw_view(augmentation, rng, orientation, self._diameter(index))
        crop = self._cut(self.images[index], view, order=1)
        labels = self._cut(self.labels[index], view, order=0)
        if self.augment and augmentation.dyes and crop.ndim == 3 and self._range(index).scale < 0:
            white = np.float32(np.iinfo(crop.dtype).max)
            crop = white * change_dyes(crop.astype(np.float32) / white, augmentation.dyes, rng)
        inputs = normalise(crop, self._range(index))
        if self.augment and augmentation.nuclei:
            inputs = change_brightness(inputs, labels, augmentation.nuclei, rng)
        if self.augment and augmentation.paste and rng.random() < augmentation.paste:
            inputs, labels = paste_nuclei(inputs, labels, rng)
        if self.augment:
            reverse = 0.0 if self.settings.preprocessing.normalisation == "standardise" else 1.0
            inputs = vary(inputs, augmentation, rng, reverse=reverse)
        inputs = to_channels(inputs, self.settings.model_structure.input_params.channels)
        return _as_float(self._turn(inputs, view)), _as_float(self._maps(labels, view))

    def _measure_diameter(self, index: int) -> float | None:
        """Return the median diameter of an image's nuclei in pixels, if anything asks for it."""
        areas = np.bincount(self.labels[index].ravel())[1:]
        if self.settings.training.augmentation.diameters_px is None or not areas.any():
            return None
        return float(np.median(2 * np.sqrt(areas[areas > 0] / np.pi)))

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

        Made before padding: an image's border is not a rim.
        """
        target = self.settings.model_structure.target
        size = self.settings.model_structure.input_params
        background = target.encode(np.zeros((1, 1), int))
        maps = pad(target.encode(labels) - background, size.height, size.width)
        maps = target.flip(maps + background, *ORIENTATIONS[view.orientation])
        return target.transpose(maps) if view.turned else maps


def _as_float(array: NDArray) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)
