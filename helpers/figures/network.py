"""Figures of the network and of its training: the U, a batch, how the error falls."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from helpers.figures.common import PREDICTION, legend_handles, make_grid, plot_outlines
from helpers.settings import Settings

DOWN, BOTTOM, UP, SKIP, END = "#0173B2", "#CC78BC", "#029E73", "#949494", "#333333"
TALLEST, WIDEST, GAP = 1.25, 0.9, 0.35
TRAIN, VALIDATION, RATE = "#0173B2", PREDICTION, "#949494"
MOST_MARKS = 6


class Bar(NamedTuple):
    """A block as it is drawn, in inches: middle of its upper side, sides, colour and text."""

    x: float
    top: float
    width: float
    height: float
    colour: str
    text: str

    def at(self, right: float, down: float) -> tuple[float, float]:
        """Return a point of the bar, by shares of its width and height."""
        return self.x + (right - 0.5) * self.width, self.top - down * self.height


def plot_network(settings: Settings, ax: Axes | None = None) -> Axes:
    """Draw the network as a U and return the axes.

    Every bar is a block of convolutions, those at the ends are image and answer. The height of
    a bar is proportional to the square root of the feature maps' height, its width to the square
    root of their number.
    """
    structure = settings.model_structure
    bars = _place_bars(structure)
    ax = _make_axes(list(bars.values())) if ax is None else ax
    ax.set_aspect("equal")
    ax.set_axis_off()
    for name, bar in bars.items():
        _draw_bar(bar, name, ax)
    image, *blocks, answer = bars.values()
    for here, there in pairwise(blocks):
        if there.colour == UP:
            start = here.at(0.75 if here.colour == BOTTOM else 0.5, 0)
            _draw_arrow(start, there.at(0, 0.85), ax, UP, bend=(90, 0))
        else:
            end = there.at(0.25 if there.colour == BOTTOM else 0.5, 0)
            _draw_arrow(here.at(1, 0.85), end, ax, DOWN, bend=(0, 90))
    for name, block in structure.decoder_blocks:
        if block.concatenate_layer is not None:
            ends = bars[block.concatenate_layer].at(1, 0.4), bars[name].at(0, 0.4)
            _draw_arrow(*ends, ax, SKIP, linestyle="dashed")
    for here, there in ((image, blocks[0]), (blocks[-1], answer)):
        _draw_arrow(here.at(1, 0.4), there.at(0, 0.4), ax, END)
    _explain(structure, ax)
    return ax


def _list_blocks(structure) -> list[tuple]:
    """Return name, depth, number of maps, their size and colour of each block, image to answer."""
    pool = structure.encoder_params.max_pool_size
    strides = structure.decoder_params.general_transpose_conv_params.strides
    down, up = structure.encoder_blocks, structure.decoder_blocks
    size = whole = structure.input_params.height, structure.input_params.width
    blocks = [("image", 0, structure.input_params.channels, whole, END)]
    for depth, (name, block) in enumerate(down):
        blocks.append((name, depth, block.filter_size, size, DOWN))
        size = size[0] // pool[0], size[1] // pool[1]
    bottom = structure.bottle_neck_params.changing_conv_params.filter_size
    blocks.append(("bottleneck", len(down), bottom, size, BOTTOM))
    for place, (name, block) in enumerate(up, start=1):
        size = size[0] * strides[0], size[1] * strides[1]
        blocks.append((name, len(down) * (1 - place / len(up)), block.filter_size, size, UP))
    answer = "\n".join(head.name for head in structure.target.heads)
    return [*blocks, (answer, 0, len(structure.target.channels), whole, END)]


def _place_bars(structure) -> dict[str, Bar]:
    """Return the bar of every block by its name, the bottleneck in the middle."""
    blocks, n_down = _list_blocks(structure), len(structure.encoder_blocks)
    heights = [TALLEST * (size[0] / blocks[0][3][0]) ** 0.5 for *_, size, _ in blocks]
    tops = -np.cumsum([0, *heights[1 : n_down + 1]]) - GAP * np.arange(n_down + 1)
    step = float(np.clip(10.4 / (2 * n_down + 3), 0.62, 1.5))
    widest = min(WIDEST, 0.9 * step) / max(count for _, _, count, *_ in blocks) ** 0.5
    bars = {}
    for place, (name, depth, count, size, colour) in enumerate(blocks):
        top = float(np.interp(depth, range(n_down + 1), tops))
        text = rf"$\mathbf{{{count}}}$" + f"\n{_by(size)}"
        x, width = step * (place - n_down - 1), widest * count**0.5
        if colour == END:  # room for both sizes, side by side
            x += np.sign(x) * max(0.9 - step, 0)
        bars[name] = Bar(x, top, width, heights[place], colour, text)
    return bars


def _make_axes(bars: list[Bar]) -> Axes:
    """Return new axes in which one data unit is about one inch."""
    left, right = bars[0].x - 0.55, bars[-1].x + 0.55
    bottom = min(bar.top - bar.height for bar in bars) - 1.0
    _, ax = plt.subplots(figsize=(right - left, 0.45 - bottom))
    ax.set(xlim=(left, right), ylim=(bottom, 0.45))
    return ax


def _draw_bar(bar: Bar, name: str, ax: Axes) -> None:
    """Draw a bar, its text on the outer side of the U, and the name of the first and the last."""
    ax.add_patch(Rectangle(bar.at(0, 1), bar.width, bar.height, color=bar.colour, linewidth=0))
    font = {"fontsize": 7.5, "color": END, "linespacing": 1.15}
    (left, top), (right, bottom) = bar.at(0, 0), bar.at(1, 1)
    middle, gap = (top + bottom) / 2, 0.07
    if bar.top == 0:
        x, y, align = bar.x, top + gap, ("center", "bottom")
    elif bar.colour == BOTTOM:
        x, y, align = bar.x, bottom - gap, ("center", "top")
    elif bar.colour == DOWN:
        x, y, align = left - gap, middle, ("right", "center")
    else:
        x, y, align = right + gap, middle, ("left", "center")
    ax.text(x, y, bar.text, ha=align[0], va=align[1], **font)
    if bar.colour == END:
        ax.text(bar.x, bottom - gap, name, ha="center", va="top", **font)


def _draw_arrow(start, end, ax: Axes, colour: str, bend=None, linestyle="solid") -> None:
    """Draw an arrow, straight or with one right angle: `bend` is its direction at both ends."""
    bent = "angle,angleA={},angleB={}".format(*bend) if bend else "arc3"
    look = {"color": colour, "linewidth": 1.3, "linestyle": linestyle, "connectionstyle": bent}
    look |= {"arrowstyle": "-|>,head_width=.18,head_length=.32", "shrinkA": 0, "shrinkB": 1}
    ax.annotate("", end, start, arrowprops=look)


def _explain(structure, ax: Axes) -> None:
    """Write what bars and arrows mean under the drawing, each in the line that is drawn."""
    conv = structure.encoder_params.general_conv_params
    pool, decoder = structure.encoder_params.max_pool_size, structure.decoder_params
    strides = decoder.general_transpose_conv_params.strides
    dropout = "dropout between" if decoder.convolutions == 2 else "one on the way up"
    joined = {"concatenate": "concatenation", "add": "addition"}[decoder.skip]
    meanings = {
        f"two {_by(conv.kernel_size)} convolutions ({conv.activation}), {dropout}": (
            *(Line2D([], [], ls="none", marker="s", color=colour) for colour in (DOWN, BOTTOM, UP)),
        ),
        f"{_by(pool)} max pooling": Line2D([], [], ls="none", marker="$\\downarrow$", color=DOWN),
        f"transposed convolution, stride {_by(strides)}": Line2D(
            [], [], ls="none", marker="$\\uparrow$", color=UP
        ),
        f"skip, joined by {joined}": Line2D([], [], ls="dashed", color=SKIP),
    }
    ax.legend(
        meanings.values(), meanings, loc="lower center", frameon=False, fontsize=8,
        ncols=4 if ax.figure.get_figwidth() >= 9 else 2, handletextpad=0.5, borderpad=0,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
    )  # fmt: skip


def _by(pair) -> str:
    return f"{pair[0]} × {pair[1]}"


def plot_batch(
    inputs: Sequence[NDArray[np.floating]],
    masks: Sequence[NDArray[np.bool_]],
    *,
    n_columns: int = 4,
) -> Figure:
    """Draw at most two rows of a batch's images with their masks outlined; return the figure.

    `inputs`, (H, W, channels) as the network gets them, are stretched for display.
    """
    n_rows = min(-(-len(inputs) // n_columns), 2)
    figure, axes = make_grid(n_rows, n_columns, (7.2, 7.2 / n_columns * n_rows + 0.3))
    for ax, image, mask in zip(axes.flat, inputs, masks, strict=False):
        plot_outlines(image, mask, ax=ax)
    figure.legend(handles=legend_handles("truth"), loc="outside upper left", frameon=False)
    return figure


def plot_history(history: pd.DataFrame, quantity: str, label: str, ax: Axes) -> Axes:
    """Draw "loss" or "iou" over the epochs, training beside validation; return the axes.

    `history` is as `helpers.training.loop.train` returns it. A grey line marks the start of each
    epoch with another learning rate than the one before, unless it falls in every epoch.
    """
    sides = {"": (TRAIN, "training"), "val_": (VALIDATION, "validation")}
    for side, (colour, text) in sides.items():
        if side + quantity in history:
            ax.plot(history["epoch"], history[side + quantity], ".-", color=colour, label=text)
    changes = history[history["learning_rate"].diff().fillna(0) != 0]
    for place, row in enumerate(changes.itertuples() if len(changes) <= MOST_MARKS else ()):
        mark = None if place else "learning rate lowered"
        ax.axvline(row.epoch - 0.5, color=RATE, linestyle=":", label=mark)
        power = f"{row.learning_rate:.0e}".replace("e-0", "e-")
        ax.text(row.epoch - 0.4, 0.02, power, color=RATE, transform=ax.get_xaxis_transform())
    ax.set(xlabel="epoch", ylabel=label, ylim=(0, 1) if quantity == "iou" else (0, None))
    ax.xaxis.get_major_locator().set_params(integer=True)
    if len(history) == 1:
        ax.set(xlim=(0, 2))
    ax.legend(framealpha=0.9, edgecolor="none")
    return ax
