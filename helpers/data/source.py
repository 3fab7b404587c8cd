"""The files of a data set (a folder, a zip archive, or parts that are archives), and its groups."""

import io
import os
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from posixpath import basename

import pandas as pd

from helpers.data.layout import LAYOUTS, PARTS, PICTURE, to_known_names
from helpers.data.sets import GROUPS, find_published_names, find_set, refuse_unsafe

_HIDDEN = re.compile(r"(^|/)(\.|__MACOSX(/|$)|Thumbs\.db$|desktop\.ini$)")
_MAX_DEPTH = 6  # enclosing folder, part twice, id, images, file


class Source:
    """The files of a location, closed at the end of a `with`.

    `members` maps names as `LAYOUTS` has them (a folder's ends in "/") to a stamp that changes
    with the content: CRC32 and size in an archive; size and time of the last change in a folder.
    `published` is the set whose published layout was found; files that it does not need are absent.
    """

    def __init__(self, path: Path):
        self.path = path
        self._archives: dict[str, zipfile.ZipFile] = {}  # by the folder that stands for it
        stamps = self._list_files()
        self.published, known = find_published_names(stamps)
        known = known or to_known_names(stamps)
        self._stored_as = {name: stored for stored, name in known.items()}
        self.members = {name: stamps[stored] for name, stored in self._stored_as.items()}
        files = Counter(name for name in known.values() if not name.endswith("/"))
        for name, count in files.most_common(1):
            if count > 1:
                raise ValueError(f"{str(path)!r} holds {name!r} twice; remove one of them")

    def __enter__(self) -> "Source":
        """Return the source itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the archives."""
        for archive in self._archives.values():
            archive.close()

    def read(self, name: str) -> bytes:
        """Return the bytes of a member; safe from several threads."""
        stored = self._stored_as[name]
        for prefix, archive in self._archives.items():
            if stored.startswith(prefix):
                return archive.read(stored.removeprefix(prefix))
        return (self.path / stored).read_bytes()

    def _list_files(self) -> dict[str, str]:
        """Return the stamps of all files by the names that they are stored as."""
        if not self.path.exists():
            raise FileNotFoundError(f"data set {str(self.path)!r} does not exist. {LAYOUTS}")
        if self.path.is_file():
            return self._list_archive("", self.path)
        stamps: dict[str, str] = {}
        parts = _find_parts(self.path)
        for part in parts:
            if part.is_dir():
                _walk(part, f"{part.name}/", stamps)
            else:
                stamps |= self._list_archive(f"{part.stem}/", part)
        if not parts:
            _walk(self.path, "", stamps)
        return stamps

    def _list_archive(self, prefix: str, path: Path) -> dict[str, str]:
        archive = _open_archive(path)
        self._archives[prefix] = archive
        stamps: dict[str, str] = {}
        for member in archive.infolist():
            refuse_unsafe(member.filename, path)
            if _HIDDEN.search(member.filename.replace("\\", "/")):
                continue
            name = prefix + member.filename
            if name in stamps:
                raise ValueError(f"{str(path)!r} holds {member.filename!r} twice; pack it again")
            stamps[name] = f"{member.CRC:08x}-{member.file_size}"
        return stamps


def _open_archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError) as reason:
        if tarfile.is_tarfile(path):
            raise ValueError(
                f"{str(path)!r} is a tar archive; unpack it (`tar -xf {path.name}`) and give the "
                "folder, or pack it as zip"
            ) from None
        raise ValueError(
            f"{str(path)!r} is neither a folder nor a zip archive, or is damaged ({reason}); give "
            "the folder, or download the archive again"
        ) from reason


def _find_parts(folder: Path) -> list[Path]:
    """Return the parts that lie in a folder where one of them is an archive."""
    found = [
        path
        for path in sorted(folder.iterdir())
        if (path.is_dir() and path.name in PARTS)
        or (path.suffix == ".zip" and path.is_file() and path.stem in PARTS)
    ]
    for name, count in Counter(path.stem for path in found).items():
        if count > 1:
            raise ValueError(
                f"{str(folder)!r} holds both {name}/ and {name}.zip; point `data` at one of them"
            )
    return found if any(path.suffix == ".zip" for path in found) else []


def _walk(folder: str | Path, prefix: str, stamps: dict[str, str], depth: int = 1) -> None:
    """Add names below a folder with their stamps; folders end in "/"."""
    with os.scandir(folder) as listing:
        for item in listing:
            if _HIDDEN.search(item.name):
                continue
            if item.is_dir():
                stamps[f"{prefix}{item.name}/"] = ""
                if depth < _MAX_DEPTH:
                    _walk(item.path, f"{prefix}{item.name}/", stamps, depth + 1)
            else:
                stamps[prefix + item.name] = _stamp(item)


def _stamp(item: os.DirEntry) -> str:
    try:
        about = item.stat()
    except OSError:  # a link to nowhere; reading it will be a fault of its image
        return "unreadable"
    return f"{about.st_mtime_ns}-{about.st_size}"


def find_known_groups(source: Source, name: str, ids: Sequence[str]) -> list[str]:
    """Return the group of every id, with the data set's `name` before it, "" where unknown.

    A `groups.csv` in the data set says so, or one beside it that names the set in its column
    `source`, or else the rule of the published set that this is. ValueError where the file has no
    column `id` (or `image`) or no `group`, or none of the ids.
    """
    given = _read_groups(source, name)
    if given is None:
        published = source.published or find_set(name)
        if published is None or published.group is None:
            return [""] * len(ids)
        found = {each: re.match(published.group, each) for each in ids}
        given = {each: match[0] for each, match in found.items() if match}
    elif ids and not given.keys() & set(ids):
        raise ValueError(
            f"{GROUPS} of {str(source.path)!r} has rows for {', '.join(list(given)[:3])}, but none "
            f"for an image, such as {ids[0]!r}; its column `id` holds names of images"
        )
    return [f"{name}/{given[each]}" if given.get(each) else "" for each in ids]


def _read_groups(source: Source, name: str) -> dict[str, str] | None:
    """Return the group of each id in the file of a data set, or None without a file."""
    inside = [member for member in source.members if basename(member) == GROUPS]
    beside = source.path.parent / GROUPS
    if not inside and not beside.is_file():
        return None
    file = io.BytesIO(source.read(min(inside, key=len))) if inside else beside
    table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    table = table.rename(columns={"image": "id"})
    if missing := {"id", "group"} - set(table):
        path = source.path if inside else beside
        raise ValueError(
            f"{GROUPS} of {str(path)!r} has the columns {', '.join(table)}, but must have `id` and "
            f"`group` ({', '.join(sorted(missing))} missing)"
        )
    if "source" in table and name in set(table["source"]):
        table = table[table["source"] == name]
    elif not inside:
        return None
    ids = table["id"].str.replace(PICTURE, "", regex=True)
    return dict(zip(ids, table["group"], strict=True))
