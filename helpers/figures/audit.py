"""Figures of an audit: where a network is expected to fail, and which images it does not know."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from helpers.analysis.modality import display_name
from helpers.figures.common import MODALITY_COLOURS, present


def plot_prediction(predicted: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw `threshold_iou` of every modality, which `predicted` has with its `training_fields`."""
    ax = plt.subplots(figsize=(6.5, 2.6))[1] if ax is None else ax
    ax.axvspan(0, 0.5, color="black", alpha=0.06, linewidth=0)
    names = [f"{display_name(row.Index)} ({row.training_fields})" for row in predicted.itertuples()]
    colours = [MODALITY_COLOURS[modality] for modality in predicted.index]
    ax.bar_label(ax.barh(names, predicted["threshold_iou"], color=colours), fmt=" {:.2f}")
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.08), xlabel="mean IoU of a threshold, on training images")
    ax.set_title("shaded: expected to fail; in brackets: training fields")
    return ax


def plot_distances(distances: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how far images are without their field and without their modality; return the axes.

    `distances` has modality, distance (as `Familiarity.distances` gives it) and trained_on, "all
    but its field" or "all but its modality"; what is nearer than .05 is drawn there.
    """
    ax = plt.subplots(figsize=(6.5, 3))[1] if ax is None else ax
    order = present(distances["modality"])
    rng = np.random.default_rng(0)
    styles = {"all but its field": ("full", -0.18), "all but its modality": ("none", 0.18)}
    for row, modality in enumerate(order):
        for case, (fill, shift) in styles.items():
            chosen = (distances["modality"] == modality) & (distances["trained_on"] == case)
            values = distances.loc[chosen, "distance"].clip(lower=0.05)
            height = row + shift + rng.uniform(-0.12, 0.12, len(values))
            style = {"fillstyle": fill, "color": MODALITY_COLOURS[modality], "alpha": 0.6}
            ax.plot(values, height, "o", markersize=4, **style)
    for case, (fill, _) in styles.items():
        style = {"fillstyle": fill, "color": "black", "label": f"trained on {case}"}
        ax.plot([], [], "o", markersize=4, **style)
    ax.axvline(1, color="black", linestyle=":", linewidth=1)
    ax.set_xscale("log")
    ax.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    ax.xaxis.set_minor_formatter(NullFormatter())
    chosen = distances["trained_on"] == "all but its field"
    counts = distances.loc[chosen, "modality"].value_counts()
    ax.set_yticks(range(len(order)), [f"{display_name(k)} ({counts.get(k, 0)})" for k in order])
    ax.set(ylim=(len(order) - 0.5, -0.5), xlabel="distance from the training images (1: usual)")
    ax.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    return ax
