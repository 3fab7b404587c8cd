import shutil

import keras
import numpy as np
import pytest

from helpers.network import geometry
from helpers.network.geometry import rescale
from helpers.network.intensities import network_input
from helpers.network.prediction import Network, load_network
from helpers.network.saving import read_settings, read_state, save_network
from helpers.network.unet import build_unet
from helpers.settings import generate_settings
from helpers.targets import TARGETS, get_target


def settings_for(channels=3, normalisation="scale", target="foreground"):
    settings = generate_settings(2, base_filters=2, input_size=16)
    return settings.with_overrides(
        {
            "model_structure.input_params.channels": channels,
            "preprocessing.normalisation": normalisation,
            "target": target,
        }
    )


def network_for(settings):
    keras.utils.set_random_seed(0)
    model = build_unet(settings)
    return model, Network(model, settings)


@pytest.fixture(scope="module")
def built():
    return network_for(settings_for())


def image_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("normalisation", "channels"), [("scale", 3), ("percentile", 1), ("standardise", 3)]
)
def test_an_image_of_the_trained_size_gives_what_keras_gives(normalisation, channels):
    settings = settings_for(channels, normalisation)
    model, network = network_for(settings)
    image = image_of(16, 16, 3)
    expected = model.predict(network_input(image, settings)[None], verbose=0)[0, ..., 0]
    np.testing.assert_allclose(network.predict(image), expected, atol=1e-5)


@pytest.fixture(scope="module", params=TARGETS)
def of_target(request):
    """A network of every target."""
    return network_for(settings_for(target=request.param))[1]


@pytest.mark.parametrize("shape", [(200, 30), (150, 170, 3)])
def test_tiles_equal_the_whole(of_target, monkeypatch, shape):
    network, image = of_target, image_of(*shape)
    whole = network.predict_maps(image)
    monkeypatch.setattr(geometry, "TILE_PX", 32)
    monkeypatch.setattr(geometry, "HALO_PX", 32)  # the field of two blocks reaches 22 px each way
    calls = []
    predict_whole = network._predict_whole
    monkeypatch.setattr(
        network, "_predict_whole", lambda x: calls.append(x.shape) or predict_whole(x)
    )
    tiled = network.predict_maps(image)
    assert tiled.shape == (*shape[:2], len(network.target.channels))
    assert len(calls) > 1
    assert max(max(shape) for shape in calls) <= 96
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


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


# ---------------------------------------------------------------- maps of every target


@pytest.mark.parametrize("shape", [(1, 1), (17, 33), (3, 50, 3)])
def test_maps_have_the_images_size_and_the_targets_channels(of_target, shape):
    image = image_of(*shape)
    maps = of_target.predict_maps(image)
    assert maps.shape == (*shape[:2], len(of_target.target.channels))
    assert maps.dtype == np.float32
    expected = of_target.target.foreground(maps)
    np.testing.assert_array_equal(of_target.predict(image), expected)
    assert ((expected >= 0) & (expected <= 1)).all()


def with_looks(network, looks):
    """The same network that answers with the mean over several looks."""
    settings = network.settings.with_postprocessing(test_time_augmentation=looks)
    return Network(network.model, settings)


@pytest.mark.parametrize(("way", "shape"), [((1, -1), (17, 30, 3)), ((-1, 1), (32, 16))])
def test_with_flips_a_mirrored_image_has_the_mirrored_answer(of_target, way, shape):
    network, image = with_looks(of_target, "flips"), image_of(*shape)
    down, right = way
    maps = network.predict_maps(image)
    mirrored = network.predict_maps(image[::down, ::right])
    expected = network.target.flip(maps, down, right)
    np.testing.assert_allclose(mirrored, expected, atol=1e-6)
    alone = of_target.predict_maps(image), of_target.predict_maps(image[::down, ::right])
    assert not np.allclose(alone[1], network.target.flip(alone[0], down, right), atol=1e-4)


@pytest.mark.parametrize("shape", [(16, 20), (1, 1), (17, 30, 3)])
def test_scales_are_the_mean_of_two_answers_by_hand(of_target, shape):
    image = image_of(*shape).astype(np.float32) / 255
    enlarged = rescale(image, tuple(round(1.5 * px) for px in shape[:2]))
    mirrored = of_target.target.flip(of_target.predict_maps(enlarged[:, ::-1]), 1, -1)
    expected = (of_target.predict_maps(image) + rescale(mirrored, shape[:2])) / 2
    found = with_looks(of_target, "scales").predict_maps(image)
    assert found.dtype == np.float32
    assert found.shape == (*shape[:2], len(of_target.target.channels))
    np.testing.assert_allclose(found, expected, atol=1e-5)


# ---------------------------------------------------------------- nuclei


class Bright:
    """Stands for a model: what is bright is a nucleus; the further maps say the same everywhere."""

    def __init__(self, target):
        self.target = get_target(target)

    def predict_on_batch(self, inputs):
        bright = inputs[..., :1] > 0.5
        maps = np.zeros((*inputs.shape[:3], len(self.target.channels)), np.float32)
        if self.target.is_classes:
            maps[..., :2] = np.concatenate([~bright, bright], axis=-1)
        else:
            maps[..., :1] = bright
        if self.target.name == "distance":
            maps[..., 1:] = bright
        return maps


@pytest.fixture(scope="module", params=["foreground", "boundary", "distance"])
def bright(request):
    """A network that answers as `Bright` does."""
    network = network_for(settings_for(target=request.param))[1]
    network.model = Bright(request.param)
    return network


def spots():
    """Three bright discs on dark ground, their label image, and a size that nothing divides."""
    rows, columns = np.indices((61, 83))
    labels = np.zeros((61, 83), np.int32)
    for number, (row, column, radius) in enumerate([(15, 15, 9), (40, 60, 12), (50, 20, 7)], 1):
        labels[np.hypot(rows - row, columns - column) <= radius] = number
    return np.uint8(255 * (labels > 0)), labels


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_nuclei_come_back_in_the_images_own_size(bright, scale):
    image, labels = spots()
    found = bright.segment(image, scale=scale)
    assert found.shape == image.shape
    assert found.dtype == np.int32
    assert np.unique(found).tolist() == [0, 1, 2, 3]
    for number in (1, 2, 3):
        true = labels == number
        (other,) = np.unique(found[true & (found > 0)])
        same = found == other
        assert (same & true).sum() / (same | true).sum() > 0.85


def test_nuclei_lost_on_the_way_back_leave_no_gap_in_the_numbers(bright):
    image = np.zeros((60, 60), np.uint8)
    image[::3, ::3] = 255
    found = bright.segment(image, scale=3.0)
    assert np.unique(found[found > 0]).tolist() == list(range(1, found.max() + 1))


@pytest.mark.parametrize("scale", [0, float("nan"), float("inf")])
def test_impossible_scales_are_refused(built, scale):
    with pytest.raises(ValueError, match=r"`scale` \(=.*must be a number above 0; 1 leaves"):
        built[1].segment(image_of(16, 16), scale=scale)


def test_what_cannot_be_segmented_is_refused(built):
    with pytest.raises(ValueError, match="must have shape"):
        built[1].segment(np.zeros((8, 8, 4), np.uint8), scale=2)
    with pytest.raises(ValueError, match="NaN"):
        built[1].segment(np.full((8, 8), np.nan))
