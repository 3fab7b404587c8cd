"""The network of a run, and what is said of a folder of images at the end."""

import keras
import numpy as np
import pandas as pd
import pytest

import helpers
from helpers.data.drawing import draw_image
from helpers.evaluation.matching import match
from helpers.network.saving import save_network
from helpers.network.unet import build_unet
from helpers.run_folder import REFERENCE, RunFolder
from helpers.segment.folder import describe
from helpers.segment.scale import KNOWN_DIAMETERS_PX
from helpers.settings import generate_settings


def test_the_end_counts_failures_and_warnings_and_names_the_results(tmp_path):
    rows = [("a.png", "done", 5, ""), ("b.png", "done", 0, "none"), ("c.png", "failed", 0, "?")]
    summary = pd.DataFrame(rows, columns=["image", "status", "n_nuclei", "warning"])
    summary.attrs["notes"] = ["2 files left out"]
    first, *middle, last = describe(summary, tmp_path).splitlines()
    assert first == "2 of 3 images segmented, 5 nuclei; 1 with a warning, 1 failed"
    assert middle == ["- c.png failed: ?", "- b.png: none", "2 files left out"]
    assert str(tmp_path) in last


def test_a_network_is_loaded_with_what_its_run_knows(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    settings = generate_settings(1, base_filters=2, input_size=16)
    keras.utils.set_random_seed(0)
    save_network(build_unet(settings), run.file("network.keras"), settings)
    network = helpers.load_network(run.path)
    assert network.settings == settings and network.familiarity is None
    assert network.known_px == KNOWN_DIAMETERS_PX
    assert network.fingerprint == helpers.load_network(run.path).fingerprint
    looks = {"columns": ["ground", "peak", "colour", "redness", "contrast", "size"]}
    looks |= {"limit": 0.1, "looks": [[0.9, 1, 0, 0, -1, 3]]}
    run.write_json("out_of_distribution.json", looks)
    assert helpers.load_network(run.path).familiarity.limit == 0.1
    run.file("out_of_distribution.json").write_text("{")
    with pytest.raises(ValueError, match="out_of_distribution"):
        helpers.load_network(run.path)


def test_the_reference_network_segments_a_drawn_image_by_itself():
    network = helpers.load_network()
    assert network.known_px != KNOWN_DIAMETERS_PX, f"metrics.csv of {REFERENCE} is missing"
    image, labels = draw_image("small_fluorescent", np.random.Generator(np.random.PCG64(7)))
    result = network.analyse(image, pixel_size_um=0.5)
    matching = match(labels, result.labels)
    assert matching.count(0.5) > 0.8 * matching.n_true
    assert matching.n_pred < 1.3 * matching.n_true
    assert result.channel == "gray" and result.scale.scale == 1
    assert len(result.nuclei) == matching.n_pred and "area_um2" in result.nuclei
    in_blue = image[..., None] * np.array([0, 0, 1], np.uint8)
    assert (network.segment(in_blue) > 0).sum() == pytest.approx((labels > 0).sum(), rel=0.1)


def test_a_blank_field_is_quick_and_empty():
    class Asked:
        def segment(self, image, *, scale=1.0):
            raise AssertionError("noise is not shown to the network")

    network = helpers.segment.trained.TrainedNetwork(Asked(), known_px=(10, 60))
    noise = np.random.default_rng(0).normal(100, 10, (300, 300)).astype(np.uint8)
    result = network.analyse(noise)
    assert not result.labels.any() and "nothing but noise" in result.warnings[0]
