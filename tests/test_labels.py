import numpy as np
import pytest

from helpers.data.labels import labels_to_interior, labels_to_mask

TOUCHING = np.array(
    [
        [1, 1, 1, 2, 2, 2],
        [1, 1, 1, 2, 2, 2],
        [1, 1, 1, 2, 2, 2],
        [0, 0, 0, 0, 0, 0],
    ],
    np.int32,
)


def test_mask_is_true_wherever_a_nucleus_is():
    mask = labels_to_mask(TOUCHING)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, TOUCHING > 0)


def test_interior_leaves_a_gap_of_two_pixels_between_touching_nuclei():
    expected = np.zeros((4, 6), bool)
    expected[:2, [0, 1, 4, 5]] = True  # the image's border is no rim, the background below is
    np.testing.assert_array_equal(labels_to_interior(TOUCHING), expected)


def test_interior_of_a_single_pixel_is_empty():
    labels = np.zeros((3, 3), int)
    labels[1, 1] = 5
    assert not labels_to_interior(labels).any()


@pytest.mark.parametrize("convert", [labels_to_mask, labels_to_interior])
def test_no_nuclei_give_an_empty_mask(convert):
    assert not convert(np.zeros((5, 4), np.uint16)).any()


def test_interior_lies_within_the_mask_and_ignores_the_numbers():
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 4, (6, 6)), np.ones((5, 5), int))
    renamed = np.array([0, 30, 10, 20])[labels]
    interior = labels_to_interior(labels)
    assert not (interior & (labels == 0)).any()
    np.testing.assert_array_equal(interior, labels_to_interior(renamed))


@pytest.mark.parametrize("convert", [labels_to_mask, labels_to_interior])
@pytest.mark.parametrize(
    "bad", [np.zeros((2, 2)), np.zeros((2, 2), bool), np.zeros((2, 2, 1), int)]
)
def test_what_is_no_label_image_is_refused(convert, bad):
    with pytest.raises(ValueError, match="2-D array of integers"):
        convert(bad)
