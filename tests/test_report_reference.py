"""README's tables of the reference network, and its model card, from results made by hand."""

import json
import re
import zipfile

import numpy as np
import pandas as pd
import pytest

from helpers.evaluation.comparison import say_share
from helpers.evaluation.nuclei_scores import match_images, score_nuclei, summarise_nuclei
from helpers.exploration.kinds import KINDS
from helpers.paths import ROOT
from helpers.run_folder import RunFolder
from helpers.series import report
from helpers.series.model_card import describe_model
from helpers.series.report_reference import (
    REFERENCE_BLOCKS,
    describe_card,
    describe_cross_validation,
    describe_leakage,
    describe_reference,
    describe_targets,
)
from helpers.settings import load_settings, write_settings

SETTINGS = load_settings("settings/quick.json").with_training(epoch_num=7, steps_per_epoch=20)


def draw(names, *, kinds=KINDS[:2], lost=3, seed=0):
    """Return scores of single nuclei, two images a field of view."""
    rng = np.random.default_rng(seed)
    images = []
    for place, name in enumerate(names):
        true = np.kron(np.arange(12).reshape(3, 4), np.ones((8, 8), int))
        pred = np.where(np.isin(true, rng.permutation(12)[:lost]), 0, true)
        images.append((name, kinds[place // 2 % len(kinds)], place // 2, true, pred))
    return score_nuclei(match_images(images))


def add_foreground(table, shift=0.0):
    share = table["tp_50"] / table["n_true"]
    return table.assign(dice=share * 0.9 + shift, iou=share * 0.8 + shift)


@pytest.fixture
def results(tmp_path):
    """Return a folder with a reference network, trained and tested."""
    run = RunFolder(tmp_path / "reference")
    table = draw([f"{n:02}" for n in range(8)])
    run.write_csv("nuclei_scores.csv", table)
    metrics = add_foreground(table)[["id", "kind", "group", "dice", "iou"]]
    run.write_csv("metrics.csv", metrics.assign(diameter_px=9.0))
    run.write_json("metrics.json", {})
    sides = ["test"] * 8 + ["train"] * 5 + ["validation"] * 2 + ["left out"] * 3
    kinds = [*table["kind"], *[KINDS[2]] * 4, KINDS[0], *[KINDS[0]] * 5]
    about = {"id": [f"{n:02}" for n in range(18)], "kind": kinds, "group": range(18)}
    run.write_csv("split.csv", pd.DataFrame(about | {"split": sides}))
    run.write_json("split.json", {"left_out": ["16"]})
    run.write_csv("history.csv", pd.DataFrame({"epoch": [1, 2], "seconds": [3600.0, 5400.0]}))
    run.write_json("training.json", {"device": "an abacus", "epochs": 2})
    write_settings(SETTINGS, run.file("settings.json"))
    return tmp_path


def write_folds(results, split, *, shift=0.0, folds=(1, 2), kinds=KINDS):
    """Write folds of a cross-validation of 20 images, half of them in each."""
    names = [f"image {n:02}" for n in range(20)]
    table = add_foreground(draw(names, kinds=kinds), shift)
    for fold in folds:
        folder = RunFolder(results / "cross_validation" / split / f"fold_{fold}")
        part = table.iloc[(fold - 1) * 10 : fold * 10]
        folder.write_csv("scores.csv", part.assign(has_sibling=split == "random"))
        folder.write_json(
            "fold.json", {"n_folds": 2, "fold": fold, "epochs": 9, "steps_per_epoch": 30}
        )


# ---------------------------------------------------------------- README


@pytest.mark.parametrize("name", REFERENCE_BLOCKS)
def test_what_was_not_measured_is_said_with_the_command_that_does(name, tmp_path):
    told = REFERENCE_BLOCKS[name](tmp_path)
    assert "not measured yet" in told and "\n" not in told
    command = re.search("`(.*)`", told)[1]
    starts = ("make run DATA=", "make nuclei DATA=", "python -m helpers.experiment.folds --data")
    assert command.startswith(starts)
    assert "\\" not in command


def test_a_readme_with_the_blocks_is_filled(tmp_path, monkeypatch):
    for name, describe in REFERENCE_BLOCKS.items():
        monkeypatch.setitem(report.BLOCKS, name, lambda describe=describe: describe(tmp_path))
    text = "".join(f"<!-- begin: {n} -->\n<!-- end: {n} -->\n" for n in REFERENCE_BLOCKS)
    filled = report.fill(text)
    assert filled.count("not measured yet") == len(REFERENCE_BLOCKS) == 4
    assert report.fill(filled) == filled


def test_the_reference_stands_beside_the_published(results):
    told = describe_reference(results)
    lines = told.splitlines()
    assert lines[0] == "|  | AP .50 | AP .70 | AP .90 | averaged AP .50 |"
    assert lines[1] == "|---|---|---|---|---|"
    assert "| StarDist | **.864** | .685 | .119 |  |" in lines
    assert "| EmbedSeg |  |  |  | **.887** |" in lines
    assert re.match(r"\| \*\*ours\*\* \| \.\d{3} \(\.\d{3} to \.\d{3}\) \|", lines[7])
    assert "8 test images of StarDist (4 fields of view, 88 nuclei)" in told
    assert "one training" in told
    assert "10.1007/978-3-030-00934-2_30" in told and "10.1016/j.media.2022.102523" in told


def test_further_seeds_are_found_and_unfinished_ones_are_not(results):
    second = draw([f"{n:02}" for n in range(8)], lost=6, seed=4)
    RunFolder(results / "reference_seed_2").write_csv("nuclei_scores.csv", second)
    (results / "reference_seed_3").mkdir()
    told = describe_reference(results)
    each = [t["tp_50"].sum() / (t["n_true"] + t["n_pred"] - t["tp_50"]).sum() for t in (
        pd.read_csv(results / "reference" / "nuclei_scores.csv"), second
    )]  # fmt: skip
    low, high = sorted(each)
    expected = f"**ours**, lowest to highest of 2 seeds | {say_share(low)} to {say_share(high)} |"
    assert expected in told
    assert "means of 2 trainings" in told


def test_targets_stand_beside_each_other(results):
    names = [f"{n:02}" for n in range(8)]
    tables = {"foreground": draw(names, lost=6), "flow": draw(names, lost=0)}
    table = pd.concat(tables, names=["target"]).reset_index("target")
    RunFolder(results / "targets").write_csv("targets.csv", table)
    lines = describe_targets(results).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| `foreground`", "| `flow`"]
    assert lines[3] == "| `flow` | " + "1.000 (1.000 to 1.000) | " * 3 + "0 | 0 |"
    lost = 100 * (88 - tables["foreground"]["n_pred"].sum()) / 88
    assert lines[2].endswith(f"| 0 | {lost:.0f} |") and "(4 fields of view, 88 nuclei)" in lines[-1]


def test_recall_of_each_kind_stands_beside_the_published(results):
    write_folds(results, "grouped")
    told = describe_cross_validation(results)
    lines = told.splitlines()
    assert lines[0].startswith("|  | images (fields of view) | nuclei | ours | best of the Bowl's")
    assert [line.split(" | ")[0][2:] for line in lines[2:7]] == [
        *("small fluorescent", "large fluorescent", "purple tissue"),
        *("pink-and-purple tissue", "grayscale tissue"),
    ]
    assert "| large fluorescent | 4 (2) | 44 |" in told and "**.88** | .53 |" in told
    assert "2 folds, 9 epochs of 30 steps each" in told
    assert "other images" in told and "10.1038/s41592-019-0612-7" in told


def test_leakage_is_the_difference_on_the_same_images(results):
    write_folds(results, "grouped")
    assert "--split random` does it" in describe_leakage(results)
    write_folds(results, "random", shift=0.05, folds=[1])
    told = describe_leakage(results)
    rows = [line.split(" | ") for line in told.splitlines()]
    assert rows[0] == ["| ", "images (fields of view)", "random split", "grouped split",
                       "difference |"]  # fmt: skip
    assert {row[0] for row in rows[2:-2]} == {
        f"| {score}, {part}" for score in ("Dice", "IoU")
        for part in ("all images", "with a sibling in the random split's training")
    }  # fmt: skip
    assert all(row[1] == "10 (5)" for row in rows[2:-2])
    assert all(row[4] == "+.050 (+.050 to +.050) |" for row in rows[2:-2])
    assert "Grouped split: 2 folds, 9 epochs" in told
    assert "random split: 1 of 2 folds, 9 epochs" in told


# ---------------------------------------------------------------- the model card


def sections(card):
    return re.findall(r"^## (.*)$", card, re.MULTILINE)


def test_there_is_no_card_before_the_network_is_tested(results):
    assert describe_card(results).startswith("# Model card: the reference network")
    (results / "reference" / "metrics.json").unlink()
    assert describe_card(results) is None


def test_the_card_tells_what_its_run_has_left_behind(results):
    card = describe_card(results)
    assert sections(card) == [
        *("What it is for", "Data", "Licence", "How it was trained", "How well it does"),
        *("Where it fails", "How to load it", "How it is made again"),
    ]
    assert "- Training: 5 images, 1 of small fluorescent and 4 of purple tissue." in card
    assert "thresholds: 2 images" in card
    assert "- Test: 8 images of StarDist's test set (4 fields of view, 88 nuclei)." in card
    assert "- Left out: 3 images" in card and "(16: by the published mosaics)" in card
    assert "2 epochs of 20 steps, 8 crops" in card and "2.5 hours" in card
    assert "an abacus" in card
    assert f"| seed | {SETTINGS.training.seed} |" in card
    assert "of 9 to 9 pixels" in card
    assert "diagnosis" in card and "CC0" in card and "MIT" in card
    assert "RUN=reference TEST_SET=data/stardist_test.zip" in card
    assert " nan" not in card and "{" not in card and "\n\n\n" not in card


def test_the_card_scores_the_kinds_that_were_tested(results):
    card = describe_card(results)
    found = summarise_nuclei(pd.read_csv(results / "reference" / "nuclei_scores.csv"))
    recall = found[found["score"] == "recall_70"].set_index("kind")["estimate"]
    row = re.search(r"^\| small fluorescent \| 4 \(2\) \| 44 \| (\S+) ", card, re.MULTILINE)
    assert row[1] == say_share(recall["small_fluorescent"])
    assert f"On all test images: recall .70 {say_share(recall['all'])}" in card
    unknown = "purple tissue and pink-and-purple tissue and grayscale tissue"
    assert f"Nothing is known about {unknown}." in card


def test_the_card_prefers_the_cross_validation(results):
    write_folds(results, "grouped")
    card = describe_card(results)
    assert "By cross-validation" in card and "Nothing is known" not in card
    assert "| grayscale tissue | 4 (2) | 44 |" in card


def test_the_card_says_where_it_fails(results):
    file = results / "reference" / "nuclei_scores.csv"
    table = pd.read_csv(file, dtype={"id": str})
    table.loc[0, ["missed", "merged", "tp_50"]] = [3, 8, 0]
    table.to_csv(file, index=False)
    card = describe_card(results)
    n_missed, n_merged = table["missed"].sum(), table["merged"].sum()
    missed, merged = 100 * n_missed / 88, 100 * n_merged / 88
    assert n_missed > n_merged
    assert f"{missed:.1f} were missed, {merged:.1f} were merged with a neighbour" in card
    lost = (table["n_true"] - table["tp_50"]).sort_values(ascending=False).tolist()
    n_worst = next(n for n in range(1, 9) if sum(lost[:n]) >= sum(lost) / 2)
    assert f"Half of all that were lost are in {n_worst} images of the 8." in card


def test_the_card_tells_sizes_where_they_were_measured(results):
    assert "another size" not in describe_card(results)
    row = {"diameter_px": 80, "way": ["as_is", "found"], "n_images": 5, "n_nuclei": 1234}
    row |= {"ap_50": [0.1, 0.8], "ap_50_low": [0.0, 0.7], "ap_50_high": [0.2, 0.9]}
    row |= {"recall_70": 0.6, "recall_70_low": 0.5, "recall_70_high": 0.7}
    pd.DataFrame(row).to_csv(results / "reference" / "sizes.csv", index=False)
    card = describe_card(results)
    assert "| 80 | 1,234 (5) | .800 (.700 to .900) | .600 (.500 to .700) |" in card
    assert ".100" not in card


def test_the_card_takes_thresholds_and_size_from_the_network(results):
    assert "nucleus from 0.5" in describe_card(results)
    assert "tuned" not in describe_card(results)
    (results / "reference" / "tuning.csv").touch()
    tuned = SETTINGS.with_postprocessing(threshold=0.35, min_area_px=20, min_confidence=0.8)
    file = results / "reference" / "network.keras"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("nuclei/settings.json", tuned.model_dump_json(by_alias=True))
        archive.writestr("weights", bytes(1_500_000))
    card = describe_card(results)
    assert "nucleus from 0.35, at least 20 pixels of a mean probability of at least 0.8" in card
    assert "; tuned on validation images |" in card
    assert ", 1.5 MB |" in card


def test_a_missing_file_names_its_notebook(results):
    (results / "reference" / "history.csv").unlink()
    with pytest.raises(FileNotFoundError, match="04 · Training"):
        describe_model(RunFolder(results / "reference"))


def test_links_of_the_card_lead_somewhere(results):
    card = describe_card(results)
    for name in re.findall(r"\]\(([\w./]+)\)", card):
        assert (results / "reference" / name).exists(), name
    for name in set(re.findall(r"settings/\w+\.json", card)):
        assert (ROOT / name).exists(), name


def test_main_writes_the_readme_and_the_card(results, tmp_path, monkeypatch, capsys):
    readme, card = tmp_path / "README.md", tmp_path / "card.md"
    readme.write_text("<!-- begin: speed -->\nold\n<!-- end: speed -->\n", encoding="utf-8")
    monkeypatch.setitem(report.BLOCKS, "speed", lambda: "new")
    monkeypatch.setattr(report, "README", readme)
    monkeypatch.setattr(report, "MODEL_CARD", card)
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "describe_card", lambda: json.dumps("the card"))
    monkeypatch.setattr("sys.argv", ["report", "--check"])
    with pytest.raises(SystemExit, match=r"README\.md is not current"):
        report.main()
    assert not card.exists()
    monkeypatch.setattr("sys.argv", ["report"])
    report.main()
    assert "new" in readme.read_text("utf-8")
    assert card.read_text("utf-8") == '"the card"'
    monkeypatch.setattr("sys.argv", ["report", "--check"])
    report.main()
    monkeypatch.setattr(report, "describe_card", lambda: None)
    report.main()
