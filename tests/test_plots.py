"""Figures: colours that can be told apart, numbers that are true, and inputs that are rare."""

import json

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from PIL import Image
from skimage.color import rgb2lab

from helpers.analysis.modality import MODALITIES, find_modalities
from helpers.evaluation.masks import calibration
from helpers.evaluation.matching import THRESHOLDS, match
from helpers.evaluation.nuclei import ERRORS, match_images, score_nuclei, tabulate_errors
from helpers.evaluation.published import POOLED, compare_published, read_published
from helpers.evaluation.summary import summarise_scores
from helpers.figures import common, data, evaluation, network, nuclei
from helpers.figures.nuclei import OUTCOME_COLOURS, paint_outcomes
from helpers.run_folder import RunFolder
from helpers.settings import generate_settings, load_settings, parse_settings
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


def title_of(ax):
    return ax.get_title(loc="left") or ax.get_title()


def texts(labels):
    return [label.get_text() for label in labels]


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


@pytest.mark.parametrize("value", [0, 3])
def test_nothing_and_one_nucleus_alone_are_drawn(value):
    colours = common.colour_labels(np.full((6, 5), value))
    assert colours.shape == (6, 5, 3) and colours.any() == bool(value)


def test_errors_and_legend_have_the_same_colours():
    true, pred = np.array([[0, 1, 1, 0]], bool), np.array([[0, 0, 1, 1]], bool)
    (drawn,) = common.plot_errors(true, pred).images
    shown = drawn.to_rgba(drawn.get_array())[0, 1:, :3]
    handles = common.legend_handles("missed", "found", "extra", "truth", "prediction")
    for colour, handle in zip(shown, handles, strict=False):
        np.testing.assert_allclose(colour, handle.get_facecolor()[:3])
    lines = [(to_rgb(handle.get_color()), handle.get_linestyle()) for handle in handles[3:]]
    assert lines == [(to_rgb(common.TRUTH), "-"), (to_rgb(common.PREDICTION), "--")]


# ---------------------------------------------------------------- a data set and its audit


def test_images_without_labels_and_empty_sets_are_drawn():
    labels = np.kron([[0, 1], [2, 0]], np.ones((24, 32), int))
    figure = data.plot_pairs(IMAGES, [labels, None, 0 * labels], list("abc"))
    assert [ax.get_title() for ax in figure.axes[3:]] == ["2 nuclei", "", "0 nuclei"]
    data.plot_pairs([], [], [])
    table = find_modalities(IMAGES)
    data.plot_modalities(IMAGES, table["modality"])
    draw(data.plot_measures(table, "ground", "colour"))
    assert "n = 0" in draw(data.plot_measures(table[:0], "redness", "colour")).get_title()


@pytest.mark.parametrize("n", [0, 1, 5])
def test_ranges_of_any_number_of_images_leave_out_those_without_a_median(n):
    table = pd.DataFrame({"low": range(n), "mid": range(1, n + 1), "high": range(2, n + 2)})
    table = pd.concat([table, pd.DataFrame({"low": [np.nan]})])
    assert f"n = {n}" in draw(data.plot_ranges(table, "low", "mid", "high", "level")).get_xlabel()


@pytest.mark.parametrize("places", [{0: (0, 0)}, {0: (0, 0), 2: (1, 0)}])
def test_a_field_is_drawn_apart_and_whole(places):
    apart, whole = (ax.images[0].get_array() for ax in data.plot_field(IMAGES, places).axes)
    assert whole.shape == (48 * len(places), 64)
    assert apart.shape == whole.shape if len(places) == 1 else apart.shape[0] > whole.shape[0]


def test_values_by_modality_leave_out_images_without_one():
    table = pd.DataFrame({"modality": [MODALITIES[0], MODALITIES[4]], "contrast": [0.5, np.nan]})
    ax = draw(data.plot_by_modality(table, "contrast", "contrast"))
    assert texts(ax.get_yticklabels()) == ["small fluorescent (1)"]


# ---------------------------------------------------------------- masks


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "id": list("abcd"),
            "modality": ["small_fluorescent"] * 3 + ["grayscale_tissue"],
            "group": [0, 0, 1, 2],
            "iou": [0.8, 0.9, 0.7, 0.2],
        }
    )


def test_scores_show_means_and_counts(table):
    ax = evaluation.plot_scores(table, summarise_scores(table, ("iou",), n_resamples=50))
    assert [line.get_xdata()[0] for line in ax.lines] == pytest.approx([0.8, 0.2, 0.65])
    assert texts(ax.get_yticklabels())[1:] == [
        "grayscale tissue\n1 image, 1 field",
        "all modalities\n4 images, 3 fields",
    ]


def test_calibration_shows_fractions_and_pixels():
    result = calibration(np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 1, 1, 1], bool))
    top, bottom = evaluation.plot_calibration(result)
    assert top.lines[1].get_ydata()[[1, 9]].tolist() == [0.5, 1]
    assert sum(bar.get_height() for bar in bottom.patches) == 4


def test_empty_and_full_masks_can_be_drawn():
    full, empty = np.ones((48, 64), bool), np.zeros((48, 64), bool)
    examples = [(IMAGES[0], full, empty), (IMAGES[1], empty, full)]
    figure = evaluation.plot_examples(examples, ["full", "empty"])
    titles = [title_of(ax) for ax in figure.axes]
    assert titles == ["full", "truth", "prediction", "errors", "empty", "", "", ""]
    figure.canvas.draw()


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


@pytest.fixture
def matched():
    return match_images(
        [
            ("a", "small_fluorescent", 0, TRUE, PRED),
            ("b", "small_fluorescent", 1, TRUE, TRUE),
            ("c", "grayscale_tissue", 2, np.zeros_like(TRUE), PRED),
        ]
    )


def test_ours_stands_among_the_published_with_interval_and_seeds(matched):
    tables = {"1": score_nuclei(matched), "2": score_nuclei(matched)}
    tables["2"].loc[1, "tp_50"] = 0
    comparison = compare_published(tables, name="reference")
    ax = nuclei.plot_published(comparison)
    row = comparison.iloc[-1]
    assert len(ax.lines) == read_published()["ap_50"].notna().sum() + 1
    ours = next(line for line in ax.lines if line.get_label() == "reference")
    np.testing.assert_array_equal(ours.get_xydata().T, [THRESHOLDS[:9], row[list(POOLED)]])
    intervals, band = ax.collections
    assert intervals.get_segments()[0][:, 1].tolist() == [row["ap_50_low"], row["ap_50_high"]]
    edges = band.get_paths()[0].vertices
    assert {row["ap_50_seed_low"], row["ap_50_seed_high"]} <= set(edges[edges[:, 0] == 0.5, 1])


def test_bars_are_the_errors_of_each_modality_that_has_nuclei(matched):
    ax = nuclei.plot_error_types(tabulate_errors(score_nuclei(matched)))
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in ax.containers}
    each = 100 / 12  # of twelve true nuclei; all modalities together have a second extra object
    assert widths["merged"] == pytest.approx([3 * each, 3 * each])
    assert widths["extra"] == pytest.approx([each, 7 * each])
    colours = [to_hex(bars.patches[0].get_facecolor()).upper() for bars in ax.containers]
    assert colours == [OUTCOME_COLOURS[error] for error in ERRORS] and list(widths) == list(ERRORS)
    assert texts(ax.get_yticklabels())[0] == "small fluorescent\n12 nuclei, 2 images"


def test_recall_stands_at_the_size_of_the_nuclei():
    sizes = pd.DataFrame({"threshold": [0.5] * 3 + [0.7] * 3, "from_px": [0, 11.3, 16] * 2})
    sizes = sizes.assign(diameter_px=[6, 12, 20] * 2, n_nuclei=[2, 1, 1] * 2, low=0, high=1)
    ax = nuclei.plot_recall_by_size(sizes.assign(estimate=[0.5, 1, 1, 0, 1, 1]))
    at_50, at_70 = ax.lines
    assert at_50.get_xdata().tolist() == [6, 12, 20]
    assert at_50.get_ydata().tolist() == [0.5, 1, 1]
    assert at_70.get_ydata().tolist() == [0, 1, 1]
    assert texts(ax.texts) == ["2", "1", "1"]


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


def test_examples_are_cut_to_their_windows():
    image = RNG.integers(0, 255, TRUE.shape, dtype=np.uint8)
    empty, window = np.zeros_like(TRUE), (slice(2, 9), slice(1, 5))
    examples = [(image, TRUE, PRED), (image, empty, empty)]
    figure = nuclei.plot_nuclei_examples(examples, ["first", "none"], [window, window])
    assert figure.axes[3].get_xlim() == (0.5, 4.5) and figure.axes[3].get_ylim() == (8.5, 1.5)
    figure.canvas.draw()
    frame = figure.legends[0].get_window_extent()
    assert frame.x0 >= 0 and frame.x1 <= figure.bbox.width


# ---------------------------------------------------------------- the network and its training


def count_skips(ax):
    arrows = [text.arrow_patch for text in ax.texts if getattr(text, "arrow_patch", None)]
    return sum(arrow.get_linestyle() == "dashed" for arrow in arrows)


@pytest.mark.parametrize("n_blocks", [1, 4, 7])
def test_drawing_has_a_bar_for_every_block_and_no_labels_that_overlap(n_blocks):
    ax = draw(network.plot_network(generate_settings(n_blocks)))
    assert len(ax.patches) == 2 * n_blocks + 3  # both ways, the bottleneck, image and probability
    assert count_skips(ax) == n_blocks
    boxes = [t.get_window_extent() for t in ax.texts if t.get_text().strip()]
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[k + 1 :])


def test_sides_of_the_bars_follow_the_square_root_of_filters_and_size():
    original = load_settings("settings/original.json")
    image, first, *_, bottleneck = network.plot_network(original).patches[:7]
    assert first.get_width() / image.get_width() == pytest.approx((16 / 3) ** 0.5)
    assert bottleneck.get_width() / first.get_width() == pytest.approx((512 / 16) ** 0.5)
    assert first.get_height() / bottleneck.get_height() == pytest.approx((256 / 8) ** 0.5)


def test_drawing_leaves_out_a_missing_skip_and_takes_other_poolings():
    values = generate_settings(4, base_filters=2).model_dump(mode="json", by_alias=True)
    decoder = values["model_structure"]["decoder_params"]
    blocks = decoder["changing_conv_params"]
    decoder["changing_conv_params"] = {name: blocks[name] for name in list(blocks)[:2]}
    decoder["general_transpose_conv_params"] |= {"kernel_size": [4, 4], "strides": [4, 4]}
    blocks["decoder_block_1"]["concatenate_layer"] = None
    blocks["decoder_block_2"]["concatenate_layer"] = "encoder_block_1"
    ax = network.plot_network(parse_settings(json.dumps(values)))
    assert len(ax.patches) == 4 + 1 + 2 + 2
    assert count_skips(ax) == 1


def test_curves_mark_every_change_of_rate_unless_it_falls_in_every_epoch():
    history = pd.DataFrame({"epoch": [1, 2, 3, 4], "learning_rate": [0.1, 0.1, 0.01, 0.001]})
    history = history.assign(loss=[1.0, 0.5, 0.4, 0.39], val_loss=[1.1, 0.7, 0.6, 0.6])
    ax = network.plot_history(history, "loss", "loss", plt.figure().gca())
    assert [line.get_xdata()[0] for line in ax.lines[2:]] == [2.5, 3.5]
    assert texts(ax.texts) == ["1e-2", "1e-3"]
    falling = pd.concat([history] * 3).assign(learning_rate=np.geomspace(1, 0.1, 12))
    falling = falling.assign(epoch=range(12)).drop(columns="val_loss")
    ax = network.plot_history(falling, "loss", "loss", plt.figure().gca())
    assert not ax.texts and len(ax.lines) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_drawn_in_gray_and_in_colour(channels):
    inputs = np.zeros((9, 8, 8, channels))
    inputs[:, 2:6, 2:6] = 1
    figure = network.plot_batch(inputs, inputs[..., 0] > 0.5)
    assert sum(bool(ax.images) for ax in draw(figure.axes[0]).figure.axes) == 8


def test_a_row_draws_labels_in_colours_images_stretched_and_every_target():
    image = np.arange(600, dtype=np.uint16).reshape(20, 30) + 1000
    labels = draw_labels((4, 3, 8, 8), (4, 11, 8, 9), shape=(20, 30))
    painted = {name: target.paint(target.encode(labels)) for name, target in TARGETS.items()}
    figure = common.plot_row({"image": image, "nuclei": labels, **painted})
    shown = [ax.images[0].get_array() for ax in figure.axes]
    assert (shown[0].min(), shown[0].max()) == (0, 1)
    assert len(np.unique(shown[1].reshape(-1, 3), axis=0)) == 3
    assert all(array.max() == 1 for array in shown[2:])


def test_a_row_shows_values_as_they_are_and_depths_to_their_largest():
    figure = common.plot_row({"half": np.full((4, 4), 0.5), "depth": np.eye(4) * 7.0})
    assert [ax.images[0].get_clim() for ax in figure.axes] == [(0, 1), (0, 7)]
