"""By which factor an image is resized for the network, so that its nuclei have a known size."""

from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.network.geometry import cut
from helpers.run_folder import RunFolder
from helpers.segment.measure import check_positive, median_diameter

KNOWN_DIAMETERS_PX = (10.0, 60.0)
"""Median diameters of an image's nuclei that are taken as known where a run does not say."""
KNOWN_SHARE = 0.98
"""Share of a run's test images, by the median diameter of their nuclei, that counts as known."""
ROUNDS = ((1.0,), (0.5, 2.0), (0.25, 4.0))
"""Scales that are tried, round by round, until one of a round is plausible."""
GAIN = 1.1
"""How many times as much nuclei must cover at a smaller scale for it to be taken instead.

Nuclei much larger than a network knows come out torn: the pieces have sizes that it knows, but what
lies between them is missing. Where nothing is torn, both scales cover about the same; or the
smaller one covers more because small nuclei become one with what lies around them. Nuclei of a size
in the lower half of the known range are not torn, so nothing is reduced to get there.
"""
TRIAL_PX = 512
"""Side of the square in the centre that is tried; dozens of nuclei even at 80 pixels each."""
SPECK = 1 / 16
"""Share of a typical nucleus's area, a quarter of its width, below which something is a speck."""
MIN_SIDE_PX = 16  # smaller images are not made smaller still


class Segmenter(Protocol):
    """What is asked of a network; `helpers.network.prediction.Network` answers."""

    def segment(self, image: NDArray, *, scale: float = 1.0) -> NDArray[np.int32]:
        """Return the labels of an image, (H, W), 0 = background, nuclei from 1 on."""


class Scale(NamedTuple):
    """The factor, the median diameter of the nuclei that it rests on, and why."""

    scale: float
    diameter_px: float  # in the image as stored; NaN where nothing was found
    reason: str
    labels: NDArray[np.int32] | None = None  # where the trial saw the whole image at this scale


class Trial(NamedTuple):
    """What a network finds at one scale."""

    scale: float
    diameter_px: float  # median, in the image as stored
    covered: float  # share of the pixels tried, 0 to 1
    labels: NDArray[np.int32]

    def is_plausible(self, known: tuple[float, float]) -> bool:
        """Tell whether the nuclei found have, as the network sees them, a size that it knows."""
        return known[0] <= self.diameter_px * self.scale <= known[1]


def read_known_diameters(run: RunFolder) -> tuple[float, float]:
    """Return the median diameters, in pixels, of the images on which a run's network was tested.

    The central `KNOWN_SHARE` of them, from the run's `metrics.csv`: there we know how good its
    answers are. `KNOWN_DIAMETERS_PX` where the run has no such file.
    """
    if not run.file("metrics.csv").exists():
        return KNOWN_DIAMETERS_PX
    diameters = run.read_csv("metrics.csv").get("diameter_px", pd.Series(dtype=float)).dropna()
    if diameters.empty:
        return KNOWN_DIAMETERS_PX
    low, high = diameters.quantile([(1 - KNOWN_SHARE) / 2, (1 + KNOWN_SHARE) / 2])
    return round(float(low), 1), round(float(high), 1)


def choose_scale(
    network: Segmenter,
    image: NDArray,
    *,
    diameter_px: float | None = None,
    known: tuple[float, float] = KNOWN_DIAMETERS_PX,
) -> Scale:
    """Return by which factor to resize an image before the network sees it.

    With a given diameter: 1 inside the known range, else the factor that brings it to the range's
    geometric middle, as the network is weaker at its ends. Without one the network itself is asked,
    on a square of at most `TRIAL_PX` in the centre: if the nuclei that it finds at scale 1 have a
    known size, 1 is taken. If not, smaller and larger scales are tried, and among those at which
    the nuclei found have a known size the one where they cover most. If there is none, 1 is kept.
    What is taken gives way to a smaller scale if the nuclei may be torn: there they have a known
    size too and cover more than `GAIN` times as much, and at twice that scale they would be in the
    upper half of the known sizes. A quarter is tried only where a half was better.

    Parameters
    ----------
    network : Segmenter
    image : (H, W) or (H, W, 3) array of uint8, uint16 or float
    diameter_px : float, optional
        Median diameter of the nuclei in `image`, in pixels.
    known : (low, high)
        Median diameters, in pixels, that the network knows.

    Raises
    ------
    ValueError
        If the diameter is not above 0, or the range not one of numbers above 0.
    """
    check_sizes(diameter_px, known)
    if diameter_px is not None:
        return _scale_given(diameter_px, known)
    return _scale_found(network, image, known)


def check_sizes(diameter_px: float | None, known: tuple[float, float]) -> None:
    """Raise ValueError for a diameter or a range that `choose_scale` cannot take."""
    check_positive("diameter_px", diameter_px, "20")
    if not 0 < known[0] <= known[1] < np.inf:
        raise ValueError(
            f"`known` (={known}) must be two numbers above 0, the lower first: (10, 60)"
        )


def _scale_given(diameter_px: float, known: tuple[float, float]) -> Scale:
    place = f"the network knows {_say_range(known)}"
    if known[0] <= diameter_px <= known[1]:
        return Scale(1.0, diameter_px, f"given: {diameter_px:g} px; {place}")
    target = _middle(known)
    return Scale(
        round(target / diameter_px, 4),
        diameter_px,
        f"given: {diameter_px:g} px, brought to {target:.1f} px; {place}",
    )


def _middle(known: tuple[float, float]) -> float:
    return float(np.sqrt(known[0] * known[1]))


def _scale_found(network: Segmenter, image: NDArray, known: tuple[float, float]) -> Scale:
    square = cut(image, TRIAL_PX, TRIAL_PX)
    trials: list[Trial] = []
    for scales in ROUNDS:
        tried = [try_scale(network, square, scale) for scale in scales if _fits(square, scale)]
        trials += tried
        plausible = [trial for trial in tried if trial.is_plausible(known)]
        if plausible:
            best = max(plausible, key=lambda trial: trial.covered)
            best = _reduce(network, square, best, known)
            reason = f"found: {best.diameter_px:.1f} px{_say_seen(best)}"
            return _conclude(best, f"{reason}; the network knows {_say_range(known)}", image)
    first = trials[0]
    found = "no nuclei" if np.isnan(first.diameter_px) else f"{first.diameter_px:.1f} px"
    tried = ", ".join(f"{trial.scale:g}" for trial in trials)
    reason = (
        f"found: {found}; at none of the scales {tried} are there nuclei of {_say_range(known)}. "
        "Give the median diameter of the nuclei if you see some"
    )
    return _conclude(first, reason, image)


def try_scale(network: Segmenter, square: NDArray, scale: float) -> Trial:
    """Return what the network finds in `square` at one scale."""
    labels = network.segment(square, scale=scale)
    areas = np.bincount(labels.ravel())[1:]
    diameter_px = median_diameter(drop_specks(areas[areas > 0]))
    return Trial(scale, diameter_px, float((labels > 0).mean()), labels)


def drop_specks(areas: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the areas in ascending order, without specks, which would spoil their median.

    Typical is the area at which smaller nuclei make up half of all pixels found.

    Examples
    --------
    >>> drop_specks(np.array([1, 300, 2, 200, 1, 400])).tolist()
    [200, 300, 400]
    """
    areas = np.sort(areas)
    if not len(areas):
        return areas
    covered = np.cumsum(areas)
    typical = areas[np.searchsorted(covered, covered[-1] / 2)]
    return areas[areas >= typical * SPECK]


def _reduce(network: Segmenter, square: NDArray, best: Trial, known: tuple[float, float]) -> Trial:
    """Return the trial at a half or a quarter, if nuclei look torn at that of `best`; else `best`.

    A scale above 1 was taken because nuclei are too small at 1, and is kept.
    """
    if min(square.shape[:2]) * best.scale <= known[1]:
        return best  # too small to hold a nucleus that the network does not know
    smaller = [scale for round_ in ROUNDS for scale in round_ if scale < best.scale <= 1]
    for scale in smaller:
        if not _fits(square, scale):
            break
        trial = try_scale(network, square, scale)
        is_large = 2 * trial.diameter_px * scale >= _middle(known)
        covers_more = trial.covered > GAIN * best.covered
        if not (is_large and covers_more and trial.is_plausible(known)):
            break  # what is torn is mended step by step; a later leap is something else
        best = trial
    return best


def _conclude(trial: Trial, reason: str, image: NDArray) -> Scale:
    whole = trial.labels if trial.labels.shape == image.shape[:2] else None
    return Scale(trial.scale, trial.diameter_px, reason, whole)


def _fits(square: NDArray, scale: float) -> bool:
    return scale >= 1 or min(square.shape[:2]) * scale >= MIN_SIDE_PX


def _say_seen(trial: Trial) -> str:
    return f", {trial.diameter_px * trial.scale:.1f} px as resized" if trial.scale != 1 else ""


def _say_range(known: tuple[float, float]) -> str:
    return f"{known[0]:g} to {known[1]:g} px"
