"""From an image as stored to what the network sees, and back to the image's own size.

Training and prediction both come through here, so that they cannot differ.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from helpers.settings import Settings

PERCENTILES = (1.0, 99.8)
"""The range that "percentile" maps to 0..1, as in the examples of StarDist (Schmidt et al. 2018,
doi:10.1007/978-3-030-00934-2_30)."""
POLARITY_PERCENTILES = (1.0, 50.0, 99.0)
"""Which of the two halves of this range, below or above the median, is the wider one."""
RED_SHARE = 1 / 3
"""Red alone is asked where its range is at least this share of the widest channel's."""


class IntensityRange(NamedTuple):
    """What `normalise` subtracts, and what it then divides by; negative where it reverses."""

    offset: float
    scale: float


def intensity_range(
    image: NDArray[np.number], normalisation: str = "scale", polarity: str = "as_stored"
) -> IntensityRange:
    """Return which intensities of `image` become 0 and 1 (or mean 0 and standard deviation 1).

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array of uint8, uint16 or float
        Floats are taken to be scaled to 0..1 already where `normalisation` is "scale".
    normalisation : {"scale", "percentile", "standardise"}
        See `helpers.settings.Preprocessing`. One range for all channels, so that hues stay.
    polarity : {"as_stored", "dark_ground"}
        With "dark_ground", an image and its negative have ranges that make them equal.

    Raises
    ------
    ValueError
        If the image is empty, holds NaN or infinity, or has another shape or type.
    """
    image = check_image(image)
    reverse = polarity == "dark_ground" and has_bright_ground(image)
    return IntensityRange(*_RANGES[normalisation](image, reverse))


def has_bright_ground(image: NDArray[np.number]) -> bool:
    """Return whether most of `image` lies in the brighter half of its intensities.

    Nuclei cover less than half of nearly every image, so the median is ground. The ends of the
    range are the 1st and the 99th percentile: a few glaring pixels do not count. An image of one
    constant value has no bright ground.

    In a coloured image red is asked, unless there is hardly any: haematoxylin, which stains nuclei,
    absorbs red light, and eosin, which stains what lies around them, does not (optical densities
    .65 and .07 of 1; Ruifrok & Johnston 2001, Anal. Quant. Cytol. Histol. 23, 291-299). So a
    muscle of strong red counts as bright ground. Without red, all channels are averaged.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array of uint8, uint16 or float

    Examples
    --------
    >>> has_bright_ground(np.array([[9, 9, 0]], np.uint8)), has_bright_ground(np.zeros((2, 2)))
    (True, False)
    """
    low, median, high = np.percentile(_telling_channel(image), POLARITY_PERCENTILES)
    return bool(median - low > high - median)


def _telling_channel(image: NDArray[np.number]) -> NDArray[np.number]:
    """Return the channel, (H, W), in which the ground is told from the nuclei."""
    if image.ndim == 2 or image.shape[2] == 1:
        return image
    low, _, high = np.percentile(image, POLARITY_PERCENTILES, axis=(0, 1))
    ranges = high - low
    if ranges[0] >= RED_SHARE * ranges.max():
        return image[..., 0]
    return image.mean(axis=2, dtype=np.float32)


def normalise(image: NDArray[np.number], intensities: IntensityRange) -> NDArray[np.float32]:
    """Return `image` as float32 with the range `intensities` mapped to 0..1.

    An image of one constant value, whose range is empty, becomes 0 everywhere.

    Examples
    --------
    >>> image = np.array([[0, 255]], np.uint8)
    >>> normalise(image, intensity_range(image))
    array([[0., 1.]], dtype=float32)
    """
    factor = np.float32(1 / intensities.scale if intensities.scale else 0)
    return (image.astype(np.float32) - np.float32(intensities.offset)) * factor


def _full_range(image, reverse):
    full = float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else 1.0
    return (full, -full) if reverse else (0.0, full)


def _percentile_range(image, reverse):
    percentiles = [100 - p for p in PERCENTILES] if reverse else PERCENTILES
    dark, bright = np.percentile(image, percentiles)
    return dark, bright - dark


def _standard_range(image, reverse):
    deviation = image.std(dtype=np.float64)
    return image.mean(dtype=np.float64), -deviation if reverse else deviation


_RANGES = {
    "scale": _full_range,
    "percentile": _percentile_range,
    "standardise": _standard_range,
}


def check_image(image: NDArray[np.number]) -> NDArray[np.number]:
    """Return `image` as an array if it is one that the series can use; raise ValueError if not."""
    image = np.asarray(image)
    if (
        image.ndim not in (2, 3)
        or (image.ndim == 3 and image.shape[2] not in (1, 3))
        or not image.size
    ):
        raise ValueError(
            f"an image must have shape (H, W), (H, W, 1) or (H, W, 3), received {image.shape}; "
            "drop an alpha channel first, and give one image, not a stack"
        )
    if image.dtype not in (np.uint8, np.uint16) and image.dtype.kind != "f":
        raise ValueError(f"an image must be uint8, uint16 or float, received {image.dtype}")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        n_bad = int((~np.isfinite(image)).sum())
        raise ValueError(
            f"the image holds {n_bad} values that are NaN or infinite; replace them first"
        )
    return image


def to_channels(image: NDArray, channels: int) -> NDArray:
    """Return `image` as (H, W, `channels`): gray is repeated, colour is averaged to gray."""
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] == channels:
        return image
    if channels == 1:
        return image.mean(axis=2, keepdims=True, dtype=np.float32)
    return np.repeat(image, channels, axis=2)


def measure_range(image: NDArray[np.number], settings: Settings) -> IntensityRange:
    """Return the intensity range of a whole image that the settings ask for."""
    preprocessing = settings.preprocessing
    return intensity_range(image, preprocessing.normalisation, preprocessing.polarity)


def network_input(image: NDArray[np.number], settings: Settings) -> NDArray[np.float32]:
    """Return what the network sees of a whole image, (H, W, channels) float32, size unchanged."""
    intensities = measure_range(image, settings)
    channels = settings.model_structure.input_params.channels
    return to_channels(normalise(np.asarray(image), intensities), channels)


def cut(
    array: NDArray, height: int, width: int, *, start: tuple[float, float] = (0.5, 0.5)
) -> NDArray:
    """Return a view of `array` of at most `height` x `width` along its first two axes.

    Parameters
    ----------
    start : two floats in [0, 1]
        Where the cut lies in the room there is, per axis: 0 at the top or left, .5 in the
        centre, 1 at the bottom or right.

    Examples
    --------
    >>> cut(np.arange(5)[None], 1, 3)
    array([[1, 2, 3]])
    """
    room = (max(0, array.shape[0] - height), max(0, array.shape[1] - width))
    top, left = (round(pixels * where) for pixels, where in zip(room, start, strict=True))
    return array[top : top + height, left : left + width]


def rescale(array: NDArray, shape: tuple[int, int], *, order: int = 1) -> NDArray:
    """Return an image or a label image in another size, in its own type.

    Parameters
    ----------
    array : (H, W) or (H, W, C) array
    shape : tuple of int
        Height and width to bring it to, in pixels.
    order : {0, 1}
        1 for images: linear, smoothed first where it is reduced (standard deviation of
        `skimage.transform.resize`). 0 for label images: the nearest pixel's number.
    """
    if array.shape[:2] == tuple(shape):
        return array
    scaled = resize(
        array, shape, order=order, mode="edge", preserve_range=True, anti_aliasing=order > 0
    )
    return scaled if array.dtype.kind == "f" else np.rint(scaled).astype(array.dtype)


def pad(array: NDArray, height: int, width: int) -> NDArray:
    """Return `array` with zeros around it up to `height` x `width` along its first two axes.

    Examples
    --------
    >>> pad(np.ones((1, 2), int), 1, 4)
    array([[0, 1, 1, 0]])
    """
    missing = (max(0, height - array.shape[0]), max(0, width - array.shape[1]))
    if not any(missing):
        return array
    pads = [(pixels // 2, pixels - pixels // 2) for pixels in missing]
    return np.pad(array, pads + [(0, 0)] * (array.ndim - 2))


class Padding(NamedTuple):
    """Pixels added on each side, undone by `crop_padding`."""

    top: int
    bottom: int
    left: int
    right: int


def pad_to_multiple(array: NDArray, multiple: tuple[int, int]) -> tuple[NDArray, Padding]:
    """Return `array` mirrored at its edges up to a multiple of `multiple`, and what was added.

    Parameters
    ----------
    array : (H, W, ...) array
        Any size from 1 x 1 on.

    Examples
    --------
    >>> padded, padding = pad_to_multiple(np.ones((5, 8)), (4, 4))
    >>> padded.shape, crop_padding(padded, padding).shape
    ((8, 8), (5, 8))
    """
    missing = [-size % step for size, step in zip(array.shape[:2], multiple, strict=True)]
    (top, left) = (pixels // 2 for pixels in missing)
    padding = Padding(top, missing[0] - top, left, missing[1] - left)
    pads = [(padding.top, padding.bottom), (padding.left, padding.right)]
    return np.pad(array, pads + [(0, 0)] * (array.ndim - 2), mode="symmetric"), padding


def crop_padding(array: NDArray, padding: Padding) -> NDArray:
    """Return `array` without the pixels that `pad_to_multiple` added."""
    height, width = array.shape[:2]
    return array[padding.top : height - padding.bottom, padding.left : width - padding.right]
