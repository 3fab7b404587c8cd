import importlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.data.data_set import read_data_set
from helpers.run_folder import ROOT, RunFolder
from helpers.training.devices import Device

DEVICE = Device("CPU", "tensorflow", "float32", "for tests")
ROUND = np.hypot(*(np.indices((96, 96)) % 32 - 16)) < 8
GLOWING = np.where(ROUND, 120, 10).astype(np.uint8)
STAINED = np.where(ROUND[..., None], (90, 40, 130), (210, 170, 220)).astype(np.uint8)
"""Nine round nuclei as fluorescence and as stained tissue show them."""


def find_shared(name: str, file: str) -> Path:
    """A folder of real images beside the repository, which does not hold them."""
    folder = ROOT.parent / "shared" / name
    if not (folder / file).is_file():
        pytest.skip(f"real images ({file}) are not at ../shared/{name}")
    return folder


@pytest.fixture(scope="session")
def dsb2018() -> Path:
    """Folder with the images of the Data Science Bowl."""
    return find_shared("dsb2018", "stage1_train.zip")


@pytest.fixture(scope="session")
def shared_sources() -> Path:
    """Folder with three more sets."""
    return find_shared("sources", "tnbc.zip")


def load_benchmark(name):
    """A module of benchmarks/, which is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module(name)


def png(array) -> bytes:
    """The bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(array)).save(file, "PNG")
    return file.getvalue()


def tiff(array, **options) -> bytes:
    """The bytes of a TIFF file."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, **{"metadata": None, **options})
    return file.getvalue()


def box(top, left, height, width, shape=(24, 32), value=255):
    """A mask, as an array, with one rectangle."""
    mask = np.zeros(shape, np.uint8)
    mask[top : top + height, left : left + width] = value
    return mask


def draw_labels(*boxes, shape):
    """A label image: one nucleus (top, left, height, width) after the other, from 1 on."""
    labels = np.zeros(shape, int)
    for number, (top, left, height, width) in enumerate(boxes, start=1):
        labels[top : top + height, left : left + width] = number
    return labels


def some_image(number=0, shape=(24, 32)):
    """A gray image that differs with `number`."""
    return np.random.default_rng(number).integers(0, 200, shape, dtype=np.uint8)


def files_of(name, image, masks=(), folder=""):
    """The files of one image in the layout <id>/images|masks, bytes by name."""
    files = {f"{folder}{name}/images/{name}.png": image if isinstance(image, bytes) else png(image)}
    for number, mask in enumerate(masks):
        content = mask if isinstance(mask, bytes) else png(mask)
        files[f"{folder}{name}/masks/{number:02d}.png"] = content
    return files


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def read(tmp_path):
    """`read_data_set` with a cache of the test's own."""

    def read_here(location, **options):
        return read_data_set(location, cache_dir=tmp_path / "cache", **options)

    return read_here


@pytest.fixture
def write_set(tmp_path):
    """Write files (bytes by name) as a folder or as a zip archive, and return its path."""

    def write(files, name="images", *, packed=False):
        path = tmp_path / "sets" / (f"{name}.zip" if packed else name)
        path.parent.mkdir(exist_ok=True)
        if packed:
            with zipfile.ZipFile(path, "w") as archive:
                for inner, content in files.items():
                    archive.writestr(inner, content)
            return path
        path.mkdir()
        for inner, content in files.items():
            (path / inner).parent.mkdir(parents=True, exist_ok=True)
            (path / inner).write_bytes(content)
        return path

    return write
