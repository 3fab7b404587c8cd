import subprocess
import sys

import pandas as pd
import pytest

from helpers import run_folder
from helpers.run_folder import (
    MADE_BY,
    PUBLISHED,
    REFERENCE,
    ROOT,
    PublishedRunError,
    RunFolder,
    resolve,
)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders of their own for runs and published runs."""
    monkeypatch.setattr(run_folder, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(run_folder, "RESULTS", tmp_path / "results")
    return tmp_path


def test_new_runs_lie_apart_from_those_that_the_repository_keeps(places):
    assert RunFolder("my-run_2.0").path == places / "runs" / "my-run_2.0"
    assert RunFolder(REFERENCE).path == places / "results" / REFERENCE
    (places / "results" / "earlier").mkdir(parents=True)
    assert RunFolder("earlier").path == places / "results" / "earlier"


def test_the_published_runs_are_those_in_the_repository():
    listed = subprocess.run(
        ["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not listed:
        pytest.skip("no git here")
    assert {name.split("/")[1] for name in listed if name.count("/") > 1} <= set(PUBLISHED)


def test_a_published_run_is_written_to_only_when_confirmed(places):
    with pytest.raises(PublishedRunError, match="give another `run`, such as 'my_reference'"):
        RunFolder(REFERENCE).write_json("metrics.json", {})
    assert not (places / "results").exists()
    RunFolder("my_reference").write_json("metrics.json", {})
    RunFolder(REFERENCE, replace_published=True).write_json("metrics.json", {})
    assert RunFolder(REFERENCE).read_json("metrics.json") == {}


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a b", "a\n", "~", 2026])
def test_names_that_could_lead_elsewhere_are_refused(name):
    with pytest.raises(ValueError, match=r"name of letters, digits|=2026\) must be text"):
        RunFolder(name)


def test_relative_paths_are_the_callers_where_they_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.json").touch()
    assert resolve("mine.json") == tmp_path / "mine.json"
    assert resolve("settings/quick.json") == ROOT / "settings" / "quick.json"
    assert resolve(tmp_path / "no") == tmp_path / "no"


def test_written_values_are_read_back_and_text_stays_text(run):
    values = {"dice": 0.9, "modalities": ["größe"]}
    assert "größe" in run.write_json("metrics.json", values).read_text(encoding="utf-8")
    assert run.read_json("metrics.json") == values
    table = pd.DataFrame({"id": ["001", "NA", "1e5", "NaN"], "value": [1.5, 2, None, 3]})
    run.write_csv("split.csv", table)
    pd.testing.assert_frame_equal(run.read_csv("split.csv"), table)


def test_failed_writing_leaves_the_old_file_and_nothing_else(run):
    run.write_json("metrics.json", {"dice": 1})

    def fail(part):
        part.write_text("half a fi")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.write("metrics.json", fail)
    assert run.read_json("metrics.json") == {"dice": 1}
    assert [file.name for file in run.path.iterdir()] == ["metrics.json"]


@pytest.mark.parametrize("name", MADE_BY)
def test_missing_file_names_the_notebook_and_the_command_that_make_it(run, name):
    maker = MADE_BY[name]
    assert (ROOT / "notebooks" / f"{maker}.ipynb").exists()
    with pytest.raises(FileNotFoundError, match=f"{maker}.*nuclei run --only {maker[:2]} --run"):
        run.require(name)


def test_a_missing_reference_network_is_to_be_checked_out(places):
    with pytest.raises(FileNotFoundError, match=r"git checkout \S*reference/network\.keras"):
        RunFolder(REFERENCE).require("network.keras")


def test_two_processes_do_not_train_in_one_folder(run):
    other = f"from helpers.run_folder import RunFolder\nwith RunFolder({str(run.path)!r}).lock('training'): pass"  # noqa: E501
    command = [sys.executable, "-c", other]
    with run.lock("training"):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "another process is training in this folder; wait for it" in done.stderr
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    assert not list(run.path.iterdir())
