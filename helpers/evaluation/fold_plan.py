"""Which fold of a cross-validation tests which image: whole fields of view, or drawn at random."""

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.analysis.fields import find_groups
from helpers.analysis.modality import find_modalities
from helpers.analysis.splits import split_by_group
from helpers.data.data_set import DataSet
from helpers.run_folder import RunFolder
from helpers.settings import Settings

SPLITS = ("grouped", "random")


class FoldError(ValueError):
    """A cross-validation that cannot start, or cannot go on with what it finds."""


def assign_folds(
    groups: Sequence[int], modalities: Sequence[str], n_folds: int, *, seed: int
) -> NDArray[np.int64]:
    """Return the fold of every image, 1 to `n_folds`; a group is never divided.

    Parameters
    ----------
    groups : (n,) sequence of int
        From `helpers.analysis.fields.find_groups`; `np.arange(n)` for a random assignment.
    modalities : (n,) sequence of str
        Modality of every image. A group counts as its most common modality (the first in
        alphabetical order among equals). Each modality is spread as evenly as whole groups allow.
    n_folds : int
        At least 2, and at most the number of groups.
    seed : int
        The same groups, modalities and seed give the same folds.

    Raises
    ------
    FoldError
        If the lengths differ or the number of folds is out of range.

    Examples
    --------
    >>> assign_folds([7, 7, 8, 9], ["a"] * 4, 2, seed=0)
    array([1, 1, 2, 2])
    """
    groups = np.asarray(groups)
    if len(modalities) != len(groups):
        raise FoldError(
            f"`modalities` has {len(modalities)} entries for {len(groups)} images; one an image"
        )
    n_groups = len(np.unique(groups))
    if not 2 <= n_folds <= n_groups:
        raise FoldError(
            f"`n_folds` (={n_folds}) must be at least 2 and at most {n_groups}, the number of "
            "groups; try 5, or add images of other fields of view"
        )
    images = pd.DataFrame({"group": groups, "modality": np.asarray(modalities, dtype=str)})
    table = images.groupby("group")["modality"].agg(
        modality=lambda modality: modality.mode().iloc[0], n="size"
    )
    table = table.iloc[np.random.default_rng(seed).permutation(n_groups)]
    table = table.sort_values("n", ascending=False, kind="stable")
    in_fold = np.zeros(n_folds, int)
    # The rarest modalities come last and even out what the common ones leave uneven.
    for modality in (
        table.groupby("modality")["n"].sum().sort_values(ascending=False, kind="stable").index
    ):
        of_modality = np.zeros(n_folds, int)
        for group, n_images in table.loc[table["modality"] == modality, "n"].items():
            fold = np.lexsort((in_fold, of_modality))[0]
            of_modality[fold] += n_images
            in_fold[fold] += n_images
            table.loc[group, "fold"] = fold + 1
    return table["fold"].loc[groups].to_numpy(np.int64)


def describe_images(data: DataSet) -> pd.DataFrame:
    """Return id, modality and group (field of view) of every image, found from the pixels alone."""
    modalities = find_modalities(data.images)["modality"]
    return pd.DataFrame(
        {"id": data.ids, "modality": modalities, "group": find_groups(data.images[:])}
    )


class Plan(NamedTuple):
    """What all folds of a split share. Made by `plan_folds`.

    Attributes
    ----------
    run : RunFolder
        The folder of the split; its folds are the folders `fold_1`, `fold_2`, ...
    settings : Settings
        How every fold is built and trained.
    data : DataSet
        Labelled images.
    known : DataFrame
        One row an image: id, modality, group (field of view), unit (what is never divided: the
        field, or the image itself) and fold.
    about : dict
        split, n_folds, seed, epochs, steps_per_epoch and settings (the file), for the reader.
    key : str
        Other images, settings or folds give another key.
    """

    run: RunFolder
    settings: Settings
    data: DataSet
    known: pd.DataFrame
    about: dict[str, Any]
    key: str

    def folder(self, fold: int) -> RunFolder:
        """Return the folder of a fold, from 1."""
        return RunFolder(self.run.path / f"fold_{fold}")

    def sides(self, fold: int) -> NDArray[np.str_]:
        """Return "train", "validation" or "test" of every image; the fold is the test."""
        training = self.settings.training
        rest = (self.known["fold"] != fold).to_numpy()
        sides = np.full(len(rest), "test", dtype="<U10")
        sides[rest] = split_by_group(
            self.known["unit"].to_numpy()[rest],
            test_ratio=0,
            validation_ratio=training.validation_split_ratio,
            seed=training.seed,
            strata=self.known["modality"].to_numpy()[rest],
        )
        return sides


def plan_folds(
    run: RunFolder,
    settings: Settings,
    data: DataSet,
    known: pd.DataFrame,
    split: str,
    n_folds: int,
    *,
    settings_file: str = "",
) -> Plan:
    """Return the plan of a cross-validation whose folds have their folders in `run`/`split`.

    Parameters
    ----------
    known : DataFrame
        From `describe_images`, in the order of `data`.
    split : str
        "grouped": fields of view stay whole; "random": every image is drawn by itself.
    settings_file : str
        Where the settings come from; only noted.

    Raises
    ------
    FoldError
        If the split is unknown, the number of folds is out of range or the settings forbid
        training.
    """
    if split not in SPLITS:
        raise FoldError(f"split {split!r} must be one of: {', '.join(SPLITS)}")
    if not settings.training_configuration.enable_training:
        raise FoldError("enable_training is false; set it to true in the settings file")
    units = known["group"].to_numpy() if split == "grouped" else np.arange(len(known))
    training = settings.training
    folds = assign_folds(units, known["modality"], n_folds, seed=training.seed)
    known = known[["id", "modality", "group"]].assign(unit=units, fold=folds)
    about = {
        "split": split,
        "n_folds": n_folds,
        "seed": training.seed,
        "epochs": training.epoch_num,
        "steps_per_epoch": training.steps_per_epoch,
        "settings": settings_file,
    }
    key = _key(settings, known.assign(n_nuclei=data.table["n_nuclei"].to_numpy()))
    return Plan(RunFolder(run.path / split), settings, data, known, about, key)


def check_only(only: Collection[int], n_folds: int) -> None:
    """Refuse folds that there are not."""
    if wrong := sorted(fold for fold in only if not 1 <= fold <= n_folds):
        raise FoldError(
            f"there is no fold {', '.join(map(str, wrong))}; the folds are 1 to {n_folds}"
        )


def _key(settings: Settings, known: pd.DataFrame) -> str:
    # Only what differs from a default: keys that later versions of the format add keep their
    # meaning under it, and a finished fold stays what it was.
    left_out = {
        "data_set_location": True,
        "schema_location": True,
        "training_configuration": {"training_parameters": {"precision"}},  # how fast, not what
    }
    training = settings.training
    reached = [n for n in training.learning_rate_restarts if n < training.epoch_num]
    settings = settings.with_training(learning_rate_restarts=reached)  # the others do nothing
    values = settings.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
    text = json.dumps(values, sort_keys=True) + known.to_csv(index=False)
    return hashlib.sha256(text.encode()).hexdigest()
