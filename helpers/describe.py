"""What a data set holds, counted, and compared with what its description says.

Counting comes before looking: a total that differs from the published one means that something
was lost, or that this is another edition of the data.
"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers.data import DataSet
from helpers.kinds import KINDS
from helpers.paths import resolve
from helpers.sample import sample_truth

BOWL_EDITIONS = {
    "community-corrected": {
        "images": 664,
        "nuclei": 28_986,
        "images of one channel in three": 557,
        "coloured images": 107,
        "image sizes": 9,
    },
    "official archive": {"images": 670},
}
"""Published totals of BBBC038's stage1_train, for each edition that is in use.

The official archive is described at https://bbbc.broadinstitute.org/BBBC038.
"""

NO_DESCRIPTION = "no description known"
_BOWL_ID = re.compile(r"[0-9a-f]{64}")


def check_totals(data: DataSet) -> pd.DataFrame:
    """Return one row a total: what is counted, `described`, `found` and `agrees` (yes or no).

    Which description holds is read from the ids, never from the counts that are checked: the
    Bowl names its images by 64 hexadecimal digits, the embedded sample by its kinds. Of the
    Bowl's editions the one with the nearest number of images is taken. Only images with masks
    count. Other data have no description here; their counts are reported all the same.
    """
    labelled = data.labelled
    ids = labelled.ids
    if ids and all(_BOWL_ID.fullmatch(name) for name in ids):
        return _check_bowl(labelled)
    if ids and all(name.startswith("sample_") for name in ids):
        return _check_sample(labelled)
    found = {"images": len(labelled), "nuclei": int(labelled.table["n_nuclei"].sum())}
    return _compare(found, {}, NO_DESCRIPTION)


def _check_bowl(data: DataSet) -> pd.DataFrame:
    coloured = sum(image.ndim == 3 for image in data.images)
    found = {
        "images": len(data),
        "nuclei": int(data.table["n_nuclei"].sum()),
        "images of one channel in three": len(data) - coloured,
        "coloured images": coloured,
        "image sizes": data.table[["height", "width"]].drop_duplicates().shape[0],
    }
    edition = min(BOWL_EDITIONS, key=lambda name: abs(BOWL_EDITIONS[name]["images"] - len(data)))
    return _compare(found, BOWL_EDITIONS[edition], f"BBBC038 stage1_train, {edition}")


def _check_sample(data: DataSet) -> pd.DataFrame:
    truth = sample_truth()
    both = data.table.merge(truth, on="id", suffixes=("", "_said"))
    described = {"images": len(truth)}
    found = {"images": len(data), "nuclei": int(data.table["n_nuclei"].sum())}
    for name in ("height", "width", "channels"):
        described[f"images with the {name} described"] = len(truth)
        found[f"images with the {name} described"] = int((both[name] == both[f"{name}_said"]).sum())
    return _compare(found, described, "embedded sample")


def _compare(found: dict[str, int], described: dict[str, int], source: str) -> pd.DataFrame:
    """Return the counts beside the description; `source` names it, as the index's name."""
    rows = [
        {
            "described": described.get(name, "unknown"),
            "found": n,
            "agrees": "yes" if described.get(name) == n else "no" if name in described else "-",
        }
        for name, n in found.items()
    ]
    return pd.DataFrame(rows, index=pd.Index(found, name=source))


def count_sizes(table: pd.DataFrame) -> pd.DataFrame:
    """Return the number of images of each size, channel count and dtype, most frequent first.

    Parameters
    ----------
    table : DataFrame
        `DataSet.table`; height and width in pixels, channels as stored in the file.
    """
    columns = ["height", "width", "channels", "dtype"]
    counts = table.groupby(columns).size().rename("images").reset_index()
    ascending = [False, True, True, True, True]
    return counts.sort_values(["images", *columns], ascending=ascending, ignore_index=True)


def measure_intensities(images: Sequence[np.ndarray]) -> pd.DataFrame:
    """Return one row an image: its `darkest`, `median` and `brightest` level.

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, 3) arrays of uint8 or uint16
        Colour is averaged over the channels.

    Returns
    -------
    DataFrame
        Float64 levels in the file's own unit, 0 to 255 or 0 to 65535. Darkest and brightest are
        the .5 % and 99.5 % percentiles, so that one dead or hot pixel does not count.
    """
    rows = []
    for image in images:
        gray = image if image.ndim == 2 else image.mean(axis=2)
        rows.append(np.percentile(gray, (0.5, 50, 99.5)))
    return pd.DataFrame(rows, columns=["darkest", "median", "brightest"], dtype=float)


def measure_nuclei(labels: Sequence[np.ndarray | None]) -> pd.DataFrame:
    """Return one row a nucleus: `image` (position), `area_px` and `diameter_px`.

    Parameters
    ----------
    labels : sequence of (H, W) integer arrays, or None
        0 is background. An image without masks, or without nuclei, has no rows.

    Returns
    -------
    DataFrame
        `diameter_px` is that of a disc of the same area. Nuclei that the border cuts count with
        what is left of them.

    Examples
    --------
    >>> measure_nuclei([None, np.array([[1, 1, 0], [0, 0, 2]])])["area_px"].tolist()
    [2, 1]
    """
    images, areas = [np.empty(0, int)], [np.empty(0, int)]
    for position, label_image in enumerate(labels):
        counts = np.empty(0, int) if label_image is None else np.bincount(label_image.ravel())[1:]
        areas.append(counts[counts > 0])
        images.append(np.full(len(areas[-1]), position))
    table = pd.DataFrame({"image": np.concatenate(images), "area_px": np.concatenate(areas)})
    return table.assign(diameter_px=np.sqrt(4 / np.pi * table["area_px"]))


def summarise_nuclei(nuclei: pd.DataFrame, n_images: int) -> pd.DataFrame:
    """Return one row an image: how many nuclei it has and how large they are.

    Parameters
    ----------
    nuclei : DataFrame
        From `measure_nuclei`.
    n_images : int
        Images without nuclei count too.

    Returns
    -------
    DataFrame
        `n`: nuclei. `low_px`, `median_px`, `high_px`: 10th, 50th and 90th percentile of their
        diameters, NaN without nuclei.
    """
    diameters = nuclei.groupby("image")["diameter_px"]
    table = pd.DataFrame({"n": diameters.size()})
    for name, share in (("low_px", 0.1), ("median_px", 0.5), ("high_px", 0.9)):
        table[name] = diameters.quantile(share)
    table = table.reindex(range(n_images))
    return table.assign(n=table["n"].fillna(0).astype(int))


def measure_contrast(images: Sequence[np.ndarray], labels: Sequence) -> pd.DataFrame:
    """Return one row an image: how bright nuclei and surroundings are, and how they differ.

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, 3) arrays of uint8 or uint16
        Colour is averaged over the channels.
    labels : sequence of (H, W) integer arrays, or None
        0 is background.

    Returns
    -------
    DataFrame
        `foreground`: share of the pixels that are nucleus, 0 to 1. `nuclei`, `surroundings`: mean
        brightness as a share of full scale, 0 to 1. `contrast`: (nuclei - surroundings) / (nuclei
        + surroundings), -1 to 1 [1]_; negative where nuclei are darker. NaN without masks; the
        last three also where there is no nucleus or nothing else.

    References
    ----------
    .. [1] A. A. Michelson (1927). Studies in Optics. University of Chicago Press: the visibility
       of fringes.
    """
    rows = [_measure_one(image, mask) for image, mask in zip(images, labels, strict=True)]
    columns = ["foreground", "nuclei", "surroundings"]
    table = pd.DataFrame(rows, columns=columns, dtype=float)
    difference = table["nuclei"] - table["surroundings"]
    return table.assign(contrast=difference / (table["nuclei"] + table["surroundings"]))


def _measure_one(image: np.ndarray, labels: np.ndarray | None) -> tuple[float, float, float]:
    if labels is None:
        return np.nan, np.nan, np.nan
    gray = (image if image.ndim == 2 else image.mean(axis=2)) / np.iinfo(image.dtype).max
    mask = labels > 0
    if not mask.any() or mask.all():
        return float(mask.mean()), np.nan, np.nan
    return float(mask.mean()), float(gray[mask].mean()), float(gray[~mask].mean())


def read_known_kinds(ids: Sequence[str], catalogue: str | None = None) -> pd.Series:
    """Return the kind that each image is known to be, for checking what the pixels say.

    Parameters
    ----------
    ids : sequence of str
        Names of the images.
    catalogue : str, optional
        A CSV file with the columns `image_id` and `modality`, one of `helpers.kinds.KINDS`. None
        takes what the embedded sample says of itself.

    Returns
    -------
    Series
        By position; missing where nothing is known of an image.

    Raises
    ------
    FileNotFoundError, ValueError
        If the catalogue does not exist, lacks a column, or names another kind.
    """
    if catalogue is None:
        known = sample_truth().set_index("id")["kind"]
    else:
        table = pd.read_csv(resolve(catalogue), dtype=str)
        missing = {"image_id", "modality"} - set(table.columns)
        if missing:
            raise ValueError(
                f"`catalogue` (={catalogue!r}) lacks the column(s) {', '.join(sorted(missing))}"
            )
        known = table.drop_duplicates("image_id").set_index("image_id")["modality"]
    others = set(known.dropna()) - set(KINDS)
    if others:
        raise ValueError(
            f"`catalogue` (={catalogue!r}) names the kind {min(others)!r}; use {', '.join(KINDS)}"
        )
    return pd.Series(known.reindex(ids).to_numpy(), name="known", dtype=object)


def compare_kinds(found: pd.Series, known: pd.Series) -> pd.DataFrame:
    """Return how many images of each known kind (rows) were found to be which (columns).

    Images of which nothing is known do not count.
    """
    both = pd.DataFrame({"known": known.to_numpy(), "found": found.to_numpy()}).dropna()
    counts = pd.crosstab(both["known"], both["found"])
    order = [kind for kind in KINDS if kind in counts.index or kind in counts.columns]
    table = counts.reindex(index=order, columns=order, fill_value=0)
    return table.rename_axis(index="known", columns="found")


def measure_kinds(data: DataSet, kinds: Sequence[str]) -> pd.DataFrame:
    """Return one row a kind of the labelled images: `images`, `nuclei`, `pixels`, `nucleus pixels`.

    Parameters
    ----------
    data : DataSet
    kinds : sequence of str
        Kind of every image of `data`, labelled or not.
    """
    table = data.table.assign(
        kind=np.asarray(kinds),
        pixels=data.table["height"] * data.table["width"],
        foreground=[0 if labels is None else np.count_nonzero(labels) for labels in data.labels],
    )
    sums = {
        "images": ("id", "size"),
        "nuclei": ("n_nuclei", "sum"),
        "pixels": ("pixels", "sum"),
        "nucleus pixels": ("foreground", "sum"),
    }
    by_kind = table[table["labelled"]].groupby("kind").agg(**sums)
    return by_kind.reindex([kind for kind in KINDS if kind in by_kind.index])
