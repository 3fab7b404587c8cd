"""Every image of a folder to labels, a mask, an overlay and rows of tables; resumes."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from helpers.exploration.familiarity import Familiarity
from helpers.own_images.any_image import read_any_image, refuse_unscaled
from helpers.own_images.files import list_images
from helpers.own_images.judge import list_warnings, measure_distance
from helpers.own_images.measure import (
    COLUMNS,
    add_micrometres,
    check_positive,
    measure_nuclei,
    median_diameter,
)
from helpers.own_images.outputs import OutputFolder
from helpers.own_images.scale import KNOWN_DIAMETERS_PX, check_sizes, choose_scale

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
    network,
    images_dir: str | Path,
    output_dir: str | Path,
    *,
    pattern: str = "*",
    diameter_px: float | None = None,
    pixel_size_um: float | None = None,
    known: tuple[float, float] = KNOWN_DIAMETERS_PX,
    familiarity: Familiarity | None = None,
    fingerprint: str = "",
    overwrite: bool = False,
) -> pd.DataFrame:
    """Return one row an image, after writing what the network finds in a folder of images.

    For every image `<stem>_labels.tif` (0 = background, 1 to N, the image's height and width,
    uint16, or uint32 above 65,535 nuclei), `<stem>_mask.png` (0 and 255) and
    `<stem>_overlay.png`; for all of them `nuclei.csv`, one row a nucleus, and `summary.csv`, one
    row an image. An image that cannot be read or segmented is a row with its reason, and the
    rest goes on. After an interruption the same call goes on with the images that are not done;
    delete the folder to do all anew. The tables list every image in `output_dir` that was made
    with the same network and parameters, so a folder may be done in several calls.

    Parameters
    ----------
    network : helpers.network.prediction.Network
        Or another `Segmenter` with `settings`.
    images_dir, output_dir : str or Path
        May be the same folder.
    pattern : str
        Which files; see `helpers.own_images.files.list_images`.
    diameter_px : float, optional
        Median diameter of the nuclei, in pixels; None finds it image by image.
    pixel_size_um : float, optional
        Side of a pixel in micrometres: the tables then have lengths and areas in both units.
    known : (low, high)
        Median diameters in pixels that the network knows.
    familiarity : Familiarity, optional
        Of the network; without it `distance` is NaN: not known.
    fingerprint : str
        Which network it is, so that results of another one are not taken for its own.
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
    check_sizes(diameter_px, known)
    check_positive("pixel_size_um", pixel_size_um, "0.5")
    images = list_images(images_dir, pattern)
    made_with = {"network": fingerprint, "diameter_px": diameter_px, "known": list(known)}
    output = OutputFolder(output_dir, made_with)
    if not overwrite:
        output.refuse_obstacles(images)
    waiting = [image for image in images if not output.is_done(image)]
    n_done = len(images) - len(waiting)
    failed = []
    with tqdm(total=len(images), initial=n_done, desc="segmenting", unit=" images") as bar:
        for image in waiting:
            reason = _segment_one(network, image, output, diameter_px, known, familiarity)
            failed += [_tell_failure(image, reason)] if reason else []
            bar.update()
    return _write_tables(output, failed, pixel_size_um)


def _segment_one(network, file, output, diameter_px, known, familiarity) -> str | None:
    """Write the results of one image and return None, or return why there are none."""
    start = time.monotonic()
    try:
        image = read_any_image(file)
        refuse_unscaled(image, network.settings)
        scale = choose_scale(network, image, diameter_px=diameter_px, known=known)
        labels = scale.labels
        if labels is None:
            labels = network.segment(image, scale=scale.scale)
        nuclei = measure_nuclei(image, labels, name=file.name)
        distance, unlike = math.nan, None
        if familiarity is not None:
            distance, unlike = measure_distance(familiarity, image, scale.scale)
    except Exception as reason:  # decoders and backends raise many types; the rest must go on
        return _say(reason)
    areas = nuclei["area_px"].to_numpy()
    warnings = [*([unlike] if unlike else []), *list_warnings(areas, labels.size, scale, known)]
    summary = {
        "image": file.name,
        "status": DONE,
        "height": image.shape[0],
        "width": image.shape[1],
        "n_nuclei": len(nuclei),
        "median_diameter_px": _or_none(median_diameter(areas)),
        "scale": scale.scale,
        "scale_reason": scale.reason,
        "distance": _or_none(distance),
        "warning": "; ".join(warnings),
    }
    summary["seconds"] = round(time.monotonic() - start, 2)
    output.write(file, image, labels, nuclei, summary)
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
