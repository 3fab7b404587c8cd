"""Which files of a folder are images to segment, and which of them cannot be."""

import os
import re
import unicodedata
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from warnings import catch_warnings

import psutil
import tifffile
from PIL import Image

from helpers.data.problems import name_some
from helpers.segment.outputs import LABELS, OUTPUTS, OVERLAY

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
LONGEST_NAME = 255  # bytes, of nearly every file system
BYTES_A_PIXEL = 165  # of memory, measured with the reference network from 2 to 4 megapixels


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
        Files that end in one of `SUFFIXES`, without hidden ones and what this program writes.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, ValueError
        If there is no such folder, no image in it, or two would become the same files.
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
    files = [file for file in sorted(folder.iterdir()) if is_image(file.name) and file.is_file()]
    images = [file for file in files if fnmatchcase(file.name.lower(), pattern.lower())]
    if not images:
        raise ValueError(_say_none(folder, pattern, len(files)))
    _refuse_same_stems(images)
    return images


def is_image(name: str) -> bool:
    """Tell whether a file of that name is an image to segment."""
    lower = name.lower()
    return not lower.startswith(".") and lower.endswith(SUFFIXES) and not lower.endswith(OUTPUTS)


def list_left_out(images: str | Path, out: str | Path) -> list[str]:
    """Return a sentence that counts and names the files that are not taken for images, or none."""
    images, out = Path(images).expanduser(), Path(out).expanduser()
    found = []
    for file in sorted(images.iterdir()):
        if file.name.startswith(".") or file.is_dir() or (is_image(file.name) and file.is_file()):
            continue
        is_result = file.name.endswith((*OUTPUTS, "nuclei.csv", "summary.csv"))
        if is_result and images.resolve() == out.resolve():
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
        stem = unicodedata.normalize("NFC", file.stem).casefold()
        if stem in seen:
            raise ValueError(
                f"{seen[stem].name!r} and {file.name!r} would both become {file.stem + LABELS!r}; "
                'rename one, or take one type with a pattern such as "*.tif"'
            )
        seen[stem] = file


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
    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or one without a limit
        return free
    return max(0, min(free, limit - used))
