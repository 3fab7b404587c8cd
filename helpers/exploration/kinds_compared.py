"""How the kinds of image differ: in number, brightness and hue, and from what is known of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from skimage.color import rgb2hsv
from skimage.filters import threshold_otsu

from helpers.data.data_set import DataSet
from helpers.data.sample import sample_truth
from helpers.exploration.kinds import COLOURED, KINDS, full_scale
from helpers.paths import resolve


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


def guess_nuclei(image: np.ndarray) -> np.ndarray:
    """Return where an image may hold nuclei: the rarer side of Otsu's threshold.

    A guess that takes no masks and knows nothing but brightness. It is wrong where nuclei cover
    more than half of the image, and where other things are as bright or as dark as they are.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array of uint8 or uint16
        Colour is averaged over the channels.

    Returns
    -------
    (H, W) array of bool
        All False where the image is constant.

    References
    ----------
    .. [1] N. Otsu (1979). A threshold selection method from gray-level histograms. IEEE Trans.
       Systems, Man, and Cybernetics 9, 62-66. doi:10.1109/TSMC.1979.4310076

    Examples
    --------
    >>> guess_nuclei(np.array([[200, 200, 90]], np.uint8))
    array([[False, False,  True]])
    """
    gray = image if image.ndim == 2 else image.mean(axis=2).astype(image.dtype)
    bright = gray > threshold_otsu(gray)
    return bright if bright.mean() <= 0.5 else ~bright


def measure_hue(image: np.ndarray) -> float:
    """Return the hue of an image's mean colour in degrees; NaN for a gray image.

    0 is red, 120 green, 240 blue and 300 magenta. Gray is what has less colour than
    `helpers.exploration.kinds.COLOURED`.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array of uint8 or uint16

    Examples
    --------
    >>> measure_hue(np.full((2, 2, 3), [100, 0, 100], np.uint8))
    300.0
    """
    if image.ndim == 2 or np.ptp(image, axis=2).mean() / full_scale(image) <= COLOURED:
        return np.nan
    return float(360 * rgb2hsv(image.mean(axis=(0, 1)) / full_scale(image))[0])


def read_known_kinds(ids: Sequence[str], catalogue: str | None = None) -> pd.Series:
    """Return the kind that each image is known to be, for checking what the pixels say.

    Parameters
    ----------
    ids : sequence of str
        Names of the images.
    catalogue : str, optional
        A CSV file with the columns `image_id` and `modality`, one of `KINDS` of
        `helpers.exploration.kinds`. None takes what the embedded sample says of itself.

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
