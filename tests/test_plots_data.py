import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from helpers.analysis.modality import MODALITIES, find_modalities
from helpers.figures import data as plots

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 255, (48, 64, *colour), dtype=np.uint8) for colour in ((), (3,), ())]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def draw(result):
    result.figure.canvas.draw()
    return result


def test_modalities_have_one_order_whatever_the_images_order():
    assert plots.present([MODALITIES[4], MODALITIES[1], MODALITIES[4]]) == [
        MODALITIES[1],
        MODALITIES[4],
    ]


def test_pairs_show_an_image_above_its_labels_where_there_are_any():
    labels = np.kron([[0, 1], [2, 0]], np.ones((24, 32), int))
    figure = plots.plot_pairs(IMAGES, [labels, None, 0 * labels], list("abc"))
    drawn = [[len(ax.images) for ax in figure.axes[row : row + 3]] for row in (0, 3)]
    assert drawn == [[1, 1, 1], [1, 0, 1]]
    assert [ax.get_title() for ax in figure.axes[3:]] == ["2 nuclei", "", "0 nuclei"]
    plots.plot_pairs([], [], [])


@pytest.mark.parametrize("n", [0, 1, 5])
def test_ranges_of_any_number_of_images_leave_out_those_without_a_median(n):
    table = pd.DataFrame({"low": range(n), "mid": range(1, n + 1), "high": range(2, n + 2)})
    table = pd.concat([table, pd.DataFrame({"low": [np.nan]})])
    assert f"n = {n}" in draw(plots.plot_ranges(table, "low", "mid", "high", "level")).get_xlabel()


@pytest.mark.parametrize("places", [{0: (0, 0)}, {0: (0, 0), 2: (1, 0)}])
def test_a_field_is_drawn_apart_and_whole(places):
    apart, whole = (ax.images[0].get_array() for ax in plots.plot_field(IMAGES, places).axes)
    assert whole.shape == (48 * len(places), 64)
    assert apart.shape == whole.shape if len(places) == 1 else apart.shape[0] > whole.shape[0]


def test_modalities_and_their_measures_are_drawn_even_where_there_is_none():
    table = find_modalities(IMAGES)
    plots.plot_modalities(IMAGES, table["modality"])
    draw(plots.plot_measures(table, "ground", "colour"))
    empty = draw(plots.plot_measures(table[:0], "nucleus_radius_px", "redness"))
    assert "n = 0" in empty.get_title()


def test_values_by_modality_leave_out_images_without_one():
    table = pd.DataFrame({"modality": [MODALITIES[0], MODALITIES[4]], "contrast": [0.5, np.nan]})
    ax = draw(plots.plot_by_modality(table, "contrast", "contrast", zero=True))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["small fluorescent (1)"]
