import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from helpers.figures.network import SKIP, plot_network, plot_receptive_fields
from helpers.figures.settings_table import settings_beside_layers
from helpers.network.unet import build_unet
from helpers.settings import generate_settings, load_settings, parse_settings


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def dashed(lines):
    return [line for line in lines if line.get_linestyle() == "--"]


@pytest.mark.parametrize("n_blocks", [1, 4, 7])
def test_drawing_has_a_bar_for_every_block_and_no_labels_that_overlap(n_blocks):
    ax = plot_network(generate_settings(n_blocks))
    assert len(ax.patches) == 2 * n_blocks + 3  # both ways, the bottleneck, image and probability
    assert len(dashed(ax.lines)) == n_blocks
    ax.figure.canvas.draw()
    boxes = [t.get_window_extent() for t in ax.texts if t.get_text().strip()]
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[k + 1 :])


def test_sides_of_the_bars_follow_the_square_root_of_filters_and_size():
    original = load_settings("settings/original.json")
    image, first, *_, bottleneck = plot_network(original).patches[:7]
    assert first.get_width() / image.get_width() == pytest.approx((16 / 3) ** 0.5)
    assert bottleneck.get_width() / first.get_width() == pytest.approx((512 / 16) ** 0.5)
    assert first.get_height() / bottleneck.get_height() == pytest.approx((256 / 8) ** 0.5)


def test_the_legend_shows_a_skip_as_it_is_drawn():
    ax = plot_network(generate_settings(2))
    (skip,) = dashed(ax.get_legend().get_lines())
    assert to_hex(skip.get_color()) == SKIP.lower()
    assert "skip" in ax.get_legend().get_texts()[-1].get_text()


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
    assert len(dashed(ax.lines)) == 1


@pytest.mark.parametrize("target", ["foreground", "flow"])
def test_every_layer_stands_beside_the_line_that_builds_it(target):
    settings = generate_settings(2, base_filters=2).with_overrides({"target": target})
    model = build_unet(settings)
    table = settings_beside_layers(settings, model)
    counts = [row.split("|")[-2].strip().replace(",", "") for row in table.splitlines()[2:]]
    *parts, total = [int(count.strip("*")) for count in counts if count]
    assert sum(parts) == total == model.count_params()
    assert sum(table.count(kind) for kind in ("MaxPooling2D →", "→ MaxPooling2D")) == 2
    assert '"concatenate_layer": "encoder_block_2"' in table


def test_receptive_fields_are_lines_beside_the_nuclei():
    ax = plot_receptive_fields(np.array([5.0, 20, 30]), {1: 18, 2: 44})
    assert [line.get_xdata()[0] for line in ax.lines] == [18, 44]
    assert sum(patch.get_height() for patch in ax.patches) == 3
