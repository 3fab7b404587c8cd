import json

import numpy as np
import pandas as pd
import pytest
import tifffile

from conftest import box, files_of, png, some_image
from helpers.analysis import audit
from helpers.analysis import modality as modality
from helpers.analysis.audit import predict_failures
from helpers.analysis.fields import find_groups
from helpers.analysis.out_of_distribution import (
    Familiarity,
    leave_out,
    measure_looks,
    read_familiarity,
)
from helpers.data.data_set import read_data_set

ROUND = np.hypot(*(np.indices((96, 96)) % 32 - 16)) < 8
LABELS = np.repeat(np.repeat(np.arange(9).reshape(3, 3) + 1, 32, 0), 32, 1) * ROUND
GLOWING = np.where(ROUND, 120, 10).astype(np.uint8)
STAINED = np.where(ROUND[..., None], (90, 40, 130), (210, 170, 220)).astype(np.uint8)


@pytest.fixture(scope="module")
def sample():
    data = read_data_set("sample")
    return data, measure_looks(data.images), find_groups(data.images)


def test_the_guess_is_the_rarer_side_whatever_the_polarity_and_depth():
    for image in (GLOWING, 255 - GLOWING, STAINED, GLOWING.astype(np.uint16) * 200):
        np.testing.assert_array_equal(modality.guess_nuclei(image), ROUND)
    assert not modality.guess_nuclei(np.full((9, 9), 7, np.uint8)).any()


def test_hue_is_an_angle_and_gray_has_none():
    colours = {0: (90, 0, 0), 120: (0, 90, 0), 240: (0, 0, 90), 300: (90, 0, 90)}
    for hue, colour in colours.items():
        image = np.full((4, 4, 3), colour, np.uint8)
        assert modality.measure_hue(image) == pytest.approx(hue)
    assert np.isnan(modality.measure_hue(GLOWING))
    assert np.isnan(modality.measure_hue(np.full((4, 4, 3), (90, 91, 92), np.uint8)))


def test_the_audit_counts_and_measures_by_kind():
    table = audit.audit_images([GLOWING, GLOWING, STAINED], [LABELS, None, LABELS])
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
    table = audit.audit_images([GLOWING, STAINED])
    assert table[["nuclei", "median_px", "contrast"]].isna().all(axis=None)
    assert table["contrast_guess"].notna().all()
    assert any("darker part in 1 of 2 images" in line for line in audit.list_warnings(table))
    assert audit.list_warnings(audit.audit_images([])) == []


def test_hues_on_both_sides_of_red_do_not_average_to_cyan():
    reds = [np.full((8, 8, 3), colour, np.uint8) for colour in ((200, 100, 110), (200, 110, 100))]
    hue = audit.audit_images(reds, modalities=["purple_tissue"] * 2, groups=[0, 1])["hue"].iloc[0]
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
    rare, single, polarity, size = audit.list_warnings(table)
    assert "4 of 455 images" in rare and "113 of small fluorescent" in rare
    assert "one field of view" in single and "darker part in 4 of 455" in polarity
    assert "4.0 times" in size
    assert audit.list_warnings(table.iloc[:1]) == []


def test_a_kind_that_brightness_does_not_show_is_predicted_to_fail():
    debris = np.indices(ROUND.shape)[1] < 20
    hidden = np.where(debris, 250, GLOWING // 4).astype(np.uint8)
    modalities = ["small_fluorescent", "small_fluorescent", "grayscale_tissue", "grayscale_tissue"]
    images = [GLOWING, GLOWING, hidden, hidden]
    table = predict_failures(images, [LABELS] * 4, modalities, [0, 0, 1, 2])
    assert table.index.tolist() == ["grayscale_tissue", "small_fluorescent"]
    assert table["fails"].tolist() == [True, False]
    assert table["threshold_iou"].iloc[1] == 1 and table["risk"].iloc[1] == 0
    assert table["rank"].tolist() == [1, 2] and table["rarity_rank"].tolist() == [2, 1]


def test_a_training_image_is_at_no_distance_and_most_fields_are_usual(sample):
    data, looks, groups = sample
    known = Familiarity.fit_looks(looks, groups)
    assert known.distance(data.images[0]) == pytest.approx(0, abs=1e-9)
    far = []
    for group in np.unique(groups):
        others = Familiarity(looks[groups != group], known.limit)
        far.append(np.median(others.distances(looks[groups == group])) > 1)
    assert np.mean(far) <= 1.05 - 0.95


def test_a_kind_left_out_is_flagged(sample):
    data, looks, groups = sample
    tissue = np.array(["tissue" in name for name in data.ids])
    known = Familiarity.fit_looks(looks[~tissue], groups[~tissue])
    assert (known.distances(looks[tissue]) > 1).all()
    message = known.warn(data.images[int(np.flatnonzero(tissue)[0])])
    assert "unlike the training images" in message and "most of all in contrast" in message
    assert known.warn(data.images[int(np.flatnonzero(~tissue)[0])]) is None


def test_left_out_kinds_are_farther_than_left_out_fields(sample):
    data, looks, groups = sample
    modalities = [name[7:-3] for name in data.ids]
    table = leave_out(looks, modalities, groups)
    far = (
        (table["distance"] > 1).groupby([table["trained_on"], table["modality"]]).mean().unstack(0)
    )
    assert (far["all but its modality"] == 1).all()
    assert far["all but its field"].drop("pink_purple_tissue").max() < 0.5
    assert set(leave_out(looks, ["small_fluorescent"] * 40, groups)["trained_on"]) == {
        "all but its field"
    }
    assert leave_out(looks[:2], modalities[:2], [0, 1]).empty


def test_tiles_of_a_field_do_not_vouch_for_one_another(sample):
    looks = sample[1].iloc[[0, 0, 20]]
    as_fields = Familiarity.fit_looks(looks, [0, 1, 2])
    as_tiles = Familiarity.fit_looks(looks, [0, 0, 2])
    assert as_tiles.limit > as_fields.limit


def test_depth_does_not_matter():
    images = [GLOWING, STAINED]
    deep = [image.astype(np.uint16) * 257 for image in images]
    known = Familiarity.fit(images, [0, 1])
    full = [np.where(image == 120, 255, image).astype(np.uint8) for image in images]
    np.testing.assert_allclose(measure_looks(deep)["contrast"], measure_looks(images)["contrast"])
    assert known.distance(full[1].astype(np.uint16) * 257) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("level", [0, 255])
def test_a_constant_image_has_a_distance(level):
    known = Familiarity.fit([GLOWING, STAINED], [0, 1])
    assert np.isfinite(known.distance(np.full((40, 40), level, np.uint8)))


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
    with pytest.raises(
        FileNotFoundError, match=r"out_of_distribution.json' does not exist.*notebook 02"
    ):
        read_familiarity(file)
    for text in ("{", "[]", '{"limit": 1}'):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"familiarity\.json"):
            read_familiarity(file)


def test_a_single_field_knows_only_its_likes():
    known = Familiarity.fit([GLOWING, GLOWING // 2], [0, 0])
    assert known.warn(GLOWING) is None and known.warn(STAINED) is not None


def test_training_images_without_a_field_each_are_refused():
    with pytest.raises(ValueError, match="1 entries for 2 images"):
        Familiarity.fit([GLOWING, STAINED], [0])
    with pytest.raises(ValueError, match="holds no images"):
        Familiarity.fit([], [])


def test_a_plain_folder_is_audited_and_strangers_are_named(tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(GLOWING))
    (folder / "._a.png").write_bytes(b"of an operating system")
    (folder / "notes.txt").write_text("no image")
    tifffile.imwrite(folder / "b.TIF", STAINED)
    file = tmp_path / "out_of_distribution.json"
    dark = [GLOWING, GLOWING // 2]
    file.write_text(json.dumps(Familiarity.fit(dark, [0, 1]).to_json()))
    assert audit.main([str(folder), "--familiarity", str(file)]) == 0
    said = capsys.readouterr().out
    assert "small_fluorescent" in said and "purple_tissue" in said
    assert "unfamiliar: 1 of 2 images\n- b.TIF: unlike the training images" in said


def test_a_data_set_is_audited_with_its_masks(write_set, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(audit, "read_data_set", _with_cache(tmp_path / "cache"))
    files = files_of("x", some_image(), [box(2, 2, 5, 5)])
    for packed in (False, True):
        assert audit.main([str(write_set(files, packed=packed))]) == 0
        assert "nuclei" in capsys.readouterr().out


def _with_cache(folder):
    return lambda location, faults: read_data_set(location, faults=faults, cache_dir=folder)


def test_bad_locations_end_with_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(audit, "read_data_set", _with_cache(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"nothing")
    (tmp_path / "file.zip").write_bytes(b"nothing")
    cases = {
        "nowhere": "does not exist",
        "empty": "no images in",
        "broken": "a.png' is unreadable",
        "file.zip": "not a zip archive",
    }
    for name, message in cases.items():
        assert audit.main([str(tmp_path / name)]) == 1
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
    assert audit.main(["sample", "--familiarity", str(tmp_path / "none.json")]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_real_kinds_left_out_are_unfamiliar_and_the_guess_has_the_right_sign(dsb2018, tmp_path):
    import io
    import zipfile

    from PIL import Image

    catalogue = pd.read_csv(dsb2018 / "catalogue.csv")[::12]
    with zipfile.ZipFile(dsb2018 / "stage1_train_compact.zip") as archive:
        images = [
            np.asarray(Image.open(io.BytesIO(archive.read(f"images/{name}.png"))))
            for name in catalogue["image_id"]
        ]
    tissue = catalogue["modality"].str.contains("tissue").to_numpy()
    looks = measure_looks(images)
    assert ((looks["contrast"] < 0) == tissue).mean() > 0.97
    groups = pd.factorize(catalogue["leak_group"])[0]
    known = Familiarity.fit_looks(looks[~tissue], groups[~tissue])
    assert (known.distances(looks[tissue]) > 1).all()
