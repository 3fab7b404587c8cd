"""Execute the committed notebooks in place, at their defaults, and leave clean metadata.

`python tools/execute_notebooks.py` does all of them in order, `--only 03` one.
"""

import argparse
import base64
import io
import os
import re

import nbformat
from nbclient import NotebookClient
from PIL import Image

from helpers.run_folder import ROOT
from helpers.series import ENVIRONMENT, NOTEBOOKS_DIR, find_notebooks

WIDGET = "application/vnd.jupyter.widget-view+json"  # a progress bar, dead once saved
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def refresh_notebook(path) -> None:
    """Execute one notebook from top to bottom and write it back, without traces of the machine.

    A failing notebook is left as it was; the error names the cell.
    """
    notebook = nbformat.read(path, as_version=4)
    folder = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, resources=folder).execute()
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            bars = [WIDGET in output.get("data", {}) for output in cell.outputs]
            outputs = zip(cell.outputs, bars, strict=True)
            cell.outputs = [_clean(output) for output, is_bar in outputs if not is_bar]
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    nbformat.write(notebook, path)


def _clean(output):
    """Return `output` without what changes from run to run though nothing has changed."""
    if "text/plain" in output.get("data", {}):
        text = output["data"]["text/plain"]
        output["data"]["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", text)
    if "image/png" in output.get("data", {}):
        output["data"]["image/png"] = _lighten(output["data"]["image/png"])
    if str(ROOT) in str(output) or output.get("name") == "stderr":
        raise ValueError(
            "a path of this machine, or a warning (the first import must be one of `helpers`), in "
            f"the output: {output}"
        )
    return output


def _lighten(encoded: str) -> str:
    """Return a figure in a palette of 256 colours, which takes half the room."""
    figure = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")
    opaque = Image.alpha_composite(Image.new("RGBA", figure.size, "white"), figure).convert("RGB")
    light = io.BytesIO()
    opaque.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        light, "png", optimize=True
    )
    return base64.b64encode(light.getvalue()).decode()


def main() -> None:
    """Refresh the notebooks that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python tools/execute_notebooks.py", description=main.__doc__
    )
    parser.add_argument("--only", default="", help="numbers, e.g. 03 or 01,02; default all")
    only = [number for number in parser.parse_args().only.split(",") if number]
    os.environ.update(ENVIRONMENT, TQDM_DISABLE="1")
    for path in find_notebooks(NOTEBOOKS_DIR, only):
        refresh_notebook(path)
        print(f"refreshed {path.relative_to(ROOT)}", flush=True)


if __name__ == "__main__":
    main()
