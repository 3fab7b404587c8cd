"""Beside the published: what is quoted, what is ours, and how it is told."""

import numpy as np
import pandas as pd
import pytest

from helpers.analysis.modality import MODALITIES
from helpers.evaluation.nuclei import (
    PUBLISHED_AP,
    match_images,
    ratio_interval,
    score_nuclei,
    summarise_nuclei,
)
from helpers.evaluation.published import (
    AP_SCORES,
    PUBLISHED_RECALL,
    compare_published,
    compare_recall,
    say_interval,
    say_share,
    tabulate_published,
    tabulate_recall,
)


def draw(*, n_images=6, seed=0, lost=10):
    """Return scores of squares of 8 px in two modalities, some lost, others moved by a pixel."""
    rng = np.random.default_rng(seed)
    images = []
    for place in range(n_images):
        true = np.kron(np.arange(60).reshape(6, 10), np.ones((8, 8), int))
        pred = np.roll(true, place % 2, 0)
        pred[np.isin(pred, rng.permutation(60)[: rng.integers(0, lost)])] = 0
        images.append((str(place), MODALITIES[place % 2], place // 2, true, pred))
    return score_nuclei(match_images(images))


def ours(comparison):
    return comparison[~comparison["published"]].iloc[0]


def test_published_figures_stand_as_published():
    comparison = compare_published({"1": draw()}).set_index("method")
    for method, values in PUBLISHED_AP.items():
        assert comparison.loc[method, list(AP_SCORES)].tolist() == list(values)
        assert np.isnan(comparison.loc[method, "mean_ap_50"])
    assert comparison.loc["EmbedSeg", "mean_ap_50"] == 0.887
    assert comparison.loc["EmbedSeg", list(AP_SCORES)].isna().all()
    assert comparison["published"].tolist() == [*[True] * 5, False]
    assert comparison.loc["StarDist", ["n_seeds", "n_images", "ap_50_low"]].isna().all()


def test_ours_are_those_of_the_summary_of_nuclei():
    table = draw()
    row = ours(compare_published({"1": table}))
    summary = summarise_nuclei(table).query("modality == 'all'").set_index("score")
    for score in ("ap_50", "ap_70", "ap_90", "mean_ap_50"):
        assert row[score] == pytest.approx(summary.loc[score, "estimate"])
        ends = row[[f"{score}_low", f"{score}_high"]].tolist()
        assert ends == summary.loc[score, ["low", "high"]].tolist()
        assert np.isnan(row[f"{score}_seed_low"])
    assert row[["n_seeds", "n_images", "n_fields", "n_nuclei"]].tolist() == [1, 6, 3, 6 * 59]


def test_several_seeds_give_their_mean_and_their_range():
    seeds = {"1": draw(), "2": draw(seed=1, lost=30), "3": draw(seed=2)}
    each = [ours(compare_published({name: table}))["ap_50"] for name, table in seeds.items()]
    row = ours(compare_published(seeds))
    assert row["ap_50"] == pytest.approx(np.mean(each))
    assert [row["ap_50_seed_low"], row["ap_50_seed_high"]] == [min(each), max(each)]
    assert row["n_nuclei"] == 6 * 59
    together = pd.concat(seeds.values())
    tp = together["tp_50"]
    wholes = together["n_true"] + together["n_pred"] - tp
    found = ratio_interval(tp, wholes, together["group"], rng=np.random.default_rng(0))
    assert (row["ap_50_low"], row["ap_50_high"]) == (found.low, found.high)


def test_seeds_are_matched_by_image_and_share_the_fields_of_the_first():
    table = draw()
    shuffled = table.sample(frac=1, random_state=3).assign(group=range(6))
    row, alone = (
        ours(compare_published({"1": table, "2": shuffled})),
        ours(compare_published({"1": table})),
    )
    assert row["n_fields"] == 3
    for end in ("", "_low", "_high"):
        assert row[f"ap_70{end}"] == pytest.approx(alone[f"ap_70{end}"])


def test_other_images_or_none_are_refused():
    with pytest.raises(ValueError, match="scores of '2' are of other images \\(1 ids differ"):
        compare_published({"1": draw(), "2": draw(n_images=5)})
    with pytest.raises(ValueError, match="no table"):
        compare_published({})


def test_images_without_nuclei_have_no_pooled_score():
    nothing = np.zeros((4, 4), int)
    table = score_nuclei(match_images([("a", MODALITIES[0], 0, nothing, nothing)]))
    row = ours(compare_published({"1": table}))
    assert np.isnan(row["ap_50"]) and row["mean_ap_50"] == 1
    told = tabulate_published(compare_published({"1": table})).iloc[-1]
    assert told.tolist() == ["ours", "", "", "", "1.000 (one field)"]


def test_readers_see_the_best_of_each_column():
    comparison = compare_published({"1": draw(lost=2)}, name="reference")
    told = tabulate_published(comparison, emphasis="**").set_index("method")
    assert told.columns.tolist() == ["AP .50", "AP .70", "AP .90", "averaged AP .50"]
    assert told.loc["StarDist"].tolist() == [".864", ".685", ".119", ""]
    assert told.loc["EmbedSeg"].tolist() == ["", "", "", ".887"]
    row = ours(comparison)
    ends = [say_share(row[f"ap_50_{end}"]) for end in ("low", "high")]
    expected = f"**{say_share(row['ap_50'])}** ({ends[0]} to {ends[1]})"
    assert told.loc["reference", "AP .50"] == expected
    worse = compare_published({"1": draw(lost=60)})
    told = tabulate_published(worse, ["ap_60"], emphasis="**").set_index("method")["AP .60"]
    assert told["StarDist"] == "**.804**"
    assert not told["ours"].startswith("*")


def test_readers_see_the_range_of_several_seeds():
    comparison = compare_published({"1": draw(), "2": draw(seed=1, lost=30)})
    told = tabulate_published(comparison, ["ap_50"])
    assert told["method"].tolist()[-2:] == ["ours", "ours, lowest to highest of 2 seeds"]
    row = ours(comparison)
    low, high = (say_share(row[f"ap_50_seed_{end}"]) for end in ("low", "high"))
    assert told["AP .50"].iloc[-1] == f"{low} to {high}"


def test_recall_stands_beside_the_published_of_its_kind():
    comparison = compare_recall(summarise_nuclei(draw())).set_index("modality")
    assert comparison.index.tolist() == ["small_fluorescent", "large_fluorescent"]
    best, plain = PUBLISHED_RECALL
    assert comparison.loc["large_fluorescent", [best, plain]].tolist() == [0.88, 0.53]
    assert comparison.loc["small_fluorescent", "n_images"] == 3
    for values in PUBLISHED_RECALL.values():
        assert len(values) == len(MODALITIES)
    with pytest.raises(ValueError, match="recall_70"):
        compare_recall(summarise_nuclei(draw()).query("score == 'pq'"))


def test_recall_for_readers_marks_the_best_of_each_kind():
    best, plain = PUBLISHED_RECALL
    numbers = {"score": "recall_70", "n_images": 4, "n_fields": [1, 2], "n_nuclei": [1234, 5]}
    numbers |= {"modality": ["pink_purple_tissue", "purple_tissue"]}
    numbers |= {"estimate": [0.5, 0.7], "low": [np.nan, 0.65], "high": [np.nan, 0.72]}
    told = tabulate_recall(compare_recall(pd.DataFrame(numbers)), emphasis="**").set_index(
        "modality"
    )
    assert told.loc["pink-and-purple tissue"].to_dict() == {
        "images (fields of view)": "4 (1)",
        "nuclei": "1,234",
        "ours": ".500 (one field)",
        best: "**.77**",
        plain: ".13",
    }
    assert told.loc["purple tissue", "ours"] == "**.700** (.650 to .720)"
    assert told.index.tolist() == ["purple tissue", "pink-and-purple tissue"]


def test_numbers_are_told_as_the_field_does():
    assert say_share(-0.0001) == ".000"
    assert say_interval(None, None, None) == say_interval(np.nan, np.nan, np.nan) == ""
    assert say_interval(0.02, -0.01, 0.05, sign=True) == "+.020 (-.010 to +.050)"
