"""From a folder of images to labels, masks, overlays, and two tables of all of them."""

import math
import os
import re
import time
import unicodedata
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from warnings import catch_warnings

import numpy as np
import pandas as pd
import psutil
import tifffile
from PIL import Image
from tqdm.auto import tqdm

from helpers.data.problems import name_some
from helpers.data.reading import read_any_image, refuse_unscaled
from helpers.segment.measure import COLUMNS, add_micrometres, check_positive, median_diameter
from helpers.segment.outputs import LABELS, NUCLEI, OUTPUTS, OVERLAY, SUMMARY, OutputFolder
from helpers.segment.scale import check_sizes

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
LONGEST_NAME = 255  # bytes, of nearly every file system
BYTES_A_PIXEL = 165  # of memory, measured with the reference network from 2 to 4 megapixels
SUMMARY_COLUMNS = {
    "image": "str", "status": "str", "height": "Int64", "width": "Int64", "n_nuclei": "Int64",
    "median_diameter_px": "float64", "pixel_size_um": "float64", "pixel_size_from": "str",
    "channel": "str", "scale": "float64", "scale_reason": "str", "scale_sureness": "float64",
    "second_scale": "float64", "distance": "float64", "warning": "str", "seconds": "float64",
}  # fmt: skip
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
    still exist, so a folder may be done in several calls. OSError or ValueError if there are no
    images, a parameter is not allowed, something would be overwritten without being asked, or
    another process writes into `out`; nothing is written then.

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
        See `helpers.segment.trained.TrainedNetwork.analyse`.
    overwrite : bool
        Whether files may be replaced that were made otherwise or of images that have changed.

    Returns
    -------
    DataFrame
        `SUMMARY_COLUMNS`: `channel` is what was looked at, `scale` the factor by which the network
        saw the image resized, `scale_sureness` how sure that is, `second_scale` the next best,
        `distance` how unlike the training images it is (up to 1 is usual), `warning` what to look
        at, or why it failed. `attrs["notes"]`: sentences on files left out
        and on rows of earlier calls.
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
        failed = {file.name: say_long(file) for file in files if file not in usable}
        waiting = [file for file in usable if not output.is_done(file)]
        n_done = len(files) - len(waiting)
        for file in tqdm(waiting, "segmenting", len(files), initial=n_done, unit=" images"):
            if reason := _segment_one(network, file, output, made_with):
                failed[file.name] = reason
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


def _write_tables(
    output: OutputFolder, files: list[Path], failed: dict[str, str], pixel_size_um: float | None
) -> pd.DataFrame:
    """Write the tables of all that is in the folder and return the summary."""
    names = {file.name for file in files}
    notes, messages = output.read_notes(files[0].parent)
    done = [note["summary"] for note in notes if note["image"]["name"] not in failed]
    if pixel_size_um is not None:
        given = {"pixel_size_um": pixel_size_um, "pixel_size_from": "given"}
        done = [row | given if row["image"] in names else row for row in done]
    rows = [{"image": n, "status": FAILED, "warning": why} for n, why in failed.items()]
    rows = sorted(done + rows, key=lambda row: row["image"])
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
    empty = pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
    nuclei = pd.concat([table for table in tables if len(table)] or [empty], ignore_index=True)
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


def list_images(folder: str | Path, pattern: str = "*") -> list[Path]:
    """Return the images of a folder, sorted by name, and none of its subfolders.

    They end in one of `SUFFIXES`; hidden files and what this program writes are none. `pattern` is
    as in a shell: "*" all, "plate1_*" those that begin so, "*.tif" those of one type, in upper or
    lower case, on every system. FileNotFoundError, NotADirectoryError or ValueError where there is
    no such folder, no image in it, or two would become the same files.
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise FileNotFoundError(
            f"there is no folder {str(folder)!r}; give the folder of the images"
        )
    if not folder.is_dir():
        raise NotADirectoryError(
            f"{str(folder)!r} is a file; give the folder that holds it, and its name as the pattern"
        )
    files = list(filter(_is_image, sorted(folder.iterdir())))
    images = [file for file in files if fnmatchcase(file.name.lower(), pattern.lower())]
    if not images:
        raise ValueError(_say_none(folder, pattern, len(files)))
    _refuse_same_stems(images)
    return images


def _is_image(file: Path) -> bool:
    name = file.name.lower()
    is_ours = name.startswith(".") or name.endswith(OUTPUTS)
    return name.endswith(SUFFIXES) and not is_ours and file.is_file()


def list_left_out(images: str | Path, out: str | Path) -> list[str]:
    """Return a sentence that counts and names the files that are not taken for images, or none."""
    images, out = Path(images).expanduser(), Path(out).expanduser()
    found = []
    for file in sorted(images.iterdir()):
        is_result = file.name.endswith((*OUTPUTS, NUCLEI, SUMMARY))
        is_ours = is_result and images.resolve() == out.resolve()
        if file.name.startswith(".") or file.is_dir() or _is_image(file) or is_ours:
            continue
        why = "a result's name" if file.name.lower().endswith(OUTPUTS) else "no PNG, TIFF or JPEG"
        found.append(f"{file.name} ({why if file.exists() else 'a broken link'})")
    return [f"left out {len(found)}: {name_some(found, 5)}"] if found else []


def _say_none(folder: Path, pattern: str, n_images: int) -> str:
    if n_images:
        return (
            f"none of the {n_images} images in {str(folder)!r} matches the pattern {pattern!r}; "
            'the pattern "*" takes them all'
        )
    n = sum(not file.name.startswith(".") for file in folder.iterdir())
    return (
        f"{str(folder)!r} holds no image among its {n} files and folders; allowed are "
        f"{', '.join(SUFFIXES)}, not in subfolders. Save images of other formats as TIFF, without "
        "compression that loses detail"
    )


def _refuse_same_stems(images: Iterable[Path]) -> None:
    """Raise ValueError where two images differ in their suffix only, or in upper and lower case."""
    seen: dict[str, Path] = {}
    for file in images:
        other = seen.setdefault(unicodedata.normalize("NFC", file.stem).casefold(), file)
        if other != file:
            raise ValueError(
                f"{other.name!r} and {file.name!r} would both become {file.stem + LABELS!r}; "
                'rename one, or take one type with a pattern such as "*.tif"'
            )


def say_long(file: Path) -> str:
    """Return why a file's name is too long for those of its results; "" if it is not."""
    if len(os.fsencode(file.stem + OVERLAY)) <= LONGEST_NAME:
        return ""
    return (
        f"its name has {len(os.fsencode(file.name))} bytes, so that {OVERLAY!r} makes it too long; "
        f"shorten it to {LONGEST_NAME - len(OVERLAY)} or less"
    )


def refuse_too_large(file: Path) -> None:
    """Raise ValueError for an image that needs more memory than is free; its pixels are not read.

    A system that runs out of memory ends the program, and with it the whole folder.
    """
    try:
        if file.suffix.lower() in (".tif", ".tiff"):
            with tifffile.TiffFile(file) as tiff:
                pages = [series.keyframe for series in tiff.series]
                largest = max(pages, key=lambda page: page.imagelength * page.imagewidth)
                height, width = largest.imagelength, largest.imagewidth
        else:
            with catch_warnings(action="ignore"), Image.open(file) as image:
                width, height = image.size
    except Image.DecompressionBombError as reason:  # it says how many pixels, and nothing else
        height, width = int(re.search(r"\((\d+) pixels\)", str(reason))[1]), 1
    except Exception:  # whatever is wrong with it, reading it says it better
        return
    needed, free = height * width * BYTES_A_PIXEL, free_memory()
    if needed > free:
        raise ValueError(
            f"{height * width / 1e6:.0f} megapixels need about {needed / 1e9:.1f} GB of memory, "
            f"and {free / 1e9:.1f} GB are free: cut the image into parts, or reduce it"
        )


def free_memory() -> int:
    """Return how many bytes of memory this process can still have, in a container too."""
    free, group = psutil.virtual_memory().available, Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / f"memory.{it}").read_text()) for it in ("max", "current"))
    except (OSError, ValueError):  # no container, or one without a limit
        return free
    return max(0, min(free, limit - used))
