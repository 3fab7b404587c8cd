"""The command `nuclei`, and `make` before it: options are the notebooks' parameters."""

import os
import subprocess

import pytest

from helpers import command
from helpers.command import FAILED, FINE, NOTHING_STARTED, main
from helpers.run_folder import ROOT, RunFolder
from helpers.settings import generate_settings, load_settings


@pytest.fixture
def series(monkeypatch, tmp_path):
    """Collect what would be run; return the list."""
    calls = []

    def run_series(parameters, only):
        calls.append((parameters, list(only)))
        return RunFolder(tmp_path / "run")

    monkeypatch.setattr(command, "run_series", run_series)
    return calls


def test_options_become_the_parameters_of_the_notebooks(series):
    assert main(["run", "--data", "my nuclei.zip", "--run", "2026", "--epochs", "3"]) == FINE
    parameters, only = series[0]
    assert parameters == {"data": "my nuclei.zip", "run": "2026", "epochs": 3}
    assert only[:2] == ["01", "02"] and "06" not in only


def test_makes_spelling_and_overrides(series):
    given = ["--TEST_SET=a b", "--seed", "4", "--only", "04,05"]
    assert main(["run", *given, "--override", "training.learning_rate=0.01"]) == FINE
    parameters, only = series[0]
    assert parameters["test_set"] == "a b" and parameters["seed"] == 4 and only == ["04", "05"]
    assert parameters["overrides"] == {"training.learning_rate": 0.01}


@pytest.mark.parametrize(
    ("arguments", "run"),
    [
        ([], "quick"),
        (["--settings", "settings/default.json"], "my_default"),
        (["--data", "some/tissue.v2.zip", "--settings", "settings/reference.json"], "tissue.v2"),
        (["--data", "/x/reference"], "my_reference"),
        (["--data", "sample"], "quick"),
    ],
)
def test_a_run_without_a_name_never_gets_that_of_a_published_one(series, arguments, run):
    main(["run", *arguments])
    assert series[0][0]["run"] == run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "there is no `nuclei rum`; did you mean `nuclei run`?"),
        (["run", "--dataset", "x"], "there is no --dataset; did you mean --data?"),
        (["run", "--EPOCH=1"], "there is no EPOCH=; did you mean EPOCHS=?"),
        (["run", "--epochs", "x"], "`epochs` (='x') must be a whole number or none"),
        (["run", "--epochs"], "nuclei run: argument --epochs: expected one argument"),
        (["run", "mine"], "'mine' belongs to no option; name it, as in --data mine"),
        (["run", "--only", "44"], "there is no notebook 44; there are 00, 01"),
        (["run", "--override", "target"], "must be name=value"),
        (["predict", "--images", "."], "predict needs --images and --out"),
        (["predict", "--IMAGES=."], "predict needs IMAGES= and OUT="),
        (["predict", "x", "--out", "y", "--diameter", "3"], "did you mean --diameter-px?"),
        (["predict", "nowhere", "--out", "y"], "`images`: there is nothing at nowhere"),
        (["settings", "x.json", "--block", "3"], "did you mean --blocks?"),
    ],
)
def test_what_is_typed_in_vain_ends_at_once_with_one_line(series, capsys, arguments, message):
    assert main(arguments) == NOTHING_STARTED
    said = capsys.readouterr().err.strip()
    assert message in said and "\n" not in said
    assert not series


def test_values_are_checked_before_any_notebook(capsys):
    assert main(["run", "--start-from", "nobody"]) == NOTHING_STARTED
    assert "`start_from`: runs/nobody/network.keras is missing" in capsys.readouterr().err
    assert main(["run", "--run", "reference"]) == FAILED
    assert "results/reference belongs to the repository" in capsys.readouterr().err


def test_help_lists_every_command(capsys):
    assert main([]) == FINE
    said = capsys.readouterr().out
    for name in ("start", "run", "predict", "experiment", "targets", "data", "settings", "lab"):
        assert f"nuclei {name} " in said


def test_a_settings_file_is_written_where_the_caller_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["settings", "--blocks", "3", "--filters", "8", "out.json"]) == FINE
    expected = generate_settings(3, base_filters=8)
    assert load_settings(tmp_path / "out.json").model_structure == expected.model_structure
    more = ["--based-on", "out.json", "--override", "training.seed=5", "other.json"]
    assert main(["settings", *more]) == FINE
    assert load_settings(tmp_path / "other.json").training.seed == 5


def test_predict_gives_what_is_typed_to_the_segmentation(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(command, "_segment", lambda **given: calls.append(given) or FINE)
    given = ["--OUT=my results", "--OVERWRITE=no", "--channel", "2", "--pixel-size-um", "0.5"]
    assert main(["predict", str(tmp_path), *given]) == FINE
    assert calls == [
        {
            "images": str(tmp_path), "out": "my results", "network": "reference",
            "overwrite": False, "channel": 2, "pixel_size_um": 0.5,
        }
    ]  # fmt: skip
    main(["predict", str(tmp_path), "--out", "x", "--overwrite"])
    assert calls[1]["overwrite"] is True


# ---------------------------------------------------------------- make


def make(*arguments, **environment):
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    given = ["make", "--no-print-directory", "-n", *arguments]
    return subprocess.run(
        given, cwd=ROOT, env=env | environment, capture_output=True, text=True, check=False
    ).stdout.splitlines()[-1]


def test_make_passes_on_what_stands_on_the_command_line_and_nothing_else():
    assert make("run", DATA="a stray variable").endswith("helpers.command run ")
    given = make("run", "DATA=my nuclei.zip", "EPOCH=2", "PYTHON=python3")
    assert '--DATA="$DATA"' in given and '--EPOCH="$EPOCH"' in given and "PYTHON" not in given
    assert make("predict", "IMAGES=a", "OVERWRITE=no").count("--") == 2
