"""Figures of masks: scores with their spread, calibration, examples, how variants fail."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from helpers.analysis.modality import display_name
from helpers.evaluation.masks import EDGES, calibration_error
from helpers.evaluation.summary import ALL, name_score
from helpers.figures.common import (
    MODALITY_COLOURS,
    PREDICTION,
    TRUTH,
    label_row,
    legend_handles,
    make_grid,
    name_examples,
    plot_errors,
    plot_image,
    plot_outlines,
    present,
    show,
)
from helpers.inversion.variants import STEPS, VARIANTS

FLOODED, REVERSED, UNSEEN = "#DE8F05", "#0173B2", "0.92"
OVERLAY_DPI, OVERLAY_COLOURS = 90, 128
"""Of a saved overlay, which stays below 150 kB."""


def plot_scores(
    table: pd.DataFrame, summary: pd.DataFrame, score: str = "iou", ax: Axes | None = None
) -> Axes:
    """Draw a dot an image, and beside them mean and 95 % interval, by modality; return the axes.

    `table` and `summary` are as `helpers.evaluation.masks.evaluate` and
    `helpers.evaluation.summary.summarise_scores` give them.
    """
    ax = plt.gca() if ax is None else ax
    rows = summary[summary["score"] == score].reset_index(drop=True)
    labels = []
    for y, row in enumerate(rows.itertuples()):
        colour = MODALITY_COLOURS.get(row.modality, "black")
        values = table.loc[table["modality"].eq(row.modality) | (row.modality == ALL), score]
        jitter = y + np.random.default_rng(0).uniform(-0.12, 0.12, len(values))
        ax.scatter(values, jitter, s=18, color=colour, alpha=0.5, linewidths=0)
        ax.hlines(y + 0.28, row.low, row.high, color="black", linewidth=1.5)
        ax.plot(row.estimate, y + 0.28, "D", color="black", markersize=5)
        counts = (row.n_images, "image", "images"), (row.n_fields, "field", "fields")
        labels.append(label_row(row.modality, *counts))
    ax.set_yticks(range(len(rows)), labels)
    ax.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6))
    ax.set_xlabel(f"{name_score(score)} of the foreground")
    ax.set_title(f"n = {len(table)} images; diamond and line: mean and 95 % interval")
    return ax


def plot_calibration(bins: pd.DataFrame) -> Sequence[Axes]:
    """Draw the reliability diagram and, below it, how many pixels stand behind each point.

    `bins` is as `helpers.evaluation.masks.calibration` gives it. Return both axes. Below the
    diagonal the network is overconfident about nuclei; bins without pixels have no point.
    """
    _, (top, bottom) = plt.subplots(2, 1, figsize=(5, 5), sharex=True, height_ratios=(3, 1))
    top.plot([0, 1], [0, 1], "--", color="#949494", label="calibrated")
    points = bins[["probability_sum", "foreground"]].div(bins["count"].replace(0, np.nan), axis=0)
    top.plot(*points.to_numpy().T, "o-", color="#0173B2", label="network")
    top.set(xlim=(0, 1), ylim=(0, 1), ylabel="observed share of nucleus")
    top.set_title(f"expected calibration error {calibration_error(bins):.3f}")
    top.legend(frameon=False)
    centres = (EDGES[1:] + EDGES[:-1]) / 2
    bottom.bar(centres, bins["count"], width=0.9 * np.diff(EDGES), color="#0173B2")
    bottom.set(yscale="log", xlabel="predicted probability of nucleus", ylabel="pixels")
    bottom.set_title(f"n = {bins['count'].sum():,} pixels")
    return top, bottom


def plot_examples(
    examples: Sequence[tuple[NDArray, NDArray, NDArray]],
    titles: Sequence[str],
    *,
    filled: bool = False,
) -> Figure:
    """Draw a row an example, (image, true mask, predicted mask), and return the figure.

    Columns: image, truth, prediction, errors. Each row's title stands at its left end. `filled`
    draws the masks as areas instead of outlines, where it matters which side is marked.
    """
    figure, axes = make_grid(len(examples), 4, (9, 2.35 * len(examples) + 0.4))
    for row, (image, mask_true, mask_pred) in zip(axes, examples, strict=True):
        plot_image(image, ax=row[0])
        if filled:
            show(mask_true, ax=row[1], cmap=ListedColormap(["black", TRUTH]), vmin=0, vmax=1)
            show(mask_pred, ax=row[2], cmap=ListedColormap(["black", PREDICTION]), vmin=0, vmax=1)
        else:
            plot_outlines(image, mask_true, ax=row[1])
            plot_outlines(image, None, mask_pred, ax=row[2])
        plot_errors(mask_true, mask_pred, ax=row[3])
    name_examples(axes, titles)
    names = (() if filled else ("truth", "prediction")) + ("found", "missed", "extra")
    figure.legend(handles=legend_handles(*names), loc="outside lower right", ncols=5, frameon=False)
    return figure


def title_example(row) -> str:
    """Return a title: rank, modality and IoU of an example, as `pick_examples` gives it."""
    return f"{row.rank}: {display_name(row.modality)}\nIoU {row.iou:.2f}"


def write_overlay(
    file: Path,
    image: NDArray[np.number],
    mask_true: NDArray[np.bool_],
    mask_pred: NDArray[np.bool_],
    title: str = "",
) -> Path:
    """Write image, truth, prediction and errors side by side as a small PNG; return its path."""
    figure, drawn = plot_examples([(image, mask_true, mask_pred)], [title]), BytesIO()
    figure.savefig(drawn, format="png", dpi=OVERLAY_DPI)
    plt.close(figure)
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(drawn).convert("RGB").quantize(OVERLAY_COLOURS)
    picture.save(file, format="PNG", optimize=True)
    return file


def plot_failures(summary: pd.DataFrame) -> Figure:
    """Draw which share of each variant's masks is flooded or reversed; return the figure.

    `summary` is as `helpers.inversion.runs.summarise_variants` returns it. One row a variant,
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


def _plot_share(shares: pd.Series, y: float, ax: Axes) -> None:
    """Draw one stacked bar, or a dot at 0 where no mask fails."""
    flooded, is_reversed = shares["flooded"], shares["reversed"]
    ax.barh(y, flooded, height=0.75, color=FLOODED)
    ax.barh(y, is_reversed, left=flooded, height=0.75, color=REVERSED)
    if not flooded + is_reversed:
        ax.plot(0, y, ".", color="0.4", markersize=4)
