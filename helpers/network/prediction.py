"""From a saved network and an image of any size to its maps, its mask and its nuclei."""

import itertools
import logging
import math
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from helpers.data.reading import check_image
from helpers.network import geometry
from helpers.network.geometry import pad_to_multiple, rescale, tiles
from helpers.network.intensities import network_input
from helpers.network.saving import load_model, read_settings
from helpers.network.unet import build_unet
from helpers.settings import Settings
from helpers.targets import Target
from helpers.targets.base import keep_seen

# Images of many sizes mean as many traces, and TensorFlow warns of each from the fifth on.
logging.getLogger("tensorflow").addFilter(lambda record: "retracing" not in record.getMessage())


class Look(NamedTuple):
    """How an image is shown to the network: enlarged, and mirrored along rows and columns."""

    scale: float = 1.0
    down: int = 1  # steps along rows and columns: -1 mirrors
    right: int = 1


LOOKS = {
    "none": [Look()],
    "flips": [Look(1.0, *way) for way in itertools.product((1, -1), (1, -1))],
    "scales": [Look(), Look(1.5, right=-1)],
}
"""The looks of each `test_time_augmentation`. An enlarged image costs as its pixels do: "scales"
3.25 times as much as "none", "flips" 4 times."""


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

    @property
    def target(self) -> Target:
        """What the network answers."""
        return self.settings.model_structure.target

    def predict(self, image: NDArray) -> NDArray[np.float32]:
        """Return the probability of nucleus at every pixel, (H, W) float32 in 0..1.

        Parameters
        ----------
        image : (H, W) or (H, W, 3) array of uint8, uint16 or float in 0..1
            Of any size; nothing is resized.

        Raises
        ------
        ValueError
            If the image has another shape or type, or holds NaN.
        """
        return self.target.foreground(self.predict_maps(image))

    def predict_maps(self, image: NDArray) -> NDArray[np.float32]:
        """Return the maps of the network's target, (H, W, n_channels) float32.

        `image` as `predict` takes it; the mean over `LOOKS` of `test_time_augmentation`.
        """
        inputs = network_input(image, self.settings)
        looks = LOOKS[self.settings.postprocessing.test_time_augmentation]
        return np.mean([self._look(inputs, look) for look in looks], axis=0)

    def _look(self, inputs: NDArray, look: Look) -> NDArray[np.float32]:
        """Return the maps of one look, brought back to the size and the way of the image."""
        shape = inputs.shape[:2]
        scaled = rescale(inputs, tuple(round(px * look.scale) for px in shape))
        maps = self._predict_maps(scaled[:: look.down, :: look.right])
        return rescale(self.target.flip(maps, look.down, look.right), shape)

    def segment(self, image: NDArray, *, scale: float = 1.0) -> NDArray[np.int32]:
        """Return the label image of `image`, (H, W) int32: 0 = background, nuclei from 1 to N.

        Parameters
        ----------
        image : (H, W) or (H, W, 3) array of uint8, uint16 or float in 0..1
        scale : float above 0
            The image is enlarged by this factor before the network sees it, and the labels are
            reduced to its own size; for nuclei much smaller or larger than those of the training.

        Raises
        ------
        ValueError
            As `predict`; or if the scale is not above 0.
        """
        return self.find(image, scale=scale)[0]

    def find(
        self, image: NDArray, *, scale: float = 1.0, least: float | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Return what `segment` does, and the score of each nucleus, (N,) 0 to 1.

        `least` is the score from which a nucleus stays; None takes that of the settings.
        """
        if not 0 < scale < math.inf:
            raise ValueError(
                f"`scale` (={scale}) must be a number above 0; 1 leaves the image as it is"
            )
        image = check_image(image)
        shape = image.shape[:2]
        scaled = rescale(image, tuple(max(1, round(px * scale)) for px in shape))
        maps = self.predict_maps(scaled)
        labels, scores = self.target.find(maps, self.settings.postprocessing, least)
        return keep_seen(rescale(labels, shape, order=0), scores)

    def _predict_maps(self, inputs: NDArray) -> NDArray[np.float32]:
        """Return the maps of inputs of any size, in one piece or in tiles."""
        padded, inside = pad_to_multiple(inputs, self.settings.model_structure.size_multiple)
        is_large = max(padded.shape[:2]) > geometry.TILE_PX + 2 * geometry.HALO_PX
        predict = self._predict_tiles if is_large else self._predict_whole
        return predict(padded)[inside]

    def _predict_whole(self, inputs: NDArray) -> NDArray[np.float32]:
        return np.asarray(self.model.predict_on_batch(inputs[None]))[0]

    def _predict_tiles(self, inputs: NDArray) -> NDArray[np.float32]:
        height, width = inputs.shape[:2]
        maps = np.empty((height, width, len(self.target.channels)), np.float32)
        multiple = self.settings.model_structure.size_multiple
        for rows, columns in itertools.product(
            tiles(height, multiple[0]), tiles(width, multiple[1])
        ):
            predicted = self._predict_whole(inputs[rows.halo, columns.halo])
            maps[rows.own, columns.own] = predicted[rows.inner, columns.inner]
        return maps


def load_network(file: str | Path, *, precision: str = "float32") -> Network:
    """Return the network that a run has saved as `network.keras`, ready to predict."""
    file = Path(file)
    settings = read_settings(file)  # first, as it says clearly what is wrong with a damaged file
    return Network(load_model(file), settings, precision=precision)
