"""Audit a set of images: how unequal its modalities are, and which of them will fail."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import circmean
from skimage.color import rgb2hsv

from helpers.analysis.describe import measure_nuclei, summarise_nuclei
from helpers.analysis.fields import find_groups
from helpers.analysis.modality import (
    COLOURED,
    MODALITIES,
    display_name,
    find_modalities,
    full_scale,
    guess_nuclei,
    measure_contrast,
)

FAILS_BELOW = 0.5  # IoU of a mask: of all that is nucleus or is called so, half is wrong
RARE = 10  # times as many images of the most frequent modality make another modality rare
WIDE = 3.0  # times the diameter of the smallest modality of nuclei make another modality large


def audit_images(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray | None] | None = None,
    modalities: Sequence[str] | None = None,
    groups: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Return what a set holds, one row a modality.

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, 3) arrays of uint8 or uint16
    labels : sequence of (H, W) integer arrays, or None, optional
        0 is background. What needs masks is missing where there are none.
    modalities : (n,) sequence of str, optional
        None finds them by `helpers.analysis.modality.find_modalities`.
    groups : (n,) sequence of int, optional
        Field of view of every image; None finds them by `helpers.analysis.fields.find_groups`.

    Returns
    -------
    DataFrame
        `images`; `fields` of view; `share` of the images, 0 to 1. From masks: `nuclei`; quartiles
        over the images, `low_px`, `median_px` and `high_px`, of their nuclei's median diameter;
        `contrast`, as in `helpers.analysis.modality.measure_contrast`, the images' median. Without
        masks: `contrast_guess` of guessed nuclei; circular mean `hue` of coloured images, degrees.
    """
    labels = [None] * len(images) if labels is None else labels
    nuclei = summarise_nuclei(measure_nuclei(labels), len(images))
    table = measure_contrast(images, labels)[["contrast"]].join(nuclei["median_px"])
    table["nuclei"] = nuclei["n"].where([mask is not None for mask in labels])
    guesses = [guess_nuclei(image) for image in images]
    table["contrast_guess"] = measure_contrast(images, guesses)["contrast"]
    table["hue"] = [_measure_hue(image) for image in images]
    table["modality"] = np.asarray(
        find_modalities(images)["modality"] if modalities is None else modalities
    )
    table["group"] = find_groups(images) if groups is None else groups
    by_modality = table.groupby("modality")
    result = pd.DataFrame({"images": by_modality.size(), "fields": by_modality["group"].nunique()})
    result["share"] = result["images"] / max(len(images), 1)
    result["nuclei"] = by_modality["nuclei"].sum(min_count=1).astype("Int64")
    for name, share in (("low_px", 0.25), ("median_px", 0.5), ("high_px", 0.75)):
        result[name] = by_modality["median_px"].quantile(share)
    result[["contrast", "contrast_guess"]] = by_modality[["contrast", "contrast_guess"]].median()
    hues = {modality: hue.dropna() for modality, hue in by_modality["hue"]}
    result["hue"] = [circmean(hues[k], high=360) if len(hues[k]) else np.nan for k in result.index]
    order = [modality for modality in MODALITIES if modality in result.index]
    return result.reindex(order).rename_axis("modality")


def _measure_hue(image: np.ndarray) -> float:
    """Return the hue of an image's mean colour in degrees (0 red, 240 blue); NaN for a gray one."""
    if image.ndim == 2 or np.ptp(image, axis=2).mean() / full_scale(image) <= COLOURED:
        return np.nan
    return float(360 * rgb2hsv(image.mean(axis=(0, 1)) / full_scale(image))[0])


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


def predict_failures(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    modalities: Sequence[str],
    groups: Sequence[int],
) -> pd.DataFrame:
    """Return, from training images alone, on which modalities a network will fail.

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, 3) arrays of uint8 or uint16
    labels : sequence of (H, W) integer arrays
        0 is background.
    modalities : (n,) sequence of str
    groups : (n,) sequence of int
        Field of view of every image.

    Returns
    -------
    DataFrame
        One row a modality. `threshold_iou`: mean IoU, 0 to 1, of the masks of `guess_nuclei`;
        `risk`: what it lacks to 1; `fails`: whether it is below `FAILS_BELOW`;
        `training_fields` of view; `rank` by risk and `rarity_rank` by fields, 1 the likeliest.
    """
    ious = [_score_guess(*both) for both in zip(images, labels, strict=True)]
    table = pd.DataFrame(
        {"modality": np.asarray(modalities), "group": np.asarray(groups), "iou": ious}
    )
    by_modality = table.groupby("modality")
    result = pd.DataFrame({"threshold_iou": by_modality["iou"].mean()})
    result["risk"] = 1 - result["threshold_iou"]
    result["fails"] = result["threshold_iou"] < FAILS_BELOW
    result["training_fields"] = by_modality["group"].nunique()
    result["rank"] = result["risk"].rank(ascending=False, method="min").astype(int)
    result["rarity_rank"] = result["training_fields"].rank(method="min").astype(int)
    return result.reindex([modality for modality in MODALITIES if modality in result.index])


def _score_guess(image: np.ndarray, labels: np.ndarray) -> float:
    guess, mask = guess_nuclei(image), labels > 0
    union = np.count_nonzero(guess | mask)
    return np.count_nonzero(guess & mask) / union if union else 1.0
