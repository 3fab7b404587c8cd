"""Figures of a data set: its intensities, nuclei, fields of view, leaks and modalities."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from helpers.analysis import modality as rules
from helpers.analysis.fields import assemble_field
from helpers.analysis.modality import MODALITIES, display_name
from helpers.figures.common import MODALITY_COLOURS, plot_gallery, stretch

_ALL = "#0173B2"  # where no modality is meant


def plot_ranges(
    table: pd.DataFrame, low: str, middle: str, high: str, unit: str, ax: Axes | None = None
) -> Axes:
    """Draw one vertical line an image, from `low` to `high`, with a point at `middle`; return axes.

    Parameters
    ----------
    table : DataFrame
        One row an image; images are drawn in the order of `middle`, those without it left out.
    low, middle, high : str
        Columns of `table`.
    unit : str
        What the vertical axis shows, with its unit.
    """
    ax = plt.gca() if ax is None else ax
    ordered = table.dropna(subset=[middle]).sort_values(middle, ignore_index=True)
    # A line fills its image's place without covering its neighbours, however many there are.
    width = np.clip(300 / max(len(ordered), 1), 0.5, 3)
    ax.vlines(ordered.index, ordered[low], ordered[high], color=_ALL, alpha=0.35, linewidth=width)
    ax.plot(ordered[middle], "o", color="black", markersize=np.clip(width * 1.5, 1.5, 4))
    ax.set_xlabel(f"image, in the order of its median (n = {len(ordered)})")
    ax.set_ylabel(unit)
    ax.margins(x=0.02)
    return ax


def plot_counts(n_nuclei: Sequence[int], ax: Axes | None = None) -> Axes:
    """Draw how many images have how many nuclei, on a logarithmic axis; return the axes."""
    ax = plt.gca() if ax is None else ax
    counts = np.asarray(n_nuclei)
    few, most = counts[counts > 0].min(initial=10), counts.max(initial=20)
    bins = np.unique(np.geomspace(few - 0.5, most + 0.5, 18).round(1))
    ax.hist(counts[counts > 0], bins=bins, color=_ALL)
    if (counts > 0).any():
        median = np.median(counts[counts > 0])
        ax.axvline(median, color="black", linestyle="--", linewidth=1)
        ax.set_title(f"dashed: median of {median:g}; n = {len(counts)} images")
    ax.set_xscale("log")
    ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500) if few / 2 <= n <= most * 2]
    ax.set_xticks(ticks, ticks)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("nuclei per image")
    ax.set_ylabel("images")
    return ax


def plot_field(images: Sequence[np.ndarray], places: dict[int, tuple[int, int]]) -> Figure:
    """Draw tiles apart, then put together where their seams say; return the figure."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.6))
    gap_px = max(images[next(iter(places))].shape[0] // 10, 4)
    titles = (f"{len(places)} images of the set", "put together along their seams")
    for ax, gap, title in zip(axes, (gap_px, 0), titles, strict=True):
        apart = assemble_field(images, places, gap)
        whole = assemble_field(images, places)
        low, high = np.percentile(whole, (0.5, 99.5))
        shown = np.clip((apart - low) / max(high - low, 1e-9), 0, 1)
        ax.imshow(shown, vmin=0, vmax=1)
        ax.set_title(title)
        ax.set_axis_off()
    return figure


def plot_leaks(leaks: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the leaking share of every split, a point a seed, with the means; return the axes.

    Parameters
    ----------
    leaks : DataFrame
        From `helpers.analysis.fields.compare_leaks`.
    """
    ax = plt.subplots(figsize=(6.5, 2.6))[1] if ax is None else ax
    order = ["random", "grouped"]
    sns.stripplot(
        leaks, x="leaking", y="split", order=order, color=_ALL, alpha=0.6, jitter=0.15, ax=ax
    )
    for row, split in enumerate(order):
        mean = leaks.loc[leaks["split"] == split, "leaking"].mean()
        ax.plot([mean, mean], [row - 0.25, row + 0.25], color="black", linewidth=2)
        ax.annotate(f" {mean:.0%}", (mean, row - 0.25), va="center")
    ax.set_xlim(-0.04, 1)
    ax.set_xlabel("share of test images with a sibling in training")
    n_seeds = leaks["seed"].nunique()
    ax.set(ylabel="", title=f"a point a split; line: mean; n = {n_seeds} seeds")
    return ax


def plot_modalities(
    images: Sequence[np.ndarray], modalities: Sequence[str], n_each: int = 4
) -> Figure:
    """Draw `n_each` images of every modality there is, a modality a row; return the figure."""
    modalities = np.asarray(modalities)
    present = [modality for modality in MODALITIES if (modalities == modality).any()]
    figure, axes = plt.subplots(
        len(present), n_each, figsize=(1.7 * n_each, 1.8 * len(present)), squeeze=False
    )
    for row, modality in zip(axes, present, strict=True):
        members = np.flatnonzero(modalities == modality)
        spread = np.linspace(0, len(members) - 1, min(n_each, len(members))).astype(int)
        for ax in row:
            ax.set_axis_off()
        for ax, member in zip(row, members[spread], strict=False):
            ax.imshow(stretch(images[member]), vmin=0, vmax=1)
        row[0].set_title(
            f"{display_name(modality)}, n = {len(members)}", color=MODALITY_COLOURS[modality]
        )
    return figure


def plot_measures(table: pd.DataFrame, x: str, y: str, ax: Axes | None = None) -> Axes:
    """Draw two measures of every image by modality, with the limits of the rules; return the axes.

    Parameters
    ----------
    table : DataFrame
        From `helpers.analysis.modality.find_modalities`.
    x, y : str
        Two of its measures.
    """
    limits = {
        "ground": rules.BRIGHT_GROUND,
        "colour": rules.COLOURED,
        "redness": rules.EOSIN,
        "nucleus_radius_px": rules.LARGE_RADIUS_PX,
        "nucleus_radius_share": rules.LARGE_RADIUS_SHARE,
    }
    units = {
        "ground": "ground (0 black, 1 full scale)",
        "colour": "colour (0 gray, 1 pure)",
        "redness": "redness (below 0 blue, above 0 red)",
        "nucleus_radius_px": "radius of the nuclei (px)",
        "nucleus_radius_share": "radius over the field's side",
    }
    ax = plt.gca() if ax is None else ax
    for modality in MODALITIES:
        of_modality = table[table["modality"] == modality]
        if len(of_modality):
            label = f"{display_name(modality)} ({len(of_modality)})"
            ax.plot(
                of_modality[x],
                of_modality[y],
                "o",
                color=MODALITY_COLOURS[modality],
                alpha=0.6,
                label=label,
            )
    ax.axvline(limits[x], color="black", linestyle=":", linewidth=1)
    ax.axhline(limits[y], color="black", linestyle=":", linewidth=1)
    ax.set(xlabel=units[x], ylabel=units[y], title=f"dotted: limits; n = {len(table)} images")
    if len(table):
        ax.legend(fontsize="small")
    return ax


def plot_mistakes(
    images: Sequence[np.ndarray], found: pd.Series, known: pd.Series, n_most: int = 10
) -> Figure | None:
    """Draw the first images whose found modality is not the known one; None if there is none.

    Parameters
    ----------
    images : sequence of arrays
    found, known : Series of str
        Modalities by position; where `known` is missing nothing can be wrong.
    """
    wrong = np.flatnonzero((found != known) & known.notna())[:n_most]
    if not len(wrong):
        return None
    titles = [
        f"found {display_name(found.iloc[k])}\nknown {display_name(known.iloc[k])}" for k in wrong
    ]
    figure = plot_gallery([images[k] for k in wrong], titles, n_columns=min(len(wrong), 5))
    for ax in figure.axes:
        ax.title.set_fontsize("small")
    return figure


def plot_shares(shares: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw what part of the whole set each modality is, a bar a quantity; return the axes.

    Parameters
    ----------
    shares : DataFrame
        A row a modality, a column a quantity, shares of 0 to 1.
    """
    ax = plt.gca() if ax is None else ax
    left = np.zeros(shares.shape[1])
    for modality, row in shares.iterrows():
        ax.barh(
            shares.columns,
            row,
            left=left,
            color=MODALITY_COLOURS[modality],
            label=display_name(modality),
        )
        for quantity, (start, share) in enumerate(zip(left, row, strict=True)):
            if share >= 0.05:
                ax.annotate(
                    f"{share:.0%}",
                    (start + share / 2, quantity),
                    ha="center",
                    va="center",
                    color="white",
                )
        left = left + row.to_numpy()
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of the whole set")
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    return ax


def plot_by_modality(
    table: pd.DataFrame, x: str, unit: str, ax: Axes | None = None, zero: bool = False
) -> Axes:
    """Draw a point an image in a row a modality, with the median of each; return the axes.

    Parameters
    ----------
    table : DataFrame
        Columns `modality` and `x`, a row an image.
    x : str
        Column to draw.
    unit : str
        What the horizontal axis shows, with its unit.
    zero : bool
        Mark zero, where a sign means something.
    """
    ax = plt.gca() if ax is None else ax
    table = table.dropna(subset=[x])
    order = [modality for modality in MODALITIES if (table["modality"] == modality).any()]
    if zero:
        ax.axvline(0, color="black", linestyle=":", linewidth=1)
    for row, modality in enumerate(order):
        values = table.loc[table["modality"] == modality, x].to_numpy()
        scatter = np.random.default_rng(0).uniform(-0.25, 0.25, len(values))
        ax.plot(
            values, row + scatter, "o", color=MODALITY_COLOURS[modality], alpha=0.5, markersize=4
        )
        ax.plot([np.median(values)] * 2, [row - 0.35, row + 0.35], color="black", linewidth=2)
    counts = table["modality"].value_counts()
    ax.set_yticks(
        range(len(order)), [f"{display_name(modality)} ({counts[modality]})" for modality in order]
    )
    ax.set(ylim=(len(order) - 0.5, -0.5), xlabel=unit, title="a point an image; line: median")
    return ax
