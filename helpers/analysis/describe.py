"""What a data set holds, counted, and compared with what its description says.

Counting comes before looking: a total that differs from the published one means that something
was lost, or that this is another edition of the data.
"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers.data.data_set import DataSet
from helpers.data.sample import sample_truth

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
    Bowl names its images by 64 hexadecimal digits, the embedded sample by its modalities. Of the
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
