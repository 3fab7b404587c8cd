"""Cross-validation: how good is a training on unseen images, and what a random split hides.

    python benchmarks/cross_validation.py --data data/stage1_train.zip --epochs 12 --folds 3 \
        --settings settings/reference.json --split grouped

Every fold is a network of its own, trained on the other folds and tested on this one. A split is
"grouped", where fields of view stay whole, or "random", where every image is drawn by itself.
Finished folds are read, interrupted ones resume. `--summarise` trains nothing and writes, from the
folds that are there, `summary.csv` (the grouped split, with intervals over fields of view) and
`comparison.csv` (random against grouped on the same images).
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.analysis.fields import find_groups
from helpers.analysis.modality import find_modalities
from helpers.analysis.splits import split_by_group
from helpers.data.data_set import DataSet, read_data_set
from helpers.evaluation.masks import dice, iou
from helpers.evaluation.nuclei import SCORES as NUCLEI
from helpers.evaluation.nuclei import match_data_set, score_nuclei
from helpers.evaluation.summary import bootstrap_interval, by_modality, summarise_scores
from helpers.evaluation.tuning import tune_network
from helpers.network.prediction import Network, load_network
from helpers.run_folder import RunFolder
from helpers.settings import Settings, load_settings
from helpers.training.devices import Device, choose_device
from helpers.training.loop import CHECKPOINT, TrainingError, train

SPLITS = ("grouped", "random")
TABLE, RESULT = "scores.csv", "fold.json"
"""A finished fold's files; the second one is written last."""
MASK_THRESHOLD = 0.5
"""Of the foreground's scores, the same for all folds: a tuned one would be part of what differs."""
FOREGROUND = ("dice", "iou")
SIBLINGS = {"any": (True, False), "with": (True,), "without": (False,)}
"""Parts of the images, by whether the random split taught a tile of the same field of view."""


class Plan(NamedTuple):
    """What all folds of a split share; `known` has id, modality, group, unit and fold."""

    run: RunFolder
    settings: Settings
    data: DataSet
    known: pd.DataFrame
    about: dict[str, Any]

    def sides(self, fold: int) -> NDArray[np.str_]:
        """Return "train", "validation" or "test" of every image; the fold is the test."""
        rest = (self.known["fold"] != fold).to_numpy()
        sides = np.full(len(rest), "test", dtype="<U10")
        sides[rest] = split_by_group(
            self.known["unit"].to_numpy()[rest],
            test_ratio=0,
            validation_ratio=self.settings.training.validation_split_ratio,
            seed=self.settings.training.seed,
            strata=self.known["modality"].to_numpy()[rest],
        )
        return sides


def assign_folds(
    groups: Sequence[int], modalities: Sequence[str], n_folds: int, *, seed: int
) -> NDArray[np.int64]:
    """Return the fold of every image, 1 to `n_folds`; a group is never divided.

    Each modality is spread as evenly as whole groups allow; a group counts as its most common
    modality. The rarest modalities come last and even out what the common ones leave uneven.

    Examples
    --------
    >>> assign_folds([7, 7, 8, 9], ["a"] * 4, 2, seed=0)
    array([1, 1, 2, 2])
    """
    images = pd.DataFrame({"group": np.asarray(groups), "modality": np.asarray(modalities, str)})
    n_groups = images["group"].nunique()
    if not 2 <= n_folds <= n_groups:
        raise ValueError(
            f"`n_folds` (={n_folds}) must be at least 2 and at most {n_groups}, the number of "
            "groups; try 5, or add images of other fields of view"
        )
    by_group = images.groupby("group")["modality"]
    table = by_group.agg(modality=lambda modality: modality.mode().iloc[0], n="size")
    table = table.iloc[np.random.default_rng(seed).permutation(n_groups)]
    table = table.sort_values("n", ascending=False, kind="stable")
    in_fold = np.zeros(n_folds, int)
    common = table.groupby("modality")["n"].sum().sort_values(ascending=False, kind="stable")
    for modality in common.index:
        of_modality = np.zeros(n_folds, int)
        for group, n_images in table.loc[table["modality"] == modality, "n"].items():
            fold = np.lexsort((in_fold, of_modality))[0]
            of_modality[fold] += n_images
            in_fold[fold] += n_images
            table.loc[group, "fold"] = fold + 1
    return table["fold"].loc[images["group"]].to_numpy(np.int64)


def describe_images(data: DataSet) -> pd.DataFrame:
    """Return id, modality and group (field of view, and what it shares) of every image."""
    modalities = find_modalities(data.images)["modality"]
    groups = find_groups(data.images[:], data.table["known_group"])
    return pd.DataFrame({"id": data.ids, "modality": modalities, "group": groups})


def plan_folds(
    run: RunFolder, settings: Settings, data: DataSet, known: pd.DataFrame, split: str, n_folds: int
) -> Plan:
    """Return the plan of a split, whose folds have their folders in `run`/`split`."""
    training = settings.training
    units = known["group"].to_numpy() if split == "grouped" else np.arange(len(known))
    folds = assign_folds(units, known["modality"], n_folds, seed=training.seed)
    known = known[["id", "modality", "group"]].assign(unit=units, fold=folds)
    about = {"split": split, "n_folds": n_folds, "seed": training.seed}
    about |= {"epochs": training.epoch_num, "steps_per_epoch": training.steps_per_epoch}
    about["key"] = _key(settings, known.assign(n_nuclei=data.table["n_nuclei"].to_numpy()))
    return Plan(RunFolder(run.path / split), settings, data, known, about)


def _key(settings: Settings, known: pd.DataFrame) -> str:
    # Only what differs from a default, and nothing that says how fast but not what: a finished
    # fold stays what it was when the format of the settings gets new keys.
    speed = {"training_configuration": {"training_parameters": {"precision"}}}
    left_out = {"data_set_location": True, "schema_location": True, **speed}
    training = settings.training
    reached = [n for n in training.learning_rate_restarts if n < training.epoch_num]
    settings = settings.with_training(learning_rate_restarts=reached)  # the others do nothing
    values = settings.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
    images = known.rename(columns={"modality": "kind"}).to_csv(index=False)  # its first name
    text = json.dumps(values, sort_keys=True) + images
    return hashlib.sha256(text.encode()).hexdigest()


def run_folds(plan: Plan, device: Device, only: Sequence[int] = ()) -> pd.DataFrame:
    """Return the scores of all images of the finished folds; train what is not yet trained.

    Raises
    ------
    ValueError
        If `only` names a fold that there is not, or the folder holds folds of another plan.
    """
    n_folds = plan.about["n_folds"]
    if wrong := sorted(fold for fold in only if not 1 <= fold <= n_folds):
        raise ValueError(f"there is no fold {wrong[0]}; the folds are 1 to {n_folds}")
    _refuse_others(plan)
    for fold in sorted(set(only) or range(1, n_folds + 1)):
        run = RunFolder(plan.run.path / f"fold_{fold}")
        if not run.file(RESULT).exists():
            _run_fold(plan, fold, run, device)
        run.file(CHECKPOINT).unlink(missing_ok=True)
    return read_folds(plan.run)


def _refuse_others(plan: Plan) -> None:
    """Raise if a finished fold in the folder was made with another plan."""
    for file in sorted(plan.run.path.glob(f"*/{RESULT}")):
        found = json.loads(file.read_text(encoding="utf-8"))
        if found.get("key") != plan.about["key"]:
            differing = [
                f"{name} {found.get(name)!r} (now {asked!r})"
                for name, asked in plan.about.items()
                if name != "key" and found.get(name) != asked
            ]
            raise ValueError(
                f"{plan.run} holds folds made with "
                f"{', '.join(differing) or 'other settings or images'}; give another --output, or "
                "delete that folder to begin again"
            )


def _run_fold(plan: Plan, fold: int, run: RunFolder, device: Device) -> None:
    """Train, tune and score the network of one fold, and write its files."""
    sides = plan.sides(fold)
    sizes = {f"n_{name}": int((sides == name).sum()) for name in ("train", "validation", "test")}
    about = {"fold": fold, **plan.about, **sizes}
    print(", ".join(f"{name} {value}" for name, value in about.items() if name != "key"))
    taught, validation = (plan.data.select(sides == side) for side in ("train", "validation"))
    held_back = (validation.images, validation.labels) if len(validation) else None
    images = taught.images, taught.labels
    history = train(run, plan.settings, images, held_back, device=device)
    network = load_network(run.require("network.keras"), precision=device.precision)
    if len(validation) and not network.target.is_mask:
        tune_network(run, network, validation)
    table = score_fold(network, plan.data, plan.known, sides)
    print(f"fold {fold}:", *(f"{name} {table[name].mean():.3f}" for name in FOREGROUND))
    run.write_csv(TABLE, table.round(4))
    chosen = network.settings.postprocessing.model_dump(mode="json")
    seconds = round(float(history["seconds"].sum()), 1)
    run.write_json(RESULT, about | {"postprocessing": chosen, "seconds": seconds})


def score_fold(
    network: Network, data: DataSet, known: pd.DataFrame, sides: NDArray[np.str_]
) -> pd.DataFrame:
    """Return the scores of the images on the test side; each is segmented once.

    The columns of `score_nuclei`; dice and iou of the foreground, 0 to 1, at `MASK_THRESHOLD`,
    before any nucleus is made or dropped; and has_sibling: whether the network was taught an image
    of the same field of view. One that only the thresholds were tuned on does not count.
    """
    test = data.select(sides == "test")
    foreground = []

    def segment() -> Iterator[NDArray[np.int32]]:
        for image, labels in zip(test.images, test.labels, strict=True):
            maps = network.predict_maps(image)
            masks = labels > 0, network.target.foreground(maps) >= MASK_THRESHOLD
            foreground.append({"dice": dice(*masks), "iou": iou(*masks)})
            yield network.target.decode(maps, network.settings.postprocessing)

    table = score_nuclei(match_data_set(segment(), test, known))
    taught = known["group"].to_numpy()[sides == "train"]
    return table.join(pd.DataFrame(foreground)).assign(has_sibling=table["group"].isin(taught))


def read_folds(run: RunFolder) -> pd.DataFrame:
    """Return the scores of all images of the finished folds of a split, with the column `fold`."""
    folds = sorted(int(file.parent.name[5:]) for file in run.path.glob(f"fold_*/{RESULT}"))
    if not folds:
        raise FileNotFoundError(f"{run} holds no finished fold; train one with --data, --settings")
    tables = [
        RunFolder(run.path / f"fold_{fold}").read_csv(TABLE).assign(fold=fold) for fold in folds
    ]
    return pd.concat(tables, ignore_index=True)


def compare_splits(grouped: pd.DataFrame, random: pd.DataFrame) -> pd.DataFrame:
    """Return by how much the random split scores higher on the same images, and where.

    Pairing takes out what makes an image hard for every network. What is left on images without
    a sibling in training is chance and the other training images; what images with one gain beyond
    that is leakage. A modality of one field of view is, in a grouped split, tested only by a
    network that never saw it, so its difference, and that of "all", is not leakage alone.

    One row a score, modality (then "all") and entry of `SIBLINGS`: n_images, n_fields; grouped,
    random, difference, low and high (95 %; NaN where there is one field of view).
    """
    one = grouped[["id", "modality", "group", *FOREGROUND]]
    other = random[["id", "has_sibling", *FOREGROUND]]
    pairs = one.merge(other, on="id", suffixes=("_grouped", "_random"), validate="one_to_one")
    rows = []
    for score in FOREGROUND:
        for modality, of_modality in by_modality(pairs):
            for siblings, wanted in SIBLINGS.items():
                part = of_modality[of_modality["has_sibling"].isin(wanted)]
                if len(part):
                    about = {"score": score, "modality": modality, "siblings": siblings}
                    rows.append(about | _difference(part, score))
    return pd.DataFrame(rows)


def _difference(pairs: pd.DataFrame, score: str) -> dict[str, float]:
    one, other = pairs[f"{score}_grouped"], pairs[f"{score}_random"]
    low, estimate, high = bootstrap_interval(other - one, pairs["group"])
    counts = {"n_images": len(pairs), "n_fields": pairs["group"].nunique()}
    means = {"grouped": one.mean(), "random": other.mean()}
    return counts | means | {"difference": estimate, "low": low, "high": high}


def summarise(run: RunFolder) -> None:
    """Write `summary.csv` and, where both splits have folds, `comparison.csv`.

    Every image is tested by the one network that has not seen it, so the images of all folds are
    summarised as those of one test set. What two trainings would differ by is not in the interval.
    """
    grouped, random = (RunFolder(run.path / split) for split in SPLITS)
    summary = summarise_scores(read_folds(grouped), (*NUCLEI, *FOREGROUND))
    run.write_csv("summary.csv", summary.round(4))
    if any(random.path.glob(f"fold_*/{RESULT}")):
        compared = compare_splits(read_folds(grouped), read_folds(random))
        run.write_csv("comparison.csv", compared.round(4))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train or summarise; return 0, or 2 where nothing could start."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="cross_validation", help="folder under results/")
    parser.add_argument("--data", default="sample", help='folder, zip, or "sample"')
    parser.add_argument("--settings", type=Path, default="settings/reference.json")
    parser.add_argument("--split", default="grouped", choices=SPLITS, help="what is kept whole")
    parser.add_argument("--folds", type=int, default=5, help="how many folds (%(default)s)")
    parser.add_argument("--only", type=int, nargs="+", default=(), help="run only these folds")
    parser.add_argument("--epochs", type=int, help="instead of the settings file's")
    parser.add_argument("--summarise", action="store_true", help="train nothing, write the tables")
    parser.add_argument("--replace-published", action="store_true", help="write into the kept run")
    given = parser.parse_args(arguments)
    try:
        run = RunFolder(given.output, replace_published=given.replace_published)
        run.refuse_published()
        if given.summarise:
            summarise(run)
            return 0
        settings = load_settings(given.settings).with_training(epoch_num=given.epochs)
        data = read_data_set(given.data).labelled
        known = describe_images(data)
        plan = plan_folds(run, settings, data, known, given.split, given.folds)
        table = run_folds(plan, choose_device(settings), given.only)
    except (OSError, ValueError, TrainingError) as reason:
        print(reason, file=sys.stderr)
        return 2
    print(f"{table['fold'].nunique()} of {given.folds} folds, {len(table)} images tested")
    return 0


if __name__ == "__main__":
    sys.exit(main())
