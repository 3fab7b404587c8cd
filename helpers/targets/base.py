"""The shape of a target: from labels to maps, which a network learns, and from maps to labels.

Nothing here knows of Keras or of settings, and SciPy and scikit-image load when they are first
needed: settings take the names of the targets from this package.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage import segmentation

from helpers.targets.score import apply_model, describe_nuclei


class Head(NamedTuple):
    """One of the network's last layers: a 1 × 1 convolution."""

    name: str
    n_channels: int
    activation: str


@dataclass(frozen=True)
class Target:
    """One way to say pixel by pixel where the nuclei are.

    A subclass says in `make_channels` what a label image becomes, and in `separate` how nuclei are
    made of it again.

    Parameters
    ----------
    name : str
        As settings files call it.
    meaning : str
        What the maps say of a pixel, in a reader's words.
    channels : tuple of str
        What each channel of the maps means.
    heads : tuple of Head
        The layers that answer the channels, in their order.
    caption : str, optional
        What a figure of the maps (`paint`) is called, where the name alone does not explain it.
    """

    name: str
    meaning: str
    channels: tuple[str, ...]
    heads: tuple[Head, ...]
    caption: str = ""

    is_seeded = False
    """Whether nuclei grow from seeds: only then `seed_threshold` matters."""

    @property
    def is_mask(self) -> bool:
        """Whether the maps are one probability, and nothing else."""
        return len(self.channels) == 1

    @property
    def is_classes(self) -> bool:
        """Whether the channels are classes that exclude each other."""
        return self.heads[0].activation == "softmax"

    def encode(self, labels: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the maps that a network should answer, (H, W, n_channels) float32.

        Raises
        ------
        ValueError
            If `labels` is not a label image: (H, W) of integers, 0 = background.
        """
        labels = np.asarray(labels)
        if labels.ndim != 2 or labels.dtype.kind not in "iu":
            raise ValueError(
                "a label image must be a 2-D array of integers, "
                f"received shape {labels.shape} of {labels.dtype}"
            )
        return np.stack(self.make_channels(labels), axis=-1).astype(np.float32)

    def decode(self, maps: NDArray[np.floating], choices: Any) -> NDArray[np.int32]:
        """Return the label image of one image's maps: 0 = background, nuclei from 1 to N.

        `maps`, (H, W, n_channels) of float, are as a network answers or `encode` makes; `choices`
        is a `helpers.settings.Postprocessing`: the thresholds, and which nuclei are dropped.
        """
        return self.find(maps, choices)[0]

    def find(
        self, maps: NDArray[np.floating], choices: Any, least: float | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Return what `decode` does, and the score of each nucleus, (N,) 0 to 1.

        The score is how likely the nucleus is right, if `choices` have a `score` for that; if not,
        its mean probability. `least` is the score from which a nucleus stays; None leaves that to
        the `choices`.
        """
        probabilities, score = self.foreground(maps), choices.score
        mask = probabilities >= (score or choices).threshold
        labels = self.separate(maps, mask, choices)
        if score is None:
            labels = remove_small(labels, choices.min_area_px)
            scores = mean_probabilities(labels, probabilities)
        else:
            labels = remove_small(end_at_half(labels, probabilities), choices.min_area_px)
            features = describe_nuclei(maps, labels)
            scores = apply_model(features, score.intercept, score.weights)
        stays = scores >= (choices.least_score() if least is None else least)
        return select(labels, stays), scores[stays]

    def make_channels(self, labels: NDArray[np.integer]) -> Sequence[NDArray]:
        """Return the channels of the maps, each (H, W)."""
        raise NotImplementedError

    def separate(
        self, maps: NDArray[np.floating], mask: NDArray[np.bool_], choices: Any
    ) -> NDArray[np.integer]:
        """Return a label image of the nuclei in `mask`, any numbers."""
        raise NotImplementedError

    def foreground(self, maps):
        """Return the probability of nucleus, (..., H, W).

        `maps` is a NumPy array or a tensor of any Keras backend, (..., H, W, n_channels).
        """
        return maps[..., 0]

    def true_mask(self, labels: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return the mask, (H, W) bool, that the probability of nucleus is compared with."""
        return labels > 0

    def flip(self, maps: NDArray[np.floating], down: int, right: int) -> NDArray[np.floating]:
        """Return the maps of an image as those of its mirror image.

        `down` and `right` are the steps along rows and columns: -1 mirrors, 1 does not.
        """
        return maps[::down, ::right]

    def transpose(self, maps: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the maps of an image as those of its transpose."""
        return maps.swapaxes(0, 1)

    def paint(self, maps: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return what a figure shows of the maps: (H, W) or (H, W, 3), 0 to 1."""
        return maps[..., -1]


def mean_probabilities(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the mean of `probabilities` over each of the nuclei 1 to N, (N,)."""
    areas = np.bincount(labels.ravel())[1:]
    return np.bincount(labels.ravel(), probabilities.ravel())[1:] / areas


def end_at_half(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> NDArray[np.integer]:
    """Return `labels` without the pixels of half their nucleus's highest probability or less.

    Where a network is sure, a nucleus so ends at .5; where it is not, not before it is seen at all.

    Examples
    --------
    >>> end_at_half(np.array([[1, 1, 2, 2]]), np.array([[0.4, 0.9, 0.6, 0.4]]))
    array([[0, 1, 2, 2]])
    """
    best = np.zeros(labels.max() + 1, probabilities.dtype)
    np.maximum.at(best, labels.ravel(), probabilities.ravel())
    return np.where(probabilities > best[labels] / 2, labels, 0)


def select(labels: NDArray[np.integer], kept: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the nuclei 1 to N that are `kept`, (N,), renumbered from 1 in the same order.

    Examples
    --------
    >>> select(np.array([[0, 1, 1, 2]]), np.array([False, True]))
    array([[0, 0, 0, 1]], dtype=int32)
    """
    return np.append(0, np.cumsum(kept) * kept).astype(np.int32)[labels]


def keep_seen(
    labels: NDArray[np.integer], scores: NDArray[np.floating]
) -> tuple[NDArray[np.int32], NDArray[np.floating]]:
    """Return those of the nuclei 1 to N that have a pixel, renumbered, and their `scores`.

    Examples
    --------
    >>> keep_seen(np.array([[0, 2, 2]]), np.array([0.3, 0.8]))
    (array([[0, 1, 1]], dtype=int32), array([0.8]))
    """
    seen = np.bincount(labels.ravel(), minlength=len(scores) + 1)[1:] > 0
    return select(labels, seen), scores[seen]


def remove_small(labels: NDArray[np.integer], min_area_px: int) -> NDArray[np.int32]:
    """Return `labels` without nuclei of fewer than `min_area_px` pixels, renumbered from 1.

    Examples
    --------
    >>> remove_small(np.array([[0, 3, 3, 7]]), 2)
    array([[0, 1, 1, 0]], dtype=int32)
    """
    areas = np.bincount(labels.ravel())
    large = np.where(areas[labels] >= min_area_px, labels, 0)
    return segmentation.relabel_sequential(large)[0].astype(np.int32)
