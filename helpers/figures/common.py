"""Figures that several notebooks share: one style, one order, one meaning for every colour.

Order: image, truth, prediction, errors. Truth is drawn in sky blue, prediction in dashed orange.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from skimage.color import rgb2lab
from skimage.segmentation import expand_labels

from helpers.analysis.modality import MODALITIES, display_name

TRUTH, PREDICTION = "#56B4E9", "#DE8F05"
FOUND, MISSED, EXTRA = "#56B4E9", "#D55E00", "#ECE133"
LINES = {"truth": (TRUTH, "solid"), "prediction": (PREDICTION, "dashed")}
AREAS = {"found": FOUND, "missed": MISSED, "extra": EXTRA}
MODALITY_COLOURS = {
    "small_fluorescent": "#0173B2",
    "large_fluorescent": "#029E73",
    "purple_tissue": "#CC78BC",
    "pink_purple_tissue": "#D55E00",
    "grayscale_tissue": "#949494",
}
"""Colours from seaborn's colour-blind palette; a modality has the same one in every figure."""
_HEX = ("#56B4E9", "#DE8F05", "#02BE83", "#ECE133", "#E377C2", "#0173B2", "#D55E00", "#E8E8E8")
LABEL_COLOURS = np.array([to_rgb(colour) for colour in _HEX])
CLEAR = 45.0
"""Distance in CIELAB from which two colours on a figure are told apart at once."""
NEAR_PX = 6
"""Nuclei up to twice this far apart are neighbours."""


def set_style() -> None:
    """Set the look of all figures: light, without frames, legible at a notebook's width."""
    sns.set_theme(style="ticks", palette="colorblind", font_scale=0.9)
    plt.rcParams.update(
        {
            "figure.dpi": 90,
            "savefig.dpi": 150,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "axes.titlelocation": "left",
            "image.interpolation": "nearest",
            "image.cmap": "gray",
        }
    )


def stretch(image: NDArray[np.number]) -> NDArray[np.float64]:
    """Return `image` with its darkest .5 % at 0 and its brightest .5 % at 1, for display only.

    Fluorescent images use a small part of their range and look black otherwise.
    """
    values = np.asarray(image, float)
    low, high = np.percentile(values, (0.5, 99.5))
    return np.clip((values - low) / max(high - low, 1e-9), 0, 1)


def plot_image(image: NDArray[np.number], title: str = "", ax: Axes | None = None) -> Axes:
    """Draw one image, its contrast stretched, without axes; return the axes."""
    return show(stretch(image), title, ax, vmin=0, vmax=1)


def show(array: NDArray, title: str = "", ax: Axes | None = None, **options: Any) -> Axes:
    """Draw an array as `imshow` does, without axes; return the axes."""
    ax = plt.gca() if ax is None else ax
    ax.imshow(array, **options)
    ax.set_title(title)
    ax.set_axis_off()
    return ax


def colour_labels(labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return an RGB image of a label image in which neighbours differ clearly in colour.

    `labels` is (H, W) of int, 0 drawn black; the result (H, W, 3) of float64, 0 to 1. Of the
    colours that differ by at least `CLEAR` from those of its neighbours, a nucleus gets the one
    that was used least so far; where none does, the one that differs most.
    """
    numbers = np.unique(labels[labels > 0])
    places = np.where(labels > 0, np.searchsorted(numbers, labels) + 1, 0)
    lab = rgb2lab(LABEL_COLOURS)
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    chosen = np.full(places.max(initial=0) + 1, -1)
    used = np.zeros(len(LABEL_COLOURS), int)
    neighbours = _find_neighbours(places)
    for place in range(1, len(chosen)):
        taken = [chosen[near] for near in neighbours.get(place, ()) if chosen[near] >= 0]
        distance = apart[:, taken].min(axis=1, initial=CLEAR)
        best = np.flatnonzero(distance >= distance.max())
        chosen[place] = best[used[best].argmin()]
        used[chosen[place]] += 1
    return np.vstack([np.zeros(3), LABEL_COLOURS[chosen[1:]]])[places]


def _find_neighbours(places: NDArray[np.integer]) -> dict[int, set[int]]:
    """Return the labels that lie near each label."""
    grown = expand_labels(places, NEAR_PX)
    sides = ((grown[1:], grown[:-1]), (grown[:, 1:], grown[:, :-1]))
    pairs = np.concatenate([np.reshape(side, (2, -1)).T for side in sides])
    pairs = np.unique(pairs[(pairs[:, 0] != pairs[:, 1]) & pairs.all(axis=1)], axis=0)
    neighbours: dict[int, set[int]] = {}
    for one, other in pairs.tolist():
        neighbours.setdefault(one, set()).add(other)
        neighbours.setdefault(other, set()).add(one)
    return neighbours


def plot_labels(labels: NDArray[np.integer], title: str = "", ax: Axes | None = None) -> Axes:
    """Draw a label image on black, neighbouring nuclei in different colours; return the axes."""
    return show(colour_labels(labels), title, ax)


def plot_nuclei(
    images: Sequence[NDArray], answers: Sequence[NDArray[np.integer]], side_px: int = 220
) -> Figure:
    """Draw image, outlines in its middle and labels, one row an image; return the figure."""
    figure, axes = make_grid(len(images), 3, (8.4, 2.95 * len(images)))
    for image, labels, row in zip(images, answers, axes, strict=True):
        middle = tuple(slice(max((n - side_px) // 2, 0), (n + side_px) // 2) for n in labels.shape)
        plot_image(image, "image", row[0])
        plot_outlines(image[middle], None, labels[middle] > 0, "outlines, in its middle", row[1])
        plot_labels(labels, f"labels: {labels.max()} nuclei", row[2])
    return figure


def plot_outlines(
    image: NDArray[np.number],
    mask_true: NDArray[np.bool_] | None = None,
    mask_pred: NDArray[np.bool_] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the image with the outline of the truth and of the prediction; return the axes."""
    ax = plot_image(image, title, ax)
    for mask, (colour, line) in zip((mask_true, mask_pred), LINES.values(), strict=True):
        if mask is not None and mask.any() and not mask.all():
            ax.contour(mask, levels=[0.5], colors=colour, linestyles=line, linewidths=1)
    return ax


def plot_errors(
    mask_true: NDArray[np.bool_],
    mask_pred: NDArray[np.bool_],
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw which pixels of nuclei are found, missed or extra; return the axes."""
    codes = mask_true.astype(int) + 2 * mask_pred.astype(int)
    colours = ListedColormap(["black", MISSED, EXTRA, FOUND])
    return show(codes, title, ax, cmap=colours, vmin=0, vmax=3)


def legend_handles(*names: str) -> list[Artist]:
    """Return handles for a legend, for names of `LINES` and `AREAS`, in the colours drawn."""
    return [
        Line2D([], [], color=LINES[name][0], linestyle=LINES[name][1], label=name)
        if name in LINES
        else Patch(color=AREAS[name], label=name)
        for name in names
    ]


def plot_gallery(
    images: Sequence[NDArray], titles: Sequence[str], *, n_columns: int = 5, width: float = 2.0
) -> Figure:
    """Draw images side by side, `n_columns` in a row, and return the figure."""
    n_rows = -(-len(images) // n_columns)
    figure, axes = make_grid(n_rows, n_columns, (width * n_columns, width * 1.15 * n_rows))
    for image, title, ax in zip(images, titles, axes.flat, strict=False):
        plot_image(image, title, ax)
    return figure


def plot_row(pictures: Mapping[str, NDArray], *, width: float = 2.2) -> Figure:
    """Draw arrays side by side, each in a frame under its name; return the figure.

    Signed integers, (H, W), are a label image, neighbours in different colours; unsigned ones an
    image, its contrast stretched; (H, W) of bool or float is gray, from 0 to 1 or to its largest
    value; (H, W, 3) of float is in colours. `width` is that of one picture, in inches.
    """
    height, columns = next(iter(pictures.values())).shape[:2]
    size = (width * len(pictures), width * height / columns + 0.4)
    figure, axes = plt.subplots(1, len(pictures), figsize=size, squeeze=False)
    for ax, (name, array) in zip(axes[0], pictures.items(), strict=True):
        shown = {"i": colour_labels, "u": stretch}.get(array.dtype.kind, np.asarray)(array)
        ax.imshow(shown, vmin=0, vmax=max(shown.max(), 1))
        ax.set_title(name, fontsize="small")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color="0.7")
    return figure


def make_grid(
    n_rows: int, n_columns: int, size: tuple[float, float], **options: Any
) -> tuple[Figure, NDArray]:
    """Return a figure of that size in inches and its axes, (n_rows, n_columns), without frames."""
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, **options)
    for ax in axes.flat:
        ax.set_axis_off()
    return figure, axes


def name_examples(axes: NDArray, titles: Sequence[str]) -> None:
    """Write what rows of image, truth, prediction and errors show."""
    for ax, title in zip(axes[:, 0], titles, strict=True):
        ax.set_title(title, fontsize="small")
    for ax, title in zip(axes[0, 1:], ("truth", "prediction", "errors"), strict=True):
        ax.set_title(title, fontsize="small")


def legend_beside(ax: Axes, **options: Any) -> Legend:
    """Set the legend to the right of the axes, and return it."""
    return ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), **options)


def present(modalities: Sequence[str]) -> list[str]:
    """Return the modalities that occur, in the order of `MODALITIES`."""
    found = set(modalities)
    return [modality for modality in MODALITIES if modality in found]


def plot_points(table: pd.DataFrame, x: str, y: str, ax: Axes) -> None:
    """Draw a point an image in the colour of its modality, and a legend with their numbers."""
    for modality in present(table["modality"]):
        points = table[table["modality"] == modality]
        label = f"{display_name(modality)} ({len(points)})"
        ax.plot(points[x], points[y], "o", color=MODALITY_COLOURS[modality], alpha=0.6, label=label)
    if len(table):
        legend_beside(ax, fontsize="small")


def label_row(modality: str, *counts: tuple[int, str, str]) -> str:
    """Return the label of a modality: its name, and under it (n, what one is, what many are)."""
    name = display_name(modality) if modality in MODALITIES else "all modalities"
    return f"{name}\n" + ", ".join(f"{n:,} {one if n == 1 else many}" for n, one, many in counts)
