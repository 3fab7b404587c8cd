"""Put the tiles of a field of view together again, and count what a split would leak of it."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from helpers.exploration.splits import leaking_share, random_split, split_by_group

_STEPS = {"right": (0, 1), "below": (1, 0)}


def place_tiles(seams: pd.DataFrame, start: int) -> dict[int, tuple[int, int]]:
    """Return the place (row, column) of image `start` and of every image that seams join to it.

    Parameters
    ----------
    seams : DataFrame
        From `helpers.exploration.seams.find_seams`: columns i, j, side; the best come first.
    start : int
        Position of an image.

    Returns
    -------
    dict
        Rows and columns count from 0. A seam that would put an image where another one lies
        already is passed over.

    Examples
    --------
    >>> seams = pd.DataFrame({"i": [3, 3], "j": [5, 8], "side": ["right", "below"]})
    >>> place_tiles(seams, 5)
    {5: (0, 1), 3: (0, 0), 8: (1, 0)}
    """
    places = {start: (0, 0)}
    links = list(zip(seams["i"], seams["j"], seams["side"], strict=True))
    grown = True
    while grown:
        grown = False
        for i, j, side in links:
            step = np.array(_STEPS[side])
            for old, new, place in ((i, j, step), (j, i, -step)):
                if old not in places or new in places:
                    continue
                spot = tuple(int(x) for x in np.add(places[old], place))
                if spot not in places.values():
                    places[int(new)], grown = spot, True
    top, left = np.min(list(places.values()), axis=0)
    return {image: (int(row - top), int(column - left)) for image, (row, column) in places.items()}


def choose_field(seams: pd.DataFrame, groups: np.ndarray) -> int | None:
    """Return an image of the group that its seams prove best; None where there are no seams.

    The best proven group is the one with the highest sum of significances among groups of at
    most four images, which a reader can take in; among all if there is none of these.
    """
    if seams.empty:
        return None
    weights = seams.groupby(groups[seams["i"].to_numpy(int)])["significance"].sum()
    sizes = np.bincount(groups)
    small = weights[[sizes[group] <= 4 for group in weights.index]]
    return int(np.flatnonzero(groups == (weights if small.empty else small).idxmax())[0])


def assemble_field(
    images: Sequence[np.ndarray], places: dict[int, tuple[int, int]], gap_px: int = 0
) -> np.ndarray:
    """Return one image of the tiles at their places, in shares of full scale (float64).

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, 3) arrays of uint8 or uint16
        Those placed are alike in dtype and channels, and their sides fit.
    places : dict
        From `place_tiles`.
    gap_px : int
        White pixels between tiles; also what stays where a tile is missing.
    """
    heights, widths = {}, {}
    for image, (row, column) in places.items():
        height, width = images[image].shape[:2]
        heights[row] = max(heights.get(row, 0), height)
        widths[column] = max(widths.get(column, 0), width)
    tops = _start_positions(heights, gap_px)
    lefts = _start_positions(widths, gap_px)
    some = images[next(iter(places))]
    whole = np.ones((tops[-1] - gap_px, lefts[-1] - gap_px, *some.shape[2:]))
    for image, (row, column) in places.items():
        tile = images[image]
        cut = np.s_[
            tops[row] : tops[row] + tile.shape[0], lefts[column] : lefts[column] + tile.shape[1]
        ]
        whole[cut] = tile / np.iinfo(tile.dtype).max
    return whole


def _start_positions(lengths: dict[int, int], gap_px: int) -> list[int]:
    ordered = [lengths.get(k, 0) + gap_px for k in range(max(lengths) + 1)]
    return [0, *(int(x) for x in np.cumsum(ordered))]


def compare_leaks(
    groups: np.ndarray,
    *,
    test_ratio: float,
    seeds: Iterable[int] = range(20),
    strata: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return the leaking share of random and of grouped splits: columns split, seed, leaking.

    Parameters
    ----------
    groups : (n,) array of int
        From `helpers.exploration.splits.find_groups`.
    test_ratio : float
        Share of the images for the test side.
    seeds : iterable of int
        One random and one grouped split for each.
    strata : (n,) sequence of str, optional
        Kind of every image, for the grouped splits.
    """
    rows = []
    for seed in seeds:
        drawn = {
            "random": random_split(len(groups), test_ratio=test_ratio, seed=seed),
            "grouped": split_by_group(
                groups, test_ratio=test_ratio, validation_ratio=0.0, seed=seed, strata=strata
            ),
        }
        rows += [(name, seed, leaking_share(split, groups)) for name, split in drawn.items()]
    return pd.DataFrame(rows, columns=["split", "seed", "leaking"])
