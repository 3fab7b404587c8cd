"""The arithmetic of the program that this series succeeds, faults included.

It is kept here, beside the experiment that measures what it does, and nowhere else. Images in its
arithmetic are float arrays, which the normalisation "scale" hands on as they are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from helpers.training.batches import ORIENTATIONS

if TYPE_CHECKING:
    from helpers.network.prediction import Network
    from helpers.settings import Settings


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


def mirrored_validation(n_images: int, ratio: float) -> list[tuple[int, int]]:
    """Return which image, in which orientation, each item is that that program validates on.

    It appends the mirrored copies of all images, left-right, up-down, then both, and lets Keras
    cut validation off the end of that row. With a ratio of up to 1/4 every item is a mirrored
    copy of an image that it trains on.

    Parameters
    ----------
    n_images : int
        Images before mirroring.
    ratio : float
        `validation_split_ratio`, at least 0 and below 1.

    Returns
    -------
    list of (image, orientation)
        Places among the images, and in `helpers.training.batches.ORIENTATIONS`.

    Examples
    --------
    >>> mirrored_validation(10, 0.1)
    [(6, 3), (7, 3), (8, 3), (9, 3)]
    """
    n_items = len(ORIENTATIONS) * n_images
    first = math.floor(n_items * (1 - ratio))
    return [divmod(item, n_images)[::-1] for item in range(first, n_items)]


RESIZED_PX = 256
"""Height and width to which that program resizes the images that it predicts on."""

INPUTS = {"as trained": None, "cast": cast_input, "raw": raw_input}


class View(NamedTuple):
    """One way to get a mask from a trained network; the defaults are those of this series.

    `inputs`: "as trained", "cast" or "raw". `cast`: whether the output goes through
    `cast_output`. `resized`: whether the image is resized to `RESIZED_PX`, and the mask back,
    instead of keeping its size.
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
        if self.view.resized:
            probabilities = resize(probabilities, shape, order=0)
        return probabilities


class Stage(NamedTuple):
    """An image at one point of its way: (H, W) or (H, W, 3), shown with 0 as black, 1 as white."""

    title: str
    image: NDArray


def trace_image(network: Network, image: NDArray[np.uint8], view: View, *, cast: bool) -> list:
    """Return the stages of `image` on its way to a mask.

    Parameters
    ----------
    network : Network
        Trained on images that went through `cast_input` if `cast`, else on scaled ones.
    view : View
        How a mask is got from it.

    Returns
    -------
    list of Stage
        As stored, as in training, as in prediction, the network's probability, and the mask.
    """
    scaled = np.float32(image / np.iinfo(image.dtype).max)
    trained = cast_input(image) if cast else scaled
    change = INPUTS[view.inputs]
    given = change(image) if change else scaled
    probabilities = ViewedNetwork(network, view._replace(cast=False)).predict(image)
    mask = ViewedNetwork(network, view).predict(image) >= 0.5
    return [
        Stage("as stored", scaled),
        Stage("the network is trained on", trained),
        Stage("and predicts on", given),
        Stage("it answers", probabilities),
        Stage("the mask", mask),
    ]
