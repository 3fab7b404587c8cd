"""The benchmark of several networks together."""

import numpy as np
import pytest

from helpers.network.prediction import Network
from helpers.settings import generate_settings
from tests.conftest import load_benchmark

SETTINGS = generate_settings(1, base_filters=2, input_size=16)


@pytest.fixture(scope="module")
def together():
    return load_benchmark("together")


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


def test_what_either_sees_has_half_the_probability(together):
    both = together.Together([Half("left"), Half("right")])
    probabilities = both.predict(two_nuclei())
    np.testing.assert_array_equal(probabilities, two_nuclei().astype(bool) * np.float32(0.5))


def test_nuclei_are_made_with_the_thresholds_of_the_first(together):
    def count(first, second):
        networks = [Half("left", threshold=first), Half("right", threshold=second)]
        return together.Together(networks).segment(two_nuclei()).max()

    assert count(0.4, 0.6) == 2
    assert count(0.6, 0.4) == 0


def test_networks_of_different_targets_have_no_mean(together):
    with pytest.raises(ValueError, match=r"different targets \(distance, flow\).*--runs"):
        together.Together([Half("left"), Half("right", target="distance")])
