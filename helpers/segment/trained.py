"""The network of a run, with what is known about it: ready for images from anywhere."""

import hashlib
from typing import NamedTuple

from helpers.analysis.out_of_distribution import Familiarity, read_familiarity
from helpers.network.prediction import Network, load_network
from helpers.network.saving import read_settings
from helpers.run_folder import RunFolder
from helpers.segment.scale import read_known_diameters
from helpers.training.devices import Device, choose_device


class Trained(NamedTuple):
    """A network and what a run knows about it."""

    network: Network
    device: Device
    familiarity: Familiarity | None  # None where the run did not keep it
    known_px: tuple[float, float]  # median diameters of nuclei that it was tested on
    fingerprint: str  # the same for the same file


def load_trained(run: RunFolder) -> Trained:
    """Return the network of a run, on the device and in the precision that suit it best.

    Raises
    ------
    FileNotFoundError, ValueError
        If the run has no network, or a file of it is damaged.
    """
    file = run.require("network.keras")
    device = choose_device(read_settings(file))
    network = load_network(file, precision=device.precision)
    kept = run.file("out_of_distribution.json")
    familiarity = read_familiarity(kept) if kept.exists() else None
    fingerprint = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return Trained(network, device, familiarity, read_known_diameters(run), fingerprint)
