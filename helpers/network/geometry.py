"""From an image as stored to the size that the network sees, and back to the image's own size."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

TILE_PX, HALO_PX = 1024, 128
"""Larger images go through in tiles of `TILE_PX`, each with `HALO_PX` of its neighbours around."""


def cut(
    array: NDArray, height: int, width: int, *, start: tuple[float, float] = (0.5, 0.5)
) -> NDArray:
    """Return a view of `array` of at most `height` x `width` along its first two axes.

    `start` says where the cut lies in the room there is, per axis: 0 at the top or left, .5 in the
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
    """Return an image or a label image, (H, W) or (H, W, C), in another size, in its own type.

    `order` is 1 for images: linear, smoothed first where it is reduced; and 0 for label images: the
    nearest pixel's number.
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


def pad_to_multiple(
    array: NDArray, multiple: tuple[int, int]
) -> tuple[NDArray, tuple[slice, slice]]:
    """Return `array` mirrored at its edges up to a multiple of `multiple`, and where it lies there.

    Examples
    --------
    >>> padded, inside = pad_to_multiple(np.ones((5, 8)), (4, 4))
    >>> padded.shape, padded[inside].shape
    ((8, 8), (5, 8))
    """
    missing = [-size % step for size, step in zip(array.shape[:2], multiple, strict=True)]
    pads = [(pixels // 2, pixels - pixels // 2) for pixels in missing]
    starts = zip(pads, array.shape[:2], strict=True)
    inside = tuple(slice(before, before + size) for (before, _), size in starts)
    return np.pad(array, pads + [(0, 0)] * (array.ndim - 2), mode="symmetric"), inside


class Tile(NamedTuple):
    """One tile along one axis: its own pixels, the same with a halo, and its own within those."""

    own: slice
    halo: slice
    inner: slice


def tiles(length: int, multiple: int) -> Iterator[Tile]:
    """Yield the tiles along one axis of `length` pixels, a multiple of `multiple`.

    Own pixels cover 0..`length` once; the size of a tile with its halo is a multiple of `multiple`.

    Examples
    --------
    >>> next(tiles(64, 32)).own
    slice(0, 64, None)
    """
    tile, halo = (-(-px // multiple) * multiple for px in (TILE_PX, HALO_PX))
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        first = max(0, start - halo)
        around = slice(first, min(length, stop + halo))
        yield Tile(slice(start, stop), around, slice(start - first, stop - first))
