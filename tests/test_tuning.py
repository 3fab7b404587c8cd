import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import minimum_filter

from helpers.evaluation.tuning import tune_postprocessing, tune_run
from helpers.network.saving import read_settings, save_network
from helpers.network.unet import build_unet
from helpers.run_folder import RunFolder
from helpers.settings import generate_settings
from helpers.targets import get_target

TWO = np.zeros((40, 40), np.int32)
TWO[5:20, 5:20], TWO[5:20, 20:35] = 1, 2


def settings_for(target):
    return generate_settings(1, base_filters=2, input_size=16).with_overrides({"target": target})


class Images:
    """A data set whose images are their own labels."""

    def __init__(self, *labels):
        self.images = self.labels = list(labels)

    def __len__(self):
        return len(self.labels)


class Knowing:
    """A network that knows the truth, and says it with a changed voice."""

    def __init__(self, target, change):
        self.target, self.change = get_target(target), change
        self.settings = settings_for(target)
        self.n_asked = 0

    def predict_maps(self, labels):
        self.n_asked += 1
        return self.change(self.target.encode(labels))


def shy(maps):
    """Answer .35 where it should be 1 and .1 where it should be 0."""
    return maps * [0.25, 1] + [0.1, 0]


def specks(maps):
    maps = maps.copy()
    maps[30:33, 2:5] = 1
    return maps


def test_a_shy_network_gets_a_low_threshold():
    network = Knowing("distance", shy)
    tuning = tune_postprocessing(network, Images(TWO, TWO.T))
    assert tuning.postprocessing.threshold == 0.3
    assert tuning.table["score"].max() == 1
    assert (tuning.table.query("threshold > 0.35")["score"] == 0).all()
    assert network.n_asked == 2  # once an image, whatever is tried


def test_specks_are_dropped_by_their_area():
    tuning = tune_postprocessing(Knowing("distance", specks), Images(TWO))
    assert tuning.postprocessing.min_area_px == 10
    whole = tuning.table.query("min_area_px == 0")["score"].max()
    assert whole == pytest.approx(2 / 3)


def test_doubtful_nuclei_are_dropped_and_smaller_ones_stay():
    labels = TWO.copy()
    labels[30:35, 30:35] = 3

    def doubt(maps):
        maps = maps.copy()
        inner = minimum_filter(labels, 3) > 0
        maps[(labels > 0) & ~inner, 0] = 0.65  # of rims it is unsure, so .7 would cut them off
        maps[25:35, 5:20, 0] = 0.65  # larger than nucleus 3, and as unsure all over
        return maps

    tuning = tune_postprocessing(Knowing("flow", doubt), Images(labels))
    assert tuning.table["score"].max() == 1
    assert tuning.postprocessing.min_confidence == 0.7
    assert tuning.postprocessing.min_area_px == 0
    assert (tuning.table.query("min_confidence == 0")["score"] < 1).all()


def test_without_validation_images_nothing_is_tuned():
    with pytest.raises(ValueError, match="no validation image"):
        tune_postprocessing(Knowing("flow", lambda maps: maps), Images())


@pytest.fixture
def trained(tmp_path):
    """A run with an untrained network of a target."""

    def make(target):
        run, settings = RunFolder(tmp_path / target), settings_for(target)
        run.write("network.keras", lambda part: save_network(build_unet(settings), part, settings))
        return run

    return make


@pytest.mark.parametrize(("target", "images"), [("foreground", [TWO]), ("flow", [])])
def test_masks_and_runs_without_validation_images_are_left_as_they_are(trained, target, images):
    run = trained(target)
    content = run.file("network.keras").read_bytes()
    table = tune_run(run, Images(*images))
    assert len(table) == 1 and table["score"].isna().all()
    assert run.file("network.keras").read_bytes() == content


def test_a_run_is_tuned_and_says_what_was_tried(trained, monkeypatch):
    run = trained("distance")
    network = Knowing("distance", shy)
    monkeypatch.setattr("helpers.evaluation.tuning.load_network", lambda file: network)
    table = tune_run(run, Images(TWO))
    assert read_settings(run.file("network.keras")).postprocessing.threshold == 0.3
    pd.testing.assert_frame_equal(table.round(4), run.read_csv("tuning.csv"), check_dtype=False)
