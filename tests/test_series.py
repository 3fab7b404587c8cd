"""The notebooks run one after the other, each with what it declares; errors name the cell."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers import series
from helpers.parameters import ParameterError
from helpers.run_folder import PublishedRunError

REDUCED_EPOCHS = 5
REDUCED = ["01", "04", "05"]  # the committed notebooks run besides, all of them
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def write_notebook(folder, name, parameters, *cells):
    source = f'run: str = "x"\nseed: int = 0  # of everything\n{parameters}'
    declared = new_code_cell(source, metadata={"tags": ["parameters"]})
    code = [new_code_cell(source) for source in cells]
    notebook = new_notebook(cells=[new_markdown_cell("# Title"), declared, *code], metadata=KERNEL)
    nbformat.write(notebook, folder / f"{name}.ipynb")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write_notebook(
        folder,
        "01_write",
        "size_px: int = 3  # side",
        "from pathlib import Path",
        "Path(run, 'n.txt').write_text(str(size_px))",
        "print('Epoch 1/2\\nnoise')",
    )
    write_notebook(
        folder,
        "02_read",
        "fail: bool = False\ndie: bool = False",
        "import json, os\nfrom pathlib import Path",
        "# a comment\nassert not fail, 'no nuclei found'",
        "if die:\n    os._exit(1)",
        "n = int(Path(run, 'n.txt').read_text())\n"
        "seen = {'n': n, 'seed': seed, 'look_at_first': 'a.png', 'here': os.getcwd()}\n"
        "Path(run, 'metrics.json').write_text(json.dumps(seen))",
    )
    return folder


def test_notebooks_are_found_in_numerical_order(tmp_path):
    with pytest.raises(series.SeriesError, match="holds no numbered notebook"):
        series.find_notebooks(tmp_path)
    for name in ("10_b", "02_a", "01_c", "notes"):
        (tmp_path / f"{name}.ipynb").touch()
    assert [path.stem for path in series.find_notebooks(tmp_path)] == ["01_c", "02_a", "10_b"]
    only = series.find_notebooks(tmp_path, only=["10", "1"])
    assert [path.stem for path in only] == ["01_c", "10_b"]
    with pytest.raises(series.SeriesError, match="no notebook 07; there are 01, 02, 10"):
        series.find_notebooks(tmp_path, only=["07"])


def test_a_parameter_reaches_the_notebooks_that_declare_it(folder):
    notebooks = series.find_notebooks(folder)
    jobs = series.check_parameters({"seed": 4, "size_px": 8}, notebooks)
    assert list(jobs.values()) == [{"seed": 4, "size_px": 8}, {"seed": 4}]
    assert series.read_parameters(notebooks[0])["size_px"] == ("int", "side", 3)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"sed": 1}, ParameterError, "no parameter `sed`; did you mean parameter `seed`"),
        ({"seed": "1"}, ParameterError, r"`seed` \(='1'\) must be a whole number"),
        ({"run": "../elsewhere"}, ParameterError, "must be a name"),
        ({"run": "reference"}, PublishedRunError, "belongs to the repository"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_runs(
    folder, tmp_path, monkeypatch, parameters, error, message
):
    monkeypatch.setattr(series, "run_notebook", lambda *a: pytest.fail("ran"))
    with pytest.raises(error, match=message):
        series.run_series({"run": str(tmp_path / "run")} | parameters, notebooks_dir=folder)
    assert not (tmp_path / "run").exists()


def test_the_series_runs_where_the_caller_is_and_says_what_it_does(
    folder, tmp_path, capsys, monkeypatch
):
    broken = {"argv": ["/no/python"], "display_name": "x", "language": "python"}
    elsewhere = tmp_path / "jupyter" / "kernels" / "python3"
    elsewhere.mkdir(parents=True)
    (elsewhere / "kernel.json").write_text(json.dumps(broken))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.chdir(tmp_path)
    given = {"run": str(tmp_path / "run"), "seed": 3, "size_px": 5}
    run = series.run_series(given, notebooks_dir=folder)
    metrics = run.read_json("metrics.json")
    assert (metrics["n"], metrics["seed"], metrics["here"]) == (5, 3, str(tmp_path))
    for name in ("01_write", "02_read"):
        page = run.file("notebooks") / f"{name}.html"
        assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
        executed = nbformat.read(page.with_suffix(".ipynb"), as_version=4)
        assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
        assert "input_path" not in executed.metadata.papermill
    said = capsys.readouterr().out
    assert "[2/2] 02_read ..." in said and "Epoch 1/2" in said and "noise" not in said
    assert series.describe_run(run).endswith("a.png")


def test_a_run_that_learned_nothing_is_said_at_the_end(tmp_path):
    run = series.RunFolder(tmp_path / "run")
    run.write("history.csv", lambda part: part.write_text("loss,iou\n0.7,0.1\n900,0.0\n"))
    assert "has not learned: the loss ended at 900" in series.describe_run(run)


def test_a_failing_notebook_names_cell_and_error(folder, tmp_path):
    page = tmp_path / "run" / "notebooks" / "02_read.html"
    page.parent.mkdir(parents=True)
    page.write_text("of an earlier run")
    with pytest.raises(series.SeriesError) as caught:
        series.run_series({"run": str(tmp_path / "run"), "fail": True}, ["02"], folder)
    first, error, copy = str(caught.value).splitlines()
    assert first == "02_read failed in cell In [4], `# a comment`"
    assert error == "  AssertionError: no nuclei found"
    assert copy.endswith("02_read.ipynb") and page.with_suffix(".ipynb").is_file()
    assert not page.exists()


def test_a_dying_kernel_names_the_cell(folder, tmp_path):
    with pytest.raises(series.SeriesError, match=r"cell In \[5\], `if die:`\n  DeadKernelError"):
        series.run_series({"run": str(tmp_path / "run"), "die": True}, ["02"], folder)


# ---------------------------------------------------------------- the series itself


@pytest.fixture(scope="module")
def reduced_run(tmp_path_factory):
    run = str(tmp_path_factory.mktemp("reduced") / "run")
    parameters = {"run": run, "epochs": REDUCED_EPOCHS, "settings": "settings/quick.json"}
    return series.run_series(parameters | {"seed": 1}, REDUCED)


@pytest.mark.slow
def test_the_reduced_series_leaves_a_complete_run(reduced_run):
    pages = sorted(path.stem for path in reduced_run.file("notebooks").glob("*.html"))
    assert pages == [path.stem for path in series.find_notebooks(only=REDUCED)]
    assert reduced_run.require("network.keras").stat().st_size > 1000
    assert len(reduced_run.read_csv("history.csv")) == REDUCED_EPOCHS
    first = reduced_run.file(reduced_run.read_json("metrics.json")[series.LOOK_FIRST])
    assert first.suffix == ".png" and first.is_file()
    assert str(first) in series.describe_run(reduced_run)
    assert "not learned" not in series.describe_run(reduced_run)
    assert reduced_run.read_json("metrics.json")["overall"]["iou"]["estimate"] > 0.4
