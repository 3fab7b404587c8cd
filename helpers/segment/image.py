"""One image from anywhere to the labels of its nuclei, with how they came about."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.segment.measure import check_positive, measure_nuclei
from helpers.segment.scale import Scale, choose_scale


class Result(NamedTuple):
    """The nuclei of an image, and how they were found."""

    labels: NDArray[np.int32]  # (H, W), 0 = background, nuclei from 1 to N
    scale: Scale
    channel: str  # which channel was looked at, and why
    warnings: list[str]  # what to look at twice; empty for most images
    distance: float  # from the training images: up to 1 usual; NaN where not known
    image: NDArray  # what was looked at, (H, W) or (H, W, 3)
    pixel_size_um: float | None = None

    @property
    def nuclei(self) -> pd.DataFrame:
        """Return a row of numbers for every nucleus; see `helpers.segment.measure`."""
        return measure_nuclei(self.image, self.labels, self.pixel_size_um)


def analyse(
    network,
    image: NDArray,
    *,
    channel: int | str | None = None,
    diameter_px: float | None = None,
    pixel_size_um: float | None = None,
) -> Result:
    """Return the nuclei of an image, and how they were found.

    Parameters
    ----------
    network : helpers.segment.trained.TrainedNetwork
    image : (H, W) or (H, W, C) array
    channel : int or str, optional
        Which channel shows the nuclei: its number from 0 on, a colour ("blue"), or
        "haematoxylin"; None finds it.
    diameter_px : float, optional
        Median diameter of the nuclei, in pixels; None finds the scale.
    pixel_size_um : float, optional
        Side of a pixel in micrometres, for `Result.nuclei`.

    Raises
    ------
    ValueError
        If the image or a parameter is not one that can be used.
    """
    from helpers.segment.folder import list_warnings, measure_distance

    check_positive("pixel_size_um", pixel_size_um, "0.5")
    scale = choose_scale(network.predictor, image, diameter_px=diameter_px, known=network.known_px)
    labels = scale.labels
    if labels is None:
        labels = network.predictor.segment(image, scale=scale.scale)
    distance, warnings = np.nan, []
    if network.familiarity is not None:
        distance, unlike = measure_distance(network.familiarity, image, scale.scale)
        warnings += [unlike] if unlike else []
    areas = np.bincount(labels.ravel())[1:]
    warnings += list_warnings(areas[areas > 0], labels.size, scale, network.known_px)
    return Result(labels, scale, "as stored", warnings, distance, image, pixel_size_um)
