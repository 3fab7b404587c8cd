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
    make_grid,
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
    """Draw at most two rows of a batch's images with their masks outlined; return the figure.

    `inputs`, (H, W, channels) as the network gets them, are stretched for display.
    """
    n_rows = min(-(-len(inputs) // n_columns), 2)
    figure, axes = make_grid(n_rows, n_columns, (7.2, 7.2 / n_columns * n_rows + 0.3))
    for ax, image, mask in zip(axes.flat, inputs, masks, strict=False):
        plot_outlines(image, mask, ax=ax)
    figure.legend(handles=legend_handles("truth"), loc="outside upper left", frameon=False)
    return figure


def plot_history(history: pd.DataFrame, quantity: str, label: str, ax: Axes | None = None) -> Axes:
    """Draw "loss" or "iou" over the epochs, training beside validation; return the axes.

    `history` is as `helpers.training.loop.train` returns it. A grey line marks the start of each
    epoch with another learning rate than the one before, unless it falls in every epoch.
    """
    ax = plt.gca() if ax is None else ax
    sides = {"": (TRAIN, "training"), "val_": (VALIDATION, "validation")}
    for side, (colour, text) in sides.items():
        if side + quantity in history:
            ax.plot(history["epoch"], history[side + quantity], ".-", color=colour, label=text)
    changes = rate_changes(history)
    for place, (epoch, rate) in enumerate(changes if len(changes) <= MOST_MARKS else []):
        mark = "learning rate lowered" if place == 0 else None
        ax.axvline(epoch - 0.5, color=RATE, linestyle=":", label=mark)
        power = f"{rate:.0e}".replace("e-0", "e-")
        ax.text(epoch - 0.4, 0.02, power, color=RATE, transform=ax.get_xaxis_transform())
    ax.set(xlabel="epoch", ylabel=label, ylim=(0, 1) if quantity == "iou" else (0, None))
    ax.xaxis.get_major_locator().set_params(integer=True)
    if len(history) == 1:
        ax.set(xlim=(0, 2))
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
    axes[1].set(xlabel="step", ylabel="IoU of the foreground", ylim=(0, 1))
    axes[1].set_title("IoU on the batch")
    return figure


def plot_learned(
    inputs: NDArray[np.floating],
    maps_true: NDArray[np.floating],
    maps_pred: NDArray[np.floating],
    target: str = "foreground",
) -> Figure:
    """Draw image, truth, prediction and errors, one column an item, and return the figure.

    `inputs` are (n, H, W, 1 or 3), `maps_true` and `maps_pred` (n, H, W, n_channels) maps of
    `target`. A pixel is predicted as nucleus from .5 on.
    """
    figure, axes = make_grid(4, len(inputs), (1.35 * len(inputs) + 0.5, 6))
    masks = (get_target(target).foreground(maps) >= 0.5 for maps in (maps_true, maps_pred))
    for column, image, true, pred in zip(axes.T, inputs, *masks, strict=True):
        plot_image(image, ax=column[0])
        plot_outlines(image, true, ax=column[1])
        plot_outlines(image, None, pred, ax=column[2])
        plot_errors(true, pred, f"IoU {iou(true, pred):.2f}", ax=column[3]).title.set_fontsize(8.5)
    for ax, title in zip(axes[:, 0], ("image", "truth", "prediction", "errors"), strict=True):
        ax.text(-0.06, 0.5, title, rotation=90, ha="right", va="center", transform=ax.transAxes)
    handles = legend_handles("found", "missed", "extra")
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure
