"""The experiment of notebook 06: the original's arithmetic, its variants, and how masks fail."""

import json

import numpy as np
import pandas as pd
import pytest

from helpers.analysis.modality import MODALITIES, find_modalities
from helpers.data.data_set import read_data_set
from helpers.inversion.runs import (
    ExperimentError,
    _key,
    compare_variants,
    mark_failures,
    read_variants,
    run_variants,
    summarise_variants,
)
from helpers.inversion.variants import INPUTS, STEPS, VARIANTS, View, ViewedNetwork, choose_variants
from helpers.network.intensities import network_input
from helpers.overrides import flatten
from helpers.run_folder import RunFolder
from helpers.settings import generate_settings, load_settings
from tests.conftest import DEVICE

TINY = generate_settings(1, base_filters=2, input_size=32, epoch_num=1, steps_per_epoch=1)


# ---------------------------------------------------------------- the original's arithmetic


def test_the_cast_leaves_only_full_white_and_reaches_the_network_unchanged():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    changed = {name: INPUTS[name](image) for name in ("cast", "raw")}
    assert changed["cast"].sum() == changed["cast"][-1, -1] == 1
    for each in changed.values():
        np.testing.assert_array_equal(network_input(each, TINY)[..., 0], each)


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
    network = Certain()
    mask = ViewedNetwork(network, View(cast=True, resized=True)).predict(image)
    assert network.seen.shape == (256, 256)
    assert mask.shape == image.shape
    assert np.mean((mask >= 0.5) == bright) > 0.95


# ---------------------------------------------------------------- the variants


def test_every_variant_differs_in_one_thing_from_one_that_exists():
    base = load_settings("settings/original.json")
    assert base.training_configuration.call_backs_conf
    for variant in list(VARIANTS.values())[1:]:
        other = VARIANTS[variant.differs_from]
        one, two = (v.settings(base).model_dump(mode="json") for v in (variant, other))
        assert not one["training_configuration"]["call_backs_conf"]
        n_differences = (
            len(set(map(str, flatten(one))) ^ set(map(str, flatten(two)))) // 2
            + (variant.modalities != other.modalities)
            + (variant.prepare is not other.prepare)
        )
        assert n_differences == 1, variant.name
    assert all(view in VARIANTS[variant].views for variant, view in STEPS.values())


def test_variants_are_chosen_by_name():
    chosen = choose_variants("scaled, original,scaled")
    assert [variant.name for variant in chosen] == ["scaled", "original"]
    assert len(choose_variants("all")) == len(VARIANTS)
    with pytest.raises(ValueError, match="no variant 'scald'; did you mean 'scaled'"):
        choose_variants("scald")
    with pytest.raises(ValueError, match="names none"):
        choose_variants(" , ")


# ---------------------------------------------------------------- flooded and reversed


def test_a_mask_is_flooded_or_reversed_or_neither():
    masks = pd.DataFrame(
        [
            (1.0, 0.2, 0.2, 0.0, ""),  # right
            (1.0, 0.2, 1.0, 1.0, "flooded"),
            (0.9, 0.2, 0.9, 0.9, "flooded"),
            (0.0, 0.2, 0.8, 1.0, "reversed"),
            (0.05, 0.2, 0.17, 0.2, ""),  # a fifth of the ground, hardly a nucleus
            (0.0, 0.2, 0.0, 0.0, ""),  # nothing
            (0.0, 0.0, 0.7, 0.7, "flooded"),  # in an image without nuclei
            (1.0, 1.0, 1.0, 0.0, ""),  # in one without ground
        ],
        columns=["recall", "fraction_true", "fraction_pred", "ground", "failure"],
    )
    marked = mark_failures(masks)
    found = np.select([marked["flooded"], marked["reversed"]], ["flooded", "reversed"], "")
    assert found.tolist() == masks["failure"].tolist()
    np.testing.assert_allclose(marked["ground_marked"], masks["ground"], atol=1e-12)


# ---------------------------------------------------------------- what was published


@pytest.fixture(scope="module")
def published():
    return read_variants(RunFolder(RunFolder("inversion").path / "experiment"))


def test_the_original_floods_and_does_not_reverse(published):
    original = published[(published["variant"] == "original") & (published["view"] == "original")]
    tissue = original[original["modality"].str.endswith("tissue")]
    nearly_all = (tissue["ground_marked"] > 0.9) & (tissue["recall"] > 0.9)
    assert (len(tissue), tissue["flooded"].sum(), nearly_all.sum()) == (75, 50, 49)
    assert not tissue["reversed"].any()
    neither = tissue[~tissue["flooded"]]
    assert neither["ground_marked"].between(0.15, 0.3).all() and (neither["recall"] < 0.2).all()


@pytest.mark.parametrize(
    ("variant", "side", "n", "flooded", "is_reversed"),
    [
        ("without_tissue", "tissue", 369, 369, 0),
        ("only_pink_purple_tissue", "fluorescent", 1623, 477, 955),
        ("only_purple_tissue", "fluorescent", 1623, 388, 489),
        ("scaled", "tissue", 75, 0, 0),
    ],
)
def test_published_counts(published, variant, side, n, flooded, is_reversed):
    chosen = (published["variant"] == variant) & (published["view"] == "ours")
    masks = published[chosen & published["modality"].str.endswith(side)]
    found = (len(masks), masks["flooded"].sum(), masks["reversed"].sum())
    assert found == (n, flooded, is_reversed)


def test_the_published_tables_come_from_the_kept_scores(published):
    run = RunFolder("inversion")
    some = published[published["variant"].isin(["original", "scaled", "balanced"])]
    for name, found in (
        ("experiment.csv", summarise_variants(some)),
        ("changes.csv", compare_variants(some)),
    ):
        kept = run.read_csv(name)
        kept = kept[kept["variant"].isin(set(found["variant"]))].reset_index(drop=True)
        pd.testing.assert_frame_equal(found.round(4), kept, atol=1e-4, check_dtype=False)


def test_the_kept_trainings_are_read_by_the_same_command():
    run = RunFolder("inversion")
    known = run.read_csv("split.csv", dtype={"id": str})
    base = load_settings("settings/experiment.json").with_training(epoch_num=10, steps_per_epoch=30)
    for variant in VARIANTS.values():
        kept = json.loads(run.file(f"experiment/{variant.name}/seed_2/trial.json").read_text())
        assert _key(variant.settings(base.with_training(seed=2)), known) == kept["key"]


# ---------------------------------------------------------------- trainings


@pytest.fixture(scope="module")
def sample():
    """The sample's images, one of eight for the test, and what is known of them."""
    data = read_data_set("sample").labelled
    data = data.select(np.arange(len(data)) % 3 == 0)
    modalities = find_modalities(data.images)["modality"]
    sides = np.where(np.arange(len(data)) % 8 == 0, "test", "train")
    known = pd.DataFrame(
        {"id": data.ids, "modality": modalities, "group": range(len(data)), "split": sides}
    )
    return data, known


@pytest.fixture(scope="module")
def trained(sample, tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("experiment") / "run")
    variants = [VARIANTS[name] for name in ("original", "without_tissue")]
    return run, variants, run_variants(run, TINY, *sample, variants, [0], DEVICE)


def test_every_test_image_is_scored_for_every_variant_view_and_seed(trained, sample):
    _, variants, table = trained
    n_test = (sample[1]["split"] == "test").sum()
    counts = table.groupby(["variant", "view", "seed"])["id"].nunique()
    assert (counts.loc["original"] == n_test).all()
    assert set(counts.loc["original"].index) == {(view, 0) for view in variants[0].views}
    left_out = (sample[1]["split"] != "test") & sample[1]["modality"].str.endswith("tissue")
    assert (counts.loc["without_tissue"] == n_test + left_out.sum()).all()


def test_a_finished_training_is_read(trained, sample, monkeypatch):
    run, variants, table = trained
    monkeypatch.setattr("helpers.inversion.runs.train", lambda *a, **k: pytest.fail("trained"))
    again = run_variants(run, TINY, *sample, variants, [0], DEVICE)
    pd.testing.assert_frame_equal(again, table)
    pd.testing.assert_frame_equal(read_variants(run)[table.columns], table)


def test_a_training_of_other_settings_is_refused(trained, sample):
    run, variants, _ = trained
    with pytest.raises(ExperimentError, match=r"seed_0 was made with other settings"):
        run_variants(run, TINY.with_training(epoch_num=2), *sample, variants, [0], DEVICE)


# ---------------------------------------------------------------- findings


def some_scores(variant, iou, seeds=(0, 1)):
    rows = [
        {"variant": variant, "view": "ours", "seed": seed, "id": f"{modality}{n}",
         "modality": modality, "group": n, "iou": iou + 0.1 * seed, "recall": 0.9,
         "fraction_true": 0.2, "fraction_pred": 0.3, "ground_marked": 0.1,
         "flooded": n == 0, "reversed": False}
        for modality in MODALITIES[:2] for n in range(4) for seed in seeds
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_summary_holds_the_mean_over_seeds_and_their_range():
    summary = summarise_variants(some_scores("scaled", 0.5)).set_index(["modality", "measure"])
    row = summary.loc[(MODALITIES[0], "iou")]
    assert row["estimate"] == pytest.approx(0.55)
    assert (row["seed_low"], row["seed_high"]) == pytest.approx((0.5, 0.6))
    assert (row["n_images"], row["n_fields"], row["n_seeds"]) == (4, 4, 2)
    flooded = summary.loc[(MODALITIES[0], "flooded")]
    assert 0 <= flooded["low"] <= flooded["estimate"] == 0.25 <= flooded["high"]


def test_a_constant_gain_is_certain_and_one_field_has_no_interval():
    table = pd.concat([some_scores("scaled", 0.5), some_scores("balanced", 0.7)])
    compared = compare_variants(table)
    assert compared["modality"].tolist() == list(MODALITIES[:2])
    assert set(compared["variant"]) == {"balanced"}
    np.testing.assert_allclose(compared[["estimate", "low", "high"]], 0.2)
    for find in (compare_variants, summarise_variants):
        assert find(table.assign(group=0))[["low", "high"]].isna().all(axis=None)
