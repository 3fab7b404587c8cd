"""Targets: maps of label images with answers known by hand, and the labels made of maps."""

import keras
import numpy as np
import pytest
from scipy.ndimage import maximum
from skimage.measure import label

from helpers.data.data_set import read_data_set
from helpers.evaluation.matching import average_precision, match
from helpers.settings import Postprocessing
from helpers.targets import TARGETS, get_target
from helpers.targets.flow import flow_to_centre
from helpers.targets.mask import find_interiors

R2 = np.sqrt(0.5)
SEPARATING = ("boundary", "distance", "flow")
every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
three_seeds = pytest.mark.parametrize("seed", range(3))

SQUARES = np.zeros((5, 8), np.int32)  # two squares of 3 x 3 that touch, with a gap in their numbers
SQUARES[1:4, 1:4], SQUARES[1:4, 4:7] = 1, 9


def crowd(seed=0, shape=(60, 50)):
    """Ellipses of odd size, touching and cut by the border, in no order, with gaps in between."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for number in rng.permutation(60)[:14] + 1:
        (row, column), (high, wide) = rng.integers(0, shape), rng.integers(3, 9, 2)
        labels[((rows - row) / high) ** 2 + ((columns - column) / wide) ** 2 <= 1] = number
    return labels


def odd_squares():
    """Touching nuclei whose centre of mass is a pixel, so that a mirror keeps their centre."""
    labels = np.zeros((15, 19), np.int32)
    labels[1:8, 2:7], labels[1:8, 7:18], labels[8:13, 2:13] = 4, 2, 7
    labels[14, 18] = 1
    return labels


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


# ---------------------------------------------------------------- encode: known answers


def test_an_unknown_target_is_refused():
    allowed = "foreground, interior, boundary, distance, flow"
    with pytest.raises(ValueError, match=f"target 'edges' must be one of {allowed}"):
        get_target("edges")


@every_target
@pytest.mark.parametrize(
    "bad", [np.zeros((2, 2)), np.zeros((2, 2), bool), np.zeros((2, 2, 1), int)]
)
def test_what_is_no_label_image_is_refused(target, bad):
    with pytest.raises(ValueError, match="2-D array of integers"):
        target.encode(bad)


def test_masks_by_hand():
    foreground, interior = (get_target(name).encode(SQUARES) for name in ("foreground", "interior"))
    np.testing.assert_array_equal(foreground[..., 0], SQUARES > 0)
    assert np.argwhere(interior[..., 0]).tolist() == [[2, 2], [2, 5]]


def test_boundary_by_hand():
    classes = np.argmax(get_target("boundary").encode(SQUARES), axis=-1)
    expected = [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 2, 2, 2, 2, 2, 2, 0],
        [0, 2, 1, 2, 2, 1, 2, 0],
        [0, 2, 2, 2, 2, 2, 2, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
    np.testing.assert_array_equal(classes, expected)


def test_distance_by_hand():
    labels = np.zeros((7, 9), int)
    labels[1:6, 1:6], labels[1:6, 6:8] = 3, 1
    a, b = 1 / 3, 2 / 3
    expected = [
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, a, a, a, a, a, 1, 1, 0],
        [0, a, b, b, b, a, 1, 1, 0],
        [0, a, b, 1, b, a, 1, 1, 0],
        [0, a, b, b, b, a, 1, 1, 0],
        [0, a, a, a, a, a, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    maps = get_target("distance").encode(labels)
    np.testing.assert_allclose(maps[..., 1], expected, atol=1e-6)
    np.testing.assert_array_equal(maps[..., 0], labels > 0)


def test_flow_by_hand():
    down = [[R2, 1, R2], [0, 0, 0], [-R2, -1, -R2]]
    right = [[R2, 0, -R2], [1, 0, -1], [R2, 0, -R2]]
    expected = np.zeros((*SQUARES.shape, 3))
    for left in (1, 4):
        expected[1:4, left : left + 3] = np.stack([np.ones((3, 3)), down, right], axis=-1)
    np.testing.assert_allclose(get_target("flow").encode(SQUARES), expected, atol=1e-6)


def test_the_images_border_is_a_rim_for_distance_and_none_for_boundary():
    labels = np.ones((5, 5), int)
    assert get_target("distance").encode(labels)[0, 0, 1] == pytest.approx(1 / 3)
    assert get_target("boundary").encode(labels)[..., 1].all()


@every_target
def test_nuclei_of_one_pixel(target):
    labels = np.zeros((5, 6), np.int32)
    labels[1, 1], labels[3, 3], labels[3, 4] = 2, 5, 1
    maps = target.encode(labels)
    expected = {
        "foreground": [1], "interior": [0], "boundary": [0, 0, 1], "distance": [1, 1],
        "flow": [1, 0, 0],
    }  # fmt: skip
    assert (maps[labels > 0] == expected[target.name]).all()
    assert (maps[labels == 0] == ([1, 0, 0] if target.name == "boundary" else 0)).all()


# ---------------------------------------------------------------- encode: invariants


@every_target
@three_seeds
def test_values_are_in_range_and_numbers_do_not_matter(target, seed):
    labels = crowd(seed)
    maps = target.encode(labels)
    assert maps.dtype == np.float32
    assert maps.shape == (*labels.shape, len(target.channels))
    assert maps.min() >= (-1 if target.name == "flow" else 0)
    assert maps.max() <= 1
    if target.is_classes:
        np.testing.assert_array_equal(maps.sum(axis=-1), 1)
    if target.name == "distance":
        deepest = maximum(maps[..., 1], labels, np.unique(labels[labels > 0]))
        assert (deepest == 1).all() and (maps[labels > 0, 1] > 0).all()
    numbers = np.random.default_rng(1).permutation(60) + 1000
    renamed = np.concatenate([[0], numbers]).astype(np.uint16)[labels]
    np.testing.assert_array_equal(target.encode(renamed), maps)


@three_seeds
def test_flow_has_length_1_but_at_one_pixel_inside_to_which_all_of_its_nucleus_point(seed):
    labels = crowd(seed)
    flow = flow_to_centre(labels)
    for number in np.unique(labels[labels > 0]):
        places, vectors = np.argwhere(labels == number), flow[labels == number]
        moves = (vectors != 0).any(axis=1)
        (centre,) = places[~moves]
        away = centre - places[moves]
        expected = away / np.linalg.norm(away, axis=1, keepdims=True)
        np.testing.assert_allclose(vectors[moves], expected, atol=1e-6)


@every_target
def test_mirrored_and_transposed_labels_have_mirrored_and_transposed_maps(target):
    labels = odd_squares()
    maps = target.encode(labels)
    for down, right in ((1, -1), (-1, 1), (-1, -1)):
        mirrored = target.encode(labels[::down, ::right])
        np.testing.assert_allclose(mirrored, target.flip(maps, down, right), atol=1e-6)
    np.testing.assert_allclose(target.encode(labels.T), target.transpose(maps), atol=1e-6)


@every_target
def test_foreground_is_the_true_mask_of_arrays_and_of_tensors(target):
    labels = crowd()
    maps = target.encode(labels)
    expected = find_interiors(labels) if target.name == "interior" else labels > 0
    np.testing.assert_array_equal(target.foreground(maps), expected)
    np.testing.assert_array_equal(target.true_mask(labels), expected)
    tensor = target.foreground(keras.ops.convert_to_tensor(maps[None]))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(tensor)[0], expected)


# ---------------------------------------------------------------- decode: the truth comes back


def there_and_back(labels, name, **choices):
    target = get_target(name)
    return target.decode(target.encode(labels), Postprocessing(**choices))


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
    "radius of 60": discs((70, 70, 60), shape=(141, 141)),
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
def test_a_mask_merges_touching_nuclei(name):
    assert there_and_back(TOUCHING[name], "foreground").max() == 1


@pytest.mark.parametrize("target", ["boundary", "flow"])
@pytest.mark.parametrize("hollow", [(70, 30), (75, 40)])
def test_a_bent_nucleus_stays_whole(target, hollow):
    rows, columns = np.indices((90, 90))
    centre, radius = hollow
    labels = np.int32(np.hypot(rows - 45, columns - 45) <= 30)
    labels[np.hypot(rows - 45, columns - centre) <= radius] = 0
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


# ---------------------------------------------------------------- decode: what the settings decide


@every_target
def test_a_probability_at_the_threshold_counts(target):
    maps = target.encode(np.pad(np.ones((6, 6), int), 3))
    if target.is_classes:
        maps[..., 0] = np.where(maps[..., 0] == 0, 0.25, 1)
    else:
        maps[..., 0] *= 0.75
    at, above = (target.decode(maps, Postprocessing(threshold=t)) for t in (0.75, 0.8))
    assert at.max() == 1
    assert above.max() == 0


@pytest.mark.parametrize("name", ["boundary", "distance"])
def test_the_seed_threshold_decides_what_grows_and_not_how_far(name):
    height = np.zeros((5, 21), np.float32)
    height[1:4, 1:20] = 0.3
    height[2, 3:8], height[2, 13:18] = 0.9, 0.6  # two summits with a saddle of .3 between
    mask = height > 0
    first = mask if name == "distance" else ~mask
    maps = np.stack([first, height, np.zeros_like(height)], axis=-1).astype(np.float32)
    maps = maps[..., : len(get_target(name).channels)]
    for seed_threshold, n in ((0.2, 1), (0.5, 2), (0.8, 1), (0.95, 0)):
        found = get_target(name).decode(maps, Postprocessing(seed_threshold=seed_threshold))
        assert found.max() == n, seed_threshold
        np.testing.assert_array_equal(found > 0, mask if n else False)


# ---------------------------------------------------------------- decode: any maps at all


def assert_sound(found, maps, target, choices):
    """Consecutive int32 labels from 1, within the mask (interiors have their rim added)."""
    assert found.dtype == np.int32
    assert found.shape == maps.shape[:2]
    assert np.unique(found[found > 0]).tolist() == list(range(1, found.max() + 1))
    if target.name != "interior":
        assert not found[target.foreground(maps) < choices.threshold].any()


@every_target
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (16, 12)])
def test_maps_of_one_value_give_one_nucleus_or_none(target, value, shape):
    maps = np.full((*shape, len(target.channels)), value, np.float32)
    found = target.decode(maps, Postprocessing())
    assert_sound(found, maps, target, Postprocessing())
    # Boundary, all zero: no background and no interior to grow from; all one: background.
    is_nucleus = value == 1 and not target.is_classes
    assert found.max() == is_nucleus
    assert (found > 0).all() == is_nucleus


@every_target
@three_seeds
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_noise_gives_sound_labels(target, seed, scale):
    rng = np.random.default_rng(seed)
    maps = rng.random((40, 33, len(target.channels)), np.float32)
    if target.name == "flow":
        maps[..., 1:] = scale * rng.standard_normal((40, 33, 2))
    for choices in (Postprocessing(), Postprocessing(threshold=0.1, seed_threshold=0.9)):
        found = target.decode(maps, choices)
        assert_sound(found, maps, target, choices)
        np.testing.assert_array_equal(found, target.decode(maps, choices))


@three_seeds
def test_flow_gives_every_pixel_to_a_nucleus_and_joins_none_that_do_not_touch(seed):
    maps = np.random.default_rng(seed).standard_normal((40, 33, 3)).astype(np.float32)
    found = get_target("flow").decode(maps, Postprocessing())
    np.testing.assert_array_equal(found > 0, maps[..., 0] >= 0.5)
    parts = label(found > 0, connectivity=1)
    for number in range(1, found.max() + 1):
        assert len(np.unique(parts[found == number])) == 1
