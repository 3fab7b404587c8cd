"""Nucleus by nucleus: hand-worked cases, invariants, and a slow second implementation."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from helpers.evaluation.matching import THRESHOLDS, average_precision, match
from tests.conftest import draw_labels

EMPTY = np.zeros((10, 12), int)


def draw(*boxes, shape=(10, 12)):
    return draw_labels(*boxes, shape=shape)


def random_labels(rng, shape=(60, 70), n=40):
    """Blobs that touch, overlap and cut each other, numbered with gaps."""
    labels = np.zeros(shape, int)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    for number in rng.permutation(3 * n)[:n] + 1:
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        a, b = rng.uniform(2, 7, 2)
        labels[((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 <= 1] = number
    return labels


def distort(labels, rng):
    """A prediction: moved, grown, some nuclei gone, some joined, some cut, some invented."""
    changed = np.roll(labels, rng.integers(-1, 2, 2), (0, 1))
    ids = rng.permutation(np.unique(labels)[1:])
    changed[np.isin(changed, ids[:3])] = 0
    for one, other in ids[3:13].reshape(-1, 2):
        changed[changed == one] = other
    right = np.arange(labels.shape[1]) % 9 < 4
    changed[np.isin(changed, ids[13:20]) & right] += 1000
    changed[rng.random(labels.shape) < 0.02] = 0
    changed[-4:, -4:] = 5000
    return changed


@pytest.fixture
def pairs_of_images(rng):
    truths = [random_labels(rng) for _ in range(12)]
    return [(truth, distort(truth, rng)) for truth in truths]


# The second implementation: masks, loops, and one assignment for every threshold -------------


def slow_iou(labels_true, labels_pred):
    masks_true = [labels_true == label for label in np.unique(labels_true) if label]
    masks_pred = [labels_pred == label for label in np.unique(labels_pred) if label]
    table = np.zeros((len(masks_true), len(masks_pred)))
    for i, one in enumerate(masks_true):
        for j, other in enumerate(masks_pred):
            table[i, j] = (one & other).sum() / (one | other).sum()
    return table, masks_true, masks_pred


def slow_tp(table, threshold):
    """As StarDist: as many pairs above the threshold as possible, then the greatest IoU."""
    if not table.size:
        return 0, 0.0
    good = table >= threshold
    rows, columns = linear_sum_assignment(-good.astype(float) - table / (2 * min(table.shape)))
    chosen = table[rows, columns]
    return int((chosen >= threshold).sum()), float(chosen[chosen >= threshold].sum())


def slow_aji(table, masks_true, masks_pred):
    """Algorithm 1 of Kumar et al. 2017; a nucleus that nothing overlaps joins the union."""
    intersection = union = 0
    used = set()
    for i, mask in enumerate(masks_true):
        shared = [(mask & other).sum() for other in masks_pred]
        if not any(shared):
            union += mask.sum()
            continue
        j = max(range(len(masks_pred)), key=lambda j: (table[i, j], shared[j], -j))
        intersection += shared[j]
        union += (mask | masks_pred[j]).sum()
        used.add(j)
    union += sum(mask.sum() for j, mask in enumerate(masks_pred) if j not in used)
    return intersection, union


def test_agrees_with_the_second_implementation(pairs_of_images):
    for labels_true, labels_pred in pairs_of_images:
        table, *masks = slow_iou(labels_true, labels_pred)
        found = match(labels_true, labels_pred)
        assert found.tp.tolist() == [slow_tp(table, threshold)[0] for threshold in THRESHOLDS]
        sum_half = slow_tp(table, 0.5)[1]
        assert found.iou_true[found.iou_true >= 0.5].sum() == pytest.approx(sum_half)
        assert (found.aji_intersection, found.aji_union) == slow_aji(table, *masks)


def test_pairs_are_the_best_possible():
    # IoU of the four pairs: 1/4 and 0, 1/3 and 3/11. The greatest first would leave 1/3 alone.
    labels_true = draw((0, 0, 1, 2), (0, 2, 1, 5), shape=(1, 14))
    labels_pred = draw((0, 1, 1, 3), (0, 4, 1, 9), shape=(1, 14))
    assert match(labels_true, labels_pred).iou_true.tolist() == [1 / 4, 3 / 11]


# Hand-worked -----------------------------------------------------------------------------------


def test_a_perfect_prediction():
    labels = draw((0, 0, 3, 3), (0, 3, 3, 3), (6, 6, 2, 5))
    found = match(labels, labels * 10)
    assert found.tp.tolist() == [3] * 10
    assert found.outcomes_true.tolist() == found.outcomes_pred.tolist() == ["found"] * 3
    assert average_precision([found], 0.95) == 1.0
    assert found.iou_sum == 3 and found.aji_intersection == found.aji_union


def test_empty_truth_and_empty_prediction():
    some = draw((0, 0, 3, 3), (5, 5, 3, 3))
    nothing, invented, overlooked = match(EMPTY, EMPTY), match(EMPTY, some), match(some, EMPTY)
    assert invented.outcomes_pred.tolist() == ["extra"] * 2
    assert overlooked.outcomes_true.tolist() == ["missed"] * 2
    for found in (invented, overlooked):
        assert average_precision([nothing, found]) == found.iou_sum == 0.0
        assert (found.aji_intersection, found.aji_union) == (0, 18)
    assert nothing.tp.tolist() == [0] * 10 and nothing.aji_union == 0
    assert np.isnan(average_precision([nothing])) and np.isnan(average_precision([]))


def test_a_shifted_square():
    # 10 x 10, moved by 2: 80 shared of 120, IoU 2/3.
    labels_true = draw((0, 0, 10, 10), shape=(10, 20))
    found = match(labels_true, np.roll(labels_true, 2, axis=1))
    assert found.iou_true.tolist() == [80 / 120]
    assert found.tp.tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert found.iou_sum == pytest.approx(2 / 3)
    assert (found.aji_intersection, found.aji_union) == (80, 120)


def test_moved_further_it_is_inaccurate_then_missed():
    labels_true = draw((0, 0, 10, 10), shape=(10, 20))
    near, far = (match(labels_true, np.roll(labels_true, by, axis=1)) for by in (5, 9))
    assert (near.outcomes_true[0], near.outcomes_pred[0]) == ("inaccurate", "inaccurate")  # IoU 1/3
    assert near.iou_true[0] == pytest.approx(1 / 3)
    assert (far.outcomes_true[0], far.outcomes_pred[0]) == ("missed", "extra")  # IoU 1/19


def test_iou_of_exactly_half_is_a_match_but_not_for_panoptic_quality():
    found = match(draw((0, 0, 4, 4)), draw((0, 0, 4, 2)))
    assert found.iou_true.tolist() == [0.5]
    assert found.tp.tolist() == [1] + [0] * 9
    assert found.iou_sum == 0.0


def test_thresholds_are_met_exactly():
    # 11 of 20 pixels is .55, 19 of 20 is .95, as decimal numbers are rounded to binary ones.
    for shared, n_levels in ((11, 2), (13, 4), (17, 8), (19, 10)):
        labels_pred = np.zeros((1, 20), int)
        labels_pred[0, :shared] = 1
        assert match(np.ones((1, 20), int), labels_pred).tp.sum() == n_levels


@pytest.mark.parametrize("flip", [False, True])
def test_a_nucleus_in_exact_halves_has_one_partner(flip):
    whole, halves = draw((0, 0, 4, 4)), draw((0, 0, 4, 2), (0, 2, 4, 2))
    found = match(halves, whole) if flip else match(whole, halves)
    assert found.tp[0] == 1
    assert average_precision([found]) == 0.5
    true, pred = sorted(found.outcomes_true.tolist()), sorted(found.outcomes_pred.tolist())
    assert true == (["found", "merged"] if flip else ["found"])
    assert pred == (["found"] if flip else ["found", "fragment"])
    assert (found.n_merges, found.n_splits) == ((1, 0) if flip else (0, 1))


def test_one_split():
    # A nucleus of 30 px in three strips of 10: no strip reaches half.
    found = match(draw((0, 0, 3, 10)), draw((0, 0, 1, 10), (1, 0, 1, 10), (2, 0, 1, 10)))
    assert found.outcomes_true.tolist() == ["split"]
    assert found.outcomes_pred.tolist() == ["fragment"] * 3
    assert (found.n_merges, found.n_splits) == (0, 1)
    assert found.iou_true[0] == pytest.approx(1 / 3)
    assert (found.aji_intersection, found.aji_union) == (10, 30 + 20)


def test_one_merge():
    # Three nuclei of 10 px in one object of 30. Each nucleus may choose it for the AJI.
    found = match(draw((0, 0, 1, 10), (1, 0, 1, 10), (2, 0, 1, 10)), draw((0, 0, 3, 10)))
    assert found.outcomes_true.tolist() == ["merged"] * 3
    assert found.outcomes_pred.tolist() == ["merging"]
    assert (found.n_merges, found.n_splits) == (1, 0)
    assert (found.aji_intersection, found.aji_union) == (30, 90)


def test_a_large_nucleus_may_survive_a_merge():
    found = match(draw((0, 0, 4, 5), (0, 5, 1, 4)), draw((0, 0, 4, 6), (9, 0, 1, 3)))
    assert found.outcomes_true.tolist() == ["found", "missed"]  # a quarter is not covered
    found = match(draw((0, 0, 4, 5), (0, 5, 1, 2)), draw((0, 0, 4, 7), (9, 0, 1, 3)))
    assert found.outcomes_true.tolist() == ["found", "merged"]
    assert found.outcomes_pred.tolist() == ["found", "extra"]
    assert found.n_merges == 1


# Invariants --------------------------------------------------------------------------------------


def describe(found):
    """What may not depend on the order of nuclei."""
    return (
        found.tp.tolist(),
        sorted(found.outcomes_true),
        sorted(found.outcomes_pred),
        (found.n_merges, found.n_splits, found.aji_intersection, found.aji_union),
        pytest.approx(found.iou_sum),
    )


def test_names_and_axes_do_not_matter(pairs_of_images, rng):
    for labels_true, labels_pred in pairs_of_images:
        found = match(labels_true, labels_pred)
        names = np.append(0, 1700 * rng.permutation(6000) + 1)
        assert describe(match(labels_true, names[labels_pred])) == describe(found)
        assert describe(match(labels_true.T, labels_pred.T)) == describe(found)
        assert describe(
            match(labels_true.astype(np.uint16), labels_pred.astype(np.int32))
        ) == describe(found)


def test_exchanging_truth_and_prediction_exchanges_the_errors(pairs_of_images):
    for labels_true, labels_pred in pairs_of_images:
        found, turned = match(labels_true, labels_pred), match(labels_pred, labels_true)
        assert found.tp.tolist() == turned.tp.tolist()
        assert (found.n_merges, found.n_splits) == (turned.n_splits, turned.n_merges)
        assert found.iou_sum == pytest.approx(turned.iou_sum)


# Overlap, speed and errors -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_every_integer_will_do(dtype):
    labels = draw((0, 0, 3, 3), (5, 5, 2, 2)).astype(dtype)
    labels[labels == 2] = np.iinfo(dtype).max
    found = match(labels, labels)
    assert found.ids_true.tolist() == [1, np.iinfo(dtype).max]
    assert found.tp[-1] == 2


def test_images_without_background_or_pixels():
    full = np.ones((3, 3), int)
    assert match(full, full).tp[-1] == 1
    assert match(np.zeros((0, 5), int), np.zeros((0, 5), int)).n_true == 0


@pytest.mark.parametrize(
    ("labels_true", "labels_pred", "error", "message"),
    [
        (EMPTY + 0.5, EMPTY, TypeError, r"`labels_true` \(dtype float64\) must be integers"),
        (EMPTY, EMPTY > 0, TypeError, r"`labels_pred` \(dtype bool\).*label a mask first"),
        (EMPTY[0], EMPTY[0], ValueError, r"`labels_true` \(shape \(12,\)\) must be one image"),
        (EMPTY, EMPTY.T, ValueError, r"`labels_pred` \(shape \(12, 10\)\) must have the shape"),
        (EMPTY, EMPTY - 1, ValueError, r"`labels_pred` \(from -1 to -1\) must not be negative"),
    ],
)
def test_what_is_no_label_image_is_refused(labels_true, labels_pred, error, message):
    with pytest.raises(error, match=message):
        match(labels_true, labels_pred)


def test_thresholds_out_of_range_are_refused():
    for threshold in (0.4, 1.1, 50):
        with pytest.raises(ValueError, match=rf"`threshold` \(={threshold}\) must lie between"):
            average_precision([match(EMPTY, EMPTY)], threshold)
