"""Which files of a folder are images to segment, and what the files made from them are called."""

import unicodedata
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
LABELS, MASK, OVERLAY = "_labels.tif", "_mask.png", "_overlay.png"
OUTPUTS = (MASK, OVERLAY, LABELS)
"""Endings of what is made of an image, in the order of writing: the labels say that it is done."""


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
