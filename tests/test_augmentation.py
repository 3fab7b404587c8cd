"""Crops in other colours and intensities: how far they may go."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.color import hed2rgb, rgb2hed

from helpers.settings import Augmentation
from helpers.training.augmentation import (
    COVERED,
    GAINS,
    change_brightness,
    change_dyes,
    draw_view,
    paste_nuclei,
    vary,
)

COLOUR = np.random.default_rng(5).random((6, 7, 3)).astype(np.float32)


@pytest.mark.parametrize("inputs", [COLOUR, COLOUR[..., 0]], ids=["colour", "gray"])
def test_gray_takes_the_colour_and_keeps_the_brightness(inputs):
    varied = vary(inputs, Augmentation(gray=1.0), np.random.default_rng(0))
    assert varied.shape == inputs.shape
    if inputs.ndim == 3:
        np.testing.assert_allclose(varied, inputs.mean(axis=2)[..., None] * np.ones(3), rtol=1e-6)


@pytest.mark.parametrize("reverse", [0.0, 1.0])
def test_invert_gives_the_negative(reverse):
    varied = vary(COLOUR, Augmentation(invert=1.0), np.random.default_rng(0), reverse=reverse)
    np.testing.assert_allclose(varied + COLOUR, reverse, atol=1e-6)


def test_a_probability_of_a_half_changes_half_of_the_crops():
    rng = np.random.default_rng(0)
    changed = [np.any(vary(COLOUR, Augmentation(invert=0.5), rng) != COLOUR) for _ in range(400)]
    assert np.mean(changed) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("what", ["intensity", "stain"])
def test_contrast_and_shift_stay_within_their_strength(what):
    rng = np.random.default_rng(0)
    for _ in range(50):
        varied = vary(COLOUR, Augmentation(**{what: 0.2}), rng)
        for channel in range(3):
            gain, shift = np.polyfit(COLOUR[..., channel].ravel(), varied[..., channel].ravel(), 1)
            assert gain + 1e-4 >= 0.8
            assert gain <= 1.2 + 1e-4
            assert abs(shift) <= 0.1 + 1e-4


@pytest.mark.parametrize("inputs", [COLOUR, COLOUR[..., 0]], ids=["colour", "gray"])
def test_blur_is_gaussian_up_to_its_strength_and_mixes_no_channels(inputs):
    strengths = np.linspace(0, 2, 201)
    rng = np.random.default_rng(0)
    for _ in range(2):
        varied = vary(inputs, Augmentation(blur=2.0), rng)
        channels = np.atleast_3d(inputs), np.atleast_3d(varied)
        best = []
        for before, after in zip(*(np.moveaxis(c, -1, 0) for c in channels), strict=True):
            errors = [np.abs(gaussian_filter(before, s) - after).max() for s in strengths]
            assert min(errors) < 0.02
            best.append(int(np.argmin(errors)))
        assert max(best) - min(best) <= 1
    assert varied.shape == inputs.shape
    assert varied.dtype == np.float32


@pytest.mark.parametrize("shape", [(200, 100), (200, 100, 3)])
def test_noise_has_mean_0_and_up_to_its_strength(shape):
    rng, flat = np.random.default_rng(0), np.full(shape, 0.5, np.float32)
    deviations = []
    for _ in range(40):
        varied = vary(flat, Augmentation(noise=0.1), rng)
        assert varied.dtype == np.float32
        assert varied.mean() == pytest.approx(0.5, abs=0.005)
        deviations.append(varied.std())
    assert max(deviations) < 0.103
    assert max(deviations) > 0.08
    assert min(deviations) < 0.02


def test_gamma_bends_between_its_reciprocal_and_itself_and_keeps_0_and_1():
    rng, ramp = np.random.default_rng(0), np.linspace(0, 1, 5, dtype=np.float32)[None]
    varied = [vary(ramp, Augmentation(gamma=2.0), rng)[0] for _ in range(200)]
    exponents = np.log([each[2] for each in varied]) / np.log(0.5)
    assert 0.5 <= exponents.min() < 0.6
    assert 1.8 < exponents.max() <= 2
    np.testing.assert_allclose([(each[0], each[4]) for each in varied], [(0, 1)] * 200, atol=1e-6)


def draw_nuclei(shape=(60, 60)):
    """Two squares apart on a ground of .1, brightness .6 and .9."""
    labels = np.zeros(shape, np.int32)
    labels[10:20, 10:20], labels[35:47, 35:47] = 1, 2
    return np.float32([0.1, 0.6, 0.9])[labels], labels


@pytest.mark.parametrize("colour", [False, True])
def test_single_nuclei_change_by_a_factor_of_their_own_and_the_ground_stays(colour):
    inputs, labels = draw_nuclei()
    inputs = inputs[..., None] * np.ones(3, np.float32) if colour else inputs
    rng, gains = np.random.default_rng(0), []
    for _ in range(100):
        varied = change_brightness(inputs, labels, 0.5, rng)
        assert varied.shape == inputs.shape
        assert varied.dtype == np.float32
        np.testing.assert_allclose(varied[labels == 0], 0.1, atol=1e-5)
        gains.append([(varied[r, r].mean() - 0.1) / (inputs[r, r].mean() - 0.1) for r in (15, 40)])
    gains = np.array(gains)
    assert gains.min() >= GAINS[0] - 1e-4
    assert gains.max() <= GAINS[1] + 1e-4
    changed = np.abs(gains - 1) > 1e-4
    assert changed.mean() == pytest.approx(0.25, abs=0.08)  # half of them, in half of the crops
    assert np.any(changed[:, 0] & ~changed[:, 1])


def test_pasted_nuclei_are_whole_copies_with_numbers_of_their_own():
    inputs, labels = draw_nuclei()
    labels[:5, 30:40] = 3  # cut by the crop: never pasted
    inputs[labels == 3] = 0.7
    rng, n_pasted = np.random.default_rng(1), 0
    for _ in range(60):
        varied, together = paste_nuclei(inputs, labels, rng)
        assert varied.dtype == np.float32
        for number in np.unique(together[together > 3]):
            n_pasted += 1
            of = {4: 1, 5: 2}[int(number)]
            area = np.sum(labels == of)
            inside = together == number
            rows, columns = np.nonzero(inside)
            is_cut = min(rows.min(), columns.min()) == 0 or max(rows.max(), columns.max()) == 59
            assert is_cut or inside.sum() == area
            assert np.sum(inside & (labels > 0)) <= COVERED * area
            brightness = np.median(varied[inside])  # a sliver at the edge is all seam
            assert brightness == pytest.approx({1: 0.6, 2: 0.9}[of], abs=0.01) or is_cut
        unchanged = (together <= 3) & (together == labels)
        assert np.all(unchanged | (together > 3))
    assert n_pasted > 20


def test_dyes_of_no_strength_are_those_that_there_were_or_turn_brown():
    rng = np.random.default_rng(3)
    stained = hed2rgb(rng.random((8, 8, 3)) * [0.3, 0.2, 0.0]).astype(np.float32)
    hues = {"same": 0, "brown": 0}
    for _ in range(100):
        varied = change_dyes(stained, 1e-6, rng)
        assert varied.dtype == np.float32
        assert (varied > 0).all()
        if np.allclose(varied, stained, atol=1e-3):
            hues["same"] += 1
        elif rgb2hed(varied)[..., 2].mean() > 0.01:
            hues["brown"] += 1
    assert hues["same"] > 50  # no change in 40 %, and no other hue in half of the rest
    assert hues["brown"] > 5


def test_views_keep_nuclei_within_the_diameters_asked_for():
    rng = np.random.default_rng(0)
    augmentation = Augmentation(scale=2.0, diameters_px=(8, 64))
    for diameter in (5, 20, 140):
        shown = [
            draw_view(augmentation, rng, diameter_px=diameter).scale * diameter for _ in range(99)
        ]
        assert min(shown) >= 8 - 1e-6
        assert max(shown) <= 64 + 1e-6
    assert draw_view(augmentation, rng, diameter_px=None).scale <= 2  # no nucleus, no limit
