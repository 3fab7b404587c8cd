"""What holds before Keras loads, whoever starts Python: fast training and quiet pages."""

import json
import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from helpers.run_folder import ROOT

SET_BY_HELPERS = ("TF_ENABLE_ONEDNN_OPTS", "TF_CPP_MIN_LOG_LEVEL")
BARE = {k: v for k, v in os.environ.items() if k not in SET_BY_HELPERS}


def run_python(source, **environment):
    command = [sys.executable, "-c", source]
    done = subprocess.run(
        command, cwd=ROOT, env=BARE | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_importing_helpers_sets_what_make_sets_and_stays_cheap():
    source = "import sys, os, helpers; print(*(os.environ[n] for n in {}), {!r} in sys.modules)"
    source = source.format(SET_BY_HELPERS, "keras")
    assert run_python(source) == "1 3 False"
    assert run_python(source, TF_ENABLE_ONEDNN_OPTS="0") == "0 3 False"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's C library")
def test_freed_memory_is_kept():
    source = (
        "import helpers, numpy as np, resource\n"
        "def use(): np.ones(2**25, np.uint8)\n"
        "use(); before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(5): use()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    assert int(run_python(source)) < 1000 < int(run_python(source, MALLOC_ARENA_TEST="8"))


def test_logs_of_libraries_stay_out_of_a_page_and_warnings_do_not():
    cells = [
        "import helpers",
        "import os\nos.write(2, b'noise');",
        "import warnings\nwarnings.warn('seen')",
    ]
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, kernel_name="python3").execute()
    outputs = [nbformat.from_dict(cell.outputs) for cell in notebook.cells]
    assert outputs[:2] == [[], []]
    assert "seen" in outputs[2][0].text


@pytest.mark.parametrize("page", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_no_page_loads_keras_before_helpers(page):
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    source = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    loaded = re.findall(r"^\s*(?:import|from) (helpers|keras|tensorflow)", source, re.MULTILINE)
    assert loaded[:1] in ([], ["helpers"])
