"""The repository agrees with itself: dependencies, lock, commands and committed notebooks."""

import ast
import contextlib
import graphlib
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

import nbformat
import pytest
import yaml
from helpers.series.report import find_imports
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from papermill import inspect_notebook

import helpers
from helpers.run_folder import ROOT
from helpers.series import SeriesError, check_parameters

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RANGE = SpecifierSet(PROJECT["requires-python"])
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
WORKFLOW = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
MODULES = sorted((ROOT / "helpers").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COMMON = {
    "settings": {"str"},
    "data_set_location": {"Optional[str]"},
    "run": {"str"},
    "seed": {"int", "Optional[int]"},
}
OWN = {"helpers", "tests", "conftest"}
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/(home|root|tmp|work|Users|mnt|var|opt|usr)/|\b[A-Z]:\\\\")


def read_text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def declared(*extras):
    lines = PROJECT["dependencies"] + [
        line for extra in extras for line in PROJECT["optional-dependencies"][extra]
    ]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def locked():
    pins = re.findall(r"^([\w.-]+)(?:\[.*?\])?==(\S+)", LOCK, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


# ---------------------------------------------------------------- dependencies


def test_the_lock_satisfies_every_declared_dependency():
    pins = locked()
    for name, requirement in declared("dev").items():
        assert name in pins, f"{name} is declared, but not locked: make lock"
        assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]}: make lock"


def test_extras_are_locked_with_their_package():
    # Without its extra, `coverage[toml]` is no pinned requirement for pip, which then takes the
    # newest release and refuses it for its missing hash: the lock would work for some weeks only.
    asked = set()
    for name in locked():
        with contextlib.suppress(PackageNotFoundError):
            requirements = map(Requirement, distribution(name).requires or [])
            asked |= {
                (canonicalize_name(r.name), extra)
                for r in requirements
                if not r.marker or r.marker.evaluate({"extra": ""})
                for extra in r.extras
            }
    kept = re.findall(r"^([\w.-]+)\[(.*?)\]==", LOCK, re.MULTILINE)
    pinned = {(canonicalize_name(n), extra) for n, found in kept for extra in found.split(",")}
    assert ("coverage", "toml") in asked
    assert asked <= pinned


def test_every_locked_package_has_hashes_and_none_names_a_host():
    blocks = re.split(r"^(?=\w)", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) > 50
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in LOCK
    assert not re.search(r"^\s*-", re.sub(r"^\s+--hash=.*$", "", LOCK, flags=re.MULTILINE), re.M)
    assert "nvidia" not in LOCK


def test_each_dependency_stands_beside_its_reason():
    text = read_text("pyproject.toml")
    for requirement in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]:
        assert re.search(rf'"{re.escape(requirement)}", +# \w+', text), requirement


def test_conda_takes_python_pip_and_the_lock():
    *conda, pip = ENVIRONMENT["dependencies"]
    python = Requirement(conda[0])
    assert (python.name, python.specifier) == ("python", RANGE)
    assert conda[1:] == ["pip"]
    assert pip == {"pip": ["-r requirements.lock"]}
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"]


def imported_names(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


@cache
def distributions():
    return packages_distributions()


def assert_declared(tree, where, *extras):
    for module in {name.partition(".")[0] for name in imported_names(tree)}:
        if module in sys.stdlib_module_names or module in OWN:
            continue
        names = {canonicalize_name(name) for name in distributions().get(module, [module])}
        assert names & set(declared(*extras)), (
            f"{where} imports {module}, not declared in pyproject.toml"
        )


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_what_helpers_import_is_declared(module):
    assert_declared(ast.parse(module.read_text(encoding="utf-8")), module.name)


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("*.py")), ids=lambda path: path.stem)
def test_what_tests_import_is_declared(path):
    assert_declared(ast.parse(path.read_text(encoding="utf-8")), path.name, "dev")


# ---------------------------------------------------------------- the package


def test_imports_of_helpers_run_one_way():
    graph = {}
    for module in MODULES:
        if module.stem not in ("__init__", "__main__"):
            name = ".".join(module.relative_to(ROOT / "helpers").with_suffix("").parts)
            graph[name] = find_imports(module.read_text(encoding="utf-8"))
    assert graph["network.unet"] == {"settings", "structure"}
    graphlib.TopologicalSorter(graph).prepare()


def test_importing_helpers_loads_no_keras():
    code = "import sys, helpers, helpers.series; print({'keras', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "set()"


def test_one_version_number():
    citation = yaml.safe_load(read_text("CITATION.cff"))
    assert citation["version"] == PROJECT["version"] == helpers.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"][0]["name"] in read_text("LICENSE")


# ---------------------------------------------------------------- commands


def make(*arguments):
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


def fake_python(folder, version):
    script = folder / f"python{version}"
    script.write_text(f"#!/bin/sh\necho {version}\n")
    script.chmod(0o755)
    return script


@pytest.mark.parametrize("version", ["3.10.14", "3.14.0", "2.7.18", "3.1.1"])
def test_a_wrong_python_ends_with_one_message(tmp_path, version):
    done = make("install", f"PYTHON={fake_python(tmp_path, version)}")
    assert done.returncode != 0
    assert f"is Python {version}, but 3.11, 3.12 or 3.13 is needed" in done.stderr
    assert version not in RANGE


def test_a_missing_python_ends_with_one_message():
    done = make("run", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert "no-such-python is not on this machine" in done.stderr


def test_the_makefile_takes_every_python_of_the_range():
    cases = re.search(r'case "\$\$version" in (\S+)\)', read_text("Makefile"))[1]
    minors = {case.removesuffix(".*") for case in cases.split("|")}
    assert minors == {f"3.{minor}" for minor in range(30) if f"3.{minor}.0" in RANGE}


def test_make_passes_on_only_what_is_given(monkeypatch):
    monkeypatch.setenv("DATA", "a stray variable")
    assert "--data" not in make("-n", "run").stdout
    given = make(
        "-n", "run", "DATA=my nuclei.zip", "EPOCHS=2", "SEED=3", "RUN=mine", "STEPS=5"
    ).stdout
    for option in ('--run "$RUN"', '--data "$DATA"', '--seed "$SEED"'):
        assert option in given
    assert '--parameter epochs "$EPOCHS" --parameter steps_per_epoch "$STEPS"' in given


def test_the_reference_network_answers_unless_a_run_is_named():
    predict = make("-n", "predict", "IMAGES=my images", "OUT=out").stdout
    assert '"$IMAGES" --output "$OUT"' in predict
    assert "--run" not in predict
    assert '--run "$RUN"' in make("-n", "predict", "IMAGES=a", "OUT=b", "RUN=mine").stdout
    assert "--parameter network" not in make("-n", "start").stdout
    assert '--parameter network "$RUN"' in make("-n", "start", "RUN=mine").stdout


def test_git_keeps_the_reference_network_and_no_other():
    rules = read_text(".gitignore").splitlines()
    others = rules.index("/results/**/*.keras")
    assert rules[others + 1] == "!/results/reference/network.keras"


def test_help_lists_every_target():
    targets = re.search(r"^\.PHONY: (.*)$", read_text("Makefile"), re.MULTILINE)[1].split()
    listed = re.findall(r"^  make (\w+)", make().stdout, re.MULTILINE)
    assert sorted(listed) == sorted(targets)


def test_continuous_integration_runs_make_test_and_no_more():
    lines = [line for line in read_text(".ci/run").splitlines() if not line.startswith("#")]
    assert lines == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "make test"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_the_workflow_is_pinned_and_may_only_read():
    workflow = yaml.safe_load(WORKFLOW)
    assert workflow["permissions"] == {"contents": "read"}
    job = workflow["jobs"]["test"]
    assert all(f"{version}.0" in RANGE for version in job["strategy"]["matrix"]["python"])
    assert job["timeout-minutes"]
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert actions
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in actions)


def test_texts_for_contributors():
    assert len(read_text("CONTRIBUTING.md").splitlines()) < 50
    assert "### Results changed" in read_text("CHANGELOG.md")


# ---------------------------------------------------------------- committed notebooks


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


def test_a_notebook_is_valid_with_clean_metadata(path, notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}, f"clean the metadata of {cell.source[:40]!r}"
    assert path.stat().st_size < 2_000_000


def test_a_notebook_was_executed_in_order_without_errors(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]


def test_a_notebook_knows_no_machine(notebook):
    texts = [cell.source for cell in notebook.cells]
    for output in outputs(notebook):
        texts.append(output.get("text", ""))
        data = output.get("data", {})
        texts += [
            data[modality]
            for modality in ("text/plain", "text/html", "text/markdown")
            if modality in data
        ]
    for text in texts:
        found = ABSOLUTE_PATH.search(text)
        assert not found, text[max(0, found.start() - 40) : found.end() + 40]
        assert str(ROOT) not in text


def count_lines(source):
    """Lines of a cell but its imports, which a formatter may spread over many."""
    python = "\n".join(line for line in source.splitlines() if not line.startswith(("%", "!")))
    imports = [n for n in ast.parse(python).body if isinstance(n, ast.Import | ast.ImportFrom)]
    return len(python.splitlines()) - sum(n.end_lineno - n.lineno + 1 for n in imports)


def test_a_notebook_keeps_to_the_house_style(path, notebook):
    number = path.stem.partition("_")[0]
    assert notebook.cells[0].source.startswith(f"# {number} · ")
    source = "\n".join(cell.source for cell in code_cells(notebook))
    for banned in (r"sys\.path", r"^\s*[!%]pip", r"(simple|filter)\w*\([\"']ignore[\"']\)"):
        assert not re.search(banned, source, re.MULTILINE), banned
    for cell in code_cells(notebook):
        assert count_lines(cell.source) <= 20, cell.source


def test_what_a_notebook_imports_is_declared(path, notebook):
    lines = "\n".join(cell.source for cell in code_cells(notebook)).splitlines()
    python = "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))
    assert_declared(ast.parse(python), path.name)


def test_parameters_are_visible_and_typed(path, notebook):
    tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert tagged == code_cells(notebook)[:1]
    types = {n: found["inferred_type_name"] for n, found in inspect_notebook(path).items()}
    for name, allowed in COMMON.items():
        assert types.get(name) in allowed, name
    assert "None" not in types.values()
    statements = ast.parse(tagged[0].source).body
    assigned = [node for node in statements if isinstance(node, ast.Assign | ast.AnnAssign)]
    assert len(assigned) == len(types), "papermill does not see every parameter"
    for node in assigned:
        ast.literal_eval(node.value)


def test_an_unknown_parameter_is_refused(path):
    with pytest.raises(SeriesError, match="did you mean `seed`"):
        check_parameters({"sede": 1}, [path])
