"""Train and test the folds of a cross-validation, one after the other, and resume."""

import argparse
import json
import sys
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.analysis.splits import SPLIT_NAMES
from helpers.data.data_set import DataSet, read_data_set
from helpers.evaluation.fold_plan import (
    SPLITS,
    FoldError,
    Plan,
    check_only,
    describe_images,
    plan_folds,
)
from helpers.evaluation.fold_scores import RESULT, SCORES, read_folds
from helpers.evaluation.masks import dice, iou
from helpers.evaluation.nuclei import match_data_set, score_nuclei
from helpers.evaluation.tuning import tune_network
from helpers.network.prediction import Network, load_network
from helpers.run_folder import RunFolder
from helpers.settings import load_settings
from helpers.training.devices import Device, choose_device
from helpers.training.loop import (
    CHECKPOINT,
    TrainingError,
    fingerprint,
    train,
)

PLAN = "plan.json"
"""In a fold's folder from its start to its end; holds what the fold is made with."""
MASK_THRESHOLD = 0.5
"""Of the foreground's scores, the same for all folds: a tuned one would be part of what differs."""
FINE, NOTHING_STARTED, STOPPED = 0, 2, 130
"""Exit codes."""


def run_folds(plan: Plan, device: Device, only: Collection[int] = ()) -> pd.DataFrame:
    """Return the scores of all images of the finished folds; train what is not yet trained.

    Parameters
    ----------
    plan : Plan
        From `helpers.evaluation.fold_plan.plan_folds`. A finished fold is read, an interrupted
        one goes on.
    device : Device
        See `helpers.training.devices.choose_device`.
    only : collection of int
        Folds to run, from 1; none means all.

    Raises
    ------
    FoldError
        If `only` names a fold that there is not, or the folder holds folds of another plan.
    """
    n_folds = plan.about["n_folds"]
    check_only(only, n_folds)
    _refuse_others(plan)
    for fold in sorted(set(only) or range(1, n_folds + 1)):
        table, result = run_fold(plan, fold, device)
        print(_say(table, result), flush=True)
    return read_folds(plan.run.path)


def run_fold(plan: Plan, fold: int, device: Device) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the scores of one fold's images, and what `fold.json` says of it."""
    run = plan.folder(fold)
    if not run.file(RESULT).exists():
        sides = plan.sides(fold)
        sizes = {f"n_{side}": int((sides == side).sum()) for side in SPLIT_NAMES}
        told = ", ".join(f"{n} {name.removeprefix('n_')}" for name, n in sizes.items())
        print(f"{plan.about['split']}, fold {fold} of {plan.about['n_folds']}: {told}", flush=True)
        about = {"fold": fold, **plan.about, **sizes, "key": plan.key}
        run.write_json(PLAN, about)
        network, seconds = _train(plan, run, sides, device)
        table = score_fold(network, plan.data, plan.known, sides)
        run.write_csv(SCORES, table.round(4))
        chosen = network.settings.postprocessing.model_dump(mode="json")
        run.write_json(RESULT, about | {"postprocessing": chosen, "seconds": seconds})
    for name in (PLAN, CHECKPOINT):  # not needed any more
        run.file(name).unlink(missing_ok=True)
    return run.read_csv(SCORES, dtype={"id": str}), run.read_json(RESULT)


def _train(
    plan: Plan, run: RunFolder, sides: NDArray[np.str_], device: Device
) -> tuple[Network, float]:
    """Return the network of a fold, trained and tuned, and the seconds that its epochs took."""
    taught, validation = (plan.data.select(sides == side) for side in ("train", "validation"))
    history = train(
        run,
        plan.settings,
        (taught.images, taught.labels),
        (validation.images, validation.labels) if len(validation) else None,
        data_key=fingerprint(taught.ids, validation.ids),
        device=device,
    )
    network = load_network(run.require("network.keras"), precision=device.precision)
    if len(validation) and not network.target.is_mask:
        tune_network(run, network, validation)
    return network, round(float(history["seconds"].sum()), 1)


def score_fold(
    network: Network, data: DataSet, known: pd.DataFrame, sides: NDArray[np.str_]
) -> pd.DataFrame:
    """Return the scores of the images on the test side; each is segmented once.

    Parameters
    ----------
    network : Network
        Trained on the training side.
    known : DataFrame
        id, modality and group (field of view) of every image of `data`.
    sides : (n,) array of "train", "validation" or "test"

    Returns
    -------
    DataFrame
        The columns of `score_nuclei`; dice and iou of the foreground, 0 to 1: all pixels of the
        true nuclei against all that are nucleus with a probability of at least `MASK_THRESHOLD`,
        before any nucleus is made or dropped; and has_sibling, bool: whether the network was taught
        an image of the same field of view. One that only the thresholds were tuned on does not
        count.
    """
    test = data.select(sides == "test")
    foreground = {}

    def segment(place: int) -> NDArray[np.int32]:
        maps = network.predict_maps(test.images[place])
        mask = network.target.foreground(maps) >= MASK_THRESHOLD
        masks = test.labels[place] > 0, mask
        foreground[test.ids[place]] = {"dice": dice(*masks), "iou": iou(*masks)}
        return network.target.decode(maps, network.settings.postprocessing)

    table = score_nuclei(match_data_set(segment, test, known))
    fields_taught = known["group"].to_numpy()[sides == "train"]
    scores = pd.DataFrame([foreground[name] for name in table["id"]])
    return table.join(scores).assign(has_sibling=table["group"].isin(fields_taught))


def _refuse_others(plan: Plan) -> None:
    """Raise if a fold in the folder, finished or begun, was made with another plan."""
    files = [file for name in (RESULT, PLAN) for file in plan.run.path.glob(f"fold_*/{name}")]
    for file in sorted(files):
        found = json.loads(file.read_text(encoding="utf-8"))
        if found.get("key") == plan.key:
            continue
        differing = [
            f"{name} {found.get(name)!r} (now {asked!r})"
            for name, asked in plan.about.items()
            if found.get(name) != asked
        ]
        raise FoldError(
            f"{plan.run} holds folds made with {', '.join(differing) or 'other settings or images'}"
            "; give another --output, or delete that folder to begin anew"
        )


def _say(table: pd.DataFrame, result: dict[str, Any]) -> str:
    means = " · ".join(f"{name} {table[name].mean():.3f}" for name in ("dice", "iou"))
    tp, nuclei = table[["tp_50", "tp_70"]].sum(), table[["n_true", "n_pred"]].sum()
    ap = tp["tp_50"] / max(nuclei.sum() - tp["tp_50"], 1)
    recall = tp["tp_70"] / max(nuclei["n_true"], 1)
    return (
        f"{result['split']}, fold {result['fold']} of {result['n_folds']} done: {means} · "
        f"AP .50 {ap:.3f} · recall .70 {recall:.3f} · {len(table)} images, "
        f"{table['has_sibling'].sum()} with a sibling in training · {result['seconds']:.0f} s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 all fine, 2 nothing could start or go on, 130 stopped by Ctrl-C."""
    options = _read_arguments(arguments)
    try:
        table = _run(options)
    except (OSError, ValueError, TrainingError) as reason:
        print(reason, file=sys.stderr)
        return NOTHING_STARTED
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on after the last epoch", file=sys.stderr)
        return STOPPED
    n_finished = table["fold"].nunique()
    print(f"{n_finished} of {options.folds} folds finished, {len(table)} images tested")
    return FINE


def _run(options: argparse.Namespace) -> pd.DataFrame:
    check_only(options.only, options.folds)  # before the data, which take a while to read
    run = RunFolder(options.output)
    settings = load_settings(options.settings).with_training(
        seed=options.seed, epoch_num=options.epochs, steps_per_epoch=options.steps
    )
    data = read_data_set(options.data).labelled
    plan = plan_folds(
        run, settings, data, describe_images(data), options.split, options.folds,
        settings_file=options.settings,
    )  # fmt: skip
    device = choose_device(settings)
    print(device, flush=True)
    return run_folds(plan, device, options.only)


def _read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.evaluation.folds",
        description="Trains a network a fold and tests it on the images that it has not seen.",
        epilog="Exit code: 0 all fine, 2 nothing could start or go on, 130 stopped. "
        "Give the same command again to go on.",
    )
    parser.add_argument("--data", required=True, help='folder, zip, or "sample"')
    parser.add_argument("--settings", required=True, help="settings file")
    parser.add_argument("--output", required=True, help="a folder under results/")
    parser.add_argument("--split", required=True, choices=SPLITS, help="what a fold is made of")
    parser.add_argument("--folds", type=int, default=5, help="how many folds (%(default)s)")
    parser.add_argument(
        "--only", type=_read_folds_wanted, default=(), metavar="1,3", help="run only these folds"
    )
    parser.add_argument("--epochs", type=int, help="instead of the settings file's")
    parser.add_argument("--steps", type=int, help="steps an epoch, likewise")
    parser.add_argument("--seed", type=int, help="of folds and training, likewise")
    return parser.parse_args(arguments)


def _read_folds_wanted(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be numbers of folds with commas between, such as 1,3"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
