"""What is measured in images from anywhere: nuclei, the scale that fits, what is strange."""

import numpy as np
import pytest
from skimage.measure import label

from helpers.run_folder import RunFolder
from helpers.segment.image import list_warnings, warn_of_missed
from helpers.segment.measure import COLUMNS, measure_nuclei
from helpers.segment.outputs import draw_overlay
from helpers.segment.scale import (
    KNOWN_DIAMETERS_PX,
    N_PLACES,
    Scale,
    choose_scale,
    find_places,
    read_known_diameters,
)

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
    row = measure_nuclei(GRAY, labels, 0.5).iloc[0]
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


@pytest.mark.parametrize(("diameter", "width"), [(200, 2), (6, 1)])
def test_outlines_of_a_large_image_are_wider_but_leave_small_nuclei_open(diameter, width):
    labels = np.zeros((1000, 900), np.int32)
    labels[400 : 400 + diameter, 300 : 300 + diameter] = 1
    overlay = draw_overlay(np.zeros(labels.shape, np.uint8), labels)
    drawn = (overlay == (222, 143, 5)).all(axis=2)[400 + diameter // 2]
    assert np.flatnonzero(drawn[: 300 + diameter // 2]).tolist() == list(range(300, 300 + width))


# ---------------------------------------------------------------- scale


class Discs:
    """A network that sees squares of `size` pixels on black, if they are of the sizes it knows."""

    def __init__(self, size, seen=(0, 1000)):
        self.size, self.seen, self.scales = size, seen, []

    def segment(self, image, *, scale=1.0):
        self.scales.append(scale)
        labels = np.zeros(image.shape[:2], np.int32)
        if self.seen[0] <= self.size * scale <= self.seen[1]:
            labels[: self.size, : self.size] = 1
        return labels


IMAGE = np.zeros((300, 300), np.uint8)


@pytest.mark.parametrize(
    ("size", "scale"), [(8, 2), (5, 2), (3, 4), (20, 1), (50, 1), (80, 0.5), (100, 0.5)]
)
def test_the_scale_brings_nuclei_to_sizes_that_the_network_knows(size, scale):
    found = choose_scale(Discs(size), IMAGE, known=(10, 60))
    assert found.scale == scale
    assert found.diameter_px == pytest.approx(size * np.sqrt(4 / np.pi))
    assert found.labels.shape == IMAGE.shape


def test_the_scale_at_which_nuclei_cover_most_is_taken():
    class Torn(Discs):
        def segment(self, image, *, scale=1.0):
            self.size, self.seen = (80, (0, 60)) if scale == 0.5 else (9, (18, 1000))
            return super().segment(image, scale=scale)

    found = choose_scale(Torn(0), IMAGE)
    assert found.scale == 0.5 and found.reason.endswith("next best: scale 2, nuclei of 10.2 px")


def test_specks_do_not_decide_the_scale():
    class Specks(Discs):
        def segment(self, image, *, scale=1.0):
            labels = super().segment(image, scale=scale)
            labels[-20::4, -80::4] = np.arange(2, 102).reshape(5, 20)
            return labels

    found = choose_scale(Specks(20), IMAGE)
    assert found.scale == 1 and found.diameter_px > 20


def test_nothing_plausible_keeps_the_image_as_it_is():
    network = Discs(0)
    found = choose_scale(network, IMAGE)
    assert found.scale == 1 and np.isnan(found.diameter_px)
    assert "Give the median diameter" in found.reason
    assert sorted(network.scales) == [0.125, 0.25, 0.5, 1, 2, 4]
    small = Discs(0)
    choose_scale(small, np.zeros((20, 70), np.uint8))
    assert min(small.scales) == 1


class Threshold:
    """A network that sees what is bright, and of nuclei wider than it knows nothing."""

    def __init__(self, widest=60):
        self.widest, self.shapes = widest, []

    def segment(self, image, *, scale=1.0):
        self.shapes.append(image.shape[:2])
        labels = label(image > 100)
        areas = np.bincount(labels.ravel())
        return np.where(np.sqrt(areas) * scale > self.widest, 0, np.arange(len(areas)))[labels]


def test_places_are_the_centre_and_where_most_is_to_be_seen():
    image = np.zeros((1600, 1500), np.uint8)
    image[60:90, 60:90] = 200
    places = find_places(image)
    assert len(places) == N_PLACES and places[0] == (544, 494, 512)
    assert places[1][:2] == (0, 0)
    assert find_places(image[:500, :500]) == [(0, 0, 512)]
    assert places[1].widen(1024, image.shape) == (0, 0, 1024)


def test_nuclei_around_an_empty_centre_decide_the_scale():
    image = np.zeros((1600, 1600), np.uint8)
    for k in range(10):
        image[20:120, 150 * k + 20 : 150 * k + 120] = 200
    assert choose_scale(Threshold(), image, known=(10, 60)).scale == 0.5
    image = np.zeros((1600, 1600), np.uint8)
    image[50:300, 50:300] = image[50:300, 1200:1450] = 200
    found = choose_scale(Threshold(), image, known=(10, 60))
    assert found.diameter_px == pytest.approx(282, rel=0.01)
    assert found.scale == pytest.approx(np.sqrt(600) / found.diameter_px, abs=1e-4)


@pytest.mark.parametrize(("torn_from", "scale"), [(1, 0.5), (2, 1)])
def test_torn_nuclei_do_not_pass_for_nuclei_of_a_known_size(torn_from, scale):
    class Torn:
        def segment(self, image, *, scale=1.0):
            labels = np.zeros(image.shape[:2], np.int32)
            labels[:120, :120] = 1
            if scale >= torn_from:  # a few pieces of 30 pixels are all that is left
                labels[:, 31:], labels[31:, :] = 0, 0
                labels[100:131, :31] = 2
            return labels

    found = choose_scale(Torn(), IMAGE, known=(10, 150))
    assert found.scale == scale
    assert found.diameter_px > 100


def test_cells_that_look_like_nuclei_at_a_quarter_alone_are_not_taken():
    class Cells(Discs):
        def segment(self, image, *, scale=1.0):
            self.size = 14 if scale > 0.25 else 120
            return super().segment(image, scale=scale)

    found = choose_scale(Cells(0), IMAGE)
    assert found.scale == 1 and found.diameter_px < 17


@pytest.mark.parametrize(("given", "scale"), [(5, 4), (10, 1), (25, 1), (40, 1), (80, 0.25)])
def test_a_given_diameter_outside_the_known_is_brought_to_their_middle(given, scale):
    network = Discs(20)
    found = choose_scale(network, IMAGE, diameter_px=given, known=(10, 40))
    assert (found.scale, found.diameter_px, network.scales) == (scale, given, [])


def test_impossible_sizes_are_refused():
    for size in (0, -3, np.nan, np.inf):
        with pytest.raises(ValueError, match="diameter_px"):
            choose_scale(Discs(9), IMAGE, diameter_px=size)
    with pytest.raises(ValueError, match="known"):
        choose_scale(Discs(9), IMAGE, known=(60, 10))


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
