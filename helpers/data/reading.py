"""One file's bytes to pixels: PNG and TIFF, gray or colour, 8 or 16 bit, nothing degraded."""

import io
from typing import NamedTuple
import numpy as np
import tifffile
from PIL import Image, PngImagePlugin  # noqa: F401 (the plugin, before any thread asks for it)
from helpers.data.png16 import read_png16
from numpy.typing import NDArray
from skimage.transform import resize
from helpers.settings import Settings


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_DEPTH_AT, _COLOUR_AT = 24, 25  # bytes of the PNG header, https://www.w3.org/TR/png-3/#11IHDR


class Pixels(NamedTuple):
    """An image as the series uses it, and what its file held."""

    image: np.ndarray  # (H, W) or (H, W, 3), uint8 or uint16
    channels: int  # in the file, alpha included
    transparent_px: int  # pixels that are not fully opaque in the file


class Patch(NamedTuple):
    """The part of one mask file that holds its foreground."""

    shape: tuple[int, int]  # height and width of the whole file
    top: int
    left: int
    values: np.ndarray  # (h, w), 0 = background


def decode(raw: bytes) -> np.ndarray:
    """Return the pixels of a PNG or TIFF file as they are stored.

    Parameters
    ----------
    raw : bytes
        The whole file.

    Returns
    -------
    ndarray, (H, W) or (H, W, C)
        The type of the file, in the machine's byte order. Colour palettes are resolved.

    Raises
    ------
    ValueError
        Neither PNG nor TIFF, or more than one image in the file. Damaged files raise whatever
        the decoder raises.
    """
    if raw.startswith(PNG_SIGNATURE):
        return _decode_png(raw)
    if raw.startswith(TIFF_SIGNATURES):
        return _decode_tiff(raw)
    raise ValueError(f"neither PNG nor TIFF: {len(raw)} bytes that start with {raw[:8]!r}")


def read_image(raw: bytes) -> Pixels:
    """Return an image without alpha, and with one channel where the three are equal.

    Parameters
    ----------
    raw : bytes
        The whole file, PNG or TIFF.

    Raises
    ------
    ValueError
        The pixels are not uint8 or uint16, or are not one image with 1 to 4 channels.
    """
    stored = decode(raw)
    if stored.dtype == bool:
        stored = stored.astype(np.uint8) * 255
    if stored.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"pixels are {stored.dtype}; convert them to uint8 or uint16")
    stored = stored if stored.ndim == 3 else stored[..., np.newaxis]
    colours, alpha = _split_alpha(stored)
    opaque = np.iinfo(stored.dtype).max
    transparent_px = 0 if alpha is None else int(np.count_nonzero(alpha != opaque))
    first = colours[..., :1]
    image = first[..., 0] if (colours == first).all() else colours
    return Pixels(np.ascontiguousarray(image), stored.shape[2], transparent_px)


def read_mask(raw: bytes) -> Patch:
    """Return the foreground of a mask file, cut to a box that holds it.

    Parameters
    ----------
    raw : bytes
        The whole file, PNG or TIFF. Any colour that is not 0 is foreground; alpha is not looked at.
    """
    if raw.startswith(PNG_SIGNATURE) and raw[_DEPTH_AT] == 8 and raw[_COLOUR_AT] == 0:
        return _cut_png_mask(raw)
    stored = decode(raw)
    stored = stored if stored.ndim == 3 else stored[..., np.newaxis]
    return Patch(stored.shape[:2], 0, 0, _split_alpha(stored)[0].max(axis=2))


def read_label_image(raw: bytes) -> np.ndarray:
    """Return the numbers of a label image as they are stored, (H, W) of an integer type.

    Parameters
    ----------
    raw : bytes
        The whole file, PNG or TIFF, 0 = background. Alpha is dropped; three equal channels are one.

    Raises
    ------
    ValueError
        The numbers are no integers, are below 0, or differ between channels: a nucleus shown by a
        colour has no number.
    """
    stored = decode(raw)
    stored = stored.astype(np.uint8) if stored.dtype == bool else stored
    if stored.dtype.kind not in "iu" or stored.min(initial=0) < 0:
        raise ValueError(
            f"numbers are {stored.dtype}, from {stored.min(initial=0)}; save nuclei as integers, "
            "0 = background"
        )
    colours, _ = _split_alpha(stored if stored.ndim == 3 else stored[..., np.newaxis])
    if (colours != colours[..., :1]).any():
        raise ValueError("nuclei in colours; save one number a nucleus, in one channel")
    return colours[..., 0]


def _cut_png_mask(raw: bytes) -> Patch:
    """Cut inside Pillow: most masks fill a hundredth of their file."""
    with Image.open(io.BytesIO(raw), formats=("PNG",)) as file:
        shape = (file.height, file.width)
        box = file.getbbox()
        if box is None:
            return Patch(shape, 0, 0, np.zeros((0, 0), np.uint8))
        return Patch(shape, box[1], box[0], np.asarray(file.crop(box)))


def _split_alpha(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Split (H, W, C) into colours and alpha; 2 and 4 channels have alpha, 1 and 3 have none."""
    if stored.ndim != 3 or stored.shape[2] not in (1, 2, 3, 4) or not stored.size:
        raise ValueError(f"shape {stored.shape} is not one image of 1 to 4 channels")
    has_alpha = stored.shape[2] in (2, 4)
    return (stored[..., :-1], stored[..., -1]) if has_alpha else (stored, None)


def _decode_png(raw: bytes) -> np.ndarray:
    if len(raw) > _COLOUR_AT and raw[_DEPTH_AT] == 16 and raw[_COLOUR_AT] != 0:
        return read_png16(raw)  # Pillow would keep 8 of the 16 bits and say nothing
    with Image.open(io.BytesIO(raw), formats=("PNG",)) as file:
        if getattr(file, "n_frames", 1) > 1:
            raise ValueError(f"{file.n_frames} frames; save one image a file")
        if file.mode == "P":
            return np.asarray(file.convert("RGBA" if "transparency" in file.info else "RGB"))
        stored = np.asarray(file)
    return stored.astype(np.uint16) if file.mode.startswith("I") else stored


def _decode_tiff(raw: bytes) -> np.ndarray:
    with tifffile.TiffFile(io.BytesIO(raw)) as file:
        if len(file.pages) != 1:
            raise ValueError(f"{len(file.pages)} pages; save one image a file")
        page = file.pages[0]
        try:
            stored = page.asarray()
        except ValueError as reason:  # a compression that needs a package which we do not have
            stored = _decode_tiff_by_pillow(raw, reason)
        planar = stored.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
    stored = np.moveaxis(stored, 0, -1) if planar and len(page.shape) == 3 else stored
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def _decode_tiff_by_pillow(raw: bytes, reason: ValueError) -> np.ndarray:
    """Decode LZW and JPEG inside TIFF where Pillow keeps every bit."""
    with Image.open(io.BytesIO(raw), formats=("TIFF",)) as file:
        bits = max(file.tag_v2.get(258, (1,)))
        if file.mode not in ("1", "L", "RGB", "RGBA", "I;16") or (bits > 8 and file.mode != "I;16"):
            raise ValueError(f"{reason}; save it without compression") from reason
        return np.asarray(file)


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
