"""Train the variants of the experiment, resume what was interrupted, and say how masks fail."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from helpers.analysis.modality import MODALITIES
from helpers.data.data_set import DataSet
from helpers.evaluation.masks import evaluate
from helpers.evaluation.summary import bootstrap_interval
from helpers.inversion.variants import VARIANTS, Variant, ViewedNetwork
from helpers.network.prediction import load_network
from helpers.run_folder import RunFolder
from helpers.settings import Settings
from helpers.training.devices import Device
from helpers.training.loop import train

RESULT = "images.csv"
MEASURES = (
    *("iou", "recall", "fraction_true", "fraction_pred", "ground_marked"),
    *("flooded", "reversed"),
)


class ExperimentError(ValueError):
    """An experiment that cannot continue with what it finds."""


def run_variants(
    run: RunFolder,
    settings: Settings,
    data: DataSet,
    known: pd.DataFrame,
    variants: Iterable[Variant],
    seeds: Sequence[int],
    device: Device,
) -> pd.DataFrame:
    """Return the scores of every test image, by variant, view and seed; train what is missing.

    Parameters
    ----------
    run : RunFolder
        Each variant and seed has a folder in it. What is finished there is read, what was
        interrupted resumes after its last epoch.
    settings : Settings
        What all variants share; each makes its one change.
    data : DataSet
        Labelled images.
    known : DataFrame
        One row an image of `data`: id, modality, group and split, as a run's `split.csv`.
    variants, seeds
        Every variant is trained once with every seed, unless no image is of its modalities.

    Returns
    -------
    DataFrame
        One row a variant, view, seed and test image, with the columns of `evaluate` and those of
        `mark_failures`. Images of a modality that a variant is not trained on are all tested.

    Raises
    ------
    ExperimentError
        If a finished training was made with other settings or another split, or nothing can be
        trained.
    """
    tables = []
    for variant in variants:
        if not _taught(known, variant).any():
            print(f"{variant.name}: no training image is of its modalities; left out")
            continue
        for seed in seeds:
            folder = RunFolder(run.path / variant.name / f"seed_{seed}")
            chosen = variant.settings(settings.with_training(seed=seed))
            key = _key(chosen, known)
            if not folder.file(RESULT).exists():
                print(f"{variant.name}, seed {seed}", flush=True)
                folder.write_json("trial.json", {"key": key, "device": str(device)})
                folder.write_csv(RESULT, _run_one(folder, chosen, data, known, variant, device))
            if folder.read_json("trial.json")["key"] != key:
                raise ExperimentError(
                    f"{folder} was made with other settings or another split; give another run, or "
                    "delete its folder to train it again"
                )
            table = folder.read_csv(RESULT, dtype={"id": str})
            tables.append(table.assign(variant=variant.name, seed=seed))
    if not tables:
        raise ExperimentError("no variant is left; name one whose modalities this data set has")
    return mark_failures(pd.concat(tables, ignore_index=True))


def _taught(known: pd.DataFrame, variant: Variant) -> pd.Series:
    """Return which images `variant` is trained on."""
    return (known["split"] == "train") & known["modality"].isin(variant.modalities)


def _run_one(
    folder: RunFolder,
    settings: Settings,
    data: DataSet,
    known: pd.DataFrame,
    variant: Variant,
    device: Device,
) -> pd.DataFrame:
    """Return the scores of every test image and view of one variant, trained with one seed."""
    listed = known.set_index("id").loc[data.ids].reset_index()
    taught = data.select(_taught(listed, variant).to_numpy())
    prepared = [variant.prepare(image) for image in taught.images]
    train(folder, settings, (prepared, taught.labels), device=device)
    network = load_network(folder.require("network.keras"), precision=device.precision)
    is_new = (listed["split"] == "test") | ~listed["modality"].isin(variant.modalities)
    test = data.select(is_new.to_numpy())
    tables = [
        evaluate(ViewedNetwork(network, view), test, known).table.assign(view=name)
        for name, view in variant.views.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[["view", *table.columns.drop("view")]]


def _key(settings: Settings, known: pd.DataFrame) -> str:
    # Only what differs from a default: keys that later versions of the format add keep their
    # meaning under it, and a finished training stays what it was.
    left_out = {"data_set_location", "schema_location", "postprocessing"}
    values = settings.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
    text = repr(values) + known[["id", "split"]].to_csv(index=False)
    return hashlib.sha256(text.encode()).hexdigest()


def mark_failures(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` with the columns ground_marked (0 to 1), flooded and reversed (bool).

    `ground_marked` is the share of the true background that is marked as nucleus; `recall` is the
    share of the nuclei's pixels that is marked. Where more than half of the background is marked,
    a mask has failed in one of two ways:

    - *flooded*: at least half of the nuclei is marked too, so the mask covers nearly everything;
    - *reversed*: less than half of the nuclei is marked, so background and nuclei are exchanged.

    No mask is both; one that marks little of the background is neither. In an image without nuclei
    a mask can only be flooded. `table` has recall, fraction_true and fraction_pred, as
    `helpers.evaluation.masks.evaluate` gives them.

    Examples
    --------
    >>> scores = {"recall": [1.0, 0.1, 0.5], "fraction_true": 0.5, "fraction_pred": [1.0, 0.5, 0.3]}
    >>> mark_failures(pd.DataFrame(scores))[["flooded", "reversed"]].to_numpy().tolist()
    [[True, False], [False, True], [False, False]]
    """
    has_nuclei = table["fraction_true"] > 0
    found = (table["recall"] * table["fraction_true"]).where(has_nuclei, 0.0)
    ground = 1 - table["fraction_true"]
    marked = ((table["fraction_pred"] - found) / ground).where(ground > 0, 0.0).clip(0, 1)
    misses = has_nuclei & (table["recall"] < 0.5)
    most = marked > 0.5
    return table.assign(ground_marked=marked, flooded=most & ~misses, reversed=most & misses)


def read_variants(run: RunFolder) -> pd.DataFrame:
    """Return the scores of every training that is finished in `run`, as `run_variants` does.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    files = sorted(run.path.glob("*/seed_*/images.csv"))
    if not files:
        raise FileNotFoundError(f"{run} holds no finished variant; run notebook 06 with this run")
    tables = []
    for file in files:
        variant, seed = file.parts[-3], int(file.parts[-2].removeprefix("seed_"))
        tables.append(pd.read_csv(file, dtype={"id": str}).assign(variant=variant, seed=seed))
    table = pd.concat(tables, ignore_index=True)
    order = {name: place for place, name in enumerate(VARIANTS)}
    table = table.sort_values("variant", key=lambda names: names.map(order), kind="stable")
    return mark_failures(table.reset_index(drop=True))


def summarise_variants(table: pd.DataFrame) -> pd.DataFrame:
    """Return each measure by variant, view and modality, with its interval and spread over seeds.

    `table` is as `run_variants` returns it; the seeds of an image are averaged before the bootstrap
    over fields of view. One row a variant, view, modality and measure (those of `MEASURES`; all 0
    to 1): estimate, low and high (95 %; NaN where there is one field), n_images, n_fields, seed_low
    and seed_high (smallest and largest mean of one seed), n_seeds.
    """
    rows = []
    for (variant, view), scores in table.groupby(["variant", "view"], sort=False):
        for modality, part in _by_modality(scores):
            images = part.groupby("id").agg({"group": "first", **dict.fromkeys(MEASURES, "mean")})
            by_seed = part.groupby("seed")[list(MEASURES)].mean()
            for measure in MEASURES:
                about = {"variant": variant, "view": view, "modality": modality, "measure": measure}
                spread = {"seed_low": by_seed[measure].min(), "seed_high": by_seed[measure].max()}
                numbers = _interval(images[measure], images["group"])
                rows.append(about | numbers | spread | {"n_seeds": len(by_seed)})
    return pd.DataFrame(rows)


def _by_modality(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the modalities that occur, in their order, and their rows."""
    for modality in MODALITIES:
        part = table[table["modality"] == modality]
        if len(part):
            yield modality, part


def compare_variants(table: pd.DataFrame) -> pd.DataFrame:
    """Return by how much the IoU of each variant exceeds that of the one that it differs from.

    `table` is as `run_variants` returns it; the view "ours" of each variant is compared, on images
    of which both are there. One row a variant and modality: variant, differs_from, modality;
    estimate of the difference, low, high (95 %, over fields of view; NaN with one field), n_images
    and n_fields.
    """
    ours = table[table["view"] == "ours"]
    means = ours.groupby(["variant", "modality", "group", "id"])["iou"].mean()
    present = list(dict.fromkeys(ours["variant"]))
    rows = []
    for name in present:
        other = VARIANTS[name].differs_from
        if other not in present:
            continue
        difference = (means[name] - means[other]).dropna().reset_index()
        for modality, part in _by_modality(difference):
            about = {"variant": name, "differs_from": other, "modality": modality}
            rows.append(about | _interval(part["iou"], part["group"]))
    return pd.DataFrame(rows)


def _interval(values: pd.Series, fields: pd.Series) -> dict:
    """Return mean, interval over fields of view (NaN for a single one) and counts."""
    found = bootstrap_interval(values.astype(float), fields)
    numbers = {"estimate": found.estimate, "low": found.low, "high": found.high}
    return numbers | {"n_images": len(values), "n_fields": fields.nunique()}
