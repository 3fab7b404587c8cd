"""Variants of one training, each different from another in a single thing, and ways to predict.

The arithmetic of the program that this series succeeds is kept here, faults included, and nowhere
else. Images in its arithmetic are float arrays, which the normalisation "scale" passes on
unchanged.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from helpers.analysis.modality import MODALITIES, display_name
from helpers.architecture import nearest
from helpers.settings import Settings

if TYPE_CHECKING:
    from helpers.network.prediction import Network

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


def cast_output(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities as that program shows them: only exactly 1 is nucleus.

    Examples
    --------
    >>> cast_output(np.array([0.5, 0.9999, 1.0], np.float32))
    array([0., 0., 1.], dtype=float32)
    """
    return np.uint8(probabilities).astype(np.float32)


INPUTS = {"as trained": np.asarray, "cast": cast_input, "raw": np.float32}
"""What is done to an image before a trained network predicts on it; "raw" divides by nothing."""


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

    def __init__(self, network: "Network", view: View):
        self.network, self.view, self.settings = network, view, network.settings

    def predict(self, image: NDArray) -> NDArray[np.float32]:
        """Return what the program would take for the probability of nucleus, (H, W), 0 to 1."""
        shape = image.shape[:2]
        if self.view.resized:
            image = resize(image, (RESIZED_PX, RESIZED_PX), preserve_range=True).astype(np.uint8)
        probabilities = self.network.predict(INPUTS[self.view.inputs](image))
        if self.view.cast:
            probabilities = cast_output(probabilities)
        return resize(probabilities, shape, order=0) if self.view.resized else probabilities


OURS = {"ours": View()}


class Variant(NamedTuple):
    """One way to train a network, and the ways to look at what it predicts.

    `name` is also that of its folder. It differs from another variant in one thing, `what`:
    `changes` of values in the settings file, by their dotted names; the `modalities` that it is
    trained on; or what is done to `prepare` every image. `views` are the ways to predict with it.
    """

    name: str
    differs_from: str
    what: str
    changes: Mapping[str, Any] = MappingProxyType({})
    modalities: tuple[str, ...] = MODALITIES
    prepare: Callable[[NDArray], NDArray] = np.asarray
    views: Mapping[str, View] = OURS

    def settings(self, base: Settings) -> Settings:
        """Return `base` with this variant's changes, and no callback that could end it earlier."""
        return base.without_callbacks().with_overrides(self.changes)


ORIGINAL_VIEWS = {
    "original": View("raw", cast=True, resized=True),
    "own size": View("raw", cast=True),
    "threshold": View("raw"),
    "same inputs": View("cast"),
}
"""From the original's way to ours, one step at a time, with the same trained network."""
SCALED_VIEWS = OURS | {"raw inputs": View("raw"), "cast output": View(cast=True)}
"""Ours, and with one of the original's faults in the prediction alone."""

STEPS = {
    "the original program": ("original", "original"),
    "image keeps its size": ("original", "own size"),
    "nucleus from probability 0.5": ("original", "threshold"),
    "same inputs as in training": ("original", "same inputs"),
    "inputs scaled to 0..1": ("scaled", "ours"),
}
"""From the original's arithmetic to ours: each step repairs one thing more."""

TISSUE = tuple(modality for modality in MODALITIES if modality.endswith("tissue"))


def _without(*modalities: str) -> tuple[str, ...]:
    return tuple(modality for modality in MODALITIES if modality not in modalities)


_NO_TISSUE = _without(*TISSUE)
_DARK_GROUND = {"preprocessing.polarity": "dark_ground"}
_PERCENTILE = {"preprocessing.normalisation": "percentile"}
_REVERSED, _RANGE = "bright ground reversed before the network", "intensities by percentile"

_LIST = [
    Variant("original", "", "the original's arithmetic", prepare=cast_input, views=ORIGINAL_VIEWS),
    Variant("scaled", "original", "inputs scaled to 0..1", views=SCALED_VIEWS),
    *(
        Variant(name, "scaled", what, changes)
        for name, what, changes in (
            ("balanced", "every modality shown equally often", {"training.balance": 1.0}),
            ("inverted_half", "half of the crops reversed", {"augmentation.invert": 0.5}),
            ("percentile", _RANGE, _PERCENTILE),
            ("dark_ground", _REVERSED, _DARK_GROUND),
            ("gray_half", "half of the crops without colour", {"augmentation.gray": 0.5}),
        )
    ),
    Variant("without_tissue", "scaled", "no tissue in training", modalities=_NO_TISSUE),
    Variant("dark_ground_without_tissue", "without_tissue", _REVERSED, _DARK_GROUND, _NO_TISSUE),
    Variant(
        "black_ground_without_tissue",
        "dark_ground_without_tissue",
        _RANGE,
        _DARK_GROUND | _PERCENTILE,
        _NO_TISSUE,
    ),
    *(
        Variant(f"only_{one}", "scaled", f"{display_name(one)} images alone", modalities=(one,))
        for one in MODALITIES
    ),
    *(
        Variant(f"without_{one}", "scaled", f"no {display_name(one)}", modalities=_without(one))
        for one in MODALITIES
    ),
]
VARIANTS = {variant.name: variant for variant in _LIST}


def choose_variants(names: str) -> list[Variant]:
    """Return the variants named in a text such as "original,scaled"; "all" means every one.

    Raises
    ------
    ValueError
        If a name is none of `VARIANTS`, or none is given.
    """
    if names.strip() == "all":
        return list(VARIANTS.values())
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    allowed = f"give 'all' or some of: {', '.join(VARIANTS)}"
    if not chosen:
        raise ValueError(f"`variants` (={names!r}) names none; {allowed}")
    for name in chosen:
        if name not in VARIANTS:
            raise ValueError(
                f"there is no variant {name!r}; {nearest(name, list(VARIANTS))}{allowed}"
            )
    return [VARIANTS[name] for name in dict.fromkeys(chosen)]
