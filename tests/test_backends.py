"""The reference network answers the same on every Keras backend that is installed."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from helpers.network.prediction import load_network
from helpers.run_folder import ROOT, resolve

ANSWER = """
import sys
import keras, numpy as np
from helpers.network.prediction import load_network
from helpers.run_folder import resolve
assert keras.backend.backend() == sys.argv[1]
image = np.random.default_rng(0).integers(0, 255, (64, 96), dtype=np.uint8)
network = load_network(resolve("results/reference/network.keras"))
np.save(sys.argv[2], network.predict_maps(image))
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_reference_network_answers_as_on_tensorflow(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed; it comes with no requirement of this project")
    image = np.random.default_rng(0).integers(0, 255, (64, 96), dtype=np.uint8)
    expected = load_network(resolve("results/reference/network.keras")).predict_maps(image)
    file = tmp_path / "maps.npy"
    subprocess.run(
        [sys.executable, "-c", ANSWER, backend, str(file)],
        env=os.environ | {"KERAS_BACKEND": backend},
        cwd=ROOT,
        check=True,
    )
    np.testing.assert_allclose(np.load(file), expected, atol=1e-4)
