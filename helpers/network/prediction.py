"""From a saved network and an image of any size to the probability that a pixel is nucleus."""

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from helpers.network.archives import load_model, read_settings
from helpers.network.preprocessing import crop_padding, network_input, pad_to_multiple
from helpers.network.unet import build_unet
from helpers.settings import Settings

TILE_PX, HALO_PX = 1024, 128
"""Larger images go through in tiles of `TILE_PX`, each with `HALO_PX` of its neighbours around."""


class Network:
    """A trained network with the settings it was trained with: give it an image, get a map.

    Parameters
    ----------
    model : keras.Model
        Built from `settings`, trained.
    precision : str
        The Keras dtype policy to predict in; see `helpers.training.devices.choose_device`.
    """

    def __init__(self, model: keras.Model, settings: Settings, *, precision: str = "float32"):
        self.settings = settings
        self.model = build_unet(settings, free_size=True, precision=precision)
        self.model.set_weights(model.get_weights())
        self.model.compile(jit_compile=False)

    def predict(self, image: NDArray) -> NDArray[np.float32]:
        """Return the probability of nucleus at every pixel.

        Parameters
        ----------
        image : (H, W) or (H, W, 3) array of uint8, uint16 or float in 0..1
            Of any size; nothing is resized. The image is mirrored at its edges up to a size that
            the poolings divide, and the margin is cut off again.

        Returns
        -------
        (H, W) float32 array in 0..1

        Raises
        ------
        ValueError
            If the image has another shape or type, or holds NaN.
        """
        inputs = network_input(image, self.settings)
        padded, padding = pad_to_multiple(inputs, self.settings.model_structure.size_multiple)
        if max(padded.shape[:2]) > TILE_PX + 2 * HALO_PX:
            return crop_padding(self._predict_tiles(padded), padding)
        return crop_padding(self._predict_whole(padded), padding)

    def _predict_whole(self, inputs: NDArray) -> NDArray[np.float32]:
        return np.asarray(self.model.predict_on_batch(inputs[None]))[0, ..., 0]

    def _predict_tiles(self, inputs: NDArray) -> NDArray[np.float32]:
        probabilities = np.empty(inputs.shape[:2], np.float32)
        multiple = self.settings.model_structure.size_multiple
        for rows, rows_halo in tiles(inputs.shape[0], multiple[0]):
            for columns, columns_halo in tiles(inputs.shape[1], multiple[1]):
                predicted = self._predict_whole(inputs[rows_halo, columns_halo])
                inner = tuple(
                    slice(own.start - halo.start, own.stop - halo.start)
                    for own, halo in ((rows, rows_halo), (columns, columns_halo))
                )
                probabilities[rows, columns] = predicted[inner]
        return probabilities


def tiles(length: int, multiple: int) -> Iterator[tuple[slice, slice]]:
    """Yield, along one axis, each tile's own pixels and the same with its halo.

    Own pixels cover 0..`length` once; the parts with halo have a size that is a multiple of
    `multiple`, as `length` must be.

    Examples
    --------
    >>> list(tiles(64, 32))
    [(slice(0, 64, None), slice(0, 64, None))]
    """
    tile, halo = (-(-px // multiple) * multiple for px in (TILE_PX, HALO_PX))
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        yield slice(start, stop), slice(max(0, start - halo), min(length, stop + halo))


def load_network(file: str | Path, *, precision: str = "float32") -> Network:
    """Return the network that a run has saved as `network.keras`, ready to predict."""
    file = Path(file)
    settings = read_settings(file)  # first, as it says clearly what is wrong with a damaged file
    return Network(load_model(file), settings, precision=precision)
