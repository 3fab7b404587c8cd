"""Figures of a training: what the network sees, how its error falls, what it has learned."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from helpers.evaluation.masks import iou
from helpers.figures.common import (
    PREDICTION,
    legend_handles,
    plot_errors,
    plot_image,
    plot_outlines,
)
from helpers.targets import get_target

TRAIN, VALIDATION, RATE, IOU = "#0173B2", PREDICTION, "#949494", "#029E73"
MOST_MARKS = 6


def plot_batch(
    inputs: Sequence[NDArray[np.floating]],
    masks: Sequence[NDArray[np.bool_]],
    *,
    n_columns: int = 4,
) -> Figure:
    """Draw the first images of a batch with their masks outlined; return the figure.

    Parameters
    ----------
    inputs : sequence of (H, W, channels) arrays
        As the network gets them; each is stretched for display.
    masks : sequence of (H, W) bool arrays
    n_columns : int
        Images in a row; at most two rows are drawn.
    """
    n_shown = min(len(inputs), 2 * n_columns)
    n_rows, side = -(-n_shown // n_columns), 7.2 / n_columns
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(side * n_columns, side * n_rows + 0.3), squeeze=False
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image, mask in zip(axes.flat, inputs[:n_shown], masks[:n_shown], strict=False):
        plot_outlines(image, mask, ax=ax)
    figure.legend(handles=legend_handles("truth"), loc="outside upper left", frameon=False)
    return figure


def plot_history(
    history: pd.DataFrame,
    quantity: str,
    label: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw a quantity over the epochs, training beside validation; return the axes.

    Parameters
    ----------
    history : DataFrame
        As `helpers.training.loop.train` returns it. A grey line marks the start of each epoch with
        another learning rate than the one before, unless it falls in every epoch.
    quantity : str
        "loss" or "iou"; the axis of IoU is fixed at 0 to 1.
    label : str
        What stands at the axis.
    """
    ax = plt.gca() if ax is None else ax
    for column, colour, text in (
        (quantity, TRAIN, "training"),
        (f"val_{quantity}", VALIDATION, "validation"),
    ):
        if column in history:
            ax.plot(history["epoch"], history[column], ".-", color=colour, label=text)
    changes = rate_changes(history)
    for place, (epoch, rate) in enumerate(changes if len(changes) <= MOST_MARKS else []):
        mark = "learning rate lowered" if place == 0 else None
        ax.axvline(epoch - 0.5, color=RATE, linestyle=":", label=mark)
        ax.annotate(
            f"{rate:.1g}", (epoch - 0.4, 0.02), xycoords=("data", "axes fraction"), color=RATE
        )
    ax.set(xlabel="epoch", ylabel=label, ylim=(0, 1) if quantity == "iou" else (0, None))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(framealpha=0.9, edgecolor="none")
    return ax


def rate_changes(history: pd.DataFrame) -> list[tuple[int, float]]:
    """Return (epoch, learning rate) of each epoch with another rate than the one before.

    Examples
    --------
    >>> rate_changes(pd.DataFrame({"epoch": [1, 2, 3], "learning_rate": [0.1, 0.01, 0.01]}))
    [(2, 0.01)]
    """
    rates = history["learning_rate"].to_numpy()
    changed = np.flatnonzero(rates[1:] != rates[:-1]) + 1
    return [(int(history["epoch"].iloc[k]), float(rates[k])) for k in changed]


def plot_learning(history: Mapping[str, Sequence[float]]) -> Figure:
    """Draw loss and IoU step by step, from `history` as Keras gives it, and return the figure."""
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 2.8), sharex=True)
    steps = np.arange(1, len(history["loss"]) + 1)
    axes[0].plot(steps, history["loss"], color=TRAIN)
    axes[0].set(xlabel="step", ylabel="loss", ylim=(0, None), title="Loss on the batch")
    axes[1].plot(steps, history["iou"], color=IOU)
    axes[1].set(
        xlabel="step", ylabel="IoU of the foreground", ylim=(0, 1), title="IoU on the batch"
    )
    return figure


def plot_learned(
    inputs: NDArray[np.floating],
    maps_true: NDArray[np.floating],
    maps_pred: NDArray[np.floating],
    target: str = "foreground",
) -> Figure:
    """Draw image, truth, prediction and errors, one column an item, and return the figure.

    Parameters
    ----------
    inputs : (n, H, W, 1 or 3) float array
    maps_true, maps_pred : (n, H, W, n_channels) float arrays
        Maps of `target`, one of `helpers.targets.TARGETS`. A pixel is predicted as nucleus
        from .5 on.
    """
    n = len(inputs)
    figure, axes = plt.subplots(4, n, figsize=(1.35 * n + 0.5, 6), squeeze=False)
    masks_true, masks_pred = (
        get_target(target).foreground(maps) >= 0.5 for maps in (maps_true, maps_pred)
    )
    for item, column in enumerate(axes.T):
        image = inputs[item] if inputs.shape[3] == 3 else inputs[item, ..., 0]
        plot_image(image, ax=column[0])
        plot_outlines(image, masks_true[item], ax=column[1])
        plot_outlines(image, None, masks_pred[item], ax=column[2])
        score = iou(masks_true[item], masks_pred[item])
        plot_errors(masks_true[item], masks_pred[item], f"IoU {score:.2f}", ax=column[3])
        column[3].title.set_fontsize(8.5)
    for ax, title in zip(axes[:, 0], ("image", "truth", "prediction", "errors"), strict=True):
        ax.text(-0.06, 0.5, title, rotation=90, ha="right", va="center", transform=ax.transAxes)
    handles = legend_handles("found", "missed", "extra")
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure
