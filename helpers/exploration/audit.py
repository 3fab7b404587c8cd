"""The audit of a set of images by kind: `python -m helpers.exploration.audit FOLDER_OR_ZIP`.

Before training: which kinds of image are there, how unequal are they, and what is to be done about
it? Before predicting, with `--familiarity`: which images are unlike those that were trained on?
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import circmean

from helpers.data.data_set import SAMPLE, read_data_set
from helpers.data.layout import LAYOUTS, is_hidden
from helpers.data.reading import read_image
from helpers.exploration.describe import measure_nuclei, summarise_nuclei
from helpers.exploration.familiarity import read_familiarity
from helpers.exploration.kinds import KINDS, find_kinds, say_kind
from helpers.exploration.kinds_compared import guess_nuclei, measure_contrast, measure_hue
from helpers.exploration.splits import find_groups
from helpers.paths import resolve

RARE = 10  # times as many images of the most frequent kind make another kind rare
WIDE = 3.0  # times the diameter of the smallest kind of nuclei make another kind large
SUFFIXES = (".png", ".tif", ".tiff")


def audit_images(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray | None] | None = None,
    kinds: Sequence[str] | None = None,
    groups: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Return what a set holds, one row a kind of image.

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, 3) arrays of uint8 or uint16
    labels : sequence of (H, W) integer arrays, or None, optional
        0 is background. What needs masks is missing where there are none.
    kinds : (n,) sequence of str, optional
        None finds them by `helpers.exploration.kinds.find_kinds`.
    groups : (n,) sequence of int, optional
        Field of view of every image; None finds them by `helpers.exploration.splits.find_groups`.

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
    kind
    small_fluorescent       3       1
    """
    labels = [None] * len(images) if labels is None else labels
    nuclei = summarise_nuclei(measure_nuclei(labels), len(images))
    table = measure_contrast(images, labels)[["contrast"]].join(nuclei["median_px"])
    table["nuclei"] = nuclei["n"].where([mask is not None for mask in labels])
    guesses = [guess_nuclei(image) for image in images]
    table["contrast_guess"] = measure_contrast(images, guesses)["contrast"]
    table["hue"] = [measure_hue(image) for image in images]
    table["kind"] = np.asarray(find_kinds(images)["kind"] if kinds is None else kinds)
    table["group"] = find_groups(images) if groups is None else groups
    by_kind = table.groupby("kind")
    result = pd.DataFrame({"images": by_kind.size(), "fields": by_kind["group"].nunique()})
    result["share"] = result["images"] / max(len(images), 1)
    result["nuclei"] = by_kind["nuclei"].sum(min_count=1).astype("Int64")
    for name, share in (("low_px", 0.25), ("median_px", 0.5), ("high_px", 0.75)):
        result[name] = by_kind["median_px"].quantile(share)
    result[["contrast", "contrast_guess"]] = by_kind[["contrast", "contrast_guess"]].median()
    hues = {kind: hue.dropna() for kind, hue in by_kind["hue"]}
    result["hue"] = [circmean(hues[k], high=360) if len(hues[k]) else np.nan for k in result.index]
    return result.reindex([kind for kind in KINDS if kind in result.index]).rename_axis("kind")


def list_warnings(audit: pd.DataFrame) -> list[str]:
    """Return a sentence, with a remedy, on everything that is very unequal between the kinds.

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
        about = f"{say_kind(row.Index)}: {row.images} of {total} images"
        times = round(audit.loc[most, "images"] / row.images)
        if times >= RARE:
            found.append(
                f"{about}; a network sees one for every {times} of {say_kind(most)}. "
                "Add images of this kind, and judge it by a score of its own."
            )
        if row.fields == 1:
            found.append(
                f"{about}, all of one field of view, cannot be trained on and tested on. "
                "Add another field, or claim nothing about this kind."
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
            f"nuclei of {say_kind(sizes.idxmax())} are {sizes.max() / sizes.min():.1f} times as "
            f"wide as those of {say_kind(sizes.idxmin())}. Compare {sizes.max():.0f} px with the "
            "receptive field (notebook 03)."
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
            images.append(read_image(file.read_bytes()).image)
        except Exception as reason:  # decoders raise many types for a damaged file
            raise ValueError(f"{str(file)!r} is unreadable ({reason}); mend or remove it") from None
    return [file.name for file in files], images, None


def main(arguments: list[str] | None = None) -> int:
    """Print the audit that the command line asks for; return 0, or 1 after a message."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.exploration.audit", description=__doc__.partition(":")[0] + "."
    )
    parser.add_argument("location", help='a folder, a zip archive, or "sample"')
    parser.add_argument("--familiarity", help="a run's familiarity.json: name unfamiliar images")
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
