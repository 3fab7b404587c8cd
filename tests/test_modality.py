import numpy as np
import pandas as pd
import pytest

from helpers.analysis.modality import (
    classify,
    find_modalities,
    guess_nuclei,
    measure_contrast,
    measure_image,
)
from helpers.data.data_set import read_data_set


def discs(radius_px, shape=(256, 256), spacing_px=64, ground=8, level=120):
    """Bright discs on a dark ground, in rows and columns."""
    y, x = np.indices(shape)
    centred = [(axis + spacing_px // 2) % spacing_px - spacing_px // 2 for axis in (y, x)]
    inside = centred[0] ** 2 + centred[1] ** 2 <= radius_px**2
    return np.where(np.roll(inside, (20, 30), (0, 1)), level, ground).astype(np.uint8)


def stained(ground, nucleus):
    """Nuclei of one colour on tissue of another."""
    inside = discs(9) > 60
    return np.where(inside[..., None], nucleus, ground).astype(np.uint8)


DIM = stained((95, 60, 85), (45, 25, 60))
PURPLE = stained((200, 180, 225), (80, 40, 150))
PINK = stained((225, 150, 190), (90, 30, 130))


@pytest.mark.parametrize(
    ("image", "modality"),
    [
        (discs(7), "small_fluorescent"),
        (discs(24, spacing_px=80), "large_fluorescent"),
        (255 - discs(9), "grayscale_tissue"),
        (PURPLE, "purple_tissue"),
        (PINK, "pink_purple_tissue"),
        (DIM, "pink_purple_tissue"),
    ],
)
def test_each_modality_is_recognised(image, modality):
    assert find_modalities([image])["modality"].tolist() == [modality]
    sixteen = image.astype(np.uint16) * 16  # a 12-bit camera
    assert find_modalities([sixteen])["modality"].tolist() == [modality]


@pytest.mark.parametrize("radius_px", [6, 9, 14, 20, 26])
def test_the_radius_of_discs_is_measured(radius_px):
    measures = measure_image(discs(radius_px, spacing_px=80))
    assert measures.nucleus_radius_px == pytest.approx(radius_px, rel=0.15, abs=1)
    assert measures.nucleus_radius_share == pytest.approx(measures.nucleus_radius_px / 256)


def test_the_radius_survives_halving_uneven_light_and_other_polarity():
    wide = measure_image(discs(20, (640, 640), 100))
    assert wide.nucleus_radius_px == pytest.approx(20, rel=0.15)
    haze = np.linspace(0, 60, 256)[:, None].astype(np.uint8)
    assert measure_image(discs(9) + haze).nucleus_radius_px == pytest.approx(9, rel=0.2)
    assert measure_image(255 - discs(9)).nucleus_radius_px == pytest.approx(9, rel=0.15)


def test_large_nuclei_in_a_wide_field_are_small():
    wide = measure_image(discs(20, (640, 640), 100))
    assert classify(wide) == "small_fluorescent"
    assert classify(wide._replace(nucleus_radius_share=0.06)) == "large_fluorescent"


def test_coloured_fluorescence_is_fluorescence():
    blue = np.dstack([discs(7) // 8, discs(7) // 8, discs(7)])
    assert find_modalities([blue])["modality"].tolist() == ["small_fluorescent"]


def test_colour_measures_of_known_pixels():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:] = (204, 153, 255)
    measures = measure_image(image)
    assert measures.ground == pytest.approx(0.8)
    assert measures.colour == pytest.approx(0.4)
    assert measures.redness == pytest.approx(-0.2)
    gray = measure_image(np.dstack([discs(7)] * 3))
    assert (gray.colour, gray.redness) == (0, 0)


def test_contrast_has_the_sign_of_the_polarity():
    labels = np.kron([[1, 0]], np.ones((4, 4), int))
    bright = np.where(labels > 0, 150, 50).astype(np.uint8)
    images = [bright, 200 - bright, np.stack([bright] * 3, axis=2), bright, bright]
    measured = measure_contrast(images, [labels, labels, labels, None, 0 * labels])
    np.testing.assert_allclose(measured["contrast"], [0.5, -0.5, 0.5, np.nan, np.nan])
    np.testing.assert_allclose(measured["foreground"], [0.5, 0.5, 0.5, np.nan, 0])


def test_the_guess_is_the_rarer_side_whatever_the_polarity_and_depth():
    nuclei = discs(9) > 60
    for image in (discs(9), 255 - discs(9), PURPLE, discs(9).astype(np.uint16) * 200):
        np.testing.assert_array_equal(guess_nuclei(image), nuclei)
    assert not guess_nuclei(np.full((9, 9), 7, np.uint8)).any()


def test_the_embedded_sample_is_recognised():
    data = read_data_set("sample")
    known = [name[len("sample_") : -len("_00")] for name in data.ids]
    assert find_modalities(data.images)["modality"].tolist() == known


def test_the_modalities_of_the_real_set_agree_with_the_catalogue(dsb2018):
    catalogue = pd.read_csv(dsb2018 / "catalogue.csv")
    tissue = catalogue["modality"].isin(["pink_purple_tissue", "grayscale_tissue"])
    some = catalogue[(catalogue.index % 5 == 0) | tissue]
    data = read_data_set(dsb2018 / "stage1_train.zip")
    images = data.select([data.ids.index(name) for name in some["image_id"]]).images
    agrees = find_modalities(images)["modality"].to_numpy() == some["modality"].to_numpy()
    assert agrees.mean() > 0.97
    assert agrees[tissue[some.index]].all()
