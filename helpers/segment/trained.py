"""The network of a run, and what it finds in one image from anywhere: `helpers.load_network`."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from helpers.analysis.out_of_distribution import Familiarity, measure_looks, read_familiarity
from helpers.data.reading import check_image
from helpers.network import prediction
from helpers.network.geometry import cut, rescale
from helpers.network.intensities import has_bright_ground, telling_channel
from helpers.network.saving import read_settings
from helpers.run_folder import REFERENCE, RunFolder
from helpers.segment.measure import check_positive, measure_nuclei, median_diameter
from helpers.segment.prepare import SEEN_PX, is_blank, prepare
from helpers.segment.scale import SURE, Scale, check_sizes, choose_scale, read_known_diameters
from helpers.settings import Settings
from helpers.targets.base import keep_seen, select
from helpers.training.devices import Device, choose_device

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


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained network with what its run knows about it."""

    predictor: prediction.Network  # maps and labels of images at a given scale
    known_px: tuple[float, float]  # median diameters of the nuclei that it was tested on
    device: Device | None = None
    familiarity: Familiarity | None = None  # with its training images; None where not kept
    fingerprint: str = ""  # the same for the same file

    @property
    def model(self) -> keras.Model:
        """The Keras model."""
        return self.predictor.model

    @property
    def settings(self) -> Settings:
        """The settings that it was trained with."""
        return self.predictor.settings

    @property
    def target(self) -> str:
        """What it answers, such as "flow"."""
        return self.predictor.target.name

    def segment(self, image: NDArray, **options) -> NDArray:
        """Return the labels of an image, (H, W) int32: 0 = background, nuclei from 1 to N.

        `options`: see `analyse`.
        """
        return self.analyse(image, **options).labels

    def analyse(
        self,
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
        check_sizes(diameter_px, self.known_px)
        check_positive("pixel_size_um", pixel_size_um, "0.5")
        image, valid = _split_invalid(np.asarray(image), valid)
        check_image(image)
        field = prepare(image, valid, channel)
        labels, scores, distance = np.zeros(image.shape[:2], np.int32), np.zeros(0), np.nan
        if is_blank(field.image):
            scale = Scale(1.0, np.nan, "nothing but noise: not asked")
            warnings = ["no nucleus found: the image shows nothing but noise"]
        else:
            known, least = self.known_px, self.settings.postprocessing.least_score(operating_point)
            scale = choose_scale(self.predictor, field.image, diameter_px=diameter_px, known=known)
            found = scale.found or self.predictor.find(field.image, scale=scale.scale, least=least)
            labels[field.box], scores = _choose(*found, least, field.valid)
            warnings = field.warnings + list_warnings(labels, scale, known)
            warnings += warn_of_missed(field.image, labels[field.box])
            distance, colours = self._compare_looks(field.image, scale.scale)
            warnings += colours
        channel, scale = field.channel, scale._replace(found=None)
        return Result(labels, scale, channel, warnings, distance, image, scores, pixel_size_um)

    def _compare_looks(self, image: NDArray, scale: float) -> tuple[float, list[str]]:
        """Return how far an image is from the training images, NaN if not known, and a warning."""
        if self.familiarity is None:
            return np.nan, []
        looks = measure_looks([_as_seen(image, scale)])
        colours = self.familiarity.warn_of_colours(looks)
        return float(self.familiarity.distances(looks)[0]), [colours] if colours else []


def load_network(run: str | Path = REFERENCE) -> TrainedNetwork:
    """Return the network of a run, on the device and in the precision that suit it best.

    `run` is a run's name, or an absolute path; "reference" comes with the repository. One that has
    no network, or a damaged file, raises FileNotFoundError or ValueError.
    """
    folder = RunFolder(run)
    file = folder.require("network.keras")
    device = choose_device(read_settings(file))
    kept = folder.file("out_of_distribution.json")
    return TrainedNetwork(
        prediction.load_network(file, precision=device.precision),
        device=device,
        known_px=read_known_diameters(folder),
        familiarity=read_familiarity(kept) if kept.exists() else None,
        fingerprint=hashlib.sha256(file.read_bytes()).hexdigest()[:16],
    )


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
