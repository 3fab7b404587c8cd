"""Figures of an evaluation: scores with their spread, calibration, and the masks themselves."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from helpers.analysis.modality import display_name
from helpers.evaluation.masks import EDGES, calibration_error
from helpers.evaluation.summary import name_score
from helpers.figures.common import (
    MODALITY_COLOURS,
    label_row,
    legend_handles,
    make_grid,
    name_examples,
    plot_errors,
    plot_image,
    plot_outlines,
    plot_points,
)

OVERLAY_DPI, OVERLAY_BYTES, OVERLAY_COLOURS = 90, 140_000, 128
"""Of a saved overlay: above so many bytes, it is reduced to so many colours."""


def plot_scores(
    table: pd.DataFrame, summary: pd.DataFrame, score: str = "iou", ax: Axes | None = None
) -> Axes:
    """Draw a dot an image, and beside them mean and 95 % interval, by modality; return the axes.

    `table` and `summary` are as `helpers.evaluation.masks.evaluate` and
    `helpers.evaluation.summary.summarise_scores` give them.
    """
    ax = plt.gca() if ax is None else ax
    rows = summary[summary["score"] == score].reset_index(drop=True)
    rng = np.random.default_rng(0)
    labels = []
    for y, row in enumerate(rows.itertuples()):
        colour = MODALITY_COLOURS.get(row.modality, "black")
        values = table.loc[table["modality"].eq(row.modality) | (colour == "black"), score]
        jitter = y + rng.uniform(-0.12, 0.12, len(values))
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


def plot_score_against(
    table: pd.DataFrame, column: str, label: str, score: str = "iou", ax: Axes | None = None
) -> Axes:
    """Draw a score of every image against a measure of it, coloured by modality.

    The measure's axis is logarithmic; images without it (NaN, 0) are left out and counted in the
    title.
    """
    ax = plt.gca() if ax is None else ax
    known = table[table[column] > 0]
    plot_points(known, column, score, ax)
    n_left_out = len(table) - len(known)
    left_out = f", {n_left_out} without nuclei left out" if n_left_out else ""
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("{x:g}")
    ax.set(xlabel=label, ylabel=f"{name_score(score)} of the foreground", ylim=(0, 1))
    ax.set_title(f"n = {len(known)} images{left_out}")
    return ax


def plot_calibration(bins: pd.DataFrame, axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Draw the reliability diagram and, below it, how many pixels stand behind each point.

    `bins` is as `helpers.evaluation.masks.calibration` gives it. Return both axes. Below the
    diagonal the network is overconfident about nuclei; bins without pixels have no point.
    """
    if axes is None:
        _, axes = plt.subplots(2, 1, figsize=(5, 5), sharex=True, height_ratios=(3, 1))
    top, bottom = axes
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
    return axes


def plot_examples(
    examples: Sequence[tuple[NDArray, NDArray, NDArray]], titles: Sequence[str]
) -> Figure:
    """Draw a row an example, (image, true mask, predicted mask), and return the figure.

    Columns: image, truth, prediction, errors. Each row's title stands at its left end.
    """
    figure, axes = make_grid(len(examples), 4, (9, 2.35 * len(examples) + 0.4))
    for row, (image, mask_true, mask_pred) in zip(axes, examples, strict=True):
        plot_image(image, ax=row[0])
        plot_outlines(image, mask_true, ax=row[1])
        plot_outlines(image, None, mask_pred, ax=row[2])
        plot_errors(mask_true, mask_pred, ax=row[3])
    name_examples(axes, titles)
    names = ("truth", "prediction", "found", "missed", "extra")
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
    figure = plot_examples([(image, mask_true, mask_pred)], [title])
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=OVERLAY_DPI)
    plt.close(figure)
    file.parent.mkdir(parents=True, exist_ok=True)
    drawn.seek(0)
    picture = Image.open(drawn).convert("RGB")
    picture.save(file, format="PNG", optimize=True)
    if file.stat().st_size > OVERLAY_BYTES:
        picture.quantize(OVERLAY_COLOURS).save(file, format="PNG", optimize=True)
    return file
