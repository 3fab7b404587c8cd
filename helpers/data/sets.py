"""The published sets of annotated nuclei that are known by name: how they lie, and downloads."""

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from helpers.run_folder import ROOT, shorten

GROUPS = "groups.csv"
"""The file that says which images a split must keep together."""
_UNSAFE = re.compile(r"^[/\\]|^[^/\\]*:|(^|[/\\])\.\.([/\\]|$)")
_BBBC = "https://data.broadinstitute.org/bbbc/BBBC038/"
_CAICEDO = "Caicedo et al., Nature Methods 2019, https://doi.org/10.1038/s41592-019-0612-7"


class ImageSet(NamedTuple):
    """A published set: one archive, which `helpers.data.data_set` reads as it is."""

    title: str
    address: str
    file: str  # the archive's name here; the data set bears it, without the ending
    licence: str
    citation: str
    sha256: str | None = None  # None: nobody has published one; members are checked by their own
    size_mb: int | None = None
    group: str | None = None  # matches, in an id, what images must share to stay together
    layout: tuple[tuple[str, str], ...] = ()  # folders in the archive, of `LAYOUTS` ("": not read)
    masks: str = "numbered"  # what is a nucleus in that layout, of `helpers.data.truth.MASKS`


SETS = {
    "bbbc038": ImageSet(
        "BBBC038, training images of the Data Science Bowl 2018, with masks",
        f"{_BBBC}stage1_train.zip",
        "stage1_train.zip",
        "CC0",
        _CAICEDO,
        sha256="dcb6edc2690f137406638b2309581a71522c4dff19157d118453b448dcddcb68",
        size_mb=83,
    ),
    "bbbc038_test": ImageSet(
        "BBBC038, test images of the Data Science Bowl 2018, without masks",
        f"{_BBBC}stage1_test.zip",
        "stage1_test.zip",
        "CC0",
        _CAICEDO,
    ),
    "stardist": ImageSet(
        "the fluorescence images of BBBC038 that StarDist was trained and tested on",
        "https://github.com/stardist/stardist/releases/download/0.1.0/dsb2018.zip",
        "dsb2018.zip",
        "CC0",
        "Schmidt et al., MICCAI 2018, https://doi.org/10.1007/978-3-030-00934-2_30",
    ),
    "nuinsseg": ImageSet(
        "NuInsSeg, haematoxylin and eosin, 31 organs of man and mouse",
        "https://zenodo.org/records/10518968/files/NuInsSeg.zip",
        "nuinsseg.zip",
        "CC BY 4.0",
        "Mahbod et al., Scientific Data 2024, https://doi.org/10.1038/s41597-024-03117-2",
        size_mb=1627,
        group=r".+(?=_\d+$)",  # the organ
        layout=((r"(.*/)?tissue images", "images"), (r"(.*/)?label masks", "labels")),
    ),
    "tnbc": ImageSet(
        "haematoxylin and eosin, breast cancer of 11 patients and tumours of the brain",
        "https://zenodo.org/records/3552674/files/TNBC_and_Brain_dataset.zip",
        "tnbc.zip",
        "CC BY 4.0",
        "Naylor et al., IEEE Transactions on Medical Imaging 2019, "
        "https://doi.org/10.1109/TMI.2018.2865709",
        sha256="fa8a71748e04f5e6b8c9b5cdb79bb44c0096b6c0fd899c4b963e2e16fc521cf3",
        group=r"\d+(?=_)",  # the patient
        layout=((r"(.*/)?Slide_\d+", "images"), (r"(.*/)?GT_\d+", "labels")),
        masks="components",
    ),
    "bsst265": ImageSet(
        "S-BSST265, fluorescence: sections, imprints and cytospins, 10x to 63x",
        "https://www.ebi.ac.uk/biostudies/files/S-BSST265/dataset.zip",
        "bsst265.zip",
        "CC0",
        "Kromp et al., Scientific Data 2020, https://doi.org/10.1038/s41597-020-00608-w",
        sha256="8285987ed4d57c46a46a55a33c1c085875ea41f429b59cde31d249741aa07ad1",
        layout=(
            (r"(.*/)?rawimages", "images"),
            (r"(.*/)?groundtruth", "labels"),
            (r"(.*/)?visualized_groundtruth", ""),
        ),
    ),
}


def find_set(source: str) -> ImageSet | None:
    """Return the published set that a data set of this name is, or None.

    >>> find_set("stage1_train") == find_set("bbbc038") == SETS["bbbc038"]
    True
    """
    by_file = {each.file.removesuffix(".zip"): each for each in SETS.values()}
    return (by_file | SETS).get(source)


def find_published_names(names: Iterable[str]) -> tuple[ImageSet | None, dict[str, str]]:
    """Return the set whose published layout these names have, and the new name of those it needs.

    >>> found, known = find_published_names(["top/Slide_01/01_1.png", "top/GT_01/01_1.png", "a/b"])
    >>> found.masks, known
    ('components', {'top/Slide_01/01_1.png': 'images/01_1.png',
     'top/GT_01/01_1.png': 'labels/01_1.png'})
    """
    placed = {name: name.rpartition("/")[::2] for name in names if not name.endswith("/")}
    folders = {folder for folder, _ in placed.values()}
    for each in SETS.values():
        found = [
            dict.fromkeys((f for f in folders if re.fullmatch(old, f)), new)
            for old, new in each.layout
        ]
        if found and all(found):
            known = {folder: new for part in found for folder, new in part.items() if new}
            return each, {
                name: GROUPS if file == GROUPS else f"{known[folder]}/{file}"
                for name, (folder, file) in placed.items()
                if folder in known or file == GROUPS
            }
    return None, {}


def fetch(name: str, folder: str | Path = ROOT / "data") -> Path:
    """Return the path of a set's archive, downloaded unless it is there and whole.

    ValueError: the set is not known, or what arrived is damaged or unsafe; it is deleted.
    ConnectionError: the server cannot be reached, or the transfer broke off again and again.
    """
    import pooch

    if name not in SETS:
        raise ValueError(f"`name` (={name!r}) must be one of {', '.join(SETS)}")
    chosen, folder = SETS[name], Path(folder).expanduser().absolute()
    pooch.get_logger().setLevel("ERROR")
    known, urls = {chosen.file: chosen.sha256}, {chosen.file: chosen.address}
    fetcher = pooch.create(folder, base_url="", registry=known, urls=urls, retry_if_failed=4)
    by_http = pooch.HTTPDownloader(progressbar=True, timeout=60)
    try:
        path = Path(fetcher.fetch(chosen.file, downloader=by_http))
    except ValueError as reason:
        raise ValueError(
            f"{chosen.file} from {chosen.address} is damaged: its SHA-256 is not {chosen.sha256}. "
            "It was deleted; run the same command again, and if that does not help, report it"
        ) from reason
    except OSError as reason:  # what requests raises is one
        raise ConnectionError(
            f"{chosen.address} cannot be downloaded ({reason}); check the connection, or put the "
            f"file there yourself: {shorten(folder / chosen.file)}"
        ) from reason
    if chosen.sha256 is None:
        _check_archive(path)
    return path


def describe(name: str) -> str:
    """Return a paragraph on a set: what it is, its licence and what to cite."""
    chosen = SETS[name]
    size = f" · {chosen.size_mb} MB" if chosen.size_mb else ""
    return (
        f"{name}: {chosen.title}{size} · {chosen.licence}\n"
        f"  cite {chosen.citation}\n  from {chosen.address}"
    )


def _check_archive(path: Path) -> None:
    """Raise ValueError, and delete the archive, where it is damaged or holds an unsafe name."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                refuse_unsafe(name, path)
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged!r} in it does not match its checksum")
    except ValueError:
        path.unlink()
        raise
    except zipfile.BadZipFile as reason:
        path.unlink()
        raise ValueError(
            f"{path.name} is damaged ({reason}) and was deleted; download it again"
        ) from None


def refuse_unsafe(name: str, archive: Path) -> None:
    """Raise ValueError for a member that would leave the folder it is unpacked in."""
    may_be = name[:1] in "/\\" or ":" in name or ".." in name
    if may_be and _UNSAFE.search(name):
        raise ValueError(
            f"{str(archive)!r} holds the unsafe name {name!r}: names must be relative and without "
            "'..'; get the archive from its source again"
        )
