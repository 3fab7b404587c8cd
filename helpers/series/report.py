"""The parts of README.md that repeat what stands elsewhere: `python -m helpers.series.report`.

Tables of notebooks, modules and results are written from the notebooks, the modules and the files
under `results/` and `benchmarks/results/`, so that a number lives once.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from helpers.evaluation.comparison import say_interval, say_share
from helpers.experiment.arms import ARMS, STEPS
from helpers.experiment.findings import mark_inverted
from helpers.exploration.kinds import KINDS, say_kind
from helpers.paths import ROOT
from helpers.series.parameters import find_notebooks
from helpers.series.report_reference import REFERENCE_BLOCKS, describe_card

PACKAGE = ROOT / "helpers"
README = ROOT / "README.md"
MODEL_CARD = ROOT / "results" / "reference" / "README.md"
PUBLISHED_RUN = ROOT / "results" / "original"
DEFAULT_RUN = ROOT / "results" / "default"
EXPERIMENT = ROOT / "results" / "inversion"
NO_TISSUE, SETTLED, BLACKENED = (
    "without_tissue",
    "dark_ground_without_tissue",
    "black_ground_without_tissue",
)
BENCHMARKS = ROOT / "benchmarks" / "results"
LAYERS = {
    "": ("paths", "run_folder", "structure", "settings"),
    "data": (
        "labels", "maps", "reading", "png16", "faults", "layout", "image_files", "cache", "sample",
        "data_set", "download",
    ),
    "exploration": (
        "kinds", "seams", "splits", "fields", "describe", "kinds_compared", "failures",
        "familiarity", "audit",
    ),
    "network": (
        "preprocessing", "losses", "unet", "facts", "archives", "decoding", "prediction",
    ),
    "training": ("batches", "devices", "loop", "by_heart"),
    "evaluation": (
        "metrics", "masks", "scores", "baseline", "invariance", "instances", "nuclei_scores",
        "matching", "comparison", "tuning",
    ),
    "experiment": (
        "original_arithmetic", "arms", "findings", "trials", "targets", "fold_plan", "fold_scores",
        "folds",
    ),
    "figures": (
        "common", "data", "audit", "network", "training", "evaluation", "experiment", "maps",
        "nuclei",
    ),
    "own_images": (
        "files", "any_image", "measure", "scale", "judge", "overlays", "outputs", "folder",
        "examples", "trained", "command",
    ),
    "series": (
        "session", "parameters", "runner", "refresh", "model_card", "report_reference", "report",
    ),
}  # fmt: skip
"""The package's folders and their modules; a module imports from its own folder or one above."""


def describe_notebooks() -> str:
    """Return a table of the notebooks: name and the question that each one asks."""
    rows = []
    for path in find_notebooks():
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "".join("".join(cells[0]["source"]))
        title = re.search(r"^# (.+)$", text, re.MULTILINE)[1]
        question = re.search(r"\*\*(.+?)\*\*", text, re.DOTALL)[1]
        rows.append(f"| [{title}](notebooks/{path.name}) | {' '.join(question.split())} |")
    return "\n".join(["| notebook | question |", "|---|---|", *rows])


def describe_modules() -> str:
    """Return a list of the package's folders and modules with the first line of each docstring."""
    lines = []
    for folder, modules in LAYERS.items():
        path = PACKAGE / folder
        lines.append(f"- **`helpers/{folder}`** {_summary(path / '__init__.py')}")
        lines += [f"  - `{module}`: {_summary(path / f'{module}.py')}" for module in modules]
    return "\n".join(lines)


def _summary(module: Path) -> str:
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    return " ".join(docstring.split("\n\n")[0].split())


def find_imports(source: str) -> set[str]:
    """Return which modules of the package a module's `source` imports, wherever it does so.

    Examples
    --------
    >>> sorted(find_imports("from helpers.paths import ROOT"))
    ['paths']
    >>> sorted(find_imports("from helpers.data import cache, layout"))
    ['data.cache', 'data.layout']
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "helpers":
            place = node.module.removeprefix("helpers").removeprefix(".")
            if place in LAYERS:
                found |= {f"{place}.{alias.name}".lstrip(".") for alias in node.names}
            else:
                found.add(place)
    return found - {"load_settings", "build_unet"}


def describe_results() -> str:
    """Return the published run's figures per kind of image, with their intervals."""
    metrics = json.loads((PUBLISHED_RUN / "metrics.json").read_text(encoding="utf-8"))
    kinds = [(kind, metrics["kinds"][kind]) for kind in KINDS if kind in metrics["kinds"]]
    lines = [
        "| test images | images (fields of view) | foreground Dice | foreground IoU |",
        "|---|---|---|---|",
    ]
    for kind, values in [*kinds, ("all", metrics["overall"])]:
        count = f"{values['n_images']} ({values['n_fields']})"
        name = say_kind(kind)
        lines.append(
            f"| {name} | {count} | {_interval(values['dice'])} | {_interval(values['iou'])} |"
        )
    return "\n".join(lines)


def describe_cure() -> str:
    """Return the default settings' figures per kind of image, and how much they hang on storage."""
    metrics = json.loads((DEFAULT_RUN / "metrics.json").read_text(encoding="utf-8"))
    inverted = mark_inverted(pd.read_csv(DEFAULT_RUN / "metrics.csv")).groupby("kind")["inverted"]
    agreement = pd.read_csv(DEFAULT_RUN / "invariance.csv")
    agreement = agreement.pivot_table("agreement", "kind", "variation")
    lines = [
        "| test images | images (fields of view) | foreground IoU | inverted "
        "| mask of the negative | mask in gray |",
        "|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        if kind in metrics["kinds"]:
            values, same = metrics["kinds"][kind], agreement.loc[kind]
            alike = (say_share(x, 2) if x == x else "" for x in (same["negative"], same["gray"]))
            lines.append(
                f"| {say_kind(kind)} | {values['n_images']} ({values['n_fields']}) "
                f"| {_interval(values['iou'])} | {inverted.sum()[kind]} | {' | '.join(alike)} |"
            )
    return "\n".join(lines)


def describe_inversion() -> str:
    """Return, step by step from the original's arithmetic to ours, what each kind's masks are."""
    table = pd.read_csv(EXPERIMENT / "experiment.csv")
    kinds = [kind for kind in KINDS if kind in set(table["kind"])]
    lines = [
        f"| each row repairs one thing more | {' | '.join(map(say_kind, kinds))} |",
        "|---" * (1 + len(kinds)) + "|",
    ]
    shown = STEPS | {
        f"(but {ARMS[NO_TISSUE].what})": (NO_TISSUE, "ours"),
        f"(and {ARMS[SETTLED].what})": (SETTLED, "ours"),
        f"(and {ARMS[BLACKENED].what})": (BLACKENED, "ours"),
    }
    for step, (arm, view) in shown.items():
        rows = table[(table["arm"] == arm) & (table["view"] == view)]
        values = rows.pivot_table(index="kind", columns="measure", values="estimate")
        cells = [_tell_masks(values, kind) for kind in kinds]
        lines.append(f"| {step} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _tell_masks(values: pd.DataFrame, kind: str) -> str:
    if kind not in values.index:
        return "not tested"
    return f"{say_share(values['iou'][kind], 2)} · {values['inverted'][kind]:.0%}"


def _interval(score: dict[str, float | None]) -> str:
    return say_interval(*(score[key] for key in ("estimate", "low", "high")))


def describe_speed() -> str:
    """Return throughput and reading times beside the original program's way."""
    speed = json.loads((BENCHMARKS / "speed.json").read_text(encoding="utf-8"))
    loader = json.loads((BENCHMARKS / "loader.json").read_text(encoding="utf-8"))
    lines = ["| | the original's way | ours | times as fast |", "|---|---|---|---|"]
    for row in speed["rows"]:
        before, after = row["original_images_per_s"], row["ours_images_per_s"]
        spread = f"{row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
        lines.append(f"| {row['what']}, images/s | {before} | {after} | {spread} |")
    for read in ("first", "second"):
        before, after = loader["original_s"], loader[f"{read}_s"]
        lines.append(
            f"| {read} read of {loader['n_images']} images and {loader['n_masks']:,} masks, s "
            f"| {before:.1f} | {after:.1f} | {before / after:.1f} |"
        )
    epoch = speed["epoch"]
    note = (
        f"{speed['machine']}. {speed['device']}. An epoch took {epoch['ratio']:.2f} times as long "
        f"as its bare steps. The original's reads were done with {loader['original_by']}."
    )
    return "\n".join([*lines, "", note])


BLOCKS: dict[str, Callable[[], str]] = {
    "notebooks": describe_notebooks,
    "modules": describe_modules,
    "results": describe_results,
    "cure": describe_cure,
    "inversion": describe_inversion,
    "speed": describe_speed,
    **REFERENCE_BLOCKS,
}


def fill(text: str) -> str:
    """Return `text` with every block between `<!-- begin: x -->` and `<!-- end: x -->` made anew.

    Raises
    ------
    ValueError
        If a block has no end, or there is no such block.
    """
    for name in re.findall(r"<!-- begin: (\S+) -->", text):
        pattern = rf"(<!-- begin: {name} -->\n).*?(<!-- end: {name} -->)"
        if name not in BLOCKS or not re.search(pattern, text, re.DOTALL):
            raise ValueError(f"block {name!r} must be one of {', '.join(BLOCKS)}, with an end mark")
        content = BLOCKS[name]()
        text = re.sub(pattern, lambda m, c=content: f"{m[1]}{c}\n{m[2]}", text, flags=re.DOTALL)
    return text


def main() -> None:
    """Write README.md's tables and the model card anew; --check only says if they are current."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.series.report", description=main.__doc__
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for file, text in make_texts().items():
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        if check:
            sys.exit(f"{file.relative_to(ROOT)} is not current; run `make readme`")
        file.write_text(text, encoding="utf-8")


def make_texts() -> dict[Path, str]:
    """Return the text that each file which this module writes should have."""
    card = describe_card()
    texts = {README: fill(README.read_text(encoding="utf-8"))}
    return texts if card is None else texts | {MODEL_CARD: card}


if __name__ == "__main__":
    main()
