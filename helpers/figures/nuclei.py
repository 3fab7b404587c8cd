"""Figures of single nuclei: how many are found, which errors are made, and where."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries

from helpers.analysis.modality import display_name
from helpers.evaluation.matching import FATES_TRUE, THRESHOLDS, Matching, match
from helpers.evaluation.nuclei import ERRORS
from helpers.evaluation.published import AP_SCORES, ENDS
from helpers.figures.common import (
    EXTRA,
    FOUND,
    MISSED,
    plot_image,
    plot_labels,
)

FATE_COLOURS = {
    "matched": FOUND,
    "merged": "#CC78BC",
    "split": "#029E73",
    "inaccurate": "#949494",
    "missed": MISSED,
    "spurious": EXTRA,
}
"""Colours from seaborn's colour-blind palette; a fate has the same one in every figure."""
PUBLISHED_LINES = ("solid", "dashed", "dashdot", "dotted")
RESIZED = {
    "as_is": "the image as it is",
    "found": "it at the scale found",
    "given": "it with the diameter given",
}
"""Ways in which `benchmarks/sizes.py` segments an image, as a reader says them."""
_SIZE_SCORES = {
    "ap_50": "average precision at IoU 0.5",
    "recall_70": "share of nuclei found at IoU 0.7",
}
_OUTLINE = len(FATE_COLOURS) + 1


def plot_precision_curve(
    curves: Mapping[str, Sequence[float]],
    published: Mapping[str, Sequence[float]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw average precision against the IoU from which a nucleus counts; return the axes.

    Parameters
    ----------
    curves : mapping of str to sequence of float
        Values (0 to 1) at IoU .50, .55, ... .95 by name. A shorter one ends earlier.
    published : mapping of str to sequence of float, optional
        The same from the literature, drawn in grey, such as
        `helpers.evaluation.nuclei_scores.PUBLISHED_AP`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; the current axes by default.
    """
    ax = plt.gca() if ax is None else ax
    for place, (name, values) in enumerate((published or {}).items()):
        line = PUBLISHED_LINES[place % len(PUBLISHED_LINES)]
        told = f"{name} (published)"
        ax.plot(THRESHOLDS[: len(values)], values, color="0.55", linestyle=line, label=told)
    palette = sns.color_palette("colorblind")
    for place, (name, values) in enumerate(curves.items()):
        look = {"color": palette[place % len(palette)], "linewidth": 2, "markersize": 4}
        ax.plot(THRESHOLDS[: len(values)], values, "o-", label=name, clip_on=False, **look)
    ax.set(xlim=(0.48, 0.97), ylim=(0, 1), xticks=np.arange(0.5, 1, 0.1))
    ax.set(xlabel="a nucleus counts from this IoU on", ylabel="average precision TP/(TP+FP+FN)")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_published(comparison: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw our average precision at IoU .50 to .90 against the published; return the axes.

    `comparison` is as `helpers.evaluation.comparison.compare_published` returns it; methods of
    which only an average over images is published are left out. Vertical lines are 95 % intervals
    over fields of view, the band reaches from the lowest to the highest seed.
    """
    ax = plt.gca() if ax is None else ax
    known = comparison.dropna(subset=list(AP_SCORES)).set_index("method")
    curves = known[list(AP_SCORES)].T.to_dict("list")
    ours = known[~known["published"]]
    plot_precision_curve(
        {name: curves[name] for name in ours.index},
        {name: values for name, values in curves.items() if name not in ours.index},
        ax,
    )
    limits, palette = THRESHOLDS[: len(AP_SCORES)], sns.color_palette("colorblind")
    for place, row in enumerate(ours.to_dict("records")):
        low, high, seed_low, seed_high = (
            [row[f"{score}_{end}"] for score in AP_SCORES] for end in ENDS
        )
        colour = palette[place % len(palette)]
        ax.vlines(limits, low, high, color=colour, linewidth=1.5, alpha=0.6)
        ax.fill_between(limits, seed_low, seed_high, color=colour, alpha=0.25, linewidth=0)
        ax.set_title(f"n = {row['n_nuclei']:,} nuclei in {row['n_images']} images")
    ax.set(xlim=(0.48, 0.92))
    return ax


def plot_error_types(errors: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw errors per 100 true nuclei as bars, a group of bars a modality; return the axes.

    `errors` is as `helpers.evaluation.nuclei_scores.tabulate_errors` returns it; modalities without
    true nuclei are left out.
    """
    ax = plt.gca() if ax is None else ax
    known = errors[errors["n_true"] > 0].reset_index(drop=True)
    height = 0.8 / len(ERRORS)
    for place, error in enumerate(ERRORS):
        y = known.index + (place - (len(ERRORS) - 1) / 2) * height
        bars = ax.barh(y, known[error], height, color=FATE_COLOURS[error], label=error)
        ax.bar_label(bars, fmt="{:.1f}", padding=2, fontsize="x-small")
    ax.set_yticks(
        known.index, [_tell(row.modality, row.n_true, row.n_images) for row in known.itertuples()]
    )
    ax.invert_yaxis()
    ax.set(xlabel="errors per 100 true nuclei")
    ax.margins(x=0.08)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def _tell(modality: str, n_true: int, n_images: int) -> str:
    nuclei = "nucleus" if n_true == 1 else "nuclei"
    images = "image" if n_images == 1 else "images"
    name = display_name(modality) if modality != "all" else "all modalities"
    return f"{name}\n{n_true:,} {nuclei}, {n_images} {images}"


def plot_recall_by_size(sizes: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the share of nuclei found against their diameter, by IoU; return the axes.

    `sizes` is as `helpers.evaluation.nuclei_scores.score_by_size` returns it. A point is a class
    of sizes at its median, the line its 95 % interval over fields of view; the numbers on top are
    the nuclei of each class.
    """
    ax = plt.gca() if ax is None else ax
    palette = sns.color_palette("colorblind")
    for place, (threshold, rows) in enumerate(sizes.groupby("threshold")):
        # Beside each other, so that neither interval hides the other.
        x, colour = rows["diameter_px"] * 1.02**place, palette[place % len(palette)]
        ax.vlines(x, rows["low"], rows["high"], color=colour, linewidth=1.5, alpha=0.6)
        label = f"IoU from {threshold:g} on"
        ax.plot(x, rows["estimate"], "o-", color=colour, markersize=5, label=label, clip_on=False)
    classes = sizes.drop_duplicates("from_px")
    for x, n_nuclei in zip(classes["diameter_px"], classes["n_nuclei"], strict=True):
        text = {"ha": "center", "fontsize": "x-small", "color": "0.4"}
        ax.text(x, 1.03, f"{n_nuclei:,}", transform=ax.get_xaxis_transform(), **text)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set(ylim=(0, 1), xlabel="diameter of the nucleus (px)", ylabel="share of nuclei found")
    ax.set_title(f"n = {classes['n_nuclei'].sum():,} nuclei, of each class below", pad=16)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_sizes(table: pd.DataFrame, score: str = "ap_50", ax: Axes | None = None) -> Axes:
    """Draw how well nuclei are found against the size they were brought to; return the axes.

    Parameters
    ----------
    table : DataFrame
        As `benchmarks/sizes.py` writes it. A point is a median diameter, the line its 95 %
        interval over images; the numbers on top are the images of each.
    score : {"ap_50", "recall_70"}
        Which of its scores.
    ax : matplotlib.axes.Axes, optional
        Where to draw; the current axes by default.
    """
    ax = plt.gca() if ax is None else ax
    palette = sns.color_palette("colorblind")
    for place, (way, label) in enumerate(RESIZED.items()):
        rows = table[table["way"] == way]
        # Beside each other, so that neither interval hides the others.
        x, colour = rows["diameter_px"] * 1.03 ** (place - 1), palette[place]
        low, high = rows[f"{score}_low"], rows[f"{score}_high"]
        ax.vlines(x, low, high, color=colour, linewidth=1.5, alpha=0.6)
        ax.plot(x, rows[score], "o-", color=colour, markersize=5, label=label, clip_on=False)
    sizes = table.drop_duplicates("diameter_px")
    for x, n_images in zip(sizes["diameter_px"], sizes["n_images"], strict=True):
        text = {"ha": "center", "fontsize": "x-small", "color": "0.4"}
        ax.text(x, 1.03, f"{n_images:,}", transform=ax.get_xaxis_transform(), **text)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(sizes["diameter_px"], [f"{x:g}" for x in sizes["diameter_px"]])
    ax.set(ylim=(0, 1), xlabel="median diameter of the nuclei in the image (px)")
    ax.set(ylabel=_SIZE_SCORES[score])
    ax.set_title("n images of each size below", pad=16)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), title="the network sees")
    return ax


def paint_fates(
    labels_true: NDArray[np.integer], labels_pred: NDArray[np.integer], matching: Matching
) -> NDArray[np.uint8]:
    """Return what became of every nucleus, as an image of codes.

    Returns
    -------
    numpy.ndarray of uint8, shape (H, W)
        0 where there is neither, the place in `FATE_COLOURS` (from 1 on) of the fate of the true
        nucleus, or of "spurious" where a spurious object lies on background; the last code, 7,
        on the outline of every other predicted object.
    """
    names = list(FATE_COLOURS)
    codes = np.zeros(labels_true.shape, np.uint8)
    for fate in FATES_TRUE:
        nuclei = np.isin(labels_true, matching.ids_true[matching.fates_true == fate])
        codes[nuclei] = names.index(fate) + 1
    spurious = np.isin(labels_pred, matching.ids_pred[matching.fates_pred == "spurious"])
    codes[spurious & (codes == 0)] = names.index("spurious") + 1
    codes[find_boundaries(np.where(spurious, 0, labels_pred), mode="inner")] = _OUTLINE
    return codes


def plot_fates(
    labels_true: NDArray[np.integer],
    labels_pred: NDArray[np.integer],
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw true nuclei in the colours of their fates, predictions outlined; return the axes.

    Spurious objects are filled. Fates are those of `helpers.evaluation.instances.match`.
    """
    ax = plt.gca() if ax is None else ax
    codes = paint_fates(labels_true, labels_pred, match(labels_true, labels_pred))
    colours = ListedColormap(["black", *FATE_COLOURS.values(), "white"])
    ax.imshow(codes, cmap=colours, vmin=0, vmax=_OUTLINE)
    ax.set_title(title)
    ax.set_axis_off()
    return ax


def plot_nuclei_examples(
    examples: Sequence[tuple[NDArray, NDArray, NDArray]], titles: Sequence[str]
) -> Figure:
    """Draw a row an example, (image, true labels, predicted labels), and return the figure.

    Columns: image, truth, prediction, errors. Each row's title stands at its left end.
    """
    figure, axes = plt.subplots(
        len(examples), 4, figsize=(9, 2.35 * len(examples) + 0.4), squeeze=False
    )
    for row, (image, labels_true, labels_pred), title in zip(axes, examples, titles, strict=True):
        plot_image(image, ax=row[0]).set_title(title, fontsize="small")
        plot_labels(labels_true, ax=row[1])
        plot_labels(labels_pred, ax=row[2])
        plot_fates(labels_true, labels_pred, ax=row[3])
    for ax, title in zip(axes[0][1:], ("truth", "prediction", "errors"), strict=True):
        ax.set_title(title, fontsize="small")
    figure.legend(
        handles=_fate_legend(),
        loc="outside lower right",
        ncols=len(FATE_COLOURS) + 1,
        frameon=False,
        fontsize="small",
        columnspacing=1.2,
    )
    return figure


def _fate_legend() -> list[Patch]:
    fates = [Patch(facecolor=colour, label=fate) for fate, colour in FATE_COLOURS.items()]
    return [*fates, Patch(facecolor="black", edgecolor="0.7", label="prediction's outline")]
