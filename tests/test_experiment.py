import json

import numpy as np
import pandas as pd
import pytest

from helpers.analysis.modality import MODALITIES, find_modalities
from helpers.data.data_set import read_data_set
from helpers.data.sample import write_sample
from helpers.inversion.findings import (
    compare_arms,
    compare_left_out,
    judge_prediction,
    mark_inverted,
    summarise_arms,
    tabulate_changes,
    tabulate_steps,
)
from helpers.inversion.original_arithmetic import (
    View,
    ViewedNetwork,
    cast_input,
    mirrored_validation,
    raw_input,
    trace_image,
)
from helpers.inversion.runs import ExperimentError, run_experiment, validate_as_original
from helpers.inversion.variants import (
    ARMS,
    OURS,
    STEPS,
    choose_arms,
)
from helpers.network.intensities import network_input
from helpers.run_folder import RunFolder
from helpers.settings import generate_settings, load_settings
from helpers.training.devices import Device

DEVICE = Device("CPU", "tensorflow", "float32", "for tests")
TINY = generate_settings(1, base_filters=2, input_size=32, epoch_num=1, steps_per_epoch=1)


# ---------------------------------------------------------------- the original's arithmetic


def test_the_cast_leaves_only_full_white():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert cast_input(image).sum() == 1
    assert cast_input(image)[-1, -1] == 1


def test_both_inputs_reach_the_network_as_they_are():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for change in (cast_input, raw_input):
        seen = network_input(change(image), TINY)[..., 0]
        np.testing.assert_array_equal(seen, change(image))


class Certain:
    """A network that is sure where its input is above a half, and nearly sure elsewhere."""

    settings = TINY

    def predict(self, image):
        self.seen = image
        return np.where(image > 0.5 * image.max(), 1.0, 0.999).astype(np.float32)


def test_views_change_what_they_say_and_nothing_else():
    image = np.zeros((40, 50), np.uint8)
    image[:20] = 200
    bright = image == 200
    assert (ViewedNetwork(Certain(), View()).predict(image) >= 0.5).all()
    np.testing.assert_array_equal(ViewedNetwork(Certain(), View(cast=True)).predict(image), bright)
    resized = View(cast=True, resized=True)
    network = Certain()
    mask = ViewedNetwork(network, resized).predict(image)
    assert network.seen.shape == (256, 256)
    assert mask.shape == image.shape
    assert np.mean((mask >= 0.5) == bright) > 0.95


def test_the_last_stage_is_the_mask_that_is_scored():
    image = np.zeros((40, 50), np.uint8)
    image[:20] = 200
    view = View("raw", cast=True, resized=True)
    stages = trace_image(Certain(), image, view, cast=True)
    scored = ViewedNetwork(Certain(), view).predict(image) >= 0.5
    np.testing.assert_array_equal(stages[-1].image, scored)
    np.testing.assert_array_equal(stages[1].image, cast_input(image))
    assert all(stage.image.shape[:2] == image.shape for stage in stages)


@pytest.mark.parametrize(("n_images", "ratio"), [(531, 0.025), (40, 0.1), (3, 0.25)])
def test_the_original_validates_on_mirrored_training_images(n_images, ratio):
    items = mirrored_validation(n_images, ratio)
    assert len(items) == pytest.approx(4 * n_images * ratio, abs=1)
    assert {orientation for _, orientation in items} == {3}  # both mirrors, never as it is
    assert len(set(items)) == len(items)
    assert items[-1][0] == n_images - 1


class Taught:
    """Images whose bright pixels are nuclei."""

    def __init__(self, images):
        self.images, self.labels = images, np.int32(images > 0)

    def __len__(self):
        return len(self.images)


def test_mirrored_validation_is_scored_on_the_mirrored_image():
    corner = np.zeros((1, 40, 50), np.uint8)
    corner[0, :20, :10] = 200
    seen = []

    class Seeing:
        def predict(self, image):
            seen.append(image)
            return np.float32(image > 0)

    scores = validate_as_original(Seeing(), Taught(corner), 0.25)
    assert scores.tolist() == [1.0]
    np.testing.assert_array_equal(seen[0], corner[0, ::-1, ::-1])


# ---------------------------------------------------------------- the arms


def test_every_arm_differs_in_one_thing_from_one_that_exists():
    base = load_settings("settings/original.json")
    for arm in list(ARMS.values())[1:]:
        other = ARMS[arm.differs_from]
        one, two = (a.settings(base).model_dump(mode="json") for a in (arm, other))
        n_differences = (
            len(set(flatten(one)) ^ set(flatten(two))) // 2
            + (arm.kinds != other.kinds)
            + (arm.prepare is not other.prepare)
        )
        assert n_differences == 1, arm.name


def flatten(values, path=""):
    if isinstance(values, dict):
        for key, value in values.items():
            yield from flatten(value, f"{path}.{key}")
    else:
        yield path, json.dumps(values)


def test_no_callback_ends_one_arm_before_another():
    base = load_settings("settings/original.json")
    assert base.training_configuration.call_backs_conf
    settings = ARMS["scaled"].settings(base)
    assert not settings.training_configuration.call_backs_conf


def test_steps_lead_through_arms_and_views_that_exist():
    assert all(view in ARMS[arm].views for arm, view in STEPS.values())


def test_arms_are_chosen_by_name():
    assert [arm.name for arm in choose_arms("scaled, original")] == ["scaled", "original"]
    assert len(choose_arms("all")) == len(ARMS)
    with pytest.raises(ValueError, match="no arm 'scald'; did you mean 'scaled'"):
        choose_arms("scald")
    with pytest.raises(ValueError, match="no arm is named"):
        choose_arms(" , ")


# ---------------------------------------------------------------- inverted


def test_a_reversed_mask_and_one_that_marks_all_are_inverted():
    fraction = 0.2
    masks = {
        "right": {"recall": 1.0, "fraction_pred": fraction},
        "reversed": {"recall": 0.0, "fraction_pred": 1 - fraction},
        "a little, reversed": {"recall": 0.05, "fraction_pred": 0.15},
        "a little, right": {"recall": 0.2, "fraction_pred": 0.15},
        "everything": {"recall": 1.0, "fraction_pred": 1.0},
        "nothing": {"recall": 0.0, "fraction_pred": 0.0},
    }
    table = pd.DataFrame(masks).T.assign(fraction_true=fraction)
    marked = mark_inverted(table)
    assert marked["inverted"].tolist() == [False, True, True, False, True, False]
    expected = [0, 1, 0.175, 0.1375, 1, 0]
    np.testing.assert_allclose(marked["ground_marked"], expected, atol=1e-12)


def test_an_image_without_nuclei_or_without_ground_has_a_defined_answer():
    table = pd.DataFrame(
        {"recall": [np.nan, 1.0], "fraction_true": [0.0, 1.0], "fraction_pred": [0.7, 1.0]}
    )
    assert mark_inverted(table)["ground_marked"].tolist() == [0.7, 0.0]


# ---------------------------------------------------------------- trials


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The sample's images, one of eight for the test, and what is known of them."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder / "sample")
    data = read_data_set(folder / "sample", cache_dir=folder / "cache").labelled
    modalities = find_modalities(data.images)["modality"]
    sides = np.where(np.arange(len(data)) % 8 == 0, "test", "train")
    known = pd.DataFrame(
        {"id": data.ids, "modality": modalities, "group": range(len(data)), "split": sides}
    )
    return data, known


@pytest.fixture(scope="module")
def trials(sample, tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("experiment") / "run")
    arms = [ARMS[name] for name in ("original", "without_tissue")]
    return run, arms, run_experiment(run, TINY, *sample, arms, [0, 1], DEVICE)


def test_every_test_image_is_scored_for_every_arm_view_and_seed(trials, sample):
    _, arms, table = trials
    n_test = (sample[1]["split"] == "test").sum()
    counts = table.groupby(["arm", "view", "seed"])["id"].nunique()
    assert (counts.loc["original"] == n_test).all()
    left_out = (sample[1]["split"] != "test") & sample[1]["modality"].str.endswith("tissue")
    assert (counts.loc["without_tissue"] == n_test + left_out.sum()).all()
    assert set(counts.loc["original"].index.get_level_values("view")) == set(arms[0].views)
    assert set(counts.loc["without_tissue"].index.get_level_values("view")) == set(OURS)
    assert set(counts.index.get_level_values("seed")) == {0, 1}


def test_a_finished_trial_is_not_trained_again(trials, sample, monkeypatch):
    run, arms, table = trials
    monkeypatch.setattr("helpers.inversion.runs.train", lambda *a, **k: pytest.fail("trained"))
    again = run_experiment(run, TINY, *sample, arms, [0, 1], DEVICE)
    pd.testing.assert_frame_equal(again, table)


def test_a_trial_of_other_settings_is_refused(trials, sample):
    run, arms, _ = trials
    with pytest.raises(ExperimentError, match=r"seed_0 was made with other settings"):
        run_experiment(run, TINY.with_training(epoch_num=2), *sample, arms, [0], DEVICE)


def test_an_arm_without_training_images_is_refused(sample, tmp_path):
    data, known = sample
    fluorescent = known["modality"].str.endswith("fluorescent") | (known["split"] == "test")
    known = known.assign(split=known["split"].where(fluorescent, "left out"))
    with pytest.raises(ExperimentError, match=r"only_purple_tissue.*no training image"):
        run_experiment(
            RunFolder(tmp_path / "run"), TINY, data, known, [ARMS["only_purple_tissue"]], [0],
            DEVICE,
        )  # fmt: skip


# ---------------------------------------------------------------- findings


def some_scores(arm, iou, seeds=(0, 1)):
    rows = [
        {"arm": arm, "view": "ours", "seed": seed, "id": f"{modality}{n}", "modality": modality,
         "group": n,
         "iou": iou + 0.1 * seed, "fraction_true": 0.2, "fraction_pred": 0.3,
         "ground_marked": 0.1, "inverted": n == 0}
        for modality in MODALITIES[:2] for n in range(4) for seed in seeds
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_summary_holds_the_mean_over_seeds_and_their_range():
    summary = summarise_arms(some_scores("a", 0.5))
    row = summary[(summary["modality"] == MODALITIES[0]) & (summary["measure"] == "iou")].iloc[0]
    assert row["estimate"] == pytest.approx(0.55)
    assert (row["seed_low"], row["seed_high"]) == pytest.approx((0.5, 0.6))
    assert (row["n_images"], row["n_fields"], row["n_seeds"]) == (4, 4, 2)
    inverted = summary[summary["measure"] == "inverted"].iloc[0]
    assert inverted["estimate"] == 0.25
    assert 0 <= inverted["low"] <= 0.25 <= inverted["high"]


def test_one_field_of_view_has_no_interval():
    scores = some_scores("a", 0.5).assign(group=0)
    assert summarise_arms(scores)[["low", "high"]].isna().all(axis=None)
    doubled = pd.concat([scores, scores.assign(arm="b")])
    compared = compare_arms(doubled, ("a", "ours"), ("b", "ours"))
    assert compared[["low", "high"]].isna().all(axis=None)


def test_a_constant_gain_is_found_without_doubt():
    table = pd.concat([some_scores("a", 0.5), some_scores("b", 0.7)])
    compared = compare_arms(table, ("a", "ours"), ("b", "ours"))
    assert compared["modality"].tolist() == list(MODALITIES[:2])
    np.testing.assert_allclose(compared[["difference", "low", "high"]], 0.2)


def test_an_arm_that_did_not_run_is_named():
    with pytest.raises(ValueError, match="arm 'b', view 'ours'; run it first"):
        compare_arms(some_scores("a", 0.5), ("a", "ours"), ("b", "ours"))


def test_the_table_has_a_row_a_step_and_a_column_a_kind():
    table = tabulate_steps(summarise_arms(some_scores("a", 0.5)), [("a", "ours")])
    assert table.index.tolist() == ["a"]
    assert table.columns.tolist() == list(MODALITIES[:2])
    assert table.loc["a", MODALITIES[0]] == "0.55 · 25%"


def test_changes_are_told_with_sign_and_interval():
    table = pd.concat([some_scores("a", 0.5), some_scores("b", 0.7), some_scores("c", 0.6)])
    changes = tabulate_changes(table, [(name, "ours") for name in "abc"])
    assert changes.index.tolist() == ["b", "c"]
    assert changes.loc["b", MODALITIES[0]] == "+0.20 (+0.20 to +0.20)"
    assert changes.loc["c", MODALITIES[1]] == "-0.10 (-0.10 to -0.10)"


PREDICTED = pd.DataFrame(
    {
        "threshold_iou": [0.9, 0.8, 0.2],
        "fails": [False, False, True],
        "rank": [3, 2, 1],
        "rarity_rank": [1, 3, 2],
    },
    index=["large_fluorescent", "small_fluorescent", "grayscale_tissue"],
)


def test_a_prediction_is_judged_by_the_order_of_the_scores():
    measured = pd.Series(
        {"grayscale_tissue": 0.6, "small_fluorescent": 0.7, "large_fluorescent": 0.8}
    )
    told = judge_prediction(PREDICTED, measured)
    assert told == {"by confusion": "3 of 3", "by rarity": "1 of 3", "failures": "2 of 3"}
    told = judge_prediction(PREDICTED, measured.drop("small_fluorescent"))
    assert told == {"by confusion": "1 of 1", "by rarity": "0 of 1", "failures": "1 of 2"}


def test_a_kind_left_out_stands_beside_the_network_that_has_seen_it():
    rows = [
        ("scaled", "purple_tissue", 0.6, False),
        ("scaled", "small_fluorescent", 0.9, False),
        ("without_purple_tissue", "purple_tissue", 0.1, True),
        ("without_purple_tissue", "purple_tissue", 0.3, False),
        ("without_purple_tissue", "small_fluorescent", 0.8, False),
        ("without_tissue", "grayscale_tissue", 0.2, False),
        ("dark_ground_without_tissue", "grayscale_tissue", 0.7, False),
    ]
    table = pd.DataFrame(rows, columns=["arm", "modality", "iou", "inverted"]).assign(view="ours")
    found = compare_left_out(table, PREDICTED).set_index("modality")
    assert found["arm"].to_dict() == {
        "purple_tissue": "without_purple_tissue",
        "grayscale_tissue": "without_tissue",
    }
    purple, gray = found.loc["purple_tissue"], found.loc["grayscale_tissue"]
    assert (purple["trained with it"], purple["inverted without it"]) == (0.6, 0.5)
    assert purple["trained without it"] == pytest.approx(0.2)
    assert gray["threshold"] == gray["trained without it"] == 0.2
    assert np.isnan(purple["threshold"]), "no prediction for it"
    assert np.isnan(gray["trained with it"]), "no network that has seen it"
