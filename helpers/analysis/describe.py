"""Count what a data set holds, and compare it with what its description says."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers.data.data_set import DataSet
from helpers.data.sample import sample_truth

BOWL_EDITIONS = {
    "BBBC038 stage1_train, community-corrected": {
        "images": 664,
        "nuclei": 28_986,
        "coloured images": 107,
        "image sizes": 9,
    },
    "BBBC038 stage1_train, official archive": {"images": 670},
}
"""Published totals of each edition in use; https://bbbc.broadinstitute.org/BBBC038."""

NO_DESCRIPTION = "no description known"
_BOWL_ID = re.compile(r"[0-9a-f]{64}")


def check_totals(data: DataSet) -> pd.DataFrame:
    """Return one row a total: what is `described`, what is `found`, and whether it `agrees`.

    Which description holds is read from the ids, never from the counts that are checked; of the
    Bowl's editions the one with the nearest number of images is taken. Only labelled ones count.
    """
    data = data.labelled
    found = {
        "images": len(data),
        "nuclei": int(data.table["n_nuclei"].sum()),
        "coloured images": sum(image.ndim == 3 for image in data.images),
        "image sizes": len(data.table[["height", "width"]].drop_duplicates()),
    }
    source, described = _find_description(data)
    rows = [
        {
            "described": described.get(name, "unknown"),
            "found": n,
            "agrees": "yes" if described.get(name) == n else "no" if name in described else "-",
        }
        for name, n in found.items()
    ]
    return pd.DataFrame(rows, index=pd.Index(found, name=source))


def _find_description(data: DataSet) -> tuple[str, dict[str, int]]:
    """Return the name of a description and the totals that it gives."""
    if len(data) and all(_BOWL_ID.fullmatch(name) for name in data.ids):
        distance = {k: abs(totals["images"] - len(data)) for k, totals in BOWL_EDITIONS.items()}
        edition = min(distance, key=distance.get)
        return edition, BOWL_EDITIONS[edition]
    if len(data) and all(name.startswith("sample_") for name in data.ids):
        truth = sample_truth()
        coloured = truth["modality"].str.contains("purple").sum()
        sizes = len(truth[["height", "width"]].drop_duplicates())
        totals = {"images": len(truth), "coloured images": int(coloured), "image sizes": sizes}
        return "embedded sample", totals
    return NO_DESCRIPTION, {}


def measure_nuclei(labels: Sequence[np.ndarray | None]) -> pd.DataFrame:
    """Return one row a nucleus: `image` (position), `area_px`, `diameter_px` of a disc like it.

    `labels` are (H, W) integer arrays, 0 = background, or None. Nuclei that the border cuts count
    with what is left of them.
    """
    images, areas = [np.empty(0, int)], [np.empty(0, int)]
    for position, label_image in enumerate(labels):
        counts = np.empty(0, int) if label_image is None else np.bincount(label_image.ravel())[1:]
        areas.append(counts[counts > 0])
        images.append(np.full(len(areas[-1]), position))
    table = pd.DataFrame({"image": np.concatenate(images), "area_px": np.concatenate(areas)})
    return table.assign(diameter_px=np.sqrt(4 / np.pi * table["area_px"]))


def summarise_nuclei(nuclei: pd.DataFrame, n_images: int) -> pd.DataFrame:
    """Return one row an image: number of nuclei `n`, `low_px`, `median_px`, `high_px`.

    These are the 10th, 50th and 90th percentile of their diameters, NaN without nuclei. `nuclei`
    are from `measure_nuclei`.
    """
    diameters = nuclei.groupby("image")["diameter_px"]
    table = pd.DataFrame({"n": diameters.size()})
    for name, share in (("low_px", 0.1), ("median_px", 0.5), ("high_px", 0.9)):
        table[name] = diameters.quantile(share)
    table = table.reindex(range(n_images))
    return table.assign(n=table["n"].fillna(0).astype(int))
