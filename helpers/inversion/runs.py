"""Run the arms of the experiment, one after the other, each with several seeds, and resume."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.data.data_set import DataSet
from helpers.evaluation.masks import iou
from helpers.evaluation.scores import evaluate
from helpers.inversion.findings import mark_inverted
from helpers.inversion.original_arithmetic import ViewedNetwork, mirrored_validation
from helpers.inversion.variants import Arm
from helpers.network.prediction import Network, load_network
from helpers.run_folder import RunFolder
from helpers.settings import Settings
from helpers.training.batches import ORIENTATIONS
from helpers.training.devices import Device
from helpers.training.loop import fingerprint, train

RESULT = "images.csv"


class ExperimentError(ValueError):
    """An experiment that cannot go on with what it finds."""


def run_experiment(
    run: RunFolder,
    settings: Settings,
    data: DataSet,
    known: pd.DataFrame,
    arms: Iterable[Arm],
    seeds: Sequence[int],
    device: Device,
) -> pd.DataFrame:
    """Return the scores of every test image, by arm, view and seed; train what is not yet trained.

    Parameters
    ----------
    run : RunFolder
        Each arm and seed has a folder in it. What is finished there is read, what was interrupted
        goes on with its last epoch.
    settings : Settings
        What all arms share; each makes its one change.
    data : DataSet
        Labelled images.
    known : DataFrame
        One row an image of `data`: id, modality, group and split, as a run's `split.csv`.
    arms, seeds
        Every arm is trained once with every seed.
    device : Device
        See `helpers.training.devices.choose_device`.

    Returns
    -------
    DataFrame
        One row an arm, view, seed and test image, with the columns of `evaluate` and those of
        `mark_inverted`.

    Raises
    ------
    ExperimentError
        If a finished trial was made with other settings or another split.
    """
    tables = []
    for arm in arms:
        for seed in seeds:
            trial = RunFolder(run.path / arm.name / f"seed_{seed}")
            chosen = arm.settings(settings.with_training(seed=seed))
            key = _key(chosen, known)
            if not trial.file(RESULT).exists():
                print(f"{arm.name}, seed {seed}", flush=True)
                trial.write_json("trial.json", {"key": key, "device": str(device)})
                trial.write_csv(RESULT, run_trial(trial, chosen, data, known, arm, device))
            _check_key(trial, key)
            table = trial.read_csv(RESULT, dtype={"id": str})
            tables.append(table.assign(arm=arm.name, seed=seed))
    return mark_inverted(pd.concat(tables, ignore_index=True))


def read_experiment(run: RunFolder) -> pd.DataFrame:
    """Return what `run_experiment` returned, of every trial that is finished in `run`.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    files = sorted(run.path.glob(f"*/seed_*/{RESULT}"))
    if not files:
        raise FileNotFoundError(f"{run} holds no finished trial; execute notebook 06 with this run")
    tables = []
    for file in files:
        arm, seed = file.parts[-3], int(file.parts[-2].removeprefix("seed_"))
        tables.append(pd.read_csv(file, dtype={"id": str}).assign(arm=arm, seed=seed))
    return mark_inverted(pd.concat(tables, ignore_index=True))


def run_trial(
    trial: RunFolder,
    settings: Settings,
    data: DataSet,
    known: pd.DataFrame,
    arm: Arm,
    device: Device,
) -> pd.DataFrame:
    """Return the scores of every test image and view of one arm, trained with one seed.

    Images of a modality that the arm is not trained on are all new to it, and all tested.
    """
    side, modality = (
        known.set_index("id")[c].loc[data.ids].to_numpy() for c in ("split", "modality")
    )
    is_known = np.isin(modality, arm.kinds)
    taught = data.select((side == "train") & is_known)
    if not len(taught):
        raise ExperimentError(
            f"arm {arm.name!r}: no training image is of the modalities {', '.join(arm.kinds)}; "
            "leave this arm out, or split with another seed"
        )
    images = [arm.prepare(image) if arm.prepare else image for image in taught.images]
    train(
        trial, settings, (images, taught.labels), data_key=fingerprint(taught.ids, ()),
        device=device,
    )  # fmt: skip
    network = load_network(trial.require("network.keras"), precision=device.precision)
    test = data.select((side == "test") | ~is_known)
    views = {
        name: evaluate(ViewedNetwork(network, view), test, known).table
        for name, view in arm.views.items()
    }
    return pd.concat(views, names=["view"]).reset_index("view").reset_index(drop=True)


def validate_as_original(network: Network, taught: DataSet, ratio: float) -> NDArray[np.float64]:
    """Return the IoU of every item that the original program would call validation, 0 to 1.

    Parameters
    ----------
    network : Network
        Trained on `taught`.
    taught : DataSet
        Its training images, labelled.
    ratio : float
        `validation_split_ratio`; see `original_arithmetic.mirrored_validation`.
    """
    ious = []
    for place, orientation in mirrored_validation(len(taught), ratio):
        down, right = ORIENTATIONS[orientation]
        mask = network.predict(taught.images[place][::down, ::right]) >= 0.5
        ious.append(iou(taught.labels[place][::down, ::right] > 0, mask))
    return np.array(ious)


def _key(settings: Settings, known: pd.DataFrame) -> str:
    # Only what differs from a default: keys that later versions of the format add keep their
    # meaning under it, and a finished trial stays what it was.
    left_out = {"data_set_location", "schema_location", "postprocessing"}
    values = settings.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
    text = repr(values) + known[["id", "split"]].to_csv(index=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_key(trial: RunFolder, key: str) -> None:
    if trial.read_json("trial.json")["key"] != key:
        raise ExperimentError(
            f"{trial} was made with other settings or another split; give another run, or delete "
            "its folder to train it anew"
        )
