import numpy as np
import pandas as pd
import pytest

from conftest import box, files_of, some_image
from helpers.analysis import describe
from helpers.analysis import modality as modality
from helpers.analysis.fields import assemble_field, choose_field, place_tiles
from helpers.analysis.modality import MODALITIES
from helpers.analysis.splits import compare_leaks
from helpers.data.data_set import read_data_set


def test_the_sample_is_what_its_description_says():
    totals = describe.check_totals(read_data_set("sample"))
    assert totals.index.name == "embedded sample"
    assert (totals["agrees"].drop("nuclei") == "yes").all()


def test_the_bowl_is_recognised_by_its_ids_and_differences_are_told(write_set):
    files = files_of("a" * 64, some_image(), [box(2, 2, 5, 5)])
    totals = describe.check_totals(
        read_data_set(write_set(files), cache_dir=write_set({}, "cache"))
    )
    assert "BBBC038" in totals.index.name
    assert totals.loc["images"].tolist() == [664, 1, "no"]


def test_other_data_have_no_description(write_set):
    files = files_of("mine", some_image(), [box(2, 2, 5, 5), box(12, 12, 4, 4)])
    totals = describe.check_totals(
        read_data_set(write_set(files), cache_dir=write_set({}, "cache"))
    )
    assert totals.index.name == describe.NO_DESCRIPTION
    assert totals.loc["nuclei"].tolist() == ["unknown", 2, "-"]


def test_sizes_are_counted():
    table = pd.DataFrame(
        {"height": [8, 8, 4], "width": [9, 9, 4], "channels": [1, 1, 4], "dtype": "uint8"}
    )
    assert describe.count_sizes(table)["images"].tolist() == [2, 1]


def test_intensities_stay_in_the_unit_of_the_file():
    images = [np.full((9, 9), 4000, np.uint16), np.full((9, 9, 3), [0, 30, 60], np.uint8)]
    assert describe.measure_intensities(images)["median"].tolist() == [4000, 30]


def test_nuclei_by_image_even_where_there_are_none():
    labels = [None, np.zeros((4, 4), np.int32), np.kron([[1, 0], [0, 3]], np.ones((4, 4), int))]
    nuclei = describe.measure_nuclei(labels)
    assert nuclei["image"].tolist() == [2, 2] and nuclei["area_px"].tolist() == [16, 16]
    np.testing.assert_allclose(nuclei["diameter_px"], 4.5135, atol=1e-4)
    summary = describe.summarise_nuclei(nuclei, 3)
    assert summary["n"].tolist() == [0, 0, 2] and summary["median_px"].isna().tolist() == [1, 1, 0]
    assert describe.measure_nuclei([]).empty


def test_contrast_has_the_sign_of_the_polarity():
    labels = np.kron([[1, 0]], np.ones((4, 4), int))
    bright = np.where(labels > 0, 150, 50).astype(np.uint8)
    images = [bright, 200 - bright, np.stack([bright] * 3, axis=2), bright, bright]
    measured = modality.measure_contrast(images, [labels, labels, labels, None, 0 * labels])
    np.testing.assert_allclose(measured["contrast"], [0.5, -0.5, 0.5, np.nan, np.nan])
    np.testing.assert_allclose(measured["foreground"], [0.5, 0.5, 0.5, np.nan, 0])


def test_known_kinds_come_from_a_catalogue_or_the_sample(tmp_path):
    file = tmp_path / "known.csv"
    pd.DataFrame({"image_id": ["b", "a"], "modality": [MODALITIES[1], MODALITIES[0]]}).to_csv(file)
    known = modality.read_known_modalities(["a", "b", "c"], str(file))
    assert known.tolist()[:2] == [MODALITIES[0], MODALITIES[1]] and known.isna().tolist() == [
        0,
        0,
        1,
    ]
    assert modality.read_known_modalities(["sample_purple_tissue_00"])[0] == "purple_tissue"
    table = modality.compare_modalities(pd.Series([MODALITIES[0]] * 3), known)
    assert table.to_numpy().tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize(
    ("column", "modality"), [("modality", MODALITIES[0]), ("modality", "brightfield")]
)
def test_a_catalogue_that_cannot_be_used_is_refused(tmp_path, column, modality):
    file = tmp_path / "known.csv"
    pd.DataFrame({"image_id": ["a"], column: [modality]}).to_csv(file)
    with pytest.raises(ValueError, match="`catalogue`"):
        modality.read_known_modalities(["a"], str(file))


def test_kinds_are_weighed_by_images_nuclei_and_pixels():
    data = read_data_set("sample")
    modalities = [name[7:-3] for name in data.ids]
    sums = modality.measure_modalities(data, modalities)
    assert sums["images"].tolist() == [16, 8, 8, 4, 4]
    assert sums["nuclei"].sum() == data.table["n_nuclei"].sum()
    assert (sums["nucleus pixels"] < sums["pixels"]).all()


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


def test_a_contradicting_seam_is_passed_over():
    false = pd.DataFrame({"i": [0, 0], "j": [1, 2], "side": ["right", "right"]})
    assert place_tiles(false, 0) == {0: (0, 0), 1: (0, 1)}


def test_the_best_proven_field_is_chosen_and_put_together():
    groups = np.array([0, 0, 0, 0, 1, 1, 2])
    assert choose_field(SEAMS, groups) == 0
    assert choose_field(SEAMS[:0], groups) is None
    field = np.arange(48, dtype=np.uint8).reshape(6, 8)
    tiles = [field[:3, :5], field[:3, 5:], field[3:, :5], field[3:, 5:]]
    whole = assemble_field(tiles, place_tiles(SEAMS, 0))
    np.testing.assert_allclose(whole * 255, field)
    assert assemble_field(tiles, place_tiles(SEAMS, 0), gap_px=2).shape == (8, 10)


def test_grouped_splits_never_leak():
    groups = np.repeat(np.arange(10), 4)
    leaks = compare_leaks(groups, test_ratio=0.2, seeds=range(5), strata=[MODALITIES[0]] * 40)
    means = leaks.groupby("split")["leaking"].mean()
    assert means["grouped"] == 0 and means["random"] > 0.5
