"""From maps to nuclei: true maps give the truth back, and no map breaks the way."""

import numpy as np
import pytest
from skimage.measure import label

from helpers.data.data_set import read_data_set
from helpers.evaluation.matching import average_precision, match
from helpers.settings import Postprocessing
from helpers.targets.decoding import maps_to_labels, remove_small
from helpers.targets.maps import CHANNELS, foreground_of, labels_to_maps

SEPARATING = ("boundary", "distance", "flow")


def discs(*places, shape=(60, 80)):
    """A label image of discs, (row, column, radius) each, the later over the earlier."""
    rows, columns = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for number, (row, column, radius) in enumerate(places, 1):
        labels[np.hypot(rows - row, columns - column) <= radius] = number
    return labels


def squares(side, n=3):
    """A label image of n x n squares that all touch, with background around."""
    numbers = np.arange(1, n * n + 1, dtype=np.int32).reshape(n, n)
    return np.pad(np.kron(numbers, np.ones((side, side), np.int32)), 3)


def there_and_back(labels, target, **choices):
    return maps_to_labels(labels_to_maps(labels, target), target, Postprocessing(**choices))


def assert_same_nuclei(found, labels):
    """The same pixels lie together, whatever their numbers."""
    assert match(labels, found).iou_true.tolist() == [1] * len(np.unique(labels[labels > 0]))
    np.testing.assert_array_equal(found > 0, labels > 0)


TOUCHING = {
    "discs": discs((30, 20, 12), (30, 44, 12)),
    "overlapping discs": discs((30, 24, 12), (30, 42, 12)),
    "four squares": squares(10, n=2),
    "nine squares": squares(7),
    "cut by the border": discs((0, 10, 9), (0, 30, 9), (59, 70, 14)),
    "alone": discs((20, 20, 6), (40, 60, 9)),
}


@pytest.mark.parametrize("target", SEPARATING)
@pytest.mark.parametrize("name", TOUCHING)
def test_true_maps_give_touching_nuclei_back(target, name):
    assert_same_nuclei(there_and_back(TOUCHING[name], target), TOUCHING[name])


@pytest.mark.parametrize("name", TOUCHING)
def test_interiors_give_touching_nuclei_back_but_for_corners_of_their_rim(name):
    labels = TOUCHING[name]
    result = match(labels, there_and_back(labels, "interior"))
    assert result.n_pred == result.n_true
    assert result.iou_true.min() > 0.85


@pytest.mark.parametrize("name", ["discs", "four squares", "nine squares"])
def test_the_naive_way_takes_touching_nuclei_for_one(name):
    assert there_and_back(TOUCHING[name], "foreground").max() == 1
    assert_same_nuclei(there_and_back(TOUCHING["alone"], "foreground"), TOUCHING["alone"])


@pytest.mark.parametrize("target", SEPARATING)
def test_a_nucleus_of_a_radius_of_60_stays_whole(target):
    labels = discs((70, 70, 60), shape=(141, 141))
    assert_same_nuclei(there_and_back(labels, target), labels)


@pytest.mark.parametrize("target", SEPARATING)
def test_a_small_nucleus_beside_a_large_one_keeps_its_outline(target):
    labels = discs((30, 30, 18), (30, 52, 5))
    result = match(labels, there_and_back(labels, target))
    assert result.n_pred == 2
    assert result.iou_true.min() > 0.9


@pytest.mark.parametrize("target", ["boundary", "flow"])
@pytest.mark.parametrize("hollow", [(70, 30), (75, 40)])
def test_a_bent_nucleus_stays_whole(target, hollow):
    rows, columns = np.indices((90, 90))
    centre, radius = hollow
    labels = np.int32(np.hypot(rows - 45, columns - 45) <= 30)
    labels[np.hypot(rows - 45, columns - centre) <= radius] = 0
    assert_same_nuclei(there_and_back(labels, target), labels)


@pytest.mark.parametrize("target", ["foreground", "distance", "flow"])
def test_lonely_nuclei_of_one_pixel_stay(target):
    labels = np.zeros((20, 20), np.int32)
    labels[::4, ::4] = np.arange(1, 26).reshape(5, 5)
    assert_same_nuclei(there_and_back(labels, target), labels)


@pytest.mark.slow
@pytest.mark.parametrize("target", SEPARATING)
def test_real_nuclei_survive_the_way_there_and_back(dsb2018, target):
    data = read_data_set(dsb2018 / "stage1_train.zip")
    every = len(data) // 12
    chosen = [np.asarray(data.labels[k]) for k in range(0, 12 * every, every)]
    matchings = [match(labels, there_and_back(labels, target)) for labels in chosen]
    assert sum(m.n_true for m in matchings) > 300
    assert average_precision(matchings, 0.5) >= 0.95


# ---------------------------------------------------------------- what the settings decide


def test_the_threshold_is_the_least_probability_of_a_nucleus():
    maps = np.zeros((1, 8, 1), np.float32)
    maps[0, :, 0] = 0.1, 0.2, 0.4, 0.6, 0.6, 0.4, 0.2, 0.1
    for threshold, n_pixels in ((0.5, 2), (0.3, 4), (0.15, 6), (0.7, 0)):
        found = maps_to_labels(maps, "foreground", Postprocessing(threshold=threshold))
        assert (found > 0).sum() == n_pixels


@pytest.mark.parametrize("target", CHANNELS)
def test_a_probability_at_the_threshold_counts(target):
    maps = labels_to_maps(np.pad(np.ones((6, 6), int), 3), target)
    if target == "boundary":
        maps[..., 0] = np.where(maps[..., 0] == 0, 0.25, 1)
    else:
        maps[..., 0] *= 0.75
    at, above = (maps_to_labels(maps, target, Postprocessing(threshold=t)) for t in (0.75, 0.8))
    assert at.max() == 1
    assert above.max() == 0


@pytest.mark.parametrize("target", ["boundary", "distance"])
def test_the_seed_threshold_decides_what_grows_and_not_how_far(target):
    height = np.zeros((5, 21), np.float32)
    height[1:4, 1:20] = 0.3
    height[2, 3:8], height[2, 13:18] = 0.9, 0.6  # two summits with a saddle of .3 between
    mask = height > 0
    others = [mask] if target == "distance" else [~mask]
    maps = np.stack([*others, height, np.zeros_like(height)][: len(CHANNELS[target])], axis=-1)
    for seed_threshold, n in ((0.2, 1), (0.5, 2), (0.8, 1), (0.95, 0)):
        choices = Postprocessing(seed_threshold=seed_threshold)
        found = maps_to_labels(maps.astype(np.float32), target, choices)
        assert found.max() == n, seed_threshold
        np.testing.assert_array_equal(found > 0, mask if n else False)


@pytest.mark.parametrize("target", CHANNELS)
def test_small_nuclei_are_dropped_and_the_others_numbered_anew(target):
    labels = discs((10, 10, 3), (10, 40, 8), (40, 20, 4), (40, 60, 8))
    areas = np.bincount(there_and_back(labels, target).ravel())[1:]
    assert len(areas) == 4
    kept = there_and_back(labels, target, min_area_px=int(areas.max()))
    assert np.unique(kept).tolist() == [0, 1, 2]
    assert there_and_back(labels, target, min_area_px=int(areas.min())).max() == 4
    assert there_and_back(labels, target, min_area_px=10_000).max() == 0


def test_removing_small_nuclei_by_hand():
    labels = np.array([[0, 3, 3, 7], [0, 5, 5, 5]], np.uint8)
    assert remove_small(labels, 0).tolist() == [[0, 1, 1, 3], [0, 2, 2, 2]]
    assert remove_small(labels, 3).tolist() == [[0, 0, 0, 0], [0, 1, 1, 1]]
    assert remove_small(np.zeros((2, 2), int), 5).tolist() == [[0, 0], [0, 0]]


# ---------------------------------------------------------------- any maps at all


def assert_sound(found, maps, target, choices=None):
    """Consecutive int32 labels from 1, within the mask (interiors have their rim added)."""
    choices = choices or Postprocessing()
    assert found.dtype == np.int32
    assert found.shape == maps.shape[:2]
    assert np.unique(found[found > 0]).tolist() == list(range(1, found.max() + 1))
    if target != "interior":
        assert not found[foreground_of(maps, target) < choices.threshold].any()


@pytest.mark.parametrize("target", CHANNELS)
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (16, 12)])
def test_maps_of_one_value_give_one_nucleus_or_none(target, value, shape):
    maps = np.full((*shape, len(CHANNELS[target])), value, np.float32)
    found = maps_to_labels(maps, target)
    assert_sound(found, maps, target)
    is_nucleus = value == 1
    if target == "boundary":  # all zero: no background and no interior; all one: background
        is_nucleus = False
    assert found.max() == is_nucleus
    assert (found > 0).all() == is_nucleus


@pytest.mark.parametrize("target", CHANNELS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_noise_gives_sound_labels(target, seed, scale):
    rng = np.random.default_rng(seed)
    maps = rng.random((40, 33, len(CHANNELS[target])), np.float32)
    if target == "flow":
        maps[..., 1:] = scale * rng.standard_normal((40, 33, 2))
    for choices in (Postprocessing(), Postprocessing(threshold=0.1, seed_threshold=0.9)):
        found = maps_to_labels(maps, target, choices)
        assert_sound(found, maps, target, choices)
    np.testing.assert_array_equal(found, maps_to_labels(maps, target, choices))


@pytest.mark.parametrize("seed", range(3))
def test_flow_gives_every_pixel_of_the_mask_to_a_nucleus(seed):
    rng = np.random.default_rng(seed)
    maps = rng.standard_normal((40, 33, 3)).astype(np.float32)
    found = maps_to_labels(maps, "flow")
    np.testing.assert_array_equal(found > 0, maps[..., 0] >= 0.5)


def test_flow_never_joins_what_does_not_touch():
    maps = np.random.default_rng(0).standard_normal((40, 33, 3)).astype(np.float32)
    found = maps_to_labels(maps, "flow")
    parts = label(found > 0, connectivity=1)
    for number in range(1, found.max() + 1):
        assert len(np.unique(parts[found == number])) == 1
