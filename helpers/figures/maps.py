"""Figures of notebook 07: maps, steps on the way to nuclei, directions and paths."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from helpers.figures.common import LABEL_COLOURS, colour_labels, make_grid, show, stretch


def plot_row(pictures: Mapping[str, NDArray], *, width: float = 2.2) -> Figure:
    """Draw arrays side by side, each under its name; return the figure.

    Signed integers, (H, W), are a label image, neighbours in different colours; unsigned ones an
    image, its contrast stretched; (H, W) of bool or float is gray, from 0 to the largest value;
    (H, W, 3) of float is in colours. `width` is that of one picture, in inches.
    """
    height, columns = next(iter(pictures.values())).shape[:2]
    size = (width * len(pictures), width * height / columns + 0.4)
    figure, axes = make_grid(1, len(pictures), size)
    for ax, (name, array) in zip(axes.flat, pictures.items(), strict=True):
        shown = {"i": colour_labels, "u": stretch}.get(array.dtype.kind, np.asarray)(array)
        show(shown, name, ax, vmin=0).title.set_fontsize("small")
    return figure


def plot_directions(flow: NDArray, mask: NDArray[np.bool_], ax: Axes, *, every: int = 2) -> Axes:
    """Draw an arrow on every second pixel of `mask`, along `flow`, (H, W, 2); return the axes."""
    show(mask, ax=ax, vmin=0, vmax=3)
    places = np.argwhere(mask)
    places = places[(places % every == 0).all(axis=1)]
    down, right = flow[tuple(places.T)].T
    ax.quiver(
        places[:, 1], places[:, 0], right, down, color="white", angles="xy", scale_units="xy",
        scale=1 / every, width=0.005, headwidth=4,
    )  # fmt: skip
    return ax


def plot_paths(
    paths: NDArray[np.integer], numbers: NDArray[np.integer], mask: NDArray[np.bool_], ax: Axes
) -> Axes:
    """Draw paths of pixels, each from a dot to where it ends; return the axes.

    `paths`, (n_steps, n, 2) of int, has row and column of n pixels after each step; `numbers`,
    (n,) of int, the nucleus to which each path belongs, from 1 on: its colour.
    """
    show(mask, ax=ax, vmin=0, vmax=6)
    colours = LABEL_COLOURS[(numbers - 1) % len(LABEL_COLOURS)]
    ways = np.moveaxis(paths[..., ::-1], 0, 1)
    ax.add_collection(LineCollection(ways, colors=colours, linewidths=1))
    ax.scatter(*paths[0, :, ::-1].T, s=6, color=colours)
    return ax
