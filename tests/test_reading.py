"""One reader of image files: what a microscope's programs write comes out as it was meant."""

import io

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from conftest import tiff
from helpers.data.channels import select_channel
from helpers.data.reading import read_any_image, read_label_image, read_mask, refuse_unscaled
from helpers.run_folder import ROOT
from helpers.settings import generate_settings

RNG = np.random.default_rng(0)
GRAY = (np.arange(20 * 30) % 251).reshape(20, 30).astype(np.uint8)
GRAY16 = GRAY.astype(np.uint16) * 200
COLOUR = np.stack([GRAY, GRAY[::-1], 255 - GRAY], axis=2)
ALPHA = np.full((20, 30, 1), 200, np.uint8)


def save(file, array, **options):
    if file.suffix == ".tif":
        tifffile.imwrite(file, array, **options)
    else:
        Image.fromarray(array).save(file, **options)
    return file


def pixels_of(file, **options):
    return read_any_image(file, **options).pixels


def assert_same(found, expected):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


# ---------------------------------------------------------------- formats and types


@pytest.mark.parametrize(
    ("name", "stored", "expected"),
    [
        ("gray.png", GRAY, GRAY),
        ("rgb.png", COLOUR, COLOUR),
        ("rgba.png", np.concatenate([COLOUR, ALPHA], axis=2), COLOUR),
        ("la.png", np.concatenate([GRAY[..., None], ALPHA], axis=2), GRAY),
        ("gray as rgb.png", np.repeat(GRAY[..., None], 3, axis=2), GRAY),
        ("gray as rgba.png", np.concatenate([np.repeat(GRAY[..., None], 3, 2), ALPHA], 2), GRAY),
        ("gray16.png", GRAY16, GRAY16),
        ("bits.png", GRAY > 99, (GRAY > 99) * np.uint8(255)),
        ("gray.tif", GRAY, GRAY),
        ("rgba.tif", np.concatenate([COLOUR, ALPHA], axis=2), COLOUR),
        ("rgb16.tif", COLOUR.astype(np.uint16) * 200, COLOUR.astype(np.uint16) * 200),
        ("float.tif", GRAY / np.float32(7) - 3, GRAY / np.float32(7) - 3),
        ("double.tif", GRAY / 255, (GRAY / 255).astype(np.float32)),
        ("int16.tif", GRAY.astype(np.int16) * 100, GRAY.astype(np.uint16) * 100),
        ("negative.tif", GRAY.astype(np.int16) - 36, GRAY.astype(np.uint8)),
        ("offset.tif", (GRAY16.astype(int) - 32768).astype(np.int16), GRAY16),
        ("int32.tif", GRAY.astype(np.int32), GRAY),
        ("uint32.tif", GRAY.astype(np.uint32) * 256, GRAY.astype(np.uint16) * 256),
        ("sum.tif", GRAY.astype(np.uint32) * 300, GRAY.astype(np.float32) * 300),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_formats_keep_their_values(tmp_path, name, stored, expected):
    assert_same(pixels_of(save(tmp_path / name, stored)), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_keeps_every_bit(channels, dtype):
    stored = RNG.integers(0, np.iinfo(dtype).max + 1, (21, 17, channels)).astype(dtype)
    found = read_any_image(imagecodecs.png_encode(stored[..., 0] if channels == 1 else stored))
    assert found.n_channels == channels
    assert_same(found.pixels, stored[..., :3] if channels > 2 else stored[..., 0])


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", "zstd", "lerc", "lzma"])
@pytest.mark.parametrize("stored", [GRAY16, COLOUR.astype(np.uint16) * 7, GRAY16 / np.float32(3)])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_compressions_keep_every_bit(compression, stored, byteorder):
    if (compression == "packbits" and stored.dtype.kind == "f") or (
        compression == "lerc" and byteorder == ">"
    ):
        pytest.skip("cannot be written")
    raw = tiff(stored, compression=compression, byteorder=byteorder)
    assert_same(pixels_of(raw), stored)


def test_lossless_photographs_packed_12_bit_and_planes_one_after_the_other():
    for compression in ("jpeg2000", "jpegxl"):
        assert_same(pixels_of(tiff(COLOUR, compression=compression)), COLOUR)
    stored = GRAY.astype(np.uint16) * 16
    assert_same(pixels_of(tiff(stored, bitspersample=12, compression=None)), stored)
    planes = np.moveaxis(COLOUR, -1, 0)
    raw = tiff(planes, photometric="rgb", planarconfig="separate", compression="lzw")
    assert_same(pixels_of(raw), COLOUR)


def test_lookup_tables_are_passed_over_and_palettes_resolved(tmp_path):
    palette = Image.fromarray(COLOUR).quantize(16)
    for suffix in ("png", "tif"):
        palette.save(tmp_path / f"palette.{suffix}")
        found = pixels_of(tmp_path / f"palette.{suffix}")
        np.testing.assert_array_equal(found, np.asarray(palette.convert("RGB")))
    blue = np.zeros((3, 256), np.uint16)
    blue[2] = np.arange(256) * 257
    for table in (blue, blue[::-1], blue[::-1, ::-1], np.roll(blue, 1, axis=0)):
        found = read_any_image(tiff(GRAY, photometric="palette", colormap=table))
        assert_same(found.pixels, GRAY)
        assert found.about == "lookup table passed over"


@pytest.mark.parametrize("stored", [GRAY, GRAY16])
def test_white_that_is_zero_is_reversed(stored):
    full = np.iinfo(stored.dtype).max
    assert_same(pixels_of(tiff(full - stored, photometric="miniswhite")), stored)


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("orientation", [4, 6])
def test_no_tag_turns_the_pixels(compression, orientation):
    tags = [(274, "H", 1, orientation, False)]
    assert_same(pixels_of(tiff(GRAY, compression=compression, extratags=tags)), GRAY)


def test_jpeg_in_gray_and_colour_is_not_turned(tmp_path):
    smooth = np.repeat(np.linspace(0, 255, 40, dtype=np.uint8)[None], 20, axis=0)
    turned = Image.Exif()
    turned[0x0112] = 6  # "turn me by 90 degrees"
    Image.fromarray(smooth).save(tmp_path / "gray.jpg", quality=95, exif=turned)
    image = pixels_of(tmp_path / "gray.jpg")
    assert image.shape == (20, 40) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - smooth).max() < 8
    red = np.zeros((20, 40, 3), np.uint8)
    red[..., 0] = 200
    for mode in ("RGB", "CMYK"):
        Image.fromarray(red).convert(mode).save(tmp_path / "red.jpg", quality=95)
        assert np.abs(pixels_of(tmp_path / "red.jpg").astype(int) - red).max() < 12


def test_images_above_the_limit_of_pillow_are_read(tmp_path, monkeypatch):
    file = save(tmp_path / "a.jpg", GRAY)
    expected = pixels_of(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert_same(pixels_of(file), expected)


# ---------------------------------------------------------------- where there is no image


def test_nan_and_transparent_pixels_are_no_image():
    stored = GRAY16.astype(np.float32)
    stored[:, :4] = np.nan
    stored[9, 9] = np.inf
    found = read_any_image(tiff(stored))
    np.testing.assert_array_equal(found.valid, np.isfinite(stored))
    np.testing.assert_array_equal(found.pixels[found.valid], stored[found.valid])
    assert np.isfinite(found.pixels).all() and "81 pixels" in found.about
    alpha = np.where(GRAY[..., None] < 20, 0, 255).astype(np.uint8)
    found = read_any_image(imagecodecs.png_encode(np.concatenate([COLOUR, alpha], axis=2)))
    np.testing.assert_array_equal(found.valid, GRAY >= 20)
    with pytest.raises(ValueError, match="every pixel is NaN"):
        read_any_image(tiff(np.full((20, 30), np.nan, np.float32)))


# ---------------------------------------------------------------- planes and channels


def stack(*shape):
    return RNG.integers(0, 4000, (*shape, 32, 40)).astype(np.uint16)


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}, {"metadata": {}}])
@pytest.mark.parametrize("compression", [None, "lzw"])
def test_a_stack_is_refused_until_a_plane_is_chosen(options, compression):
    stored = stack(5)
    about = {**options, "compression": compression, "photometric": "minisblack"}
    axes = {} if "metadata" in options else {"metadata": {"axes": "ZYX"}}
    raw = tiff(stored, **{**about, **axes})
    with pytest.raises(ValueError, match=r'5 planes of 32 x 40 .*`plane`.*from 1 to 5, or "max"'):
        read_any_image(raw)
    found = read_any_image(raw, plane=4)
    assert_same(found.pixels, stored[3])
    assert found.about == "plane 4 of 5"
    assert_same(pixels_of(raw, plane="max"), stored.max(axis=0))
    for wrong in (0, 6, "mean"):
        with pytest.raises(ValueError, match=f"`plane` \\(={wrong!r}\\)"):
            read_any_image(raw, plane=wrong)


def test_fiji_keeps_large_stacks_in_one_directory():
    stored = stack(5)
    file = io.BytesIO()
    about = "ImageJ=1.54f\nimages=5\nslices=5\n"
    tifffile.imwrite(file, stored[0], metadata=None, description=about, byteorder=">")
    raw = file.getvalue()
    with pytest.raises(ValueError, match="cut short: 1 of its 5 images"):
        read_any_image(raw)
    rest = stored[1:].astype(">u2").tobytes()
    assert raw.endswith(stored[0].astype(">u2").tobytes())
    assert_same(pixels_of(raw + rest, plane=5), stored[4])


def test_channels_without_a_tag_are_not_taken_for_alpha():
    for n in (2, 4, 5):
        stored = np.moveaxis(stack(n), 0, -1)
        raw = tiff(stored, photometric="minisblack", planarconfig="contig")
        with pytest.raises(ValueError, match=f"{n} channels .*give `channel`"):
            read_any_image(raw)
        assert_same(pixels_of(raw, channel=n), stored[..., n - 1])
    four = tiff(stack(4).transpose(1, 2, 0), photometric="rgb", extrasamples=["unspecified"])
    with pytest.raises(ValueError, match="4 channels"):
        read_any_image(four)
    filled = np.concatenate([COLOUR, np.full_like(ALPHA, 255)], axis=2)
    assert_same(pixels_of(tiff(filled, photometric="rgb", extrasamples=["unspecified"])), COLOUR)


def test_axes_of_ome_with_names_of_channels():
    stored = stack(3, 2)
    about = {"axes": "ZCYX", "Channel": {"Name": ["actin", "DAPI 405"]}}
    raw = tiff(stored, ome=True, metadata=about)
    with pytest.raises(ValueError, match=r"3 planes .* in one file \(Z 3\)"):
        read_any_image(raw)
    found = read_any_image(raw, plane="max")
    assert_same(found.pixels, stored[:, 1].max(axis=0))
    assert found.about == "channel 2 of 2 (DAPI 405); maximum of 3 planes"
    assert_same(pixels_of(raw, channel="Actin", plane=3), stored[2, 0])
    with pytest.raises(ValueError, match=r"2 channels \(1 actin, 2 DAPI 405\).*'green'"):
        read_any_image(raw, channel="green", plane=1)


def test_composites_of_imagej_by_their_colours():
    stored = stack(2)
    ramp = np.arange(256, dtype=np.uint8)
    blue, green = np.zeros((2, 3, 256), np.uint8)
    blue[2], green[1] = ramp, ramp
    raw = tiff(stored, imagej=True, metadata={"axes": "CYX", "LUTs": [green, blue]})
    with pytest.raises(ValueError, match=r"2 channels \(1 green, 2 blue"):
        read_any_image(raw)
    assert_same(pixels_of(raw, channel="blue"), stored[1])
    three = tiff(stack(3), imagej=True, metadata={"axes": "CYX"})
    assert pixels_of(three, channel="rgb").shape == (32, 40, 3)


def test_a_channel_of_a_colour_image():
    raw = imagecodecs.png_encode(COLOUR)
    assert_same(pixels_of(raw, channel="blue"), COLOUR[..., 2])
    assert_same(pixels_of(raw, channel=2), COLOUR[..., 1])
    assert_same(pixels_of(raw, channel="2"), COLOUR[..., 1])
    assert_same(pixels_of(raw, channel="cyan"), COLOUR[..., 1:].min(axis=2))
    for wrong in (0, 4, "dapi"):
        with pytest.raises(ValueError, match=f"`channel` \\(={wrong!r}\\).*from 1 to 3, red"):
            read_any_image(raw, channel=wrong)
    assert_same(pixels_of(imagecodecs.png_encode(GRAY), channel="blue"), GRAY)
    tissue = np.full((16, 20, 3), (230, 190, 220), np.uint8)
    tissue[4:8, 4:8] = (90, 50, 140)
    stain = select_channel(tissue, "haematoxylin")
    assert stain.dtype == np.float32 and stain[5, 5] > 3 * stain[0, 0] and stain.max() <= 1


@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize("thumbnail_first", [False, True])
def test_smaller_copies_are_left_out(tmp_path, flag, thumbnail_first):
    stored = stack(1)[0]
    pages = [(stored, 0), (stored[::2, ::2], flag), (stored[::4, ::4], flag)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page, kind in pages[::-1] if thumbnail_first else pages:
            file.write(page, subfiletype=kind, metadata=None)
    found = read_any_image(tmp_path / "a.tif")
    assert_same(found.pixels, stored)
    assert found.about == "the largest image; 2 smaller left out"


def test_several_images_of_one_file_are_asked_for(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GRAY, metadata=None)
        file.write(GRAY[:18], metadata=None)
    with pytest.raises(
        ValueError, match=r"2 images in one file \(20 x 30, 18 x 30\): give `plane`"
    ):
        read_any_image(tmp_path / "a.tif")
    assert_same(pixels_of(tmp_path / "a.tif", plane=2), GRAY[:18])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_missing_strips_are_not_read_as_zeros(compression):
    stored = stack(1)[0]
    raw = tiff(stored, rowsperstrip=4, compression=compression)
    with tifffile.TiffFile(io.BytesIO(raw)) as file:
        tag = file.pages[0].tags["StripByteCounts"]
        at = tag.valueoffset
        size = tag.dtype.value
    width = {3: 2, 4: 4, 16: 8}[size]
    lost = raw[: at + 2 * width] + bytes(width) + raw[at + 3 * width :]
    with pytest.raises(ValueError, match="1 of its 8 strips"):
        read_any_image(lost)
    with pytest.raises(ValueError, match="cut short"):
        read_any_image(raw[:-40])


# ---------------------------------------------------------------- pixel size


def test_pixel_size_is_read_from_where_it_is_written():
    ome = {"PhysicalSizeX": 325, "PhysicalSizeXUnit": "nm"}
    ome |= {"PhysicalSizeY": 325, "PhysicalSizeYUnit": "nm"}
    per_um = {"resolution": (1 / 0.325, 1 / 0.325)}
    found = {
        "OME": tiff(GRAY, ome=True, metadata=ome),
        "ImageJ": tiff(GRAY, imagej=True, metadata={"unit": "um"}, **per_um),
        "resolution tag": tiff(GRAY, resolution=(1e4 / 0.325,) * 2, resolutionunit=3),
    }
    for source, raw in found.items():
        image = read_any_image(raw)
        assert image.pixel_size_um == pytest.approx(0.325, rel=1e-4)
        assert image.pixel_size_source == source
    for dpi in (1, 72, 96, 300, 600):
        raw = tiff(GRAY, resolution=(dpi, dpi), resolutionunit=2)
        assert read_any_image(raw).pixel_size_um is None
    assert read_any_image(imagecodecs.png_encode(GRAY)).pixel_size_um is None


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("stored", "options", "message"),
    [
        (GRAY[:15], {}, "15 x 30 pixels; each side must have 16"),
        (GRAY.astype(np.complex64), {}, "pixels are complex64"),
        (np.concatenate([COLOUR, ALPHA], 2), {"photometric": "separated"}, "SEPARATED.*gray or"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_remedy(stored, options, message):
    with pytest.raises(ValueError, match=message):
        read_any_image(tiff(stored, **options))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.5])
def test_damaged_files_say_so(tmp_path, name, share):
    file = save(tmp_path / name, RNG.integers(0, 255, (60, 70), dtype=np.uint8))
    raw = file.read_bytes()
    damaged = [raw[: int(share * len(raw))]]
    if name == "a.png":
        damaged.append(raw[:200] + bytes([raw[200] ^ 1]) + raw[201:])
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(ValueError) as error:
            read_any_image(file)
        assert "0x" not in str(error.value)


def test_floats_of_unknown_range_are_refused_where_the_range_matters():
    image = GRAY.astype(np.float32)
    scale = generate_settings(1).with_overrides({"preprocessing.normalisation": "scale"})
    refuse_unscaled(image, scale.with_overrides({"preprocessing.normalisation": "percentile"}))
    refuse_unscaled(image / 255, scale)
    refuse_unscaled(GRAY, scale)
    with pytest.raises(ValueError, match=r"from 0 to 250.*Divide"):
        refuse_unscaled(image, scale)


# ---------------------------------------------------------------- masks and label images


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4])
def test_a_mask_is_cut_to_its_foreground(n_channels):
    mask = np.zeros((24, 32), np.uint8)
    mask[3:7, 10:12] = 255
    stored = np.dstack([mask] * n_channels)
    if n_channels in (2, 4):
        stored[..., -1] = 255
    patch = read_mask(imagecodecs.png_encode(stored[..., 0] if n_channels == 1 else stored))
    assert (patch.shape, patch.box) == ((24, 32), np.s_[3:7, 10:12])
    assert read_mask(imagecodecs.png_encode(np.zeros((24, 32), np.uint8))).values.size == 0


def test_label_images_keep_their_numbers(tmp_path):
    numbers = GRAY.astype(np.int32) * 300
    for raw in (tiff(numbers), tiff(numbers.astype(np.float32)), tiff(numbers.astype(np.uint32))):
        np.testing.assert_array_equal(read_label_image(raw), numbers)
    coloured = Image.fromarray(GRAY, "P")
    coloured.putpalette(RNG.integers(0, 255, 768).astype(np.uint8).tobytes())
    coloured.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_image((tmp_path / "a.png").read_bytes()), GRAY)
    for raw, message in (
        (tiff(numbers - 1), "int32, from -1"),
        (tiff(GRAY / np.float32(2)), "float32"),
        (imagecodecs.png_encode(COLOUR), "nuclei in colours"),
    ):
        with pytest.raises(ValueError, match=message):
            read_label_image(raw)


# ---------------------------------------------------------------- cases

CASES = ROOT.parent / "shared" / "cases" / "predict"
OPTIONS = {
    "02_one_ifd_many_planes": {"plane": "max"},
    "hwc2_cyto_then_dapi_no_extrasamples.tif": {"channel": 2},
    "hwc4_dapi_last_no_extrasamples.tif": {"channel": 4},
    "rgb_blue_only.png": {"channel": "blue"},
}
FOLDERS = ["02_one", "03_channels", "04_comp", "06_floats", "07_int", "08_lookup", "21_pixel"]


@pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases")
@pytest.mark.parametrize("folder", FOLDERS)
def test_drawn_nuclei_stand_out_from_the_ground(folder):
    nuclei = tifffile.imread(CASES / "truth" / "base28.tif") > 0
    files = sorted(next(CASES.glob(f"{folder}*")).iterdir())
    assert files
    for file in files:
        options = OPTIONS.get(file.name, OPTIONS.get(file.parent.name, {}))
        found = read_any_image(file, **options)
        image = found.pixels if found.pixels.ndim == 2 else 255 - found.pixels.mean(axis=2)
        assert abs(np.corrcoef(image.ravel(), nuclei.ravel())[0, 1]) > 0.9, file.name
        assert (found.pixel_size_um == pytest.approx(0.325)) == (folder == "21_pixel"), file.name
