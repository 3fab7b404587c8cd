import pandas as pd
import pytest

from conftest import box, files_of, some_image
from helpers.data.problems import DataFaultError
from helpers.run_folder import RunFolder
from helpers.session import Session, settle_split, start_session
from helpers.settings import generate_settings

FILES = {}
for number, name in enumerate("abc"):
    FILES |= files_of(name, some_image(number), [box(2, 2, 5, 5)])
DRAWN = pd.DataFrame({"id": ["a", "b", "c"], "modality": "k", "group": [0, 1, 2]})
DRAWN = DRAWN.assign(split=["train", "test", "train"])
OTHER = DRAWN.assign(split=["test", "train", "train"])


def session_of(folder, location="sample", **training):
    return Session(generate_settings(2, **training), RunFolder(folder), str(location))


def test_a_run_keeps_the_split_that_it_began_with(tmp_path):
    session = session_of(tmp_path / "run")
    assert settle_split(session, DRAWN).equals(DRAWN)
    assert settle_split(session, OTHER).equals(DRAWN)
    assert session.run.read_csv("split.csv").equals(DRAWN)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"seed": 1}, {}),
        ({"test_split_ratio": 0.5}, {}),
        ({}, {"test_modalities": ["k"]}),
        ({}, {"test_ids": ["b", "a"]}),
        ({}, {"left_out": ["b", "a"]}),
        ({}, {"test_sources": ["b", "a"]}),
    ],
)
def test_another_choice_draws_another_split(tmp_path, settings, kept):
    settle_split(session_of(tmp_path / "run"), DRAWN)
    session = session_of(tmp_path / "run", **settings)
    assert settle_split(session, OTHER, kept).equals(OTHER)
    again = {name: names[::-1] for name, names in kept.items()}
    assert settle_split(session, DRAWN, again).equals(OTHER), "in any order"
    assert settle_split(session_of(tmp_path / "run"), DRAWN).equals(DRAWN)


def test_a_split_that_was_trained_on_is_not_replaced(tmp_path):
    settle_split(session_of(tmp_path / "run"), DRAWN)
    (tmp_path / "run" / "checkpoint.keras").write_text("")
    with pytest.raises(ValueError, match=r"another split: other settings.*; give another `run`"):
        settle_split(session_of(tmp_path / "run", seed=1), OTHER)
    assert RunFolder(tmp_path / "run").read_csv("split.csv").equals(DRAWN)


def test_the_sides_of_a_split_are_read_back(tmp_path, write_set):
    session = session_of(tmp_path / "run", write_set(FILES))
    data = session.read_data()
    with pytest.raises(FileNotFoundError, match="01_data_exploration"):
        session.read_split(data)
    settle_split(session, DRAWN.assign(split=["train", "test", "left out"]))
    sides = session.read_split(data)
    assert {side: part.ids for side, part in sides.items()} == {
        "train": ["a"],
        "validation": [],
        "test": ["b"],
    }
    with pytest.raises(ValueError, match="made for other images"):
        session.read_split(data.select([0, 1]))


def test_parameters_override_the_settings_file(tmp_path, write_set):
    overrides = {"training.learning_rate": 0.5}
    session = start_session("settings/quick.json", "elsewhere", "a-run", 7, overrides)
    assert (session.settings.training.learning_rate, session.settings.training.seed) == (0.5, 7)
    assert session.location == "elsewhere"
    assert start_session("settings/quick.json").location == "sample"
    data = session_of(tmp_path, write_set(FILES)).read_data()
    with pytest.raises(ValueError, match="`data` is a DataSet"):
        start_session("settings/quick.json", data)


def test_a_test_set_of_its_own_brings_its_own_truth_and_goes_by_pixels(tmp_path, write_set):
    session = session_of(tmp_path / "run", write_set(FILES))
    data = session.read_data()
    settle_split(session, DRAWN.assign(split=["train", "test", "left out"]))
    side, known = session.read_test_set(data)
    assert side.ids == known["id"].tolist() == ["b"]

    other = {}
    for number, name in ((1, "renamed"), (2, "c"), (8, "a")):  # "a" has other pixels than ours
        other |= files_of(name, some_image(number), [box(2, 2, 5, 5), box(12, 12, 5, 5)])
    test, known = session.read_test_set(data, str(write_set(other, "other")))
    assert test.ids == known["id"].tolist() and set(test.ids) == {"a", "c", "renamed"}
    assert test.table["n_nuclei"].tolist() == [2, 2, 2]
    assert (known["split"] == "test").all() and known["modality"].notna().all()
    groups = known.set_index("id")["group"]
    assert groups["renamed"] == 1 and groups["c"] == 2 and groups["a"] > 2


def test_a_test_set_that_was_trained_on_is_refused_under_any_name(tmp_path, write_set):
    session = session_of(tmp_path / "run", write_set(FILES))
    settle_split(session, DRAWN)
    seen = write_set(files_of("z", some_image(0), [box(2, 2, 5, 5)]), "seen")
    with pytest.raises(ValueError, match=r"1 images of .* were trained on .*, e.g. 'z'"):
        session.read_test_set(session.read_data(), str(seen))
    session.run.write_csv("split.csv", session.run.read_csv("split.csv").assign(split="train"))
    with pytest.raises(ValueError, match="no test image; give a `test_set`"):
        session.read_test_set(session.read_data())


def test_other_images_or_other_pixels_under_the_same_names_are_another_split(tmp_path):
    session, tested = session_of(tmp_path / "run"), {"test_ids": ["b"]}
    settle_split(session, DRAWN, tested)
    assert settle_split(session, OTHER, tested | {"test_pixels": "x"}).equals(DRAWN), "not noted"
    settle_split(session, OTHER[:2], tested | {"test_pixels": "x"})
    for pixels, kept in (("x", OTHER), ("y", DRAWN)):
        found = settle_split(session, DRAWN[:2], tested | {"test_pixels": pixels})
        assert found.equals(kept[:2])


def test_corrected_masks_under_the_same_names_are_another_data_set(tmp_path, write_set):
    data = session_of(tmp_path / "run", write_set(FILES)).read_data()
    corrected = FILES | files_of("b", some_image(1), [box(12, 12, 5, 5)])
    session = session_of(tmp_path / "run", write_set(corrected, "corrected"))
    settle_split(session, DRAWN, data=data)
    session.read_split(data)
    with pytest.raises(ValueError, match=r"1 of 3 label images differ, e\.g\. 'b'"):
        session.read_split(session.read_data())
    assert settle_split(session, OTHER, data=session.read_data())["split"].equals(OTHER["split"])
    (tmp_path / "run" / "checkpoint.keras").write_text("")
    with pytest.raises(ValueError, match=r"1 of 3 label images differ, e\.g\. 'b'; give another"):
        settle_split(session, OTHER, data=data)


def test_images_without_masks_cannot_be_learnt_from(tmp_path, write_set):
    files = files_of("a", some_image()) | files_of("b", some_image(1))
    with pytest.raises(ValueError, match=r"none of the 2 images in .* has masks"):
        session_of(tmp_path / "run", write_set(files)).read_data()


def test_every_page_reads_masks_as_the_first_one_did(tmp_path, write_set):
    whole = box(2, 2, 5, 5) + box(12, 12, 5, 5) + box(2, 20, 5, 5)
    session = session_of(tmp_path / "run", write_set(files_of("a", some_image(), [whole])))
    with pytest.raises(DataFaultError, match="`--masks components` counts"):
        session.read_data(masks="numbered")
    assert (session.run.read_csv("faults.csv")["fault"] == "number in several pieces").all()
    assert session.read_data(masks="components").table["n_nuclei"].tolist() == [3]
    data = session.read_data()
    assert data.table["n_nuclei"].tolist() == [3]
    settle_split(session, DRAWN.iloc[:1].assign(split="train"))
    other = write_set(files_of("b", some_image(1), [whole]), "other")
    test, _ = session.read_test_set(data, str(other))
    assert test.table["n_nuclei"].tolist() == [3]


def test_a_published_run_is_refused_before_any_work(monkeypatch):
    cell = 'settings: str = "settings/quick.json"\nrun: str = "quick"'
    injected = '# Parameters\nrun = "reference"\n'
    monkeypatch.setattr("helpers.parameters._executed_cells", lambda: [cell, injected])
    with pytest.raises(ValueError, match="results/reference belongs to the repository"):
        start_session("settings/quick.json", run="reference")
    more = f"{injected}replace_published = True\n"
    monkeypatch.setattr("helpers.parameters._executed_cells", lambda: [cell, more])
    assert start_session("settings/quick.json", run="reference").run.replace_published
