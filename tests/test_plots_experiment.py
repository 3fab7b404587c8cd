import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from helpers.figures import experiment as plots
from helpers.inversion.original_arithmetic import Stage

STEPS = {"first": ("original", "original"), "second": ("scaled", "ours")}
NUMBERS = {"low": 0.3, "high": 0.5, "seed_low": 0.35, "seed_high": 0.45}


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture
def summary():
    rows = [
        {
            "arm": arm,
            "view": view,
            "modality": modality,
            "measure": "iou",
            "estimate": estimate,
            **NUMBERS,
        }
        for (arm, view), estimate in zip(STEPS.values(), (0.1, 0.4), strict=True)
        for modality in ("small_fluorescent", "purple_tissue")
    ]
    return pd.DataFrame(rows)


def points_of(ax):
    """Return (x, y) of every point that is drawn, from top to bottom."""
    lines = [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata())]
    points = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]
    return sorted(points, key=lambda point: point[1])


def test_every_step_has_its_row_and_every_kind_its_point(summary):
    ax = plots.plot_steps(summary, STEPS)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"]
    top, bottom = ax.get_ylim()[1], ax.get_ylim()[0]
    assert top < bottom, "the first step is on top"
    points = points_of(ax)
    assert [x for x, _ in points] == [0.1, 0.1, 0.4, 0.4]
    assert [round(y) for _, y in points] == [0, 0, 1, 1]
    assert len({y for _, y in points}) == 4, "modalities do not hide one another"
    names = [text.get_text() for text in ax.legend().get_texts()]
    assert names == ["small fluorescent", "purple tissue"]


def test_intervals_and_the_range_of_the_seeds_are_drawn(summary):
    ax = plots.plot_steps(summary, STEPS)
    ends = {tuple(np.round(line.get_segments()[0][:, 0], 2)) for line in ax.collections}
    assert ends == {(0.3, 0.5), (0.35, 0.45)}


def test_a_kind_that_a_step_was_not_tested_on_has_no_point_there(summary):
    ax = plots.plot_steps(summary.drop(index=0), STEPS)
    assert [x for x, _ in points_of(ax)] == [0.1, 0.4, 0.4]


def test_one_field_of_view_is_drawn_without_an_interval(summary):
    ax = plots.plot_steps(summary.assign(low=np.nan, high=np.nan), STEPS)
    ax.figure.canvas.draw()
    assert len(points_of(ax)) == 4


def test_stages_are_shown_as_they_are():
    gray = np.array([[0.0, 0.5, 200.0]], np.float32)
    stages = [Stage("input", gray), Stage("mask", gray > 1)]
    figure = plots.plot_stages({"original": stages, "scaled": stages})
    axes = np.reshape(figure.axes, (2, 2))
    assert [ax.get_title() for ax in axes[0]] == ["input", "mask"]
    assert [row[0].get_ylabel() for row in axes] == ["original", "scaled"]
    shown = axes[0, 0].images[0]
    np.testing.assert_array_equal(shown.get_array(), [[0, 0.5, 1]])
    assert shown.get_clim() == (0, 1), "nothing is stretched"
