import numpy as np
import pandas as pd
import pytest

from conftest import GLOWING, ROUND, STAINED, box, files_of, some_image
from helpers.analysis import describe
from helpers.data.data_set import read_data_set

LABELS = np.repeat(np.repeat(np.arange(9).reshape(3, 3) + 1, 32, 0), 32, 1) * ROUND


def test_the_sample_is_what_its_description_says():
    totals = describe.check_totals(read_data_set("sample"))
    assert totals.index.name == "embedded sample"
    assert (totals["agrees"].drop("nuclei") == "yes").all()


def test_the_bowl_is_recognised_by_its_ids_and_differences_are_said(read, write_set):
    files = files_of("a" * 64, some_image(), [box(2, 2, 5, 5)])
    totals = describe.check_totals(read(write_set(files)))
    assert "BBBC038" in totals.index.name
    assert totals.loc["images"].tolist() == [664, 1, "no"]


def test_other_data_have_no_description(read, write_set):
    files = files_of("mine", some_image(), [box(2, 2, 5, 5), box(12, 12, 4, 4)])
    totals = describe.check_totals(read(write_set(files)))
    assert totals.index.name == describe.NO_DESCRIPTION
    assert totals.loc["nuclei"].tolist() == ["unknown", 2, "-"]


def test_nuclei_by_image_even_where_there_are_none():
    labels = [None, np.zeros((4, 4), np.int32), np.kron([[1, 0], [0, 3]], np.ones((4, 4), int))]
    nuclei = describe.measure_nuclei(labels)
    assert nuclei["image"].tolist() == [2, 2] and nuclei["area_px"].tolist() == [16, 16]
    np.testing.assert_allclose(nuclei["diameter_px"], 4.5135, atol=1e-4)
    summary = describe.summarise_nuclei(nuclei, 3)
    assert summary["n"].tolist() == [0, 0, 2] and summary["median_px"].isna().tolist() == [1, 1, 0]
    assert describe.measure_nuclei([]).empty


def test_the_audit_counts_and_measures_by_modality():
    modalities = ["small_fluorescent", "small_fluorescent", "purple_tissue"]
    images, labels = [GLOWING, GLOWING, STAINED], [LABELS, None, LABELS]
    table = describe.audit_images(images, labels, modalities, [0, 0, 1])
    assert table.index.tolist() == ["small_fluorescent", "purple_tissue"]
    assert table["images"].tolist() == [2, 1] and table["fields"].tolist() == [1, 1]
    assert table["nuclei"].tolist() == [9, 9]
    diameter = np.sqrt(4 / np.pi * np.bincount(LABELS.ravel())[1:])
    assert table["median_px"].tolist() == pytest.approx([np.median(diameter)] * 2)
    nuclei, ground = STAINED[ROUND].mean(), STAINED[~ROUND].mean()
    contrasts = [110 / 130, (nuclei - ground) / (nuclei + ground)]
    assert table["contrast"].tolist() == pytest.approx(contrasts)
    assert table["contrast_guess"].tolist() == pytest.approx(contrasts)
    assert np.isnan(table["hue"].iloc[0]) and 240 < table["hue"].iloc[1] < 300


def test_without_masks_the_audit_says_what_it_cannot_know():
    modalities = ["small_fluorescent", "purple_tissue"]
    table = describe.audit_images([GLOWING, STAINED], [None] * 2, modalities, [0, 1])
    assert table[["nuclei", "median_px", "contrast"]].isna().all(axis=None)
    assert table["contrast_guess"].notna().all()
    assert any("darker part in 1 of 2 images" in line for line in describe.list_warnings(table))
    assert describe.list_warnings(describe.audit_images([], [], [], [])) == []


def test_hues_on_both_sides_of_red_do_not_average_to_cyan():
    reds = [np.full((8, 8, 3), colour, np.uint8) for colour in ((200, 100, 110), (200, 110, 100))]
    audit = describe.audit_images(reds, [None] * 2, ["purple_tissue"] * 2, [0, 1])
    hue = audit["hue"].iloc[0]
    assert min(hue, 360 - hue) < 1


def test_what_is_unequal_is_said_with_its_numbers():
    table = pd.DataFrame(
        {
            "images": [451, 4],
            "fields": [190, 1],
            "median_px": [15.0, 60.0],
            "contrast": [0.8, -0.1],
        },
        index=["small_fluorescent", "pink_purple_tissue"],
    ).assign(contrast_guess=np.nan)
    rare, single, polarity, size = describe.list_warnings(table)
    assert "4 of 455 images" in rare and "113 of small fluorescent" in rare
    assert "one field of view" in single and "darker part in 4 of 455" in polarity
    assert "4.0 times" in size
    assert describe.list_warnings(table.iloc[:1]) == []
