"""Tables of nuclei: counts, intervals over fields, errors by modality, recall by size."""

import numpy as np
import pytest

from helpers.evaluation.nuclei import (
    ERRORS,
    SCORES,
    match_images,
    nuclei_table,
    pick_outcomes,
    score_nuclei,
    tabulate_errors,
)
from helpers.evaluation.summary import summarise_scores
from tests.conftest import draw_labels


def draw(*boxes):
    return draw_labels(*boxes, shape=(12, 40))


NOTHING = draw()
FOUR = draw((0, 0, 4, 4), (0, 6, 4, 4), (0, 12, 4, 4), (0, 18, 4, 4))
STRIPS = draw((0, 0, 1, 10), (1, 0, 1, 10), (2, 0, 1, 10))
SLAB = draw((0, 0, 3, 10))
IMAGES = [
    ("right", "small_fluorescent", 7, FOUR, FOUR),
    ("half", "small_fluorescent", 7, FOUR, np.where(FOUR <= 2, FOUR, 0)),
    ("empty", "small_fluorescent", 3, NOTHING, NOTHING),
    ("merge", "purple_tissue", 5, STRIPS, SLAB),
    ("split", "purple_tissue", 6, SLAB, STRIPS),
    ("invented", "purple_tissue", 6, NOTHING, SLAB),
]


@pytest.fixture
def matched():
    return match_images(iter(IMAGES))


@pytest.fixture
def table(matched):
    return score_nuclei(matched)


def pick(summary, score, modality="all"):
    return summary.set_index(["score", "modality"]).loc[(score, modality)]


def test_one_row_an_image_with_known_scores(table):
    rows = table.set_index("id")
    assert table["id"].tolist() == [image[0] for image in IMAGES]
    assert rows["n_true"].tolist() == [4, 4, 0, 3, 1, 0]
    assert rows["n_pred"].tolist() == [4, 2, 0, 1, 3, 1]
    assert rows["tp_50"].tolist() == rows["tp_95"].tolist() == [4, 2, 0, 0, 0, 0]
    for column in ("ap_50", "ap_70", "ap_90", "bowl", "aji"):
        assert rows.loc[["right", "half", "empty", "invented"], column].tolist() == [1, 0.5, 1, 0]
    assert rows["f1_50"].tolist() == pytest.approx([1, 2 / 3, 1, 0, 0, 0])
    assert rows["pq"].tolist() == pytest.approx([1, 2 / 3, 1, 0, 0, 0])
    assert rows["aji"].tolist() == pytest.approx([1, 0.5, 1, 1 / 3, 1 / 5, 0])
    assert rows["merged"].to_dict() == dict.fromkeys(rows.index, 0) | {"merge": 3}
    assert rows["split"].sum() == rows.loc["split", "split"] == 1
    assert rows["fragment"].sum() == rows.loc["split", "fragment"] == 3
    assert rows["merging"].sum() == rows.loc["merge", "merging"] == 1
    assert rows["missed"].sum() == rows.loc["half", "missed"] == 2
    assert rows["spurious"].sum() == rows.loc["invented", "spurious"] == 1


@pytest.fixture
def many():
    """Images by chance, in nine fields of view of two modalities."""
    rng = np.random.default_rng(5)
    images = []
    for number in range(30):
        true = np.kron(rng.permutation(60).reshape(6, 10), np.ones((8, 8), int))
        pred = np.roll(true, rng.integers(0, 2, 2), (0, 1))
        pred[np.isin(pred, rng.permutation(60)[: rng.integers(0, 30)])] = 0
        pred[(pred > 25) & (pred < 35)] = 25
        modality = ("small_fluorescent", "grayscale_tissue")[number % 9 > 6]
        images.append((str(number), modality, number % 9, true, pred))
    return match_images(images)


def test_the_outcomes_add_up(many):
    table = score_nuclei(many)
    lost = table[["tp_50", "merged", "split", "inaccurate", "missed"]].sum(axis=1)
    false = table[["tp_50", "merging", "fragment", "inaccurate_pred", "spurious"]].sum(axis=1)
    assert lost.tolist() == table["n_true"].tolist()
    assert false.tolist() == table["n_pred"].tolist()


def test_a_summary_pools_or_averages_as_worked_by_hand(table):
    summary = summarise_scores(table, SCORES, n_resamples=50)
    small = "small_fluorescent"
    assert pick(summary, "ap_50", small)["estimate"] == pytest.approx(6 / 8)
    assert pick(summary, "mean_ap_50", small)["estimate"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert pick(summary, "recall_70")["estimate"] == pytest.approx(6 / 12)
    assert pick(summary, "pq")["estimate"] == pytest.approx(6 / (6 + 5 / 2 + 6 / 2))
    assert pick(summary, "aji", "purple_tissue")["estimate"] == pytest.approx(
        (30 + 10) / (90 + 50 + 30)
    )
    row = pick(summary, "ap_50", small)
    assert (row["n_images"], row["n_fields"], row["n_nuclei"]) == (3, 2, 8)
    assert summary["modality"].unique().tolist() == [small, "purple_tissue", "all"]


def test_a_modality_without_nuclei_has_no_pooled_score(table):
    summary = summarise_scores(table[table["id"] == "empty"], SCORES)
    values = summary[summary["modality"] == "all"].set_index("score")["estimate"]
    assert values[["mean_ap_50", "bowl"]].tolist() == [1, 1]
    assert values.drop(["mean_ap_50", "bowl"]).isna().all()


def test_errors_per_hundred_nuclei(table):
    errors = tabulate_errors(table).set_index("modality")
    assert errors.columns.tolist() == ["n_images", "n_true", *ERRORS]
    assert errors.loc["small_fluorescent", list(ERRORS)].tolist() == [0, 0, 0, 25, 0]
    assert errors.loc["purple_tissue", list(ERRORS)].tolist() == [75, 25, 0, 0, 25]
    assert errors.loc["all", list(ERRORS)].tolist() == pytest.approx(
        [300 / 12, 100 / 12, 0, 200 / 12, 100 / 12]
    )
    assert tabulate_errors(table[table["id"] == "invented"])["extra"].isna().all()


def test_one_row_a_nucleus(matched):
    nuclei = nuclei_table(matched)
    assert nuclei.columns.tolist() == [
        *("id", "modality", "group", "label", "area_px", "diameter_px", "iou", "outcome")
    ]
    assert nuclei.groupby("id").size().to_dict() == {"right": 4, "half": 4, "merge": 3, "split": 1}
    half = nuclei[nuclei["id"] == "half"]
    assert half["outcome"].tolist() == ["found", "found", "missed", "missed"]
    assert half["iou"].tolist() == [1, 1, 0, 0]
    assert half["label"].tolist() == [1, 2, 3, 4]
    assert (half["area_px"] == 16).all()
    assert half["diameter_px"].tolist() == pytest.approx([2 * np.sqrt(16 / np.pi)] * 4)
    empty = nuclei_table(match_images(IMAGES[2:3]))
    assert len(empty) == 0 and empty.columns.tolist() == nuclei.columns.tolist()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="there is no image to score"):
        score_nuclei([])
    with pytest.raises(ValueError, match="there is no image to tabulate"):
        nuclei_table([])
    with pytest.raises(TypeError, match="must be integers") as caught:
        match_images([("a7", "purple_tissue", 0, NOTHING, NOTHING > 0)])
    assert "'a7'" in caught.value.__notes__[0]


def test_an_example_of_each_outcome_that_occurs(matched):
    examples = pick_outcomes(matched)
    assert examples.to_numpy().tolist() == [
        ["found", 0, 1],
        ["merged", 3, 1],
        ["split", 4, 1],
        ["missed", 1, 3],
        ["extra", 5, 1],
    ]
