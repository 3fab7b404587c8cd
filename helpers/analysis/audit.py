"""The audit of a set of images by modality: `python -m helpers.analysis.audit FOLDER_OR_ZIP`.

Before training: which modalities are there, how unequal are they, and what is to be done about
it? Before predicting, with `--familiarity`: which images are unlike those that were trained on?
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import circmean

from helpers.analysis.describe import measure_nuclei, summarise_nuclei
from helpers.analysis.fields import find_groups
from helpers.analysis.modality import (
    MODALITIES,
    display_name,
    find_modalities,
    guess_nuclei,
    measure_contrast,
    measure_hue,
)
from helpers.analysis.out_of_distribution import read_familiarity
from helpers.data.data_set import SAMPLE, read_data_set
from helpers.data.layout import LAYOUTS, is_hidden
from helpers.data.reading import read_any_image
from helpers.run_folder import resolve

RARE = 10  # times as many images of the most frequent modality make another modality rare
WIDE = 3.0  # times the diameter of the smallest modality of nuclei make another modality large
SUFFIXES = (".png", ".tif", ".tiff")


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
        over the images, `low_px`, `median_px` and `high_px`, of the median diameter of their
        nuclei; `contrast` of nuclei and surroundings, -1 to 1, negative where nuclei are darker
        (median of the images). Without masks: `contrast_guess`, the same with the nuclei that
        `guess_nuclei` guesses; `hue` of coloured images in degrees, their circular mean.

    Examples
    --------
    >>> audit_images([np.eye(64, dtype=np.uint8) * 99] * 3)[["images", "fields"]]
                       images  fields
    modality
    small_fluorescent       3       1
    """
    labels = [None] * len(images) if labels is None else labels
    nuclei = summarise_nuclei(measure_nuclei(labels), len(images))
    table = measure_contrast(images, labels)[["contrast"]].join(nuclei["median_px"])
    table["nuclei"] = nuclei["n"].where([mask is not None for mask in labels])
    guesses = [guess_nuclei(image) for image in images]
    table["contrast_guess"] = measure_contrast(images, guesses)["contrast"]
    table["hue"] = [measure_hue(image) for image in images]
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
    return result.reindex(
        [modality for modality in MODALITIES if modality in result.index]
    ).rename_axis("modality")


def list_warnings(audit: pd.DataFrame) -> list[str]:
    """Return a sentence, with a remedy, on everything that is very unequal between the modalities.

    Parameters
    ----------
    audit : DataFrame
        From `audit_images`.
    """
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


def read_folder(location: str) -> tuple[list[str], Sequence[np.ndarray], Sequence | None]:
    """Return names, images and label images of a data set, or of a plain folder of image files.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such folder or archive, no image in it, or one that cannot be read.
    """
    path = Path(location) if location == SAMPLE else resolve(location)
    files = sorted(path.iterdir()) if path.is_dir() else []
    files = [f for f in files if f.suffix.lower() in SUFFIXES and not is_hidden(f.name)]
    if not files:
        try:
            data = read_data_set(location, faults="skip")
        except (FileNotFoundError, ValueError) as reason:
            hint = "Give a folder of PNG or TIFF files, or a layout of data/README.md"
            raise type(reason)(str(reason).replace(LAYOUTS, hint)) from None
        return data.ids, data.images, data.labels
    images = []
    for file in files:
        try:
            images.append(read_any_image(file.read_bytes(), min_side_px=1).pixels)
        except Exception as reason:  # decoders raise many types for a damaged file
            raise ValueError(f"{str(file)!r} is unreadable ({reason}); mend or remove it") from None
    return [file.name for file in files], images, None


def main(arguments: list[str] | None = None) -> int:
    """Print the audit that the command line asks for; return 0, or 1 after a message."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.analysis.audit", description=__doc__.partition(":")[0] + "."
    )
    parser.add_argument("location", help='a folder, a zip archive, or "sample"')
    parser.add_argument(
        "--familiarity", help="a run's out_of_distribution.json: name unfamiliar images"
    )
    chosen = parser.parse_args(arguments)
    try:
        known = read_familiarity(resolve(chosen.familiarity)) if chosen.familiarity else None
        names, images, labels = read_folder(chosen.location)
    except (OSError, ValueError) as reason:
        print(reason, file=sys.stderr)
        return 1
    audit = audit_images(images, labels)
    print(audit.dropna(axis=1, how="all").round(2).to_string())
    for warning in list_warnings(audit):
        print(f"- {warning}")
    if known is not None:
        warnings = [known.warn(image) for image in images]
        print(f"unfamiliar: {len(images) - warnings.count(None)} of {len(images)} images")
        for name, warning in zip(names, warnings, strict=True):
            if warning:
                print(f"- {name}: {warning}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

FAILS_BELOW = 0.5
"""IoU below which a mask fails: of all that is nucleus or is called so, half is wrong."""


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
        The training side of a split, with masks.
    labels : sequence of (H, W) integer arrays
        0 is background.
    modalities : (n,) sequence of str
    groups : (n,) sequence of int
        Field of view of every image.

    Returns
    -------
    DataFrame
        One row a modality, the likeliest failure first. `threshold_iou`: mean IoU, 0 to 1, of the
        masks of `guess_nuclei`; `risk`: what it lacks to 1; `fails`: whether `threshold_iou` is
        below `FAILS_BELOW`, and so the network's mean IoU is expected to be; `training_fields`:
        fields of view; `rank` by risk and `rarity_rank` by fields, 1 the likeliest failure.
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
    return result.sort_values("rank")


def _score_guess(image: np.ndarray, labels: np.ndarray) -> float:
    guess, mask = guess_nuclei(image), labels > 0
    union = np.count_nonzero(guess | mask)
    return np.count_nonzero(guess & mask) / union if union else 1.0
