"""Count what a data set holds: beside its description, by nucleus, and by modality."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import circmean
from skimage.color import rgb2hsv

from helpers.analysis.modality import (
    COLOURED,
    MODALITIES,
    display_name,
    full_scale,
    guess_nuclei,
    measure_contrast,
)
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
RARE = 10  # times as many images of the most frequent modality make another modality rare
WIDE = 3.0  # times the diameter of the smallest modality of nuclei make another modality large
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


def audit_images(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray | None],
    modalities: Sequence[str],
    groups: Sequence[int],
) -> pd.DataFrame:
    """Return what a set holds, one row a modality.

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, 3) arrays of uint8 or uint16
    labels : sequence of (H, W) integer arrays, or None
        0 is background. What needs masks is missing where there are none.
    modalities : (n,) sequence of str
    groups : (n,) sequence of int
        Field of view of every image.

    Returns
    -------
    DataFrame
        `images`; `fields` of view; `share` of the images, 0 to 1. From masks: `nuclei`; quartiles
        over the images, `low_px`, `median_px` and `high_px`, of their nuclei's median diameter;
        `contrast`, as in `helpers.analysis.modality.measure_contrast`, the images' median. Without
        masks: `contrast_guess` of guessed nuclei; circular mean `hue` of coloured images, degrees.
    """
    nuclei = summarise_nuclei(measure_nuclei(labels), len(images))
    guesses = [guess_nuclei(image) for image in images]
    table = pd.DataFrame(
        {
            "modality": np.asarray(modalities),
            "group": np.asarray(groups),
            "nuclei": nuclei["n"].where([mask is not None for mask in labels]),
            "median_px": nuclei["median_px"],
            "contrast": measure_contrast(images, labels)["contrast"],
            "contrast_guess": measure_contrast(images, guesses)["contrast"],
            "hue": np.array([_measure_hue(image) for image in images], dtype=float),
        }
    )
    by_modality = table.groupby("modality")
    result = pd.DataFrame({"images": by_modality.size(), "fields": by_modality["group"].nunique()})
    result["share"] = result["images"] / max(len(images), 1)
    result["nuclei"] = by_modality["nuclei"].sum(min_count=1).astype("Int64")
    for name, share in (("low_px", 0.25), ("median_px", 0.5), ("high_px", 0.75)):
        result[name] = by_modality["median_px"].quantile(share)
    result[["contrast", "contrast_guess"]] = by_modality[["contrast", "contrast_guess"]].median()
    result["hue"] = by_modality["hue"].agg(_mean_hue)
    return result.reindex([modality for modality in MODALITIES if modality in result.index])


def _measure_hue(image: np.ndarray) -> float:
    """Return the hue of an image's mean colour in degrees (0 red, 240 blue); NaN for a gray one."""
    if image.ndim == 2 or np.ptp(image, axis=2).mean() / full_scale(image) <= COLOURED:
        return np.nan
    return float(360 * rgb2hsv(image.mean(axis=(0, 1)) / full_scale(image))[0])


def _mean_hue(hues: pd.Series) -> float:
    return circmean(hues.dropna(), 360) if hues.notna().any() else np.nan


def list_warnings(audit: pd.DataFrame) -> list[str]:
    """Return a sentence with a remedy on all that is very unequal in what `audit_images` found."""
    if audit.empty:
        return []
    total, most = audit["images"].sum(), audit["images"].idxmax()
    found = []
    for row in audit.itertuples():
        about = f"{display_name(row.Index)}: {row.images} of {total} images"
        times = round(audit.loc[most, "images"] / row.images)
        if times >= RARE:
            found.append(
                f"{about}; a network sees one for every {times} of {display_name(most)}. "
                "Add images of this modality, and judge it by a score of its own."
            )
        if row.fields == 1:
            found.append(
                f"{about}, all of one field of view, cannot be trained on and tested on. "
                "Add another field, or claim nothing about this modality."
            )
    contrast = audit["contrast"].fillna(audit["contrast_guess"])
    n_dark = audit.loc[contrast < 0, "images"].sum()
    if 0 < n_dark < audit.loc[contrast.notna(), "images"].sum():
        found.append(
            f"nuclei are the darker part in {n_dark} of {total} images and the brighter one in the "
            "others. Train on both, and look for inverted masks."
        )
    sizes = audit["median_px"].dropna()
    if len(sizes) and sizes.max() >= WIDE * sizes.min():
        found.append(
            f"nuclei of {display_name(sizes.idxmax())} are {sizes.max() / sizes.min():.1f} times "
            f"as wide as those of {display_name(sizes.idxmin())}; compare {sizes.max():.0f} px "
            "with the receptive field (notebook 03)."
        )
    return found
