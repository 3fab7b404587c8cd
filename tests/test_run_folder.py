import json

import pandas as pd
import pytest

from helpers.run_folder import MADE_BY, REFERENCE, ROOT, RunFolder


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


def test_name_leads_to_a_folder_under_results():
    run = RunFolder("my-run_2.0")
    assert run.path == ROOT / "results" / "my-run_2.0"
    assert str(run).replace("\\", "/") == "results/my-run_2.0"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "-x", "a b", "a\n", "~"])
def test_names_that_could_lead_elsewhere_are_refused(name):
    with pytest.raises(ValueError, match="must be a name of letters, digits"):
        RunFolder(name)


def test_making_a_run_folder_writes_nothing(run):
    assert not run.path.exists()


def test_written_values_are_read_back(run):
    values = {"dice": 0.9, "modalities": ["größe"]}
    assert run.write_json("metrics.json", values) == run.file("metrics.json")
    assert run.read_json("metrics.json") == values
    table = pd.DataFrame({"id": ["001", "2"], "value": [1.5, 2]})
    run.write_csv("split.csv", table)
    pd.testing.assert_frame_equal(run.read_csv("split.csv", dtype={"id": str}), table)


def test_failed_writing_leaves_the_old_file_and_nothing_else(run):
    run.write_json("metrics.json", {"dice": 1})

    def fail(part):
        part.write_text("half a fi")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.write("metrics.json", fail)
    assert run.read_json("metrics.json") == {"dice": 1}
    assert [file.name for file in run.path.iterdir()] == ["metrics.json"]


def test_temporary_file_keeps_the_suffix(run):
    names = []
    with pytest.raises(FileNotFoundError):
        run.write("masks/network.keras", lambda part: names.append(part.name))
    assert names[0].endswith("network.keras")


@pytest.mark.parametrize("name", MADE_BY)
def test_missing_file_names_the_notebook_that_makes_it(run, name):
    with pytest.raises(FileNotFoundError, match=MADE_BY[name]) as caught:
        run.require(name)
    assert name in str(caught.value)


def test_a_missing_reference_network_is_to_be_checked_out(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.run_folder.resolve", lambda path: tmp_path / path)
    reference = RunFolder(REFERENCE)
    with pytest.raises(FileNotFoundError, match=r"git checkout \S*reference/network\.keras"):
        reference.require("network.keras")
    with pytest.raises(FileNotFoundError, match="execute notebook '01"):
        reference.require("split.csv")


def test_json_keeps_letters_readable(run):
    text = run.write_json("a.json", {"name": "größe"}).read_text(encoding="utf-8")
    assert "größe" in text
    assert json.loads(text)
