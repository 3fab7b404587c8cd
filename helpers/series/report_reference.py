"""README's tables of the reference network: beside the published, by kind, and what leakage adds.

Each is written from the files under `results/`. Where they are missing, one sentence says so and
names the command that makes them.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from helpers.evaluation.comparison import (
    compare_published,
    compare_recall,
    read_seeds,
    say_interval,
    say_score,
    say_share,
    tabulate_published,
    tabulate_recall,
)
from helpers.evaluation.nuclei_scores import summarise_nuclei
from helpers.evaluation.scores import ALL
from helpers.experiment.fold_scores import RESULT, compare_splits, read_folds, summarise_folds
from helpers.paths import ROOT
from helpers.run_folder import REFERENCE, RunFolder
from helpers.series.model_card import REFERENCE_COMMAND, describe_model, to_markdown

RESULTS = ROOT / "results"
CROSS_VALIDATION = "cross_validation"
FOLDS_COMMAND = (
    "python -m helpers.experiment.folds --data data/stage1_train.zip "
    "--settings settings/reference.json --output cross_validation --folds 3 --epochs 12 "
    "--split {split}"
)
TARGETS = "targets"
TARGETS_COMMAND = (
    "make nuclei DATA=data/stage1_train.zip SETTINGS=settings/reference.json RUN=targets "
    "EPOCHS=12 STEPS=150"
)
SOURCES = {
    "ap": "table 1 of [Schmidt et al. 2018](https://doi.org/10.1007/978-3-030-00934-2_30), pooled; "
    "EmbedSeg, averaged and with test-time augmentation, "
    "[Lalit et al. 2022](https://doi.org/10.1016/j.media.2022.102523)",
    "recall": "[Caicedo et al. 2019](https://doi.org/10.1038/s41592-019-0612-7), the best of three "
    "networks, for each kind another",
}
"""Where the published figures are from."""
PARTS = {
    "any": "all images",
    "with": "with a sibling in the random split's training",
    "without": "without one",
}
"""The rows of the table of leakage, in a reader's words."""


def describe_reference(results: Path = RESULTS) -> str:
    """Return the reference network's average precision beside the published, as Markdown."""
    tables = read_seeds(results)
    if not tables:
        return _say_missing("The reference network", REFERENCE_COMMAND)
    comparison = compare_published(tables, name="**ours**")
    ours = comparison.iloc[-1]
    note = (
        f"{ours['n_images']} test images of StarDist ({ours['n_fields']} fields of view, "
        f"{ours['n_nuclei']:,} nuclei); AP = TP/(TP+FP+FN), pooled over nuclei or averaged over "
        f"images. In brackets the 95 % interval over fields of view{_tell_seeds(len(tables))}. "
        f"The others as published: {SOURCES['ap']}."
    )
    return f"{_tabulate(tabulate_published(comparison, emphasis='**'))}\n\n{note}"


def _tell_seeds(n_seeds: int) -> str:
    if n_seeds == 1:
        return "; one training, so the spread between trainings is not in it"
    return f"; figures of ours are means of {n_seeds} trainings"


def describe_cross_validation(results: Path = RESULTS) -> str:
    """Return the grouped cross-validation's recall of each kind beside the published."""
    folder = results / CROSS_VALIDATION / "grouped"
    if not _is_begun(folder):
        return _say_missing("Recall by kind", FOLDS_COMMAND.format(split="grouped"))
    comparison = compare_recall(summarise_folds(read_folds(folder)))
    note = (
        f"Recall at IoU .70 in fields of view that no network had seen: {_tell_folds(folder)}. "
        "In brackets the 95 % interval over fields of view. The others as published, on the Bowl's "
        f"final test, which is of other images: {SOURCES['recall']}."
    )
    return f"{_tabulate(tabulate_recall(comparison, emphasis='**'))}\n\n{note}"


def describe_leakage(results: Path = RESULTS) -> str:
    """Return by how much a random split flatters the foreground scores of the same images."""
    folders = {split: results / CROSS_VALIDATION / split for split in ("grouped", "random")}
    for split, folder in folders.items():
        if not _is_begun(folder):
            return _say_missing("What a random split adds", FOLDS_COMMAND.format(split=split))
    compared = compare_splits(*(read_folds(folder) for folder in folders.values()))
    rows = [
        [
            f"{say_score(row.score)}, {PARTS[row.siblings]}",
            f"{row.n_images} ({row.n_fields})",
            say_share(row.random),
            say_share(row.grouped),
            say_interval(row.difference, row.low, row.high, sign=True),
        ]
        for row in compared[compared["kind"] == ALL].itertuples()
    ]
    header = ["", "images (fields of view)", "random split", "grouped split", "difference"]
    told = [f"{split} split: {_tell_folds(folder)}" for split, folder in folders.items()]
    note = (
        "The same images, tested by networks of the same settings. In brackets the 95 % interval "
        f"over fields of view. {'; '.join(told).capitalize()}."
    )
    return f"{to_markdown(header, rows)}\n\n{note}"


def describe_targets(results: Path = RESULTS) -> str:
    """Return what networks reach that differ in their target alone, from notebook 07's scores."""
    file = results / TARGETS / "targets.csv"
    if not file.exists():
        return _say_missing("The targets on real nuclei", TARGETS_COMMAND)
    tables = pd.read_csv(file, dtype={"id": str}).groupby("target", sort=False)
    rows = []
    for target, table in tables:
        summary = summarise_nuclei(table).query("kind == @ALL").set_index("score")
        shown = summary.loc[["ap_50", "ap_70", "ap_90"], ["estimate", "low", "high"]]
        lost = 100 * table[["merged", "missed"]].sum() / table["n_true"].sum()
        told = [say_interval(*values) for values in shown.to_numpy()]
        rows.append([f"`{target}`", *told, *(f"{share:.0f}" for share in lost)])
    header = ["target", "AP .50", "AP .70", "AP .90", "merged of 100", "missed of 100"]
    ours = summary.iloc[0]
    note = (
        f"{ours['n_images']} test images ({ours['n_fields']} fields of view, {ours['n_nuclei']:,} "
        f"nuclei), `{TARGETS_COMMAND}`. In brackets the 95 % interval over fields of view; one "
        "training each."
    )
    return f"{to_markdown(header, rows)}\n\n{note}"


def _is_begun(folder: Path) -> bool:
    return any(folder.glob(f"fold_*/{RESULT}"))


def _tell_folds(folder: Path) -> str:
    """Return how many folds are finished, and how long each was trained."""
    found = [json.loads(file.read_text("utf-8")) for file in folder.glob(f"fold_*/{RESULT}")]
    plan = found[0]
    count = "" if len(found) == plan["n_folds"] else f"{len(found)} of "
    steps = f" of {plan['steps_per_epoch']} steps" if plan["steps_per_epoch"] else ""
    return f"{count}{plan['n_folds']} folds, {plan['epochs']} epochs{steps} each"


def _tabulate(table: pd.DataFrame) -> str:
    header = [{"method": "", "kind": ""}.get(name, name) for name in table.columns]
    return to_markdown(header, table.to_numpy().tolist())


def _say_missing(what: str, command: str) -> str:
    told = " ".join(command.replace("\\\n", " ").split())
    return f"{what}: not measured yet; `{told}` does it."


def describe_card(results: Path = RESULTS) -> str | None:
    """Return the model card of the reference network; None before it is trained and tested."""
    run = RunFolder(results / REFERENCE)
    if not run.file("metrics.json").exists():
        return None
    grouped = results / CROSS_VALIDATION / "grouped"
    if not _is_begun(grouped):
        return describe_model(run)
    return describe_model(run, summarise_folds(read_folds(grouped)), extent=_tell_folds(grouped))


REFERENCE_BLOCKS: dict[str, Callable[[], str]] = {
    "reference": describe_reference,
    "targets": describe_targets,
    "crossvalidation": describe_cross_validation,
    "leakage": describe_leakage,
}
"""The blocks of README.md that are written here."""
