"""Figures of notebook 06: an image on its way to a mask, and how every variant's masks fail."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from helpers.analysis.modality import display_name
from helpers.figures.common import AREAS, LINES, legend_handles, plot_errors, plot_image, present
from helpers.inversion.variants import STEPS, VARIANTS

FLOODED, REVERSED = "#DE8F05", "#0173B2"
UNSEEN = "0.92"


def plot_stages(stages: Mapping[str, NDArray]) -> Figure:
    """Draw the stages of an image side by side and return the figure.

    Values are shown as they are, 0 as black and 1 as white: what lies above is white too.
    """
    figure, axes = plt.subplots(1, len(stages), figsize=(2.1 * len(stages), 2.3), squeeze=False)
    for ax, (title, image) in zip(axes[0], stages.items(), strict=True):
        ax.imshow(np.clip(image.astype(np.float32), 0, 1), vmin=0, vmax=1)
        ax.set_title(title)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
    return figure


def plot_failure(
    image: NDArray, mask_true: NDArray[np.bool_], mask_pred: NDArray[np.bool_], title: str = ""
) -> Figure:
    """Draw image, truth, prediction and errors of one mask; return the figure."""
    figure, axes = plt.subplots(1, 4, figsize=(9.2, 2.5))
    plot_image(image, "image", axes[0])
    for ax, name, mask in zip(axes[1:3], LINES, (mask_true, mask_pred), strict=True):
        ax.imshow(mask, vmin=0, vmax=1)
        ax.set(title=name, xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
    plot_errors(mask_true, mask_pred, "errors", axes[3])
    handles = legend_handles(*AREAS)
    figure.legend(handles=handles, loc="outside center right", frameon=False)
    figure.suptitle(title, fontsize="medium")
    return figure


def plot_failures(summary: pd.DataFrame) -> Figure:
    """Draw which share of each variant's masks is flooded or reversed; return the figure.

    `summary` is as `helpers.inversion.findings.summarise_variants` returns it. One row a variant,
    the steps from the original's arithmetic to ours first; one column a modality. A grey field: the
    variant was trained without the modality. A dot: no mask failed. Neither of both: not tested.
    """
    chosen = summary[summary["measure"].isin(["flooded", "reversed"])]
    shares = chosen.pivot_table("estimate", ["variant", "view", "modality"], "measure")
    rows = _rows(summary)
    modalities = present(summary["modality"])
    size = (2.2 + 1.7 * len(modalities), 1.1 + 0.215 * len(rows))
    shared = {"sharex": True, "sharey": True, "squeeze": False}
    figure, axes = plt.subplots(1, len(modalities), figsize=size, **shared)
    for ax, modality in zip(axes[0], modalities, strict=True):
        for y, (variant, view) in enumerate(rows.values()):
            if (variant, view, modality) in shares.index:
                _plot_share(shares.loc[variant, view, modality], y, ax)
            if modality not in VARIANTS[variant].modalities:
                ax.axhspan(y - 0.5, y + 0.5, color=UNSEEN, zorder=0, linewidth=0)
        ax.set_title(display_name(modality).replace(" ", "\n"))
        ax.set(xlim=(-0.03, 1.03), xticks=(0, 0.5, 1), ylim=(len(rows) - 0.5, -0.5))
    axes[0, 0].set_yticks(range(len(rows)), list(rows))
    figure.supxlabel("share of masks", fontsize="medium")
    colours = {"flooded": FLOODED, "reversed": REVERSED, "not in training": UNSEEN}
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside upper right", ncols=3, frameon=False)
    return figure


def _rows(summary: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Return label, variant and view of every row that `summary` has scores for."""
    tested = set(zip(summary["variant"], summary["view"], strict=True))
    ours = {name: (name, "ours") for name in VARIANTS if name != "scaled"}
    return {label: row for label, row in (STEPS | ours).items() if row in tested}


def _plot_share(shares: pd.Series, y: float, ax: plt.Axes) -> None:
    """Draw one stacked bar, or a dot at 0 where no mask fails."""
    flooded, is_reversed = shares["flooded"], shares["reversed"]
    ax.barh(y, flooded, height=0.75, color=FLOODED)
    ax.barh(y, is_reversed, left=flooded, height=0.75, color=REVERSED)
    if not flooded + is_reversed:
        ax.plot(0, y, ".", color="0.4", markersize=4)
