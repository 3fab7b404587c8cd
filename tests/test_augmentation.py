"""Crops in other colours and intensities: how far they may go."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from helpers.settings import Augmentation
from helpers.training.augmentation import vary

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
