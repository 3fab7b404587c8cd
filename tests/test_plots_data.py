import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


@pytest.mark.parametrize("n", [0, 1, 5])
def test_ranges_of_any_number_of_images(n):
    table = pd.DataFrame({"low": range(n), "mid": range(1, n + 1), "high": range(2, n + 2)})
    ax = draw(plots.plot_ranges(table, "low", "mid", "high", "level", plt.figure().gca()))
    assert isinstance(ax, Axes) and f"n = {n}" in ax.get_xlabel()


def test_ranges_leave_out_images_without_a_median():
    table = pd.DataFrame({"low": [1, np.nan], "mid": [2, np.nan], "high": [3, np.nan]})
    assert "n = 1" in plots.plot_ranges(table, "low", "mid", "high", "px").get_xlabel()


@pytest.mark.parametrize("counts", [[], [0], [1], [3, 40, 375]])
def test_counts(counts):
    assert isinstance(draw(plots.plot_counts(counts, plt.figure().gca())), Axes)


@pytest.mark.parametrize("places", [{0: (0, 0)}, {0: (0, 0), 2: (1, 0)}])
def test_field(places):
    assert isinstance(plots.plot_field(IMAGES, places), Figure)


def test_leaks_with_one_seed():
    leaks = pd.DataFrame({"split": ["random", "grouped"], "seed": [0, 0], "leaking": [0.5, 0.0]})
    texts = [text.get_text().strip() for text in draw(plots.plot_leaks(leaks)).texts]
    assert texts == ["50%", "0%"]


def test_kinds_and_their_measures():
    table = find_modalities(IMAGES)
    assert isinstance(plots.plot_modalities(IMAGES, table["modality"]), Figure)
    assert isinstance(
        draw(plots.plot_measures(table, "ground", "colour", plt.figure().gca())), Axes
    )
    empty = plots.plot_measures(table[:0], "nucleus_radius_px", "redness", plt.figure().gca())
    assert "n = 0" in empty.get_title()


def test_mistakes_are_shown_where_the_truth_is_known():
    found = pd.Series([MODALITIES[0], MODALITIES[2], MODALITIES[0]])
    known = pd.Series([MODALITIES[0], MODALITIES[3], None])
    figure = plots.plot_mistakes(IMAGES, found, known)
    assert len(figure.axes) == 1 and "pink-and-purple" in figure.axes[0].get_title()
    assert plots.plot_mistakes(IMAGES, found, found) is None


def test_shares_and_values_by_kind():
    shares = pd.DataFrame({"images": [0.9, 0.1], "nuclei": [0.5, 0.5]}, index=MODALITIES[:2])
    assert isinstance(draw(plots.plot_shares(shares)), Axes)
    table = pd.DataFrame({"modality": [MODALITIES[0], MODALITIES[4]], "contrast": [0.5, np.nan]})
    ax = draw(plots.plot_by_modality(table, "contrast", "contrast", plt.figure().gca(), zero=True))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["small fluorescent (1)"]
