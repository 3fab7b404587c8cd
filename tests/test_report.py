import pytest

from helpers import report
from helpers.paths import ROOT


def test_readme_tables_are_current():
    text = report.README.read_text(encoding="utf-8")
    assert report.fill(text) == text, "run `python -m helpers.report`"


def test_the_map_names_every_module_once():
    named = [module for group in report.LAYERS.values() for module in group]
    there = {path.stem for path in (ROOT / "helpers").glob("*.py")} - {"__init__"}
    assert len(named) == len(set(named))
    assert set(named) == there


def test_modules_import_from_their_own_line_or_above():
    layers = list(report.LAYERS.values())
    allowed = set()
    for group in layers:
        allowed |= set(group)
        for module in group:
            source = (ROOT / "helpers" / f"{module}.py").read_text(encoding="utf-8")
            for other in report.find_imports(source):
                assert other in allowed, f"{module} imports {other}, which stands below it"


def test_a_block_is_replaced_and_nothing_else(monkeypatch):
    monkeypatch.setitem(report.BLOCKS, "modules", lambda: "new")
    text = "a\n<!-- begin: modules -->\nold\n<!-- end: modules -->\nb\n"
    assert report.fill(text) == text.replace("old", "new")


@pytest.mark.parametrize("name", ["nothing", "modules"])
def test_an_unknown_or_open_block_is_refused(name):
    with pytest.raises(ValueError, match=f"block '{name}'"):
        report.fill(f"<!-- begin: {name} -->\n")
