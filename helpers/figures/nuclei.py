"""Figures of single nuclei: how many are found, which errors are made, and where."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from skimage.segmentation import find_boundaries

from helpers.analysis.modality import display_name
from helpers.evaluation.matching import OUTCOMES_TRUE, THRESHOLDS, Matching, match
from helpers.evaluation.nuclei import ERRORS
from helpers.evaluation.published import ENDS, POOLED
from helpers.evaluation.summary import ALL
from helpers.figures.common import (
    EXTRA,
    FOUND,
    MISSED,
    MODALITY_COLOURS,
    label_row,
    legend_beside,
    make_grid,
    name_examples,
    plot_image,
    plot_labels,
    show,
)

OUTCOME_COLOURS = {
    "found": FOUND,
    "merged": "#CC78BC",
    "split": "#029E73",
    "inaccurate": "#949494",
    "missed": MISSED,
    "extra": EXTRA,
}
"""Colours from seaborn's colour-blind palette; an outcome has the same one in every figure."""
PUBLISHED_LINES = ("solid", "dashed", "dashdot", "dotted")
RESIZED = {
    "as_is": "not resized",
    "found": "resized by the scale found",
    "given": "resized by the diameter given",
}
"""Ways in which `benchmarks/sizes.py` segments an image."""
_OUTLINE = len(OUTCOME_COLOURS) + 1


def plot_precision_curve(
    curves: Mapping[str, Sequence[float]],
    published: Mapping[str, Sequence[float]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw average precision against the IoU from which a nucleus counts; return the axes.

    `curves` and `published` are values (0 to 1) at IoU .50, .55, ... .95 by name; a shorter one
    ends earlier. Those of the literature are drawn in grey.
    """
    ax = plt.gca() if ax is None else ax
    for (name, values), line in zip((published or {}).items(), cycle(PUBLISHED_LINES)):
        look = {"color": "0.55", "linestyle": line, "label": f"{name} (published)"}
        ax.plot(THRESHOLDS[: len(values)], values, **look)
    modalities = {**MODALITY_COLOURS, ALL: "black"}
    for (name, values), other in zip(curves.items(), cycle(sns.color_palette("colorblind"))):
        look = {"linewidth": 2, "markersize": 4, "label": display_name(name), "clip_on": False}
        look["color"] = modalities.get(name, other)
        ax.plot(THRESHOLDS[: len(values)], values, "o-", **look)
    ax.set(xlim=(0.48, 0.97), ylim=(0, 1), xticks=np.arange(0.5, 1, 0.1))
    ax.set(xlabel="a nucleus counts from this IoU on", ylabel="average precision TP/(TP+FP+FN)")
    legend_beside(ax)
    return ax


def plot_published(comparison: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw our average precision at IoU .50 to .90 against the published; return the axes.

    `comparison` is as `helpers.evaluation.published.compare_published` returns it; methods of
    which only an average over images is published are left out. Vertical lines are 95 % intervals
    over fields of view, the band reaches from the lowest to the highest seed.
    """
    ax = plt.gca() if ax is None else ax
    known = comparison.dropna(subset=list(POOLED)).set_index("method")
    curves = known[list(POOLED)].T
    is_ours = known["source"] == ""
    plot_precision_curve(dict(curves.loc[:, is_ours]), dict(curves.loc[:, ~is_ours]), ax)
    limits, palette = THRESHOLDS[: len(POOLED)], sns.color_palette("colorblind")
    for row, colour in zip(known[is_ours].to_dict("records"), cycle(palette)):
        low, high, seed_low, seed_high = (
            [row[f"{score}_{end}"] for score in POOLED] for end in ENDS
        )
        ax.vlines(limits, low, high, color=colour, linewidth=1.5, alpha=0.6)
        ax.fill_between(limits, seed_low, seed_high, color=colour, alpha=0.25, linewidth=0)
        ax.set_title(f"n = {row['n_nuclei']:,} nuclei in {row['n_images']} images")
    ax.set(xlim=(0.48, 0.92))
    return ax


def plot_error_types(errors: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw errors per 100 true nuclei as bars, a group of bars a modality; return the axes.

    `errors` is as `helpers.evaluation.nuclei.tabulate_errors` returns it; modalities without
    true nuclei are left out.
    """
    ax = plt.gca() if ax is None else ax
    known = errors[errors["n_true"] > 0].reset_index(drop=True)
    labels = [
        label_row(
            row.modality, (row.n_true, "nucleus", "nuclei"), (row.n_images, "image", "images")
        )
        for row in known.itertuples()
    ]
    height = 0.8 / len(ERRORS)
    for place, error in enumerate(ERRORS):
        y = known.index + (place - (len(ERRORS) - 1) / 2) * height
        bars = ax.barh(y, known[error], height, color=OUTCOME_COLOURS[error], label=error)
        ax.bar_label(bars, fmt="{:.1f}", padding=2, fontsize="x-small")
    ax.set_yticks(known.index, labels)
    ax.invert_yaxis()
    ax.set(xlabel="errors per 100 true nuclei")
    ax.margins(x=0.08)
    legend_beside(ax)
    return ax


def plot_recall_by_size(sizes: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the share of nuclei found against their diameter, by IoU; return the axes.

    `sizes` has a row for each IoU (`threshold`) and class of sizes: from_px, diameter_px, n_nuclei,
    estimate, low and high (shares, 0 to 1). A point is a class at its median, the line its 95 %
    interval over fields of view; the numbers on top are the nuclei of each class.
    """
    ax = plt.gca() if ax is None else ax
    for place, (threshold, rows) in enumerate(sizes.groupby("threshold")):
        values = rows[["diameter_px", "estimate", "low", "high"]]
        _plot_by_size(values, f"IoU from {threshold:g} on", 1.02**place, place, ax)
    classes = sizes.drop_duplicates("from_px")
    _count_above(classes["diameter_px"], classes["n_nuclei"], ax)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set(ylim=(0, 1), xlabel="diameter of the nucleus (px)", ylabel="share of nuclei found")
    title = f"n = {classes['n_nuclei'].sum():,} nuclei; numbers: those of each class of size"
    ax.set_title(title, pad=16)
    legend_beside(ax)
    return ax


def _plot_by_size(values: pd.DataFrame, label: str, shift: float, place: int, ax: Axes) -> None:
    """Draw size, estimate and interval; `shift` keeps intervals beside each other."""
    size, estimate, low, high = values.to_numpy(float).T
    colour = sns.color_palette("colorblind")[place]
    ax.vlines(size * shift, low, high, color=colour, linewidth=1.5, alpha=0.6)
    ax.plot(size * shift, estimate, "o-", color=colour, markersize=5, label=label, clip_on=False)


def _count_above(sizes_px: pd.Series, counts: pd.Series, ax: Axes) -> None:
    """Set a logarithmic axis of sizes, and above each how many were counted."""
    ax.set_xscale("log", base=2)
    for x, count in zip(sizes_px, counts, strict=True):
        text = {"ha": "center", "fontsize": "x-small", "color": "0.4"}
        ax.text(x, 1.03, f"{count:,}", transform=ax.get_xaxis_transform(), **text)


def plot_reliability(reliability: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw which share of the nuclei is right against their score; return the axes.

    `reliability` is a run's `score.csv`: source, predicted, observed (0 to 1) and n. A larger point
    stands for more nuclei. Below the diagonal the score promises too much.
    """
    ax = plt.gca() if ax is None else ax
    ax.plot([0, 1], [0, 1], "--", color="#949494", label="calibrated")
    groups = reliability.groupby("source", sort=False)
    for (source, points), colour in zip(groups, sns.color_palette("colorblind"), strict=False):
        points = points.sort_values("predicted")
        ax.plot("predicted", "observed", data=points, color=colour, lw=1, label="_")
        label = f"{source} (n = {points['n'].sum():,})"
        sizes = 10 + 150 * points["n"] / points["n"].max()
        ax.scatter("predicted", "observed", s=sizes, data=points, color=colour, label=label)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="score", ylabel="share of nuclei that are right")
    ax.legend(frameon=False)
    return ax


def plot_sizes(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how well nuclei are found against the size they were brought to; return the axes.

    `table` is as `benchmarks/sizes.py` writes it. A point is a median diameter, the line its 95 %
    interval over images; the numbers on top are the images of each.
    """
    ax = plt.gca() if ax is None else ax
    for place, (way, label) in enumerate(RESIZED.items()):
        values = table.loc[table["way"] == way, ["diameter_px", "ap_50", "ap_50_low", "ap_50_high"]]
        _plot_by_size(values, label, 1.03 ** (place - 1), place, ax)
    sizes = table.drop_duplicates("diameter_px")
    _count_above(sizes["diameter_px"], sizes["n_images"], ax)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(sizes["diameter_px"], [f"{x:g}" for x in sizes["diameter_px"]])
    ax.set(ylim=(0, 1), xlabel="median diameter of the nuclei in the image (px)")
    ax.set_ylabel("average precision at IoU 0.5")
    ax.set_title("numbers: images of each size", pad=16)
    legend_beside(ax)
    return ax


def paint_outcomes(
    labels_true: NDArray[np.integer], labels_pred: NDArray[np.integer], matching: Matching
) -> NDArray[np.uint8]:
    """Return what became of every nucleus, as an image of codes, (H, W) uint8.

    0 where there is neither, the place in `OUTCOME_COLOURS` (from 1 on) of what became of the true
    nucleus, or of "extra" where an extra object lies on background; the last code, 7, on the
    outline of every other predicted object.
    """
    names = list(OUTCOME_COLOURS)
    codes = np.zeros(labels_true.shape, np.uint8)
    for outcome in OUTCOMES_TRUE:
        nuclei = np.isin(labels_true, matching.ids_true[matching.outcomes_true == outcome])
        codes[nuclei] = names.index(outcome) + 1
    extra = np.isin(labels_pred, matching.ids_pred[matching.outcomes_pred == "extra"])
    codes[extra & (codes == 0)] = names.index("extra") + 1
    codes[find_boundaries(np.where(extra, 0, labels_pred), mode="inner")] = _OUTLINE
    return codes


def plot_outcomes(
    labels_true: NDArray[np.integer],
    labels_pred: NDArray[np.integer],
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw true nuclei in the colours of their outcomes, predictions outlined; return the axes.

    Extra objects are filled. Outcomes are those of `helpers.evaluation.matching.match`.
    """
    codes = paint_outcomes(labels_true, labels_pred, match(labels_true, labels_pred))
    colours = ListedColormap(["black", *OUTCOME_COLOURS.values(), "white"])
    return show(codes, title, ax, cmap=colours, vmin=0, vmax=_OUTLINE)


def plot_nuclei_examples(
    examples: Sequence[tuple[NDArray, NDArray, NDArray]],
    titles: Sequence[str],
    windows: Sequence[tuple[slice, slice]] | None = None,
) -> Figure:
    """Draw a row an example, (image, true labels, predicted labels), and return the figure.

    Columns: image, truth, prediction, errors. Each row's title stands at its left end. With
    windows, (rows, columns) of each example, only that part is shown.
    """
    windows = windows or [tuple(slice(0, px) for px in labels.shape) for _, labels, _ in examples]
    sizes = [[part.stop - part.start for part in window] for window in windows]
    heights = [2.1 * min(height / width, 1.5) + 0.25 for height, width in sizes]
    figure, axes = make_grid(len(examples), 4, (9, sum(heights) + 0.5), height_ratios=heights)
    shown = zip(axes, examples, windows, strict=True)
    for row, (image, labels_true, labels_pred), (rows, columns) in shown:
        plot_image(image, ax=row[0])
        plot_labels(labels_true, ax=row[1])
        plot_labels(labels_pred, ax=row[2])
        plot_outcomes(labels_true, labels_pred, ax=row[3])
        limits = {"xlim": (columns.start - 0.5, columns.stop - 0.5)}
        plt.setp(row, ylim=(rows.stop - 0.5, rows.start - 0.5), **limits)
    name_examples(axes, titles)
    handles = [Patch(facecolor=colour, label=name) for name, colour in OUTCOME_COLOURS.items()]
    handles.append(Line2D([], [], color="white", label="prediction's outline"))
    legend = figure.legend(
        handles=handles, title="errors", loc="outside lower right", ncols=len(handles),
        fontsize="small", columnspacing=1.2, facecolor="black", framealpha=1, labelcolor="white",
    )  # fmt: skip
    legend.get_title().set_color("white")
    return figure


def window_around(nucleus: NDArray[np.bool_], margin_px: int = 12) -> tuple[slice, slice]:
    """Return rows and columns of a square around a nucleus; it may leave the image."""
    (box,) = find_objects(nucleus.astype(np.uint8))
    side = max(part.stop - part.start for part in box) + 2 * margin_px
    starts = [(part.start + part.stop - side) // 2 for part in box]
    return tuple(slice(start, start + side) for start in starts)
