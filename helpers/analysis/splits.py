"""Split images into training, validation and test without leaks.

Tiles of one field of view share nuclei, stain, focus and illumination. So tiles that a seam joins
form a group, and a group stays whole on one side.
"""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

SPLIT_NAMES = ("train", "validation", "test")
LEFT_OUT = "left out"
"""Of every side."""


def keep_back(
    groups: np.ndarray,
    ids: Sequence[str],
    parts: Sequence[str] | None = None,
    *,
    tested: np.ndarray | None = None,
    test_groups: Collection[int] = (),
    left_out: Collection[str] = (),
) -> np.ndarray:
    """Return the side of every image that is settled before any is drawn, and "" for the others.

    Parameters
    ----------
    groups, ids, parts : (n,) sequences
        From `helpers.analysis.fields.find_groups` and `DataSet.table`. The part "test" is tested
        and "validation" validates; the other images of the tested groups are "left out".
    tested : (n,) array of bool, optional
        Images of a test set of its own, or of sources that are only tested. They take the place of
        the part "test", which is then "left out".
    test_groups : collection of int
        Further groups that hold an image of the test set; "left out".
    left_out : collection of str
        Ids, or beginnings that only one id has: "left out", each by itself, even out of the test.
        ValueError for a beginning that no id has, or several.
    """
    groups, ids = np.asarray(groups), np.asarray(ids, dtype=str)
    parts = np.full(len(ids), "train") if parts is None else np.asarray(parts, dtype=str)
    for name, entries in (("ids", ids), ("parts", parts)):
        _check_length(name, entries, len(groups))
    settled = np.full(len(ids), "", dtype="<U10")
    settled[parts == "validation"] = "validation"
    settled[parts == "test"] = LEFT_OUT
    tested = parts == "test" if tested is None else np.asarray(tested, bool)
    settled[np.isin(groups, [*groups[tested], *test_groups])] = LEFT_OUT
    settled[tested] = "test"
    settled[[_find_one(ids, beginning) for beginning in left_out]] = LEFT_OUT
    return settled


def split_by_group(
    groups: np.ndarray,
    *,
    test_ratio: float,
    validation_ratio: float,
    seed: int,
    strata: Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
    test_modalities: Collection[str] = (),
    settled: Sequence[str] | None = None,
) -> np.ndarray:
    """Return the side of every image, "train", "validation" or "test"; groups are never divided.

    Parameters
    ----------
    groups : (n,) array of int
        From `helpers.analysis.fields.find_groups`.
    test_ratio, validation_ratio : float
        Shares of all images, and *of those that remain after the test side is taken*, at least 0
        and below 1; met as closely as whole groups allow, above 0 by at least one group.
    strata : (n,) sequence of str, optional
        Modality of every image. A group counts as its most common modality. A modality of two
        groups or more is on the training and the test side, one of three or more also on the
        validation side; one of a single group stays in training, unless a side would stay empty.
    sources : (n,) sequence of str, optional
        Data set of every image. Of several, each counts as modalities of its own.
    test_modalities : collection of str
        Modalities of which every group is tested, beside what `test_ratio` takes.
    settled : (n,) sequence of str, optional
        From `keep_back`: sides that are not to be drawn, "" where one is. A side that is settled
        for some images is not drawn from the others.

    Raises
    ------
    ValueError
        If a ratio is outside its range, lengths differ, groups are too few, `test_modalities` names
        none or all, or `settled` tests a part of a group and leaves another part to be drawn.
    """
    groups = np.asarray(groups)
    sides = np.full(len(groups), "", "<U10") if settled is None else np.array(settled, "<U10")
    strata = np.full(len(groups), "all") if strata is None else np.asarray(strata, dtype=str)
    sources = np.full(len(groups), "") if sources is None else np.asarray(sources, dtype=str)
    for name, entries in (("settled", sides), ("strata", strata), ("sources", sources)):
        _check_length(name, entries, len(groups))
    ratios = {"test": test_ratio, "validation": validation_ratio}
    for side, ratio in ratios.items():
        if not 0 <= ratio < 1:
            raise ValueError(f"`{side}_ratio` (={ratio}) must be at least 0 and below 1; try 0.1")
        ratios[side] = 0 if (sides == side).any() else ratio
    free = sides == ""
    _check_whole(groups[free], groups[sides == "test"])
    table = _describe_groups(groups[free], strata[free], sources[free])
    _check_enough(len(table), ratios, np.count_nonzero(~free))
    rng = np.random.default_rng(seed)
    # Leave two groups of a modality when validation is still to come, one otherwise.
    _assign(table, "test", ratios["test"], spare=1 + (ratios["validation"] > 0), rng=rng)
    _assign(table, "validation", ratios["validation"], spare=1, rng=rng)
    _check_test_modalities(test_modalities, set(table["modality"]))
    table.loc[table["modality"].isin(test_modalities), "side"] = "test"
    sides[free] = table["side"].loc[groups[free]].to_numpy(dtype="<U10")
    return sides


def leaking_share(split: np.ndarray, groups: np.ndarray) -> float:
    """Return the share of the test images that have a sibling in training; 0 without any."""
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
    if not len(found):  # of several data sets: after the name of the source
        found = np.flatnonzero(np.char.find(ids, f"-{beginning}") >= 0)
    if len(found) != 1:
        names = ", ".join(repr(str(name)) for name in ids[found[:3]])
        which = f"{len(found)} ids, {names}{', ...' * (len(found) > 3)}" if len(found) else "no id"
        raise ValueError(
            f"`left_out` {beginning!r} begins {which}; give an id, or a beginning that one id has"
        )
    return int(found[0])


def _check_length(name: str, entries: Sequence, n_images: int) -> None:
    if len(entries) != n_images:
        raise ValueError(
            f"`{name}` has {len(entries)} entries for {n_images} images; give one an image"
        )


def _check_whole(free: np.ndarray, tested: np.ndarray) -> None:
    if divided := sorted(set(free) & set(tested)):
        raise ValueError(
            f"`settled` tests a part of {len(divided)} group(s), e.g. of group {divided[0]}, whose "
            "other images could be trained on; settle these too, as `keep_back` does"
        )


def _check_enough(n_groups: int, ratios: dict[str, float], n_settled: int) -> None:
    """Refuse a split that would leave a side empty, and say what helps."""
    drawn = ["train", *(side for side, ratio in ratios.items() if ratio > 0)]
    if n_groups >= len(drawn):
        return
    beside = f" beside the {n_settled} image(s) kept back" if n_settled else ""
    is_enough = "test" in drawn and n_groups == len(drawn) - 1
    or_test_set = ", or give a test set of its own (`test_set`)" if is_enough else ""
    raise ValueError(
        f"there are {n_groups} field(s) of view to split{beside}, but at least {len(drawn)} are "
        f"needed, one each for {', '.join(drawn)}; add images of other fields{or_test_set} "
        "(`nuclei predict` segments images without any training)"
    )


def _check_test_modalities(test_modalities: Collection[str], modalities: set[str]) -> None:
    if unknown := sorted(set(test_modalities) - modalities):
        raise ValueError(
            f"`test_modalities` names {', '.join(map(repr, unknown))}, but no image is one; "
            f"there are: {', '.join(sorted(modalities))}"
        )
    if modalities <= set(test_modalities):
        raise ValueError("`test_modalities` names every modality, so nothing is left to train on")


def _describe_groups(groups: np.ndarray, strata: np.ndarray, sources: np.ndarray) -> pd.DataFrame:
    """Return every group's number of images and most common modality, all in training yet.

    `stratum` is the modality, of each source by itself.
    """
    by_group = pd.DataFrame({"modality": strata, "source": sources}).groupby(groups)
    table = by_group.agg(lambda entries: entries.mode().iloc[0])
    stratum = table["source"] + " " + table["modality"]
    return table.assign(n_images=by_group.size(), stratum=stratum, side="train")


def _assign(
    table: pd.DataFrame, side: str, ratio: float, *, spare: int, rng: np.random.Generator
) -> None:
    """Move groups of `table` from training to `side`, the smallest stratum first.

    What a stratum gives too much or too little, the next one makes good, so the errors do not add
    up. At least one group of every stratum stays in training, `spare` if the stratum has enough.
    """
    if ratio == 0:
        return
    free = table[table["side"] == "train"]
    owed = 0.0
    sizes = free.groupby("stratum")["n_images"].sum()
    for stratum in sizes.sort_values(kind="stable").index:
        n_images = free[free["stratum"] == stratum]["n_images"]
        most = min(len(n_images) - 1, max(len(n_images) - spare, 1))
        owed += ratio * sizes[stratum]
        taken = _draw(n_images, owed, most, rng)
        table.loc[taken, "side"] = side
        owed -= n_images.loc[taken].sum()
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
