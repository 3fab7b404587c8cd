"""The embedded sample: exact masks, five recognisable modalities, the same pixels everywhere."""

import hashlib
import zlib

import numpy as np
import pytest
from skimage.io import imread

from helpers.data import sample
from helpers.data.drawing import draw_image
from helpers.data.reading import read_any_image
from helpers.data.sample import NOTICE, sample_truth, write_examples, write_sample


def generator(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("data") / "new" / "sample")


@pytest.fixture(scope="module")
def truth():
    return sample_truth()


@pytest.fixture(scope="module")
def contents(folder, truth):
    """Return {id: (image as stored, masks (n, H, W) bool)}."""
    return {
        id_: (
            imread(folder / id_ / "images" / f"{id_}.png"),
            np.stack([imread(path) for path in sorted((folder / id_ / "masks").iterdir())]),
        )
        for id_ in truth["id"]
    }


# One image ---------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["fluorescent", "", None])
def test_unknown_modality_is_refused_with_the_known_ones(modality):
    with pytest.raises(ValueError, match=r"`modality` .*small_fluorescent, large_fluorescent"):
        draw_image(modality, generator())


# The written set ---------------------------------------------------------------------------


def test_layout_is_the_official_one(folder, truth):
    assert {path.name for path in folder.iterdir()} == {*truth["id"], NOTICE}
    for id_ in truth["id"]:
        masks = sorted((folder / id_ / "masks").iterdir())
        assert [p.name for p in masks] == [
            f"{id_}_{number:02d}.png" for number in range(len(masks))
        ]


def test_the_pixels_are_those_of_every_machine(contents):
    digest = hashlib.sha256()
    for image, masks in contents.values():
        digest.update(image.tobytes() + masks.tobytes())
    assert digest.hexdigest()[:16] == "20062610cd4119ec"


def test_examples_are_read_as_they_are_drawn(tmp_path):
    digest = hashlib.sha256()
    for file in sorted(write_examples(tmp_path).glob("*")):
        if file.suffix != ".jpg":
            digest.update(read_any_image(file).pixels.tobytes())
    assert digest.hexdigest()[:16] == "30ac0cecfd732c25"


# Writing -----------------------------------------------------------------------------------


@pytest.fixture
def one_field(monkeypatch):
    monkeypatch.setattr(sample, "FIELDS", sample.FIELDS[4:5])


def pixels(folder):
    return [zlib.crc32(imread(path).tobytes()) for path in sorted(folder.rglob("*.png"))]


def test_another_seed_replaces_the_sample(tmp_path, one_field):
    first = pixels(write_sample(tmp_path / "sample", seed=0))
    second = pixels(write_sample(tmp_path / "sample", seed=1))
    again = pixels(write_sample(str(tmp_path / "sample"), seed=0))
    assert first == again and first != second
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_foreign_files_are_never_replaced(tmp_path, one_field):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match=r"`folder` .*not an earlier sample"):
        write_sample(tmp_path)
    with pytest.raises(FileExistsError):
        write_sample(tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_a_sample_finished_by_another_process_is_taken(tmp_path, one_field, monkeypatch):
    write_images, folder = sample._write_images, tmp_path / "sample"

    def slower(fresh, seed):
        monkeypatch.setattr(sample, "_write_images", write_images)
        write_images(fresh, seed)
        write_sample(folder, seed)

    monkeypatch.setattr(sample, "_write_images", slower)
    assert (write_sample(folder) / NOTICE).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]
