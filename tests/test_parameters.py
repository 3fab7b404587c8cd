import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from helpers import series as parameters

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


@pytest.fixture
def folder(tmp_path):
    for name, own in {
        "01_write": "size_px: int = 3  # side",
        "02_read": "die: bool = False",
    }.items():
        source = f'run: str = "x"\nseed: int = 0  # of everything\n{own}'
        cell = new_code_cell(source, metadata={"tags": ["parameters"]})
        nbformat.write(new_notebook(cells=[cell], metadata=KERNEL), tmp_path / f"{name}.ipynb")
    return tmp_path


def test_notebooks_are_found_in_numerical_order(tmp_path):
    for name in ("10_b", "2_a", "01_c", "notes"):
        (tmp_path / f"{name}.ipynb").touch()
    assert [path.stem for path in parameters.find_notebooks(tmp_path)] == ["01_c", "2_a", "10_b"]
    only = parameters.find_notebooks(tmp_path, only=["10", "01"])
    assert [path.stem for path in only] == ["01_c", "10_b"]


@pytest.mark.parametrize(
    ("only", "message"), [(["07"], "takes 01, 02"), (["four"], "--only 04,05")]
)
def test_only_refuses_what_is_not_there(folder, only, message):
    with pytest.raises(parameters.SeriesError, match=message):
        parameters.find_notebooks(folder, only=only)


def test_a_folder_without_notebooks_is_named(tmp_path):
    with pytest.raises(parameters.SeriesError, match="holds no numbered notebook"):
        parameters.find_notebooks(tmp_path)


@pytest.mark.parametrize(
    ("value", "declared", "expected"),
    [
        ("true", "bool", True),
        ("False", "bool", False),
        (True, "bool", True),
        ("7", "int", 7),
        ("1e-3", "float", 1e-3),
        (2, "float", 2.0),
        ("none", "str", "none"),
        ("None", "Optional[str]", None),
        (None, "Optional[int]", None),
        ("5", "Optional[int]", 5),
        ("[1, 2]", "list[int]", [1, 2]),
        ('{"a": 1}', "dict[str, int]", {"a": 1}),
        ("3", "None", "3"),
    ],
)
def test_values_take_the_declared_type(value, declared, expected):
    converted = parameters.convert_value("name", value, declared)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        ("yes", "bool"),
        (1, "bool"),
        ("2.5", "int"),
        (2.5, "int"),
        (True, "int"),
        (None, "int"),
        ("fast", "float"),
        (True, "float"),
        (3, "str"),
        ("{", "list[int]"),
        ("{}", "list"),
        ("x", "Optional[int]"),
    ],
)
def test_values_of_another_type_are_refused(value, declared):
    with pytest.raises(parameters.SeriesError, match=r"`name` \(=.*\) must be"):
        parameters.convert_value("name", value, declared)


def test_a_parameter_reaches_the_notebooks_that_declare_it(folder):
    notebooks = parameters.find_notebooks(folder)
    jobs = parameters.check_parameters({"seed": "4", "size_px": "8"}, notebooks, folder)
    assert list(jobs.values()) == [{"seed": 4, "size_px": 8}, {"seed": 4}]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sed", r"`sed`; did you mean `seed` \(of 01_write, 02_read\)"),
        ("zzz", "`zzz`; known are die, run, seed, size_px"),
    ],
)
def test_unknown_parameters_are_refused_with_the_nearest(folder, name, message):
    with pytest.raises(parameters.SeriesError, match=message):
        parameters.check_parameters({name: 1}, parameters.find_notebooks(folder), folder)


def test_parameters_of_a_notebook_left_out_are_refused(folder):
    first = parameters.find_notebooks(folder, only=["1"])
    with pytest.raises(parameters.SeriesError, match="`die` belongs to 02_read, which does not"):
        parameters.check_parameters({"die": True}, first, folder)
