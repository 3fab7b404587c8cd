"""Figures: colours that can be told apart, numbers that are true, and inputs that are rare."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from PIL import Image
from skimage.color import rgb2lab

from helpers.analysis.modality import find_modalities
from helpers.evaluation.matching import match
from helpers.evaluation.nuclei import ERRORS, match_images, score_nuclei, tabulate_errors
from helpers.figures import common, data, evaluation, network, nuclei
from helpers.figures.nuclei import OUTCOME_COLOURS, paint_outcomes
from helpers.run_folder import RunFolder
from helpers.settings import generate_settings
from helpers.targets import TARGETS
from tests.conftest import draw_labels

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 255, (48, 64, *colour), dtype=np.uint8) for colour in ((), (3,), ())]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def draw(result):
    result.figure.canvas.draw()
    return result


# ---------------------------------------------------------------- colours of labels


def touching_pairs(labels):
    """Pairs of numbers of nuclei whose pixels are neighbours."""
    sides = [(labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])]
    pairs = np.concatenate([np.stack([one.ravel(), other.ravel()], 1) for one, other in sides])
    return np.unique(pairs[(pairs[:, 0] != pairs[:, 1]) & pairs.all(axis=1)], axis=0)


def crowd(n=200, shape=(160, 200)):
    """Nuclei without a gap between them: every pixel belongs to the nearest of `n` points."""
    points = np.random.default_rng(0).uniform(0, shape, (n, 2))
    grid = np.stack(np.indices(shape), axis=2)[..., None, :]
    return np.linalg.norm(grid - points, axis=3).argmin(axis=2) + 1


def test_neighbours_differ_clearly_in_colour():
    labels = crowd()
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
    renumbered = np.searchsorted([0, 7, 31, 999], labels)
    np.testing.assert_array_equal(colours, common.colour_labels(renumbered))


def test_errors_and_legend_have_the_same_colours():
    true, pred = np.array([[0, 1, 1, 0]], bool), np.array([[0, 0, 1, 1]], bool)
    (drawn,) = common.plot_errors(true, pred).images
    shown = drawn.to_rgba(drawn.get_array())[0, 1:, :3]
    for colour, handle in zip(
        shown, common.legend_handles("missed", "found", "extra"), strict=True
    ):
        np.testing.assert_allclose(colour, handle.get_facecolor()[:3])


# ---------------------------------------------------------------- a data set and its audit


def test_images_without_labels_and_empty_sets_are_drawn():
    labels = np.kron([[0, 1], [2, 0]], np.ones((24, 32), int))
    data.plot_pairs(IMAGES, [labels, None, 0 * labels], list("abc"))
    data.plot_pairs([], [], [])
    table = find_modalities(IMAGES)
    for few in (table, table[:0]):
        draw(data.plot_measures(few, "redness", "colour"))


# ---------------------------------------------------------------- masks


def test_empty_and_full_masks_can_be_drawn():
    full, empty = np.ones((48, 64), bool), np.zeros((48, 64), bool)
    examples = [(IMAGES[0], full, empty), (IMAGES[1], empty, full)]
    evaluation.plot_examples(examples, ["full", "empty"]).canvas.draw()


def test_filled_masks_show_which_side_is_marked():
    mask = np.zeros((48, 64), bool)
    mask[:, :10] = True
    figure = evaluation.plot_examples([(IMAGES[0], mask, ~mask)], ["reversed"], filled=True)
    for ax, side, colour in zip(
        figure.axes[1:3], (mask, ~mask), (common.TRUTH, common.PREDICTION), strict=True
    ):
        shown = ax.images[0].to_rgba(ax.images[0].get_array())[..., :3]
        np.testing.assert_allclose(shown[side], np.tile(to_rgb(colour), (side.sum(), 1)))
        assert not shown[~side].any()


def test_the_shares_of_failures_have_the_colours_of_their_legend():
    figure = evaluation.plot_failures(RunFolder("inversion").read_csv("experiment.csv"))
    patches = [patch for patch in figure.axes[0].patches if patch.get_width() > 0.59]
    assert to_rgb(evaluation.FLOODED) in {patch.get_facecolor()[:3] for patch in patches}
    shown = {h.get_label(): h.get_facecolor()[:3] for h in figure.legends[0].get_patches()}
    assert shown["reversed"] == to_rgb(evaluation.REVERSED)


def test_an_overlay_is_a_small_file(tmp_path):
    image = RNG.integers(0, 255, (256, 256, 3), dtype=np.uint8)  # noise: the worst to compress
    mask = RNG.random((256, 256)) > 0.5
    file = evaluation.write_overlay(tmp_path / "overlays" / "a.png", image, mask, ~mask, "a")
    assert file.stat().st_size < 150_000
    assert Image.open(file).size[0] > 600
    assert not plt.get_fignums()


# ---------------------------------------------------------------- nuclei


def draw_boxes(*boxes):
    return draw_labels(*boxes, shape=(24, 30))


STRIPS = [(8, 0, 1, 9), (9, 0, 1, 9), (10, 0, 1, 9)]
TRUE = draw_boxes((0, 0, 5, 5), *STRIPS, (0, 10, 5, 6), (14, 0, 6, 6))
THIRDS = [(0, 10, 5, 2), (0, 12, 5, 2), (0, 14, 5, 2)]
PRED = draw_boxes((0, 0, 5, 5), (8, 0, 3, 9), *THIRDS, (18, 20, 5, 5))
"""Matched, three merged, split into three, missed; and one extra object."""


def test_bars_are_the_errors_of_each_modality_that_has_nuclei():
    images = [("a", "small_fluorescent", 0, TRUE, PRED), ("b", "small_fluorescent", 1, TRUE, TRUE)]
    images += [("c", "grayscale_tissue", 2, np.zeros_like(TRUE), PRED)]
    ax = nuclei.plot_error_types(tabulate_errors(score_nuclei(match_images(images))))
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in ax.containers}
    each = 100 / 12  # of twelve true nuclei; all modalities together have a second extra object
    assert widths["merged"] == pytest.approx([3 * each, 3 * each])
    assert widths["extra"] == pytest.approx([each, 7 * each])
    colours = [to_hex(bars.patches[0].get_facecolor()).upper() for bars in ax.containers]
    assert colours == [OUTCOME_COLOURS[error] for error in ERRORS] and list(widths) == list(ERRORS)


def test_every_nucleus_has_the_colour_of_its_outcome():
    codes = paint_outcomes(TRUE, PRED, match(TRUE, PRED))
    code = {name: place for place, name in enumerate(OUTCOME_COLOURS, start=1)}
    outline = len(OUTCOME_COLOURS) + 1
    assert (codes[2, 2], codes[9, 4]) == (code["found"], code["merged"])
    assert (codes[14:20, :6] == code["missed"]).all()
    assert (codes[18:23, 20:25] == code["extra"]).all()
    assert (codes[4, 4], codes[8, 4], codes[2, 12]) == (outline, outline, outline)
    assert codes[0, 0] == code["found"]  # the border of the image is no outline
    nothing = (TRUE == 0) & (PRED == 0)
    assert (codes[nothing] == 0).all() and (codes[~nothing] > 0).all()


def test_an_extra_object_keeps_off_true_nuclei():
    # A corner of 4 px of 36 and 25: an IoU of 4/57, too little to be more than missed and extra.
    true, pred = draw_boxes((0, 0, 6, 6)), draw_boxes((4, 4, 5, 5))
    codes = paint_outcomes(true, pred, match(true, pred))
    missed, extra = (list(OUTCOME_COLOURS).index(outcome) + 1 for outcome in ("missed", "extra"))
    assert (codes[true > 0] == missed).all()
    assert (codes[(pred > 0) & (true == 0)] == extra).all()


# ---------------------------------------------------------------- the network and its training


@pytest.mark.parametrize("n_blocks", [1, 4, 7])
def test_labels_of_the_drawing_do_not_overlap(n_blocks):
    ax = draw(network.plot_network(generate_settings(n_blocks)))
    boxes = [t.get_window_extent() for t in ax.texts if t.get_text().strip()]
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[k + 1 :])


def test_a_row_draws_labels_in_colours_images_stretched_and_every_target():
    image = np.arange(600, dtype=np.uint16).reshape(20, 30) + 1000
    labels = draw_labels((4, 3, 8, 8), (4, 11, 8, 9), shape=(20, 30))
    painted = {name: target.paint(target.encode(labels)) for name, target in TARGETS.items()}
    figure = common.plot_row({"image": image, "nuclei": labels, **painted})
    shown = [ax.images[0].get_array() for ax in figure.axes]
    assert (shown[0].min(), shown[0].max()) == (0, 1)
    assert len(np.unique(shown[1].reshape(-1, 3), axis=0)) == 3
    assert all(array.max() == 1 for array in shown[2:])
