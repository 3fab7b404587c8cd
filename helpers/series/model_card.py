"""The model card of the reference network, written from what its run has left behind."""

from collections.abc import Sequence

import pandas as pd

from helpers.data.maps import CHANNELS
from helpers.evaluation.comparison import say_interval, say_score
from helpers.evaluation.nuclei_scores import ERRORS, summarise_nuclei, tabulate_errors
from helpers.evaluation.scores import ALL, summarise_scores, summarise_training
from helpers.exploration.kinds import KINDS, say_kind
from helpers.network.facts import count_parameters
from helpers.own_images.scale import read_known_diameters
from helpers.run_folder import RunFolder
from helpers.settings import Postprocessing, Settings, load_settings

REFERENCE_COMMAND = """make run DATA=data/stage1_train.zip SETTINGS=settings/reference.json \\
  RUN=reference TEST_SET=data/stardist_test.zip LEFT_OUT=0b0d577159f0,866a8cba7bfe"""
"""What makes `results/reference`."""
KIND_SCORES = ("recall_70", "ap_50", "dice")
"""What the card tells of each kind of image."""
ERROR_WORDS = {
    "merged": "merged with a neighbour",
    "split": "split in pieces",
    "inaccurate": "outlined inaccurately",
    "missed": "missed",
}
"""What becomes of a true nucleus that is not found, in a reader's words."""
USE = """## What it is for

Finding, counting and outlining nuclei in two-dimensional microscopy images, in research and
teaching: fluorescence on a dark ground, and tissue in transmitted light, stained or gray. Look at
the overlays before you count on the numbers, and count some of your own images by hand.

**Not for** diagnosis or any other decision about patients; nor for volumes, cells or cytoplasm,
phase contrast, or images in which some nuclei are brighter than the ground and others darker."""
LICENCE = """## Licence

Code and weights: MIT. The images and masks that it was trained on: public domain (CC0)."""
LOADING = """## How to load it

On any Keras backend (`KERAS_BACKEND=tensorflow`, `torch` or `jax`), in the repository's root:

```python
from helpers.network.prediction import load_network

network = load_network("results/reference/network.keras")
labels = network.segment(image)  # (H, W) or (H, W, 3) in; (H, W) int32 out, 0 = background
```

The file holds its settings, preprocessing and thresholds. For a folder of images:

```bash
make predict IMAGES=path/to/images OUT=path/to/results RUN=reference
```"""


def describe_model(run: RunFolder, folds: pd.DataFrame | None = None, *, extent: str = "") -> str:
    """Return the model card of a trained and tested run, as Markdown.

    Parameters
    ----------
    run : RunFolder
        Has settings.json, split.csv, history.csv, metrics.csv and nuclei_scores.csv. More is told
        where it has network.keras, tuning.csv, training.json, split.json and sizes.csv.
    folds : DataFrame, optional
        Summary of a cross-validation with the same settings, in the columns of
        `helpers.evaluation.nuclei_scores.summarise_nuclei`. Without it each kind has the scores of
        the test images, if there are any.
    extent : str
        How many folds, and how long each was trained.

    Raises
    ------
    FileNotFoundError
        If a file is missing; the message names the notebook that makes it.
    """
    settings = load_settings(run.require("settings.json"))
    nuclei = run.read_csv("nuclei_scores.csv", dtype={"id": str})
    parts = [
        f"# Model card: the {run.path.name} network",
        _tell_network(run, settings),
        USE,
        _tell_data(run, nuclei),
        LICENCE,
        _tell_training(run, settings),
        _tell_kinds(run, nuclei, folds, extent),
        _tell_failures(run, nuclei),
        LOADING,
        _tell_remaking(settings),
    ]
    return "\n\n".join(parts) + "\n"


def _tell_network(run: RunFolder, settings: Settings) -> str:
    structure = settings.model_structure
    target = structure.output_params.target
    before, after = settings.preprocessing, _read_postprocessing(run, settings)
    n_parameters = f"{count_parameters(settings):,} parameters"
    file = run.file("network.keras")
    size = f", {file.stat().st_size / 1e6:.1f} MB" if file.exists() else ""
    normalised = structure.encoder_params.general_conv_params.normalisation
    convolutions = "" if normalised == "none" else f", {normalised} normalisation"
    tuned = "; tuned on validation images" if run.file("tuning.csv").exists() else ""
    return f"""A U-Net that answers where nuclei are and keeps touching ones apart, described by
[`settings.json`](settings.json) and trained from random weights.

| | |
|---|---|
| network | {len(structure.encoder_blocks)} encoder blocks{convolutions}, {n_parameters}{size} |
| target | `{target}`: the maps {", ".join(CHANNELS[target])} |
| input | images of any size, {structure.input_params.channels} channels; normalisation \
`{before.normalisation}`, polarity `{before.polarity}` |
| thresholds | nucleus from {after.threshold:g}{_tell_seeds(target, after)}, \
at least {after.min_area_px} pixels{_tell_confidence(after)}{tuned} |
| at prediction | {_tell_augmentation(after)} |
| seed | {settings.training.seed} |"""


def _tell_confidence(chosen: Postprocessing) -> str:
    if not chosen.min_confidence:
        return ""
    return f" of a mean probability of at least {chosen.min_confidence:g}"


def _read_postprocessing(run: RunFolder, settings: Settings) -> Postprocessing:
    """Return the thresholds that were stored with the network, or those of its settings file."""
    if not run.file("network.keras").exists():
        return settings.postprocessing
    from helpers.network.archives import read_settings  # Keras, so only where there is a network

    return read_settings(run.file("network.keras")).postprocessing


def _tell_seeds(target: str, after: Postprocessing) -> str:
    is_seeded = target in ("boundary", "distance")
    return f", seeds from {after.seed_threshold:g}" if is_seeded else ""


def _tell_augmentation(after: Postprocessing) -> str:
    return {
        "none": "every image once",
        "flips": "the mean over four orientations of the image",
        "scales": "the mean over the image as it is and its mirror image at 1.5 times the size",
    }[after.test_time_augmentation]


def _tell_data(run: RunFolder, nuclei: pd.DataFrame) -> str:
    split = run.read_csv("split.csv", dtype={"id": str})
    sides = split["split"].value_counts().to_dict()
    trained = split.loc[split["split"] == "train", "kind"].value_counts()
    kinds = [f"{trained[kind]} of {say_kind(kind)}" for kind in KINDS if kind in trained]
    kinds = kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} and {kinds[-1]}"
    return f"""## Data

`stage1_train` of the Data Science Bowl 2018
([BBBC038](https://bbbc.broadinstitute.org/BBBC038), CC0; Caicedo et al. 2019,
<https://doi.org/10.1038/s41592-019-0612-7>) with community-corrected masks.

- Training: {sides.get("train", 0)} images, {kinds}.
- Validation, and thresholds: {sides.get("validation", 0)} images of other fields of view.
- Test: {len(nuclei)} images of StarDist's test set ({nuclei["group"].nunique()} fields of view, \
{nuclei["n_true"].sum():,} nuclei).
- Left out: {_tell_left_out(run, sides.get("left out", 0))}"""


def _tell_left_out(run: RunFolder, n_left_out: int) -> str:
    if not n_left_out:
        return "no image."
    told = f"{n_left_out} images, parts of the same fields of view as test images"
    file = run.file("split.json")
    named = run.read_json("split.json").get("left_out") if file.exists() else None
    return f"{told} ({' and '.join(named)}: by the published mosaics)." if named else f"{told}."


def _tell_training(run: RunFolder, settings: Settings) -> str:
    training, trained = settings.training, summarise_training(run)
    size = settings.model_structure.input_params
    steps = f"{training.steps_per_epoch} steps" if training.steps_per_epoch else "all images"
    restarts = " and ".join(str(each) for each in training.learning_rate_restarts)
    anew = f", begun anew after {restarts} epochs" if restarts else ""
    return f"""## How it was trained

{trained["epochs"]} epochs of {steps}, {training.batch_size} crops of {size.height} × {size.width} \
pixels a step: {_tell_duration(trained["seconds"])}.
{trained["device"]}. Loss `{training.loss}`, Adam with a learning rate of \
{training.learning_rate:g} ({training.learning_rate_schedule}{anew}).
[`history.csv`](history.csv) has every epoch."""


def _tell_duration(seconds: float) -> str:
    """Return a duration in words.

    Examples
    --------
    >>> _tell_duration(2400), _tell_duration(9000)
    ('40 minutes', '2.5 hours')
    """
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.0f} minutes"


def _tell_kinds(
    run: RunFolder, nuclei: pd.DataFrame, folds: pd.DataFrame | None, extent: str
) -> str:
    tested = _summarise_test(run, nuclei)
    shown = tested if folds is None else folds
    absent = [say_kind(kind) for kind in KINDS if not (shown["kind"] == kind).any()]
    source = (
        "On the test images"
        if folds is None
        else f"By cross-validation over fields of view ({extent}),\nwith networks of the same \
settings but for their training's length, which had not seen the field that they\nwere asked about"
    )
    missing = f"\n\nNothing is known about {' and '.join(absent)}." if absent else ""
    test = tested[tested["kind"] == ALL].set_index("score").loc[[*KIND_SCORES, "ap_70", "ap_90"]]
    numbers = [
        f"{say_score(row.Index)} {say_interval(row.estimate, row.low, row.high)}"
        for row in test.itertuples()
    ]
    return f"""## How well it does

{source} (95 % intervals over fields of view; recall: share of the true nuclei
that have a partner of at least that IoU; AP: TP/(TP+FP+FN); Dice of the foreground):

{_tabulate_kinds(shown)}{missing}

On all test images: {", ".join(numbers)}."""


def _summarise_test(run: RunFolder, nuclei: pd.DataFrame) -> pd.DataFrame:
    foreground = run.read_csv("metrics.csv", dtype={"id": str})
    return pd.concat(
        [summarise_nuclei(nuclei), summarise_scores(foreground, ("dice",))], ignore_index=True
    )


def _tabulate_kinds(summary: pd.DataFrame) -> str:
    header = ["kind", "images (fields of view)", "nuclei", *map(say_score, KIND_SCORES)]
    rows = []
    for kind in [kind for kind in KINDS if (summary["kind"] == kind).any()]:
        found = summary[summary["kind"] == kind].set_index("score")
        size = found.loc[KIND_SCORES[0]]
        cells = [_tell_score(found, score) for score in KIND_SCORES]
        counts = [f"{size['n_images']:.0f} ({size['n_fields']:.0f})", f"{size['n_nuclei']:,.0f}"]
        rows.append([say_kind(kind), *counts, *cells])
    return to_markdown(header, rows)


def _tell_score(found: pd.DataFrame, score: str) -> str:
    return say_interval(*found.loc[score, ["estimate", "low", "high"]])


def to_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table.

    Examples
    --------
    >>> print(to_markdown(["kind", "AP"], [["small", ".9"]]))
    | kind | AP |
    |---|---|
    | small | .9 |
    """
    lines = [header, *rows]
    told = [f"| {' | '.join(map(str, line))} |" for line in lines]
    return "\n".join([told[0], "|" + "---|" * len(header), *told[1:]])


def _tell_failures(run: RunFolder, nuclei: pd.DataFrame) -> str:
    errors = tabulate_errors(nuclei)
    every = errors[errors["kind"] == ALL].iloc[0]
    ranked = sorted(ERROR_WORDS, key=lambda error: -every[error])
    lost = ", ".join(f"{every[error]:.1f} were {ERROR_WORDS[error]}" for error in ranked)
    rows = [
        [say_kind(row["kind"]), f"{row['n_true']:,}", *(f"{row[error]:.1f}" for error in ERRORS)]
        for row in errors[errors["n_true"] > 0].to_dict("records")
    ]
    parts = [
        f"## Where it fails\n\nOf 100 true nuclei of the test images {lost}; \
{every['spurious']:.1f} objects were spurious.\n{_tell_worst(nuclei)}",
        to_markdown(["errors per 100 nuclei", "nuclei", *ERRORS], rows),
        _tell_sizes(run),
        _tell_familiar(run),
    ]
    return "\n\n".join(part for part in parts if part)


def _tell_worst(nuclei: pd.DataFrame) -> str:
    lost = (nuclei["n_true"] - nuclei["tp_50"]).sort_values(ascending=False)
    if not lost.sum():
        return "None was lost."
    n_worst = int((lost.cumsum() < lost.sum() / 2).sum()) + 1
    images = "one image" if n_worst == 1 else f"{n_worst} images"
    return f"Half of all that were lost are in {images} of the {len(nuclei)}."


def _tell_sizes(run: RunFolder) -> str:
    """Return the share of the nuclei that is found, by their size, where it was measured."""
    if not run.file("sizes.csv").exists():
        return ""
    sizes = run.read_csv("sizes.csv")
    found = sizes[sizes["way"] == "found"]  # the size is not told, as with `make predict`
    rows = [
        [f"{row.diameter_px:g}", f"{row.n_nuclei:,} ({row.n_images})", *_tell_both(row)]
        for row in found.itertuples()
    ]
    header = ["median diameter, px", "nuclei (images)", "AP .50", "recall .70"]
    told = "Test images resized until their nuclei have another size, which is not told to it:"
    return f"{told}\n\n{to_markdown(header, rows)}"


def _tell_both(row) -> list[str]:
    return [
        say_interval(row.ap_50, row.ap_50_low, row.ap_50_high),
        say_interval(row.recall_70, row.recall_70_low, row.recall_70_high),
    ]


def _tell_familiar(run: RunFolder) -> str:
    low, high = read_known_diameters(run)
    return f"""It answers for every image, also for one unlike all that it knows. `make predict`
warns of images farther from the training images than those usually are from one another. It was
tested on images whose nuclei have a median diameter of {low:g} to {high:g} pixels; others are
resized, automatically or by `DIAMETER=`."""


def _tell_remaking(settings: Settings) -> str:
    return f"""## How it is made again

```bash
{REFERENCE_COMMAND}
```

Seed {settings.training.seed}. An interrupted training goes on with the same command. This page is
written by `python -m helpers.series.report`."""
