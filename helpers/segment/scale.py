"""By which factor an image is resized for the network: the one at which it finds most, surely."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.run_folder import RunFolder
from helpers.segment.measure import check_positive
from helpers.targets.score import typical_area

KNOWN_DIAMETERS_PX = (10.0, 60.0)  # median diameters taken as known where a run does not say
KNOWN_SHARE = 0.98  # of a run's test images, by the median diameter of their nuclei, are known
SMALLER, LARGER = (0.5, 0.25, 0.125), (2.0, 4.0)
SURE, USUAL_PX = 0.7, (12.0, 45.0)
"""Mean score and typical diameter with which scale 1 is taken without trying others."""
UNSURE = 0.5  # mean score below which nuclei may be much smaller than what is found
BEST_PX, SIZE_COST = (20.0, 30.0), 0.1
"""Diameters that a network sees best, and what each doubling or halving beyond them costs."""
STEP_COST, LARGER_COST = 1.1, 1.2
"""How much more a scale must find for each halving and each doubling, which costs time, too."""
LARGEST_PX = 250.0  # what is wider is no nucleus but tissue seen from afar
OTHER, FEW, CLOSE = 1.5, 0.2, 0.8
"""Diameters that differ by this factor are those of other things. A second scale that finds a share
of `FEW` of them is named; one that finds nearly as much makes the first one doubtful."""
TRIAL_PX, N_PLACES = 512, 3  # side of a square as the network sees it, and how many are tried
MIN_SIDE_PX = 32  # smaller images are not made smaller still


class Scale(NamedTuple):
    """The factor, the diameter of the nuclei that it rests on, why, and how sure it is."""

    scale: float
    diameter_px: float  # in the image as stored; NaN where nothing was found
    reason: str
    sureness: float = np.nan  # 0 to 1: mean score of what is found, less if another scale rivals
    second: float | None = None  # the next best scale, for nuclei of another size
    is_close: bool = False  # whether the second best is nearly as good
    found: tuple[NDArray[np.int32], NDArray] | None = None  # where the trial saw the whole image


class Trial(NamedTuple):
    """What a network finds at one scale."""

    scale: float
    diameter_px: float  # typical, in the image as stored; NaN where nothing was found
    sureness: float  # mean score of the nuclei by their areas, 0 to 1
    worth: NDArray[np.float32]  # squared score at every pixel of all places; NaN where not looked
    found: tuple[NDArray[np.int32], NDArray] | None

    def is_usual(self) -> bool:
        """Tell whether the nuclei are sure, and of a size that needs no other scale."""
        seen = self.diameter_px * self.scale
        return self.sureness >= SURE and USUAL_PX[0] <= seen <= USUAL_PX[1]

    def value(self, first: "Trial") -> float:
        """Return what is found as a multiple of what the `first` trial finds there, less costs."""
        if not self.diameter_px <= LARGEST_PX:
            return 0.0
        looked = ~np.isnan(self.worth)
        there = max(first.worth[looked].mean(), 0.3 * first.worth.mean(), 1e-6)
        seen = self.diameter_px * self.scale
        octaves = max(0.0, np.log2(BEST_PX[0] / seen), np.log2(seen / BEST_PX[1]))
        fit = max(0.0, 1 - SIZE_COST * octaves)
        cost = (LARGER_COST if self.scale > 1 else STEP_COST) ** abs(np.log2(self.scale))
        return float(self.worth[looked].mean() / there * fit / cost)


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

    `network` is a `helpers.network.prediction.Network`, `image` (H, W) or (H, W, 3) of uint8,
    uint16 or float, `diameter_px` the median diameter of its nuclei, `known` the lowest and highest
    that the network knows. With a given diameter: 1 inside the known range, else the factor that
    brings it to the range's geometric middle. Without one the network is asked, in up to `N_PLACES`
    squares of the image: 1 if what it finds so is sure and of a usual size, else the scale with the
    greatest `value`. A diameter or range that is not above 0 raises ValueError.
    """
    check_sizes(diameter_px, known)
    if diameter_px is None:
        return _conclude(_try_scales(network, image))
    place = f"the network knows {known[0]:g} to {known[1]:g} px"
    if known[0] <= diameter_px <= known[1]:
        return Scale(1.0, diameter_px, f"given: {diameter_px:g} px; {place}")
    middle = float(np.sqrt(known[0] * known[1]))
    reason = f"given: {diameter_px:g} px, brought to {middle:.1f} px; {place}"
    return Scale(round(middle / diameter_px, 4), diameter_px, reason)


def check_sizes(diameter_px: float | None, known: tuple[float, float]) -> None:
    """Raise ValueError for a diameter or a range that `choose_scale` cannot take."""
    check_positive("diameter_px", diameter_px, "20")
    if not 0 < known[0] <= known[1] < np.inf:
        raise ValueError(
            f"`known` (={known}) must be two numbers above 0, the lower first: (10, 60)"
        )


def _try_scales(network, image: NDArray) -> list[Trial]:
    """Return what is found at scale 1 and, unless that is usual, at others."""
    centres = find_centres(image)
    first = try_scale(network, image, 1.0, centres)
    trials = [first]
    if first.is_usual():
        return trials
    for scale in SMALLER:
        if min(image.shape[:2]) * scale >= MIN_SIDE_PX:
            trials.append(try_scale(network, image, scale, centres))
    best = max(trials, key=lambda trial: trial.value(first))
    if best.sureness < UNSURE or (best is first and first.diameter_px < USUAL_PX[0]):
        trials.append(try_scale(network, image, LARGER[0], centres))
        is_better = trials[-1].value(first) > best.value(first)
        if is_better and trials[-1].diameter_px * LARGER[0] < USUAL_PX[0]:
            trials.append(try_scale(network, image, LARGER[1], centres))
    return trials


def find_centres(image: NDArray) -> list[tuple[int, int]]:
    """Return up to `N_PLACES` pixels: the centre, and those around which most is to be seen.

    An image that fits into a square of `TRIAL_PX` is one place.
    """
    shape = image.shape[:2]
    centre = (shape[0] // 2, shape[1] // 2)
    steps = [(np.arange(n := -(-side // TRIAL_PX)) + 0.5) / n * side for side in shape]
    others = [(int(row), int(column)) for row in steps[0] for column in steps[1]]
    others = [
        other for other in others if max(abs(np.subtract(other, centre)).tolist()) >= TRIAL_PX / 2
    ]
    seen = {other: image[_around(other, TRIAL_PX, shape)][::4, ::4].std() for other in others}
    return [centre, *sorted(seen, key=seen.get, reverse=True)[: N_PLACES - 1]]


def _around(centre: tuple[int, int], side: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the square of `side` around a pixel, moved into the image."""
    top, left = (max(0, min(at - side // 2, n - side)) for at, n in zip(centre, shape, strict=True))
    return slice(top, min(top + side, shape[0])), slice(left, min(left + side, shape[1]))


def try_scale(network, image: NDArray, scale: float, centres: list[tuple[int, int]]) -> Trial:
    """Return what the network finds at one scale, in squares that it sees in the same size."""
    shape, side = image.shape[:2], round(TRIAL_PX / scale)
    windows = [_around(centre, side, shape) for centre in centres]
    corners = {(window[0].start, window[1].start): window for window in windows}
    found = {at: network.find(image[w], scale=scale, least=0.0) for at, w in corners.items()}
    areas = np.concatenate([np.bincount(labels.ravel())[1:] for labels, _ in found.values()])
    scores = np.concatenate([scores for _, scores in found.values()])
    sure = float((areas * scores).sum() / max(areas.sum(), 1))
    # Each nucleus counts by its score: what is doubtful says little about the size.
    diameter = float(np.sqrt(4 / np.pi * typical_area(areas, areas * scores)))
    worth = []
    for centre, window in zip(centres, windows, strict=True):
        labels, scores = found[window[0].start, window[1].start]
        square = _around(centre, TRIAL_PX, shape)
        worth.append(_move(np.append(0, scores**2)[labels], window, square).ravel())
    whole = [one for one in found.values() if one[0].shape == shape]
    return Trial(scale, diameter, sure, np.concatenate(worth), whole[0] if whole else None)


def _move(values: NDArray, window: tuple[slice, slice], square: tuple[slice, slice]) -> NDArray:
    """Return the values of a window of the image as those of a square; NaN where it has none."""
    moved = np.full([part.stop - part.start for part in square], np.nan, np.float32)
    pairs = list(zip(window, square, strict=True))
    there = tuple(slice(max(0, s.start - w.start), s.stop - w.start) for w, s in pairs)
    here = tuple(slice(max(0, w.start - s.start), w.stop - s.start) for w, s in pairs)
    moved[here] = values[there]
    return moved


def _conclude(trials: list[Trial]) -> Scale:
    """Return the best of some trials, with why, how sure, and the next best."""
    values = {trial.scale: trial.value(trials[0]) for trial in trials}
    best = max(trials, key=lambda trial: values[trial.scale])
    if not values[best.scale]:
        tried = ", ".join(f"{trial.scale:g}" for trial in trials)
        reason = (
            f"no nuclei were found at the scales {tried}. Give the median diameter of the nuclei "
            "if you see some"
        )
        return Scale(1.0, np.nan, reason, 0.0, found=trials[0].found)
    size = best.diameter_px
    reason = f"found: {size:.1f} px"
    reason += f", {size * best.scale:.1f} px as resized" if best.scale != 1 else ""
    few = FEW * values[best.scale]
    others = [t for t in trials if not 1 / OTHER < t.diameter_px / size < OTHER]
    others = [t for t in others if values[t.scale] >= few]
    if not others:
        return Scale(best.scale, size, reason, best.sureness, found=best.found)
    other = max(others, key=lambda trial: values[trial.scale])
    reason += f"; next best: scale {other.scale:g}, nuclei of {other.diameter_px:.1f} px"
    share = values[other.scale] / values[best.scale]
    sureness = best.sureness / (1 + share)
    return Scale(best.scale, size, reason, sureness, other.scale, share > CLOSE, best.found)
