"""Benchmarks that train nothing: sizes, and several networks together."""

from types import SimpleNamespace

import numpy as np
import pytest
from skimage.measure import label
from skimage.segmentation import relabel_sequential

from helpers.network.prediction import Network
from helpers.settings import generate_settings
from tests.conftest import load_benchmark

sizes, together = map(load_benchmark, ("sizes", "together"))
SETTINGS = generate_settings(1, base_filters=2, input_size=16)

# ---------------------------------------------------------------- sizes


class Bright:
    """A network that finds what is bright, unless its nuclei are wider than it can see."""

    def __init__(self, widest_px=np.inf):
        self.widest_px, self.scales = widest_px, []

    def segment(self, image, *, scale=1.0):
        self.scales.append(scale)
        labels = label(image > 100).astype(np.int32)
        areas = np.bincount(labels.ravel())
        too_wide = np.sqrt(areas * 4 / np.pi) * scale > self.widest_px
        return np.where(too_wide[labels], 0, labels)

    def find(self, image, *, scale=1.0, least=None):
        labels = relabel_sequential(self.segment(image, scale=scale))[0].astype(np.int32)
        return labels, np.full(labels.max(), 0.9)


def draw_discs(side_px=96, radius_px=10):
    """An image of four bright discs, and their labels."""
    rows, columns = np.mgrid[:side_px, :side_px] % (side_px // 2) - side_px // 4
    mask = np.hypot(rows, columns) < radius_px
    return np.where(mask, 200, 10).astype(np.uint8), label(mask).astype(np.int32)


def some_data(*pairs):
    images, labels = zip(*pairs, strict=True)
    return SimpleNamespace(images=images, labels=labels, ids=[str(k) for k in range(len(pairs))])


@pytest.mark.parametrize("diameter_px", [8, 23, 80])
def test_nuclei_get_the_diameter_that_is_asked_for(diameter_px):
    image, labels = draw_discs()
    resized, truth = sizes.resize_nuclei(image, labels, diameter_px)
    assert sizes.measure_diameter(truth) == pytest.approx(diameter_px, rel=0.06)
    assert resized.shape == truth.shape
    assert (resized.dtype, truth.dtype) == (image.dtype, labels.dtype)
    assert np.unique(truth).tolist() == [0, 1, 2, 3, 4]


def test_a_row_says_how_well_nuclei_of_a_size_are_found_in_a_way():
    data = some_data(draw_discs(), draw_discs(radius_px=12), draw_discs(radius_px=16))
    table = sizes.measure(Bright(widest_px=45), data, (10, 40), diameters_px=(10, 32, 64))
    assert table["way"].tolist() == ["as_is", "found", "given"] * 3
    assert table["n_images"].tolist() == [2] * 3 + [3] * 6
    assert table["n_skipped"].tolist() == [1] * 3 + [0] * 6
    assert table["n_nuclei"].tolist() == [8] * 3 + [12] * 6
    small, large = table[table["diameter_px"] == 10], table[table["diameter_px"] == 64]
    assert (small["ap_50"] == 1).all() and (small["recall_70"] == 1).all()
    assert large["ap_50"].tolist() == [0, 1, 1]
    assert large["scale_median"].tolist() == pytest.approx([1, 0.5, 0.3125])
    assert (table["ap_50_low"] <= table["ap_50"]).all()
    assert (table["ap_50"] <= table["ap_50_high"]).all()


# ---------------------------------------------------------------- several networks together


class Half(Network):
    """Sees the nuclei of one half of an image, and swears that the other half is empty."""

    def __init__(self, side, target="flow", **postprocessing):
        settings = SETTINGS.with_overrides({"target": target})
        self.settings, self.side = settings.with_postprocessing(**postprocessing), side

    def predict_maps(self, image):
        seen = image.copy()
        seen[:, slice(0, 20) if self.side == "right" else slice(20, 40)] = 0
        return self.target.encode(seen.astype(np.int32))


def two_nuclei():
    labels = np.zeros((40, 40), np.uint8)
    labels[5:15, 5:15], labels[5:15, 25:35] = 1, 2
    return labels


def test_what_either_sees_has_half_the_probability():
    both = together.Together([Half("left"), Half("right")])
    probabilities = both.predict(two_nuclei())
    np.testing.assert_array_equal(probabilities, two_nuclei().astype(bool) * np.float32(0.5))


def test_nuclei_are_made_with_the_thresholds_of_the_first():
    def count(first, second):
        networks = [Half("left", threshold=first), Half("right", threshold=second)]
        return together.Together(networks).segment(two_nuclei()).max()

    assert count(0.4, 0.6) == 2
    assert count(0.6, 0.4) == 0


def test_networks_of_different_targets_have_no_mean():
    with pytest.raises(ValueError, match=r"different targets \(distance, flow\).*--runs"):
        together.Together([Half("left"), Half("right", target="distance")])
