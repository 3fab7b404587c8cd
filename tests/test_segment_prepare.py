"""Which channel, which part and which range of an image the network gets to see."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from helpers.data.drawing import draw_image
from helpers.segment.prepare import find_valid, is_blank, prepare

RNG = np.random.default_rng(0)


def draw(kind="small_fluorescent", seed=7):
    return draw_image(kind, np.random.Generator(np.random.PCG64(seed)))[0]


FLUORESCENCE, TISSUE = draw(), draw("pink_purple_tissue")
KINDS = ("small_fluorescent", "large_fluorescent", "purple_tissue", "pink_purple_tissue")


@pytest.mark.parametrize("kind", (*KINDS, "grayscale_tissue"))
def test_usual_images_are_left_as_they_are(kind):
    image = draw(kind)
    field = prepare(image)
    assert field.image is image and field.valid is None and field.warnings == []
    assert not is_blank(image)


@pytest.mark.parametrize("hue", [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1)])
def test_fluorescence_in_any_hue_is_its_gray_version(hue):
    field = prepare(FLUORESCENCE[..., None] * np.array(hue, np.uint8))
    np.testing.assert_allclose(field.image * 3 / sum(hue), FLUORESCENCE, rtol=1e-5)
    assert "one dye" in field.channel


def test_a_lookup_table_of_many_hues_is_one_dye():
    level = (FLUORESCENCE - 4.0) / np.percentile(FLUORESCENCE, 98) * 700
    fire = np.stack([level, level - 200, level - 450], axis=2).clip(0, 255)
    field = prepare(fire.astype(np.uint8))
    assert field.image.ndim == 2
    assert np.corrcoef(field.image.ravel(), FLUORESCENCE.ravel())[0, 1] > 0.8


def test_of_a_composite_the_blue_nuclei_are_taken():
    cells = (gaussian_filter(RNG.normal(size=FLUORESCENCE.shape), 9) > 0).astype(np.uint8) * 150
    other = np.zeros_like(cells)
    field = prepare(np.stack([other, cells, FLUORESCENCE], axis=2))
    np.testing.assert_array_equal(field.image, FLUORESCENCE)
    assert field.channel.startswith("blue of green, blue")
    with pytest.raises(ValueError, match=r"composite of red and green.*give the `channel`"):
        prepare(np.stack([FLUORESCENCE, cells, other], axis=2))
    given = prepare(np.stack([FLUORESCENCE, cells, other], axis=2), channel="red")
    np.testing.assert_array_equal(given.image, FLUORESCENCE)


@pytest.mark.parametrize("colour", [0, 255, (255, 255, 255)])
@pytest.mark.parametrize("kind", ["small_fluorescent", "pink_purple_tissue"])
def test_constant_margins_are_no_image(colour, kind):
    inner = draw(kind)
    image = np.empty((inner.shape[0] + 90, inner.shape[1] + 140, *inner.shape[2:]), np.uint8)
    image[:] = np.resize(colour, inner.shape[2:])
    where = np.s_[40 : 40 + inner.shape[0], 100 : 100 + inner.shape[1]]
    image[where] = inner
    valid = find_valid(image, None)
    expected = np.zeros(image.shape[:2], bool)
    expected[where] = True
    assert (valid != expected).mean() < 0.001
    field = prepare(image)
    assert field.image.shape == inner.shape and (field.image == inner).mean() > 0.999


def test_ground_without_light_is_no_margin():
    image = np.where(gaussian_filter(RNG.normal(size=(300, 300)), 8) > 0.05, 180, 0).astype(
        np.uint8
    )
    assert find_valid(image, None) is None
    assert find_valid(np.zeros((99, 99), np.uint8), None) is None


def test_what_the_file_calls_no_image_is_filled_with_ground():
    valid = np.ones(FLUORESCENCE.shape, bool)
    valid[: len(valid) // 2, ::2] = False
    field = prepare(np.where(valid, FLUORESCENCE, 255).astype(np.uint8), valid)
    assert (field.image[~valid] == np.median(FLUORESCENCE[valid])).all()
    with pytest.raises(ValueError, match="no pixel"):
        prepare(FLUORESCENCE, np.zeros_like(valid))


def discs(levels, side=320):
    image = RNG.normal(100, 5, (side, side))
    rows, columns = np.indices(image.shape)
    for k, level in enumerate(levels):
        top, left = 30 + 60 * (k // 5), 30 + 60 * (k % 5)
        image += level * np.exp(-((np.hypot(rows - top, columns - left) / 14) ** 6))
    return image.astype(np.uint16)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_few_glaring_objects_do_not_set_the_range(sign):
    image = discs([30_000, 30_000] + 20 * [900])
    image = image if sign == 1 else 65_535 - image
    field = prepare(image)
    reach = np.abs(field.image.astype(int) - np.median(field.image)).max()
    assert 900 < reach < 2500 and "spots" in field.warnings[0]
    even = discs(10 * [30_000] + 12 * [900])  # both kinds are many: nobody knows which are nuclei
    assert prepare(even).image is even


def test_hot_pixels_are_smoothed_out():
    image = discs(22 * [900])
    hot = image.copy()
    hot.ravel()[RNG.choice(image.size, 300, replace=False)] = 60_000
    field = prepare(hot)
    assert field.image.max() < 2000 and "single bright pixels" in field.warnings[0]
    assert np.abs(field.image.astype(int) - image).mean() < 5


SLOPE = np.add.outer(np.arange(300), np.arange(300)) / 3
BLANK = {
    "constant": np.full((300, 300), 7),
    "noise": RNG.normal(100, 10, (300, 300)),
    "counts": RNG.poisson(3, (300, 300)),
    "slope": SLOPE + RNG.normal(20, 3, SLOPE.shape),
    "soft noise": 100 + 60 * gaussian_filter(RNG.normal(size=(300, 300)), 1.5),
    "softer noise": 100 + 99 * gaussian_filter(RNG.normal(size=(300, 300)), 3),
    "glass": RNG.normal(230, 2, (300, 300, 3)),
    "stripes": 40 + 9 * np.sin(np.arange(300) / 3) + RNG.normal(0, 3, (300, 300)),
    "bands": 40 + RNG.normal(0, 6, (300, 1)) + RNG.normal(0, 3, (300, 300)),
    "vignette": 90 * np.exp(-((SLOPE / 100 - 1) ** 2)) + RNG.normal(9, 3, SLOPE.shape),
}


@pytest.mark.parametrize("name", BLANK)
def test_noise_is_blank_and_one_nucleus_is_not(name):
    image = BLANK[name].copy()
    assert is_blank(image.clip(0, 255).astype(np.uint8))
    image[100:122, 100:122] += 40
    assert not is_blank(image.clip(0, 255).astype(np.uint8))
