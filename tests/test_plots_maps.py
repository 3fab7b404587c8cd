import matplotlib.pyplot as plt
import numpy as np
import pytest

from helpers.figures.maps import plot_maps, plot_mask_and_nuclei
from helpers.targets import TARGETS

LABELS = np.zeros((20, 30), int)
LABELS[4:12, 3:11], LABELS[4:12, 11:20] = 1, 2


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_the_mask_has_one_colour_and_the_nuclei_have_two():
    figure = plot_mask_and_nuclei(np.zeros((20, 30), np.uint8), LABELS)
    _, mask, nuclei = figure.axes
    assert [len(np.unique(ax.images[0].get_array())) for ax in (mask, nuclei)] == [2, 3]
    assert nuclei.get_title() == "2 nuclei"


def test_every_target_has_a_picture_with_its_name():
    figure = plot_maps({name: target.encode(LABELS) for name, target in TARGETS.items()})
    titles = [ax.get_title() for ax in figure.axes]
    assert all(title.startswith(name) for title, name in zip(titles, TARGETS, strict=True))
    assert all(ax.images[0].get_array().max() > 0 for ax in figure.axes)
