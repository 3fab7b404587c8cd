"""Images as people have them: which are taken, and how they are read."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.data.any_image import read_any_image, refuse_unscaled
from helpers.segment.folder import list_images
from helpers.settings import generate_settings, parse_settings

GRAY = (np.arange(20 * 30) % 251).reshape(20, 30).astype(np.uint8)
COLOUR = np.stack([GRAY, GRAY[::-1], 255 - GRAY], axis=2)
ALPHA = np.full((20, 30, 1), 200, np.uint8)


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


# ---------------------------------------------------------------- what is in them


def save(file, array, **options):
    if file.suffix == ".tif":
        tifffile.imwrite(file, array, **options)
    else:
        Image.fromarray(array).save(file, **options)
    return file


@pytest.mark.parametrize(
    ("name", "stored", "expected"),
    [
        ("gray.png", GRAY, GRAY),
        ("rgb.png", COLOUR, COLOUR),
        ("rgba.png", np.concatenate([COLOUR, ALPHA], axis=2), COLOUR),
        ("la.png", np.concatenate([GRAY[..., None], ALPHA], axis=2), GRAY),
        ("gray as rgb.png", np.repeat(GRAY[..., None], 3, axis=2), GRAY),
        ("gray as rgba.png", np.concatenate([np.repeat(GRAY[..., None], 3, 2), ALPHA], 2), GRAY),
        ("gray16.png", GRAY.astype(np.uint16) * 257, GRAY.astype(np.uint16) * 257),
        ("bits.png", GRAY > 99, (GRAY > 99) * np.uint8(255)),
        ("gray.tif", GRAY, GRAY),
        ("rgb.tif", COLOUR, COLOUR),
        ("rgba.tif", np.concatenate([COLOUR, ALPHA], axis=2), COLOUR),
        ("rgb16.tif", COLOUR.astype(np.uint16) * 200, COLOUR.astype(np.uint16) * 200),
        ("float.tif", GRAY / np.float32(7) - 3, GRAY / np.float32(7) - 3),
        ("double.tif", GRAY / 255, (GRAY / 255).astype(np.float32)),
        ("int16.tif", GRAY.astype(np.int16) * 100, GRAY.astype(np.uint16) * 100),
        ("int32.tif", GRAY.astype(np.int32), GRAY),
        ("uint32.tif", GRAY.astype(np.uint32) * 256, GRAY.astype(np.uint16) * 256),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_formats_keep_their_values(tmp_path, name, stored, expected):
    image = read_any_image(save(tmp_path / name, stored))
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image, expected)


def test_palettes_are_resolved_and_white_that_is_zero_is_turned(tmp_path):
    palette = Image.fromarray(COLOUR).quantize(16)
    for suffix in ("png", "tif"):
        palette.save(tmp_path / f"palette.{suffix}")
        found = read_any_image(tmp_path / f"palette.{suffix}")
        np.testing.assert_array_equal(found, np.asarray(palette.convert("RGB")))
    save(tmp_path / "white.tif", 255 - GRAY, photometric="miniswhite")
    np.testing.assert_array_equal(read_any_image(tmp_path / "white.tif"), GRAY)


def test_jpeg_in_gray_and_colour_is_not_turned(tmp_path):
    smooth = np.repeat(np.linspace(0, 255, 40, dtype=np.uint8)[None], 20, axis=0)
    turned = Image.Exif()
    turned[0x0112] = 6  # "turn me by 90 degrees"
    Image.fromarray(smooth).save(tmp_path / "gray.jpg", quality=95, exif=turned)
    image = read_any_image(tmp_path / "gray.jpg")
    assert image.shape == (20, 40) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - smooth).max() < 8
    red = np.zeros((20, 40, 3), np.uint8)
    red[..., 0] = 200
    for mode in ("RGB", "CMYK"):
        Image.fromarray(red).convert(mode).save(tmp_path / "red.jpg", quality=95)
        assert np.abs(read_any_image(tmp_path / "red.jpg").astype(int) - red).max() < 12


def test_the_name_of_a_file_does_not_decide_its_format(tmp_path):
    file = tmp_path / "a.png"
    tifffile.imwrite(file, GRAY)
    np.testing.assert_array_equal(read_any_image(file), GRAY)


@pytest.mark.parametrize(
    ("stored", "options", "message"),
    [
        (GRAY[:15], {}, "15 x 30 pixels; each side must have 16"),
        (np.stack([GRAY] * 5), {"photometric": "minisblack"}, "5 pages; save one image a file"),
        (COLOUR[..., :2], {"planarconfig": "contig", "photometric": "minisblack"}, "2 channels"),
        (GRAY.astype(np.int16) - 1, {}, "int16 from -1 to 249"),
        (GRAY.astype(np.uint32) * 300, {}, "uint32 from 0 to 75000.*convert them to float"),
        (np.where(GRAY == 7, np.nan, 1).astype(np.float32), {}, "NaN"),
        (GRAY.astype(np.complex64), {}, "pixels are complex64"),
        (
            np.concatenate([COLOUR, ALPHA], 2),
            {"photometric": "separated"},
            "SEPARATED.*gray or RGB",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_remedy(tmp_path, stored, options, message):
    file = save(tmp_path / "a.tif", stored, **options)
    with pytest.raises(ValueError, match=message):
        read_any_image(file)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
@pytest.mark.parametrize("kept", [0, 30, 300])
def test_damaged_files_say_so(tmp_path, name, kept):
    noise = np.random.default_rng(0).integers(0, 255, (60, 70), dtype=np.uint8)
    file = save(tmp_path / name, noise)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError) as error:
        read_any_image(file)
    assert "0x" not in str(error.value)


def test_images_above_the_limit_of_pillow_are_read(tmp_path, monkeypatch):
    file = save(tmp_path / "a.png", GRAY)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    np.testing.assert_array_equal(read_any_image(file), GRAY)
    assert Image.MAX_IMAGE_PIXELS == 100


def settings_with(normalisation):
    values = generate_settings(1).model_dump(mode="json", by_alias=True)
    values["preprocessing"]["normalisation"] = normalisation
    return parse_settings(json.dumps(values))


def test_floats_of_unknown_range_are_refused_where_the_range_matters():
    image = GRAY.astype(np.float32)
    refuse_unscaled(image, settings_with("percentile"))
    refuse_unscaled(image / 255, settings_with("scale"))
    refuse_unscaled(GRAY, settings_with("scale"))
    with pytest.raises(ValueError, match=r"from 0 to 250.*Divide"):
        refuse_unscaled(image, settings_with("scale"))
