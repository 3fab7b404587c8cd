"""The variants of the experiment: each differs from another one in a single thing."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from numpy.typing import NDArray

from helpers.analysis.modality import MODALITIES, display_name
from helpers.architecture import nearest
from helpers.inversion.original_arithmetic import View, cast_input
from helpers.settings import Settings

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
    prepare: Callable[[NDArray], NDArray] | None = None
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

_ARITHMETIC = [
    Variant("original", "", "the original's arithmetic", prepare=cast_input, views=ORIGINAL_VIEWS),
    Variant("scaled", "original", "inputs scaled to 0..1", views=SCALED_VIEWS),
]
_TRAINING = [
    Variant(name, "scaled", what, changes)
    for name, what, changes in (
        ("balanced", "every modality shown equally often", {"training.balance": 1.0}),
        ("inverted_half", "half of the crops reversed", {"augmentation.invert": 0.5}),
        ("percentile", _RANGE, _PERCENTILE),
        ("dark_ground", _REVERSED, _DARK_GROUND),
        ("gray_half", "half of the crops without colour", {"augmentation.gray": 0.5}),
    )
]
_POLARITY = [
    Variant("without_tissue", "scaled", "no tissue in training", modalities=_NO_TISSUE),
    Variant("dark_ground_without_tissue", "without_tissue", _REVERSED, _DARK_GROUND, _NO_TISSUE),
    Variant(
        "black_ground_without_tissue",
        "dark_ground_without_tissue",
        _RANGE,
        _DARK_GROUND | _PERCENTILE,
        _NO_TISSUE,
    ),
]
_ONE_ALONE = [
    Variant(f"only_{one}", "scaled", f"{display_name(one)} images alone", modalities=(one,))
    for one in MODALITIES
]
_ONE_LEFT_OUT = [
    Variant(f"without_{one}", "scaled", f"no {display_name(one)}", modalities=_without(one))
    for one in MODALITIES
]

VARIANTS = {
    variant.name: variant
    for variant in (*_ARITHMETIC, *_TRAINING, *_POLARITY, *_ONE_ALONE, *_ONE_LEFT_OUT)
}


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
