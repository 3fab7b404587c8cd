"""What is measured in images from anywhere: nuclei, the scale that fits, what is strange."""

import numpy as np
import pytest
from skimage.measure import label

from helpers.run_folder import RunFolder
from helpers.segment.measure import COLUMNS, measure_nuclei
from helpers.segment.outputs import draw_overlay
from helpers.segment.scale import (
    KNOWN_DIAMETERS_PX,
    N_PLACES,
    Scale,
    choose_scale,
    find_centres,
    read_known_diameters,
)
from helpers.segment.trained import list_warnings, warn_of_missed

GRAY = (np.arange(20 * 30) % 251).reshape(20, 30).astype(np.uint8)
COLOUR = np.stack([GRAY, GRAY[::-1], 255 - GRAY], axis=2)


def test_measures_of_a_known_ellipse():
    table = measure_nuclei(COLOUR, (GRAY > 99).astype(int), name="a.png")
    assert list(table.columns) == list(COLUMNS) and table["image"].tolist() == ["a.png"]
    assert table["mean_intensity"][0] == pytest.approx(COLOUR[GRAY > 99].mean())
    row, column = np.indices((80, 90))
    labels = (((row - 30) / 20) ** 2 + ((column - 50) / 10) ** 2 < 1).astype(int)
    row = measure_nuclei(labels.astype(np.float32), labels).iloc[0]
    assert (row["centroid_row_px"], row["centroid_column_px"], row["mean_intensity"]) == (30, 50, 1)
    assert row["major_axis_px"] == pytest.approx(40, rel=0.02)
    assert row["eccentricity"] == pytest.approx(np.sqrt(1 - 0.5**2), rel=0.02)


def test_a_pixel_size_adds_micrometres():
    labels = np.zeros((20, 30), np.int32)
    labels[4:10, 5:25] = 1
    row = measure_nuclei(GRAY, labels, 0.5, scores=np.array([0.7])).iloc[0]
    assert row["score"] == 0.7
    assert (row["area_px"], row["area_um2"]) == (120, 30)
    assert row["centroid_row_um"] == row["centroid_row_px"] / 2 == 3.25
    assert row["major_axis_um"] == row["major_axis_px"] / 2
    for size in (0, -1, np.nan):
        with pytest.raises(ValueError, match="pixel_size_um"):
            measure_nuclei(GRAY, labels, size)


def test_an_image_without_nuclei_has_the_same_columns_and_types():
    labels = np.zeros((20, 30), np.int32)
    empty, full = measure_nuclei(GRAY, labels, 2.0), measure_nuclei(GRAY, labels + 1, 2.0, "a")
    assert len(empty) == 0 and len(full) == 1
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    with pytest.raises(ValueError, match="height and width"):
        measure_nuclei(GRAY, labels[1:])


def test_overlays_outline_touching_nuclei_and_keep_the_size():
    labels = np.zeros((40, 50), np.int32)
    labels[5:35, 5:25], labels[5:35, 25:45] = 1, 2
    for image in (np.zeros((40, 50), np.uint16), np.random.default_rng(0).random((40, 50, 3))):
        overlay = draw_overlay(image, labels)
        assert overlay.shape == (40, 50, 3) and overlay.dtype == np.uint8
        drawn = (overlay == (222, 143, 5)).all(axis=2)
        assert drawn[20, [5, 24, 25, 44]].all() and not drawn[20, [0, 15, 35, 49]].any()
    assert draw_overlay(np.zeros((100, 41)), np.zeros((100, 41), int), 50).shape == (50, 21, 3)


# ---------------------------------------------------------------- scale


class Seeing:
    """A network that finds what is bright, and is sure of it where it knows the size."""

    def __init__(self, known=(12, 60), score=0.9):
        self.known, self.score, self.asked = known, score, []

    def find(self, image, *, scale=1.0, least=None):
        self.asked.append((scale, image.shape[:2]))
        labels = label(image > 100)
        seen = scale * np.sqrt(np.bincount(labels.ravel())[1:])
        scores = np.where((seen >= self.known[0]) & (seen <= self.known[1]), self.score, 0.2)
        return labels.astype(np.int32), scores


def draw_squares(size, shape=(300, 300)):
    """An image of squares, as far apart as they are wide."""
    image = np.zeros(shape, np.uint8)
    for top in range(size // 2, shape[0] - size, 2 * size):
        for left in range(size // 2, shape[1] - size, 2 * size):
            image[top : top + size, left : left + size] = 200
    return image


@pytest.mark.parametrize(
    ("size", "scales"), [(8, [2]), (20, [1]), (38, [1]), (70, [0.5]), (120, [0.25, 0.5])]
)
def test_nuclei_are_brought_to_a_size_at_which_the_network_is_sure(size, scales):
    found = choose_scale(Seeing(), draw_squares(size))
    assert found.scale in scales and found.second is None
    assert found.sureness == pytest.approx(0.9, abs=0.03)
    assert found.diameter_px == pytest.approx(size * np.sqrt(4 / np.pi))


def test_usual_nuclei_of_which_the_network_is_sure_need_one_look():
    network = Seeing()
    choose_scale(network, draw_squares(20))
    assert network.asked == [(1, (300, 300))]
    network = Seeing(score=0.6)
    found = choose_scale(network, draw_squares(20))
    assert found.scale == 1 and found.found[0].shape == (300, 300)
    assert [scale for scale, _ in network.asked] == [1, 0.5, 0.25, 0.125]


def test_pieces_of_large_nuclei_do_not_pass_for_nuclei():
    class Tearing(Seeing):
        def find(self, image, *, scale=1.0, least=None):
            if scale == 1:
                image = image.copy()
                image[:, ::25] = image[::25] = 0
                labels, scores = super().find(image, scale=scale)
                return labels, 0 * scores + 0.4
            return super().find(image, scale=scale)

    found = choose_scale(Tearing(), draw_squares(120, (700, 700)))
    assert found.scale in (0.25, 0.5) and found.diameter_px > 100
    assert found.second in (None, 1.0)


def test_a_second_scale_that_finds_other_things_is_named_and_lowers_the_sureness():
    class Two(Seeing):
        def find(self, image, *, scale=1.0, least=None):
            size = {1: 40, 0.5: 100}.get(scale)
            labels = label(draw_squares(size, image.shape)) if size else 0 * image
            return labels.astype(np.int32), np.full(labels.max(), 0.6)

    found = choose_scale(Two(), draw_squares(20, (400, 400)))
    assert (found.scale, found.second) == (1, 0.5) and found.sureness < 0.4
    assert "next best: scale 0.5, nuclei of 112.8 px" in found.reason
    assert found.is_close
    warnings = list_warnings(found.found[0], found, (10, 60))
    assert warnings[0].startswith("at scale 0.5 nearly as much")


def test_tissue_seen_from_afar_is_no_nucleus():
    assert choose_scale(Seeing((12, 1000)), draw_squares(300, (900, 900))).scale == 1


def test_without_nuclei_the_image_stays_as_it_is():
    network = Seeing()
    found = choose_scale(network, np.zeros((300, 300), np.uint8))
    assert found.scale == 1 and np.isnan(found.diameter_px) and found.sureness == 0
    assert "Give the median diameter" in found.reason
    small = Seeing()
    choose_scale(small, np.zeros((20, 70), np.uint8))
    assert min(scale for scale, _ in small.asked) == 1


def test_places_are_the_centre_and_where_most_is_to_be_seen():
    image = np.zeros((1600, 1500), np.uint8)
    image[60:90, 60:90] = 200
    centres = find_centres(image)
    assert len(centres) == N_PLACES and centres[0] == (800, 750)
    assert max(centres[1]) < 300
    assert find_centres(image[:500, :500]) == [(250, 250)]


def test_nuclei_around_an_empty_centre_decide_the_scale():
    image = np.zeros((1600, 1600), np.uint8)
    for k in range(10):
        image[20:120, 150 * k + 20 : 150 * k + 120] = 200
    network = Seeing()
    assert choose_scale(network, image).scale in (0.25, 0.5)
    assert max(side for _, shape in network.asked for side in shape) == 1600


@pytest.mark.parametrize(("given", "scale"), [(5, 4), (10, 1), (25, 1), (40, 1), (80, 0.25)])
def test_a_given_diameter_outside_the_known_is_brought_to_their_middle(given, scale):
    network = Seeing()
    found = choose_scale(network, GRAY, diameter_px=given, known=(10, 40))
    assert (found.scale, found.diameter_px, network.asked) == (scale, given, [])


def test_impossible_sizes_are_refused():
    for size in (0, -3, np.nan, np.inf):
        with pytest.raises(ValueError, match="diameter_px"):
            choose_scale(Seeing(), GRAY, diameter_px=size)
    with pytest.raises(ValueError, match="known"):
        choose_scale(Seeing(), GRAY, known=(60, 10))


def test_known_sizes_are_those_of_the_test_images(tmp_path):
    run = RunFolder(tmp_path)
    assert read_known_diameters(run) == KNOWN_DIAMETERS_PX
    (tmp_path / "metrics.csv").write_text("id,diameter_px\na,10\nb,\nc,30\nd,20\n")
    assert read_known_diameters(run) == (10.2, 29.8)


# ---------------------------------------------------------------- warnings


def test_warnings_name_what_is_strange():
    fine, half = Scale(1.0, 20, ""), Scale(0.5, 100, "")
    labels = np.zeros((100, 100), int)
    assert list_warnings(labels, fine, (10, 60)) == ["no nucleus found"]
    labels[:18, :18] = 1
    assert list_warnings(labels, fine, (10, 60)) == []
    assert "cover 100%" in list_warnings(labels[:18, :18], fine, (10, 60))[0]
    assert "20 px wide" in list_warnings(labels, fine, (30, 60))[0]
    assert "at scale 0.5 is 10" in list_warnings(labels, half, (15, 60))[0]


@pytest.mark.parametrize("sign", [1, -1])
def test_what_stands_out_and_is_not_found_is_said(sign):
    truth = np.zeros((200, 200), int)
    for k in range(9):
        top, left = 60 * (k // 3) + 20, 60 * (k % 3) + 20
        truth[top : top + 20, left : left + 20] = k + 1
    image = np.where(truth > 0, 128 + 60 * sign, 128 - 60 * sign).astype(np.uint8)
    assert warn_of_missed(image, truth) == []
    few = warn_of_missed(image, np.where(truth > 7, truth, 0))
    assert few[0].startswith(f"7 of 9 objects {'brighter' if sign == 1 else 'darker'}")
