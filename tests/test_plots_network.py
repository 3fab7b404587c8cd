import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from helpers.figures.network import (
    plot_costs,
    plot_learned,
    plot_learning,
    plot_network,
    plot_receptive_fields,
)
from helpers.network.complexity import tabulate_networks
from helpers.settings import generate_settings, load_settings, parse_settings


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts if text.get_text().strip()]


@pytest.mark.parametrize("n_blocks", range(1, 8))
def test_drawing_has_a_bar_for_every_block_and_a_line_for_every_skip(n_blocks):
    ax = plot_network(generate_settings(n_blocks))
    assert len(ax.patches) == 2 * n_blocks + 3  # both ways, the bottleneck, image and probability
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert len(dashed) == n_blocks
    ax.figure.canvas.draw()


@pytest.mark.parametrize("n_blocks", range(1, 8))
def test_labels_of_the_drawing_do_not_overlap(n_blocks):
    ax = plot_network(generate_settings(n_blocks))
    ax.figure.canvas.draw()
    boxes = [t.get_window_extent() for t in ax.texts if t.get_text().strip()]
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[k + 1 :])


def test_drawing_says_filters_and_sizes_of_the_original():
    written = texts(plot_network(load_settings("settings/original.json")))
    for filters, size in zip((16, 32, 64, 128, 256, 512), (256, 128, 64, 32, 16, 8), strict=True):
        assert rf"$\mathbf{{{filters}}}$" + f"\n{size} × {size}" in written


def test_drawing_leaves_out_a_missing_skip_and_takes_other_poolings():
    values = generate_settings(4, base_filters=2).model_dump(mode="json", by_alias=True)
    decoder = values["model_structure"]["decoder_params"]
    blocks = decoder["changing_conv_params"]
    decoder["changing_conv_params"] = {name: blocks[name] for name in list(blocks)[:2]}
    decoder["general_transpose_conv_params"] |= {"kernel_size": [4, 4], "strides": [4, 4]}
    blocks["decoder_block_1"]["concatenate_layer"] = None
    blocks["decoder_block_2"]["concatenate_layer"] = "encoder_block_1"
    ax = plot_network(parse_settings(json.dumps(values)))
    assert len(ax.patches) == 4 + 1 + 2 + 2
    assert sum(line.get_linestyle() == "--" for line in ax.lines) == 1


def test_drawing_goes_into_given_axes():
    _, ax = plt.subplots()
    assert plot_network(generate_settings(2), ax) is ax


def test_costs_have_a_point_for_every_number_of_blocks():
    table = tabulate_networks({n: generate_settings(n) for n in range(1, 8)})
    left, right = plot_costs(table).axes
    assert left.lines[0].get_ydata().tolist() == table["parameters"].tolist()
    assert right.lines[0].get_ydata().tolist() == table["GFLOP an image"].tolist()
    assert "7.78 M" in texts(left)


def test_receptive_fields_are_lines_beside_the_nuclei():
    ax = plot_receptive_fields(np.array([5.0, 20, 30]), {1: 18, 2: 44})
    assert [line.get_xdata()[0] for line in ax.lines] == [18, 44]
    assert sum(patch.get_height() for patch in ax.patches) == 3
    assert texts(ax) == ["1 block\n18 px", "2 blocks\n44 px"]


def test_learning_is_drawn_step_by_step():
    left, right = plot_learning({"loss": [1, 0.5], "iou": [0.1, 0.7]}).axes
    assert list(left.lines[0].get_ydata()) == [1, 0.5]
    assert right.get_ylim() == (0, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_learned_images_come_with_their_iou(channels):
    targets = np.zeros((2, 8, 8, 1))
    targets[:, 2:6, 2:6] = 1
    inputs = np.repeat(targets, channels, axis=3)
    figure = plot_learned(inputs, targets, targets * [[[[1.0]]], [[[0.0]]]])
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes]
    assert [t for t in titles if t] == ["IoU 1.00", "IoU 0.00"]
