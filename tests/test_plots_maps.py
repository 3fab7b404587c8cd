"""Figures of notebook 07."""

import matplotlib.pyplot as plt
import numpy as np

from helpers.figures.maps import plot_directions, plot_paths, plot_row
from helpers.targets import TARGETS

LABELS = np.zeros((20, 30), np.int32)
LABELS[4:12, 3:11], LABELS[4:12, 11:20] = 1, 2


def test_a_row_draws_labels_in_colours_images_stretched_and_every_target():
    image = np.arange(600, dtype=np.uint16).reshape(20, 30) + 1000
    maps = {name: target.paint(target.encode(LABELS)) for name, target in TARGETS.items()}
    figure = plot_row({"image": image, "nuclei": LABELS, **maps})
    shown = [ax.images[0].get_array() for ax in figure.axes]
    assert [ax.get_title() for ax in figure.axes] == ["image", "nuclei", *TARGETS]
    assert (shown[0].min(), shown[0].max()) == (0, 1)
    assert len(np.unique(shown[1].reshape(-1, 3), axis=0)) == 3
    assert all(array.max() == 1 for array in shown[2:])
    plt.close(figure)


def test_arrows_start_in_the_mask_and_paths_have_the_colour_of_their_nucleus():
    figure, (left, right) = plt.subplots(1, 2)
    flow = TARGETS["flow"].encode(LABELS)[..., 1:]
    plot_directions(flow, LABELS > 0, left)
    ((columns, rows),) = [quiver.XY.T for quiver in left.collections]
    assert (LABELS[np.int32(rows), np.int32(columns)] > 0).all()
    paths = np.array([[[5, 4], [5, 12]], [[6, 5], [6, 13]]])
    plot_paths(paths, np.array([1, 2]), LABELS > 0, right)
    lines = right.collections[0]
    assert not np.array_equal(*lines.get_colors()[:2])
    np.testing.assert_array_equal(lines.get_segments()[1], [[12, 5], [13, 6]])
    plt.close(figure)
