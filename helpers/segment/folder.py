"""Which files of a folder are images to segment, and what the files made from them are called."""

import math
import time
import unicodedata
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from helpers.analysis.out_of_distribution import Familiarity
from helpers.data.reading import read_any_image, refuse_unscaled
from helpers.network.geometry import cut, rescale
from helpers.segment.measure import (
    COLUMNS,
    add_micrometres,
    check_positive,
    median_diameter,
)
from helpers.segment.outputs import (
    LABELS,
    OUTPUTS,
    OutputFolder,
)
from helpers.segment.scale import Scale, check_sizes

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")


def list_images(folder: str | Path, pattern: str = "*") -> list[Path]:
    """Return the images of a folder, sorted by name.

    Parameters
    ----------
    folder : str or Path
        Its subfolders are not entered.
    pattern : str
        Names to take, as in a shell: "*" all, "plate1_*" those that begin so, "*.tif" those of
        one type. Upper and lower case are the same, on every system.

    Returns
    -------
    list of Path
        Files that end in one of `SUFFIXES`, whatever the case. Hidden files are left out, and so
        is what this program writes (names that end in one of `OUTPUTS`): the results may lie
        beside the images.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such folder.
    ValueError
        If no image is in it, or two images would become the same files.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(
            f"there is no folder {str(folder)!r}; give the folder of the images"
        )
    if not folder.is_dir():
        raise NotADirectoryError(
            f"{str(folder)!r} is a file; give the folder that holds it, and its name as the pattern"
        )
    images = [
        file
        for file in sorted(folder.iterdir())
        if is_image(file.name)
        and fnmatchcase(file.name.lower(), pattern.lower())
        and file.is_file()
    ]
    if not images:
        raise ValueError(_say_none(folder, pattern))
    _refuse_same_stems(images)
    return images


def is_image(name: str) -> bool:
    """Tell whether a file of that name is an image to segment.

    Examples
    --------
    >>> [is_image(name) for name in ("a.TIF", "a_labels.tif", ".a.png", "a.czi")]
    [True, False, False, False]
    """
    lower = name.lower()
    return not lower.startswith(".") and lower.endswith(SUFFIXES) and not lower.endswith(OUTPUTS)


def _say_none(folder: Path, pattern: str) -> str:
    names = [file.name for file in folder.iterdir() if not file.name.startswith(".")]
    n_images = sum(map(is_image, names))
    if n_images:
        return (
            f"none of the {n_images} images in {str(folder)!r} matches the pattern {pattern!r}; "
            'the pattern "*" takes them all'
        )
    return (
        f"{str(folder)!r} holds no image among its {len(names)} files and folders; allowed are "
        f"{', '.join(SUFFIXES)}, not in subfolders. Save images of other formats as TIFF, without "
        "compression that loses detail"
    )


def _refuse_same_stems(images: Iterable[Path]) -> None:
    """Raise ValueError where two images differ in their suffix only, or in upper and lower case."""
    seen: dict[str, Path] = {}
    for file in images:
        stem = unicodedata.normalize("NFC", file.stem).casefold()
        if stem in seen:
            raise ValueError(
                f"{seen[stem].name!r} and {file.name!r} would both become {file.stem + LABELS!r}; "
                'rename one, or take one type with a pattern such as "*.tif"'
            )
        seen[stem] = file


SUMMARY_COLUMNS = (
    "image",
    "status",
    "height",
    "width",
    "n_nuclei",
    "median_diameter_px",
    "scale",
    "scale_reason",
    "distance",
    "warning",
    "seconds",
)
DONE, FAILED = "done", "failed"


def segment_folder(
    images: str | Path,
    out: str | Path,
    network,
    *,
    channel: int | str | None = None,
    plane: int | str | None = None,
    pattern: str = "*",
    diameter_px: float | None = None,
    pixel_size_um: float | None = None,
    overwrite: bool = False,
) -> pd.DataFrame:
    """Return one row an image, after writing what the network finds in a folder of images.

    For every image `<stem>_labels.tif` (0 = background, 1 to N, the image's height and width,
    uint16, or uint32 above 65,535 nuclei), `<stem>_mask.png` (0 and 255) and
    `<stem>_overlay.png`; for all of them `nuclei.csv`, one row a nucleus, and `summary.csv`, one
    row an image. An image that cannot be read or segmented is a row with its reason, and the
    rest goes on. After an interruption the same call goes on with the images that are not done;
    delete the folder to do all anew. The tables list every image in `out` that was made
    with the same network and parameters, so a folder may be done in several calls.

    Parameters
    ----------
    images, out : str or Path
        Folders; they may be the same.
    network : helpers.segment.trained.TrainedNetwork
        From `helpers.load_network`.
    channel, plane : int or str, optional
        Which channel and which plane of a file show the nuclei; None finds the channel.
    pattern : str
        Which files; see `list_images`.
    diameter_px : float, optional
        Median diameter of the nuclei, in pixels; None finds it image by image.
    pixel_size_um : float, optional
        Side of a pixel in micrometres: the tables then have lengths and areas in both units.
    overwrite : bool
        Whether files may be replaced that this network did not make, or not with these
        parameters or of these images. What it did make so is kept either way.

    Returns
    -------
    DataFrame
        `image` (file name), `status` ("done" or "failed"), `height` and `width` (pixels),
        `n_nuclei`, `median_diameter_px` (of discs of the nuclei's areas; NaN without nuclei),
        `scale` and `scale_reason`, `distance` (above 1: unlike the training images), `warning`
        (of a failed image the reason; empty if there is none), `seconds`.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, ValueError
        If there are no images, two of one stem, or a parameter is not allowed.
    FileExistsError
        If something would be overwritten without being asked. Nothing is written then.
    """
    check_sizes(diameter_px, network.known_px)
    check_positive("pixel_size_um", pixel_size_um, "0.5")
    files = list_images(images, pattern)
    made_with = {"network": network.fingerprint, "diameter_px": diameter_px}
    output = OutputFolder(out, made_with)
    if not overwrite:
        output.refuse_obstacles(files)
    waiting = [image for image in files if not output.is_done(image)]
    n_done = len(files) - len(waiting)
    failed = []
    with tqdm(total=len(files), initial=n_done, desc="segmenting", unit=" images") as bar:
        for image in waiting:
            reason = _segment_one(network, image, output, channel, diameter_px)
            failed += [_tell_failure(image, reason)] if reason else []
            bar.update()
    return _write_tables(output, failed, pixel_size_um)


def _segment_one(network, file, output, channel, diameter_px) -> str | None:
    """Write the results of one image and return None, or return why there are none."""
    start = time.monotonic()
    try:
        image = read_any_image(file).pixels
        refuse_unscaled(image, network.settings)
        result = network.analyse(image, channel=channel, diameter_px=diameter_px)
    except Exception as reason:  # decoders and backends raise many types; the rest must go on
        return _say(reason)
    nuclei = result.nuclei.assign(image=file.name)
    summary = {
        "image": file.name,
        "status": DONE,
        "height": image.shape[0],
        "width": image.shape[1],
        "n_nuclei": len(nuclei),
        "median_diameter_px": _or_none(median_diameter(nuclei["area_px"])),
        "scale": result.scale.scale,
        "scale_reason": result.scale.reason,
        "distance": _or_none(result.distance),
        "warning": "; ".join(result.warnings),
    }
    summary["seconds"] = round(time.monotonic() - start, 2)
    output.write(file, image, result.labels, nuclei, summary)
    return None


def _say(reason: Exception) -> str:
    if isinstance(reason, MemoryError) or type(reason).__name__ == "ResourceExhaustedError":
        return "too large for this machine's memory; cut the image into parts"
    text = " ".join(str(reason).split())
    return text if type(reason) is ValueError else f"{type(reason).__name__}: {text}"


def _or_none(value: float) -> float | None:
    """Return None for NaN, which JSON does not have."""
    return None if math.isnan(value) else round(value, 3)


def _tell_failure(image: Path, reason: str) -> dict[str, Any]:
    return {"image": image.name, "status": FAILED, "warning": reason}


def _write_tables(
    output: OutputFolder, failed: list[dict[str, Any]], pixel_size_um: float | None
) -> pd.DataFrame:
    """Write the tables of all that is in the folder and return the summary."""
    without = {Path(row["image"]).stem for row in failed}
    done = [row for row in output.read_notes() if Path(row["image"]).stem not in without]
    rows = sorted(done + failed, key=lambda row: row["image"])
    summary = pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))
    counts = ["height", "width", "n_nuclei"]
    numbers = ["median_diameter_px", "scale", "distance", "seconds"]
    summary[counts] = summary[counts].astype("Int64")
    summary[numbers] = summary[numbers].astype(np.float64)
    tables = [output.read_nuclei(Path(row["image"]).stem) for row in rows if row["status"] == DONE]
    empty = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in COLUMNS.items()})
    tables = [table for table in tables if len(table)] or [empty]
    nuclei = add_micrometres(pd.concat(tables, ignore_index=True), pixel_size_um)
    output.write_tables(nuclei, summary)
    return summary


LOOK_PX = 1024
"""Side of the square in the centre by which an image's looks are judged."""
MOSTLY = 0.5
"""Share of an image above which it is strange that nuclei cover so much."""


def measure_distance(familiarity: Familiarity, image: NDArray, scale: float = 1.0):
    """Return how far an image is from the training images, and a sentence where that is far.

    Parameters
    ----------
    familiarity : Familiarity
        Of the network.
    image : (H, W) or (H, W, 3) array of uint8, uint16 or float
        Floats outside 0..1 are judged as if their own range were the full scale.
    scale : float
        The factor by which the network sees the image resized.

    Returns
    -------
    distance : float
        0 the same, up to 1 usual, above unlike the training images.
    warning : str or None
    """
    seen = _as_seen(image, scale)
    distance = float(familiarity.distance(seen))
    return distance, familiarity.warn(seen) if distance > 1 else None


def _as_seen(image: NDArray, scale: float) -> NDArray:
    """Return the centre of an image at the network's scale, uint8 or uint16."""
    side = math.ceil(LOOK_PX / scale)
    centre = cut(image, side, side)
    if centre.dtype.kind == "f":
        low, high = min(float(image.min()), 0.0), max(float(image.max()), 1.0)
        centre = np.floor((centre - low) / (high - low) * 65535 + 0.5).astype(np.uint16)
    return rescale(centre, tuple(max(1, round(side * scale)) for side in centre.shape[:2]))


def list_warnings(areas: NDArray, n_pixels: int, scale: Scale, known: tuple[float, float]):
    """Return sentences on what the labels of an image should make one look twice at.

    Parameters
    ----------
    areas : (N,) array
        Of the nuclei, in pixels.
    n_pixels : int
        Of the image.
    scale : Scale
    known : (low, high)
        Median diameters in pixels that the network knows.

    Returns
    -------
    list of str

    Examples
    --------
    >>> list_warnings(np.array([]), 256, Scale(1.0, math.nan, ""), (10, 60))
    ['no nucleus found']
    """
    if not len(areas):
        return ["no nucleus found"]
    warnings = []
    covered = float(np.sum(areas)) / n_pixels
    if covered > MOSTLY:
        warnings.append(f"nuclei cover {covered:.0%} of the image: ground may be taken for nucleus")
    seen = median_diameter(areas) * scale.scale
    if not known[0] <= seen <= known[1]:
        warnings.append(
            f"the median diameter is {seen:.1f} px as the network sees it, and it knows "
            f"{known[0]:g} to {known[1]:g} px: check `scale`, or give the diameter"
        )
    return warnings
