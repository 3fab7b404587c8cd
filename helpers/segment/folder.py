"""From a folder of images to labels, masks, overlays, and two tables of all of them."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from helpers.data.reading import read_any_image, refuse_unscaled
from helpers.segment.files import list_images, list_left_out, refuse_too_large, say_long
from helpers.segment.measure import COLUMNS, add_micrometres, check_positive, median_diameter
from helpers.segment.outputs import SUMMARY, OutputFolder
from helpers.segment.scale import check_sizes

SUMMARY_COLUMNS = {
    "image": "str",
    "status": "str",
    "height": "Int64",
    "width": "Int64",
    "n_nuclei": "Int64",
    "median_diameter_px": "float64",
    "pixel_size_um": "float64",
    "pixel_size_from": "str",
    "channel": "str",
    "scale": "float64",
    "scale_reason": "str",
    "scale_sureness": "float64",
    "second_scale": "float64",
    "distance": "float64",
    "warning": "str",
    "seconds": "float64",
}
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
    operating_point: str | None = None,
    overwrite: bool = False,
) -> pd.DataFrame:
    """Return one row an image, after writing what the network finds in a folder of images.

    For every image `<stem>_labels.tif` (0 = background, 1 to N), `<stem>_mask.png` (0 and 255) and
    `<stem>_overlay.png`; for all of them `nuclei.csv`, one row a nucleus, and `summary.csv`, one
    row an image. A failure is a row with its reason. After an interruption the same call does the
    images that are not done yet. The tables have all images whose results lie in `out` and that
    still exist, so a folder may be done in several calls.

    Parameters
    ----------
    images, out : str or Path
        Folders, "~" being the home; they may be the same.
    network : helpers.segment.trained.TrainedNetwork
        From `helpers.load_network`.
    channel, plane : int or str, optional
        As for `helpers.data.reading.read_any_image`; None finds the channel of a colour image.
    pattern : str
        See `list_images`.
    diameter_px : float, optional
        Median diameter of the nuclei, in pixels; None finds it image by image.
    pixel_size_um : float, optional
        Side of a pixel in micrometres; None takes what a file says.
    operating_point : "precise", "balanced" or "complete", optional
        See `helpers.segment.image.analyse`.
    overwrite : bool
        Whether files may be replaced that were made otherwise or of images that have changed.

    Returns
    -------
    DataFrame
        `SUMMARY_COLUMNS`: `channel` is what was looked at, `scale` the factor by which the network
        saw the image resized, `scale_sureness` how sure that is, `second_scale` the next best,
        `distance` how unlike the training images it is (up to 1 is usual), `warning` what to look
        at, or why it failed. `attrs["notes"]`: sentences on files that were
        left out and on rows of earlier calls.

    Raises
    ------
    OSError, ValueError
        If there are no images, a parameter is not allowed, something would be overwritten without
        being asked, or another process writes into `out`. Nothing is written then.
    """
    check_sizes(diameter_px, network.known_px)
    check_positive("pixel_size_um", pixel_size_um, "0.5")
    network.settings.postprocessing.least_score(operating_point)
    files = list_images(images, pattern)
    made_with = {"network": network.fingerprint, "diameter_px": diameter_px}
    made_with |= {"channel": channel, "plane": plane, "operating_point": operating_point}
    output = OutputFolder(out, made_with)
    with output.locked():
        usable = [file for file in files if not say_long(file)]
        if not overwrite:
            output.refuse_obstacles(usable)
        failed = [_fail(file, why) for file in files if (why := say_long(file))]
        waiting = [file for file in usable if not output.is_done(file)]
        n_done = len(files) - len(waiting)
        for file in tqdm(waiting, "segmenting", len(files), initial=n_done, unit=" images"):
            reason = _segment_one(network, file, output, made_with)
            failed += [_fail(file, reason)] if reason else []
        summary = _write_tables(output, files, failed, pixel_size_um)
    summary.attrs["notes"] += list_left_out(images, out)
    return summary


def _segment_one(network, file, output, made_with) -> str | None:
    """Write the results of one image and return None, or return why there are none."""
    start, channel = time.monotonic(), made_with["channel"]
    options = {name: made_with[name] for name in ("diameter_px", "operating_point")}
    try:
        refuse_too_large(file)
        read = read_any_image(file, channel, made_with["plane"])
        refuse_unscaled(read.pixels, network.settings)
        whole = "rgb" if channel is not None and read.pixels.ndim == 3 else None
        result = network.analyse(read.pixels, valid=read.valid, channel=whole, **options)
        nuclei = result.nuclei.assign(image=file.name)
    except Exception as reason:  # decoders and backends raise many types; the rest must go on
        output.discard(file)
        return _say(reason)
    summary = {
        "image": file.name,
        "status": DONE,
        "height": result.labels.shape[0],
        "width": result.labels.shape[1],
        "n_nuclei": len(nuclei),
        "median_diameter_px": _or_none(median_diameter(nuclei["area_px"])),
        "pixel_size_um": read.pixel_size_um,
        "pixel_size_from": read.pixel_size_source,
        "channel": "; ".join(filter(None, [read.about, result.channel])),
        "scale": result.scale.scale,
        "scale_reason": result.scale.reason,
        "scale_sureness": _or_none(result.scale.sureness),
        "second_scale": result.scale.second,
        "distance": _or_none(result.distance),
        "warning": "; ".join(result.warnings),
    }
    summary["seconds"] = round(time.monotonic() - start, 2)
    output.write(file, read.pixels, result.labels, nuclei, summary)
    return None


def _say(reason: Exception) -> str:
    """Return why an image failed, in a sentence."""
    if isinstance(reason, MemoryError) or type(reason).__name__ == "ResourceExhaustedError":
        return "too large for this machine's memory; cut the image into parts"
    text = " ".join(str(reason).split())
    text = text if len(text) < 300 else text[:300] + " ..."
    return text if type(reason) is ValueError else f"{type(reason).__name__}: {text}"


def _or_none(value: float) -> float | None:
    """Return None for NaN, which JSON does not have."""
    return None if math.isnan(value) else round(value, 3)


def _fail(image: Path, reason: str) -> dict[str, Any]:
    return {"image": image.name, "status": FAILED, "warning": reason}


def _write_tables(
    output: OutputFolder, files: list[Path], failed: list[dict], pixel_size_um: float | None
) -> pd.DataFrame:
    """Write the tables of all that is in the folder and return the summary."""
    names, without = {file.name for file in files}, {row["image"] for row in failed}
    notes, messages = output.read_notes(files[0].parent)
    done = [note["summary"] for note in notes if note["image"]["name"] not in without]
    if pixel_size_um is not None:
        given = {"pixel_size_um": pixel_size_um, "pixel_size_from": "given"}
        done = [row | given if row["image"] in names else row for row in done]
    rows = sorted(done + failed, key=lambda row: row["image"])
    summary = pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS)).astype(SUMMARY_COLUMNS)
    texts = [name for name, dtype in SUMMARY_COLUMNS.items() if dtype == "str"]
    summary[texts] = summary[texts].replace({"nan": "", "None": ""})
    output.write_tables(_join_nuclei(output, done), summary)
    summary.attrs["notes"] = messages
    return summary


def _join_nuclei(output: OutputFolder, done: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the nuclei of all images, in micrometres too where a pixel size is known."""
    tables = [output.read_nuclei(Path(row["image"]).stem) for row in done]
    sizes = {row["image"]: row.get("pixel_size_um") for row in done}
    tables = [table for table in tables if len(table)]
    empty = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in COLUMNS.items()})
    nuclei = pd.concat(tables, ignore_index=True) if tables else empty
    known = any(size is not None for size in sizes.values())
    return add_micrometres(nuclei, nuclei["image"].map(sizes).astype(np.float64) if known else None)


def describe(summary: pd.DataFrame, out: Path) -> str:
    """Return what came out of `segment_folder`: counts, failures, warnings, and where it is."""
    is_failed = summary["status"] == FAILED
    failed, warned = summary[is_failed], summary[~is_failed & (summary["warning"] != "")]
    lines = [
        f"{len(summary) - len(failed)} of {len(summary)} images segmented, "
        f"{summary['n_nuclei'].sum()} nuclei; {len(warned)} with a warning, {len(failed)} failed"
    ]
    lines += [f"- {row.image} failed: {row.warning}" for row in failed.itertuples()]
    lines += [f"- {row.image}: {row.warning}" for row in warned.itertuples()]
    lines += summary.attrs.get("notes", [])
    return "\n".join([*lines, f"Results: {out} (begin with {SUMMARY} and the overlays)"])
