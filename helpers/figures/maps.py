"""Figures of maps: what a network is asked, and why a mask alone does not count nuclei."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from helpers.figures.common import plot_image, plot_labels
from helpers.targets import get_target


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
    plot_labels((labels > 0) * 24, "mask", axes[1])
    plot_labels(labels, f"{n_nuclei} nuclei", axes[2])
    return figure


def plot_maps(maps: Mapping[str, NDArray[np.floating]]) -> Figure:
    """Draw the maps of one image, a picture a target, as its `paint` shows them; return the figure.

    Parameters
    ----------
    maps : mapping of str to (H, W, n_channels) float array
        By the name of their target, as its `encode` makes them or a network answers.
    """
    figure, axes = plt.subplots(1, len(maps), figsize=(2.4 * len(maps), 2.8), squeeze=False)
    for ax, (name, channels) in zip(axes.flat, maps.items(), strict=True):
        target = get_target(name)
        ax.imshow(target.paint(channels), vmin=0, vmax=1)
        ax.set_title(target.caption or name, fontsize="small")
        ax.set_axis_off()
    return figure
