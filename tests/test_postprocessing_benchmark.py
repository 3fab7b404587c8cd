"""The benchmark of what each choice behind the network is worth."""

from types import SimpleNamespace

import numpy as np
import pytest

from helpers.settings import generate_settings
from helpers.targets import get_target
from tests.conftest import load_benchmark


@pytest.fixture(scope="module")
def postprocessing():
    return load_benchmark("postprocessing")


class Unsure:
    """Knows the truth, and sees a speck besides, of which it is not sure, unless it may flip."""

    target = get_target("flow")

    def __init__(self):
        settings = generate_settings(1, base_filters=2, input_size=16)
        self.settings = settings.with_postprocessing(min_confidence=0.8)

    def predict_maps(self, labels):
        maps = self.target.encode(labels)
        if self.settings.postprocessing.test_time_augmentation == "none":
            maps[30:36, 30:36, 0] = 0.6
        return maps


def test_each_choice_is_taken_back_alone(postprocessing):
    labels = np.zeros((40, 40), np.int32)
    labels[5:20, 5:20] = 1
    network, validation = Unsure(), SimpleNamespace(images=[labels], labels=[labels])
    table = postprocessing.measure(network, validation)
    found = table.set_index(["looks", "choice"])["ap_50"]
    assert found["none", "as stored"] == found["none", "nothing dropped by its area"] == 1
    assert found["none", "nothing dropped by its probability"] == 0.5
    assert (found[["flips", "scales"]] == 1).all()
    assert network.settings.postprocessing.test_time_augmentation == "none"  # as it was
