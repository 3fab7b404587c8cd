"""How much a mask hangs on the way its image is stored: as its negative, or without its colour.

Nuclei do not change when an image is inverted or turned to gray. Neither should their mask.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from helpers.data.data_set import DataSet
from helpers.evaluation.masks import read_mask
from helpers.evaluation.metrics import iou
from helpers.exploration.kinds import KINDS


def negate(image: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Return the negative of an image: black becomes white.

    Examples
    --------
    >>> negate(np.array([[0, 200]], np.uint8))
    array([[255,  55]], dtype=uint8)
    """
    return np.invert(image)


def remove_colour(image: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Return an (H, W, 3) image as gray, (H, W): the mean of its channels, rounded.

    Examples
    --------
    >>> remove_colour(np.array([[[10, 20, 60]]], np.uint8))
    array([[30]], dtype=uint8)
    """
    return np.rint(image.mean(axis=2)).astype(image.dtype)


VARIATIONS = {"negative": negate, "gray": remove_colour}
"""What is done to an image before its mask is predicted once more."""


def measure_invariance(
    network, data: DataSet, known: pd.DataFrame, masks_dir: Path, *, threshold: float = 0.5
) -> pd.DataFrame:
    """Return how alike the masks of an image and of its variations are.

    Parameters
    ----------
    network : helpers.network.prediction.Network
        Anything whose `predict(image)` gives (H, W) probabilities.
    data : DataSet
        Images of uint8 or uint16; their labels are not read.
    known : DataFrame
        Has the columns id, kind and group for all of them, as a run's `split.csv`.
    masks_dir : Path
        Holds the mask of every image as it is, as `helpers.evaluation.masks` writes them.
    threshold : float
        The one that those masks were made with.

    Returns
    -------
    DataFrame
        One row an image and variation: id, kind, group, variation ("negative" or "gray") and
        agreement, the IoU of the two predictions, 0 to 1; the truth plays no part. An image
        without colour has no row "gray".
    """
    about = known.set_index("id")[["kind", "group"]].to_dict("index")
    rows = []
    places = range(len(data))
    for place in tqdm(places, desc="varying", unit=" images", leave=False):
        name, image = data.ids[place], data.images[place]
        mask = read_mask(masks_dir / f"{name}.png")
        for variation, vary in VARIATIONS.items():
            if variation == "gray" and image.ndim == 2:
                continue
            agreement = iou(mask, network.predict(vary(image)) >= threshold)
            about_it = {"id": name, **about[name], "variation": variation}
            rows.append(about_it | {"agreement": agreement})
    return pd.DataFrame(rows)


def tabulate_invariance(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean agreement by kind and variation, and the lowest.

    Parameters
    ----------
    table : DataFrame
        As `measure_invariance` returns it.

    Returns
    -------
    DataFrame
        One row a kind, in the order of `helpers.exploration.kinds.KINDS`; columns "negative" and
        "gray", whose entries read "0.97 (lowest 0.81)", or "" where nothing was compared.
    """
    found = table.groupby(["kind", "variation"])["agreement"].agg(["mean", "min"])
    text = found.apply(lambda row: f"{row['mean']:.2f} (lowest {row['min']:.2f})", axis=1)
    kinds = [kind for kind in KINDS if kind in set(table["kind"])]
    columns = [name for name in VARIATIONS if name in set(table["variation"])]
    return text.unstack().reindex(index=kinds, columns=columns).fillna("").rename_axis(columns=None)
