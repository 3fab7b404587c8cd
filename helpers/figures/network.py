"""Figures of the network itself: the U, and how far it looks."""

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter
from numpy.typing import NDArray

from helpers.settings import Settings

DOWN, BOTTOM, UP, SKIP, END = "#0173B2", "#CC78BC", "#029E73", "#949494", "#333333"
TALLEST, WIDEST, GAP = 1.25, 0.9, 0.42
DASHES = (0, (4, 2))


class Box(NamedTuple):
    """A block as it is drawn: centre, sides, colour and what is written beside it."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    filters: int
    size: tuple[int, int]


def plot_network(settings: Settings, ax: Axes | None = None) -> Axes:
    """Draw the network as a U and return the axes.

    Every bar is a block of two convolutions, those at the ends are image and answer. The height of
    a bar is proportional to the square root of the feature maps' height, its width to the square
    root of their number.
    """
    boxes = _place_boxes(settings)
    ax = _make_axes(boxes) if ax is None else ax
    ax.set_aspect("equal")
    ax.set_axis_off()
    structure = settings.model_structure
    names = {"image": "image", "answer": "\n".join(head.name for head in structure.target.heads)}
    for name, box in boxes.items():
        _draw_box(box, ax, names.get(name, ""))
    chain = [name for name in boxes if name not in names]
    lowest = chain.index("bottleneck")
    for k, (here, there) in enumerate(pairwise(chain)):
        (_draw_down if k < lowest else _draw_up)(boxes[here], boxes[there], ax)
    for name, block in structure.decoder_blocks:
        if block.concatenate_layer is not None:
            _draw_across(boxes[block.concatenate_layer], boxes[name], ax, SKIP, DASHES)
    _draw_across(boxes["image"], boxes[chain[0]], ax)
    _draw_across(boxes[chain[-1]], boxes["answer"], ax)
    _explain(structure, ax)
    return ax


def _place_boxes(settings: Settings) -> dict[str, Box]:
    """Return every block by name, from the image to the answer, the U's centre line at 0."""
    structure = settings.model_structure
    size = structure.input_params
    encoder, decoder = structure.encoder_blocks, structure.decoder_blocks
    n_down, n_up = len(encoder), len(decoder)
    pool = structure.encoder_params.max_pool_size
    strides = structure.decoder_params.general_transpose_conv_params.strides
    sizes = [(size.height // pool[0] ** k, size.width // pool[1] ** k) for k in range(n_down + 1)]
    depths = np.linspace(n_down, 0, n_up + 1)[1:]
    filters = [block.filter_size for _, block in encoder]
    filters.append(structure.bottle_neck_params.changing_conv_params.filter_size)
    most = max(filters + [block.filter_size for _, block in decoder])
    step = float(np.clip(10.4 / (2 * n_down + 3), 0.62, 1.5))
    levels = _place_levels(sizes)

    def box(x, depth, colour, n_filters, shape):
        width = min(WIDEST, 0.9 * step) * (n_filters / most) ** 0.5
        y = float(np.interp(depth, range(n_down + 1), levels))
        return Box(x, y, width, _height(shape, sizes), colour, n_filters, shape)

    side = n_down * step + max(0.9, 0.8 * step)
    boxes = {"image": box(-side, 0, END, size.channels, sizes[0])}
    for k, (name, _) in enumerate(encoder):
        boxes[name] = box((k - n_down) * step, k, DOWN, filters[k], sizes[k])
    boxes["bottleneck"] = box(0, n_down, BOTTOM, filters[-1], sizes[-1])
    shape = sizes[-1]
    for depth, (name, block) in zip(depths, decoder, strict=True):
        shape = (shape[0] * strides[0], shape[1] * strides[1])
        boxes[name] = box((n_down - depth) * step, depth, UP, block.filter_size, shape)
    n_maps = len(structure.target.channels)
    return boxes | {"answer": box(side, 0, END, n_maps, sizes[0])}


def _height(shape, sizes):
    return TALLEST * (shape[0] / sizes[0][0]) ** 0.5


def _place_levels(sizes) -> list[float]:
    """Return the centre of each level, so far below the one above that no bars or labels meet."""
    levels = [0.0]
    for above, below in pairwise(sizes):
        levels.append(levels[-1] - (_height(above, sizes) + _height(below, sizes)) / 2 - 0.2)
    return [level - GAP * 0.3 * k for k, level in enumerate(levels)]


def _make_axes(boxes) -> Axes:
    """Return new axes in which one data unit is about one inch."""
    left, right = boxes["image"].x - 0.55, boxes["answer"].x + 0.55
    bottom = min(box.y - box.height / 2 for box in boxes.values()) - 1.0
    top = TALLEST / 2 + 0.45
    _, ax = plt.subplots(figsize=(right - left, top - bottom))
    ax.set(xlim=(left, right), ylim=(bottom, top))
    return ax


def _draw_box(box: Box, ax: Axes, name: str = "") -> None:
    corner = (box.x - box.width / 2, box.y - box.height / 2)
    rounding = min(0.05, box.width / 3, box.height / 3)
    style = f"round,pad=0,rounding_size={rounding}"
    look = {"boxstyle": style, "facecolor": box.colour, "linewidth": 0, "zorder": 3}
    ax.add_patch(FancyBboxPatch(corner, box.width, box.height, **look))
    if box.y == 0:
        x, y, align = box.x, box.height / 2 + 0.06, ("center", "bottom")
    elif box.colour == BOTTOM:
        x, y, align = box.x, box.y - box.height / 2 - 0.06, ("center", "top")
    else:
        side = 1 if box.colour == UP else -1
        x, y = box.x + side * (box.width / 2 + 0.08), box.y - min(0.02, box.height / 4)
        align = ("left" if side > 0 else "right", "center")
    text = rf"$\mathbf{{{box.filters}}}$" + f"\n{_by(box.size)}"
    font = {"fontsize": 7.5, "color": END, "linespacing": 1.15, "zorder": 4}
    ax.text(x, y, text, ha=align[0], va=align[1], **font)
    ax.text(box.x, -box.height / 2 - 0.06, name, ha="center", va="top", **font)


def _arrow(ax, points, colour, linestyle="solid"):
    """Draw a line through `points` that ends in an arrowhead."""
    xs, ys = zip(*points, strict=True)
    look = {"color": colour, "lw": 1.3, "linestyle": linestyle}
    ax.plot(xs[:-1], ys[:-1], solid_capstyle="butt", zorder=2, **look)
    ax.annotate(
        "", points[-1], points[-2], zorder=2,
        arrowprops={"arrowstyle": "-|>,head_width=.18,head_length=.32", "shrinkA": 0, "shrinkB": 1}
        | look,
    )  # fmt: skip


def _draw_down(here: Box, there: Box, ax: Axes) -> None:
    y = here.y - here.height / 2 + min(0.12, here.height / 4)
    x = there.x - there.width / 4 * (there.colour == BOTTOM)
    _arrow(ax, [(here.x + here.width / 2, y), (x, y), (x, there.y + there.height / 2)], DOWN)


def _draw_up(here: Box, there: Box, ax: Axes) -> None:
    y = there.y - there.height / 2 + min(0.12, there.height / 4)
    x = here.x + here.width / 4 * (here.colour == BOTTOM)
    _arrow(ax, [(x, here.y + here.height / 2), (x, y), (there.x - there.width / 2, y)], UP)


def _draw_across(here: Box, there: Box, ax: Axes, colour=END, linestyle="solid") -> None:
    rise = min(here.height, there.height) * 0.15
    start, end = here.x + here.width / 2, there.x - there.width / 2
    _arrow(ax, [(start, here.y + rise), (end, there.y + rise)], colour, linestyle)


def _explain(structure, ax: Axes) -> None:
    """Write what bars and arrows mean under the drawing, each in the line that is drawn."""
    conv = structure.encoder_params.general_conv_params
    pool = structure.encoder_params.max_pool_size
    strides = structure.decoder_params.general_transpose_conv_params.strides
    block = f"two {_by(conv.kernel_size)} convolutions ({conv.activation}), dropout between"
    meanings = [
        (tuple(_mark("s", colour) for colour in (DOWN, BOTTOM, UP)), block),
        (_mark("$\\downarrow$", DOWN), f"{_by(pool)} max pooling"),
        (_mark("$\\uparrow$", UP), f"transposed convolution, stride {_by(strides)}"),
        (plt.Line2D([], [], ls=DASHES, lw=1.3, color=SKIP), "skip, joined by concatenation"),
    ]
    wide = ax.figure.get_figwidth() >= 9
    ax.legend(
        *zip(*meanings, strict=True), loc="lower center", ncols=4 if wide else 2, frameon=False,
        fontsize=8, handletextpad=0.5, columnspacing=1.6, borderpad=0,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
    )  # fmt: skip


def _mark(marker: str, colour: str) -> plt.Line2D:
    return plt.Line2D([], [], ls="none", marker=marker, color=colour, markersize=7)


def _by(pair) -> str:
    return f"{pair[0]} × {pair[1]}"


def plot_receptive_fields(
    diameters: NDArray[np.floating], fields: Mapping[int, int], ax: Axes | None = None
) -> Axes:
    """Draw how large nuclei are and how far networks of so many blocks look; return the axes.

    `diameters` are in pixels, as the receptive field by number of encoder blocks, `fields`.
    """
    ax = plt.subplots(figsize=(8.5, 3.2))[1] if ax is None else ax
    largest = max(diameters.max(), *fields.values())
    ax.hist(diameters, np.geomspace(max(1, diameters.min()), 1.3 * largest, 60), color="#B8C7D6")
    ax.set(xscale="log", xlabel="diameter or receptive field (px, log scale)")
    ax.set_ylabel(f"nuclei (n = {len(diameters):,})")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
    top = ax.get_ylim()[1]
    ax.set_ylim(0, top * 1.16)
    colours = sns.color_palette("flare", len(fields))
    for (n, field), colour in zip(fields.items(), colours, strict=True):
        ax.axvline(field, 0, 0.86, color=colour, lw=1.6)
        label = f"{n} block{'s' * (n > 1)}\n{field} px"
        ax.text(field, top * 1.01, label, ha="center", va="bottom", fontsize=8, color=colour)
    return ax
