"""Figures of a training: what the network sees, and how its error falls."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from helpers.figures.common import PREDICTION, legend_handles, plot_outlines

TRAIN, VALIDATION, RATE = "#0173B2", PREDICTION, "#949494"
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
    *,
    mark_rates: bool = True,
) -> Axes:
    """Draw a quantity over the epochs, training beside validation; return the axes.

    Parameters
    ----------
    history : DataFrame
        As `helpers.training.loop.train` returns it.
    quantity : str
        "loss" or "iou"; the axis of IoU is fixed at 0 to 1.
    label : str
        What stands at the axis.
    mark_rates : bool
        Whether a grey line marks the start of each epoch with another learning rate than the one
        before; a rate that falls in every epoch is not marked.
    """
    ax = plt.gca() if ax is None else ax
    for column, colour, text in (
        (quantity, TRAIN, "training"),
        (f"val_{quantity}", VALIDATION, "validation"),
    ):
        if column in history:
            ax.plot(history["epoch"], history[column], ".-", color=colour, label=text)
    changes = rate_changes(history) if mark_rates else []
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
