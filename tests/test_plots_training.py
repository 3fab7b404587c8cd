"""The training's figures."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from helpers.figures.training import (
    plot_batch,
    plot_history,
    plot_learned,
    plot_learning,
    rate_changes,
)


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture
def history():
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3, 4],
            "learning_rate": [0.1, 0.1, 0.01, 0.001],
            "loss": [1.0, 0.5, 0.4, 0.39],
            "val_loss": [1.1, 0.7, 0.6, 0.6],
            "iou": [0.1, 0.3, 0.5, 0.6],
        }
    )


def test_curves_show_both_sides_and_every_change_of_rate(history):
    ax = plot_history(history, "loss", "loss")
    assert [len(line.get_xdata()) for line in ax.lines[:2]] == [4, 4]
    assert [line.get_xdata()[0] for line in ax.lines[2:]] == [2.5, 3.5]
    assert [text.get_text() for text in ax.texts] == ["0.01", "0.001"]


def test_a_training_without_validation_has_one_curve(history):
    ax = plot_history(history, "iou", "IoU")
    assert [text.get_text() for text in ax.get_legend().get_texts()][:1] == ["training"]
    assert ax.get_ylim() == (0, 1)


def test_a_constant_rate_is_no_change(history):
    assert rate_changes(history.assign(learning_rate=0.1)) == []
    assert rate_changes(history.head(1)) == []


def test_a_rate_that_falls_in_every_epoch_is_not_marked(history):
    falling = pd.concat([history] * 3).assign(
        epoch=range(12), learning_rate=np.geomspace(1, 0.1, 12)
    )
    assert not plot_history(falling, "loss", "loss").texts


@pytest.mark.parametrize("n, channels, n_axes", [(3, 1, 4), (16, 3, 8)])
def test_a_batch_is_drawn_in_at_most_two_rows(n, channels, n_axes):
    inputs = np.random.default_rng(0).random((n, 16, 16, channels), dtype=np.float32)
    figure = plot_batch(inputs, inputs[..., 0] > 0.5)
    assert len(figure.axes) == n_axes


@pytest.mark.parametrize("loss", [[1, 0.5], [np.nan, np.nan], [1, np.inf]])
def test_learning_is_drawn_even_where_it_failed(loss):
    left, right = plot_learning({"loss": loss, "iou": [0.1, 0.7]}).axes
    assert np.array_equal(left.lines[0].get_ydata(), loss, equal_nan=True)
    assert right.get_ylim() == (0, 1)
    left.figure.canvas.draw()


@pytest.mark.parametrize("channels", [1, 3])
def test_learned_images_come_with_their_iou(channels):
    targets = np.zeros((2, 8, 8, 1))
    targets[:, 2:6, 2:6] = 1
    inputs = np.repeat(targets, channels, axis=3)
    figure = plot_learned(inputs, targets, targets * [[[[1.0]]], [[[0.0]]]])
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes]
    assert [t for t in titles if t] == ["IoU 1.00", "IoU 0.00"]
