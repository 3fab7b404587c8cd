"""From an image as stored to what the network sees, and back to the image's own size.

Training and prediction both come through here, so that they cannot differ.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.analysis.modality import is_stained
from helpers.data.reading import check_image
from helpers.settings import Settings

PERCENTILES = (1.0, 99.8)
"""The range that "percentile" maps to 0..1, as in the examples of StarDist (Schmidt et al. 2018,
doi:10.1007/978-3-030-00934-2_30)."""
POLARITY_PERCENTILES = (1.0, 50.0, 99.0)  # whose wider half, below or above 50, is the ground's
RED_SHARE = 1 / 3  # of the widest channel's range, from which on red alone is asked


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

    Nuclei cover less than half of nearly every image, so the median is ground. In a coloured image
    red is asked, unless there is hardly any: haematoxylin, which stains nuclei, absorbs red light,
    and eosin, which stains what lies around them, does not (optical densities .65 and .07 of 1;
    Ruifrok & Johnston 2001, Anal. Quant. Cytol. Histol. 23, 291-299). Stained tissue has a bright
    ground even where dense tissue leaves little of it.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array of uint8, uint16 or float

    Examples
    --------
    >>> has_bright_ground(np.array([[9, 9, 0]], np.uint8)), has_bright_ground(np.zeros((2, 2)))
    (True, False)
    """
    low, median, high = np.percentile(telling_channel(image), POLARITY_PERCENTILES)
    if image.shape[2:] == (3,) and is_stained(image) != is_stained(negative(image)):
        return is_stained(image)
    return bool(median - low > high - median)


def negative(image: NDArray[np.number]) -> NDArray[np.number]:
    """Return the image whose bright pixels are dark, in the same type and range."""
    full = np.iinfo(image.dtype).max if image.dtype.kind == "u" else image.dtype.type(1)
    return full - image


def telling_channel(image: NDArray[np.number]) -> NDArray[np.number]:
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


_RANGES = {"scale": _full_range, "percentile": _percentile_range, "standardise": _standard_range}


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
