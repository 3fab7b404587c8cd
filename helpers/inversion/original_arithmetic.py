"""The arithmetic of the program that this series succeeds, faults included.

It is kept here, beside the experiment that measures what it does, and nowhere else. Images in its
arithmetic are float arrays, which the normalisation "scale" passes on unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

if TYPE_CHECKING:
    from helpers.network.prediction import Network
    from helpers.settings import Settings

RESIZED_PX = 256
"""Height and width to which that program resizes the images that it predicts on."""


def cast_input(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the image as that program trains on it: divided by 255, then cut to whole numbers.

    Examples
    --------
    >>> cast_input(np.array([[0, 254, 255]], np.uint8))
    array([[0., 0., 1.]], dtype=float32)
    """
    return np.uint8(image / np.iinfo(image.dtype).max).astype(np.float32)


def raw_input(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the image as that program predicts on it: 0 to 255, not divided by anything."""
    return image.astype(np.float32)


def cast_output(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities as that program shows them: only exactly 1 is nucleus.

    Examples
    --------
    >>> cast_output(np.array([0.5, 0.9999, 1.0], np.float32))
    array([0., 0., 1.], dtype=float32)
    """
    return np.uint8(probabilities).astype(np.float32)


INPUTS = {"as trained": None, "cast": cast_input, "raw": raw_input}


class View(NamedTuple):
    """One way to get a mask from a trained network; the defaults are those of this series.

    `inputs`: one of `INPUTS`. `cast`: whether the output goes through `cast_output`. `resized`:
    whether the image is resized to `RESIZED_PX`, and the mask back.
    """

    inputs: str = "as trained"
    cast: bool = False
    resized: bool = False


class ViewedNetwork:
    """A trained network, used in one of the ways of `View`; `predict` as `Network` has it."""

    def __init__(self, network: Network, view: View):
        self.network, self.view = network, view

    @property
    def settings(self) -> Settings:
        """The settings of the network itself."""
        return self.network.settings

    def predict(self, image: NDArray) -> NDArray[np.float32]:
        """Return what the program would take for the probability of nucleus, (H, W), 0 to 1."""
        shape = image.shape[:2]
        if self.view.resized:
            image = resize(image, (RESIZED_PX, RESIZED_PX), preserve_range=True).astype(np.uint8)
        change = INPUTS[self.view.inputs]
        probabilities = self.network.predict(change(image) if change else image)
        if self.view.cast:
            probabilities = cast_output(probabilities)
        return resize(probabilities, shape, order=0) if self.view.resized else probabilities
