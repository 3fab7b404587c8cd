import time
import warnings
import zipfile

import numpy as np
import pytest

from conftest import box, files_of, png, some_image
from helpers.data import data_set as data
from helpers.data.data_set import read_data_set
from helpers.data.problems import NOTED, DataFaultError, summarise_faults


def two_images(folder=""):
    masks = [box(0, 0, 4, 5), box(10, 10, 3, 3)]
    return files_of("a", some_image(1), masks, folder) | files_of(
        "b", some_image(2), [box(5, 5, 2, 2)], folder
    )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("enclosing", ["", "outer/"])
@pytest.mark.parametrize("train, test", [("train/", "test/"), ("stage1_train/", "stage1_test/")])
def test_layouts_with_both_parts(read, write_set, packed, enclosing, train, test):
    files = two_images(enclosing + train) | files_of("c", some_image(3), (), enclosing + test)
    found = read(write_set(files, packed=packed))
    assert found.ids == ["a", "b", "c"]
    assert found.table["part"].tolist() == ["train", "train", "test"]
    assert found.table["n_nuclei"].tolist() == [2, 1, 0]
    assert found.table["labelled"].tolist() == [True, True, False]
    assert found.labels[2] is None
    assert found.faults.empty
    np.testing.assert_array_equal(found.images[0], some_image(1))
    np.testing.assert_array_equal(
        found.labels[0], box(0, 0, 4, 5, value=1) + box(10, 10, 3, 3, value=2)
    )


@pytest.mark.parametrize("name", ["stage1_test", "mine"])
def test_images_without_any_masks_are_for_prediction_unless_named_training(read, write_set, name):
    files = files_of("a", some_image())
    found = read(write_set(files, name, packed=True))
    assert found.table["part"].tolist() == ["test"] and len(found.labelled) == 0
    with pytest.raises(DataFaultError, match="no masks"):
        read(write_set(files, "stage1_train"))


def test_a_folder_with_the_downloaded_archives(read, write_set):
    train = write_set(two_images(), "stage1_train", packed=True)
    write_set(files_of("c", some_image(3)), "stage1_test", packed=True)
    write_set(two_images(), "sample")
    found = read(train.parent)
    assert found.table["part"].tolist() == ["train", "train", "test"]
    write_set(two_images(), "stage1_train")
    with pytest.raises(ValueError, match=r"holds both stage1_train/ and stage1_train\.zip"):
        read(train.parent)


@pytest.mark.parametrize("packed", [False, True])
def test_files_of_the_system_are_passed_over_and_others_noted(read, write_set, packed):
    files = two_images() | {
        ".DS_Store": b"x",
        "a/.DS_Store": b"x",
        "a/masks/.DS_Store": b"x",
        "a/images/Thumbs.db": b"x",
        "__MACOSX/a/images/._a.png": b"x",
        "stage1_train_labels.csv": b"x",
    }
    found = read(write_set(files, packed=packed))
    assert found.ids == ["a", "b"]
    assert found.faults["detail"].tolist() == ["stage1_train_labels.csv"]
    assert found.faults["action"].tolist() == ["not read"]


def test_wrong_locations_say_what_is_allowed(read, write_set, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*does not exist(.|\n)*stage1_train/<id>"):
        read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"found 1 files, at its top 'notes.txt'(.|\n)*train/<id>"):
        read(write_set({"notes.txt": b"x"}, "other"))
    with pytest.raises(ValueError, match="neither a folder nor a zip archive"):
        read(write_set({"notes.txt": b"x"}, "text") / "notes.txt")
    with pytest.raises(ValueError, match="holds 2 data sets, in 'one', 'two'"):
        read(write_set(two_images("one/") | two_images("two/"), "several"))
    with pytest.raises(ValueError, match=r'`faults` .* must be one of "refuse", "skip"'):
        read(tmp_path, faults="ignore")


@pytest.mark.parametrize(
    "name",
    ["/a/images/a.png", "C:/a/images/a.png", "a/../../b/images/x.png", "..\\a\\images\\a.png"],
)
def test_unsafe_names_in_an_archive_are_refused(read, write_set, name):
    with pytest.raises(ValueError, match="unsafe name"):
        read(write_set({name: b""}, packed=True))


def test_a_name_twice_in_an_archive_is_refused(read, write_set):
    path = write_set(two_images(), packed=True)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("a/images/a.png", png(some_image()))
    with pytest.raises(ValueError, match="twice"):
        read(path)


GOOD = files_of("good", some_image(100), [box(0, 0, 4, 4)])
GRAVE_CASES = {
    "no image file": {"bad/masks/0.png": png(box(0, 0, 2, 2))},
    "several image files": files_of("bad", some_image(1), [box(0, 0, 2, 2)])
    | {"bad/images/other.png": png(some_image(2))},
    "unreadable image": files_of("bad", png(some_image(1))[:60], [box(0, 0, 2, 2)]),
    "no masks": files_of("bad", some_image(1)),
    "unreadable mask": files_of("bad", some_image(1), [b"", b"text", box(0, 0, 2, 2)]),
    "mask of another size": files_of("bad", some_image(1), [box(0, 0, 2, 2, shape=(24, 31))]),
    "overlapping masks": files_of("bad", some_image(1), [box(0, 0, 4, 4), box(2, 0, 4, 4)]),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("fault", GRAVE_CASES)
def test_grave_faults_are_refused_or_skipped(read, write_set, fault, packed):
    path = write_set(GOOD | GRAVE_CASES[fault], packed=packed)
    with pytest.raises(DataFaultError, match=rf"1 of 2 images (.|\n)*{fault}(.|\n)*skip") as caught:
        read(path)
    assert caught.value.faults["action"].tolist() == ["refused"]
    with pytest.warns(UserWarning, match=f"1 of 2 images .* skipped .*{fault}"):
        found = read(path, faults="skip")
    assert found.ids == ["good"]
    row = found.faults.iloc[0]
    assert (row["fault"], row["id"], row["action"]) == (fault, "bad", "skipped")
    assert row["count"] == {
        "unreadable mask": 2,
        "several image files": 2,
        "overlapping masks": 8,
        "no image file": 0,
    }.get(fault, 1)


def test_empty_folders_are_images_without_a_file(read, write_set):
    path = write_set(GOOD)
    (path / "bare").mkdir()
    (path / "half" / "images").mkdir(parents=True)
    with pytest.raises(DataFaultError) as caught:
        read(path)
    assert caught.value.faults["id"].tolist() == ["bare", "half"]
    assert set(caught.value.faults["fault"]) == {"no image file"}


def test_an_id_in_both_parts_counts_once(read, write_set):
    files = two_images("train/") | files_of("a", some_image(9), (), "test/")
    path = write_set(files)
    with pytest.raises(DataFaultError, match="duplicate id"):
        read(path)
    with pytest.warns(UserWarning, match="duplicate id"):
        found = read(path, faults="skip")
    assert found.table["part"].tolist() == ["train", "train"]
    assert found.faults["detail"].tolist() == ["in train and in test"]


def test_nothing_left_is_refused_even_when_skipping(read, write_set):
    with pytest.raises(DataFaultError, match="1 of 1 images"):
        read(write_set(files_of("a", b"no image", [box(0, 0, 2, 2)])), faults="skip")


def test_small_faults_are_noted_and_kept(read, write_set):
    several_values = box(12, 0, 6, 6) - box(12, 0, 3, 3, value=100)
    twice = [box(20, 20, 2, 2)] * 2
    masks = [box(0, 0, 6, 6), box(0, 0, 0, 0), box(5, 5, 6, 6), several_values, *twice]
    rgba = np.dstack([some_image(1)] * 3 + [np.full((24, 32), 255, np.uint8)])
    rgba[0, :3, 3] = 0
    files = files_of("a", rgba, masks) | files_of("b", some_image(1), [box(0, 0, 2, 2)])
    found = read(write_set(files))
    noted = found.faults.set_index("fault")
    elsewhere = {"file not in the layout", "label image of one value"}
    assert set(noted.index) == set(NOTED) - elsewhere
    assert set(noted["action"]) == {"kept"}
    assert noted.loc["small overlap", "count"] == 1 + 4
    assert noted.loc["transparent pixels", "count"] == 3
    assert noted.loc["identical pixels", ["id", "detail"]].tolist() == ["b", "same as a"]
    assert noted.loc["empty mask", "detail"].endswith("a/masks/01.png")
    assert found.table["n_nuclei"].tolist() == [4, 1]
    labels = found.labels[0]
    assert labels[5, 5] == 2  # the later mask
    assert np.unique(labels).tolist() == [0, 1, 2, 3, 4]
    assert summarise_faults(found.faults)["images"].tolist() == [1] * 6


def test_masks_are_numbered_by_file_name_not_by_their_order_in_the_archive(read, write_set):
    masks = {f"a/masks/{name}.png": png(box(row, 0, 1, 3)) for row, name in enumerate("cab")}
    found = read(write_set({"a/images/a.png": png(some_image())} | masks, packed=True))
    assert found.labels[0][:3, 0].tolist() == [3, 1, 2]


def test_chosen_images(read, write_set):
    found = read(write_set(two_images("train/") | files_of("c", some_image(3), (), "test/")))
    assert found.select([2, 0]).ids == ["c", "a"]
    assert found.select(found.table["n_nuclei"] == 1).ids == ["b"]
    assert len(found.select([])) == len(found.select([]).images) == 0
    with pytest.raises(ValueError, match=r"must be \(3,\)"):
        found.select([True, False])


# The cache


def count_reads(monkeypatch):
    calls = []
    original = data.read_entry
    monkeypatch.setattr(data, "read_entry", lambda *a: calls.append(a) or original(*a))
    return calls


@pytest.mark.parametrize("packed", [False, True])
def test_the_second_read_takes_the_cache_with_its_faults(read, write_set, monkeypatch, packed):
    path = write_set(two_images() | {"notes.txt": b"x"}, packed=packed)
    calls = count_reads(monkeypatch)
    first, second = read(path), read(path)
    assert len(calls) == 2
    assert first.key == second.key
    assert first.table.equals(second.table)
    assert first.faults.equals(second.faults)
    np.testing.assert_array_equal(first.labels[0], second.labels[0])


@pytest.mark.parametrize("packed", [False, True])
def test_a_changed_file_is_read_again(read, write_set, tmp_path, packed):
    files = two_images()
    path = write_set(files, packed=packed)
    before = read(path)
    if packed:
        path = write_set(files | files_of("b", some_image(5), [box(5, 5, 2, 2)]), packed=True)
    else:
        time.sleep(0.01)
        (path / "b/images/b.png").write_bytes(png(some_image(5)))
    after = read(path)
    assert before.key != after.key
    np.testing.assert_array_equal(after.images[1], some_image(5))


@pytest.mark.parametrize("damage", ["cut", "empty", "gone"])
def test_a_damaged_cache_is_built_again(read, write_set, monkeypatch, tmp_path, damage):
    path = write_set(two_images())
    read(path)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:-500] if damage == "cut" else b"")
    if damage == "gone":
        file.unlink()
    calls = count_reads(monkeypatch)
    np.testing.assert_array_equal(read(path).images[0], some_image(1))
    assert len(calls) == 2
    read(path)
    assert len(calls) == 2


# The sample and the real images


@pytest.mark.slow
def test_the_real_images_are_what_the_description_says(dsb2018):
    found = read_data_set(dsb2018 / "stage1_train.zip")
    assert len(found) == 664
    assert found.table["n_nuclei"].sum() == 28_986
    assert len(found.table.groupby(["height", "width"])) == 9
    assert sum(image.ndim == 2 for image in found.images) == 557
    assert (found.table["channels"] == 4).all()
    assert set(found.faults["fault"]) == {"small overlap"}
    assert found.faults["count"].sum() == 9
    start = time.process_time()
    read_data_set(dsb2018 / "stage1_train.zip")
    assert time.process_time() - start < 2  # of the processor: other programs may run beside
