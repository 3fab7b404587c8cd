import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from helpers.analysis.audit import predict_failures
from helpers.analysis.modality import MODALITIES
from helpers.analysis.out_of_distribution import LOOKS, leave_out
from helpers.figures import audit as plots


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_every_modality_is_named_where_it_is_predicted():
    image = np.kron([[10, 90, 10]], np.ones((8, 8))).astype(np.uint8)
    labels = np.kron([[0, 1, 0]], np.ones((8, 8), int))
    predicted = predict_failures(
        [image] * 3, [labels] * 3, [*MODALITIES[:2], MODALITIES[0]], [0, 1, 2]
    )
    ax = plots.plot_prediction(predicted)
    ax.figure.canvas.draw()
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert sorted(names) == ["large fluorescent (1)", "small fluorescent (2)"]
    assert [text.get_text().strip() for text in ax.texts] == ["1.00", "1.00"]


def test_an_empty_prediction_is_drawn():
    plots.plot_prediction(predict_failures([], [], [], [])).figure.canvas.draw()


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_distances_of_any_number_of_modalities(n_modalities):
    rng = np.random.default_rng(0)
    looks = pd.DataFrame(rng.random((12, 6)), columns=LOOKS)
    modalities = [MODALITIES[k % n_modalities] for k in range(12)]
    ax = plots.plot_distances(leave_out(looks, modalities, range(12)))
    ax.figure.canvas.draw()
    assert len(ax.get_yticklabels()) == n_modalities
