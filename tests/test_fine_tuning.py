"""The benchmark of fine-tuning: three ways, the same test images, trainings that are kept."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from helpers.network.saving import load_model, save_network
from helpers.network.unet import build_unet
from helpers.run_folder import RunFolder
from helpers.settings import generate_settings, load_settings
from tests.conftest import DEVICE, load_benchmark

pytestmark = pytest.mark.slow
fine_tuning = load_benchmark("fine_tuning")


def settings_for(**changes):
    settings = generate_settings(1, base_filters=2, input_size=16)
    return settings.with_overrides({"target": "flow", "callbacks": {}, "training": changes})


class Images(SimpleNamespace):
    """As much of a data set as is asked for: squares that are brighter than the ground."""

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        squares = [np.kron(rng.integers(0, 2, (2, 2)), np.ones((8, 8), int)) for _ in range(n)]
        labels = [np.int32(square * np.arange(1, 17)[:, None].repeat(16, 1)) for square in squares]
        images = [np.uint8(60 + 120 * square + rng.integers(0, 40, (16, 16))) for square in squares]
        super().__init__(images=images, labels=labels, ids=[f"{seed}_{k}" for k in range(n)])

    def __len__(self):
        return len(self.ids)


@pytest.fixture
def start(tmp_path):
    run, settings = RunFolder(tmp_path / "start"), settings_for(learning_rate=0.01)
    run.write("network.keras", lambda part: save_network(build_unet(settings), part, settings))
    return run


def test_real_images_to_tune_on_are_those_that_the_run_has_not_learned_from():
    settings = load_settings("settings/fine_tuning.json")
    groups = np.arange(120) // 2  # two images a field
    sides = np.array(["train", "validation", "test", "left out"])[groups % 4]
    ids = [f"image {k}" for k in range(120)]
    known = pd.DataFrame({"id": ids, "modality": "purple_tissue", "group": groups, "split": sides})
    data = SimpleNamespace(
        ids=ids, select=lambda wanted: known[wanted].rename(columns={"id": "ids"})
    )
    split = fine_tuning.split_unseen(data, known, 11, settings)
    table = known.set_index("id").loc[[name for side in split.values() for name in side.ids]]
    assert set(table["split"]) == {"test", "left out"}
    assert table.index.is_unique and len(split["train"].ids) == fine_tuning.N_TAUGHT
    fields = [set(known.set_index("id").loc[side.ids, "group"]) for side in split.values()]
    assert all(fields) and len(set.union(*fields)) == sum(map(len, fields))
    other = fine_tuning.split_unseen(data, known, 12, settings)
    assert list(other["test"].ids) != list(split["test"].ids)


def test_every_way_is_scored_on_the_same_images(start, tmp_path, monkeypatch):
    split = {"train": Images(4, 0), "validation": Images(2, 1), "test": Images(3, 2)}
    settings = settings_for(epoch_num=1, steps_per_epoch=2, batch_size=2, learning_rate=1e-6)
    folder = tmp_path / "trainings"
    before = start.file("network.keras").read_bytes()
    table = fine_tuning.measure(start, settings, folder, {5: split}, device=DEVICE)

    assert start.file("network.keras").read_bytes() == before
    assert table["way"].tolist() == list(fine_tuning.WAYS)
    assert (table["seed"] == 5).all() and (table["n_train"] == 4).all()
    assert table["n_nuclei"].nunique() == 1 and (table["n_images"] == 3).all()
    assert table[["ap_50", "ap_70", "ap_90", "iou"]].stack().between(0, 1).all()

    (runs,) = folder.iterdir()  # named after the network that they began with
    trained = {run.name: run for run in runs.iterdir()}
    assert sorted(trained) == ["fine_tuned_5", "from_scratch_5"]
    first = load_model(start.file("network.keras")).get_weights()
    tuned, anew = (
        load_model(trained[name] / "network.keras").get_weights() for name in sorted(trained)
    )
    assert max(np.abs(a - b).max() for a, b in zip(tuned, first, strict=True)) < 1e-3
    assert max(np.abs(a - b).max() for a, b in zip(anew, first, strict=True)) > 1e-2
    rate = RunFolder(trained["from_scratch_5"]).read_csv("history.csv")["learning_rate"]
    assert rate.iloc[0] == pytest.approx(0.01)

    monkeypatch.setattr("helpers.training.loop._fit", lambda *a, **k: pytest.fail("trained again"))
    again = fine_tuning.measure(start, settings, folder, {5: split}, device=DEVICE)
    assert again.equals(table)
