"""Training batches: crops, mirrored and normalised, the same for the same seed on every machine."""

from collections.abc import Sequence
from functools import lru_cache

import keras
import numpy as np
from numpy.typing import NDArray

from helpers.data.labels import labels_to_target
from helpers.network.preprocessing import (
    IntensityRange,
    cut,
    intensity_range,
    normalise,
    pad,
    to_channels,
)
from helpers.settings import Settings

ORIENTATIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
"""Steps along rows and columns: as is, left-right, up-down, both."""


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
        self, images: Sequence[NDArray], labels: Sequence[NDArray], settings: Settings, *,
        augment: bool = True,
    ):  # fmt: skip
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
        """Return batch `index`: inputs (n, height, width, channels), targets of one channel."""
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
        return np.random.default_rng([self.settings.training.seed, n_pass]).permutation(
            self.n_items
        )

    def _item(self, item: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        """Return one crop of an image, normalised, and its target."""
        orientation, index = divmod(item, len(self.images))
        start, orientation = self._draw(orientation, rng)
        structure = self.settings.model_structure
        size = (structure.input_params.height, structure.input_params.width)
        image = cut(self.images[index], *size, start=start)
        inputs = to_channels(normalise(image, self._range(index)), structure.input_params.channels)
        labels = cut(self.labels[index], *size, start=start)
        target = labels_to_target(labels, structure.output_params.target)[..., None]
        down, right = ORIENTATIONS[orientation]
        return tuple(_as_float(pad(x, *size)[::down, ::right]) for x in (inputs, target))

    def _draw(self, orientation: int, rng) -> tuple[tuple[float, float], int]:
        """Return where to cut and which orientation to show."""
        augmentation = self.settings.training.augmentation
        start = (0.5, 0.5)
        if self.augment and augmentation.crop == "random":
            start = tuple(rng.random(2))
        if self.augment and augmentation.flips == "random":
            orientation = int(rng.integers(len(ORIENTATIONS)))
        return start, orientation

    def _measure_range(self, index: int) -> IntensityRange:
        return intensity_range(self.images[index], self.settings.preprocessing.normalisation)


def _as_float(array: NDArray) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)
