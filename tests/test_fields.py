import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from helpers.analysis.fields import CHANCE, find_copies, find_groups, find_seams, place_tiles


def field_of_view(seed, shape=(192, 192), dtype=np.uint8):
    """A smooth random field with some noise, as if it came from a microscope."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), 4)
    field = (field - field.min()) / np.ptp(field) + rng.normal(0, 0.01, shape)
    return (np.clip(field, 0, 1) * 0.9 * np.iinfo(dtype).max).astype(dtype)


def cut(field, n=2):
    """Tiles of a field, row by row."""
    return [tile for row in np.array_split(field, n) for tile in np.array_split(row, n, axis=1)]


def same_partition(groups, expected):
    numbered = [pd.factorize(np.asarray(labels))[0] for labels in (groups, expected)]
    return np.array_equal(*numbered)


@pytest.fixture(scope="module")
def shuffled_tiles():
    tiles = [(tile, seed) for seed in range(12) for tile in cut(field_of_view(seed))]
    order = np.random.default_rng(0).permutation(len(tiles))
    return [tiles[k][0] for k in order], [tiles[k][1] for k in order]


def test_tiles_of_a_field_are_found_whatever_their_order(shuffled_tiles):
    tiles, fields = shuffled_tiles
    groups = find_groups(tiles)
    assert groups.dtype == np.int64
    assert same_partition(groups, fields)


def test_seams_say_which_tile_lies_where():
    seams = find_seams(cut(field_of_view(3)))
    found = {(s.i, s.j, s.side) for s in seams.itertuples()}
    assert found == {(0, 1, "right"), (2, 3, "right"), (0, 2, "below"), (1, 3, "below")}
    assert seams["significance"].is_monotonic_decreasing
    assert seams["correlation"].between(0.8, 1).all()
    assert seams["jump"].between(0.5, 1.5).all()


def test_sixteen_bit_and_coloured_tiles_are_found():
    sixteen = cut(field_of_view(4, dtype=np.uint16))
    dim = [tile // 16 for tile in sixteen]  # a 12-bit camera
    coloured = cut(np.dstack([field_of_view(seed) for seed in (5, 6, 7)]))
    groups = find_groups([*sixteen, *coloured])
    assert same_partition(groups, [0] * 4 + [1] * 4)
    assert same_partition(find_groups(dim), [0] * 4)


def test_images_that_are_unrelated_stay_alone():
    smooth = [field_of_view(seed, (96, 96)) for seed in range(100, 160)]
    assert same_partition(find_groups(smooth), range(60))


def test_pure_noise_is_linked_no_more_often_than_the_stated_chance():
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (96, 96), dtype=np.uint8) for _ in range(200)]
    n_edges = 2 * len(noise)  # noise passes the test of continuity: only significance is left
    n_chance = CHANCE * n_edges
    assert len(find_seams(noise)) <= n_chance + 3 * np.sqrt(n_chance)


def test_gray_and_coloured_images_never_touch():
    left, right = np.array_split(field_of_view(9), 2, axis=1)
    assert find_seams([left, np.dstack([right] * 3)]).empty
    assert find_seams([left, right.astype(np.uint16)]).empty


def test_constant_and_tiny_images_are_no_siblings():
    images = [np.full((64, 64), level, np.uint8) for level in (0, 255, 100)]
    images += [np.zeros((1, 64), np.uint8), np.ones((1, 1), np.uint8)]
    assert same_partition(find_groups(images), range(5))
    assert len(find_groups([])) == 0
    assert find_groups(images[:1]).tolist() == [0]


def test_copies_share_a_group_mirrored_or_turned():
    image = field_of_view(10, (64, 80))
    copies = [image[::-1], image[:, ::-1], np.rot90(image), image.copy()]
    other = field_of_view(11, (64, 80))
    pairs = find_copies([image, other, *copies])
    assert {(p.i, p.j) for p in pairs.itertuples()} == {(0, k) for k in (2, 3, 4, 5)}
    assert same_partition(find_groups([image, other, *copies]), [0, 1, 0, 0, 0, 0])


def test_an_image_with_equal_edges_is_not_yet_a_copy():
    image = field_of_view(12, (64, 64))
    changed = image.copy()
    changed[30, 30] += 1
    assert find_copies([image, changed]).empty


SEAMS = pd.DataFrame(
    {
        "i": [0, 0, 1, 2, 4],
        "j": [1, 2, 3, 3, 5],
        "side": ["right", "below", "below", "right", "right"],
        "significance": [9.0, 8.0, 7.0, 6.0, 5.0],
    }
)


@pytest.mark.parametrize("start", [0, 3])
def test_tiles_find_their_places_from_anywhere(start):
    assert place_tiles(SEAMS, start) == {0: (0, 0), 1: (0, 1), 2: (1, 0), 3: (1, 1)}
