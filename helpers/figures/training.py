"""Figures of a training: what the network sees, and how its error falls."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from helpers.figures.common import PREDICTION, TRUTH, plot_outlines

TRAIN, VALIDATION, RATE = "#0173B2", PREDICTION, "#949494"


def plot_batch(
    inputs: NDArray[np.floating], targets: NDArray[np.floating], *, n_columns: int = 4
) -> Figure:
    """Draw the first images of a batch with their targets outlined; return the figure.

    Parameters
    ----------
    inputs : (n, H, W, channels) array
        As the network gets them; each is stretched for display.
    targets : (n, H, W, 1) array of 0 and 1
    n_columns : int
        Images in a row; at most two rows are drawn.
    """
    n_shown = min(len(inputs), 2 * n_columns)
    n_rows = -(-n_shown // n_columns)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=(9, 2.3 * n_rows), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image, target in zip(axes.flat, inputs[:n_shown], targets[:n_shown], strict=False):
        shown = image if image.shape[-1] == 3 else image[..., 0]
        plot_outlines(shown, target[..., 0] > 0.5, ax=ax)
    figure.legend(
        handles=[plt.Line2D([], [], color=TRUTH, label="outline of the target")],
        loc="outside upper left",
        frameon=False,
    )
    return figure


def plot_history(history: pd.DataFrame, quantity: str, label: str, ax: Axes | None = None) -> Axes:
    """Draw a quantity over the epochs, training beside validation; return the axes.

    Parameters
    ----------
    history : DataFrame
        As `helpers.training.loop.train` returns it. A grey line marks the start of each epoch with
        another learning rate than the one before.
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
    for place, (epoch, rate) in enumerate(rate_changes(history)):
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
