"""What of an image is its nuclei's: which channel, which part is image at all, which range.

Each function acts on an image only where a test of its pixels says that the usual answer is wrong,
and says so in words: every image that the network was trained on stays as it is.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import kurtosis, skew
from skimage.measure import approximate_polygon, find_contours

from helpers.analysis.modality import BRIGHT_GROUND, full_scale
from helpers.data.channels import select_channel
from helpers.network.intensities import RED_SHARE, has_bright_ground, telling_channel

COLOURS = ("red", "green", "blue")
ONE_DYE = 0.95  # share of every channel's variance that brightness explains, for a single dye
DARK = 0.1  # share of the brightest colour below which fluorescence is darkest; tissue above 0.13
STRAIGHT = 0.8  # share of a margin's edge that lies in long straight lines; around cells none
SHORTEST_PX = 32  # a straight line that is longer than a nucleus is wide
MARGIN_SHARE = 0.005  # of the image's area; a smaller margin changes neither ground nor range
FEW, FAINT, SEEN_PX = 0.2, 0.25, 60
"""The range is that of a few spots where `FEW` times as many objects reach `FAINT` of it as stay
below, both of `SEEN_PX` pixels or more. True of 2 of the Bowl's 664 images."""
HOT = 0.5  # hot pixels set a range that falls to this share without them; annotated images: 0.87
NOISE = 0.15, 0.3, 0.76
"""Largest skewness, excess kurtosis and ratio of noise at 4 to that at 2 pixels in a blank field;
0, 0 and 0.5 in white noise. No annotated image that we know comes near all three."""
SURFACE, FLAT = 4, 1e-4
"""Order, along each side, of the surface that a ground may be; and the share of the brightest
value up to which what differs from it is nothing."""


class Field(NamedTuple):
    """The part of an image that is image, as the network is to see it."""

    image: NDArray  # (h, w) or (h, w, 3); what is not valid has the colour of the ground
    valid: NDArray[np.bool_] | None  # (h, w); None: image everywhere
    box: tuple[slice, slice]  # where it lies in the image as given
    channel: str  # which channel was taken, and why
    warnings: list[str]


def prepare(
    image: NDArray, valid: NDArray[np.bool_] | None = None, channel: int | str | None = None
) -> Field:
    """Return the part of an image that shows nuclei, as the network is to see it.

    `image` is (H, W) or (H, W, 3) of uint8, uint16 or float; `valid`, (H, W) bool, is False where
    there is no image, and constant margins are found beside that; `channel` is as for
    `helpers.data.channels.select_channel`, None finds it. ValueError if there is no such channel,
    it cannot be found, or no pixel is valid.
    """
    valid = find_valid(image, valid)
    gray, name = _choose(image, valid, channel)
    box, warnings = (slice(None), slice(None)), []
    if valid is not None:
        if not valid.any():
            raise ValueError("no pixel of the image is valid")
        box = ndimage.find_objects(valid.astype(np.int8))[0]
        gray, valid = gray[box].copy(), valid[box]
        gray[~valid] = np.median(gray[valid], axis=0).astype(gray.dtype)
        warnings += [f"{1 - valid.mean():.0%} of the field is margin"] if valid.mean() < 0.5 else []
    gray, spots = tame_range(gray)
    return Field(gray, valid, box, name, warnings + spots)


def find_valid(image: NDArray, valid: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Return where an image is image: neither `valid` forbids it nor is it a constant margin.

    A margin is one colour, touches the border, and ends in straight lines, as what stitching,
    turning or drift leaves; black ground ends at nuclei. None where every pixel is image.
    """
    same = np.ones(image.shape[:2], bool) if valid is None else valid.copy()
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    colours, counts = np.unique(border, axis=0, return_counts=True)
    for colour in colours[counts > 0.02 * len(border)]:
        equal = image == colour
        equal = equal if image.ndim == 2 else equal.all(axis=2)
        parts, _ = ndimage.label(equal)
        at_border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
        areas = np.bincount(parts.ravel())
        for part in at_border[(at_border > 0) & (areas[at_border] > MARGIN_SHARE * equal.size)]:
            margin = parts == part
            if _ends_straight(margin):
                same &= ~margin
    same = same if same.any() else valid  # a constant image is no margin
    return None if same is None or same.all() else same


def _ends_straight(margin: NDArray[np.bool_]) -> bool:
    """Tell whether the edge of a region, but for the image's border, is made of straight lines."""
    shortest = max(min(margin.shape) / 8, SHORTEST_PX)
    total = straight = 0.0
    for contour in find_contours(np.pad(margin, 1, mode="edge").astype(np.float32), 0.5):
        corners = approximate_polygon(contour, 1.5)
        lengths = np.hypot(*np.diff(corners, axis=0).T)
        total += lengths.sum()
        straight += lengths[lengths >= shortest].sum()
    return total > 0 and straight >= STRAIGHT * total


def _choose(image, valid, channel) -> tuple[NDArray, str]:
    """Return the channel of an image that shows nuclei, or all of them, and a word on why."""
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if channel is not None:
        return select_channel(image, channel), f"{channel}, as given" if image.ndim == 3 else "gray"
    if image.ndim == 2:
        return image, "gray"
    pixels = image.reshape(-1, 3) if valid is None else image[valid]
    pixels = pixels[:: max(1, len(pixels) // 100_000)].astype(np.float32)
    if not is_fluorescence(pixels, full_scale(image) if image.dtype.kind == "u" else image.max()):
        return image, "all colours"
    shown = [COLOURS[i] for i in np.flatnonzero(_spread(pixels) >= RED_SHARE / 4)]
    if is_one_dye(pixels):
        return image.mean(axis=2, dtype=np.float32), "one dye: the mean of the colours"
    if "blue" in shown:
        return image[..., 2], f"blue of {', '.join(shown)}: most nuclear stains are"
    raise ValueError(
        f"a composite of {' and '.join(shown)} without blue; give the `channel` of the nuclei"
    )


def is_fluorescence(pixels: NDArray, full: float) -> bool:
    """Tell whether colours (N, 3) are light on dark; stains have some light in every pixel."""
    strongest = pixels.max(axis=1)
    darkest, brightest = np.percentile(strongest, (1, 99.8))
    return bool(
        np.median(pixels.mean(axis=1)) <= BRIGHT_GROUND * full and darkest <= DARK * brightest
    )


def _spread(pixels: NDArray) -> NDArray:
    """Return the range of each channel as a share of the widest."""
    low, high = np.percentile(pixels, (1, 99.8), axis=0)
    return (high - low) / max((high - low).max(), 1e-9)


def is_one_dye(pixels: NDArray) -> bool:
    """Tell whether the colours (N, 3) are one dye's: on a line from black, or a lookup table's.

    On a curve through two channels alone lie those of nuclei inside of cells.
    """
    channels = pixels.T[_spread(pixels) >= RED_SHARE / 4]
    if len(channels) == 1 or np.corrcoef(channels).min() > ONE_DYE:
        return True
    brightness = pixels.mean(axis=1)
    edges = np.unique(np.quantile(brightness, np.linspace(0, 1, 65)))
    bins = np.searchsorted(edges, brightness)
    counts = np.maximum(np.bincount(bins), 1)
    means = [np.bincount(bins, channel) / counts for channel in channels]
    rest = [((c - m[bins]) ** 2).mean() / c.var() for c, m in zip(channels, means, strict=True)]
    return len(channels) == 3 and max(rest) < 1 - ONE_DYE


def tame_range(image: NDArray) -> tuple[NDArray, list[str]]:
    """Return an image without what spoils the range of its nuclei, and a warning where it acted.

    Single hot pixels give way to the median of their neighbours. A few spots far brighter than
    many fainter objects (in a bright field: darker) are cut down to twice what those reach.
    """
    is_bright = has_bright_ground(image)
    signal = np.asarray(telling_channel(image), np.float32) * (-1 if is_bright else 1)
    calm = ndimage.median_filter(signal, 3)
    ground = np.median(calm)
    low, high = np.percentile(signal, 99.8) - ground, np.percentile(calm, 99.8) - ground
    warnings = []
    if high < HOT * low:
        spots = np.abs(signal - calm) > high / 2
        image = image.copy()
        size = (3, 3, 1)[: image.ndim]
        image[spots] = ndimage.median_filter(image, size)[spots]
        signal = np.where(spots, calm, signal)
        warnings.append(f"{np.count_nonzero(spots)} single bright pixels were smoothed out")
    top = _top_of_many(ndimage.gaussian_filter(calm, 1), np.percentile(signal, 99.8))
    if top is None:
        return image, warnings
    cut = -top if is_bright else top
    clipped = np.maximum(image, cut) if is_bright else np.minimum(image, cut)
    warnings.append(
        "a few spots are many times as strong as all else: they were cut down, so that the rest "
        "is seen. Look whether they are nuclei"
    )
    return clipped.astype(image.dtype), warnings


def _top_of_many(calm: NDArray, high: float) -> float | None:
    """Return the intensity to cut at where few objects set the range and many lie low in it."""
    ground = np.median(calm)
    reach = high - ground
    noise = 1.4826 * np.median(ground - calm[calm <= ground])
    least = max(8 * noise, 0.005 * reach)
    if least > 0.1 * reach:
        return None
    parts, n = ndimage.label(calm > ground + least)
    areas = np.bincount(parts.ravel(), minlength=n + 1)[1:]
    tops = np.asarray(ndimage.maximum(calm, parts, np.arange(1, n + 1))) - ground
    tops = tops[areas >= SEEN_PX]
    faint = tops[tops <= FAINT * reach]
    if len(faint) < 5 or len(tops) - len(faint) > FEW * len(faint):
        return None
    return float(ground + 1.5 * np.percentile(faint, 90))


def is_blank(image: NDArray) -> bool:
    """Tell whether a field holds nothing but noise on an even or slowly changing ground.

    Noise has no skewness and no heavy tails once it is smoothed, and falls when it is smoothed
    twice as wide; anything with nuclei fails one of the three. Stripes along the sides are noise.
    """
    gray = np.asarray(image if image.ndim == 2 else image.mean(axis=2), np.float32)
    step = max(1, min(gray.shape) // 512)
    calm = ndimage.median_filter(gray, 3)
    fine, coarse = (_flatten(ndimage.gaussian_filter(calm, s * step), 2 * step) for s in (2, 4))
    if np.abs(fine).max() <= FLAT * np.abs(gray).max():
        return True
    largest_skew, largest_kurtosis, ratio = NOISE
    return bool(
        abs(skew(fine)) < largest_skew
        and abs(kurtosis(fine)) < largest_kurtosis
        and coarse.std() < ratio * fine.std()
    )


def _flatten(image: NDArray, step: int) -> NDArray:
    """Return every `step`-th pixel, less the surface that fits them best, and less stripes."""
    values = image[::step, ::step]
    across, down = (
        np.linalg.qr(np.polynomial.legendre.legvander(np.linspace(-1, 1, n), SURFACE))[0]
        for n in values.shape
    )
    values = values - across @ (across.T @ values @ down) @ down.T
    values = values - values.mean(axis=0)
    return (values - values.mean(axis=1, keepdims=True)).ravel()
