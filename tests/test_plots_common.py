import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from skimage.color import rgb2lab

from helpers.figures import common


def touching_pairs(labels):
    """Pairs of numbers of nuclei whose pixels are neighbours."""
    sides = [(labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])]
    pairs = np.concatenate([np.stack([one.ravel(), other.ravel()], 1) for one, other in sides])
    return np.unique(pairs[(pairs[:, 0] != pairs[:, 1]) & pairs.all(axis=1)], axis=0)


def crowd(n=200, shape=(160, 200), seed=0):
    """Nuclei without a gap between them: every pixel belongs to the nearest of `n` points."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, shape, (n, 2))
    grid = np.stack(np.indices(shape), axis=2)[..., None, :]
    return np.linalg.norm(grid - points, axis=3).argmin(axis=2) + 1


@pytest.mark.parametrize("seed", range(3))
def test_neighbours_differ_clearly_in_colour(seed):
    labels = crowd(seed=seed)
    labels[:40, :50] = 0
    colours = rgb2lab(common.colour_labels(labels))
    of = {number: colours[labels == number][0] for number in np.unique(labels)}
    distances = [np.linalg.norm(of[one] - of[other]) for one, other in touching_pairs(labels)]
    assert min(distances) > common.CLEAR / 2
    assert np.mean(np.array(distances) >= common.CLEAR) > 0.95


def test_a_pair_that_is_nearly_touching_differs_and_numbers_do_not_matter():
    labels = np.zeros((20, 60), np.int32)
    labels[5:15, 5:20], labels[5:15, 25:40], labels[5:15, 45:55] = 7, 31, 999
    colours = common.colour_labels(labels)
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 4
    assert not colours[labels == 0].any()
    np.testing.assert_array_equal(
        colours, common.colour_labels(np.searchsorted([0, 7, 31, 999], labels))
    )


@pytest.mark.parametrize("value", [0, 3])
def test_nothing_and_one_nucleus_alone_are_drawn(value):
    colours = common.colour_labels(np.full((6, 5), value))
    assert colours.shape == (6, 5, 3) and colours.any() == bool(value)


def test_errors_and_legend_have_the_same_colours():
    true, pred = np.array([[0, 1, 1, 0]], bool), np.array([[0, 0, 1, 1]], bool)
    ax = common.plot_errors(true, pred)
    (drawn,) = ax.images
    shown = drawn.to_rgba(drawn.get_array())[0, 1:, :3]
    handles = common.legend_handles("missed", "found", "extra", "truth", "prediction")
    for colour, handle in zip(shown, handles, strict=False):
        np.testing.assert_allclose(colour, handle.get_facecolor()[:3])
    lines = [(to_rgb(handle.get_color()), handle.get_linestyle()) for handle in handles[3:]]
    assert lines == [(to_rgb(common.TRUTH), "-"), (to_rgb(common.PREDICTION), "--")]
