import json

import numpy as np
import pandas as pd
import pytest

from conftest import GLOWING, STAINED
from helpers.analysis.fields import find_groups
from helpers.analysis.out_of_distribution import Familiarity, measure_looks, read_familiarity
from helpers.data.data_set import read_data_set


@pytest.fixture(scope="module")
def sample():
    data = read_data_set("sample")
    return data, measure_looks(data.images), find_groups(data.images)


def test_a_training_image_is_at_no_distance_and_most_fields_are_usual(sample):
    _, looks, groups = sample
    known = Familiarity.fit_looks(looks, groups)
    assert known.distances(looks[:1]) == pytest.approx(0, abs=1e-9)
    far = []
    for group in np.unique(groups):
        others = Familiarity(looks[groups != group], known.limit)
        far.append(np.median(others.distances(looks[groups == group])) > 1)
    assert np.mean(far) <= 1.05 - 0.95


def test_a_modality_left_out_is_flagged(sample):
    data, looks, groups = sample
    tissue = np.array(["tissue" in name for name in data.ids])
    known = Familiarity.fit_looks(looks[~tissue], groups[~tissue])
    assert (known.distances(looks[tissue]) > 1).all()
    assert known.distance(data.images[int(np.flatnonzero(tissue)[0])]) > 1


def test_tiles_of_a_field_do_not_vouch_for_one_another(sample):
    looks = sample[1].iloc[[0, 0, 20]]
    as_fields = Familiarity.fit_looks(looks, [0, 1, 2])
    as_tiles = Familiarity.fit_looks(looks, [0, 0, 2])
    assert as_tiles.limit > as_fields.limit


@pytest.mark.parametrize("level", [0, 255])
def test_a_constant_image_has_a_distance(level):
    known = Familiarity.fit_looks(measure_looks([GLOWING, STAINED]), [0, 1])
    constant = measure_looks([np.full((40, 40), level, np.uint8)])
    assert np.isfinite(known.distances(constant)).all()


def test_familiarity_survives_a_file(sample, tmp_path):
    _, looks, groups = sample
    known = Familiarity.fit_looks(looks, groups)
    file = tmp_path / "out_of_distribution.json"
    file.write_text(json.dumps(known.to_json()))
    again = read_familiarity(file)
    np.testing.assert_allclose(
        again.distances(looks + 0.1), known.distances(looks + 0.1), atol=0.01
    )


def test_what_is_no_familiarity_is_refused(tmp_path):
    file = tmp_path / "out_of_distribution.json"
    for text in ("{", "[]", '{"limit": 1}'):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"out_of_distribution\.json"):
            read_familiarity(file)


def test_colours_are_judged_apart_from_brightness():
    tissue = np.full((40, 40, 3), (200, 120, 190), np.uint8)
    known = Familiarity.fit_looks(measure_looks([tissue, GLOWING]), [0, 0])
    known = Familiarity(known.looks, 0.12)
    assert known.warn_of_colours(measure_looks([tissue])) is None
    assert known.warn_of_colours(measure_looks([GLOWING // 3])) is None
    assert known.distance(GLOWING // 3) > 1
    brown = np.full((40, 40, 3), (190, 150, 90), np.uint8)
    assert "colours unlike those of the training images" in known.warn_of_colours(
        measure_looks([brown])
    )


def test_training_images_without_a_field_each_are_refused():
    with pytest.raises(ValueError, match="1 entries for 2 images"):
        Familiarity.fit_looks(measure_looks([GLOWING, STAINED]), [0])
    with pytest.raises(ValueError, match="at least one"):
        Familiarity.fit_looks(measure_looks([]), [])


def test_real_modalities_left_out_are_unfamiliar_and_the_guess_has_the_right_sign(dsb2018):
    catalogue = pd.read_csv(dsb2018 / "catalogue.csv")[::12]
    data = read_data_set(dsb2018 / "stage1_train.zip")
    images = data.select([data.ids.index(name) for name in catalogue["image_id"]]).images
    tissue = catalogue["modality"].str.contains("tissue").to_numpy()
    looks = measure_looks(images)
    assert ((looks["contrast"] < 0) == tissue).mean() > 0.97
    groups = pd.factorize(catalogue["leak_group"])[0]
    known = Familiarity.fit_looks(looks[~tissue], groups[~tissue])
    assert (known.distances(looks[tissue]) > 1).all()
