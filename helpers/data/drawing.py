"""Draws synthetic images of nuclei with exact labels, the same pixels on every machine.

The only random numbers are uniform ones from PCG64, and pixels are computed with the four
operations and the square root alone, which IEEE 754 rounds alike everywhere. A sine or an
exponential may differ in its last bit.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from skimage.measure import label, regionprops


class Nuclei(NamedTuple):
    """How the nuclei of one modality are shaped and spread; lengths in pixels."""

    radius_px: tuple[float, float]
    elongation: tuple[float, float]
    waviness: float
    area_per_nucleus_px: int
    touching: float


NUCLEI = {
    "small_fluorescent": Nuclei((5.5, 9.0), (1.0, 1.9), 0.10, 1300, 0.35),
    "large_fluorescent": Nuclei((17.0, 23.0), (1.0, 1.6), 0.14, 4000, 0.30),
    "purple_tissue": Nuclei((6.5, 11.0), (1.0, 2.0), 0.14, 1000, 0.35),
    "pink_purple_tissue": Nuclei((10.0, 14.0), (1.0, 1.7), 0.14, 2300, 0.20),
    "grayscale_tissue": Nuclei((6.0, 8.5), (1.0, 1.6), 0.12, 4000, 0.15),
}


def draw_image(modality, rng, *, shape_px=(128, 128)):
    """Return one synthetic image of `modality` and the exact labels of its nuclei.

    Parameters
    ----------
    modality : str
        One of the keys of `NUCLEI`.
    rng : numpy.random.Generator or int
        `PCG64` where the pixels must be reproducible; a number is a seed.
    shape_px : tuple of int
        Height and width, each at least 32.

    Returns
    -------
    image : (H, W) or (H, W, 3) array of uint8
        Gray for fluorescence and grayscale tissue, RGB for stained tissue.
    labels : (H, W) array of int32
        0 is background; nuclei are 1 to n without gaps, and each is one connected region.
    """
    if modality not in NUCLEI:
        allowed = ", ".join(NUCLEI)
        raise ValueError(f"`modality` (={modality!r}) is not a modality; use one of: {allowed}.")
    if len(shape_px) != 2 or min(shape_px) < 32:
        raise ValueError(
            f"`shape_px` (={shape_px}) must be height and width, each at least 32; try (128, 128)."
        )
    rng = np.random.default_rng(rng)
    labels = _place_nuclei(tuple(shape_px), NUCLEI[modality], rng)
    image = _RENDERERS[modality](labels, rng)
    return np.floor(np.clip(image, 0, 255) + 0.5).astype(np.uint8), labels


def _place_nuclei(shape_px, nuclei, rng):
    """Return int32 labels of blobs; some touch a neighbour, a few are cut by the border."""
    labels = np.zeros(shape_px, np.int32)
    wanted = max(2, round(shape_px[0] * shape_px[1] / nuclei.area_per_nucleus_px))
    placed = []
    for _ in range(12 * wanted):
        radius = _between(rng, *nuclei.radius_px)
        centre = [_between(rng, -0.3 * radius, side + 0.3 * radius) for side in shape_px]
        if placed and rng.random() < nuclei.touching:
            other, other_radius = placed[int(rng.integers(len(placed)))]
            step = 0.98 * (radius + other_radius)
            direction = _direction(rng)
            centre = [o + step * d for o, d in zip(other, direction, strict=True)]
        blob = _blob(shape_px, centre, radius, nuclei, rng)
        free = blob & (labels == 0)
        area = int(blob.sum())
        # A hidden nucleus may lose a little to the one in front, but must stay in one piece.
        if area < 12 or int(free.sum()) < 0.9 * area or label(free).max() != 1:
            continue
        placed.append((centre, radius))
        labels[free] = len(placed)
        if len(placed) == wanted:
            break
    return labels


def _blob(shape_px, centre, radius, nuclei, rng):
    """Return a bool (H, W) smooth random blob: an ellipse whose radius is a Fourier series."""
    cosine, sine = _direction(rng)
    stretch = np.sqrt(_between(rng, *nuclei.elongation))
    blob = np.zeros(shape_px, bool)
    reach = 2 * radius + 1
    window = tuple(
        slice(max(0, int(c - reach)), max(0, min(side, int(c + reach) + 1)))
        for c, side in zip(centre, shape_px, strict=True)
    )
    y, x = np.ogrid[window]
    dy, dx = y - centre[0], x - centre[1]
    u = (dx * cosine + dy * sine) / stretch
    v = (dy * cosine - dx * sine) * stretch
    distance = np.sqrt(u * u + v * v) + 1e-9
    c1, s1 = u / distance, v / distance
    ck, sk, edge = c1, s1, 1.0
    for order in (2, 3, 4, 5):
        ck, sk = ck * c1 - sk * s1, sk * c1 + ck * s1
        a, b = (_between(rng, -4, 4) * nuclei.waviness / (order * order) for _ in range(2))
        edge = edge + a * ck + b * sk
    blob[window] = distance < radius * edge
    return blob


def _render_fluorescent(labels, rng, brightness, blur_px):
    brightness = _between(rng, *brightness)
    levels = _per_nucleus(labels, rng, 0.6, 1.4)
    grain = 0.7 + 0.45 * _noise(labels.shape, rng, 3.5) + 0.15 * _noise(labels.shape, rng, 1.7)
    signal = _blur(levels * grain, blur_px)
    haze = _blur(levels, 40)
    light = 0.75 + 0.5 * _illumination(labels.shape, rng)
    image = light * brightness * (signal + 0.10 * haze) + 3.0 + 4.0 * light
    return image + (0.6 + 0.25 * np.sqrt(np.maximum(image, 0))) * _grain(labels.shape, rng)


def _render_purple(labels, rng):
    pale = rng.random() < 0.5
    ground = (214, 216, 220) if pale else (177, 158, 207)
    stroma = (196, 184, 212) if pale else (163, 138, 203)
    image = _mix(_paint(labels.shape, ground), stroma, _fibres(labels.shape, rng, 9))
    image = _mix(image, stroma, 0.9 * _blur((labels > 0).astype(float), 30))
    return _stain(image, labels, rng, (150, 108, 200), (84, 28, 172))


def _render_pink(labels, rng):
    image = _paint(labels.shape, (218, 172, 211))
    image = _mix(image, (196, 100, 182), _noise(labels.shape, rng, 22))
    image = _mix(image, (226, 188, 218), 0.9 * _fibres(labels.shape, rng, 7))
    image = _mix(image, (186, 84, 172), 0.5 * _fibres(labels.shape, rng, 11))
    vessel = _vessel(labels.shape, rng)
    image = _mix(image, (205, 28, 84), vessel * (0.8 + 0.2 * _noise(labels.shape, rng, 12)))
    return _stain(image, labels, rng, (172, 84, 178), (98, 22, 136))


def _render_gray(labels, rng):
    cells = np.zeros(labels.shape)
    shape = Nuclei((0, 0), (1.0, 1.6), 0.20, 1, 0)
    for nucleus in regionprops(labels):
        centre = [c + _between(rng, -8, 8) for c in nucleus.centroid]
        cell = _blob(labels.shape, centre, _between(rng, 24, 32), shape, rng).astype(float)
        rim = cell * (1 - _blur(cell, 20))
        cells = cells + _blur(cell * _between(rng, 0.06, 0.22) + 0.14 * rim, 1)
    folds = 0.75 + 0.35 * _noise(labels.shape, rng, 14) + 0.25 * _noise(labels.shape, rng, 3)
    image = 231 * (1 - np.minimum(cells * folds, 0.45))
    image = image * (0.97 + 0.05 * _illumination(labels.shape, rng))
    depth = _blur(np.where(labels > 0, _per_nucleus(labels, rng, 0.85, 1.0), 0), 2)
    image = image + depth * (56 + 34 * _noise(labels.shape, rng, 3) - image)
    return image + 2.2 * _grain(labels.shape, rng)


_RENDERERS = {
    "small_fluorescent": partial(_render_fluorescent, brightness=(55, 110), blur_px=3),
    "large_fluorescent": partial(_render_fluorescent, brightness=(32, 55), blur_px=4),
    "purple_tissue": _render_purple,
    "pink_purple_tissue": _render_pink,
    "grayscale_tissue": _render_gray,
}


def _stain(image, labels, rng, light, dark):
    """Return RGB `image` (float) with stained nuclei: dark rims and lumps of chromatin."""
    inside = (labels > 0).astype(float)
    rim = 1 - _blur(inside, 12)
    chromatin = 0.6 * _noise(labels.shape, rng, 3) + 0.4 * _noise(labels.shape, rng, 6)
    lumps = 1.1 * (chromatin - 0.4) + 0.6 * rim + _per_nucleus(labels, rng, 0.0, 0.6)
    lumps = np.clip(lumps, 0, 1)
    nuclei = _mix(_paint(labels.shape, light), dark, lumps)
    cover = _blur(inside * _per_nucleus(labels, rng, 0.82, 1.0), 2)[..., None]
    image = image + cover * (nuclei - image)
    light_px = (0.94 + 0.1 * _illumination(labels.shape, rng))[..., None]
    return image * light_px + 3.0 * _grain(labels.shape, rng)[..., None]


def _per_nucleus(labels, rng, low, high):
    values = low + (high - low) * rng.random(int(labels.max()) + 1)
    values[0] = 0
    return values[labels]


def _paint(shape_px, colour):
    return np.broadcast_to(np.array(colour, float), (*shape_px, 3))


def _mix(image, colour, share):
    return image + np.asarray(share)[..., None] * (np.array(colour, float) - image)


def _illumination(shape_px, rng):
    """Return uneven light, (H, W) float about 0 to 1: bright somewhere, falling off around."""
    y, x = (np.linspace(0, 1, side) for side in shape_px)
    dy = (y - _between(rng, 0.25, 0.75))[:, None]
    dx = (x - _between(rng, 0.25, 0.75))[None, :]
    return 1 - 0.9 * (dy * dy + dx * dx)


def _fibres(shape_px, rng, spacing_px):
    """Return wavy streaks, (H, W) float 0 to 1."""
    cosine, sine = _direction(rng)
    y, x = np.ogrid[: shape_px[0], : shape_px[1]]
    warp = 30 * _noise(shape_px, rng, 45) + 8 * _noise(shape_px, rng, 14)
    along, across = (x * cosine + y * sine) / (6 * spacing_px), (y * cosine - x * sine + warp)
    ridge = 1 - np.abs(2 * _value_noise(across / spacing_px, along, rng) - 1)
    return ridge * ridge * ridge


def _vessel(shape_px, rng):
    """Return a band across the image, (H, W) float 0 to 1, as of red blood cells."""
    cosine, sine = _direction(rng)
    y, x = np.ogrid[: shape_px[0], : shape_px[1]]
    across = (y - _between(rng, 0.2, 0.8) * shape_px[0]) * cosine
    across = across - (x - _between(rng, 0.2, 0.8) * shape_px[1]) * sine
    across = np.abs(across + 24 * (_noise(shape_px, rng, 30) - 0.5))
    return np.clip((_between(rng, 10, 17) - across) / 3, 0, 1)


def _noise(shape_px, rng, scale_px):
    y, x = np.ogrid[: shape_px[0], : shape_px[1]]
    return _value_noise(y / scale_px, x / scale_px, rng)


def _value_noise(u, v, rng):
    """Return smooth noise, float 0 to 1, at the coordinates: random knots, interpolated."""
    u, v = np.broadcast_arrays(u - u.min(), v - v.min())
    i, j = np.floor(u).astype(int), np.floor(v).astype(int)
    knots = rng.random((int(i.max()) + 2, int(j.max()) + 2))
    a, b = u - i, v - j
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    top = knots[i, j] * (1 - b) + knots[i, j + 1] * b
    return top * (1 - a) + (knots[i + 1, j] * (1 - b) + knots[i + 1, j + 1] * b) * a


def _blur(image, passes):
    """Return (H, W) float `image` blurred; the standard deviation is sqrt(passes / 2) px."""
    for _ in range(passes):
        p = np.pad(image, 1, mode="edge")
        p = 0.25 * p[:-2] + 0.5 * p[1:-1] + 0.25 * p[2:]
        image = 0.25 * p[:, :-2] + 0.5 * p[:, 1:-1] + 0.25 * p[:, 2:]
    return image


def _grain(shape_px, rng):
    """Return noise of mean 0 and variance 1, bell-shaped: a sum of four uniform numbers."""
    a, b, c, d = rng.random((4, *shape_px))
    return (a + b + c + d - 2) * np.sqrt(3.0)


def _direction(rng):
    while True:
        a, b = _between(rng, -1, 1), _between(rng, -1, 1)
        if 0.01 < a * a + b * b <= 1:
            length = np.sqrt(a * a + b * b)
            return a / length, b / length


def _between(rng, low, high):
    return low + (high - low) * rng.random()
