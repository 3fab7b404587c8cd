import json
import shutil

import keras
import numpy as np
import pytest

from helpers.network import prediction
from helpers.network.archives import load_model, read_settings, read_state, save_network
from helpers.network.prediction import Network, load_network, tiles
from helpers.network.preprocessing import network_input
from helpers.network.unet import build_unet
from helpers.settings import generate_settings, parse_settings


def settings_for(channels=3, normalisation="scale", n_blocks=2):
    settings = generate_settings(n_blocks, base_filters=2, input_size=16)
    values = settings.model_dump(mode="json", by_alias=True)
    values["model_structure"]["input_params"]["channels"] = channels
    values["preprocessing"]["normalisation"] = normalisation
    return parse_settings(json.dumps(values))


def network_for(settings):
    keras.utils.set_random_seed(0)
    model = build_unet(settings)
    return model, Network(model, settings)


@pytest.fixture(scope="module")
def built():
    return network_for(settings_for())


def image_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (17, 33), (16, 16), (3, 50, 3), (64, 5, 1), (31, 32, 3)])
def test_probabilities_have_the_images_own_size(built, shape):
    result = built[1].predict(image_of(*shape))
    assert result.shape == shape[:2]
    assert result.dtype == np.float32
    assert ((result >= 0) & (result <= 1)).all()


@pytest.mark.parametrize("normalisation", ["scale", "percentile", "standardise"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_the_trained_size_gives_what_keras_gives(normalisation, channels):
    settings = settings_for(channels, normalisation)
    model, network = network_for(settings)
    image = image_of(16, 16, 3)
    expected = model.predict(network_input(image, settings)[None], verbose=0)[0, ..., 0]
    np.testing.assert_allclose(network.predict(image), expected, atol=1e-5)


def test_8_and_16_bit_images_of_the_same_content_agree(built):
    image = image_of(16, 16)
    wide = image.astype(np.uint16) * 257
    np.testing.assert_allclose(built[1].predict(image), built[1].predict(wide), atol=1e-6)
    np.testing.assert_allclose(built[1].predict(image), built[1].predict(image / 255), atol=1e-6)


def test_wrong_images_are_refused(built):
    with pytest.raises(ValueError, match="NaN"):
        built[1].predict(np.full((8, 8), np.nan))
    with pytest.raises(ValueError, match="must have shape"):
        built[1].predict(np.zeros((8, 8, 4), np.uint8))


@pytest.mark.parametrize("shape", [(200, 30), (30, 200, 3), (150, 170, 3)])
def test_tiles_equal_the_whole(built, monkeypatch, shape):
    network, image = built[1], image_of(*shape)
    whole = network.predict(image)
    monkeypatch.setattr(prediction, "TILE_PX", 32)
    monkeypatch.setattr(prediction, "HALO_PX", 32)  # the field of two blocks reaches 22 px each way
    calls = []
    predict_whole = network._predict_whole
    monkeypatch.setattr(
        network, "_predict_whole", lambda x: calls.append(x.shape) or predict_whole(x)
    )
    tiled = network.predict(image)
    assert len(calls) > 1
    assert max(max(shape) for shape in calls) <= 96
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize("length", [32, 96, 1024, 1056, 4000])
@pytest.mark.parametrize("multiple", [1, 2, 32])
def test_tiles_cover_every_pixel_once(length, multiple):
    length -= length % multiple
    owned = np.zeros(length, int)
    for own, halo in tiles(length, multiple):
        owned[own] += 1
        assert halo.start <= own.start < own.stop <= halo.stop <= length
        assert (halo.stop - halo.start) % multiple == 0
    assert (owned == 1).all()


@pytest.fixture
def saved(tmp_path):
    settings = settings_for(1, "percentile")
    model, network = network_for(settings)
    save_network(model, tmp_path / "network.keras", settings, state={"epoch": 3})
    return tmp_path / "network.keras", network


def test_the_settings_inside_the_file_are_those_used(saved):
    file, network = saved
    loaded = load_network(file)
    image = image_of(20, 31, 3)
    assert loaded.settings == network.settings == read_settings(file)
    assert read_state(file) == {"epoch": 3}
    np.testing.assert_allclose(loaded.predict(image), network.predict(image), atol=1e-6)


def test_keras_reads_the_file_as_any_other(saved):
    file, network = saved
    model = keras.saving.load_model(file)
    for ours, theirs in zip(network.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert load_model(file).count_params() == model.count_params()


@pytest.mark.parametrize("damage", ["cut", "no settings", "text"])
def test_damaged_file_is_refused_clearly(saved, tmp_path, damage):
    file, _ = saved
    broken = tmp_path / "broken.keras"
    if damage == "cut":
        broken.write_bytes(file.read_bytes()[:1000])
    elif damage == "text":
        broken.write_text("no network")
    else:
        shutil.copy(file, broken)
        build_unet(settings_for()).save(broken)
    with pytest.raises(ValueError, match="damaged or was not written by this series"):
        load_network(broken)


@pytest.mark.parametrize("normalisation", ["scale", "percentile", "standardise"])
def test_an_image_and_its_negative_get_the_same_mask_on_dark_ground(normalisation):
    values = settings_for(3, normalisation).model_dump(mode="json", by_alias=True)
    values["preprocessing"]["polarity"] = "dark_ground"
    _, network = network_for(parse_settings(json.dumps(values)))
    image = image_of(40, 30, 3) // 8
    image[5:15, 5:20] += 180
    one, other = network.predict(image), network.predict(255 - image)
    np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("normalisation", ["scale", "percentile", "standardise"])
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((20, 30), np.uint8),
        np.full((20, 30, 3), 255, np.uint8),
        np.full((20, 30), 33_000, np.uint16),
        (33_000 + np.arange(600).reshape(20, 30)).astype(np.uint16),
        np.arange(40, dtype=np.uint8)[None],
    ],
    ids=["black", "white", "constant", "16 bit with an offset", "one pixel high"],
)
def test_unusual_images_get_probabilities(image, normalisation):
    _, network = network_for(settings_for(3, normalisation))
    probabilities = network.predict(image)
    assert probabilities.shape == image.shape[:2]
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
