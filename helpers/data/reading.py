"""The one reader of image files: PNG, TIFF and JPEG as people have them, nothing degraded."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from scipy import ndimage

from helpers.data.channels import select_channel, to_number
from helpers.data.tiff import Stored, read_tiff
from helpers.settings import Settings

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_COLOUR_AT, _PALETTE = 25, 3  # of the PNG header, https://www.w3.org/TR/png-3/#11IHDR
MIN_SIDE_PX = 16
SMOOTH = 16  # largest step between entries of a lookup table, of 255; palettes have larger ones


@dataclass(frozen=True)
class ImageFile:
    """The pixels of an image file, and what the file says of them."""

    pixels: NDArray  # (H, W) or (H, W, 3) of uint8, uint16 or float32: finite, as stored, unturned
    valid: NDArray[np.bool_] | None = None  # (H, W), False at alpha 0, NaN, infinity; None: nowhere
    pixel_size_um: float | None = None
    pixel_size_source: str = ""  # "OME", "ImageJ", "MetaMorph" or "resolution tag"
    n_channels: int = 1  # in the file, alpha included, after the choice of a channel
    about: str = ""  # what was chosen and changed: "channel 2 of 3 (DAPI); maximum of 5 planes"


class Patch(NamedTuple):
    """The part of one mask file that holds its foreground."""

    shape: tuple[int, int]  # height and width of the whole file
    box: tuple[slice, slice]  # where it lies in there
    values: np.ndarray  # (h, w), 0 = background


def read_any_image(
    file: str | Path | bytes,
    channel: int | str | None = None,
    plane: int | str | None = None,
    *,
    min_side_px: int = MIN_SIDE_PX,
) -> ImageFile:
    """Return one image of a file, as a network takes it.

    Three equal channels become one. 1 bit becomes 0 and 255. Whole numbers become uint8 or uint16
    where they fit; where some are below 0 all are shifted, which `about` says. Larger ones become
    float32. Lookup tables that a microscope's program adds to gray values are passed over, palettes
    of colours are resolved, and where 0 is white, values are reversed. ValueError says that it is
    no such file, damaged or too small, or which of several images might be meant.

    Parameters
    ----------
    file : str, Path or bytes
        PNG, TIFF or JPEG by its content, or that content.
    channel : int or str, optional
        A number from 1, the name that the file gives it, a colour of `CHANNELS`, "haematoxylin",
        or "rgb" for all of three. None takes an RGB image whole, and of several channels the one
        with the name of a nuclear stain.
    plane : int or str, optional
        Of a stack: a number from 1, or "max" for the maximum over all.
    """
    channel, plane = to_number(channel), to_number(plane)
    stored = decode(file, channel, plane)
    pixels, alpha, notes = _resolve(stored)
    n_channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if not stored.is_chosen:
        pixels = select_channel(pixels, channel)
        if channel is not None and n_channels > 1 and pixels.ndim == 2:
            notes.append(f"channel {channel} of the colour image")
    height, width = pixels.shape[:2]
    if min(height, width) < min_side_px:
        raise ValueError(f"{height} x {width} pixels; each side must have {min_side_px} or more")
    pixels, valid, note = _to_known_type(pixels)
    if alpha is not None and (alpha > 0).any() and not (alpha > 0).all():
        valid = alpha > 0 if valid is None else valid & (alpha > 0)
    return ImageFile(
        np.ascontiguousarray(_merge_equal(pixels)),
        valid,
        stored.pixel_size_um,
        stored.pixel_size_source,
        n_channels + (alpha is not None),
        "; ".join(filter(None, (*notes, note))),
    )


def decode(
    file: str | Path | bytes,
    channel: int | str | None = None,
    plane: int | str | None = None,
) -> Stored:
    """Return what a PNG, TIFF or JPEG file holds, as it is stored; see `read_any_image`."""
    is_raw = isinstance(file, bytes)
    if is_raw:
        start = file[:16]
    else:
        with Path(file).open("rb") as opened:
            start = opened.read(16)
    try:
        if start.startswith(TIFF_SIGNATURES):
            return read_tiff(io.BytesIO(file) if is_raw else file, channel, plane)
        raw = file if is_raw else Path(file).read_bytes()
        if start.startswith(PNG_SIGNATURE):
            return _decode_png(raw)
        if start.startswith(JPEG_SIGNATURE):  # not Image.open, which refuses large ones
            with JpegImageFile(io.BytesIO(raw)) as jpeg:
                return Stored(np.asarray(jpeg if jpeg.mode == "L" else jpeg.convert("RGB")))
    except MemoryError:
        raise
    except Exception as reason:  # decoders raise many types for a damaged file
        if type(reason) is ValueError:
            raise
        what = str(reason).partition(" <")[0].strip() or type(reason).__name__
        raise ValueError(f"the file is damaged ({what}); save or copy it again") from reason
    raise ValueError(f"not PNG, TIFF or JPEG: it starts with {start[:8]!r}")


def _decode_png(raw: bytes) -> Stored:
    if b"acTL" in raw[:1024]:
        raise ValueError("several frames; save one image a file")
    if raw[_COLOUR_AT : _COLOUR_AT + 1] != bytes([_PALETTE]):
        pixels = imagecodecs.png_decode(raw)
        return Stored(pixels, pixels.ndim == 3 and pixels.shape[2] in (2, 4))
    with PngImageFile(io.BytesIO(raw)) as file:
        if "transparency" in file.info:
            return Stored(np.asarray(file.convert("RGBA")), has_alpha=True)
        palette = np.asarray(file.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return Stored(np.asarray(file), palette=palette)


def _split_alpha(stored: Stored) -> tuple[NDArray, NDArray | None]:
    """Return (H, W) or (H, W, 3), and alpha or None."""
    pixels, alpha = stored.pixels, None
    if stored.has_alpha:
        pixels, alpha = pixels[..., :-1], pixels[..., -1]
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or not pixels.size:
        raise ValueError(f"shape {pixels.shape} is not one gray or colour image")
    return pixels, alpha


def _resolve(stored: Stored) -> tuple[NDArray, NDArray | None, list[str]]:
    """Return gray values or colours, alpha or None, and what was done about them."""
    (pixels, alpha), notes = _split_alpha(stored), list(stored.notes)
    if stored.palette is not None:
        steps = np.abs(np.diff(stored.palette.astype(int), axis=0))
        if steps.max(initial=0) <= SMOOTH:
            notes.append("lookup table passed over")
        else:
            pixels = stored.palette[pixels]
    if stored.black is not None:
        pixels = ~pixels if pixels.dtype == bool else stored.black - pixels
        notes.append("reversed, as 0 is white")
    return pixels, alpha, notes


def _to_known_type(pixels: NDArray) -> tuple[NDArray, NDArray[np.bool_] | None, str]:
    """Return uint8, uint16 or float32, where it is an image (None: everywhere), and a note."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255, None, ""
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels, None, ""
    if pixels.dtype.kind == "f":
        return _fill_gaps(pixels)
    if pixels.dtype.kind not in "iu":
        raise ValueError(f"pixels are {pixels.dtype}; convert them to 8 or 16 bit or to float")
    low, high = int(pixels.min()), int(pixels.max())
    is_offset = pixels.dtype == np.int16 and low < -(2**14)
    shift = 0 if low >= 0 else 2**15 if is_offset else -low
    note = f"{pixels.dtype}, {shift} added" if shift else ""
    if high + shift > np.iinfo(np.uint16).max:
        return pixels.astype(np.float32), None, f"{pixels.dtype} as float"
    known = np.uint8 if high + shift <= np.iinfo(np.uint8).max else np.uint16
    return (pixels.astype(np.int64) + shift).astype(known), None, note


def _fill_gaps(pixels: NDArray) -> tuple[NDArray, NDArray[np.bool_] | None, str]:
    """Return float32 with the median where NaN or infinity were, where they were not, a note."""
    with np.errstate(over="ignore"):
        pixels = pixels.astype(np.float32)
    finite = np.isfinite(pixels)
    if finite.all():
        return pixels, None, ""
    if not finite.any():
        raise ValueError("every pixel is NaN or infinite")
    pixels[~finite] = np.median(pixels[finite])
    valid = finite if finite.ndim == 2 else finite.all(axis=2)
    return pixels, valid, f"{np.count_nonzero(~valid)} pixels are NaN or infinite: no image"


def _merge_equal(pixels: NDArray) -> NDArray:
    """Return (H, W) where the three channels are equal."""
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        return pixels[..., 0]
    return pixels


def read_mask(raw: bytes) -> Patch:
    """Return the foreground of a mask file, any colour but 0, cut to a box that holds it."""
    values = _read_numbers(raw)
    values = values if values.ndim == 2 else values.max(axis=2)
    boxes = ndimage.find_objects((values != 0).view(np.int8))
    box = boxes[0] if boxes else np.s_[:0, :0]
    return Patch(values.shape, box, values[box])


def read_label_image(raw: bytes, *, allow_colours: bool = False) -> np.ndarray:
    """Return the numbers of a label image as they are stored, (H, W) of an integer type.

    Alpha is dropped, three equal channels are one, of channels of which two are empty the third
    counts, and of a palette the numbers, not the colours. `allow_colours` gives every other colour
    a number. Numbers that are no integers, or below 0, raise ValueError.
    """
    numbers = _merge_equal(_read_numbers(raw))
    if numbers.ndim == 3:
        filled = np.flatnonzero(numbers.any(axis=(0, 1)))
        if len(filled) == 1:
            numbers = numbers[..., filled[0]]
        elif allow_colours:
            numbers = numbers.astype(np.int64) @ np.array([1 << 32, 1 << 16, 1])
        else:
            raise ValueError("nuclei in colours; save one number a nucleus, in one channel")
    if numbers.dtype.kind == "f" and (numbers == np.floor(numbers)).all():
        numbers = numbers.astype(np.int64)  # ImageJ keeps large label images as 32-bit floats
    if numbers.dtype.kind not in "iu" or numbers.min(initial=0) < 0:
        raise ValueError(
            f"numbers are {numbers.dtype}, from {numbers.min(initial=0)}; save nuclei as integers, "
            "0 = background"
        )
    return numbers


def _read_numbers(raw: bytes) -> NDArray:
    """Return what a mask file holds without alpha, (H, W) or (H, W, 3)."""
    stored = decode(raw)
    numbers, _ = _split_alpha(stored)
    if stored.black is not None and numbers.dtype == bool:
        numbers = ~numbers
    return numbers.astype(np.uint8) if numbers.dtype == bool else numbers


def refuse_unscaled(image: NDArray, settings: Settings) -> None:
    """Raise ValueError for floats outside 0..1 where the network's normalisation is "scale"."""
    if image.dtype.kind != "f" or settings.preprocessing.normalisation != "scale":
        return
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"float values from {low:g} to {high:g}; this network (normalisation 'scale') takes "
            "floats from 0 to 1. Divide by the full scale of the camera, or save as 16 bit"
        )


def check_image(image: NDArray[np.number]) -> NDArray[np.number]:
    """Return `image` as an array if it is one that the series can use; raise ValueError if not."""
    image = np.asarray(image)
    is_one = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))
    if not is_one or not image.size:
        raise ValueError(
            f"an image must have shape (H, W), (H, W, 1) or (H, W, 3), received {image.shape}; "
            "drop an alpha channel first, and give one image, not a stack"
        )
    if image.dtype not in (np.uint8, np.uint16) and image.dtype.kind != "f":
        raise ValueError(f"an image must be uint8, uint16 or float, received {image.dtype}")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ValueError(
            f"the image holds {np.count_nonzero(~np.isfinite(image))} values that are NaN or "
            "infinite; replace them first"
        )
    return image
