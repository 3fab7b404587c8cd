"""The figures of masks: numbers that they show, and files that they write."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.evaluation.masks import calibration
from helpers.evaluation.summary import summarise_scores
from helpers.figures.evaluation import (
    plot_calibration,
    plot_examples,
    plot_score_against,
    plot_scores,
    write_overlay,
)


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "id": list("abcd"),
            "modality": ["small_fluorescent"] * 3 + ["grayscale_tissue"],
            "group": [0, 0, 1, 2],
            "iou": [0.8, 0.9, 0.7, 0.2],
            "diameter_px": [12.0, 9.0, np.nan, 20.0],
        }
    )


def test_scores_show_points_means_and_counts(table):
    ax = plot_scores(table, summarise_scores(table, ("iou",), n_resamples=50))
    drawn = [len(points.get_offsets()) for points in ax.collections if hasattr(points, "get_sizes")]
    assert [n for n in drawn if n] == [3, 1, 4]
    assert [line.get_xdata()[0] for line in ax.lines] == pytest.approx([0.8, 0.2, 0.65])
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels[1] == "grayscale tissue\n1 image, 1 field"
    assert labels[-1] == "all modalities\n4 images, 3 fields"


def test_images_without_the_measure_are_counted(table):
    ax = plot_score_against(table, "diameter_px", "diameter (px)")
    assert ax.get_title(loc="left") + ax.get_title() == "n = 3 images, 1 without nuclei left out"


def test_calibration_shows_fractions_and_pixels():
    result = calibration(np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 1, 1, 1], bool))
    top, bottom = plot_calibration(result)
    assert top.lines[1].get_ydata()[[1, 9]].tolist() == [0.5, 1]
    assert sum(bar.get_height() for bar in bottom.patches) == 4


def test_empty_and_full_masks_can_be_drawn():
    image = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)
    full, empty = np.ones((40, 50), bool), np.zeros((40, 50), bool)
    figure = plot_examples([(image, full, empty), (image, empty, full)], ["full", "empty"])
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes]
    assert titles == ["full", "truth", "prediction", "errors", "empty", "", "", ""]
    figure.canvas.draw()


def test_an_overlay_is_a_small_file(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (256, 256, 3), dtype=np.uint8)  # noise: the worst to compress
    mask = rng.random((256, 256)) > 0.5
    file = write_overlay(tmp_path / "overlays" / "a.png", image, mask, ~mask, "a")
    assert file.stat().st_size < 150_000
    assert Image.open(file).size[0] > 600
    assert not plt.get_fignums()
