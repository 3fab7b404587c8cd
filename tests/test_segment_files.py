"""Images as people have them: which are taken, and how they are read."""

import numpy as np
import pytest
import tifffile

from helpers.segment.folder import BYTES_A_PIXEL, list_images, refuse_too_large

GRAY = (np.arange(20 * 30) % 251).reshape(20, 30).astype(np.uint8)


# ---------------------------------------------------------------- which files


def make_files(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_images_are_found_whatever_the_case_and_results_are_not(tmp_path):
    names = ["b.PNG", "a.Tif", "c d.jpeg", "é.tiff", "e.JPG"]
    others = ["notes.txt", ".hidden.png", "a_labels.tif", "a_mask.png", "A_OVERLAY.png", "x.czi"]
    make_files(tmp_path, *names, *others)
    (tmp_path / "folder.png").mkdir()
    assert {file.name for file in list_images(tmp_path)} == set(names)
    assert [file.name for file in list_images(tmp_path, "*.TIF*")] == ["a.Tif", "é.tiff"]


@pytest.mark.parametrize("names", [("a.png", "a.tif"), ("a.png", "A.PNG")])
def test_two_images_that_would_become_the_same_files(tmp_path, names):
    make_files(tmp_path, *names, "b.png")
    assert len(list_images(tmp_path, "b*")) == 1
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("upper and lower case are the same in this file system")
    with pytest.raises(ValueError, match=f"'{max(names)}'.*would both become") as error:
        list_images(tmp_path)
    assert names[0] in str(error.value) and names[1] in str(error.value)


def test_a_folder_without_images_says_what_is_allowed(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        list_images(tmp_path / "nowhere")
    make_files(tmp_path, "x.czi")
    with pytest.raises(ValueError, match=r"no image among its 1 files.*\.png, \.tif"):
        list_images(tmp_path)
    with pytest.raises(NotADirectoryError, match="is a file"):
        list_images(tmp_path / "x.czi")
    make_files(tmp_path, "a.png")
    with pytest.raises(ValueError, match=r"none of the 1 images .*'b\*'"):
        list_images(tmp_path, "b*")


def test_a_thumbnail_does_not_hide_an_image_that_is_too_large(tmp_path, monkeypatch):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GRAY[::4, ::4], subfiletype=1)
        file.write(GRAY)
    monkeypatch.setattr(
        "helpers.segment.folder.free_memory", lambda: GRAY.size * BYTES_A_PIXEL // 2
    )
    with pytest.raises(ValueError, match="cut the image into parts"):
        refuse_too_large(tmp_path / "a.tif")
