"""How familiar an image is to a network: its distance from the images that were trained on.

Six numbers say what an image looks like, without masks; two images are as far apart as their
numbers are. What is far, the training images say themselves: how far are their own fields of view
from one another? An unfamiliar image need not fail, and a familiar one need not succeed.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from helpers.analysis.modality import full_scale, guess_nuclei, measure_contrast, measure_image

LOOKS = ["ground", "peak", "colour", "redness", "contrast", "size"]
COLOURS = ["colour", "redness"]  # seen whatever the range of an image is mapped to
COLOUR_SHARE = 0.5
"""Share of `Familiarity.limit` from which another colour alone makes an image unfamiliar: stained
breast lies below it, most of 31 other organs above."""
USUAL_SHARE = 0.95  # of the training fields, within a distance of 1 of other training fields
FINEST = 0.02  # distance that counts as 1 at least: images more alike are not told apart


def measure_looks(images: Iterable[np.ndarray]) -> pd.DataFrame:
    """Return what every image looks like, in six numbers; other dtypes raise ValueError.

    Parameters
    ----------
    images : iterable of (H, W) or (H, W, 3) arrays of uint8 or uint16

    Returns
    -------
    DataFrame
        `LOOKS`, one row an image: `ground`, `colour` and `redness` as in
        `helpers.analysis.modality.measure_image`; `peak`: 99.5 % percentile of the brightness,
        0 to 1; `contrast` of the guessed nuclei, -1 to 1, 0 in a constant image; `size`: binary
        logarithm of the nuclei's radius in pixels, at least 0.
    """
    return pd.DataFrame([_measure_one(image) for image in images], columns=LOOKS, dtype=float)


def _measure_one(image: np.ndarray) -> tuple[float, ...]:
    measured = measure_image(image)
    gray = image if image.ndim == 2 else image.mean(axis=2)
    peak = float(np.percentile(gray, 99.5)) / full_scale(image)
    contrast = measure_contrast([image], [guess_nuclei(image)])["contrast"].fillna(0).iloc[0]
    size = float(np.log2(max(measured.nucleus_radius_px, 1.0)))
    return measured.ground, peak, measured.colour, measured.redness, contrast, size


@dataclass(frozen=True)
class Familiarity:
    """The training images as six numbers each, and the distance that is usual among them.

    The distance between two images is Euclidean, in units that mean the same for every set: a
    difference of 1 is black against white, or nuclei twice as wide. An image's distance from the
    training set is that to its nearest training image, divided by `limit`.
    """

    looks: pd.DataFrame  # from `measure_looks`, one row a training image
    limit: float
    """The distance that `USUAL_SHARE` of the training fields keep to the nearest image of *another*
    training field, a field counting once, with the median of its images; at least `FINEST`."""

    @classmethod
    def fit_looks(cls, looks: pd.DataFrame, groups: Sequence[int]):
        """Return the familiarity of a network that is trained on images of these fields of view."""
        groups = np.asarray(groups)
        if not 0 < len(looks) == len(groups):
            raise ValueError(
                f"`groups` has {len(groups)} entries for {len(looks)} images; give one an image, "
                "and at least one"
            )
        between = cdist(looks, looks)
        between[groups[:, None] == groups] = np.inf
        by_field = pd.Series(between.min(axis=1)).groupby(groups).median()
        several = len(by_field) > 1
        limit = max(float(by_field.quantile(USUAL_SHARE)), FINEST) if several else FINEST
        return cls(looks.reset_index(drop=True), limit)

    def distances(self, looks: pd.DataFrame) -> np.ndarray:
        """Return the (n,) distances of images, from `measure_looks`: 0 and up, float64.

        1 is as far from the training images as the farthest twentieth of their own fields.
        """
        return cdist(looks[LOOKS], self.looks).min(axis=1) / self.limit

    def distance(self, image: np.ndarray) -> float:
        """Return the distance of one image: 0 the same, up to 1 usual, above unfamiliar."""
        return float(self.distances(measure_looks([image]))[0])

    def warn_of_colours(self, looks: pd.DataFrame) -> str | None:
        """Return a sentence on an image whose colours no training image has, None for another.

        `looks` has its row alone, from `measure_looks`.
        """
        if cdist(looks[COLOURS], self.looks[COLOURS]).min() <= COLOUR_SHARE * self.limit:
            return None
        return (
            "colours unlike those of the training images; look at the overlay before you use it, "
            "or train with images like it"
        )

    def to_json(self) -> dict:
        """Return what `read_familiarity` reads: `limit`, and `looks` as a list a training image."""
        rows = self.looks.round(4).to_numpy().tolist()
        return {"columns": LOOKS, "limit": self.limit, "looks": rows}


def read_familiarity(path: str | Path) -> Familiarity:
    """Return the familiarity in a JSON file that notebook 02 wrote; ValueError for another file."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        looks = pd.DataFrame(content["looks"], columns=content["columns"], dtype=float)
        return Familiarity(looks[LOOKS], content["limit"])
    except (ValueError, KeyError, TypeError) as reason:
        message = f"{str(path)!r} is damaged ({reason}); execute notebook 02 of the run again"
        raise ValueError(message) from None
