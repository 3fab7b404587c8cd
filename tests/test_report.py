import pytest

from helpers.series import report

MAP = report.LAYERS


def test_readme_tables_are_current():
    text = report.README.read_text(encoding="utf-8")
    assert report.fill(text) == text, "run `python -m helpers.series.report`"


def test_the_model_card_is_current():
    card, file = report.describe_card(), report.MODEL_CARD
    there = file.read_text(encoding="utf-8") if file.exists() else None
    assert there == card, "run `python -m helpers.series.report`"


def test_the_map_names_every_module_once():
    named = [report.PACKAGE / folder / f"{m}.py" for folder in MAP for m in MAP[folder]]
    there = set(report.PACKAGE.rglob("*.py")) - set(report.PACKAGE.rglob("__*__.py"))
    assert len(named) == len(set(named))
    assert set(named) == there


def test_modules_import_from_their_own_folder_or_above():
    allowed = set()
    for folder, modules in MAP.items():
        allowed |= {f"{folder}.{module}".lstrip(".") for module in modules}
        for module in modules:
            source = (report.PACKAGE / folder / f"{module}.py").read_text(encoding="utf-8")
            for other in report.find_imports(source):
                assert other in allowed, f"{folder}.{module} imports {other}, which stands below"


def test_a_block_is_replaced_and_nothing_else(monkeypatch):
    monkeypatch.setitem(report.BLOCKS, "modules", lambda: "new")
    text = "a\n<!-- begin: modules -->\nold\n<!-- end: modules -->\nb\n"
    assert report.fill(text) == text.replace("old", "new")


@pytest.mark.parametrize("name", ["nothing", "modules"])
def test_an_unknown_or_open_block_is_refused(name):
    with pytest.raises(ValueError, match=f"block '{name}'"):
        report.fill(f"<!-- begin: {name} -->\n")
