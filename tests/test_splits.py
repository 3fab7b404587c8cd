import numpy as np
import pandas as pd
import pytest

from conftest import box, png, some_image
from helpers.analysis.fields import find_groups, match_pixels
from helpers.analysis.splits import SPLIT_NAMES, keep_back, leaking_share, split_by_group
from helpers.data.data_set import read_data_set

GROUPS = np.repeat(np.arange(60), np.random.default_rng(2).choice([1, 2, 4, 8], 60))
STRATA = np.array(["rare", *["common"] * 49, *["other"] * 10])[GROUPS]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("strata", [None, STRATA])
def test_no_group_is_divided_nothing_leaks_and_ratios_are_met(seed, strata):
    split = split_by_group(GROUPS, test_ratio=0.2, validation_ratio=0.25, seed=seed, strata=strata)
    assert len(split) == len(GROUPS)
    assert set(split) == set(SPLIT_NAMES)
    assert pd.Series(split).groupby(GROUPS).nunique().max() == 1
    assert leaking_share(split, GROUPS) == 0
    n_test, n_validation = (split == "test").sum(), (split == "validation").sum()
    assert strata is not None or abs(n_test - 0.2 * len(GROUPS)) <= 4  # half of the largest group
    assert strata is not None or abs(n_validation - 0.25 * (len(GROUPS) - n_test)) <= 4


def test_a_ratio_of_zero_gives_an_empty_side_and_a_tiny_one_a_group():
    for test_ratio, validation_ratio, sides in (
        (0, 0.1, {"train", "validation"}),
        (0, 0, {"train"}),
        (1e-6, 1e-6, set(SPLIT_NAMES)),
    ):
        ratios = {"test_ratio": test_ratio, "validation_ratio": validation_ratio}
        assert set(split_by_group(GROUPS, seed=0, **ratios)) == sides


def test_every_modality_that_can_is_on_every_side():
    groups = np.arange(13)
    strata = ["one"] + ["two"] * 2 + ["three"] * 3 + ["many"] * 7
    split = split_by_group(groups, test_ratio=0.1, validation_ratio=0.1, seed=0, strata=strata)
    sides = pd.Series(split).groupby(np.asarray(strata)).agg(set)
    assert sides["one"] == {"train"}
    assert sides["two"] == {"train", "test"}
    assert sides["three"] == sides["many"] == set(SPLIT_NAMES)


def test_the_split_depends_on_the_seed_alone():
    arguments = {"test_ratio": 0.2, "validation_ratio": 0.1, "strata": STRATA}
    first = split_by_group(GROUPS, seed=7, **arguments)
    assert np.array_equal(first, split_by_group(GROUPS, seed=7, **arguments))
    assert not np.array_equal(first, split_by_group(GROUPS, seed=8, **arguments))


@pytest.mark.parametrize("ratio", [-0.1, 1, float("nan")])
@pytest.mark.parametrize("name", ["test_ratio", "validation_ratio"])
def test_a_ratio_out_of_range_is_refused(name, ratio):
    ratios = {"test_ratio": 0.1, "validation_ratio": 0.1, name: ratio}
    with pytest.raises(ValueError, match=rf"`{name}` \(={ratio}\) must be at least 0 and below 1"):
        split_by_group(GROUPS, seed=0, **ratios)


def test_too_few_fields_are_refused_with_a_remedy_that_works():
    ratios = {"test_ratio": 0.3, "validation_ratio": 0.3, "seed": 0}
    with pytest.raises(
        ValueError, match=r"2 field\(s\).*at least 3 .* train, test, validation.*`test_set`"
    ):
        split_by_group(np.array([0, 0, 1]), **ratios)
    given = split_by_group(np.array([0, 0, 1]), **ratios | {"test_ratio": 0})
    assert set(given) == {"train", "validation"}
    with pytest.raises(
        ValueError, match=r"1 field\(s\).*at least 3.*of other fields \(`nuclei predict`"
    ):
        split_by_group(np.zeros(5, int), **ratios)
    with pytest.raises(ValueError, match=r"1 field\(s\).*at least 2"):
        split_by_group(np.zeros(5, int), **ratios | {"validation_ratio": 0})
    with pytest.raises(ValueError, match=r"0 field\(s\).* beside the 2 image\(s\) kept back"):
        split_by_group(np.arange(2), settled=["test", "test"], **ratios)


def test_leaking_share_counts_images_with_a_sibling_in_training():
    groups = [0, 0, 1, 1, 2, 3]
    split = ["train", "test", "validation", "test", "test", "train"]
    assert leaking_share(split, groups) == pytest.approx(1 / 3)
    assert leaking_share(["train"] * 6, groups) == 0


# A test set of its own ------------------------------------------------------------------------

IDS = [f"image{number:03d}" for number in range(len(GROUPS))]
TEST_IDS = np.random.default_rng(3).choice(IDS, 12, replace=False)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("strata", [None, STRATA])
def test_a_test_set_takes_its_images_and_keeps_their_fields_from_training(seed, strata):
    tested = np.isin(IDS, TEST_IDS)
    settled = keep_back(GROUPS, IDS, tested=tested)
    split = split_by_group(
        GROUPS, test_ratio=0.2, validation_ratio=0.25, seed=seed, strata=strata, settled=settled
    )
    assert np.array_equal(split == "test", tested)
    touched = np.isin(GROUPS, GROUPS[tested])
    assert set(split[touched & ~tested]) == {"left out"}
    assert set(split[~touched]) == {"train", "validation"}
    assert pd.Series(split[~touched]).groupby(GROUPS[~touched]).nunique().max() == 1
    n_validation = (split == "validation").sum()
    assert abs(n_validation - 0.25 * (~touched).sum()) <= 4


def test_images_left_out_by_hand_are_on_no_side_and_the_test_is_drawn_as_ever():
    names = ["image0", "image01", "image02", "other", "some"]
    settled = keep_back(np.arange(5), names, left_out=["image0", "oth"])  # an id, a beginning
    assert settled.tolist() == ["left out", "", "", "left out", ""]
    of_two = keep_back(np.arange(2), ["a-other", "b-some"], left_out=["some"])
    assert of_two.tolist() == ["", "left out"]
    split = split_by_group(
        np.arange(5), test_ratio=0.3, validation_ratio=0.3, seed=0, settled=settled
    )
    assert split[[0, 3]].tolist() == ["left out"] * 2
    assert sorted(split[[1, 2, 4]]) == sorted(SPLIT_NAMES)


def test_an_image_left_out_by_hand_is_not_tested_and_keeps_its_field_back():
    settled = keep_back([0, 0, 1, 2], list("abcd"), tested=[1, 0, 1, 0], left_out=["a"])
    assert settled.tolist() == ["left out", "left out", "test", ""]


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("b", "'b' begins no id; give an id, or a beginning"),
        ("im", "'im' begins 5 ids, 'ima', 'imb', 'imc', ...; give"),
        ("", "'' begins 6 ids"),
    ],
)
def test_a_beginning_of_no_id_or_of_several_is_refused(left_out, message):
    names = ["ima", "imb", "imc", "imd", "ime", "a"]
    with pytest.raises(ValueError, match=message):
        keep_back(np.arange(6), names, left_out=["a", left_out])


def test_what_is_named_test_or_validation_is_never_trained_on():
    groups, parts = [0, 0, 1, 2, 2, 3], ["train", "test", "train", "validation", "train", "train"]
    settled = keep_back(groups, list("abcdef"), parts)
    assert settled.tolist() == ["left out", "test", "", "validation", "", ""]
    split = split_by_group(groups, test_ratio=0.4, validation_ratio=0.4, seed=0, settled=settled)
    assert split.tolist() == ["left out", "test", "train", "validation", "train", "train"]


def labelled_files(numbers, folder=""):
    """Files of images in the layout images/ and masks/, by name, with one nucleus each."""
    return {
        f"{folder}{kind}/img{number}.png": png(array)
        for number, image in numbers
        for kind, array in (("images", some_image(image)), ("masks", box(3, 4, 8, 9)))
    }


def split_of(data, tests=None):
    """Sides by id, as notebook 01 settles and draws them."""
    tested = None if tests is None else match_pixels(data.images, tests.images) >= 0
    groups = np.arange(len(data))
    settled = keep_back(groups, data.ids, data.table["part"], tested=tested)
    test_ratio = 0.2 if tests is None else 0
    ratios = {"test_ratio": test_ratio, "validation_ratio": 0.2, "seed": 0}
    return dict(zip(data.ids, split_by_group(groups, settled=settled, **ratios), strict=True))


def find_tested(sides):
    return {name for name, side in sides.items() if side == "test"}


def test_a_labelled_folder_named_test_is_the_test(write_set, read):
    train, test = [(n, n) for n in range(6)], [(n, n) for n in range(6, 9)]
    files = labelled_files(train, "train/") | labelled_files(test, "test/")
    sides = split_of(read(write_set(files)))
    assert find_tested(sides) == {"img6", "img7", "img8"}
    assert set(sides.values()) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("numbers", "tested"),
    [
        ([(0, 20), (1, 21), (2, 22)], set()),  # our names, other pixels
        ([(40, 20), (41, 21), (42, 22)], set()),
        ([(40, 2), (41, 5)], {"img2", "img5"}),  # our pixels under other names
    ],
)
def test_a_test_set_is_known_by_its_pixels(write_set, read, numbers, tested):
    data = read(write_set(labelled_files([(n, n) for n in range(6)]), "ours"))
    sides = split_of(data, read(write_set(labelled_files(numbers), "other")))
    assert find_tested(sides) == tested and len(sides) == 6
    assert {side for name, side in sides.items() if name not in tested} == {"train", "validation"}


def test_a_group_that_is_tested_in_part_and_trained_in_part_is_refused():
    ratios = {"test_ratio": 0.2, "validation_ratio": 0, "seed": 0}
    with pytest.raises(ValueError, match=r"tests a part of 1 group\(s\), e\.g\. of group 4"):
        split_by_group([4, 4, 5], settled=["test", "", ""], **ratios)
    with pytest.raises(ValueError, match="`settled` has 2 entries for 3 images"):
        split_by_group([4, 4, 5], settled=["test", "left out"], **ratios)


# The real images ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalogue(dsb2018):
    return pd.read_csv(dsb2018 / "catalogue.csv")


@pytest.fixture(scope="module")
def real_data(dsb2018, catalogue):
    data = read_data_set(dsb2018 / "stage1_train.zip")
    return data.select([data.ids.index(name) for name in catalogue["image_id"]])


@pytest.fixture(scope="module")
def real_groups(real_data):
    return find_groups(real_data.images)


def quadrants_of(catalogue):
    """Mosaic of every image that is a quadrant of one, a number of its own for the others."""
    of_four = catalogue.groupby("mosaic")["mosaic"].transform("size") == 4
    return np.where(of_four, catalogue["mosaic"], -1 - np.arange(len(catalogue)))


def test_published_mosaics_are_found_and_not_glued_together(catalogue, real_groups):
    mosaics = quadrants_of(catalogue)
    first, second = np.triu_indices(len(mosaics), 1)
    siblings = mosaics[first] == mosaics[second]
    assert siblings.sum() == 76 * 6
    assert (real_groups[first] == real_groups[second])[siblings].mean() > 0.97
    assert np.bincount(real_groups).max() <= 12 and len(np.unique(real_groups)) > 220
    assert catalogue.groupby(real_groups)["modality"].nunique().max() == 1


def test_a_random_split_of_the_real_set_leaks(catalogue, real_groups):
    mosaics = quadrants_of(catalogue)
    drawn = [np.random.default_rng(seed).random(len(mosaics)) for seed in range(50)]
    splits = [np.where(values < 0.1, "test", "train") for values in drawn]
    leaking = np.mean([leaking_share(split, mosaics) for split in splits])
    assert leaking == pytest.approx(0.45, abs=0.03)
    modalities = catalogue["modality"]
    split = split_by_group(
        real_groups, test_ratio=0.1, validation_ratio=0.1, seed=0, strata=modalities
    )
    assert leaking_share(split, mosaics) <= 0.05
    assert (split == "test").mean() == pytest.approx(0.1, abs=0.01)
    assert set(modalities[split == "test"]) == set(modalities) - {
        "pink_purple_tissue"
    }  # a single field


def test_stardists_test_images_have_no_published_sibling_in_training(
    dsb2018, catalogue, real_data, real_groups
):
    ids, tested = catalogue["image_id"].to_numpy(), catalogue["stardist_subset"] == "test"
    test_set = read_data_set(dsb2018 / "stardist_test.zip")
    same = match_pixels(real_data.images, test_set.images) >= 0
    np.testing.assert_array_equal(same, tested)
    missed = ["0b0d577159f0", "866a8cba7bfe"]  # of a published field whose seams are not found
    settled = keep_back(real_groups, ids, tested=same, left_out=missed)
    assert (settled == "test").sum() == 49
    assert (settled == "left out").sum() == 127 + 2
    split = split_by_group(
        real_groups, test_ratio=0.2, validation_ratio=0.1, seed=0, settled=settled,
        strata=catalogue["modality"],
    )  # fmt: skip
    learnt_from = np.isin(split, ["train", "validation"])
    assert learnt_from.sum() == 486
    assert not set(catalogue["mosaic"][tested].dropna()) & set(catalogue["mosaic"][learnt_from])
    assert not set(real_groups[tested]) & set(real_groups[learnt_from])


def test_a_modality_can_be_kept_for_the_test_alone_or_beside_a_test_set():
    groups, strata = np.repeat(np.arange(12), 3), np.repeat(["a", "b", "c"], 12)
    ratios = {"test_ratio": 0.2, "validation_ratio": 0.2, "seed": 3, "strata": strata}
    plain = split_by_group(groups, **ratios)
    kept = split_by_group(groups, test_modalities=["b"], **ratios)
    assert set(kept[strata == "b"]) == {"test"}
    assert set(plain[strata == "b"]) == {"train", "validation", "test"}
    np.testing.assert_array_equal(kept[strata != "b"], plain[strata != "b"])
    settled = keep_back(groups, list(map(str, range(36))), tested=groups == 0)
    both = split_by_group(groups, test_modalities=["b"], settled=settled, **ratios)
    np.testing.assert_array_equal(both == "test", (groups == 0) | (strata == "b"))


@pytest.mark.parametrize(
    ("test_modalities", "message"),
    [(["d"], "'d', but no image is one; there are: a, b"), (["a", "b"], "every modality")],
)
def test_a_modality_that_cannot_be_kept_for_the_test_is_refused(test_modalities, message):
    groups, strata = np.arange(6), list("aaabbb")
    with pytest.raises(ValueError, match=message):
        split_by_group(
            groups, test_ratio=0.2, validation_ratio=0, seed=0, strata=strata,
            test_modalities=test_modalities,
        )  # fmt: skip
