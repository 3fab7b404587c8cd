import numpy as np
import pandas as pd
import pytest

from helpers.data.data_set import read_data_set
from helpers.data.sample import write_sample
from helpers.evaluation.nuclei import match_network, score_nuclei
from helpers.evaluation.targets import (
    count_contacts,
    score_ceiling,
    tabulate_precision,
    train_target,
)
from helpers.network.saving import read_settings
from helpers.run_folder import RunFolder
from helpers.settings import generate_settings
from helpers.targets import TARGETS
from helpers.training.devices import Device

DEVICE = Device("CPU", "tensorflow", "float32", "for tests")
TINY = generate_settings(1, base_filters=2, input_size=32, epoch_num=1, steps_per_epoch=1)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = write_sample(tmp_path_factory.mktemp("sample"), seed=3)
    cache = tmp_path_factory.mktemp("cache")
    data = read_data_set(folder, cache_dir=cache).labelled.select(range(0, 40, 5))
    known = pd.DataFrame(
        {"id": data.ids, "modality": "small_fluorescent", "group": range(len(data))}
    )
    return data, known


def test_touching_nuclei_lower_the_ceiling_of_a_mask_alone(sample):
    data, known = sample
    assert sum(count_contacts(labels) for labels in data.labels[:]) > 0
    table = tabulate_precision({name: score_ceiling(data, known, name) for name in TARGETS})
    for name in ("boundary", "distance", "flow"):
        assert table.loc[name, "AP .50"] > table.loc["foreground", "AP .50"]
        assert table.loc[name, "AP .50"] > 0.95
    assert table.loc["foreground", "merged"] > 0
    assert table["nuclei"].nunique() == 1


def test_contacts_are_pairs_not_pixels():
    labels = np.zeros((6, 6), int)
    labels[:3, :3], labels[:3, 3:], labels[4:, :2] = 1, 2, 3
    assert count_contacts(labels) == 1
    assert count_contacts(np.kron(labels, np.ones((2, 2), int))) == 1
    assert count_contacts(np.zeros((3, 3), int)) == 0


class Silent:
    """A network that finds nothing."""

    def segment(self, image):
        return np.zeros(image.shape[:2], np.int32)


def test_a_network_that_finds_nothing_misses_everything(sample):
    data, known = sample
    table = score_nuclei(match_network(Silent(), data, known))
    assert table["missed"].sum() == data.table["n_nuclei"].sum()
    assert table["ap_50"].max() == 0
    assert list(table["id"]) == data.ids


def test_networks_differ_in_their_target_alone_and_are_trained_once(sample, tmp_path, monkeypatch):
    data, _ = sample
    split = {"train": data.select([0, 1, 2]), "validation": data.select([3])}
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
    image = data.images[5]
    np.testing.assert_array_equal(again.segment(image), first["distance"].segment(image))
