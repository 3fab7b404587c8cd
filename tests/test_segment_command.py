"""`python -m helpers.segment`: what it says, and its exit codes."""

from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage.measure import label

from helpers.data.drawing import draw_image
from helpers.evaluation.matching import match
from helpers.network.saving import save_network
from helpers.network.unet import build_unet
from helpers.run_folder import REFERENCE, RunFolder
from helpers.segment.command import main
from helpers.segment.scale import KNOWN_DIAMETERS_PX
from helpers.segment.trained import TrainedNetwork, load_network
from helpers.settings import generate_settings


class Bright:
    """A network that calls nucleus what is bright."""

    settings = generate_settings(1)

    def __init__(self):
        self.seen, self.stop_at = 0, None

    def segment(self, image, *, scale=1.0):
        self.seen += 1
        if self.seen == self.stop_at:
            raise KeyboardInterrupt
        return label(image > 100).astype(np.int32)


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "my images é"
    path.mkdir()
    for n in (1, 2, 3):
        image = np.zeros((60, 90), np.uint8)
        for number in range(n):
            image[4:16, 4 + number * 20 : 16 + number * 20] = 200
        Image.fromarray(image).save(path / f"{n} nuclei.png")
    return path


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose network is a threshold, without loading Keras."""
    path = tmp_path / "results of a run"
    path.mkdir()
    (path / "network.keras").write_bytes(b"")
    network = Bright()
    trained = TrainedNetwork(network, device="CPU", known_px=(10, 60), fingerprint="1")
    monkeypatch.setattr("helpers.segment.trained.load_network", lambda run: trained)
    return SimpleNamespace(path=str(path), network=network)


def test_the_command_says_what_came_out(images, tmp_path, run, capsys):
    out = tmp_path / "out"
    arguments = [str(images), "--output", str(out), "--run", run.path]
    assert main([*arguments, "--pixel-size", "0.5", "--pattern", "*.PNG"]) == 0
    said = capsys.readouterr().out
    assert "3 of 3 images segmented, 6 nuclei; 0 with a warning, 0 failed" in said
    assert "no out_of_distribution.json: whether" in said
    assert str(out) in said
    (images / "bad.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(images / "black.png")
    assert main(arguments) == 1
    said = capsys.readouterr().out
    assert "4 of 5 images segmented, 6 nuclei; 1 with a warning, 1 failed" in said
    assert "- bad.png failed: not PNG, TIFF or JPEG" in said
    assert "- black.png: no nucleus found" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": "nowhere"}, "there is no folder"),
        ({"--pattern": "x*"}, "matches the pattern"),
        ({"--diameter": "-3"}, "diameter_px"),
        ({"--pixel-size": "0"}, "pixel_size_um"),
        ({"--run": "no/name"}, "must be a name"),
        ({"--run": "no-such-run"}, "network.keras is missing"),
    ],
)
def test_what_cannot_start_ends_with_one_message(images, tmp_path, run, capsys, change, message):
    given = {"images": str(images), "--output": str(tmp_path / "out"), "--run": run.path} | change
    first = given.pop("images")
    assert main([first, *(text for pair in given.items() for text in pair)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_a_run_the_reference_is_asked(images, tmp_path, run, capsys, monkeypatch):
    monkeypatch.setattr("helpers.run_folder.resolve", lambda path: tmp_path / path)
    arguments = [str(images), "--output", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "results/reference/network.keras is missing; it comes with" in capsys.readouterr().err
    reference = tmp_path / "results" / "reference"
    reference.mkdir(parents=True)
    (reference / "network.keras").write_bytes(b"")
    assert main(arguments) == 0
    assert "results/reference · CPU" in capsys.readouterr().out


def test_overwriting_has_to_be_asked_for(images, tmp_path, run, capsys):
    arguments = [str(images), "--output", str(tmp_path / "out"), "--run", run.path]
    assert main(arguments) == 0
    assert main([*arguments, "--diameter", "20"]) == 2
    assert "ask to overwrite" in capsys.readouterr().err
    assert main([*arguments, "--diameter", "20", "--overwrite"]) == 0


def test_ctrl_c_says_that_the_same_command_goes_on(images, tmp_path, run, capsys):
    arguments = [str(images), "--output", str(tmp_path / "out"), "--run", run.path]
    run.network.stop_at = 2
    assert main(arguments) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert main(arguments) == 0
    assert run.network.seen == 4


def test_a_real_network_is_loaded_with_what_its_run_knows(images, tmp_path, capsys):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    settings = generate_settings(1, base_filters=2, input_size=16)
    keras.utils.set_random_seed(0)
    save_network(build_unet(settings), run.file("network.keras"), settings)
    trained = load_network(run.path)
    assert trained.settings == settings and trained.familiarity is None
    assert trained.fingerprint == load_network(run.path).fingerprint
    arguments = [str(images), "--output", str(tmp_path / "out"), "--run", str(run.path)]
    assert main(arguments) == 0
    assert "Keras on" in capsys.readouterr().out
    looks = {"columns": ["ground", "peak", "colour", "redness", "contrast", "size"]}
    run.write_json(
        "out_of_distribution.json", looks | {"limit": 0.1, "looks": [[0.9, 1, 0, 0, -1, 3]]}
    )
    run.write_csv("metrics.csv", pd.DataFrame({"diameter_px": [12.0, 12.0]}))
    trained = load_network(run.path)
    assert trained.known_px == (12, 12)
    assert trained.familiarity.distance(np.zeros((20, 20), np.uint8)) > 1


def test_the_reference_network_comes_along_with_what_is_known_of_it():
    run = RunFolder(REFERENCE)
    assert run.require("network.keras").stat().st_size < 20e6
    trained = load_network(run.path)
    assert trained.target == "flow"
    assert trained.known_px != KNOWN_DIAMETERS_PX, "metrics.csv is missing"
    image, labels = draw_image("small_fluorescent", np.random.Generator(np.random.PCG64(7)))
    assert trained.familiarity.distance(image) < 2
    matching = match(labels, trained.predictor.segment(image))
    assert matching.count(0.5) > 0.8 * matching.n_true
    assert matching.n_pred < 1.3 * matching.n_true
