"""What networks are taught: maps of label images, with answers known by hand."""

import numpy as np
import pytest

from helpers.data.labels import labels_to_interior
from helpers.targets.maps import (
    CHANNELS,
    distance_to_rim,
    flip_maps,
    flow_to_centre,
    foreground_of,
    labels_to_maps,
    labels_to_target_mask,
    transpose_maps,
)

R2 = np.sqrt(0.5)

TOUCHING = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 9, 9, 9, 0],
        [0, 1, 1, 1, 9, 9, 9, 0],
        [0, 1, 1, 1, 9, 9, 9, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ],
    np.int32,
)  # two squares of 3 x 3 that touch, with a gap in their numbers


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


# ---------------------------------------------------------------- known answers


def test_foreground_by_hand():
    maps = labels_to_maps(TOUCHING, "foreground")
    np.testing.assert_array_equal(maps[..., 0], TOUCHING > 0)


def test_interior_by_hand():
    expected = np.zeros(TOUCHING.shape)
    expected[2, [2, 5]] = 1
    np.testing.assert_array_equal(labels_to_maps(TOUCHING, "interior")[..., 0], expected)


def test_boundary_by_hand():
    classes = np.argmax(labels_to_maps(TOUCHING, "boundary"), axis=-1)
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
    third = 1 / 3
    expected = [
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, third, third, third, third, third, 1, 1, 0],
        [0, third, 2 / 3, 2 / 3, 2 / 3, third, 1, 1, 0],
        [0, third, 2 / 3, 1, 2 / 3, third, 1, 1, 0],
        [0, third, 2 / 3, 2 / 3, 2 / 3, third, 1, 1, 0],
        [0, third, third, third, third, third, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    maps = labels_to_maps(labels, "distance")
    np.testing.assert_allclose(maps[..., 1], expected, atol=1e-6)
    np.testing.assert_array_equal(maps[..., 0], labels > 0)


def test_flow_by_hand():
    maps = labels_to_maps(TOUCHING, "flow")
    down = [[R2, 1, R2], [0, 0, 0], [-R2, -1, -R2]]
    right = [[R2, 0, -R2], [1, 0, -1], [R2, 0, -R2]]
    expected = np.zeros((*TOUCHING.shape, 3))
    for left in (1, 4):
        expected[1:4, left : left + 3] = np.stack([np.ones((3, 3)), down, right], axis=-1)
    np.testing.assert_allclose(maps, expected, atol=1e-6)


def test_flow_of_a_bent_nucleus_leads_to_a_pixel_of_it():
    rows, columns = np.indices((41, 41))
    radius = np.hypot(rows - 20, columns - 20)
    labels = ((radius <= 18) & (radius > 11) & (columns < 24)).astype(int)
    mean = [axis[labels > 0].mean() for axis in (rows, columns)]
    assert labels[tuple(np.rint(mean).astype(int))] == 0, "the centre of mass lies outside"
    flow = flow_to_centre(labels)
    still = (flow == 0).all(axis=-1) & (labels > 0)
    assert still.sum() == 1


def test_the_images_border_is_a_rim_for_distance_and_none_for_boundary():
    labels = np.ones((5, 5), int)
    assert distance_to_rim(labels)[0, 0] == pytest.approx(1 / 3)
    assert labels_to_maps(labels, "boundary")[..., 1].all()


# ---------------------------------------------------------------- for every target


@pytest.mark.parametrize("target", CHANNELS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_without_nuclei_all_is_background(target, dtype):
    maps = labels_to_maps(np.zeros((5, 4), dtype), target)
    assert maps.shape == (5, 4, len(CHANNELS[target]))
    assert not foreground_of(maps, target).any()
    assert not maps[..., 1:].any()


@pytest.mark.parametrize("target", CHANNELS)
def test_nuclei_of_one_pixel(target):
    labels = np.zeros((5, 6), np.int32)
    labels[1, 1], labels[3, 3], labels[3, 4] = 2, 5, 1
    maps = labels_to_maps(labels, target)
    on, off = maps[labels > 0], maps[labels == 0]
    expected = {
        "foreground": [1], "interior": [0], "boundary": [0, 0, 1], "distance": [1, 1],
        "flow": [1, 0, 0],
    }  # fmt: skip
    assert (on == expected[target]).all()
    assert (off == ([1, 0, 0] if target == "boundary" else 0)).all()


@pytest.mark.parametrize("target", CHANNELS)
@pytest.mark.parametrize("seed", range(3))
def test_values_are_in_range(target, seed):
    labels = crowd(seed)
    maps = labels_to_maps(labels, target)
    assert maps.dtype == np.float32
    assert maps.shape == (*labels.shape, len(CHANNELS[target]))
    assert maps.min() >= (-1 if target == "flow" else 0)
    assert maps.max() <= 1
    if target == "boundary":
        np.testing.assert_array_equal(maps.sum(axis=-1), 1)
    else:
        assert not maps[labels == 0].any()


@pytest.mark.parametrize("target", CHANNELS)
def test_numbers_do_not_matter(target):
    labels = crowd()
    renamed = np.random.default_rng(1).permutation(60) + 1000
    renamed = np.concatenate([[0], renamed]).astype(np.uint16)[labels]
    np.testing.assert_array_equal(labels_to_maps(labels, target), labels_to_maps(renamed, target))


@pytest.mark.parametrize("seed", range(3))
def test_the_deepest_pixel_of_every_nucleus_has_distance_1_and_none_has_0(seed):
    labels = crowd(seed)
    distances = distance_to_rim(labels)
    for number in np.unique(labels[labels > 0]):
        assert distances[labels == number].max() == pytest.approx(1)
        assert distances[labels == number].min() > 0


@pytest.mark.parametrize("seed", range(3))
def test_flow_has_length_1_but_at_one_pixel_inside_to_which_all_of_its_nucleus_point(seed):
    labels = crowd(seed)
    flow = flow_to_centre(labels)
    length = np.hypot(flow[..., 0], flow[..., 1])
    for number in np.unique(labels[labels > 0]):
        places = np.argwhere(labels == number)
        lengths = length[labels == number]
        (centre,) = places[lengths == 0]
        away = centre - places[lengths > 0]
        np.testing.assert_allclose(lengths[lengths > 0], 1, atol=1e-6)
        expected = away / np.linalg.norm(away, axis=1, keepdims=True)
        np.testing.assert_allclose(
            flow[labels == number][lengths > 0], expected, atol=1e-6, err_msg=f"nucleus {number}"
        )


def test_touching_nuclei_point_away_from_each_other():
    flow = flow_to_centre(np.kron([[1, 2]], np.ones((9, 9), int)))
    assert (flow[:, 8, 1] < 0).all()
    assert (flow[:, 9, 1] > 0).all()


# ---------------------------------------------------------------- mirrors


@pytest.mark.parametrize("target", CHANNELS)
@pytest.mark.parametrize("way", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_a_mirrored_label_image_has_mirrored_maps(target, way):
    labels = odd_squares()
    maps = labels_to_maps(labels[:: way[0], :: way[1]], target)
    expected = flip_maps(labels_to_maps(labels, target), target, *way)
    np.testing.assert_allclose(maps, expected, atol=1e-6)


@pytest.mark.parametrize("target", CHANNELS)
def test_a_transposed_label_image_has_transposed_maps(target):
    labels = odd_squares()
    expected = transpose_maps(labels_to_maps(labels, target), target)
    np.testing.assert_allclose(labels_to_maps(labels.T, target), expected, atol=1e-6)


def test_directions_are_mirrored_by_hand():
    maps = np.zeros((1, 2, 3), np.float32)
    maps[0, 0] = 1, 0.3, 0.7
    assert flip_maps(maps, "flow", -1, -1)[0, 1].tolist() == pytest.approx([1, -0.3, -0.7])
    assert flip_maps(maps, "boundary", -1, -1)[0, 1].tolist() == pytest.approx([1, 0.3, 0.7])
    assert transpose_maps(maps, "flow")[0, 0].tolist() == pytest.approx([1, 0.7, 0.3])
    assert transpose_maps(maps, "boundary")[0, 0].tolist() == pytest.approx([1, 0.3, 0.7])


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("target", CHANNELS)
def test_foreground_and_the_mask_it_is_compared_with_are_one(target):
    labels = crowd()
    maps = labels_to_maps(labels, target)
    mask = labels_to_target_mask(labels, target)
    np.testing.assert_array_equal(foreground_of(maps, target), mask)
    expected = labels_to_interior(labels) if target == "interior" else labels > 0
    np.testing.assert_array_equal(mask, expected)


def test_foreground_of_a_batch_and_of_a_tensor():
    import keras

    maps = np.random.default_rng(0).random((2, 4, 5, 3), np.float32)
    for target in ("boundary", "flow"):
        expected = np.stack([foreground_of(each, target) for each in maps])
        np.testing.assert_array_equal(foreground_of(maps, target), expected)
        tensor = foreground_of(keras.ops.convert_to_tensor(maps), target)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(tensor), expected, atol=1e-6)


# ---------------------------------------------------------------- bad input


def test_unknown_target_is_refused():
    allowed = "foreground, interior, boundary, distance, flow"
    with pytest.raises(ValueError, match=f"target 'edges' must be one of {allowed}"):
        labels_to_maps(TOUCHING, "edges")


@pytest.mark.parametrize("target", CHANNELS)
@pytest.mark.parametrize(
    "bad", [np.zeros((2, 2)), np.zeros((2, 2), bool), np.zeros((2, 2, 1), int)]
)
def test_what_is_no_label_image_is_refused(target, bad):
    with pytest.raises(ValueError, match="2-D array of integers"):
        labels_to_maps(bad, target)
