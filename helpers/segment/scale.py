"""By which factor an image is resized for the network, so that its nuclei have a known size."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.run_folder import RunFolder
from helpers.segment.measure import check_positive, median_diameter

KNOWN_DIAMETERS_PX = (10.0, 60.0)  # median diameters taken as known where a run does not say
KNOWN_SHARE = 0.98  # of a run's test images, by the median diameter of their nuclei, are known
ROUNDS = ((1.0,), (0.5, 2.0), (0.25, 4.0), (0.125,))  # scales, until one of a round is plausible
GAIN = 1.1
"""How many times as much nuclei must cover at a smaller scale for it to be taken instead.

Nuclei much larger than a network knows come out torn: the pieces have sizes that it knows, but what
lies between them is missing. Where nothing is torn, both scales cover about the same.
"""
LEAP = 2.0
"""The same for a scale far below one above 1, where hardly anything was found at 1: enlarged, large
nuclei may show pieces of themselves."""
TRIAL_PX = 512  # side of the squares that are tried; dozens of nuclei even at 80 pixels each
N_PLACES = 3  # squares at most: the centre, and where the image holds most
SPECK = 1 / 16  # of a typical nucleus's area, below which something is a speck
MIN_SIDE_PX = 16  # smaller images are not made smaller still


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
    covered: float  # share of the pixels of the places, 0 to 1
    labels: NDArray[np.int32] | None = None  # where the whole image was tried

    def is_plausible(self, known: tuple[float, float]) -> bool:
        """Tell whether the nuclei found have, as the network sees them, a size that it knows."""
        return known[0] <= self.diameter_px * self.scale <= known[1]


class Place(NamedTuple):
    """A square of an image, by its first row and column and its side."""

    top: int
    left: int
    side: int

    def cut(self, array: NDArray) -> NDArray:
        """Return the square, or what of it lies in the array."""
        return array[self.top : self.top + self.side, self.left : self.left + self.side]

    def widen(self, side: int, shape: tuple[int, ...]) -> "Place":
        """Return a square of `side` around the same centre, moved into the image."""
        starts = [
            max(0, min(start + (self.side - side) // 2, length - side))
            for start, length in zip(self[:2], shape, strict=False)
        ]
        return Place(*starts, side)


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
    network,
    image: NDArray,
    *,
    diameter_px: float | None = None,
    known: tuple[float, float] = KNOWN_DIAMETERS_PX,
) -> Scale:
    """Return by which factor to resize an image before the network sees it.

    With a given diameter: 1 inside the known range, else the factor that brings it to the range's
    geometric middle, as the network is weaker at its ends. Without one the network itself is asked,
    in up to `N_PLACES` squares of the image: if the nuclei that it finds at scale 1 have a
    known size, 1 is taken; else, of `ROUNDS`, the scale at which nuclei of a known size cover most;
    1 again if there is none. It gives way to a smaller scale if the nuclei may be torn (`GAIN`).
    Nuclei of more than twice the largest known diameter are brought to the middle, too.

    Parameters
    ----------
    network : helpers.network.prediction.Network
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
    if diameter_px is None:
        return _scale_found(network, image, known)
    place = f"the network knows {_say_range(known)}"
    if known[0] <= diameter_px <= known[1]:
        return Scale(1.0, diameter_px, f"given: {diameter_px:g} px; {place}")
    middle = _middle(known)
    reason = f"given: {diameter_px:g} px, brought to {middle:.1f} px; {place}"
    return Scale(round(middle / diameter_px, 4), diameter_px, reason)


def check_sizes(diameter_px: float | None, known: tuple[float, float]) -> None:
    """Raise ValueError for a diameter or a range that `choose_scale` cannot take."""
    check_positive("diameter_px", diameter_px, "20")
    if not 0 < known[0] <= known[1] < np.inf:
        raise ValueError(
            f"`known` (={known}) must be two numbers above 0, the lower first: (10, 60)"
        )


def _middle(known: tuple[float, float]) -> float:
    return float(np.sqrt(known[0] * known[1]))


def _scale_found(network, image: NDArray, known: tuple[float, float]) -> Scale:
    places = find_places(image)
    trials: list[Trial] = []
    for scales in ROUNDS:
        tried = [try_scale(network, image, s, places) for s in scales if _fits(image, s)]
        trials += tried
        plausible = [trial for trial in tried if trial.is_plausible(known)]
        if plausible:
            best = max(plausible, key=lambda trial: trial.covered)
            best = _leap(network, image, places, trials, best, known)
            best = _reduce(network, image, places, best, known)
            return _add_next(_conclude(best, known), plausible, best)
    first = trials[0]
    found = "no nuclei" if np.isnan(first.diameter_px) else f"{first.diameter_px:.1f} px"
    tried = ", ".join(f"{trial.scale:g}" for trial in trials)
    reason = (
        f"found: {found}; at none of the scales {tried} are there nuclei of {_say_range(known)}. "
        "Give the median diameter of the nuclei if you see some"
    )
    return Scale(first.scale, first.diameter_px, reason, first.labels)


def find_places(image: NDArray) -> list[Place]:
    """Return up to `N_PLACES` squares: the centre, and the others in which most is to be seen.

    An image that fits into a square is one place.
    """
    shape, side = image.shape[:2], TRIAL_PX
    centre = Place(max(0, (shape[0] - side) // 2), max(0, (shape[1] - side) // 2), side)
    starts = [
        np.linspace(0, max(length - side, 0), max(1, round(length / side)), dtype=int).tolist()
        for length in shape
    ]
    others = [Place(top, left, side) for top in starts[0] for left in starts[1]]
    others = [
        other
        for other in others
        if max(abs(other.top - centre.top), abs(other.left - centre.left)) >= side / 2
    ]
    others.sort(key=lambda place: -float(place.cut(image)[::4, ::4].std()))
    return [centre, *others[: N_PLACES - 1]]


def try_scale(network, image: NDArray, scale: float, places: list[Place]) -> Trial:
    """Return what the network finds at one scale, in squares that it sees in the same size."""
    is_large = max(image.shape[:2]) > TRIAL_PX
    side = round(TRIAL_PX / (scale if is_large else min(scale, 1)))
    wide = [place.widen(side, image.shape) for place in places]
    found = {window: network.segment(window.cut(image), scale=scale) for window in set(wide)}
    areas = np.concatenate([_measure_areas(found[w], w, image.shape) for w in found])
    inner = [
        Place(max(place.top - window.top, 0), max(place.left - window.left, 0), place.side).cut(
            found[window]
        )
        for place, window in zip(places, wide, strict=True)
    ]
    covered = float(np.mean([(labels > 0).mean() for labels in inner]))
    whole = [labels for labels in found.values() if labels.shape == image.shape[:2]]
    diameter_px = median_diameter(drop_specks(areas))
    return Trial(scale, diameter_px, covered, whole[0] if whole else None)


def _measure_areas(labels: NDArray, window: Place, shape: tuple[int, ...]) -> NDArray[np.integer]:
    """Return the areas of the nuclei that the window does not cut."""
    areas = np.bincount(labels.ravel())
    for axis, start in enumerate(window[:2]):
        rows = np.moveaxis(labels, axis, 0)
        areas[rows[:1] * (start > 0)] = 0
        areas[rows[-1:] * (start + window.side < shape[axis])] = 0
    areas = areas[1:]
    return areas[areas > 0]


def drop_specks(areas: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the areas in ascending order, without specks, which would spoil their median.

    Typical is the area at which smaller nuclei make up half of all pixels found.
    """
    areas = np.sort(areas)
    if not len(areas):
        return areas
    covered = np.cumsum(areas)
    typical = areas[np.searchsorted(covered, covered[-1] / 2)]
    return areas[areas >= typical * SPECK]


def _leap(network, image, places, trials, best: Trial, known) -> Trial:
    """Return the trial far below a scale above 1 if it covers much more; else `best`."""
    if best.scale <= 1 or trials[0].covered >= best.covered / LEAP:
        return best
    done = {trial.scale for trial in trials}
    scales = [s for round_ in ROUNDS for s in round_ if s < 1 and s not in done]
    others = [try_scale(network, image, s, places) for s in scales if _fits(image, s)]
    others = [t for t in others if t.is_plausible(known) and t.covered > LEAP * best.covered]
    return max(others, key=lambda trial: trial.covered, default=best)


def _reduce(network, image: NDArray, places, best: Trial, known) -> Trial:
    """Return the trial at a smaller scale, if nuclei look torn at that of `best`; else `best`.

    A scale above 1 was taken because nuclei are too small at 1, and is kept.
    """
    if min(*image.shape[:2], TRIAL_PX) * best.scale <= known[1]:
        return best  # too small to hold a nucleus that the network does not know
    for scale in [s for round_ in ROUNDS for s in round_ if s < best.scale <= 1]:
        if not _fits(image, scale):
            break
        trial = try_scale(network, image, scale, places)
        is_large = 2 * trial.diameter_px * scale >= _middle(known)
        covers_more = trial.covered > GAIN * best.covered
        if not (is_large and covers_more and trial.is_plausible(known)):
            break  # what is torn is mended step by step; a later leap is something else
        best = trial
    return best


def _conclude(best: Trial, known: tuple[float, float]) -> Scale:
    reason = f"found: {best.diameter_px:.1f} px"
    if best.diameter_px > 2 * known[1]:
        scale = round(_middle(known) / best.diameter_px, 4)
        reason += f", brought to {_middle(known):.1f} px; the network knows {_say_range(known)}"
        return Scale(scale, best.diameter_px, reason)
    if best.scale != 1:
        reason += f", {best.diameter_px * best.scale:.1f} px as resized"
    reason += f"; the network knows {_say_range(known)}"
    return Scale(best.scale, best.diameter_px, reason, best.labels)


def _add_next(scale: Scale, plausible: list[Trial], best: Trial) -> Scale:
    """Say in the reason which other scale shows nuclei of a known size, and of which."""
    others = [trial for trial in plausible if trial.scale != best.scale]
    if not others:
        return scale
    other = max(others, key=lambda trial: trial.covered)
    next_best = f"; next best: scale {other.scale:g}, nuclei of {other.diameter_px:.1f} px"
    return scale._replace(reason=scale.reason + next_best)


def _fits(square: NDArray, scale: float) -> bool:
    return scale >= 1 or min(square.shape[:2]) * scale >= MIN_SIDE_PX


def _say_range(known: tuple[float, float]) -> str:
    return f"{known[0]:g} to {known[1]:g} px"
