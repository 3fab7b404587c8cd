"""The figures of single nuclei: what they draw, and that every number in them is a true one."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from helpers.evaluation.matching import OUTCOMES_TRUE, THRESHOLDS, match
from helpers.evaluation.nuclei import (
    ERRORS,
    match_images,
    score_by_size,
    score_nuclei,
    tabulate_errors,
)
from helpers.evaluation.published import POOLED, PUBLISHED_AP, compare_published
from helpers.figures.nuclei import (
    OUTCOME_COLOURS,
    paint_outcomes,
    plot_error_types,
    plot_nuclei_examples,
    plot_published,
    plot_recall_by_size,
)


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def draw(*boxes, shape=(24, 30)):
    labels = np.zeros(shape, int)
    for number, (top, left, height, width) in enumerate(boxes, start=1):
        labels[top : top + height, left : left + width] = number
    return labels


TRUE = draw((0, 0, 5, 5), (8, 0, 1, 9), (9, 0, 1, 9), (10, 0, 1, 9), (0, 10, 5, 6), (14, 0, 6, 6))
PRED = draw(
    *[(0, 0, 5, 5), (8, 0, 3, 9), (0, 10, 5, 2), (0, 12, 5, 2), (0, 14, 5, 2), (18, 20, 5, 5)]
)
"""Matched, three merged, split into three, missed; and one extra object."""


@pytest.fixture
def matched():
    empty = np.zeros_like(TRUE)
    return match_images(
        [
            ("a", "small_fluorescent", 0, TRUE, PRED),
            ("b", "small_fluorescent", 1, TRUE, TRUE),
            ("c", "grayscale_tissue", 2, empty, PRED),
        ]
    )


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_ours_stands_among_the_published_with_interval_and_seeds(matched):
    tables = {"1": score_nuclei(matched), "2": score_nuclei(matched[:2])}
    tables["2"] = pd.concat([tables["2"], tables["1"].iloc[2:]], ignore_index=True)
    tables["2"].loc[1, "tp_50"] = 0
    comparison = compare_published(tables, name="reference")
    ax = plot_published(comparison)
    row = comparison.iloc[-1]
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines) == [*(f"{name} (published)" for name in PUBLISHED_AP), "reference"]
    assert lines["reference"].get_xdata().tolist() == list(THRESHOLDS[:9])
    assert lines["reference"].get_ydata().tolist() == row[list(POOLED)].tolist()
    intervals, band = ax.collections
    assert intervals.get_segments()[0][:, 1].tolist() == [row["ap_50_low"], row["ap_50_high"]]
    edges = band.get_paths()[0].vertices
    assert {row["ap_50_seed_low"], row["ap_50_seed_high"]} <= set(edges[edges[:, 0] == 0.5, 1])
    assert ax.get_ylim() == (0, 1)
    assert ax.get_xlim()[1] < 1
    assert (ax.get_title(loc="left") + ax.get_title()) == "n = 12 nuclei in 3 images"


def test_bars_are_the_errors_of_each_modality_that_has_nuclei(matched):
    ax = plot_error_types(tabulate_errors(score_nuclei(matched)))
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in ax.containers}
    each = 100 / 12  # of twelve true nuclei; all modalities together have a second extra object
    assert widths["merged"] == pytest.approx([3 * each, 3 * each])
    assert widths["extra"] == pytest.approx([each, 7 * each])
    colours = [to_hex(bars.patches[0].get_facecolor()).upper() for bars in ax.containers]
    assert colours == [OUTCOME_COLOURS[error] for error in ERRORS] and list(widths) == list(ERRORS)
    assert ax.get_yticklabels()[0].get_text() == "small fluorescent\n12 nuclei, 2 images"


def test_recall_stands_at_the_size_of_the_nuclei():
    nuclei = pd.DataFrame(
        {"diameter_px": [6, 6, 12, 20], "iou": [0.6, 0.1, 0.8, 1], "group": [0, 1, 0, 1]}
    )
    ax = plot_recall_by_size(score_by_size(nuclei, n_resamples=50))
    at_50, at_70 = ax.lines
    assert at_50.get_xdata().tolist() == [6, 12, 20]
    assert at_50.get_ydata().tolist() == [0.5, 1, 1]
    assert at_70.get_ydata().tolist() == [0, 1, 1]
    assert [text.get_text() for text in ax.texts] == ["2", "1", "1"]
    assert legend(ax) == ["IoU from 0.5 on", "IoU from 0.7 on"]
    assert (ax.get_title(loc="left") + ax.get_title()).startswith("n = 4 nuclei")
    assert ax.get_ylim() == (0, 1)


def test_every_nucleus_has_the_colour_of_its_outcome():
    codes = paint_outcomes(TRUE, PRED, match(TRUE, PRED))
    code = {name: place for place, name in enumerate(OUTCOME_COLOURS, start=1)}
    outline = len(OUTCOME_COLOURS) + 1
    assert codes[2, 2] == code["found"]
    assert codes[9, 4] == code["merged"]
    assert (codes[14:20, :6] == code["missed"]).all()
    assert (codes[18:23, 20:25] == code["extra"]).all()
    assert (codes[4, 4], codes[8, 4], codes[2, 12]) == (outline, outline, outline)
    assert codes[0, 0] == code["found"]  # the border of the image is no outline
    # Each of three fragments is two pixels wide: its outline covers all of it.
    assert (codes[0:5, 10:16] == outline).all()
    nothing = (TRUE == 0) & (PRED == 0)
    assert (codes[nothing] == 0).all() and (codes[~nothing] > 0).all()
    assert set(OUTCOME_COLOURS) == {*OUTCOMES_TRUE, "extra"}


def test_examples_are_cut_to_their_windows():
    image = np.random.default_rng(0).integers(0, 255, TRUE.shape, dtype=np.uint8)
    empty = np.zeros_like(TRUE)
    window = (slice(2, 9), slice(1, 5))
    examples = [(image, TRUE, PRED), (image, empty, empty)]
    figure = plot_nuclei_examples(examples, ["first", "none"], [window, window])
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes]
    assert titles == ["first", "truth", "prediction", "errors", "none", "", "", ""]
    assert figure.axes[3].get_xlim() == (0.5, 4.5) and figure.axes[3].get_ylim() == (8.5, 1.5)
    figure.canvas.draw()
    frame = figure.legends[0].get_window_extent()
    assert frame.x0 >= 0 and frame.x1 <= figure.bbox.width


def test_an_extra_object_keeps_off_true_nuclei():
    # A corner of 4 px of 36 and 25: an IoU of 4/57, too little to be more than missed and extra.
    true, pred = draw((0, 0, 6, 6)), draw((4, 4, 5, 5))
    codes = paint_outcomes(true, pred, match(true, pred))
    missed, extra = (list(OUTCOME_COLOURS).index(outcome) + 1 for outcome in ("missed", "extra"))
    assert (codes[true > 0] == missed).all()
    assert (codes[(pred > 0) & (true == 0)] == extra).all()
