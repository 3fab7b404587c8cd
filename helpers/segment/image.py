"""One image from anywhere to the labels of its nuclei, with how they came about."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from helpers.analysis.out_of_distribution import measure_looks
from helpers.data.reading import check_image
from helpers.network.geometry import cut, rescale
from helpers.network.intensities import has_bright_ground, telling_channel
from helpers.segment.measure import check_positive, measure_nuclei, median_diameter
from helpers.segment.prepare import SEEN_PX, is_blank, prepare
from helpers.segment.scale import SURE, Scale, check_sizes, choose_scale
from helpers.targets.base import keep_seen, select

LOOK_PX = 1024  # side of the square in the centre by which an image's looks are judged
MOSTLY = 0.5  # share of an image covered, or of its objects missed, above which it is strange
FOUND, LEAST = 0.3, 4  # share of an object that nuclei cover where it is found; fewest objects


class Result(NamedTuple):
    """The nuclei of an image, and how they were found."""

    labels: NDArray[np.int32]  # (H, W), 0 = background, nuclei from 1 to N
    scale: Scale
    channel: str  # which channel was looked at, and why
    warnings: list[str]  # what to look at twice; empty for most images
    distance: float  # from the training images: up to 1 usual; NaN where not known
    image: NDArray  # what was looked at, (H, W) or (H, W, 3)
    scores: NDArray[np.floating]  # (N,), how likely each nucleus is right, 0 to 1
    pixel_size_um: float | None = None

    @property
    def nuclei(self) -> pd.DataFrame:
        """Return a row of numbers for every nucleus; see `helpers.segment.measure`."""
        return measure_nuclei(self.image, self.labels, self.pixel_size_um, scores=self.scores)


def analyse(
    network,
    image: NDArray,
    *,
    valid: NDArray[np.bool_] | None = None,
    channel: int | str | None = None,
    diameter_px: float | None = None,
    pixel_size_um: float | None = None,
    operating_point: str | None = None,
) -> Result:
    """Return the nuclei of an image, and how they were found.

    Parameters
    ----------
    network : helpers.segment.trained.TrainedNetwork
    image, valid, channel
        As for `helpers.segment.prepare.prepare`.
    diameter_px : float, optional
        Median diameter of the nuclei, in pixels; None finds the scale.
    pixel_size_um : float, optional
        Side of a pixel in micrometres, for `Result.nuclei`.
    operating_point : "precise", "balanced" or "complete", optional
        Whether to drop nuclei that may be wrong or to keep those that may be right, where the
        network has a score of its nuclei; None takes what is stored with it.

    Raises
    ------
    ValueError
        If the image or a parameter is not one that can be used.
    """
    check_sizes(diameter_px, network.known_px)
    check_positive("pixel_size_um", pixel_size_um, "0.5")
    image, valid = _split_invalid(np.asarray(image), valid)
    check_image(image)
    field = prepare(image, valid, channel)
    if is_blank(field.image):
        labels, scores = np.zeros(image.shape[:2], np.int32), np.zeros(0)
        scale = Scale(1.0, np.nan, "nothing but noise: not asked")
        warnings = ["no nucleus found: the image shows nothing but noise"]
        return Result(labels, scale, field.channel, warnings, np.nan, image, scores, pixel_size_um)
    predictor, known = network.predictor, network.known_px
    least = predictor.settings.postprocessing.least_score(operating_point)
    scale = choose_scale(predictor, field.image, diameter_px=diameter_px, known=known)
    found = scale.found or predictor.find(field.image, scale=scale.scale, least=least)
    inside, scores = _choose(*found, least, field.valid)
    labels = np.zeros(image.shape[:2], np.int32)
    labels[field.box] = inside
    warnings = field.warnings + list_warnings(labels, scale, known)
    warnings += warn_of_missed(field.image, inside)
    distance = np.nan
    if network.familiarity is not None:
        looks = measure_looks([_as_seen(field.image, scale.scale)])
        distance = float(network.familiarity.distances(looks)[0])
        colours = network.familiarity.warn_of_colours(looks)
        warnings += [colours] if colours else []
    scale = scale._replace(found=None)
    return Result(labels, scale, field.channel, warnings, distance, image, scores, pixel_size_um)


def _choose(labels, scores, least: float, valid) -> tuple[NDArray[np.int32], NDArray]:
    """Return the nuclei with a score of at least `least`, where the image is `valid`."""
    stays = scores >= least
    labels, scores = select(labels, stays), scores[stays]
    return (labels, scores) if valid is None else keep_seen(np.where(valid, labels, 0), scores)


def _split_invalid(image: NDArray, valid) -> tuple[NDArray, NDArray[np.bool_] | None]:
    """Return the image without alpha and NaN, and where it is image."""
    if image.ndim == 3 and image.shape[2] == 4:
        opaque = image[..., 3] > 0
        image, valid = image[..., :3], opaque if valid is None else valid & opaque
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        finite = np.isfinite(image) if image.ndim == 2 else np.isfinite(image).all(axis=2)
        valid = finite if valid is None else valid & finite
        image = np.where(finite if image.ndim == 2 else finite[..., None], image, 0)
    return image, valid


def warn_of_missed(image: NDArray, labels: NDArray[np.integer]) -> list[str]:
    """Return a sentence if most objects beyond Otsu's threshold are not among the nuclei."""
    is_bright = has_bright_ground(image)
    signal = np.asarray(telling_channel(image), np.float32) * (-1 if is_bright else 1)
    signal = ndimage.gaussian_filter(np.clip(signal, *np.percentile(signal, (1, 99.8))), 1)
    objects, _ = ndimage.label(signal > threshold_otsu(signal))
    large = np.flatnonzero(np.bincount(objects.ravel())[1:] >= SEEN_PX) + 1
    found = np.asarray(ndimage.mean(labels > 0, objects, large)) if len(large) else np.zeros(0)
    n_missed = int((found < FOUND).sum())
    if n_missed < LEAST or n_missed <= MOSTLY * len(large):
        return []
    shade = "darker" if is_bright else "brighter"
    return [f"{n_missed} of {len(large)} objects {shade} than the ground were not taken for nuclei"]


def _as_seen(image: NDArray, scale: float) -> NDArray:
    """Return the centre of an image at the network's scale, uint8 or uint16."""
    side = math.ceil(LOOK_PX / scale)
    centre = cut(image, side, side)
    if centre.dtype.kind == "f":
        low, high = min(float(image.min()), 0.0), max(float(image.max()), 1.0)
        centre = np.floor((centre - low) / (high - low) * 65535 + 0.5).astype(np.uint16)
    return rescale(centre, tuple(max(1, round(side * scale)) for side in centre.shape[:2]))


def list_warnings(
    labels: NDArray[np.integer], scale: Scale, known: tuple[float, float]
) -> list[str]:
    """Return sentences on what the labels of an image should make one look twice at."""
    areas = np.bincount(labels.ravel())[1:]
    areas = areas[areas > 0]
    if not len(areas):
        return ["no nucleus found"]
    warnings = []
    covered = areas.sum() / labels.size
    if covered > MOSTLY:
        warnings.append(f"nuclei cover {covered:.0%} of the image: ground may be taken for nucleus")
    seen = median_diameter(areas) * scale.scale
    if not (known[0] <= seen <= known[1] or scale.sureness >= SURE):
        warnings.append(
            f"the nuclei found are {median_diameter(areas):.0f} px wide, which at scale "
            f"{scale.scale:g} is {seen:.0f}; the network knows {known[0]:.0f} to {known[1]:.0f}: "
            "give their diameter"
        )
    elif scale.is_close:
        warnings.append(
            f"at scale {scale.second:g} nearly as much of another size is found: look at the "
            "outlines, or give the diameter of the nuclei"
        )
    return warnings
