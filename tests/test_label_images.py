import io
import zipfile

import numpy as np
import pytest
import tifffile

from conftest import box, files_of, png, some_image, tiff
from helpers.data import layout
from helpers.data.problems import DataFaultError
from helpers.data.source import Source


def numbered(first=1, second=2, dtype=np.uint16, shape=(24, 32)):
    """A label image of two nuclei."""
    labels = np.zeros(shape, dtype)
    labels[2:6, 2:7] = first
    labels[6:9, 2:7] = second
    return labels


def pictures(names="ab", folder="", labels="masks", save=png, suffix="png"):
    """The files of pictures and their label images, bytes by name."""
    files = {}
    for number, name in enumerate(names):
        files[f"{folder}images/{name}.{suffix}"] = save(some_image(number))
        if labels:
            files[f"{folder}{labels}/{name}.{suffix}"] = save(numbered())
    return files


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("labels", ["masks", "labels"])
@pytest.mark.parametrize("enclosing", ["", "outer/"])
@pytest.mark.parametrize(("part", "named"), [("", "train"), ("train/", "train"), ("test/", "test")])
def test_pictures_with_label_images_are_read(
    read, write_set, packed, labels, enclosing, part, named
):
    path = write_set(pictures("ab", enclosing + part, labels, tiff, "tif"), packed=packed)
    found = read(path)
    assert found.ids == ["a", "b"]
    assert set(found.table["part"]) == {named}
    assert found.labelled.ids == ["a", "b"]
    assert found.table["n_nuclei"].tolist() == [2, 2]
    assert found.faults.empty
    np.testing.assert_array_equal(found.images[1], some_image(1))
    np.testing.assert_array_equal(found.labels[1], numbered())
    assert read(path).table.equals(found.table), "from the cache"


def test_loose_files_do_not_hide_images_with_folders_of_their_own(read, write_set):
    images = files_of("a", some_image(1), [box(0, 0, 4, 4)]) | files_of(
        "b", some_image(2), [box(0, 0, 2, 2)]
    )
    loose = {"masks/a.png": png(numbered()), "a/labels/a.png": png(numbered())}
    found = read(write_set(images | loose, packed=True))
    assert found.ids == ["a", "b"]
    assert found.table["n_nuclei"].tolist() == [1, 1]
    assert found.faults["detail"].tolist() == ["a/labels/a.png", "masks/a.png"]


# Numbers


@pytest.mark.parametrize("save", [png, tiff])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_numbers_keep_their_order_and_lose_their_gaps(read, write_set, save, dtype):
    most = np.iinfo(dtype).max
    files = {"images/a.png": png(some_image()), "labels/a.png": save(numbered(most, 7, dtype))}
    found = read(write_set(files))
    np.testing.assert_array_equal(found.labels[0], numbered(2, 1))
    assert found.faults.empty
    assert found.table["n_nuclei"].tolist() == [2]


# Faults


def without(name):
    return {key: content for key, content in pictures("ab").items() if key != name}


GRAVE_CASES = {
    "no image file": without("images/b.png"),
    "several image files": pictures("ab") | {"images/b.tif": tiff(some_image(1))},
    "unreadable image": pictures("ab") | {"images/b.png": png(some_image(1))[:60]},
    "no masks": without("masks/b.png"),
    "several label images": pictures("ab") | {"labels/b.png": png(numbered())},
    "unreadable mask": pictures("ab") | {"masks/b.png": png(numbered())[:60]},
    "mask of another size": pictures("ab") | {"masks/b.png": png(numbered(shape=(24, 31)))},
}


@pytest.mark.parametrize("folder", ["", "test/"])
@pytest.mark.parametrize("fault", GRAVE_CASES)
def test_grave_faults_are_refused_or_skipped(read, write_set, fault, folder):
    files = {folder + name: content for name, content in GRAVE_CASES[fault].items()}
    path = write_set(files)
    with pytest.raises(DataFaultError, match=rf"1 of 2 images (.|\n)*{fault}(.|\n)*skip") as caught:
        read(path)
    assert caught.value.faults[["fault", "id"]].to_numpy().tolist() == [[fault, "b"]]
    with pytest.warns(UserWarning, match=f"1 of 2 images .* skipped .*{fault}"):
        assert read(path, faults="skip").ids == ["a"]


def test_a_stack_among_the_images_has_a_remedy_that_a_data_set_has(read, write_set):
    stack = np.stack([some_image(n) for n in range(5)])
    with pytest.raises(
        DataFaultError, match=r"5 planes .*; save the one with the nuclei"
    ) as caught:
        read(write_set(pictures("ab") | {"images/b.png": tiff(stack)}))
    assert "`plane`" not in str(caught.value)


def test_a_mask_is_one_nucleus_and_noted_where_it_looks_like_many(read, write_set):
    whole = box(2, 2, 5, 5) + box(7, 7, 3, 3)  # corner to corner
    pieces = box(2, 2, 5, 5) + box(12, 12, 3, 3)
    labels = {"whole": whole, "pieces": pieces, "one": box(1, 1, 2, 2, value=1)}
    files = {}
    for number, (name, array) in enumerate(labels.items()):
        files |= {f"images/{name}.png": png(some_image(number)), f"masks/{name}.png": png(array)}
    found = read(write_set(files))
    assert found.table["n_nuclei"].tolist() == [1, 1, 1]
    assert found.faults["fault"].tolist() == ["label image of one value"]
    assert found.faults["id"].tolist() == ["pieces"]
    assert found.faults["action"].tolist() == ["kept"]
    assert found.faults["detail"].tolist() == ["masks/pieces.png: 255, in 2 pieces"]


def test_an_empty_label_image_is_an_image_without_nuclei(read, write_set):
    files = pictures("ab") | {"masks/b.png": png(np.zeros((24, 32), np.uint16))}
    found = read(write_set(files))
    assert found.table["n_nuclei"].tolist() == [2, 0]
    assert found.labelled.ids == ["a", "b"]
    assert found.faults[["fault", "id"]].to_numpy().tolist() == [["empty mask", "b"]]


# The real images


def test_the_test_set_of_stardist_is_read_as_it_is(dsb2018, read):
    found = read(dsb2018 / "stardist_test.zip")
    assert len(found.labelled) == 50
    assert set(found.table["part"]) == {"test"}
    assert found.table["n_nuclei"].sum() == 2460
    assert found.faults.empty
    for image, labels in zip(found.images, found.labels, strict=True):
        assert image.shape == labels.shape
    with Source(dsb2018 / "stage1_train.zip") as source:
        known = {entry.id for entry in layout.find_entries(source)[0]}
    assert len(known & set(found.ids)) == 49
    with zipfile.ZipFile(dsb2018 / "stardist_test.zip") as archive:
        stored = tifffile.imread(io.BytesIO(archive.read(f"test/masks/{found.ids[7]}.tif")))
    np.testing.assert_array_equal(found.labels[7], stored)
