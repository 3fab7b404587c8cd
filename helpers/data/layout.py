"""Where a data set's files lie: folders and zip archives, in the layouts that are allowed."""

import os
import re
import zipfile
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import NamedTuple

PARTS = {
    "train": "train",
    "stage1_train": "train",
    "test": "test",
    "stage1_test": "test",
    "stage2_test": "test",
    "stage2_test_final": "test",
}
LAYOUTS = """Allowed, as a folder or as a zip archive, with or without an enclosing folder:
  train/<id>/images/<file> and train/<id>/masks/<files>, test/<id>/images/<file>
  stage1_train/<id>/... and stage1_test/<id>/..., or a folder with stage1_train.zip in it
  <id>/images/<file> and <id>/masks/<files>
  images/<id>.<ext> and masks/<id>.<ext> or labels/<id>.<ext>, one label image a picture (0 =
  background, one number a nucleus), also below train/ and test/"""
_HIDDEN = re.compile(r"(^|/)(\.|__MACOSX(/|$)|Thumbs\.db$|desktop\.ini$)")
_UNSAFE = re.compile(r"^[/\\]|^[^/\\]*:|(^|[/\\])\.\.([/\\]|$)")
_KINDS = {"images": "images", "masks": "masks", "labels": "masks"}
_MAX_DEPTH = 6  # enclosing folder, part twice, id, images, file


class Entry(NamedTuple):
    """The files of one image."""

    id: str
    part: str  # "train" or "test"
    folder: str  # of the data set, "" for its root
    images: tuple[str, ...]
    masks: tuple[str, ...]  # in file-name order
    label_images: bool = False  # each of `masks` holds all nuclei, as the others of its folder do


class Source:
    """The files of a location: a folder, a zip archive, or a folder of parts that are archives.

    `members` maps names relative to the location, with "/" between folders and at the end of a
    folder's name, to a stamp that changes with the content: CRC32 and size in an archive; size and
    time of the last change in a folder.
    """

    def __init__(self, path: Path):
        self.path = path
        self.members: dict[str, str] = {}
        self._archives: dict[str, zipfile.ZipFile] = {}  # by the folder that stands for it
        if not path.exists():
            raise FileNotFoundError(f"data set {str(path)!r} does not exist. {LAYOUTS}")
        if path.is_file():
            self._add_archive("", path)
            return
        parts = _find_parts(path)
        for part in parts:
            if part.is_dir():
                _walk(part, f"{part.name}/", self.members)
            else:
                self._add_archive(f"{part.stem}/", part)
        if not parts:
            _walk(path, "", self.members)

    def __enter__(self) -> "Source":
        """Return the source itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the archives."""
        for archive in self._archives.values():
            archive.close()

    def read(self, name: str) -> bytes:
        """Return the bytes of a member; safe from several threads."""
        for prefix, archive in self._archives.items():
            if name.startswith(prefix):
                return archive.read(name.removeprefix(prefix))
        return (self.path / name).read_bytes()

    def _add_archive(self, prefix: str, path: Path) -> None:
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, EOFError) as reason:
            raise ValueError(
                f"{str(path)!r} is not a zip archive or is damaged ({reason}); download it again, "
                "`make data` checks what it downloads"
            ) from reason
        self._archives[prefix] = archive
        for member in archive.infolist():
            refuse_unsafe(member.filename, path)
            if is_hidden(member.filename):
                continue
            name = prefix + member.filename
            if name in self.members:
                raise ValueError(f"{str(path)!r} holds {member.filename!r} twice; pack it anew")
            self.members[name] = f"{member.CRC:08x}-{member.file_size}"


def refuse_unsafe(name: str, archive: Path) -> None:
    """Raise ValueError for a member that would leave the folder it is unpacked in."""
    if _UNSAFE.search(name):
        raise ValueError(
            f"{str(archive)!r} holds the unsafe name {name!r}: names must be relative and without "
            "'..'; get the archive from its source again"
        )


def is_hidden(name: str) -> bool:
    """Tell whether a file belongs to an operating system rather than to the data.

    >>> [is_hidden(name) for name in ("__MACOSX/a.png", "x/.DS_Store", "x/images/a.png")]
    [True, True, False]
    """
    return _HIDDEN.search(name) is not None


def find_entries(source: Source) -> tuple[list[Entry], list[str]]:
    """Return the images of a source, and the files that have no place in the layout.

    Returns
    -------
    list of Entry
        Training part first, then by id. Ids can occur twice, files can be none or several.
    list of str
        Names of other files, for example a table beside the images.

    Raises
    ------
    ValueError
        No images in an allowed layout, or more than one data set below the location.
    """
    flat = _find_flat(source.members)
    files, others = _group_files(source.members, flat)
    folders = {folder for folder, _ in files}
    _refuse_several(source, folders)
    for name in source.members:  # a folder with nothing in it is an image without its file
        path = PurePosixPath(name)
        if not name.endswith("/") or path.name in PARTS:
            continue
        if _text(path.parent) in folders - flat:
            files.setdefault((_text(path.parent), path.name), defaultdict(list))
    if not any(kinds["images"] for kinds in files.values()):
        raise ValueError(f"no images in {str(source.path)!r}: {_describe(source)}. {LAYOUTS}")
    parts = _name_parts(source, files)
    labelled = {folder for (folder, _), kinds in files.items() if kinds["masks"]} & flat
    entries = [
        Entry(
            key,
            parts[folder],
            folder,
            tuple(kinds["images"]),
            tuple(sorted(kinds["masks"])),
            folder in labelled,
        )
        for (folder, key), kinds in files.items()
    ]
    return sorted(entries, key=lambda entry: (entry.part != "train", entry.id)), others


def _find_flat(members: dict[str, str]) -> set[str]:
    """Return the folders whose images/ holds the files of many images, not that of one.

    The data set's root and a part are such folders, unless images have folders of their own
    below. Any other folder could be an image's own: it is not where it stands alone and has
    labels/, or several files in images/.
    """
    held: dict[str, Counter] = defaultdict(Counter)
    for name in members:
        inner = PurePosixPath(name).parent
        if not name.endswith("/") and inner.name in _KINDS:
            held[_text(inner.parent)][inner.name] += 1
    named = {folder for folder in held if not folder or PurePosixPath(folder).name in PARTS}
    own = {folder for folder, n in held.items() if n["images"] or n["masks"]} - named
    if len(held) == 1 and own:
        (n,) = held.values()
        return own if n["labels"] or n["images"] > 1 else set()
    return {folder for folder in named if not any(_is_below(image, folder) for image in own)}


def _is_below(name: str, folder: str) -> bool:
    return not folder or name.startswith(f"{folder}/")


def _group_files(members: dict[str, str], flat: set[str]) -> tuple[dict, list[str]]:
    """Group names by (folder of the data set, id) and by "images" or "masks"."""
    files: dict[tuple[str, str], dict[str, list[str]]] = {}
    others = []
    for name in members:
        path = PurePosixPath(name)
        inner = path if name.endswith("/") else path.parent
        if inner.name in _KINDS and _text(inner.parent) in flat:
            if not name.endswith("/"):
                kinds = files.setdefault((_text(inner.parent), path.stem), defaultdict(list))
                kinds[_KINDS[inner.name]].append(name)
        elif inner.name in ("images", "masks") and len(inner.parts) > 1:
            owner = (_text(inner.parent.parent), inner.parent.name)
            kinds = files.setdefault(owner, defaultdict(list))
            if not name.endswith("/"):
                kinds[inner.name].append(name)
        elif not name.endswith("/"):
            others.append(name)
    return files, others


def _name_parts(source: Source, files: dict) -> dict[str, str]:
    """Name each folder's part after it; where no name tells, masks make a training set."""
    parts = {}
    for folder in {folder for folder, _ in files}:
        named = PARTS.get(PurePosixPath(folder).name if folder else source.path.stem)
        has_masks = any(kinds["masks"] for (owner, _), kinds in files.items() if owner == folder)
        parts[folder] = named or ("train" if has_masks else "test")
    return parts


def _refuse_several(source: Source, folders: set[str]) -> None:
    roots = set()
    for folder in folders:
        path = PurePosixPath(folder)
        while path.name in PARTS:
            path = path.parent
        roots.add(_text(path) or ".")
    if len(roots) > 1:
        raise ValueError(
            f"{str(source.path)!r} holds {len(roots)} data sets, in {_shorten(sorted(roots))}; "
            f"point data_set_location at one of them. {LAYOUTS}"
        )


def _find_parts(folder: Path) -> list[Path]:
    """Return the parts that lie in a folder, each as a folder or as an archive."""
    found = [
        path
        for path in sorted(folder.iterdir())
        if (path.is_dir() and path.name in PARTS)
        or (path.suffix == ".zip" and path.is_file() and path.stem in PARTS)
    ]
    for name, count in Counter(path.stem for path in found).items():
        if count > 1:
            raise ValueError(
                f"{str(folder)!r} holds both {name}/ and {name}.zip; "
                "point data_set_location at one of them"
            )
    return found if any(path.suffix == ".zip" for path in found) else []


def _walk(folder: str | Path, prefix: str, members: dict[str, str], depth: int = 1) -> None:
    """Add names below a folder with their stamps; folders end in "/"."""
    with os.scandir(folder) as listing:
        for item in listing:
            if is_hidden(item.name):
                continue
            if item.is_dir():
                members[f"{prefix}{item.name}/"] = ""
                if depth < _MAX_DEPTH:
                    _walk(item.path, f"{prefix}{item.name}/", members, depth + 1)
            else:
                members[prefix + item.name] = _stamp(item)


def _stamp(item: os.DirEntry) -> str:
    try:
        about = item.stat()
    except OSError:  # a link to nowhere; reading it will be a fault of its image
        return "unreadable"
    return f"{about.st_mtime_ns}-{about.st_size}"


def _describe(source: Source) -> str:
    tops = {name.split("/")[0] + "/" * ("/" in name) for name in source.members}
    n_files = sum(not name.endswith("/") for name in source.members)
    return f"found {n_files} files, at its top {_shorten(sorted(tops)) or 'nothing'}"


def _shorten(names: list[str], n: int = 5) -> str:
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(repr(name) for name in names[:n]) + more


def _text(path: PurePosixPath) -> str:
    return "" if path == PurePosixPath(".") else str(path)
