"""Split images into training, validation and test without leaks.

Tiles of one field of view share nuclei, stain, focus and illumination. A network tested on the
sibling of a training tile is tested on something that it has seen. So the tiles are found from
their pixels, images joined by a seam form a group, and a group stays whole on one side.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pandas as pd


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
        From `helpers.analysis.fields.find_groups`.
    test_ratio : float
        Share of the images for the test side.
    seeds : iterable of int
        One random and one grouped split for each.
    strata : (n,) sequence of str, optional
        Modality of every image, for the grouped splits.
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


SPLIT_NAMES = ("train", "validation", "test")
LEFT_OUT = "left out"  # of every side


def split_by_group(
    groups: np.ndarray,
    *,
    test_ratio: float,
    validation_ratio: float,
    seed: int,
    strata: Sequence[str] | None = None,
    test_strata: Collection[str] = (),
    settled: Sequence[str] | None = None,
) -> np.ndarray:
    """Side of every image, "train", "validation" or "test"; a group is never divided.

    Parameters
    ----------
    groups : (n,) array of int
        From `find_groups`.
    test_ratio : float
        Share of all images for the test side, at least 0 and below 1.
    validation_ratio : float
        Share *of the images that remain after the test side is taken*, at least 0 and below 1: the
        meaning of `validation_split_ratio` in the settings file.
    seed : int
        The same groups, strata and seed give the same split.
    strata : (n,) sequence of str, optional
        Modality of every image. A group counts as its most common modality (the first in
        alphabetical order among equals). A modality of two groups or more is on the training and
        the test side, a modality of three or more also on the validation side, where the ratios
        are above 0. A modality of a single group stays in training, unless a side would stay empty.
    test_strata : collection of str
        Modalities of which every group is tested and none trained on, beside what `test_ratio`
        takes. The other modalities are split as they are without it.
    settled : (n,) sequence of str, optional
        From `keep_back`: sides that are not to be drawn, "" where one is. Where one of them is
        "test", the test is chosen, and `test_ratio` is not applied to the others.

    Returns
    -------
    (n,) array of str
        Images are counted, not groups. The shares are met as closely as whole groups allow;
        a ratio above 0 gives at least one group, and with strata one of every modality that can
        spare it, even if that is more than the ratio asks for.

    Raises
    ------
    ValueError
        If a ratio is outside its range, the lengths differ, there are too few groups, a modality
        of `test_strata` is none of `strata`, or all of them, or `settled` tests a part of a group
        and leaves another part to be drawn.
    """
    groups = np.asarray(groups)
    if settled is not None:
        return _split_the_rest(
            groups, np.asarray(settled, dtype="<U10"), strata, test_ratio=test_ratio,
            validation_ratio=validation_ratio, seed=seed, test_strata=test_strata,
        )  # fmt: skip
    for name, ratio in (("test_ratio", test_ratio), ("validation_ratio", validation_ratio)):
        _check_ratio(name, ratio)
    if strata is not None and len(strata) != len(groups):
        raise ValueError(
            f"`strata` has {len(strata)} entries for {len(groups)} images; give one an image"
        )
    wanted = [1, *(ratio > 0 for ratio in (test_ratio, validation_ratio))]
    if len(np.unique(groups)) < sum(wanted):
        raise ValueError(
            f"`groups` holds {len(np.unique(groups))} group(s), too few for {sum(wanted)} sides "
            "of a split; try a ratio of 0, or add images of other fields of view"
        )
    table = _describe_groups(groups, strata)
    rng = np.random.default_rng(seed)
    table["side"] = "train"
    # Leave two groups of a modality when validation is still to come, one otherwise.
    _assign(table, "test", test_ratio, spare=1 + (validation_ratio > 0), rng=rng)
    _assign(table, "validation", validation_ratio, spare=1, rng=rng)
    _check_test_strata(test_strata, set(table["modality"]))
    table.loc[table["modality"].isin(test_strata), "side"] = "test"
    return table["side"].loc[groups].to_numpy(dtype="<U10")


def keep_back(
    groups: np.ndarray,
    ids: Sequence[str],
    test_ids: Collection[str] = (),
    *,
    test_groups: Collection[int] = (),
    left_out: Collection[str] = (),
) -> np.ndarray:
    """Side of every image that a test set of its own settles, and "" where it settles none.

    Parameters
    ----------
    groups : (n,) array of int
        From `find_groups`.
    ids : (n,) sequence of str
        Names of the images.
    test_ids : collection of str
        Names of the images of the test set. Those among `ids` become "test", the others of their
        groups "left out"; names that are not among `ids` are passed over.
    test_groups : collection of int
        Further groups that hold an image of the test set, though none of `ids`; "left out".
    left_out : collection of str
        Ids, or beginnings that only one id has: "left out", each by itself, even out of the test.

    Returns
    -------
    (n,) array of str
        For `split_by_group`, which splits the others.

    Raises
    ------
    ValueError
        If none of `test_ids` is among `ids`, or an entry of `left_out` names no image or several.

    Examples
    --------
    >>> keep_back([0, 0, 1, 2], ["ada", "bob", "cyd", "dan"], ["bob", "eve"], left_out=["c"])
    array(['left out', 'test', 'left out', ''], dtype='<U10')
    """
    groups, ids = np.asarray(groups), np.asarray(ids, dtype=str)
    if len(ids) != len(groups):
        raise ValueError(
            f"`ids` has {len(ids)} entries for {len(groups)} images; give one id an image"
        )
    tested = np.isin(ids, list(test_ids))
    if len(test_ids) and not tested.any():
        raise ValueError(
            f"none of the {len(test_ids)} images of the test set, e.g. {min(test_ids)!r}, is among "
            f"the {len(ids)} images to split, e.g. {min(ids, default='')!r}, so nothing would be "
            "tested; give a test set whose images bear the same ids, or none"
        )
    settled = np.full(len(ids), "", dtype="<U10")
    settled[np.isin(groups, [*groups[tested], *test_groups])] = LEFT_OUT
    settled[tested] = "test"
    settled[[_find_one(ids, beginning) for beginning in left_out]] = LEFT_OUT
    return settled


def random_split(
    n_images: int, *, test_ratio: float, validation_ratio: float = 0.0, seed: int
) -> np.ndarray:
    """Side of every image, drawn at random without regard to groups: only for the comparison.

    Ratios as in `split_by_group`. Returns an (n_images,) array of str.
    """
    _check_ratio("test_ratio", test_ratio)
    _check_ratio("validation_ratio", validation_ratio)
    n_test = round(test_ratio * n_images)
    n_validation = round(validation_ratio * (n_images - n_test))
    split = np.full(n_images, "train", dtype="<U10")
    order = np.random.default_rng(seed).permutation(n_images)
    split[order[:n_test]] = "test"
    split[order[n_test : n_test + n_validation]] = "validation"
    return split


def leaking_share(split: np.ndarray, groups: np.ndarray) -> float:
    """Share, 0 to 1, of the test images that have a sibling in training; 0 without test images.

    Parameters
    ----------
    split : (n,) array of "train", "validation" or "test"
    groups : (n,) array of int

    Examples
    --------
    >>> leaking_share(["train", "test", "test", "test"], [7, 7, 8, 8])
    0.3333333333333333
    """
    split, groups = np.asarray(split), np.asarray(groups)
    in_test = split == "test"
    if not in_test.any():
        return 0.0
    return float(np.isin(groups[in_test], groups[split == "train"]).mean())


def _find_one(ids: np.ndarray, beginning: str) -> int:
    """Return the position of the one id that is, or begins with, `beginning`."""
    found = np.flatnonzero(ids == beginning)
    if not len(found):
        found = np.flatnonzero(np.char.startswith(ids, beginning))
    if len(found) != 1:
        names = ", ".join(repr(str(name)) for name in ids[found[:3]])
        which = f"{len(found)} ids, {names}{', ...' * (len(found) > 3)}" if len(found) else "no id"
        raise ValueError(
            f"`left_out` {beginning!r} begins {which}; give an id, or a beginning that one id has"
        )
    return int(found[0])


def _split_the_rest(
    groups: np.ndarray, settled: np.ndarray, strata: Sequence[str] | None, **options
) -> np.ndarray:
    """Split the images whose side is not settled, and return the sides of all."""
    for name, entries in (("settled", settled), ("strata", strata)):
        if entries is not None and len(entries) != len(groups):
            raise ValueError(
                f"`{name}` has {len(entries)} entries for {len(groups)} images; give one an image"
            )
    free = settled == ""
    tested = settled == "test"
    if divided := sorted(set(groups[free]) & set(groups[tested])):
        raise ValueError(
            f"`settled` tests a part of {len(divided)} group(s), e.g. of group {divided[0]}, whose "
            "other images could be trained on; settle these too, as `keep_back` does"
        )
    if tested.any():
        options["test_ratio"] = 0
    sides = settled.copy()
    modalities = None if strata is None else np.asarray(strata)[free]
    sides[free] = split_by_group(groups[free], strata=modalities, **options)
    return sides


def _check_ratio(name: str, ratio: float) -> None:
    if not 0 <= ratio < 1:
        raise ValueError(f"`{name}` (={ratio}) must be at least 0 and below 1; try 0.1")


def _check_test_strata(test_strata: Collection[str], modalities: set[str]) -> None:
    if unknown := sorted(set(test_strata) - modalities):
        raise ValueError(
            f"`test_strata` names {', '.join(map(repr, unknown))}, of which there is no group; "
            f"there are: {', '.join(sorted(modalities))}"
        )
    if modalities <= set(test_strata):
        raise ValueError("`test_strata` names every modality, so nothing is left to train on")


def _describe_groups(groups: np.ndarray, strata: Sequence[str] | None) -> pd.DataFrame:
    """Return the number of images and the most common modality of every group, a row a group."""
    modalities = np.full(len(groups), "all") if strata is None else np.asarray(strata, dtype=str)
    images = pd.DataFrame({"group": groups, "modality": modalities})
    by_group = images.groupby("group")["modality"]
    most_common = by_group.agg(lambda modality: modality.mode().iloc[0])
    return pd.DataFrame({"n_images": by_group.size(), "modality": most_common})


def _assign(
    table: pd.DataFrame, side: str, ratio: float, *, spare: int, rng: np.random.Generator
) -> None:
    """Move groups of `table` from training to `side`, the smallest modality first.

    What a modality gives too much or too little, the next one makes good, so the errors do not add
    up. At least one group of every modality stays in training, `spare` if the modality has enough.
    """
    if ratio == 0:
        return
    free = table[table["side"] == "train"]
    owed = 0.0
    sizes = free.groupby("modality")["n_images"].sum()
    for modality in sizes.sort_values(kind="stable").index:
        of_modality = free[free["modality"] == modality]["n_images"]
        most = min(len(of_modality) - 1, max(len(of_modality) - spare, 1))
        owed += ratio * sizes[modality]
        taken = _draw(of_modality, owed, most, rng)
        table.loc[taken, "side"] = side
        owed -= of_modality.loc[taken].sum()
    if not (table["side"] == side).any():
        taken = (free["n_images"] - ratio * sizes.sum()).abs().idxmin()
        table.loc[taken, "side"] = side


def _draw(n_images: pd.Series, wanted: float, most: int, rng: np.random.Generator) -> list:
    """Draw up to `most` groups in random order, of about `wanted` images together."""
    taken, left = [], wanted
    order = rng.permutation(n_images.index.to_numpy())
    for group in order:
        # Half a group too many is as near as half a group too few.
        if len(taken) < most and n_images[group] / 2 <= left:
            taken.append(group)
            left -= n_images[group]
    if not taken and most > 0:
        taken.append(n_images.loc[order].idxmin())
    return taken
