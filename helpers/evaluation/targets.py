"""Networks that differ in their target alone, for notebook 07."""

from collections.abc import Mapping

from helpers.data.data_set import DataSet
from helpers.evaluation.tuning import tune_network
from helpers.network.prediction import Network, load_network
from helpers.run_folder import RunFolder
from helpers.settings import Settings
from helpers.training.devices import Device
from helpers.training.loop import train


def train_target(
    run: RunFolder,
    settings: Settings,
    target: str,
    split: Mapping[str, DataSet],
    device: Device,
) -> Network:
    """Return a network of that target, trained and tuned, or read if it is already there.

    `run` gets a folder `targets/<target>` with what a training leaves. `settings` are the same for
    every target; no callback ends one training earlier than another. The images "train" of `split`
    are trained on; the thresholds are tuned on "validation", if it has images.
    """
    folder = RunFolder(run.path / "targets" / target)
    chosen = settings.without_callbacks().with_overrides({"target": target})
    images, validation = split["train"], split["validation"]
    if not folder.file("network.keras").exists():
        print(target, flush=True)
    train(folder, chosen, (images.images, images.labels), device=device)
    network = load_network(folder.require("network.keras"), precision=device.precision)
    if len(validation):
        tune_network(folder, network, validation)
    return network
