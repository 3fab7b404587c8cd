"""Figures of the experiment: every arm at a glance, and an image on its way to a mask."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.analysis.modality import display_name
from helpers.figures.common import MODALITY_COLOURS
from helpers.inversion.original_arithmetic import Stage

AXES = {
    "iou": "IoU of the foreground",
    "ground_marked": "share of the background marked as nucleus",
    "fraction_pred": "share of the image marked as nucleus",
}
"""The measures that are drawn, and what they are called on their axis."""


def plot_steps(
    summary: pd.DataFrame,
    steps: Mapping[str, tuple[str, str]],
    measure: str = "iou",
    ax: Axes | None = None,
) -> Axes:
    """Draw one measure of several arms, modalities in their colours; return the axes.

    Parameters
    ----------
    summary : DataFrame
        As `helpers.inversion.findings.summarise_arms` returns it.
    steps : mapping of str to (arm, view)
        What is drawn, from top to bottom, under which name.
    measure : str
        One of `AXES`; its axis is fixed at 0 to 1.

    A point is the mean over images and seeds, the line its 95 % interval over fields of view, the
    band behind it the range of the seeds' means.
    """
    ax = plt.gca() if ax is None else ax
    rows = summary[summary["measure"] == measure]
    modalities = [modality for modality in MODALITY_COLOURS if modality in set(rows["modality"])]
    for y, (arm, view) in enumerate(steps.values()):
        for place, modality in enumerate(modalities):
            chosen = (rows["arm"] == arm) & (rows["view"] == view) & (rows["modality"] == modality)
            for _, row in rows[chosen].iterrows():
                where = y + 0.7 * ((place + 0.5) / len(modalities) - 0.5)
                _plot_estimate(row, where, MODALITY_COLOURS[modality], ax)
    for modality in modalities:
        ax.plot([], [], "o", color=MODALITY_COLOURS[modality], label=display_name(modality))
    for y in range(1, len(steps)):
        ax.axhline(y - 0.5, color="0.9", linewidth=0.8, zorder=0)
    ax.set_yticks(range(len(steps)), list(steps))
    ax.set(xlim=(-0.02, 1.02), ylim=(len(steps) - 0.5, -0.5), xlabel=AXES[measure])
    return ax


def _plot_estimate(row: pd.Series, y: float, colour: str, ax: Axes) -> None:
    ax.hlines(y, row["seed_low"], row["seed_high"], color=colour, linewidth=6, alpha=0.3)
    ax.hlines(y, row["low"], row["high"], color=colour, linewidth=1.2)
    ax.plot(row["estimate"], y, "o", color=colour, markersize=5)


def plot_stages(ways: Mapping[str, Sequence[Stage]]) -> Figure:
    """Draw the stages of an image on its way to a mask, one way a row; return the figure.

    Values are shown as they are, 0 as black and 1 as white: what lies above is white too.

    Parameters
    ----------
    ways : mapping of str to sequence of Stage
        As `helpers.inversion.original_arithmetic.trace_image` returns them.
    """
    n_stages = len(next(iter(ways.values())))
    size = (2.1 * n_stages, 2.2 * len(ways))
    figure, axes = plt.subplots(len(ways), n_stages, figsize=size, squeeze=False)
    for row, (name, stages) in zip(axes, ways.items(), strict=True):
        for ax, stage in zip(row, stages, strict=True):
            ax.imshow(np.clip(stage.image.astype(np.float32), 0, 1), vmin=0, vmax=1)
            ax.set_title(stage.title)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(True)
        row[0].set_ylabel(name)
    return figure
