import json

import numpy as np
import pytest

from helpers.data.reading import check_image
from helpers.network.geometry import pad_to_multiple, rescale
from helpers.network.intensities import has_bright_ground, intensity_range, network_input, normalise
from helpers.settings import generate_settings, parse_settings

NORMALISATIONS = ("scale", "percentile", "standardise")


def settings_for(channels=3, normalisation="scale"):
    values = generate_settings(1, base_filters=2, input_size=8).model_dump(
        mode="json", by_alias=True
    )
    values["model_structure"]["input_params"]["channels"] = channels
    values["preprocessing"]["normalisation"] = normalisation
    return parse_settings(json.dumps(values))


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535)])
def test_scale_divides_by_the_largest_value_of_the_type(dtype, largest):
    image = np.array([[0, 1, largest]], dtype)
    result = normalise(image, intensity_range(image))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [[0, 1 / largest, 1]], rtol=1e-6)


def test_percentile_maps_its_two_percentiles_to_0_and_1():
    image = np.arange(1001, dtype=np.uint16).reshape(7, 143)
    result = normalise(image, intensity_range(image, "percentile"))
    assert result.ravel()[10] == pytest.approx(0, abs=1e-6)
    assert result.ravel()[998] == pytest.approx(1, abs=1e-6)
    assert result.max() > 1


def test_standardise_gives_mean_0_and_deviation_1():
    image = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    result = normalise(image, intensity_range(image, "standardise"))
    assert result.mean() == pytest.approx(0, abs=1e-5)
    assert result.std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (2, 3, 2), (2, 3, 3, 1), (0, 4), (4, 0, 3)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="an image must have shape"):
        check_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)])
def test_network_input_has_the_networks_channels_and_the_images_size(channels, shape):
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    result = network_input(image, settings_for(channels))
    assert result.shape == (5, 7, channels)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.mean(), image.mean() / 255, rtol=1e-5)


@pytest.mark.parametrize("size", range(1, 71))
def test_padding_and_cropping_give_the_image_back(size):
    array = np.arange(size * 5).reshape(size, 5, 1)
    padded, inside = pad_to_multiple(array, (32, 4))
    assert padded.shape[0] % 32 == 0
    assert padded.shape[0] - size < 32
    assert padded.shape[1:] == (8, 1)
    np.testing.assert_array_equal(padded[inside], array)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 3)])
@pytest.mark.parametrize("new", [(20, 30), (10, 15), (40, 60), (7, 90), (1, 1)])
def test_rescaled_images_keep_their_type_channels_and_range(dtype, shape, new):
    top = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    image = (np.random.default_rng(0).random(shape) * top).astype(dtype)
    result = rescale(image, new)
    assert result.shape == (*new, *shape[2:])
    assert result.dtype == dtype
    assert image.min() <= result.min()
    assert result.max() <= image.max()
    assert result.mean() == pytest.approx(image.mean(), rel=0.15)


def test_a_reduced_image_is_smoothed_and_an_enlarged_one_linear():
    stripes = np.tile(np.uint8([0, 200]), (8, 8))
    assert np.ptp(rescale(stripes, (4, 8)).astype(int)) < 100
    ramp = np.tile(np.arange(8, dtype=np.float64), (4, 1))
    np.testing.assert_allclose(np.diff(rescale(ramp, (8, 16))[0, 2:-2]), 0.5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_rescaled_label_images_hold_no_new_numbers(dtype):
    labels = np.kron([[0, 3], [120, 7]], np.ones((5, 6), int)).astype(dtype)
    for shape in ((20, 24), (4, 4), (13, 5)):
        result = rescale(labels, shape, order=0)
        assert result.dtype == dtype
        assert set(np.unique(result)) == {0, 3, 7, 120}
    np.testing.assert_array_equal(rescale(rescale(labels, (20, 24), order=0), (10, 12), order=0),
                                  labels)  # fmt: skip


def test_image_and_labels_are_rescaled_to_the_same_place():
    labels = np.zeros((40, 50), np.int32)
    labels[10:22, 20:40] = 5
    image = np.uint8(labels * 50)
    for shape in ((80, 100), (20, 25), (57, 31)):
        mask = rescale(labels, shape, order=0) == 5
        bright = rescale(image, shape) > 125
        assert (mask & bright).sum() / (mask | bright).sum() > 0.9


# ---------------------------------------------------------------- polarity


def nuclei_on_ground(shape=(60, 50), seed=0):
    """Mostly dark ground with noise, a fifth of it bright."""
    rng = np.random.default_rng(seed)
    image = rng.integers(5, 25, (*shape, 3))
    image[:20, :30] += 150
    return image.astype(np.uint8)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("gray", [False, True])
def test_an_image_and_its_negative_look_the_same_on_dark_ground(normalisation, gray):
    image = nuclei_on_ground()
    image = image[..., 0] if gray else image
    one, other = (
        normalise(x, intensity_range(x, normalisation, "dark_ground")) for x in (image, 255 - image)
    )
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert np.median(one) < one.mean()


def test_ground_is_found_in_few_glaring_or_black_pixels_too():
    bright, dark = np.full((30, 30), 200, np.uint8), np.full((30, 30), 30, np.uint8)
    bright[:8, :8], dark[:8, :8] = 90, 160
    for image in (bright, dark):
        image[0, :4] = 0, 255, 0, 255
    assert has_bright_ground(bright)
    assert not has_bright_ground(dark)


def paint(*shares):
    """Return an image of 100 columns, of (colour, number of columns) each."""
    columns = [np.tile(np.uint8(colour), (width, 1)) for colour, width in shares]
    return np.broadcast_to(np.concatenate(columns), (10, 100, 3))


def test_dense_tissue_with_hardly_any_light_between_is_bright_ground():
    image = np.full((40, 40, 3), (95, 60, 100), np.uint8)  # most of it; nuclei are darker
    image[::5, ::4] = 60, 35, 80
    image[:, 37:] = 220  # a gap
    assert has_bright_ground(image)
    assert not has_bright_ground(np.invert(image))
    glow = np.zeros((40, 40, 3), np.uint8)  # fluorescence in one hue, as dark
    glow[::5, ::4] = 200, 40, 0
    assert not has_bright_ground(glow)


def test_red_muscle_is_bright_ground_around_violet_nuclei():
    muscle, nuclei, pale = ((225, 20, 50), 60), ((95, 30, 130), 15), ((235, 190, 225), 25)
    image = paint(muscle, nuclei, pale)
    assert image[0, 0].mean() < 100 < image[0, 0, 0], "dark but for red"
    assert has_bright_ground(image)
    assert not has_bright_ground(np.invert(image))


@pytest.mark.parametrize("channel", [1, 2])
def test_noise_in_red_says_nothing_about_green_or_blue_fluorescence(channel):
    image = np.zeros((20, 100, 3), np.uint8)
    image[:, :30, channel] = 200
    image[..., 0] = 12 - 12 * (np.arange(100) % 10 == 0)
    assert not has_bright_ground(image)
    assert has_bright_ground(np.invert(image))


# ---------------------------------------------------------------- unusual images


@pytest.mark.parametrize("polarity", ["as_stored", "dark_ground"])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((9, 9), np.uint8),
        np.full((9, 9, 3), 255, np.uint8),
        (33_000 + np.arange(81).reshape(9, 9)).astype(np.uint16),
        np.arange(40, dtype=np.uint8)[None],
        np.array([[7]], np.uint8),
    ],
    ids=["black", "white", "16 bit with an offset", "one pixel high", "one pixel"],
)
def test_unusual_images_stay_finite_and_keep_their_size(image, normalisation, polarity):
    result = normalise(image, intensity_range(image, normalisation, polarity))
    assert result.shape == image.shape
    assert np.isfinite(result).all()
