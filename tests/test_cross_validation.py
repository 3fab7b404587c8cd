"""The benchmark that trains a network a fold: who is tested when, resuming, and its tables."""

import json

import numpy as np
import pandas as pd
import pytest

from helpers.analysis.modality import MODALITIES
from helpers.data.data_set import read_data_set
from helpers.run_folder import RunFolder
from helpers.settings import generate_settings, load_settings
from tests.conftest import DEVICE, load_benchmark

pytestmark = pytest.mark.slow

TINY = generate_settings(
    1, base_filters=2, input_size=32, epoch_num=1, steps_per_epoch=1, validation_split_ratio=0.25
)
folds = load_benchmark("cross_validation")


# ---------------------------------------------------------------- which image in which fold


@pytest.mark.parametrize("n_folds", [2, 5, 10])
def test_groups_stay_whole_and_modalities_are_spread(n_folds):
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 7, 60)
    groups = np.repeat(np.arange(60), sizes)
    modalities = np.repeat(np.array(MODALITIES[:3])[np.arange(60) % 12 // 5], sizes)
    found = folds.assign_folds(groups, modalities, n_folds, seed=3)
    table = pd.DataFrame({"group": groups, "modality": modalities, "fold": found})
    assert set(found) == set(range(1, n_folds + 1))
    assert (table.groupby("group")["fold"].nunique() == 1).all()
    counts = pd.crosstab(table["fold"], table["modality"])
    assert ((counts.max() - counts.min()) <= sizes.max()).all()
    other = folds.assign_folds(groups, modalities, n_folds, seed=4)
    assert (found != other).any(), "the seed decides"


# ---------------------------------------------------------------- a tiny cross-validation


@pytest.fixture(scope="module")
def sample():
    """Three tiles or fewer of each of six fields of view, and what is known of them."""
    data = read_data_set("sample").labelled
    known = folds.describe_images(data)
    in_large = known["group"].isin(known["group"].value_counts().index[:6])
    chosen = in_large & (known.groupby("group").cumcount() < 3)
    return data.select(chosen), known[chosen].reset_index(drop=True)


@pytest.fixture(scope="module")
def make_plan(sample):
    def make(folder, split="grouped", settings=TINY, n_folds=3):
        return folds.plan_folds(RunFolder(folder), settings, *sample, split, n_folds)

    return make


@pytest.fixture(scope="module")
def finished(make_plan, tmp_path_factory):
    """A grouped and a random cross-validation; of the random one only the second fold."""
    folder = tmp_path_factory.mktemp("cross") / "validation"
    grouped = folds.run_folds(make_plan(folder), DEVICE)
    random = folds.run_folds(make_plan(folder, "random"), DEVICE, only=[2])
    return folder, grouped, random


def test_every_image_is_tested_once_and_scored(finished, sample):
    folder, grouped, random = finished
    data, _ = sample
    assert sorted(grouped["id"]) == sorted(data.ids)
    n_nuclei = data.table.set_index("id")["n_nuclei"]
    for table in (grouped, random):
        assert table["n_true"].tolist() == n_nuclei.loc[table["id"]].tolist()
    assert (set(grouped["fold"]), set(random["fold"])) == ({1, 2, 3}, {2})
    folds.summarise(RunFolder(folder))
    assert set(RunFolder(folder).read_csv("summary.csv")["score"]) > {"dice", "iou", "ap_50"}
    assert set(RunFolder(folder).read_csv("comparison.csv")["score"]) == {"dice", "iou"}


def test_a_random_fold_leaks_and_a_grouped_one_does_not(finished, make_plan):
    folder, grouped, random = finished
    assert not grouped["has_sibling"].any()
    plan = make_plan(folder, "random")
    sides = plan.sides(2)
    taught = set(plan.known.loc[sides == "train", "group"])
    expected = {row.id: row.group in taught for row in plan.known[sides == "test"].itertuples()}
    assert random.set_index("id")["has_sibling"].to_dict() == expected
    assert random["has_sibling"].any()


def test_finished_folds_are_read_and_not_trained_again(finished, make_plan, monkeypatch):
    folder, grouped, _ = finished
    assert not list(folder.rglob("checkpoint.keras"))
    monkeypatch.setattr(folds, "train", lambda *a, **k: pytest.fail("trained"))
    pd.testing.assert_frame_equal(folds.run_folds(make_plan(folder), DEVICE), grouped)


# ---------------------------------------------------------------- known answers


def some_scores(values, **columns):
    """A split's table: `values` are the dice."""
    table = {"id": [f"image {i}" for i in range(len(values))], "modality": MODALITIES[0]}
    table |= {"group": range(len(values)), "has_sibling": False}
    return pd.DataFrame(table | {"dice": values, "iou": np.array(values) / 2} | columns)


def test_the_gain_of_leaking_images_is_seen_apart():
    modality = [MODALITIES[0]] * 4 + [MODALITIES[2]] * 2
    grouped = some_scores([0.5, 0.6, 0.7, 0.8, 0.3, 0.4], modality=modality)
    gain = np.array([0.1, 0.1, 0, 0, 0.2, 0.2])
    random = some_scores(grouped["dice"] + gain, modality=modality, has_sibling=gain > 0)
    compared = folds.compare_splits(grouped, random)
    rows = compared.set_index(["score", "modality", "siblings"]).sort_index()
    everything = rows.loc[("dice", "all", "any"), ["grouped", "random", "difference"]]
    assert everything.tolist() == pytest.approx([0.55, 0.65, 0.1])
    numbers = ["difference", "low", "high"]
    small = rows.loc[("dice", MODALITIES[0])]
    assert small.loc["with", numbers].tolist() == pytest.approx([0.1] * 3)
    assert small.loc["without", numbers].tolist() == pytest.approx([0] * 3)
    assert ("dice", MODALITIES[2], "without") not in rows.index


def test_the_published_comparison_comes_from_the_folds_that_are_kept():
    run = RunFolder("cross_validation")
    splits = [folds.read_folds(RunFolder(run.path / name)) for name in folds.SPLITS]
    found = folds.compare_splits(*splits)
    pd.testing.assert_frame_equal(found.round(4), run.read_csv("comparison.csv"), atol=1e-4)


def test_the_kept_folds_are_read_by_the_same_command():
    run = RunFolder(RunFolder("cross_validation").path / "grouped")
    known = folds.read_folds(run).sort_values("id")
    known = known.assign(unit=known["group"], n_nuclei=known["n_true"])
    known = known[["id", "modality", "group", "unit", "fold", "n_nuclei"]]
    settings = load_settings("settings/reference.json").with_training(epoch_num=12)
    kept = json.loads((run.path / "fold_1" / "fold.json").read_text(encoding="utf-8"))
    assert folds._key(settings, known) == kept["key"]
