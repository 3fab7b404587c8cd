"""The repository agrees with itself: dependencies, lock, commands and committed notebooks."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from helpers.run_folder import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RANGE = SpecifierSet(PROJECT["requires-python"])
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
OWN = {"helpers", "tests", "conftest", "benchmarks", "tools"}
OWN |= {"cv2"}  # benchmarks/loader.py compares with OpenCV where that is installed
OWN |= {path.stem for path in (ROOT / "benchmarks").glob("*.py")}


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


def test_every_locked_package_has_hashes_and_none_names_a_host():
    blocks = re.split(r"^(?=\w)", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) > 50
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in LOCK
    assert not re.search(r"^\s*-", re.sub(r"^\s+--hash=.*$", "", LOCK, flags=re.MULTILINE), re.M)
    assert "nvidia" not in LOCK


def test_conda_takes_python_pip_and_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, *rest = environment["dependencies"]
    assert Requirement(python).specifier == RANGE
    assert rest == ["pip", {"pip": ["-r requirements.lock"]}]


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


@pytest.mark.parametrize("folder", ["helpers", "tests", "benchmarks", "tools"])
def test_what_is_imported_is_declared(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        extras = {"helpers": (), "tools": ("dev", "jax")}.get(folder, ("dev",))
        assert_declared(ast.parse(path.read_text(encoding="utf-8")), path.name, *extras)


# ---------------------------------------------------------------- commands


def make(*arguments):
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("version", ["3.10.14", "3.14.0", "2.7.18", "3.1.1"])
def test_a_wrong_python_ends_with_one_message(tmp_path, version):
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho {version}\n")
    script.chmod(0o755)
    done = make("install", f"PYTHON={script}")
    assert done.returncode != 0 and version not in RANGE
    assert f"is Python {version}, but 3.11, 3.12 or 3.13 is needed" in done.stderr


def test_a_missing_python_ends_with_one_message():
    done = make("run", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert "no-such-python is not on this machine" in done.stderr
