"""TIFF: which image of a file is meant, and that all of it is there."""

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import numpy as np
import tifffile

from helpers.data.channels import GIVE, choose_channel, is_number
from helpers.data.tiff_notes import find_pixel_size, name_channels

tifffile.logger().setLevel("CRITICAL")  # what is wrong is said by an error, once
PHOTOMETRIC, COMPRESSION = tifffile.PHOTOMETRIC, tifffile.COMPRESSION
SMALLER = 0.3  # of the largest page's area: up to it another page is a reduced copy


class Stored(NamedTuple):
    """What a file holds, in the machine's byte order; no value changed."""

    pixels: np.ndarray  # (H, W) or (H, W, C): gray or RGB, with or without alpha
    has_alpha: bool = False  # the last channel is opacity
    palette: np.ndarray | None = None  # (N, 3) uint8: the colours that the numbers stand for
    black: int | None = None  # the value that is black, in a file where 0 is white
    is_chosen: bool = False  # one of several channels was taken
    pixel_size_um: float | None = None
    pixel_size_source: str = ""
    notes: tuple[str, ...] = ()  # what was chosen, and from what


def read_tiff(file, channel: int | str | None = None, plane: int | str | None = None) -> Stored:
    """Return one image of a TIFF file; an ambiguous choice or missing parts raise ValueError.

    `channel` and `plane` as for `helpers.data.reading.read_any_image`; an image whose file calls
    it RGB is returned whole.
    """
    with tifffile.TiffFile(file) as tiff:
        series, plane, note = _choose_series(tiff, plane)
        page = series.keyframe
        _refuse_colour_type(page)
        read_frame, order = _find_frames(tiff, series)
        pixels, has_alpha, is_chosen, notes = _take(tiff, series, read_frame, order, channel, plane)
        palette = None
        if page.photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
            palette = (page.colormap.T >> 8).astype(np.uint8)
        is_inverted = page.photometric == PHOTOMETRIC.MINISWHITE and pixels.dtype.kind in "ub"
        black = (1 << page.bitspersample) - 1 if is_inverted else None
        size = find_pixel_size(tiff, series)
    notes = tuple(filter(None, (note, *notes)))
    return Stored(pixels, has_alpha, palette, black, is_chosen, *size, notes)


def _choose_series(tiff, plane) -> tuple[tifffile.TiffPageSeries, int | str | None, str]:
    """Return the image that is meant, what is left of `plane`, and a note."""
    full = [series for series in tiff.series if not series.keyframe.subfiletype & 0b101]
    full = full or list(tiff.series)
    if not full:
        raise ValueError("a TIFF without an image; save it again")
    sides = [_shape_of(series) for series in full]
    areas = [height * width for height, width in sides]
    large = [i for i, area in enumerate(areas) if area > SMALLER * max(areas)]
    n_levels = len(full[large[0]].levels)
    n_left_out = len(tiff.series) - len(large) + n_levels - 1
    note = f"the largest image; {n_left_out} smaller left out" if n_left_out else ""
    if len(large) == 1:
        return full[large[0]], plane, note
    shown = ", ".join("{} x {}".format(*sides[i]) for i in large[:4])
    if not is_number(plane) or not 1 <= plane <= len(large):
        raise ValueError(
            f"{len(large)} images in one file ({shown}){GIVE}`plane` (={plane!r}), a number from 1 "
            f"to {len(large)}"
        )
    return full[large[plane - 1]], None, f"image {plane} of {len(large)}"


def _shape_of(series) -> tuple[int, int]:
    return tuple(series.shape[series.axes.index(axis)] for axis in "YX")


def _refuse_colour_type(page) -> None:
    """Raise ValueError where the numbers are neither gray, RGB nor a palette's."""
    known = {PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.RGB, PHOTOMETRIC.PALETTE}
    known |= {PHOTOMETRIC.LINEAR_RAW}
    to_rgb = page.compression in (COMPRESSION.JPEG, COMPRESSION.OJPEG, 34712, 33003, 33005)
    if page.photometric in known or (page.photometric == PHOTOMETRIC.YCBCR and to_rgb):
        return
    name = getattr(page.photometric, "name", page.photometric)
    raise ValueError(f"a TIFF of colour type {name}; save it as gray or RGB")


def _find_frames(tiff, series) -> tuple[Callable[[int], np.ndarray], np.ndarray]:
    """Return a function that reads one frame, (H, W) or (H, W, S), and the frames' order.

    The order has one row a plane and one column a channel; it holds numbers of frames.
    """
    axes, shape = series.axes, series.shape
    inner = [i for i, axis in enumerate(axes) if axis in "YXS"]
    outer = [i for i in range(len(axes)) if i not in inner]
    frame_shape = tuple(shape[i] for i in inner)
    n_frames = int(np.prod([shape[i] for i in outer]))
    if tiff.is_imagej and (said := tiff.imagej_metadata.get("images", 1)) > n_frames:
        raise ValueError(f"the file is cut short: {n_frames} of its {said} images are there")
    order = np.arange(n_frames).reshape([shape[i] for i in outer])
    n_channels = shape[axes.index("C")] if "C" in axes else 1
    if "C" in axes:
        order = np.moveaxis(order, outer.index(axes.index("C")), -1)
    samples_last = np.argsort(["YXS".index(axes[i]) for i in inner])
    read = _choose_reader(tiff, series, outer + inner, n_frames, frame_shape)

    def read_frame(number: int) -> np.ndarray:
        frame = np.transpose(read(int(number)).reshape(frame_shape), samples_last)
        return frame.astype(frame.dtype.newbyteorder("="), copy=False)

    return read_frame, order.reshape(-1, n_channels)


def _choose_reader(tiff, series, order: list[int], n_frames: int, frame_shape: tuple[int, ...]):
    """Return a function that reads a frame by its number, and no other frame where it can."""
    is_plain = order == sorted(order)
    file = tiff.filehandle
    if is_plain and series.dataoffset is not None:  # one block, perhaps of more planes than pages
        dtype = np.dtype(tiff.byteorder + series.dtype.char)
        n_values = int(np.prod(frame_shape))
        n_bytes = n_values * dtype.itemsize
        if series.dataoffset + n_frames * n_bytes > file.size:
            raise ValueError("the file is cut short: its pixels go beyond its end")

        def read_block(number: int) -> np.ndarray:
            file.seek(series.dataoffset + number * n_bytes)
            return file.read_array(dtype, n_values)

        return read_block
    if is_plain and len(series.pages) == n_frames:

        def read_page(number: int) -> np.ndarray:
            _refuse_missing(series.pages[number], file.size)
            return series.pages[number].asarray()

        return read_page
    for page in series.pages:
        _refuse_missing(page, file.size)
    whole = np.transpose(series.asarray(), order).reshape(n_frames, *frame_shape)
    return whole.__getitem__


def _refuse_missing(page, file_size: int) -> None:
    """Raise ValueError where strips or tiles are missing, which would be read as zeros."""
    if page is None:
        raise ValueError("the pixels lie in another file of the series; save one image a file")
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    n_missing = sum(not start or not n or start + n > file_size for start, n in parts)
    if n_missing or not parts:
        raise ValueError(
            f"the file is cut short: {n_missing} of its {len(parts)} strips or tiles are missing; "
            "copy or save it again"
        )


def _take(tiff, series, read_frame, order, channel, plane):
    """Return the pixels asked for, whether alpha is among them, whether a channel was chosen."""
    n_samples = series.shape[series.axes.index("S")] if "S" in series.axes else 1
    is_colour, has_alpha = _sort_samples(series.keyframe, n_samples, read_frame, order[0, 0])
    rows, plane_note = _choose_planes(plane, series, len(order))

    def project(index: int) -> np.ndarray:
        return reduce(np.maximum, (read_frame(order[row, index]) for row in rows))

    if is_colour and order.shape[1] == 1:
        return project(0), has_alpha, False, [plane_note]
    if not is_colour and order.shape[1] > 1:
        raise ValueError(f"the axes {series.axes} hold channels twice; save one channel a file")
    names = name_channels(tiff, series, order.shape[1] if is_colour else n_samples)
    chosen, note = choose_channel(channel, names)
    one = project(0) if not is_colour else None
    channels = [project(index) if is_colour else one[..., index] for index in chosen]
    pixels = channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)
    return pixels, has_alpha and len(channels) == 1, True, [note, plane_note]


def _sort_samples(page, n_samples: int, read_frame, first: int) -> tuple[bool, bool]:
    """Return whether the samples of a pixel are gray or a colour, and whether alpha is there.

    Samples beyond that are channels, unless the file calls the last one alpha or it is filled.
    """
    n_colours = 3 if page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) else 1
    if n_samples == n_colours:
        return True, False
    if n_samples != n_colours + 1:
        return False, False
    if page.extrasamples and page.extrasamples[-1] in (1, 2):
        return True, True
    opacity = read_frame(first)[..., -1]
    is_filled = opacity.dtype.kind == "u" and (opacity == np.iinfo(opacity.dtype).max).all()
    return bool(is_filled), bool(is_filled)


def _choose_planes(plane, series, n_planes: int) -> tuple[list[int], str]:
    """Return the indices of the planes that are asked for, and a note."""
    if n_planes == 1:
        if plane in (None, 1, "max"):
            return [0], ""
        raise ValueError(f'`plane` (={plane!r}) of an image of one plane must be 1 or "max"')
    if plane == "max":
        return list(range(n_planes)), f"maximum of {n_planes} planes"
    if is_number(plane) and 1 <= plane <= n_planes:
        return [plane - 1], f"plane {plane} of {n_planes}"
    height, width = _shape_of(series)
    sizes = zip(series.axes, series.shape, strict=True)
    sides = " x ".join(f"{axis} {n}" for axis, n in sizes if axis not in "YXSC")
    raise ValueError(
        f"{n_planes} planes of {height} x {width} pixels in one file ({sides}){GIVE}`plane` "
        f'(={plane!r}), a number from 1 to {n_planes}, or "max" for their maximum'
    )
