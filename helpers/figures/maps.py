"""Figures of maps: what a network is asked, and why a mask alone does not count nuclei."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from helpers.data.labels import labels_to_mask
from helpers.figures.common import plot_image, plot_labels


def plot_mask_and_nuclei(image: NDArray[np.number], labels: NDArray[np.integer]) -> Figure:
    """Draw an image, its mask and its nuclei side by side; return the figure.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array
    labels : (H, W) integer array
        0 = background.
    """
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.1))
    n_nuclei = len(np.unique(labels[labels > 0]))
    plot_image(image, "image", axes[0])
    plot_labels(labels_to_mask(labels).astype(int) * 24, "mask", axes[1])
    plot_labels(labels, f"{n_nuclei} nuclei", axes[2])
    return figure


def plot_maps(maps: Mapping[str, NDArray[np.floating]]) -> Figure:
    """Draw the maps of one image, a picture a target; return the figure.

    Parameters
    ----------
    maps : mapping of str to (H, W, n_channels) float array
        By target, as `helpers.data.maps.labels_to_maps` makes them or a network answers. The
        three classes of "boundary" are black, gray and white; the direction of "flow" is a hue.
    """
    figure, axes = plt.subplots(1, len(maps), figsize=(2.4 * len(maps), 2.8), squeeze=False)
    for ax, (target, channels) in zip(axes.flat, maps.items(), strict=True):
        _plot_map(channels, target, ax)
    return figure


def _plot_map(channels: NDArray, target: str, ax: Axes) -> None:
    if target == "boundary":
        shown = channels @ np.array([0, 0.5, 1])
    else:
        shown = paint_flow(channels) if target == "flow" else channels[..., -1]
    ax.imshow(shown, vmin=0, vmax=1)
    ax.set_title("flow (hue: where to)" if target == "flow" else target, fontsize="small")
    ax.set_axis_off()


def paint_flow(maps: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the maps of "flow" as colours, (H, W, 3) in 0..1: hue is direction, black is ground.

    Parameters
    ----------
    maps : (H, W, 3) float array
        Probability of nucleus, and the direction down and right.
    """
    down, right = maps[..., 1], maps[..., 2]
    hue = (np.arctan2(down, right) / (2 * np.pi)) % 1
    length = np.clip(np.hypot(down, right), 0, 1)
    return hsv_to_rgb(np.stack([hue, length, np.clip(maps[..., 0], 0, 1)], axis=-1))
