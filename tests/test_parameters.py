"""Parameters: their types and values are checked before any work, wherever they come from."""

import pytest

from helpers import parameters
from helpers.parameters import (
    ParameterError,
    check_page,
    check_type,
    check_values,
    read_declared,
    read_text,
)

QUICK = {"settings": "settings/quick.json"}
CELL = """from typing import Optional

settings: str = "settings/quick.json"  # what to build
run: str = "quick"  # a name
epochs: Optional[int] = None  # passes
threshold: float = 0.5
overrides: dict = {}
"""


def test_a_parameters_cell_is_known_by_its_annotations():
    declared = read_declared(CELL)
    assert declared["epochs"] == "Optional[int]" and len(declared) == 5
    assert read_declared("x: int = 1\nprint(x)") == {}
    assert read_declared("%matplotlib inline") == {}


@pytest.mark.parametrize(
    ("text", "declared", "expected"),
    [
        ("2026", "str", "2026"),
        ("1e5", "str", "1e5"),
        ("none", "str", "none"),
        ("None", "Optional[str]", None),
        ("NaN", "Optional[str]", "NaN"),
        ("7", "int", 7),
        ("5", "Optional[int]", 5),
        ("2", "float", 2),
        ("no", "bool", False),
        ("YES", "bool", True),
        ('{"training.seed": 1}', "dict", {"training.seed": 1}),
    ],
)
def test_texts_become_what_a_parameter_is(text, declared, expected):
    assert read_text("name", text, declared) == expected


@pytest.mark.parametrize(
    ("value", "declared", "allowed"),
    [
        ("3", "int", "a whole number$"),
        (2.5, "Optional[int]", "a whole number or none"),
        (True, "int", "a whole number"),
        (1, "bool", "true or false"),
        ("half", "float", "a number"),
        (float("nan"), "float", "a number"),
        (2026, "str", r"text \(papermill: -r name"),
        ([1], "dict", "a dict"),
    ],
)
def test_values_of_another_type_are_refused(value, declared, allowed):
    with pytest.raises(ParameterError, match=rf"`name` \(=.*\) must be {allowed}"):
        check_type("name", value, declared)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "`epochs`: 0 must be 1 or more"),
        ({"threshold": 1.5}, "`threshold`: 1.5 must be above 0 and below 1"),
        ({"diameter_px": -1.0}, "`diameter_px`: -1.0 must be above 0"),
        ({"seed": -1}, "`seed`: -1 must be from 0"),
        ({"run": "a b"}, "`run`: run 'a b' must be a name"),
        ({"settings": "settings/orignal.json"}, "`settings`: no settings file"),
        ({"data": "nowhere.zip"}, "`data`: there is nothing at nowhere.zip; .*`nuclei data`"),
        ({"test_set": "nowhere"}, "`test_set`: there is nothing at nowhere"),
        ({"start_from": "nobody"}, "`start_from`: .*network.keras is missing"),
        ({"targets": "flow,boundry"}, "`targets`: there is no 'boundry'; did you mean 'boundary'"),
        ({"test_modalities": "purple_tisue"}, "did you mean 'purple_tissue'"),
        ({"variants": "original,scald"}, "`variants`: .*scaled"),
        ({"faults": "skp"}, "did you mean 'skip'"),
        (
            {"start_from": "reference"} | QUICK,
            "`start_from`: .*is built otherwise .*encoder_params",
        ),
        ({"settings": "settings/original.json", "data": None}, "`data`: there is nothing at U_NET"),
        (
            {"overrides": {"training.sead": 1}} | QUICK,
            "`overrides`: .*did you mean 'training.seed'",
        ),
    ],
)
def test_what_can_be_refused_at_once_is(values, message):
    with pytest.raises(ParameterError, match=message):
        check_values(values)


def test_sound_values_pass():
    check_values({"epochs": None, "data": "sample", "test_set": None, "targets": "flow, boundary"})
    check_values({"overrides": {"training.seed": 1}, "data": None} | QUICK)
    check_values({"settings": "settings/fine_tuning.json", "start_from": "reference"})


@pytest.fixture
def page(monkeypatch):
    """Return what makes a kernel that has run these cells."""
    return lambda *cells: monkeypatch.setattr(parameters, "_executed_cells", lambda: list(cells))


def test_in_a_script_there_is_nothing_to_check(page):
    assert check_page() == {}
    page("import helpers", "x = 3")
    assert check_page() == {}


def test_injected_values_take_the_place_of_the_declared_ones(page):
    page(CELL, '# Parameters\nepochs = 3\nrun = "mine"\n', "print(1)")
    assert check_page() == {
        "settings": "settings/quick.json", "run": "mine", "epochs": 3, "threshold": 0.5,
        "overrides": {},
    }  # fmt: skip
    page(CELL, "# Parameters\nepochs = 3\n", CELL.replace("None", "5"))
    assert check_page()["epochs"] == 5, "the cell was run again"


@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ("epoch = 3", "there is no parameter `epoch`; did you mean parameter `epochs`"),
        ("epochs = 0", "`epochs`: 0 must be 1 or more"),
        ('epochs = "3"', r"`epochs` \(='3'\) must be a whole number or none"),
        ("run = 2026", r"`run` \(=2026\) must be text \(papermill: -r run"),
        ("threshold = float('nan')", r"`threshold` \(=nan\) must be a number"),
    ],
)
def test_what_papermill_injects_in_vain_is_refused(page, injected, message):
    page(CELL, f"# Parameters\n{injected}\n")
    with pytest.raises(ParameterError, match=message):
        check_page()
