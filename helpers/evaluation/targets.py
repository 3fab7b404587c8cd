"""Networks that differ in their target alone: what each can express, and what each reaches."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.data.data_set import DataSet
from helpers.evaluation.nuclei import match_data_set, score_nuclei
from helpers.evaluation.tuning import tune_network
from helpers.network.prediction import Network, load_network
from helpers.run_folder import RunFolder
from helpers.settings import Postprocessing, Settings
from helpers.targets import get_target
from helpers.training.devices import Device
from helpers.training.loop import fingerprint, train


def count_contacts(labels: NDArray[np.integer]) -> int:
    """Return how many pairs of nuclei touch, side by side or one above the other.

    Examples
    --------
    >>> count_contacts(np.array([[1, 1, 2], [1, 2, 2], [0, 0, 3]]))
    2
    """
    pairs = [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]
    one, other = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    touching = (one != other) & (one > 0) & (other > 0)
    both = np.sort(np.stack([one[touching], other[touching]]), axis=0)
    return np.unique(both, axis=1).shape[1]


def score_ceiling(data: DataSet, known: pd.DataFrame, target: str) -> pd.DataFrame:
    """Return the scores of a network of that target that answers without a fault.

    The truth is made into maps and back into labels: what is lost on the way, no training finds.
    """

    def go_and_return(place: int) -> NDArray:
        maps = get_target(target).encode(data.labels[place])
        return get_target(target).decode(maps, Postprocessing())

    return score_nuclei(match_data_set(go_and_return, data, known))


def tabulate_precision(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return pooled AP at IoU .50, .70 and .90 and the errors of several networks, one row each."""
    rows = {}
    for name, table in tables.items():
        tp = {f"AP .{percent}": table[f"tp_{percent}"].sum() for percent in (50, 70, 90)}
        both = table["n_true"].sum() + table["n_pred"].sum()
        scores = {title: round(found / (both - found), 3) for title, found in tp.items()}
        errors = ["merged", "split", "inaccurate", "missed", "spurious"]
        rows[name] = scores | {"nuclei": table["n_true"].sum()} | table[errors].sum().to_dict()
    return pd.DataFrame(rows).T.astype({name: int for name in ("nuclei", *errors)})


def train_target(
    run: RunFolder,
    settings: Settings,
    target: str,
    split: Mapping[str, DataSet],
    device: Device,
) -> Network:
    """Return a network of that target, trained and tuned, or read if it is already there.

    Parameters
    ----------
    run : RunFolder
        Gets a folder `targets/<target>` with what a training leaves.
    settings : Settings
        Of every target alike; only `output_params.target` is changed, and no callback ends one
        training earlier than another.
    split : mapping of str to DataSet
        "train" is taught; the thresholds are tuned on "validation".
    """
    folder = RunFolder(run.path / "targets" / target)
    chosen = settings.without_callbacks().with_overrides({"target": target})
    taught = split["train"]
    key = fingerprint(taught.ids, ())
    if not folder.file("network.keras").exists():
        print(target, flush=True)
    train(folder, chosen, (taught.images, taught.labels), data_key=key, device=device)
    file = folder.require("network.keras")
    network = load_network(file, precision=device.precision)
    tune_network(folder, network, split["validation"])
    return network
