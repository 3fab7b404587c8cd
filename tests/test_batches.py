import json

import numpy as np
import pytest

from helpers.settings import Augmentation, generate_settings, parse_settings
from helpers.training.batches import Batches, vary


def settings_for(
    *, channels=1, size=8, flips="none", crop="centre", target="foreground", **training
):
    settings = generate_settings(1, base_filters=2, input_size=size, batch_size=3, seed=1)
    values = settings.model_dump(mode="json", by_alias=True)
    values["model_structure"]["input_params"]["channels"] = channels
    values["model_structure"]["output_params"]["target"] = target
    parameters = values["training_configuration"]["training_parameters"]
    parameters["augmentation"] = {"flips": flips, "crop": crop}
    parameters.update(training)
    return parse_settings(json.dumps(values))


def twins(n, shape=(8, 8), seed=0):
    """Images of 0 and 255 that equal their own masks, no two orientations alike."""
    masks = np.random.default_rng(seed).integers(0, 2, (n, *shape))
    return [np.uint8(255 * m) for m in masks], [np.int32(m) for m in masks]


def all_items(batches):
    inputs, targets = zip(*(batches[k] for k in range(len(batches))), strict=True)
    return np.concatenate(inputs), np.concatenate(targets)


@pytest.mark.parametrize("epoch", [0, 5])
def test_every_image_in_its_four_orientations_once_an_epoch(epoch):
    images, labels = twins(5)
    batches = Batches(images, labels, settings_for(flips="all"))
    batches.epoch = epoch
    inputs, _ = all_items(batches)
    expected = [i[::a, ::b] // 255 for i in images for a in (1, -1) for b in (1, -1)]
    assert len(batches) == 7
    assert sorted(x.astype(int).tobytes() for x in inputs[..., 0]) == sorted(
        x.astype(int).tobytes() for x in expected
    )


@pytest.mark.parametrize("flips", ["all", "random", "none"])
@pytest.mark.parametrize("crop", ["centre", "random"])
@pytest.mark.parametrize("shape", [(8, 8), (13, 11), (5, 20), (3, 2)])
def test_image_and_target_stay_aligned(flips, crop, shape):
    settings = settings_for(flips=flips, crop=crop)
    inputs, targets = all_items(Batches(*twins(4, shape), settings))
    assert inputs.shape[1:] == targets.shape[1:] == (8, 8, 1)
    assert inputs.dtype == targets.dtype == np.float32
    np.testing.assert_array_equal(inputs, targets)


@pytest.mark.parametrize("flips", ["all", "random", "none"])
def test_same_seed_same_batches_in_any_order_of_asking(flips):
    settings = settings_for(flips=flips, crop="random")
    one, other = (Batches(*twins(5, (12, 12)), settings) for _ in range(2))
    for batches in (one, other):
        batches.epoch = 2
    backwards = [other[k] for k in reversed(range(len(other)))][::-1]
    for k, (inputs, targets) in enumerate(backwards):
        np.testing.assert_array_equal(one[k][0], inputs)
        np.testing.assert_array_equal(one[k][1], targets)


def test_epochs_and_seeds_differ():
    images, labels = twins(9)
    first = Batches(images, labels, settings_for())
    second = Batches(images, labels, settings_for())
    second.epoch = 1
    third = Batches(images, labels, settings_for(seed=2))
    contents = [all_items(batches)[0] for batches in (first, second, third)]
    assert not np.array_equal(contents[0], contents[1])
    assert not np.array_equal(contents[0], contents[2])
    for content in contents:
        assert sorted(x.tobytes() for x in content) == sorted(x.tobytes() for x in contents[0])


def test_validation_shows_every_image_once_upright_in_order():
    images, labels = twins(4)
    settings = settings_for(flips="all", crop="random", steps_per_epoch=9)
    batches = Batches(images, labels, settings, augment=False)
    inputs, _ = all_items(batches)
    assert len(batches) == 2
    np.testing.assert_array_equal(inputs[..., 0] * 255, images)


def test_fixed_steps_run_through_all_items_pass_after_pass():
    images, labels = twins(7)
    batches = Batches(images, labels, settings_for(steps_per_epoch=2))
    seen = []
    for epoch in range(7):  # 7 epochs of 2 steps of 3 items are 6 passes over 7 images
        batches.epoch = epoch
        seen.extend(x.tobytes() for x in all_items(batches)[0])
    for n_pass in range(6):
        assert len(set(seen[7 * n_pass : 7 * n_pass + 7])) == 7


def test_small_images_are_padded_with_zeros_after_normalisation():
    image, labels = np.full((2, 4), 255, np.uint8), np.ones((2, 4), np.int32)
    inputs, targets = Batches([image], [labels], settings_for())[0]
    expected = np.zeros((8, 8))
    expected[3:5, 2:6] = 1
    np.testing.assert_array_equal(inputs[0, ..., 0], expected)
    np.testing.assert_array_equal(targets[0, ..., 0], expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_colour_and_16_bit_images_share_a_batch(channels):
    images = [
        np.full((8, 8), 51, np.uint8),
        np.full((9, 7, 3), 51, np.uint8),
        np.full((10, 12), 13107, np.uint16),
    ]
    labels = [np.zeros(i.shape[:2], np.int32) for i in images]
    inputs, targets = Batches(images, labels, settings_for(channels=channels), augment=False)[0]
    assert inputs.shape == (3, 8, 8, channels)
    assert not targets.any()
    assert inputs[inputs > 0] == pytest.approx(0.2)


def test_interior_is_taught_where_the_settings_say_so():
    labels = np.zeros((8, 8), np.int32)
    labels[2:6, 2:6] = 1
    settings = settings_for(target="interior")
    _, targets = Batches([np.uint8(labels)], [labels], settings, augment=False)[0]
    assert targets.sum() == 4


def test_unequal_or_no_images_are_refused():
    images, labels = twins(2)
    with pytest.raises(ValueError, match="2 images and 1 label images"):
        Batches(images, labels[:1], settings_for())
    with pytest.raises(ValueError, match="at least one"):
        Batches([], [], settings_for())


# ---------------------------------------------------------------- kinds in balance


def two_kinds(n_dark, n_bright, size=64):
    """Constant images, dark and gray-bright, and empty labels."""
    images = [np.full((size, size), 20, np.uint8)] * n_dark
    images += [np.full((size, size), 200, np.uint8)] * n_bright
    return images, [np.zeros((size, size), np.int32)] * len(images)


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.1), (0.5, 0.25), (1.0, 0.5)])
def test_balance_shows_a_rare_kind_as_often_as_it_says(balance, share):
    images, labels = two_kinds(90, 10)
    batches = Batches(images, labels, settings_for(balance=balance, steps_per_epoch=600))
    shown = np.concatenate([batches._items(k) for k in range(len(batches))])
    assert np.mean(shown % 100 >= 90) == pytest.approx(share, abs=0.03)


def test_balance_draws_the_same_again():
    images, labels = two_kinds(9, 3)
    one, other = (Batches(images, labels, settings_for(balance=1.0)) for _ in range(2))
    for index in range(len(one)):
        np.testing.assert_array_equal(one[index][0], other[index][0])


# ---------------------------------------------------------------- colours and intensities

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


def test_validation_images_are_never_varied():
    images, labels = twins(3)
    plain = Batches(images, labels, settings_for(), augment=False)
    changes = {"flips": "none", "crop": "centre", "gray": 1.0, "invert": 1.0, "intensity": 0.5}
    varied = Batches(images, labels, settings_for(augmentation=changes), augment=False)
    np.testing.assert_array_equal(all_items(plain)[0], all_items(varied)[0])
