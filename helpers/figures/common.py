"""Figures that several notebooks share: one style, one order, one meaning for every colour.

Order: image, truth, prediction, errors. Truth is drawn in sky blue, prediction in dashed orange.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

TRUTH, PREDICTION = "#56B4E9", "#DE8F05"
MATCHED, MISSED, SPURIOUS = "#56B4E9", "#D55E00", "#ECE133"
MODALITY_COLOURS = {
    "small_fluorescent": "#0173B2",
    "large_fluorescent": "#029E73",
    "purple_tissue": "#CC78BC",
    "pink_purple_tissue": "#D55E00",
    "grayscale_tissue": "#949494",
}
"""Colours from seaborn's colour-blind palette; a modality has the same one in every figure."""


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
    low, high = np.percentile(image, (0.5, 99.5))
    return np.clip((image.astype(float) - low) / max(high - low, 1e-9), 0, 1)


def plot_image(image: NDArray[np.number], title: str = "", ax: Axes | None = None) -> Axes:
    """Draw one image, its contrast stretched, without axes; return the axes."""
    ax = plt.gca() if ax is None else ax
    ax.imshow(stretch(image), vmin=0, vmax=1)
    ax.set_title(title)
    ax.set_axis_off()
    return ax


def plot_labels(labels: NDArray[np.integer], title: str = "", ax: Axes | None = None) -> Axes:
    """Draw a label image, every nucleus in a colour of its own on black; return the axes."""
    ax = plt.gca() if ax is None else ax
    colours = sns.color_palette("husl", 24)
    order = np.random.default_rng(0).permutation(24)
    cycle = ListedColormap([(0, 0, 0), *(colours[k] for k in order)])
    shown = np.where(labels > 0, (labels - 1) % 24 + 1, 0)
    ax.imshow(shown, cmap=cycle, vmin=0, vmax=24)
    ax.set_title(title)
    ax.set_axis_off()
    return ax


def plot_outlines(
    image: NDArray[np.number],
    mask_true: NDArray[np.bool_] | None = None,
    mask_pred: NDArray[np.bool_] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the image with the outline of the truth and of the prediction; return the axes."""
    ax = plot_image(image, title, ax)
    for mask, colour, line in ((mask_true, TRUTH, "solid"), (mask_pred, PREDICTION, "dashed")):
        if mask is not None and mask.any() and not mask.all():
            ax.contour(mask, levels=[0.5], colors=colour, linestyles=line, linewidths=1)
    return ax


def plot_errors(
    mask_true: NDArray[np.bool_],
    mask_pred: NDArray[np.bool_],
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw where truth and prediction agree (blue), miss (red) or add (yellow); return the axes."""
    ax = plt.gca() if ax is None else ax
    codes = mask_true.astype(int) + 2 * mask_pred.astype(int)
    colours = ListedColormap(["black", MISSED, SPURIOUS, MATCHED])
    ax.imshow(codes, cmap=colours, vmin=0, vmax=3)
    ax.set_title(title)
    ax.set_axis_off()
    return ax


def plot_gallery(
    images: Sequence[NDArray], titles: Sequence[str], *, n_columns: int = 5, width: float = 2.0
) -> Figure:
    """Draw images side by side, `n_columns` in a row, and return the figure."""
    n_rows = -(-len(images) // n_columns)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(width * n_columns, width * 1.15 * n_rows), squeeze=False
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for image, title, ax in zip(images, titles, axes.flat, strict=False):
        plot_image(image, title, ax)
    return figure
