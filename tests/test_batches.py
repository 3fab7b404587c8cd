import hashlib
from itertools import product

import numpy as np
import pytest

from helpers.settings import generate_settings
from helpers.targets import TARGETS, get_target
from helpers.training.batches import Batches


def settings_for(*, channels=1, size=8, target="foreground", augmentation=None, **training):
    settings = generate_settings(1, base_filters=2, input_size=size, batch_size=3, seed=1)
    shown = {"flips": "none", "crop": "centre"} | (augmentation or {})
    return settings.with_overrides(
        {
            "model_structure.input_params.channels": channels,
            "target": target,
            "augmentation": shown,
            "training": training,
        }
    )


def twins(n, shape=(8, 8), seed=0):
    """Images of 0 and 255 that equal their own masks, no two orientations alike."""
    masks = np.random.default_rng(seed).integers(0, 2, (n, *shape))
    return [np.uint8(255 * m) for m in masks], [np.int32(m) for m in masks]


def all_items(batches):
    inputs, targets = zip(*(batches[k] for k in range(len(batches))), strict=True)
    return np.concatenate(inputs), np.concatenate(targets)


def test_every_image_in_its_four_orientations_once_an_epoch():
    images, labels = twins(5)
    batches = Batches(images, labels, settings_for(augmentation={"flips": "all"}))
    batches.epoch = 5
    inputs, _ = all_items(batches)
    expected = [i[::a, ::b] // 255 for i in images for a in (1, -1) for b in (1, -1)]
    assert len(batches) == 7
    assert sorted(x.astype(int).tobytes() for x in inputs[..., 0]) == sorted(
        x.astype(int).tobytes() for x in expected
    )


def test_validation_shows_every_image_once_upright_in_order():
    images, labels = twins(4)
    settings = settings_for(augmentation={"flips": "all", "crop": "random"}, steps_per_epoch=9)
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


# ---------------------------------------------------------------- turns, scale and targets

VARIED = {
    "flips": "random", "crop": "random", "gray": 0.4, "invert": 0.4, "intensity": 0.2, "stain": 0.2
}  # fmt: skip
GEOMETRY = [
    {"flips": "none", "turns": True},
    {"flips": "all", "scale": 2.0},
    {"flips": "random", "crop": "random", "turns": True, "scale": 1.5},
]
SHAPES = [(40, 37), (9, 30)]


def mixed_set():
    """Gray, colour and 16 bit, larger and smaller than a crop."""
    rng = np.random.default_rng(8)
    images = [
        rng.integers(0, 256, (13, 11), np.uint8),
        rng.integers(0, 256, (6, 20, 3), np.uint8),
        rng.integers(0, 65536, (8, 9), np.uint16),
        rng.integers(0, 256, (5, 4, 3), np.uint8),
    ]
    blocks = [rng.integers(0, 3, (7, 7)) for _ in images]
    whole = [np.kron(block, np.ones((3, 3), int)) for block in blocks]
    labels = [np.int32(w[: i.shape[0], : i.shape[1]]) for w, i in zip(whole, images, strict=True)]
    return images, labels


@pytest.mark.parametrize(
    ("target", "augmentation", "augment", "expected"),
    [
        ("foreground", VARIED, True, "4209bbee3b66a8ff"),
        ("interior", VARIED, True, "e468e0fe2efa0d45"),
        ("foreground", VARIED, False, "b3f332c3ef1cf7b8"),
    ],
)
def test_batches_are_those_from_before_turns_and_scale(target, augmentation, augment, expected):
    # Computed with the code of commit 57d7305, before there were targets of several maps.
    settings = settings_for(channels=3, target=target, augmentation=augmentation)
    batches = Batches(*mixed_set(), settings, augment=augment)
    content = hashlib.sha256()
    for batches.epoch in range(3 if augment else 1):
        for array in all_items(batches):
            content.update(array.tobytes())
    assert content.hexdigest()[:16] == expected


def nuclei(shape, size=5):
    """Image and label image of squares of odd size that touch or not; the image is its mask."""
    rng = np.random.default_rng(3)
    numbers = rng.permutation(400).reshape(20, 20) + 1
    numbers[rng.random((20, 20)) < 0.4] = 0
    labels = np.kron(numbers, np.ones((size, size), np.int32))[: shape[0], : shape[1]]
    return np.uint8(255 * (labels > 0)), np.int32(labels)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("augmentation", GEOMETRY, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_maps_have_their_channels_and_lie_on_the_nuclei(target, augmentation, shape):
    image, labels = nuclei(shape)
    settings = settings_for(size=16, target=target, augmentation=augmentation)
    batches = Batches([image] * 3, [labels] * 3, settings)
    for batches.epoch in range(2):
        inputs, maps = all_items(batches)
        assert inputs.shape[1:] == (16, 16, 1)
        assert maps.shape[1:] == (16, 16, len(TARGETS[target].channels))
        assert inputs.dtype == maps.dtype == np.float32
        inside, clear = inputs[..., 0] > 0.5, np.abs(inputs[..., 0] - 0.5) > 0.49
        if augmentation.get("scale", 1) == 1:
            assert clear.all()
        if target == "boundary":
            np.testing.assert_array_equal(maps.sum(axis=-1), 1)
        if target == "interior":
            assert not (maps[..., 0].astype(bool) & ~inside & clear).any()
        else:
            mask = maps[..., 0] == (0 if target == "boundary" else 1)
            np.testing.assert_array_equal(mask[clear], inside[clear])


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_turned_crops_have_the_maps_of_turned_nuclei(target):
    """Pixels carry a number of their own, so that the place each comes from can be read."""
    _, labels = nuclei((20, 20))
    image, whole = np.arange(400, dtype=np.uint16).reshape(20, 20), target.encode(labels)
    ways = []
    for down, right in product((1, -1), (1, -1)):
        mirrored, answer = image[::down, ::right], target.flip(whole, down, right)
        ways += [(mirrored, answer), (mirrored.T, target.transpose(answer))]
    augmentation = {"flips": "random", "turns": True}
    settings = settings_for(size=20, target=target.name, augmentation=augmentation)
    inputs, maps = all_items(Batches([image] * 40, [labels] * 40, settings))
    seen = set()
    for shown, answer in zip(inputs, maps, strict=True):
        places = np.rint(shown[..., 0] * 65535)
        (way,) = [k for k, (picture, _) in enumerate(ways) if np.array_equal(places, picture)]
        np.testing.assert_allclose(answer, ways[way][1], atol=1e-6)
        seen.add(way)
    assert len(seen) == 8


@pytest.mark.parametrize("target", TARGETS)
def test_the_end_of_an_image_is_taught_as_the_whole_image_has_it(target):
    labels = np.ones((4, 5), np.int32)
    settings = settings_for(target=target, augmentation={"flips": "none"})
    _, maps = Batches([np.uint8(labels)], [labels], settings, augment=False)[0]
    np.testing.assert_array_equal(maps[0, 2:6, 1:6], get_target(target).encode(labels))
    outside = np.ones((8, 8), bool)
    outside[2:6, 1:6] = False
    expected = get_target(target).encode(np.zeros((1, 1), int))[0, 0]
    assert (maps[0][outside] == expected).all()


def area_of(scale, shape=(96, 96)):
    """The areas of a disc of radius 12, shown at random scales, and its IoU with its image."""
    rows, columns = np.indices(shape)
    labels = np.int32(np.hypot(rows - 48, columns - 48) <= 12)
    image = np.uint8(255 * labels)
    settings = settings_for(size=64, augmentation={"flips": "none", "scale": scale})
    inputs, maps = all_items(Batches([image] * 60, [labels] * 60, settings))
    bright, mask = inputs > 0.5, maps > 0.5
    iou = (bright & mask).sum(axis=(1, 2, 3)) / (bright | mask).sum(axis=(1, 2, 3))
    return maps.sum(axis=(1, 2, 3)) / labels.sum(), iou


def test_scale_enlarges_and_reduces_up_to_its_factor_and_masks_follow():
    areas, iou = area_of(2.0)
    factors = np.sqrt(areas)
    assert 0.49 < factors.min() < 0.6
    assert 1.7 < factors.max() < 2.05
    assert 0.3 < np.mean(factors > 1) < 0.7
    assert iou.min() > 0.9


@pytest.mark.parametrize("scale", [1.1, 1.7, 4.0])
def test_a_crop_that_the_image_can_fill_is_filled_at_any_scale(scale):
    image, labels = np.full((64, 70), 255, np.uint8), np.ones((64, 70), np.int32)
    settings = settings_for(augmentation={"flips": "none", "crop": "random", "scale": scale})
    inputs, maps = all_items(Batches([image] * 90, [labels] * 90, settings))
    assert (inputs == 1).all()
    assert (maps == 1).all()


EVERYTHING = VARIED | {"turns": True, "scale": 1.5, "blur": 1.5, "noise": 0.1}


@pytest.mark.parametrize("target", TARGETS)
def test_every_variation_depends_on_seed_epoch_and_index_alone(target):
    def batches_of(epoch=2, **training):
        settings = settings_for(channels=3, target=target, augmentation=EVERYTHING, **training)
        batches = Batches(*mixed_set(), settings)
        batches.epoch = epoch
        return batches

    one, other = batches_of(), batches_of()
    backwards = [other[k] for k in reversed(range(len(other)))][::-1]
    for k, pair in enumerate(backwards):
        for array, again in zip(one[k], pair, strict=True):
            np.testing.assert_array_equal(array, again)
    for different in (batches_of(epoch=3), batches_of(seed=2)):
        assert not np.array_equal(one[0][0], different[0][0])


def test_unequal_or_no_images_are_refused():
    images, labels = twins(2)
    with pytest.raises(ValueError, match="2 images and 1 label images"):
        Batches(images, labels[:1], settings_for())
    with pytest.raises(ValueError, match="at least one"):
        Batches([], [], settings_for())


# ---------------------------------------------------------------- modalities in balance


def two_modalities(n_dark, n_bright, size=64):
    """Constant images, dark and gray-bright, and empty labels."""
    images = [np.full((size, size), 20, np.uint8)] * n_dark
    images += [np.full((size, size), 200, np.uint8)] * n_bright
    return images, [np.zeros((size, size), np.int32)] * len(images)


@pytest.mark.parametrize(
    ("chosen", "n_rare", "share"), [({"balance": 0.5}, 2, 0.25), ({"crowding": 0.5}, 10, 0.75)]
)
def test_rare_modalities_and_crowded_images_are_shown_as_often_as_is_said(chosen, n_rare, share):
    """The last images are bright (for the balance), or hold nine nuclei (for the crowding)."""
    by_modality = "balance" in chosen
    images, empty = two_modalities(*((20 - n_rare, n_rare) if by_modality else (20, 0)))
    crowded = empty[0].copy()
    crowded[::7, 0] = 3 * np.arange(1, 11)  # numbers with gaps
    crowded[63, 0] = 0
    labels = empty if by_modality else empty[n_rare:] + [crowded] * n_rare
    batches = Batches(images, labels, settings_for(**chosen, steps_per_epoch=600))
    shown = np.concatenate([batches._items(k) for k in range(len(batches))])
    assert np.mean(shown % 20 >= 20 - n_rare) == pytest.approx(share, abs=0.03)
