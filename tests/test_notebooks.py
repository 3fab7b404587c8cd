"""The committed notebooks: executed, clean, and true for whoever runs them."""

import ast
import re

import nbformat
import pytest
from papermill import inspect_notebook

from helpers.run_folder import ROOT
from tools.notebook_solutions import read_solutions

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/(home|root|tmp|work|Users|mnt|var|opt|usr)/|\b[A-Z]:\\\\")
NO_NUMBERS_OF_DATA = re.compile(
    r"```.*?```|`[^`]*`|\$[^$]*\$|<[^>]*>|\]\([^)]*\)|https?://\S+|doi:\S+"  # code, formulas, links
    r"|^#+ \d\d · |\b0\d\b(?= ·|[,:;.)]| and| to | shows| is|$)"  # pages
    r"|\b[Nn]otebooks? 0\d( (and|to) 0\d)?\b"
    r"|\b(1[89]|20)\d\d[ab]?\b"  # years of citations and editions
    r"|^\s*\d\. ",  # numbered lists
    re.DOTALL | re.MULTILINE,
)
DEFINITIONS = re.compile(
    r"\b0 (and|to|or) 1\b|\b0 to 255\b|\b255\b|\b[01]\b|\b95 %"
    r"|\b(8|16|32)[ -]bits?\b|\b\d+ × \d+\b|\bU-Net 2\b|\b2-?D\b"
)
"""Numbers that are definitions: a probability's range, a byte's, an interval's, a kernel's size."""


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def test_the_series_has_no_gap():
    assert [path.name[:3] for path in NOTEBOOKS] == [f"{n:02d}_" for n in range(10)]


def test_a_notebook_is_valid_with_clean_metadata(path, notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}, f"clean the metadata of {cell.source[:40]!r}"
    assert path.stat().st_size < 1_000_000


def test_a_notebook_was_executed_in_order_without_errors(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]


def test_a_notebook_knows_no_machine(notebook):
    texts = [cell.source for cell in notebook.cells]
    for output in outputs(notebook):
        data = output.get("data", {})
        texts += [output.get("text", "")]
        texts += [data[kind] for kind in data if kind.startswith("text/")]
    for text in texts:
        found = ABSOLUTE_PATH.search(text)
        assert not found, text[max(0, found.start() - 40) : found.end() + 40]


def test_no_number_of_the_data_is_typed_into_the_text(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            rest = DEFINITIONS.sub("", NO_NUMBERS_OF_DATA.sub("", cell.source))
            found = re.search(r"\d[\d.,]*", rest)
            assert not found, rest[max(0, found.start() - 60) : found.end() + 20]


def count_lines(source):
    """Lines of a cell but its imports, which a formatter may spread over many."""
    imports = [n for n in ast.parse(source).body if isinstance(n, ast.Import | ast.ImportFrom)]
    return len(source.splitlines()) - sum(n.end_lineno - n.lineno + 1 for n in imports)


def test_a_notebook_keeps_to_the_house_style(path, notebook):
    assert notebook.cells[0].source.startswith(f"# {path.stem[:2]} · ")
    source = "\n".join(cell.source for cell in code_cells(notebook))
    for banned in (r"sys\.path", r"^\s*[!%]", r"(simple|filter)\w*\([\"']ignore[\"']\)"):
        assert not re.search(banned, source, re.MULTILINE), banned
    for cell in code_cells(notebook):
        assert count_lines(cell.source) <= 22, cell.source


def test_a_picture_comes_before_many_imports(notebook):
    lines = 0
    for cell in code_cells(notebook):
        tree = ast.parse(cell.source).body
        lines += sum(isinstance(node, ast.Import | ast.ImportFrom) for node in tree)
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            break
    assert lines <= 6


def test_every_page_has_exercises_with_solutions(notebook):
    assert len(read_solutions(notebook)) >= 2


def test_parameters_are_visible_and_typed(path, notebook):
    tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert tagged == code_cells(notebook)[:1]
    types = {n: found["inferred_type_name"] for n, found in inspect_notebook(path).items()}
    assert "None" not in types.values()
    statements = ast.parse(tagged[0].source).body
    assigned = [node for node in statements if isinstance(node, ast.Assign | ast.AnnAssign)]
    assert len(assigned) == len(types), "papermill does not see every parameter"
    for node in assigned:
        ast.literal_eval(node.value)


def test_every_parameter_is_used(path, notebook):
    _, *rest = code_cells(notebook)
    names = {
        node.id
        for cell in rest
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Name)
    }
    assert set(inspect_notebook(path)) <= names
