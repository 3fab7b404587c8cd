"""Networks of several targets, trained alike: `helpers.evaluation.targets`."""

import numpy as np
import pytest

from helpers.data.data_set import read_data_set
from helpers.data.sample import write_sample
from helpers.evaluation.targets import train_target
from helpers.network.saving import read_settings
from helpers.run_folder import RunFolder
from helpers.settings import generate_settings
from helpers.training.devices import Device

DEVICE = Device("CPU", "tensorflow", "float32", "for tests")
TINY = generate_settings(1, base_filters=2, input_size=32, epoch_num=1, steps_per_epoch=1)


def test_networks_differ_in_their_target_alone_and_are_trained_once(tmp_path, monkeypatch):
    folder = write_sample(tmp_path / "sample", seed=3)
    data = read_data_set(folder, cache_dir=tmp_path / "cache").labelled
    split = {"train": data.select([0, 5, 10]), "validation": data.select([15])}
    run = RunFolder(tmp_path / "run")
    first = {t: train_target(run, TINY, t, split, DEVICE) for t in ("foreground", "distance")}
    settings = [
        network.settings.model_dump(exclude={"postprocessing"}) for network in first.values()
    ]
    for values, target in zip(settings, first, strict=True):
        assert values["model_structure"].pop("output_params") == {"target": target}
        assert not values["training_configuration"]["call_backs_conf"]
    assert settings[0] == settings[1]
    stored = read_settings(run.file("targets/distance/network.keras"))
    assert stored == first["distance"].settings

    monkeypatch.setattr("helpers.training.loop._fit", lambda *a, **k: pytest.fail("trained again"))
    again = train_target(run, TINY, "distance", split, DEVICE)
    image = data.images[20]
    np.testing.assert_array_equal(again.segment(image), first["distance"].segment(image))
