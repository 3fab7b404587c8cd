import json

import numpy as np
import pandas as pd
import pytest

from helpers.analysis.modality import MODALITIES
from helpers.data.data_set import read_data_set
from helpers.data.sample import write_sample
from helpers.evaluation import folds as runs
from helpers.evaluation.fold_plan import (
    FoldError,
    assign_folds,
    describe_images,
    plan_folds,
)
from helpers.evaluation.fold_scores import compare_splits, read_folds, summarise_folds
from helpers.evaluation.folds import main, run_folds, score_fold
from helpers.evaluation.masks import dice
from helpers.evaluation.nuclei import summarise_nuclei
from helpers.network.complexity import change_network
from helpers.network.saving import read_settings
from helpers.run_folder import RunFolder
from helpers.settings import generate_settings, parse_settings, write_settings
from helpers.training.devices import Device

DEVICE = Device("CPU", "tensorflow", "float32", "for tests")
TINY = generate_settings(
    1, base_filters=2, input_size=32, epoch_num=1, steps_per_epoch=1, validation_split_ratio=0.25
)


# ---------------------------------------------------------------- which image in which fold


def some_groups(seed=0):
    """Fields of 1 to 6 images, three modalities in unequal numbers."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, 60)
    groups = np.repeat(np.arange(60), sizes)
    modalities = np.repeat(np.array(MODALITIES[:3])[np.arange(60) % 12 // 5], sizes)
    order = rng.permutation(len(groups))
    return groups[order], modalities[order]


@pytest.mark.parametrize("n_folds", [2, 5, 10])
def test_groups_stay_whole_and_kinds_are_spread(n_folds):
    groups, modalities = some_groups()
    folds = assign_folds(groups, modalities, n_folds, seed=3)
    assert folds.shape == groups.shape
    assert np.issubdtype(folds.dtype, np.integer)
    assert set(folds) == set(range(1, n_folds + 1))
    table = pd.DataFrame({"group": groups, "modality": modalities, "fold": folds})
    assert (table.groupby("group")["fold"].nunique() == 1).all()
    largest = table.groupby("group").size().max()
    counts = pd.crosstab(table["fold"], table["modality"])
    assert ((counts.max() - counts.min()) <= largest).all()


def test_images_by_themselves_are_spread_to_one_image():
    modalities = np.repeat(MODALITIES, [23, 7, 16, 4, 3])
    folds = assign_folds(np.arange(len(modalities)), modalities, 5, seed=0)
    counts = pd.crosstab(folds, modalities)
    assert (counts.max() - counts.min()).max() == 1
    assert np.ptp(np.bincount(folds)[1:]) <= 1


def test_rare_kinds_fill_what_common_ones_leave():
    # Five groups of "a" leave the third fold one short; the only group of "b" goes there.
    modalities = ["a"] * 5 + ["b"]
    folds = assign_folds(range(6), modalities, 3, seed=0)
    assert np.bincount(folds)[1:].tolist() == [2, 2, 2]


def test_the_seed_decides_the_folds():
    groups, modalities = some_groups()
    first, again, other = (assign_folds(groups, modalities, 5, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_field_counts_as_its_most_common_kind():
    folds = assign_folds([0, 0, 0, 1, 2, 3], ["b", "a", "b", "b", "a", "a"], 2, seed=0)
    assert folds[0] == folds[1] == folds[2] != folds[3]
    assert folds[4] != folds[5]


@pytest.mark.parametrize("n_folds", [0, 1, 4])
def test_a_number_of_folds_out_of_range_is_refused(n_folds):
    with pytest.raises(FoldError, match=rf"`n_folds` \(={n_folds}\).*at least 2 and at most 3"):
        assign_folds([0, 0, 1, 2], ["a"] * 4, n_folds, seed=0)


def test_every_image_needs_a_kind():
    with pytest.raises(FoldError, match="2 entries for 3 images"):
        assign_folds([0, 1, 2], ["a", "b"], 2, seed=0)


# ---------------------------------------------------------------- a tiny cross-validation


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Three tiles or fewer of each of six fields of view, and what is known of them."""
    folder = write_sample(tmp_path_factory.mktemp("sample"), seed=0)
    data = read_data_set(folder, cache_dir=tmp_path_factory.mktemp("cache")).labelled
    known = describe_images(data)
    in_large = known["group"].isin(known["group"].value_counts().index[:6])
    chosen = in_large & (known.groupby("group").cumcount() < 3)
    return data.select(chosen), known[chosen].reset_index(drop=True)


def make_plan(sample, folder, split="grouped", settings=TINY, n_folds=3):
    return plan_folds(
        RunFolder(folder), settings, *sample, split, n_folds, settings_file="settings/tiny.json"
    )


@pytest.fixture(scope="module")
def finished(sample, tmp_path_factory):
    """A grouped and a random cross-validation; of the random one only the second fold."""
    folder = tmp_path_factory.mktemp("cross") / "validation"
    grouped = run_folds(make_plan(sample, folder), DEVICE)
    random = run_folds(make_plan(sample, folder, "random"), DEVICE, only=[2])
    return folder, grouped, random


def test_images_of_the_sample_have_siblings(sample):
    _, known = sample
    assert known["group"].value_counts().max() > 1
    assert known["group"].nunique() >= 5


@pytest.mark.parametrize("split", ["grouped", "random"])
def test_sides_of_a_fold_hold_every_image_once(sample, tmp_path, split):
    plan = make_plan(sample, tmp_path, split)
    tested = np.zeros(len(plan.data), int)
    for fold in (1, 2, 3):
        sides = plan.sides(fold)
        assert set(sides) == {"train", "validation", "test"}
        tested += sides == "test"
        if split == "grouped":
            assert (pd.Series(sides).groupby(plan.known["group"]).nunique() == 1).all()
    assert (tested == 1).all()


def test_a_random_fold_leaks_and_a_grouped_one_does_not(finished, sample):
    folder, grouped, random = finished
    assert not grouped["has_sibling"].any()
    plan = make_plan(sample, folder, "random")
    known, sides = plan.known, plan.sides(2)
    taught = set(known.loc[sides == "train", "group"])
    expected = {row.id: row.group in taught for row in known[sides == "test"].itertuples()}
    assert random.set_index("id")["has_sibling"].to_dict() == expected
    assert random["has_sibling"].any()
    fields = known.set_index("id")["group"]
    assert random["group"].tolist() == fields.loc[random["id"]].tolist()


def test_every_image_is_tested_once_and_scored(finished, sample):
    _, grouped, random = finished
    data, _ = sample
    assert sorted(grouped["id"]) == sorted(data.ids)
    assert set(grouped["fold"]) == {1, 2, 3}
    assert set(random["fold"]) == {2}
    for table in (grouped, random):
        assert table[["dice", "iou"]].apply(lambda s: s.between(0, 1)).all(axis=None)
        n_nuclei = data.table.set_index("id")["n_nuclei"]
        assert table["n_true"].tolist() == n_nuclei.loc[table["id"]].tolist()
    assert set(summarise_folds(grouped)["score"]) > {"dice", "iou", "ap_50", "recall_70"}
    assert len(compare_splits(grouped, random))


def test_a_finished_fold_says_what_it_is(finished, sample):
    folder, _, random = finished
    run = RunFolder(folder / "random" / "fold_2")
    told = run.read_json("fold.json")
    plan = make_plan(sample, folder, "random")
    counts = pd.Series(plan.sides(2)).value_counts()
    expected = {
        "split": "random", "fold": 2, "n_folds": 3, "seed": 0, "epochs": 1, "steps_per_epoch": 1,
        "settings": "settings/tiny.json", "n_train": counts["train"],
        "n_validation": counts["validation"], "n_test": len(random),
    }  # fmt: skip
    assert {name: told[name] for name in expected} == expected
    assert told["seconds"] > 0
    stored = read_settings(run.file("network.keras"))
    assert stored.postprocessing.model_dump(mode="json") == told["postprocessing"]
    assert not run.file("checkpoint.keras").exists()
    assert not run.file("plan.json").exists()


def test_finished_folds_are_read_and_not_trained_again(finished, sample, monkeypatch):
    folder, grouped, _ = finished
    monkeypatch.setattr(runs, "train", lambda *a, **k: pytest.fail("trained"))
    again = run_folds(make_plan(sample, folder), DEVICE)
    pd.testing.assert_frame_equal(again, grouped)
    pd.testing.assert_frame_equal(read_folds(folder / "grouped"), grouped)


@pytest.mark.parametrize(
    ("changes", "n_folds", "message"),
    [
        ({"epoch_num": 2}, 3, r"epochs 1 \(now 2\)"),
        ({"seed": 5}, 3, r"seed 0 \(now 5\)"),
        ({"learning_rate": 0.5}, 3, "other settings or images"),
        ({}, 4, r"n_folds 3 \(now 4\)"),
    ],
)
def test_folds_of_another_plan_are_refused(finished, sample, changes, n_folds, message):
    folder, _, _ = finished
    before = (folder / "random" / "fold_2" / "fold.json").read_bytes()
    plan = make_plan(sample, folder, "random", TINY.with_training(**changes), n_folds)
    with pytest.raises(FoldError, match=f"{message}.*another --output"):
        run_folds(plan, DEVICE, only=[2])
    assert (folder / "random" / "fold_2" / "fold.json").read_bytes() == before
    assert [path.name for path in (folder / "random").iterdir()] == ["fold_2"]


def test_precision_and_the_place_of_the_data_may_change(sample, tmp_path):
    key = make_plan(sample, tmp_path).key
    faster = TINY.with_training(precision="mixed_bfloat16")
    moved = TINY.model_copy(update={"data_set_location": "elsewhere"})
    assert make_plan(sample, tmp_path, settings=faster).key == key
    assert make_plan(sample, tmp_path, settings=moved).key == key


def test_restarts_count_only_where_a_fold_reaches_them(sample, tmp_path):
    values = json.loads(TINY.model_dump_json(by_alias=True))
    values["training_configuration"]["call_backs_conf"] = {}
    alone = parse_settings(json.dumps(values))
    falling = alone.with_training(epoch_num=4, learning_rate_schedule="cosine")
    late, early = (falling.with_training(learning_rate_restarts=[n]) for n in (4, 2))
    key = make_plan(sample, tmp_path, settings=falling).key
    assert make_plan(sample, tmp_path, settings=late).key == key
    assert make_plan(sample, tmp_path, settings=early).key != key


def test_an_interrupted_fold_goes_on_and_others_are_refused_meanwhile(
    sample, tmp_path, monkeypatch
):
    plan = make_plan(sample, tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs, "score_fold", interrupt)
        run_folds(plan, DEVICE, only=[1])
    with pytest.raises(FileNotFoundError, match="no finished fold"):
        read_folds(plan.run.path)
    other = make_plan(sample, tmp_path / "run", settings=TINY.with_training(epoch_num=2))
    with pytest.raises(FoldError, match="epochs 1"):
        run_folds(other, DEVICE, only=[2])
    monkeypatch.setattr("helpers.training.loop._fit", lambda *a, **k: pytest.fail("trained again"))
    table = run_folds(plan, DEVICE, only=[1])
    assert set(table["fold"]) == {1}


def interrupt(*arguments):
    raise KeyboardInterrupt


def test_thresholds_come_from_the_validation_side(sample, tmp_path, monkeypatch):
    settings = change_network(TINY, target="distance")
    tuned_on, tune = [], runs.tune_network

    def watch(run, network, validation):
        tuned_on.extend(validation.ids)
        return tune(run, network, validation)

    monkeypatch.setattr(runs, "tune_network", watch)
    plan = make_plan(sample, tmp_path / "run", settings=settings)
    run_folds(plan, DEVICE, only=[3])
    validation = plan.known.loc[plan.sides(3) == "validation", "id"]
    assert tuned_on == validation.tolist()
    run = plan.folder(3)
    stored = read_settings(run.file("network.keras")).postprocessing
    assert stored.model_dump(mode="json") == run.read_json("fold.json")["postprocessing"]
    assert run.file("tuning.csv").exists()


def test_folds_and_splits_that_there_are_not_are_refused(sample, tmp_path):
    with pytest.raises(FoldError, match="no fold 0, 4; the folds are 1 to 3"):
        run_folds(make_plan(sample, tmp_path), DEVICE, only=[4, 2, 0])
    with pytest.raises(FoldError, match="split 'groups' must be one of: grouped, random"):
        make_plan(sample, tmp_path, "groups")
    text = TINY.model_dump_json(by_alias=True)
    idle = parse_settings(text.replace('"enable_training":true', '"enable_training":false'))
    with pytest.raises(FoldError, match="enable_training is false"):
        make_plan(sample, tmp_path, settings=idle)


class Half:
    """A network to which the left half is nucleus, faintly; it counts its calls."""

    target = "foreground"
    calls = 0

    def __init__(self, **choices):
        self.settings = TINY.with_postprocessing(**choices)

    def predict_maps(self, image):
        self.calls += 1
        maps = np.zeros((*image.shape[:2], 1), np.float32)
        maps[:, : image.shape[1] // 2] = 0.6
        return maps


def test_each_image_is_asked_about_once_and_its_foreground_compared(sample):
    data, known = sample
    sides = np.array(["test", "train", "validation", "test"] + ["train"] * (len(data) - 4))
    network = Half()
    table = score_fold(network, data, known, sides)
    assert network.calls == len(table) == 2
    assert table["id"].tolist() == [data.ids[0], data.ids[3]]
    assert table["n_pred"].tolist() == [1, 1]
    masks = data.labels[3] > 0, network.predict_maps(data.images[3])[..., 0] > 0
    assert table["dice"].iloc[1] == dice(*masks)
    taught = known["group"][sides == "train"]
    assert table["has_sibling"].tolist() == known["group"].iloc[[0, 3]].isin(taught).tolist()


@pytest.mark.parametrize("choices", [{"min_confidence": 0.9}, {"threshold": 0.7}])
def test_what_postprocessing_drops_counts_for_the_nuclei_alone(sample, choices):
    data, known = sample
    sides = np.array(["test"] + ["train"] * (len(data) - 1))
    table = score_fold(Half(**choices), data, known, sides)
    kept = score_fold(Half(), data, known, sides)
    assert (table["n_pred"].item(), kept["n_pred"].item()) == (0, 1)
    assert table["dice"].item() == kept["dice"].item()


# ---------------------------------------------------------------- known answers


def some_scores(values, groups=None, modalities=None, siblings=None):
    """A fold's table: `values` are the dice; every image has 4 nuclei, of which 3 are found."""
    n = len(values)
    zeros = dict.fromkeys([f"tp_{percent}" for percent in range(75, 100, 5)], 0)
    return pd.DataFrame(
        {
            "id": [f"image {i}" for i in range(n)],
            "modality": MODALITIES[0] if modalities is None else modalities,
            "group": range(n) if groups is None else groups,
            "n_true": 4, "n_pred": 3,
            **dict.fromkeys(["tp_50", "tp_55", "tp_60", "tp_65"], 3), "tp_70": 2, **zeros,
            "ap_50": 0.75, "bowl": 0.4, "iou_sum": 2.1, "aji_intersection": 3, "aji_union": 10,
            "dice": values, "iou": np.array(values) / 2,
            "has_sibling": False if siblings is None else siblings,
        }
    )  # fmt: skip


def test_the_summary_has_the_scores_of_nuclei_and_of_the_foreground():
    table = some_scores(
        [0.2, 0.4, 0.9], groups=[0, 0, 1], modalities=[*MODALITIES[:1] * 2, MODALITIES[2]]
    )
    summary = summarise_folds(table, n_resamples=50)
    assert list(summary.columns) == list(summarise_nuclei(table, n_resamples=5).columns)
    rows = summary.set_index(["score", "modality"])
    assert rows.loc[("dice", "all"), "estimate"] == pytest.approx(0.5)
    assert rows.loc[("iou", MODALITIES[0]), "estimate"] == pytest.approx(0.15)
    assert rows.loc[("recall_70", "all"), "estimate"] == pytest.approx(0.5)
    assert rows.loc[("ap_50", "all"), "estimate"] == pytest.approx(0.75)
    counts = rows.loc[("dice", MODALITIES[0]), ["n_images", "n_fields", "n_nuclei"]]
    assert counts.tolist() == [2, 1, 8]
    assert np.isnan(rows.loc[("dice", MODALITIES[0]), "low"]), "one field of view has no interval"
    low, high = rows.loc[("dice", "all"), ["low", "high"]]
    assert (low, high) == pytest.approx((0.3, 0.9))


def test_the_gain_of_leaking_images_is_told_apart():
    modalities = [MODALITIES[0]] * 4 + [MODALITIES[2]] * 2
    grouped = some_scores([0.5, 0.6, 0.7, 0.8, 0.3, 0.4], modalities=modalities)
    gain = np.array([0.1, 0.1, 0, 0, 0.2, 0.2])
    random = some_scores(grouped["dice"] + gain, modalities=modalities, siblings=gain > 0)
    rows = compare_splits(grouped, random).set_index(["score", "modality", "siblings"])
    assert rows.loc[("dice", "all", "any"), "difference"] == pytest.approx(0.1)
    assert rows.loc[("dice", "all", "any"), "grouped"] == pytest.approx(0.55)
    assert rows.loc[("dice", "all", "any"), "random"] == pytest.approx(0.65)
    small = rows.loc[("dice", MODALITIES[0], "with")]
    assert small[["difference", "low", "high"]].tolist() == pytest.approx([0.1] * 3)
    none = rows.loc[("iou", MODALITIES[0], "without")]
    assert none[["difference", "low", "high"]].tolist() == pytest.approx([0] * 3)
    assert rows.loc[("iou", MODALITIES[2], "with"), "difference"] == pytest.approx(0.1)
    assert ("dice", MODALITIES[2], "without") not in rows.index
    counts = rows.loc[("dice", "all", "with"), ["n_images", "n_fields"]]
    assert counts.tolist() == [4, 4]


def test_only_common_images_are_compared_in_any_order():
    grouped = some_scores([0.1, 0.5, 0.6, 0.9])
    random = some_scores([0.0, 0.7, 0.7, 0.0]).iloc[[2, 1]]
    row = compare_splits(grouped, random).iloc[0]
    assert row[["score", "siblings", "n_images"]].tolist() == ["dice", "any", 2]
    assert row["difference"] == pytest.approx(0.15)
    assert (row["low"], row["high"]) == pytest.approx((0.1, 0.2))


def test_intervals_are_over_fields_of_view():
    grouped = some_scores([0.5, 0.5, 0.5], groups=[7, 7, 7])
    random = grouped.assign(dice=[0.6, 0.7, 0.8])
    row = compare_splits(grouped, random).iloc[0]
    assert row["n_fields"] == 1
    assert row["difference"] == pytest.approx(0.2)
    assert row[["low", "high"]].isna().all()


def test_tables_that_cannot_be_compared_are_refused():
    table = some_scores([0.1, 0.2])
    with pytest.raises(ValueError, match="none of the 2 images of `random`"):
        compare_splits(table, table.assign(id=["x", "y"]))
    with pytest.raises(ValueError, match="`random` has 'image 0' more than once"):
        compare_splits(table, pd.concat([table, table]))


def test_folds_are_read_in_order_with_ids_as_text(tmp_path):
    for fold in (10, 2):
        run = RunFolder(tmp_path / "cross" / "grouped" / f"fold_{fold}")
        run.write_csv("scores.csv", some_scores([fold / 10]).assign(id="007"))
        run.write_json("fold.json", {})
    RunFolder(tmp_path / "cross" / "grouped" / "fold_3").write_csv("scores.csv", some_scores([1]))
    table = read_folds(tmp_path / "cross" / "grouped")
    assert table["fold"].tolist() == [2, 10]
    assert table["id"].tolist() == ["007", "007"]
    with pytest.raises(FileNotFoundError, match=r"folds --output cross --split random` first"):
        read_folds(tmp_path / "cross" / "random")


# ---------------------------------------------------------------- from a shell


@pytest.fixture
def command(sample, tmp_path, monkeypatch):
    """The arguments of a run on the images of the sample, which are not read again."""
    data, known = sample
    monkeypatch.setattr(runs, "read_data_set", lambda location: Labelled(data))
    monkeypatch.setattr(runs, "describe_images", lambda data: known)
    monkeypatch.setattr(runs, "choose_device", lambda settings: DEVICE)
    file = write_settings(TINY, tmp_path / "tiny.json")
    output = tmp_path / "cross"
    return ["--data", "any", "--settings", str(file), "--output", str(output), "--folds", "3"]


class Labelled:
    """A data set of which all images are labelled."""

    def __init__(self, data):
        self.labelled = data


def test_the_command_runs_the_folds_that_are_wanted(command, tmp_path, capsys):
    asked = [*command, "--split", "random", "--only", "2", "--steps", "2", "--seed", "4"]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert "random, fold 2 of 3 done: dice 0." in out
    assert "1 of 3 folds finished" in out
    told = json.loads((tmp_path / "cross" / "random" / "fold_2" / "fold.json").read_text())
    assert (told["seed"], told["epochs"], told["steps_per_epoch"]) == (4, 1, 2)
    assert told["settings"].endswith("tiny.json")

    assert main([*asked, "--epochs", "3"]) == 2
    assert "epochs 1 (now 3)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--split", "grouped", "--only", "1,4"], "no fold 4; the folds are 1 to 3"),
        (["--split", "grouped", "--folds", "1"], "`n_folds` (=1) must be at least 2"),
        (["--split", "grouped", "--output", "../up"], "run '../up' must be a name"),
        (["--split", "grouped", "--settings", "no.json"], "no.json"),
        (["--split", "grouped", "--epochs", "0"], "epoch_num"),
    ],
)
def test_wrong_arguments_end_with_one_message(command, wrong, message, capsys):
    assert main([*command, *wrong]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--split", "groups"], "invalid choice: 'groups'"),
        (["--split", "grouped", "--only", "1;2"], "'1;2' must be numbers of folds"),
        ([], "--split"),
    ],
)
def test_arguments_that_cannot_be_read_end_with_one_message(command, wrong, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command, *wrong])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_an_interruption_says_how_to_go_on(command, monkeypatch, capsys):
    monkeypatch.setattr(runs, "run_folds", interrupt)
    assert main([*command, "--split", "grouped"]) == 130
    assert "the same command goes on" in capsys.readouterr().err
