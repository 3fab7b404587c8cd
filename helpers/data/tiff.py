"""TIFF: which image of a file is meant, that all of it is there, and what its program noted."""

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import tifffile

from helpers.data.channels import GIVE, choose_channel, is_number

tifffile.logger().setLevel("CRITICAL")  # what is wrong is said by an error, once
PHOTOMETRIC, COMPRESSION = tifffile.PHOTOMETRIC, tifffile.COMPRESSION
SMALLER = 0.3  # of the largest page's area: up to it another page is a reduced copy
MICROMETRES = {"m": 1e6, "cm": 1e4, "mm": 1e3, "inch": 25_400.0, "µm": 1.0, "nm": 1e-3}
SANE_UM = (0.005, 20.0)  # sides of a pixel that a microscope makes; 96 dpi lies above
_COLOURS = {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue", (0, 1, 1): "cyan"}
_COLOURS |= {(1, 0, 1): "magenta", (1, 1, 0): "yellow", (1, 1, 1): "gray"}


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


def name_channels(tiff, series, n: int) -> list[str]:
    """Return a name for each channel, as the file has it, "" where it has none."""
    names = []
    if tiff.is_ome and (pixels := _find_ome_pixels(tiff, series)) is not None:
        names = [tag.get("Name", "") for tag in pixels.iterfind("{*}Channel")]
    elif tiff.is_imagej:
        tables = tiff.imagej_metadata.get("LUTs") or []
        ends = [tuple(int(v > 127) for v in np.asarray(table)[:, -1]) for table in tables]
        names = [_COLOURS.get(end, "") for end in ends]
    return names if len(names) == n else [""] * n


def _find_ome_pixels(tiff, series):
    """Return the element that describes a series, or None."""
    root = ElementTree.fromstring(tiff.ome_metadata)
    found = [element for element in root.iter() if element.tag.endswith("}Pixels")]
    index = list(tiff.series).index(series)
    return found[index] if index < len(found) else None


def find_pixel_size(tiff, series) -> tuple[float | None, str]:
    """Return the side of a pixel in micrometres and where the file says it, or None and ""."""
    sides, source = _read_sides(tiff, series)
    low, high = SANE_UM
    are_sane = len(sides) == 2 and all(low <= side <= high for side in sides)
    if not are_sane or max(sides) > 1.05 * min(sides):
        return None, ""
    return round(sum(sides) / 2, 6), source


def _read_sides(tiff, series) -> tuple[list[float], str]:
    sides = []
    if tiff.is_ome and (pixels := _find_ome_pixels(tiff, series)) is not None:
        for axis in "XY":
            unit = _name_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
            size = pixels.get(f"PhysicalSize{axis}")
            sides += [float(size) * MICROMETRES[unit]] if size and unit in MICROMETRES else []
        return sides, "OME"
    if tiff.is_stk:
        about = tiff.stk_metadata
        unit = _name_unit(str(about.get("CalibrationUnits", "")))
        factor = MICROMETRES.get(unit, 0)
        return [factor * float(about.get(f"{axis}Calibration", 0)) for axis in "XY"], "MetaMorph"
    tags = series.keyframe.tags
    units = {2: "inch", 3: "cm"}
    unit, source = units.get(int(tags.valueof("ResolutionUnit", 2)), ""), "resolution tag"
    if tiff.is_imagej and (said := tiff.imagej_metadata.get("unit")):
        unit, source = _name_unit(str(said)), "ImageJ"
    for name in ("XResolution", "YResolution"):
        n, per = tags.valueof(name, (0, 1))
        sides += [MICROMETRES[unit] * per / n] if n and per and unit in MICROMETRES else []
    return sides, source


def _name_unit(text: str) -> str:
    """Return the key of `MICROMETRES` for a unit's name, or the name."""
    text = text.strip().lower().replace("\\u00b5", "µ").replace("μ", "µ")
    is_micro = text in ("um", "micron", "microns", "micrometer", "micrometre", "micrometers")
    return "µm" if is_micro else text
