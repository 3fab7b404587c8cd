import numpy as np
import pytest

from conftest import box, files_of, some_image
from helpers.analysis import describe
from helpers.data.data_set import read_data_set


@pytest.fixture
def read(write_set):
    return lambda files: read_data_set(write_set(files), cache_dir=write_set({}, "cache"))


def test_the_sample_is_what_its_description_says():
    totals = describe.check_totals(read_data_set("sample"))
    assert totals.index.name == "embedded sample"
    assert (totals["agrees"].drop("nuclei") == "yes").all()


def test_the_bowl_is_recognised_by_its_ids_and_differences_are_said(read):
    totals = describe.check_totals(read(files_of("a" * 64, some_image(), [box(2, 2, 5, 5)])))
    assert "BBBC038" in totals.index.name
    assert totals.loc["images"].tolist() == [664, 1, "no"]


def test_the_real_set_is_what_is_published_of_it(dsb2018):
    totals = describe.check_totals(read_data_set(dsb2018 / "stage1_train.zip"))
    assert (totals["agrees"] == "yes").all() and len(totals) == 4


def test_other_data_have_no_description(read):
    totals = describe.check_totals(
        read(files_of("mine", some_image(), [box(2, 2, 5, 5), box(12, 12, 4, 4)]))
    )
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
