"""The network of a run, ready for images from anywhere: `helpers.load_network`."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import keras
from numpy.typing import NDArray

from helpers.analysis.out_of_distribution import Familiarity, read_familiarity
from helpers.network import prediction
from helpers.network.saving import read_settings
from helpers.run_folder import REFERENCE, RunFolder
from helpers.segment.image import Result, analyse
from helpers.segment.scale import read_known_diameters
from helpers.settings import Settings
from helpers.training.devices import Device, choose_device


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained network with what its run knows about it."""

    predictor: prediction.Network  # maps and labels of images at a given scale
    known_px: tuple[float, float]  # median diameters of the nuclei that it was tested on
    device: Device | None = None
    familiarity: Familiarity | None = None  # with its training images; None where not kept
    fingerprint: str = ""  # the same for the same file

    @property
    def model(self) -> keras.Model:
        """The Keras model."""
        return self.predictor.model

    @property
    def settings(self) -> Settings:
        """The settings that it was trained with."""
        return self.predictor.settings

    @property
    def target(self) -> str:
        """What it answers, such as "flow"."""
        return self.predictor.target.name

    def segment(self, image: NDArray, **options) -> NDArray:
        """Return the labels of an image, (H, W) int32: 0 = background, nuclei from 1 to N.

        `options`: see `helpers.segment.image.analyse`.
        """
        return self.analyse(image, **options).labels

    def analyse(self, image: NDArray, **options) -> Result:
        """Return the labels, and how they came about; see `helpers.segment.image.analyse`."""
        return analyse(self, image, **options)


def load_network(run: str | Path = REFERENCE) -> TrainedNetwork:
    """Return the network of a run, on the device and in the precision that suit it best.

    `run` is a run's name, or an absolute path; "reference" comes with the repository. One that has
    no network, or a damaged file, raises FileNotFoundError or ValueError.
    """
    folder = RunFolder(run)
    file = folder.require("network.keras")
    device = choose_device(read_settings(file))
    kept = folder.file("out_of_distribution.json")
    return TrainedNetwork(
        prediction.load_network(file, precision=device.precision),
        device=device,
        known_px=read_known_diameters(folder),
        familiarity=read_familiarity(kept) if kept.exists() else None,
        fingerprint=hashlib.sha256(file.read_bytes()).hexdigest()[:16],
    )
