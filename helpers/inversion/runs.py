"""Train the variants of the experiment, each with several seeds; resume what was interrupted."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from helpers.data.data_set import DataSet
from helpers.evaluation.masks import evaluate
from helpers.inversion.findings import mark_failures
from helpers.inversion.original_arithmetic import ViewedNetwork
from helpers.inversion.variants import Variant
from helpers.network.prediction import load_network
from helpers.run_folder import RunFolder
from helpers.settings import Settings
from helpers.training.devices import Device
from helpers.training.loop import train

RESULT = "images.csv"


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
            _check_key(folder, key)
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
    prepare = variant.prepare or np.asarray
    train(
        folder, settings, ([prepare(image) for image in taught.images], taught.labels),
        device=device,
    )  # fmt: skip
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


def _check_key(folder: RunFolder, key: str) -> None:
    if folder.read_json("trial.json")["key"] != key:
        raise ExperimentError(
            f"{folder} was made with other settings or another split; give another run, or delete "
            "its folder to train it again"
        )
