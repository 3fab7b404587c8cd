"""The arms of the experiment: each differs from another one in a single thing."""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from numpy.typing import NDArray

from helpers.analysis.modality import MODALITIES, display_name
from helpers.architecture import nearest
from helpers.inversion.original_arithmetic import View, cast_input
from helpers.settings import Settings, parse_settings

OURS = {"ours": View()}


class Arm(NamedTuple):
    """One way to train a network, and the ways to look at what it predicts.

    Attributes
    ----------
    name : str
        Also the name of its folder.
    differs_from : str
        The arm it is compared with, "" for the first.
    what : str
        The one thing in which it differs.
    changes : mapping
        Values in the settings file, by section: "training", "augmentation" or "preprocessing".
    modalities : tuple of str
        Modalities of image that it is trained on.
    prepare : callable, optional
        Applied to every image before training.
    views : mapping of str to View
        Ways to predict with the trained network.
    """

    name: str
    differs_from: str
    what: str
    changes: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    modalities: tuple[str, ...] = MODALITIES
    prepare: Callable[[NDArray], NDArray] | None = None
    views: Mapping[str, View] = OURS

    def settings(self, base: Settings) -> Settings:
        """Return `base` with this arm's changes, and no callback that could end it earlier."""
        values = base.without_callbacks().model_dump(mode="json", by_alias=True)
        training = values["training_configuration"]["training_parameters"]
        sections = {
            "training": training,
            "augmentation": training["augmentation"],
            "preprocessing": values["preprocessing"],
        }
        for section, changes in self.changes.items():
            sections[section].update(changes)
        return parse_settings(json.dumps(values), source=f"arm {self.name}")


ORIGINAL_VIEWS = {
    "original": View("raw", cast=True, resized=True),
    "own size": View("raw", cast=True),
    "threshold": View("raw"),
    "same inputs": View("cast"),
}
"""From the original's way to ours, one step at a time, with the same trained network."""

STEPS = {
    "the original program": ("original", "original"),
    "image keeps its size": ("original", "own size"),
    "nucleus from probability .5": ("original", "threshold"),
    "same inputs as in training": ("original", "same inputs"),
    "inputs scaled to 0..1": ("scaled", "ours"),
}
"""The way from the original's arithmetic to ours: each step repairs one thing more."""

TISSUE = tuple(modality for modality in MODALITIES if modality.endswith("tissue"))


def _without(*modalities: str) -> tuple[str, ...]:
    return tuple(modality for modality in MODALITIES if modality not in modalities)


ARMS = {
    arm.name: arm
    for arm in (
        Arm(
            "original",
            "",
            "the original's arithmetic",
            prepare=cast_input,
            views=ORIGINAL_VIEWS,
        ),
        Arm(
            "scaled",
            "original",
            "inputs scaled to 0..1",
            views=OURS | {"raw inputs": View("raw"), "cast output": View(cast=True)},
        ),
        Arm(
            "balanced",
            "scaled",
            "every modality shown equally often",
            {"training": {"balance": 1.0}},
        ),
        Arm(
            "inverted_half",
            "scaled",
            "half of the crops with reversed intensities",
            {"augmentation": {"invert": 0.5}},
        ),
        Arm(
            "percentile",
            "scaled",
            "intensities by percentile",
            {"preprocessing": {"normalisation": "percentile"}},
        ),
        Arm(
            "dark_ground",
            "scaled",
            "bright ground reversed before the network",
            {"preprocessing": {"polarity": "dark_ground"}},
        ),
        Arm(
            "gray_half",
            "scaled",
            "half of the crops without colour",
            {"augmentation": {"gray": 0.5}},
        ),
        Arm("without_tissue", "scaled", "no tissue in training", modalities=_without(*TISSUE)),
        Arm(
            "dark_ground_without_tissue",
            "without_tissue",
            "bright ground reversed before the network",
            {"preprocessing": {"polarity": "dark_ground"}},
            modalities=_without(*TISSUE),
        ),
        Arm(
            "black_ground_without_tissue",
            "dark_ground_without_tissue",
            "intensities by percentile",
            {"preprocessing": {"polarity": "dark_ground", "normalisation": "percentile"}},
            modalities=_without(*TISSUE),
        ),
        *(
            Arm(
                f"only_{modality}",
                "scaled",
                f"{display_name(modality)} images alone",
                modalities=(modality,),
            )
            for modality in MODALITIES
        ),
        *(
            Arm(
                f"without_{modality}",
                "scaled",
                f"no {display_name(modality)} images",
                modalities=_without(modality),
            )
            for modality in MODALITIES
        ),
    )
}


def choose_arms(names: str) -> list[Arm]:
    """Return the arms named in a text such as "original,scaled"; "all" means every one.

    Raises
    ------
    ValueError
        If a name is none of `ARMS`.
    """
    if names.strip() == "all":
        return list(ARMS.values())
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in ARMS:
            raise ValueError(
                f"there is no arm {name!r}; {nearest(name, list(ARMS))}give 'all' or some of: "
                f"{', '.join(ARMS)}"
            )
    if not chosen:
        raise ValueError(f"no arm is named; give 'all' or some of: {', '.join(ARMS)}")
    return [ARMS[name] for name in chosen]
