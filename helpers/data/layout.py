"""The layouts of a data set: which of its files is an image, which its truth, which part it is."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache
from posixpath import basename, dirname, join, split, splitext
from typing import TYPE_CHECKING, NamedTuple

from helpers.data.problems import name_some
from helpers.data.sets import GROUPS

if TYPE_CHECKING:
    from helpers.data.source import Source

_TESTS = ("test", "testing", "stage1_test", "stage2_test", "stage2_test_final")
PARTS = {
    **dict.fromkeys(("train", "training", "stage1_train"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(_TESTS, "test"),
}
"""Names of folders and archives, and the part of a data set that each stands for."""
ORDER = ("train", "validation", "test")
LAYOUTS = """Allowed, as a folder or as a zip archive, with or without an enclosing folder:
  train/<id>/images/<file> and train/<id>/masks/<files>, also below val/ and test/
  stage1_train/<id>/... and stage1_test/<id>/..., or a folder with stage1_train.zip in it
  <id>/images/<file> and <id>/masks/<files>
  images/<id>.<ext> and masks/<id>.<ext> or labels/<id>.<ext>, one label image a picture (0 =
  background, one number a nucleus), also below train/, val/ and test/
  <id>.<ext> and <id>_masks.<ext> beside each other"""
_KINDS = {"images": "images", "masks": "masks", "labels": "masks"}
_ALIASES = {
    **dict.fromkeys(("image", "imgs", "rawimages"), "images"),
    "mask": "masks",
    **dict.fromkeys(("label", "groundtruth", "gt"), "labels"),
}
_OF_MASK = re.compile(r"[ _-](cp_)?(masks?|labels?|seg|gt)$", re.IGNORECASE)
_OF_IMAGE = re.compile(r"[ _-](img|image|raw)$", re.IGNORECASE)
PICTURE = re.compile(r"\.(png|tiff?|jpe?g)$", re.IGNORECASE)


class Entry(NamedTuple):
    """The files of one image."""

    id: str
    part: str  # one of `ORDER`
    folder: str  # of the data set, "" for its root
    images: tuple[str, ...]
    masks: tuple[str, ...]  # in file-name order
    label_images: bool = False  # each of `masks` holds all nuclei, as the others of its folder do


def to_known_names(names: Iterable[str]) -> dict[str, str]:
    r"""Return the name that `LAYOUTS` has for each name of a file or folder.

    >>> list(to_known_names(["Images\\a.png", "masks/masks/a.png", "images/val/b.png"]).values())
    ['images/a.png', 'masks/a.png', 'val/images/b.png']
    >>> list(to_known_names(["a_img.png", "a_masks.png"]).values())
    ['images/a_img.png', 'masks/a_masks.png']
    """
    known = {}
    for name in names:
        folder, slash, file = name.replace("\\", "/").rpartition("/")
        known[name] = _to_known_folder(folder) + slash + file
    if any("images" in name.split("/")[:-1] for name in known.values()):
        return known
    return _sort_pairs(known)


@lru_cache(maxsize=4096)
def _to_known_folder(folder: str) -> str:
    parts: list[str] = []
    for part in folder.split("/"):
        lower = part.lower()
        known = _ALIASES.get(lower, lower if lower in _KINDS else part)
        if not (parts and known in _KINDS and parts[-1] == known):
            parts.append(known)
    if len(parts) > 1 and parts[-1] in PARTS and parts[-2] in _KINDS:
        parts[-2:] = parts[-1], parts[-2]
    return "/".join(parts)


def _sort_pairs(known: dict[str, str]) -> dict[str, str]:
    """Put images and masks that lie beside each other into images/ and masks/."""
    stems: dict[str, dict[str, str]] = defaultdict(dict)  # by folder: the name of each stem
    for name in known.values():
        if PICTURE.search(name):
            stems[dirname(name)][_stem(name)] = name
    moved = {}
    for held in stems.values():
        images = {stem for stem in held if not _OF_MASK.search(stem)}
        index = _index_images(images)
        for stem in set(held) - images:
            image = _find_image(stem, index)
            if image is not None:
                moved |= {held[stem]: "masks", held[image]: "images"}
    return {
        stored: join(dirname(name), moved[name], basename(name)) if name in moved else name
        for stored, name in known.items()
    }


def _index_images(stems: Iterable[str]) -> dict[str, set[str]]:
    """Return images by the names that their masks may have, less what says "mask"."""
    index: dict[str, set[str]] = defaultdict(set)
    for stem in stems:
        index[stem].add(stem)
        index[_OF_IMAGE.sub("", stem)].add(stem)
    return index


def _find_image(stem: str, index: dict[str, set[str]]) -> str | None:
    """Return the image that a mask belongs to by its name, or None."""
    if stem in index.get(stem, ()):
        return stem
    found = index.get(_OF_MASK.sub("", stem), set())
    return next(iter(found)) if len(found) == 1 else None


def find_entries(source: "Source") -> tuple[list[Entry], list[str]]:
    """Return the images of a source by `ORDER` and id, and the files that have no place.

    Ids can occur twice, files can be none or several. Where no name tells the part, masks make a
    training set. ValueError where there are no images in an allowed layout, or several data sets.
    """
    flat = _find_flat(source.members)
    files, others = _group_files(source.members, flat)
    folders = {folder for folder, _ in files}
    _refuse_several(source, folders)
    for name in source.members:  # a folder with nothing in it is an image without its file
        folder, key = split(name.rstrip("/"))
        if name.endswith("/") and key not in PARTS and folder in folders - flat:
            files.setdefault((folder, key), defaultdict(list))
    if not any(kinds["images"] for kinds in files.values()):
        raise ValueError(f"no images in {str(source.path)!r}: {_describe(source)}. {LAYOUTS}")
    masked = {folder for (folder, _), kinds in files.items() if kinds["masks"]}
    listed = _read_lists(source, others)
    entries = []
    for (folder, key), kinds in files.items():
        named = PARTS.get(basename(folder) if folder else source.path.stem)
        part = listed.get(key) or named or ("train" if folder in masked else "test")
        images, masks = tuple(kinds["images"]), tuple(sorted(kinds["masks"]))
        entries.append(Entry(key, part, folder, images, masks, folder in masked & flat))
    return sorted(entries, key=lambda entry: (ORDER.index(entry.part), entry.id)), others


def _find_flat(members: dict[str, str]) -> set[str]:
    """Return the folders whose images/ holds the files of many images, not that of one.

    The data set's root and a part are such folders, unless images have folders of their own
    below. Any other folder could be an image's own: it is not where it stands alone and has
    labels/, or several files in images/.
    """
    held: dict[str, Counter] = defaultdict(Counter)
    for name in members:
        folder, kind = split(dirname(name))
        if not name.endswith("/") and kind in _KINDS:
            held[folder][kind] += 1
    named = {folder for folder in held if not folder or basename(folder) in PARTS}
    own = {folder for folder, n in held.items() if n["images"] or n["masks"]} - named
    if len(held) == 1 and own:
        (n,) = held.values()
        return own if n["labels"] or n["images"] > 1 else set()
    return {f for f in named if not any(not f or image.startswith(f"{f}/") for image in own)}


def _group_files(members: dict[str, str], flat: set[str]) -> tuple[dict, list[str]]:
    """Group names by (folder of the data set, id) and by "images" or "masks"."""
    files: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    images: dict[str, set[str]] = defaultdict(set)
    for name in members:
        folder, kind = split(dirname(name))
        if kind == "images" and not name.endswith("/"):
            images[folder].add(_stem(name))
    indices = {folder: _index_images(stems) for folder, stems in images.items()}
    others = []
    for name in members:
        folder, kind = split(dirname(name))
        is_file = not name.endswith("/")
        if kind in _KINDS and folder in flat:
            key = _stem(name)
            if kind != "images":
                key = _find_image(key, indices.get(folder, {})) or key
            if is_file:
                files[folder, key][_KINDS[kind]].append(name)
        elif kind in ("images", "masks") and folder:
            kinds = files[split(folder)]
            if is_file:
                kinds[kind].append(name)
        elif is_file and basename(name) != GROUPS:
            others.append(name)
    return files, others


def _read_lists(source: "Source", others: list[str]) -> dict[str, str]:
    """Return the part of each id that a list beside the images gives: test.txt, as in BBBC039."""
    listed = {}
    for name in others:
        if name.endswith(".txt") and _stem(name) in PARTS:
            lines = source.read(name).decode("utf-8", "replace").split("\n")
            listed |= {_stem(line.strip()): PARTS[_stem(name)] for line in lines}
    return listed


def _refuse_several(source: "Source", folders: set[str]) -> None:
    roots = set()
    for folder in folders:
        while basename(folder) in PARTS:
            folder = dirname(folder)
        roots.add(folder or ".")
    if len(roots) > 1:
        raise ValueError(
            f"{str(source.path)!r} holds {len(roots)} data sets, in "
            f"{name_some(map(repr, sorted(roots)), 5)}; point `data` at one of them. {LAYOUTS}"
        )


def _describe(source: "Source") -> str:
    """Return what a location without a known layout holds, and what could be done about it."""
    files = [name for name in source.members if not name.endswith("/")]
    tops = sorted({name.split("/")[0] + "/" * ("/" in name) for name in source.members})
    found = f"found {len(files)} files, at its top {name_some(map(repr, tops), 5) or 'nothing'}"
    endings = Counter(splitext(name)[1].lower() for name in files)
    if endings[".json"]:
        return f"{found}: annotations in JSON, as COCO has them; draw them as label images"
    if endings[".roi"] or endings[".zip"]:
        return f"{found}: regions of ImageJ or archives; unpack them, save label images from Fiji"
    if any(map(PICTURE.search, files)):
        return f"{found}: images without a folder images/ and without masks; sort them into both"
    return found


def _stem(name: str) -> str:
    return splitext(basename(name))[0]
