"""Figures of a data set: its images, nuclei, fields of view and modalities."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.analysis import modality as rules
from helpers.analysis.modality import display_name
from helpers.figures.common import (
    MODALITY_COLOURS,
    make_grid,
    plot_image,
    plot_labels,
    plot_points,
    present,
    show,
    stretch,
)

_ALL = "#0173B2"  # where no modality is meant
_LIMITS = {
    "ground": (rules.BRIGHT_GROUND, "ground (0 black, 1 full scale)"),
    "colour": (rules.COLOURED, "colour (0 gray, 1 pure)"),
    "redness": (rules.EOSIN, "redness (below 0 blue, above 0 red)"),
    "nucleus_radius_px": (rules.LARGE_RADIUS_PX, "radius of what stands out (px)"),
    "nucleus_radius_share": (rules.LARGE_RADIUS_SHARE, "the same over the field's side"),
}


def plot_pairs(
    images: Sequence[np.ndarray], labels: Sequence[np.ndarray | None], titles: Sequence[str]
) -> Figure:
    """Draw images in a row, each above its label image where it has one; return the figure."""
    n = max(len(images), 1)
    figure, axes = make_grid(2, n, (1.9 * n, 4.1))
    for image, nuclei, title, (top, bottom) in zip(images, labels, titles, axes.T, strict=False):
        plot_image(image, title, top).title.set_fontsize("small")
        if nuclei is not None:
            plot_labels(nuclei, f"{len(np.unique(nuclei[nuclei > 0]))} nuclei", bottom)
    return figure


def plot_ranges(table: pd.DataFrame, low: str, middle: str, high: str, unit: str) -> Axes:
    """Draw one vertical line an image, from `low` to `high`, with a point at `middle`; return axes.

    `low`, `middle` and `high` are columns of `table`, whose images are drawn in the order of
    `middle`, those without it left out. `unit` is what the vertical axis shows, with its unit.
    """
    ax = plt.subplots(figsize=(6.5, 3.2))[1]
    ordered = table.dropna(subset=[middle]).sort_values(middle, ignore_index=True)
    # A line fills its image's place without covering its neighbours, however many there are.
    width = np.clip(300 / max(len(ordered), 1), 0.5, 3)
    ax.vlines(ordered.index, ordered[low], ordered[high], color=_ALL, alpha=0.35, linewidth=width)
    ax.plot(ordered[middle], "o", color="black", markersize=np.clip(width * 1.5, 1.5, 4))
    ax.set(xlabel=f"image, in the order of its median (n = {len(ordered)})", ylabel=unit)
    ax.margins(x=0.02)
    return ax


def plot_field(images: Sequence[np.ndarray], places: dict[int, tuple[int, int]]) -> Figure:
    """Draw tiles apart, then put together where their seams say; return the figure.

    `places` has row and column of each image that is drawn, from
    `helpers.analysis.fields.place_tiles`; those are alike in dtype and channels.
    """
    figure, axes = make_grid(1, 2, (7, 3.6))
    gap_px = max(images[next(iter(places))].shape[0] // 10, 4)
    whole = assemble_field(images, places)
    low, high = np.percentile(whole, (0.5, 99.5))
    titles = (f"{len(places)} images of the set", "put together along their seams")
    for ax, gap, title in zip(axes[0], (gap_px, 0), titles, strict=True):
        shown = (assemble_field(images, places, gap) - low) / max(high - low, 1e-9)
        show(np.clip(shown, 0, 1), title, ax, vmin=0, vmax=1)
    return figure


def assemble_field(
    images: Sequence[np.ndarray], places: dict[int, tuple[int, int]], gap_px: int = 0
) -> np.ndarray:
    """Return one image of the tiles at their places, in shares of full scale, gaps white."""
    sizes = [(*place, *images[image].shape[:2]) for image, place in places.items()]
    table = pd.DataFrame(sizes, columns=["row", "column", "height", "width"])
    tops, lefts = (
        np.cumsum([0, *(table.groupby(side)[size].max() + gap_px)])
        for side, size in (("row", "height"), ("column", "width"))
    )
    channels = images[next(iter(places))].shape[2:]
    whole = np.ones((tops[-1] - gap_px, lefts[-1] - gap_px, *channels))
    for image, (row, column) in places.items():
        tile = images[image]
        part = whole[tops[row] :, lefts[column] :][: tile.shape[0], : tile.shape[1]]
        part[:] = tile / np.iinfo(tile.dtype).max
    return whole


def plot_modalities(
    images: Sequence[np.ndarray], modalities: Sequence[str], n_each: int = 4, size_px: int = 128
) -> Figure:
    """Draw `n_each` images of every modality there is, a modality a row; return the figure.

    Of each image that square of at most `size_px` pixels is shown which varies most.
    """
    modalities = np.asarray(modalities)
    rows = present(modalities)
    figure, axes = make_grid(len(rows), n_each, (1.35 * n_each, 1.5 * len(rows)))
    for row, modality in zip(axes, rows, strict=True):
        members = np.flatnonzero(modalities == modality)
        spread = np.linspace(0, len(members) - 1, min(n_each, len(members))).astype(int)
        for ax, member in zip(row, members[spread], strict=False):
            ax.imshow(_cut_out(stretch(images[member]), size_px), vmin=0, vmax=1)
        row[0].set_title(f"{display_name(modality)}, n = {len(members)}")
        row[0].title.set_color(MODALITY_COLOURS[modality])
    return figure


def _cut_out(image: np.ndarray, size_px: int) -> np.ndarray:
    """Return the square of an image, of a grid of them, whose levels vary most."""
    tops, lefts = (range(0, max(n - size_px, 0) + 1, size_px) for n in image.shape[:2])
    squares = [image[top:, left:][:size_px, :size_px] for top in tops for left in lefts]
    return max(squares, key=np.std)


def plot_measures(table: pd.DataFrame, x: str, y: str) -> Axes:
    """Draw two measures of every image by modality, with the limits of the rules; return the axes.

    `x` and `y` are measures of `table`, from `helpers.analysis.modality.find_modalities`.
    """
    ax = plt.subplots(figsize=(6, 3.4))[1]
    plot_points(table, x, y, ax)
    (x_limit, x_label), (y_limit, y_label) = _LIMITS[x], _LIMITS[y]
    ax.axvline(x_limit, color="black", linestyle=":", linewidth=1)
    ax.axhline(y_limit, color="black", linestyle=":", linewidth=1)
    ax.set(xlabel=x_label, ylabel=y_label, title=f"dotted: limits; n = {len(table)} images")
    return ax


def plot_by_modality(table: pd.DataFrame, x: str, unit: str) -> Axes:
    """Draw one point per image, modalities in rows, with the median of each; return the axes.

    `x` is a column of `table`, which also has `modality`; `unit` is what the axis shows, with its
    unit.
    """
    ax = plt.subplots(figsize=(6.5, 2.8))[1]
    by_modality = table.dropna(subset=[x]).groupby("modality")[x]
    rows = present(by_modality.groups)
    for row, modality in enumerate(rows):
        values = by_modality.get_group(modality)
        scatter = row + np.random.default_rng(0).uniform(-0.25, 0.25, len(values))
        ax.plot(values, scatter, "o", color=MODALITY_COLOURS[modality], alpha=0.5, markersize=4)
        ax.plot(values.median(), row, "|", color="black", markersize=20, markeredgewidth=2)
    labels = [f"{display_name(one)} ({by_modality.size()[one]})" for one in rows]
    ax.set_yticks(range(len(rows)), labels)
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel=unit, title="one point per image; line: median")
    return ax
