"""Truth that is right in form and wrong in sense is said before training, with the way out."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from conftest import files_of, png, some_image
from helpers.data.problems import DataFaultError
from helpers.data.truth import separate
from helpers.run_folder import ROOT

SHAPE = (64, 64)


def discs(rng):
    """Label image of nine round nuclei that do not touch."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    labels = np.zeros(SHAPE, np.uint8)
    for number, (row, column) in enumerate(np.ndindex(3, 3), 1):
        centre = np.array([row, column]) * 20 + 12 + rng.uniform(-2, 2, 2)
        labels[np.hypot(y - centre[0], x - centre[1]) < 6] = number
    return labels


RNG = np.random.default_rng(0)
TRUTH = [discs(RNG) for _ in range(4)]


def pictures(masks, names="abcd", folder="", ending="png"):
    """The files of as many pictures and label images, bytes by name."""
    files = {}
    for number, (name, mask) in enumerate(zip(names, masks, strict=True)):
        files[f"{folder}images/{name}.png"] = png(some_image(number, SHAPE))
        files[f"{folder}masks/{name}.{ending}"] = mask if isinstance(mask, bytes) else png(mask)
    return files


def as_jpeg(mask):
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "JPEG", quality=60)
    return file.getvalue()


def two_valued(labels):
    return np.where(labels > 0, 255, 0).astype(np.uint8)


def blurred(labels):
    smooth = ndimage.gaussian_filter(two_valued(labels).astype(float), 1)
    return np.where(smooth < 3, 0, smooth).astype(np.uint8)


WRONG = {
    "two values": (two_valued, "number in several pieces", "components"),
    "classes": (lambda labels: (labels > 0) * (1 + labels % 2), "number in several", "components"),
    "faded": (blurred, "faded edges", "components"),
    "jpeg": (lambda labels: as_jpeg(two_valued(labels)), "unreadable mask", "components"),
    "reversed": (lambda labels: 255 - two_valued(labels), "ground as nucleus", "inverted"),
    "red": (lambda x: np.dstack([two_valued(x), 0 * x, 0 * x]), "number in several", "components"),
}


@pytest.mark.parametrize("name", WRONG)
def test_truth_without_sense_is_refused_and_has_a_way_out(read, write_set, name):
    spoil, fault, way = WRONG[name]
    path = write_set(pictures([spoil(labels) for labels in TRUTH]))
    with pytest.raises(DataFaultError, match=f"4 of 4 images(.|\n)*{fault}") as caught:
        read(path)
    assert set(caught.value.faults["action"]) == {"refused"}
    assert f"--masks {way}" in str(caught.value)
    found = read(path, masks=way)
    assert found.table["n_nuclei"].tolist() == [9] * 4
    for labels, truth in zip(found.labels, TRUTH, strict=True):
        assert ((labels > 0) == (truth > 0)).mean() > 0.98


def test_sound_truth_is_as_it_was_and_read_alike_in_pieces(read, write_set):
    path = write_set(pictures(TRUTH))
    sound = read(path)
    assert sound.faults.empty
    np.testing.assert_array_equal(sound.labels[0], TRUTH[0])
    assert read(path, masks="components").table["n_nuclei"].tolist() == [9] * 4


def test_one_nucleus_in_two_pieces_is_nothing_unusual(read, write_set):
    split = TRUTH[0].copy()
    split[np.flatnonzero((split == 5).any(axis=1))[5]] = 0  # a row of pixels through its middle
    found = read(write_set(pictures([split, *TRUTH[1:]])))
    assert found.table["n_nuclei"].tolist() == [9] * 4
    assert found.faults.empty


def test_one_wrong_mask_among_sound_ones_is_found(read, write_set):
    path = write_set(pictures([two_valued(TRUTH[0]), *TRUTH[1:]]))
    with pytest.warns(UserWarning, match="1 of 4 images .* .number in several pieces"):
        assert read(path, faults="skip").ids == ["b", "c", "d"]


def test_a_file_that_holds_all_nuclei_in_a_layout_of_a_file_each(read, write_set):
    files = {}
    for name, labels in zip("ab", TRUTH, strict=False):
        files |= files_of(name, some_image(ord(name), SHAPE), [two_valued(labels)])
    path = write_set(files)
    with pytest.raises(DataFaultError, match="9 pieces, 1 numbers"):
        read(path)
    assert read(path, masks="components").table["n_nuclei"].tolist() == [9, 9]


def test_no_nucleus_at_all_is_one_message(read, write_set):
    path = write_set(pictures([np.zeros(SHAPE, np.uint8)] * 4))
    for faults in ("refuse", "skip"):
        with pytest.raises(DataFaultError, match="none of the 4 images with masks"):
            read(path, faults=faults)


def test_pieces_of_one_number():
    labels = np.array([[1, 1, 0, 1], [2, 2, 0, 1], [0, 0, 0, 0], [1, 0, 0, 3], [0, 0, 0, 0]])
    expected = [[1, 1, 0, 2], [3, 3, 0, 2], [0, 0, 0, 0], [4, 0, 0, 5], [0, 0, 0, 0]]
    np.testing.assert_array_equal(separate(labels), expected)
    numbered = np.where(labels > 0, labels, 9)  # the ground has a number of its own
    np.testing.assert_array_equal(separate(numbered, invert=True) > 0, labels > 0)


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.replace("masks/a", "masks/a_mask").replace("masks/b", "masks/b-labels"),
        lambda name: name.replace("/", "\\"),
        lambda name: name.replace("images", "Images").replace("masks", "Mask"),
        lambda name: name.replace("images/", "images/images/").replace("masks/", "masks/masks/"),
        lambda name: name.replace("images/", "rawimages/").replace("masks/", "groundtruth/"),
        lambda name: (
            name.replace("images/", "x/") if "images" in name else f"x/{name[6]}_masks.png"
        ),
    ],
    ids=["suffix", "backslash", "upper case", "nested", "other words", "beside each other"],
)
def test_names_that_mean_the_same(read, write_set, rename, packed):
    files = {rename(name): content for name, content in pictures(TRUTH).items()}
    if not packed and any("\\" in name for name in files):
        pytest.skip("a backslash is part of a file's name, or parts folders already")
    found = read(write_set(files, packed=packed))
    assert found.ids == list("abcd")
    assert found.table["n_nuclei"].tolist() == [9] * 4
    assert found.faults.empty


def test_names_that_look_like_numbers_stay_text(read, write_set):
    names = ["001", "1e5", "NA", "nan"]
    path = write_set(pictures(TRUTH, names))
    assert read(path).ids == names
    assert read(path).table["id"].tolist() == names, "from the cache"


@pytest.mark.parametrize("kinds_first", [False, True])
def test_what_is_named_test_or_val_is_a_part_of_its_own(read, write_set, kinds_first):
    files = {}
    for part, name, labels in zip(("train", "val", "test"), "abc", TRUTH, strict=False):
        files |= pictures([labels], name, f"{part}/")
    if kinds_first:
        swap = {name: name.split("/") for name in files}
        files = {f"{kind}/{part}/{file}": files[n] for n, (part, kind, file) in swap.items()}
    found = read(write_set(files))
    assert found.ids == ["a", "b", "c"]
    assert found.table["part"].tolist() == ["train", "validation", "test"]
    assert found.table["labelled"].all()


def test_lists_of_names_make_parts_and_channels_numbers_as_in_bbbc039(read, write_set):
    files = {}
    for name, labels in zip("abcd", TRUTH, strict=True):
        red = np.dstack([1 + labels % 2, 0 * labels, 0 * labels, np.full_like(labels, 255)])
        red[labels == 0, 0] = 0
        files[f"images/{name}.png"] = png(some_image(ord(name), SHAPE))
        files[f"masks/masks/{name}.png"] = png(red)
    files["metadata/training.txt"] = b"a.png\nb.png\n"
    files["metadata/validation.txt"] = b"c.png\r\n"
    files["metadata/test.txt"] = b"d.png"
    found = read(write_set(files), masks="components")
    assert found.table["n_nuclei"].tolist() == [9] * 4
    assert found.table["part"].tolist() == ["train", "train", "validation", "test"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.png": b"", "annotations.json": b""}, "annotations in JSON, as COCO has them"),
        ({"a.png": b"", "RoiSet.zip": b""}, "regions of ImageJ"),
        ({"a.png": b"", "b.png": b""}, "images without a folder images/"),
    ],
)
def test_layouts_that_are_not_read_are_named(read, write_set, files, words):
    with pytest.raises(ValueError, match=f"{words}(.|\n)*Allowed(.|\n)*<id>_masks"):
        read(write_set(files))


def test_a_tar_archive_says_how_to_unpack_it(read, tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("images/a.png"))
    with pytest.raises(ValueError, match=r"tar archive; unpack it \(`tar -xf a.tar.gz`\)"):
        read(tmp_path / "a.tar.gz")


# ---------------------------------------------------------------- cases

CASES = ROOT.parent / "shared" / "cases" / "train"
CASE = {  # nuclei by the way that they are read, or the fault
    "ok12": ({"numbered": 96}, ""),
    "c02_binary_antialiased": ({"components": 64}, "faded edges"),
    "c04_rgba_red": ({"components": 64}, "number in several pieces"),
    "c06_inverted": ({"inverted": 64}, "ground as nucleus"),
    "c07_mask_suffix": ({"numbered": 64}, ""),
    "c07_train_val_test": ({"numbered": 80}, ""),
    "c08_backslash.zip": ({"numbered": 64}, ""),
    "c11_all_empty": ({}, "every mask is empty"),
    "c11_chosen_empty": ({"numbered": 48}, ""),
    "c17_ids": ({"numbered": 64}, ""),
    "c25_stardist_train_test": ({"numbered": 96}, ""),
}


@pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases")
@pytest.mark.parametrize("name", CASE)
def test_labelled_folders_of_users(read, name):
    ways, fault = CASE[name]
    if fault:
        with pytest.raises(DataFaultError, match=fault):
            read(CASES / name)
    for masks, n_nuclei in ways.items():
        assert read(CASES / name, masks=masks).table["n_nuclei"].sum() == n_nuclei
