import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from helpers import series
from helpers.data.data_set import read_data_set
from helpers.run_folder import ROOT

REDUCED_EPOCHS = 5
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
SHARED = 'settings: str = "a.json"\nrun: str = "x"\nseed: int = 0  # of everything\n'


def write_notebook(folder, name, parameters, *cells):
    declared = new_code_cell(SHARED + parameters, metadata={"tags": ["parameters"]})
    code = [new_code_cell(source) for source in cells]
    notebook = new_notebook(cells=[new_markdown_cell("# Title"), declared, *code], metadata=KERNEL)
    nbformat.write(notebook, folder / f"{name}.ipynb")


@pytest.fixture
def two_notebooks(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write_notebook(
        folder,
        "01_write",
        "size_px: int = 3  # side",
        "from pathlib import Path",
        "Path(run).mkdir(exist_ok=True, parents=True)\nPath(run, 'n.txt').write_text(str(size_px))",
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
        "seen = {'n': n, 'seed': seed, 'look_at_first': 'a.png'}\n"
        "text = json.dumps(seen)\nPath(run, 'metrics.json').write_text(text)",
    )
    return folder


def test_an_unknown_parameter_is_refused_before_anything_runs(two_notebooks, tmp_path):
    with pytest.raises(series.SeriesError, match="did you mean `seed`"):
        series.run_series(str(tmp_path / "run"), parameters={"sed": 1}, notebooks_dir=two_notebooks)
    assert not (tmp_path / "run").exists()


def test_a_run_outside_results_is_refused(two_notebooks):
    with pytest.raises(series.SeriesError, match="must be a name"):
        series.run_series("../elsewhere", notebooks_dir=two_notebooks)


def test_missing_inputs_are_refused_before_anything_runs(two_notebooks, tmp_path):
    run = str(tmp_path / "run")
    with pytest.raises(series.SeriesError, match="no settings file nothing"):
        series.run_series(run, settings="nothing.json", notebooks_dir=two_notebooks)
    write_notebook(two_notebooks, "03_data", "data: str = 'sample'")
    with pytest.raises(series.SeriesError, match="no data set at nowhere"):
        series.run_series(run, data="nowhere.zip", notebooks_dir=two_notebooks)
    assert not (tmp_path / "run").exists()


def test_the_series_runs_and_says_what_it_does(two_notebooks, tmp_path, capsys, monkeypatch):
    elsewhere = tmp_path / "jupyter" / "kernels" / "python3"
    elsewhere.mkdir(parents=True)
    broken = {"argv": ["/no/python"], "display_name": "x", "language": "python"}
    (elsewhere / "kernel.json").write_text(json.dumps(broken))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    folder = series.run_series(
        str(tmp_path / "run"), seed=3, parameters={"size_px": "5"}, notebooks_dir=two_notebooks
    )
    assert json.loads((folder / "metrics.json").read_text())["n"] == 5
    assert json.loads((folder / "metrics.json").read_text())["seed"] == 3
    for name in ("01_write", "02_read"):
        assert (folder / "notebooks" / f"{name}.html").read_text().startswith("<!DOCTYPE html>")
        executed = nbformat.read(folder / "notebooks" / f"{name}.ipynb", as_version=4)
        assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
        assert "input_path" not in executed.metadata.papermill
    said = capsys.readouterr().out
    assert "[2/2] 02_read ..." in said
    assert "Epoch 1/2" in said
    assert "noise" not in said
    assert series.describe_run(folder).endswith("a.png")


def test_a_failing_notebook_names_cell_and_error(two_notebooks, tmp_path):
    parameters = {"fail": True}
    page = tmp_path / "run" / "notebooks" / "02_read.html"
    page.parent.mkdir(parents=True)
    page.write_text("of an earlier run")
    with pytest.raises(series.SeriesError) as caught:
        series.run_series(str(tmp_path / "run"), parameters=parameters, notebooks_dir=two_notebooks)
    first, error, copy = str(caught.value).splitlines()
    assert first == "02_read failed in cell In [4], `# a comment`"
    assert error == "  AssertionError: no nuclei found"
    assert copy.endswith("02_read.ipynb")
    assert page.with_suffix(".ipynb").is_file()
    assert not page.exists()


def test_a_dying_kernel_names_the_cell(two_notebooks, tmp_path):
    with pytest.raises(
        series.SeriesError, match=r"cell In \[5\], `if die:`\n  DeadKernelError: the kernel"
    ):
        series.run_series(
            str(tmp_path / "run"), parameters={"die": "true"}, notebooks_dir=two_notebooks
        )


def test_the_command_line_ends_with_one_message(two_notebooks, capsys, monkeypatch):
    monkeypatch.setattr(series.run_series, "__defaults__", (*[None] * 4, (), two_notebooks))
    (ROOT / "settings").mkdir(exist_ok=True)
    assert series.main(["--settings", "settings/absent.json"]) == 1
    assert capsys.readouterr().err.strip().startswith("there is no settings file")
    assert series.main(["--run", "x", "-p", "sede", "3"]) == 1
    assert "did you mean `seed`" in capsys.readouterr().err


@pytest.fixture(scope="module")
def reduced_run(tmp_path_factory):
    if not list((ROOT / "notebooks").glob("05_*.ipynb")):
        pytest.skip("notebooks/ is not complete")
    run = tmp_path_factory.mktemp("reduced") / "run"
    parameters = {"epochs": REDUCED_EPOCHS, "variants": "scaled", "targets": "flow"}
    return series.run_series(
        str(run), settings="settings/quick.json", seed=1, parameters=parameters
    )


@pytest.mark.slow
def test_the_reduced_series_leaves_a_complete_run(reduced_run):
    pages = sorted(path.stem for path in (reduced_run / "notebooks").glob("*.html"))
    assert pages == [path.stem for path in series.find_notebooks()]
    assert len((reduced_run / "start_here.csv").read_text().splitlines()) == 1 + 6
    assert (reduced_run / "network.keras").stat().st_size > 1000
    assert len((reduced_run / "history.csv").read_text().splitlines()) == 1 + REDUCED_EPOCHS
    metrics = json.loads((reduced_run / "metrics.json").read_text())
    assert (reduced_run / metrics[series.LOOK_FIRST]).suffix == ".png"
    assert (reduced_run / metrics[series.LOOK_FIRST]).is_file()
    assert str(reduced_run / metrics[series.LOOK_FIRST]) in series.describe_run(reduced_run)


@pytest.mark.slow
def test_the_reduced_series_records_sound_metrics(reduced_run):
    metrics = json.loads((reduced_run / "metrics.json").read_text())
    for entry in (metrics["overall"], *metrics["modalities"].values()):
        for score in (entry["dice"], entry["iou"]):
            assert 0 <= score["estimate"] <= 1
            assert score["low"] is None or score["low"] <= score["estimate"] <= score["high"]
        assert entry["iou"]["estimate"] <= entry["dice"]["estimate"]
    assert (
        sum(modality["n_images"] for modality in metrics["modalities"].values())
        == metrics["data"]["test"]
    )
    assert 0 <= metrics["calibration_error"] <= 1


@pytest.mark.slow
def test_the_reduced_series_has_learned_something(reduced_run):
    metrics = json.loads((reduced_run / "metrics.json").read_text())
    assert metrics["overall"]["iou"]["estimate"] > 0.4


@pytest.mark.slow
def test_the_reduced_masks_have_their_images_size(reduced_run):
    masks = list((reduced_run / "masks").glob("*.png"))
    assert masks
    sizes = {path.stem: Image.open(path).size for path in masks}
    data = read_data_set("sample")
    for name, image in zip(data.ids, data.images, strict=True):
        if name in sizes:
            assert sizes.pop(name) == image.shape[1::-1]
    assert not sizes, "masks without an image"
