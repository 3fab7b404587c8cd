"""Images as people have them: PNG, TIFF and JPEG, gray or colour, 1 to 32 bit, whole or float."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from helpers.data.reading import TIFF_SIGNATURES, decode
from helpers.data.reading import check_image
from helpers.settings import Settings


JPEG_SIGNATURE = b"\xff\xd8\xff"
MIN_SIDE_PX = 16
PHOTOMETRIC = tifffile.PHOTOMETRIC
_GRAY_OR_COLOUR = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR)
_BY_PILLOW = (PHOTOMETRIC.PALETTE, PHOTOMETRIC.MINISWHITE)  # it resolves what these mean


def read_any_image(path: str | Path) -> NDArray:
    """Return the pixels of an image file, as a network takes them.

    Parameters
    ----------
    path : str or Path
        PNG, TIFF or JPEG; what the file holds counts, not its name. A camera's note on how to
        turn a JPEG (EXIF) is not followed, so that labels fit the pixels as they are stored.

    Returns
    -------
    (H, W) or (H, W, 3) array of uint8, uint16 or float32
        Alpha is dropped, and three equal channels become one. Palettes are resolved, 1 bit
        becomes 0 and 255. Other integers become uint8 where their values fit into 0..255, else
        uint16 where they fit into 0..65535: nothing is rounded. Floats keep their values.

    Raises
    ------
    ValueError
        If it is none of these or damaged, has several pages or channels that are no colours, is
        smaller than `MIN_SIDE_PX` on a side, or holds numbers that do not fit, NaN or infinity.
    """
    raw = Path(path).read_bytes()
    try:
        with _of_any_size():
            stored = _decode(raw)
    except (ValueError, MemoryError):
        raise
    except Exception as reason:  # decoders raise many types for a damaged file
        what = str(reason).partition(" <")[0]
        raise ValueError(f"the file is damaged ({what}); save or copy it again") from reason
    image = _drop_channels(_to_known_type(stored))
    if min(image.shape[:2]) < MIN_SIDE_PX:
        raise ValueError(
            f"{image.shape[0]} x {image.shape[1]} pixels; each side must have {MIN_SIDE_PX} or more"
        )
    return check_image(np.ascontiguousarray(image))


def refuse_unscaled(image: NDArray, settings: Settings) -> None:
    """Raise ValueError for a float image whose range the network cannot know.

    With the normalisation "scale" floats must lie in 0..1; "percentile" and "standardise" find
    the range in the image.
    """
    if image.dtype.kind != "f" or settings.preprocessing.normalisation != "scale":
        return
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"float values from {low:g} to {high:g}; this network (normalisation 'scale') takes "
            "floats from 0 to 1. Divide by the full scale of the camera, or save as 16 bit"
        )


@contextmanager
def _of_any_size() -> Iterator[None]:
    """Let Pillow open images above its limit of 179 megapixels: what memory holds is welcome."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _decode(raw: bytes) -> NDArray:
    if raw.startswith(JPEG_SIGNATURE):
        with Image.open(io.BytesIO(raw), formats=("JPEG", "MPO")) as file:
            return np.asarray(file if file.mode == "L" else file.convert("RGB"))
    if raw.startswith(TIFF_SIGNATURES):
        return _decode_tiff(raw)
    try:
        return decode(raw)
    except ValueError as reason:
        raise ValueError(
            str(reason).replace("neither PNG nor TIFF", "not PNG, TIFF or JPEG")
        ) from None


def _decode_tiff(raw: bytes) -> NDArray:
    """Decode a TIFF file after asking what its numbers mean, which `decode` does not."""
    with tifffile.TiffFile(io.BytesIO(raw)) as file:
        page, n_pages = file.pages[0], len(file.pages)
    if n_pages == 1 and page.photometric in _BY_PILLOW:
        with Image.open(io.BytesIO(raw), formats=("TIFF",)) as opened:
            if opened.mode in ("1", "L", "P"):
                return np.asarray(opened.convert("RGB") if opened.mode == "P" else opened)
    if n_pages == 1 and page.photometric not in _GRAY_OR_COLOUR:
        name = getattr(page.photometric, "name", page.photometric)
        raise ValueError(f"a TIFF of colour type {name}; save it as gray or RGB")
    if n_pages == 1 and 0 in page.extrasamples:  # neither colour nor alpha: it may be a stain
        raise ValueError(
            f"{page.samplesperpixel} channels that are not red, green, blue and alpha; save the "
            "channel with the nuclei as an image of its own"
        )
    return decode(raw)


def _to_known_type(stored: NDArray) -> NDArray:
    """Return uint8, uint16 or float32 with the same values, or raise ValueError."""
    if stored.dtype == bool:
        return stored.astype(np.uint8) * 255
    if stored.dtype in (np.uint8, np.uint16):
        return stored
    if stored.dtype.kind == "f":
        return stored.astype(np.float32, copy=False)
    if stored.dtype.kind not in "iu" or not stored.size:
        raise ValueError(f"pixels are {stored.dtype}; convert them to 8 or 16 bit or to float")
    low, high = int(stored.min()), int(stored.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise ValueError(
            f"pixels are {stored.dtype} from {low} to {high}, allowed are whole numbers from 0 to "
            "65535; shift or divide them, or convert them to float"
        )
    return stored.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16)


def _drop_channels(stored: NDArray) -> NDArray:
    """Return (H, W) or (H, W, 3): without alpha, and gray where the three channels are equal."""
    stored = stored[..., np.newaxis] if stored.ndim == 2 else stored
    if stored.ndim != 3 or stored.shape[2] not in (1, 2, 3, 4):
        raise ValueError(
            f"shape {stored.shape} is not one gray or colour image; save one image a file"
        )
    colours = stored[..., :-1] if stored.shape[2] in (2, 4) else stored
    first = colours[..., :1]
    return first[..., 0] if (colours == first).all() else colours
