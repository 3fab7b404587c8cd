"""The score of a nucleus: how likely it is right, learned on several sources."""

import time

import numpy as np
import pandas as pd
import pytest

from helpers.evaluation.score import (
    Found,
    choose_points,
    choose_unseen,
    cross_validate,
    fit_model,
    fit_score,
    judge,
    measure_reliability,
    resize_to_usual,
)
from helpers.evaluation.tuning import store_postprocessing
from helpers.figures.nuclei import plot_reliability
from helpers.network.prediction import load_network
from helpers.network.saving import save_network
from helpers.network.unet import build_unet
from helpers.run_folder import RunFolder
from helpers.settings import Postprocessing, Score, SettingsError, generate_settings
from helpers.targets import get_target
from helpers.targets.score import FEATURES, apply_model, describe_nuclei

FLOW = get_target("flow")
POINTS = {"precise": 0.9, "balanced": 0.5, "complete": 0.1}
BY_PROBABILITY = Score(
    threshold=0.3, intercept=0.0, weights={"probability": 1.0}, operating_points=POINTS
)
TWO = np.zeros((40, 40), np.int32)
TWO[5:20, 5:20], TWO[5:20, 20:35] = 1, 2


def column(maps, labels, name):
    return describe_nuclei(maps, labels)[:, FEATURES.index(name)]


def test_only_the_right_nuclei_agree_with_their_flow_however_bright_they_are():
    maps = FLOW.encode(TWO)
    dim = maps * [0.4, 1, 1]
    merged = (TWO > 0).astype(int)
    halves = np.where(TWO, 2 * TWO - (np.arange(40)[:, None] < 12), 0)
    right = column(maps, TWO, "flow_error")
    np.testing.assert_array_equal(right, column(dim, TWO, "flow_error"))
    assert right.max() < -2
    assert column(maps, merged, "flow_error").min() > -1
    assert column(maps, halves, "flow_error").min() > -1


def test_sizes_are_those_of_typical_nuclei():
    labels = TWO.copy()
    labels[30, 30], labels[30, 35] = 3, 4
    size = column(FLOW.encode(labels), labels, "size")
    np.testing.assert_allclose(size, [0, 0, -np.log(225), -np.log(225)])
    np.testing.assert_allclose(column(FLOW.encode(labels), labels, "odd_size"), np.abs(size))


def test_no_nuclei_have_no_features_and_a_thousand_take_less_than_a_second():
    assert describe_nuclei(np.zeros((8, 8, 3)), np.zeros((8, 8), int)).shape == (0, len(FEATURES))
    squares = np.arange(1, 1025).reshape(32, 32)
    labels = np.kron(squares, np.ones((32, 32), int))
    maps = np.random.default_rng(0).random((*labels.shape, 3), np.float32)
    start = time.process_time()
    assert describe_nuclei(maps, labels).shape == (1024, len(FEATURES))
    assert time.process_time() - start < 1


def test_the_score_replaces_the_least_confidence():
    maps = FLOW.encode(TWO) * [0.35, 1, 1]
    maps[:, 20:, 0] *= 2
    assert FLOW.decode(maps, Postprocessing(threshold=0.5)).max() == 1
    kept = {}
    for point in POINTS:
        choices = Postprocessing(
            score=BY_PROBABILITY, operating_point=point, threshold=0.9, min_confidence=1
        )
        labels, scores = FLOW.find(maps, choices)
        kept[point] = scores.round(2).tolist()
        assert labels.max() == len(scores) and labels.dtype == np.int32
    assert kept == {"precise": [], "balanced": [0.7], "complete": [0.35, 0.7]}


def test_without_a_score_it_is_the_mean_probability():
    labels, scores = FLOW.find(FLOW.encode(TWO) * [0.8, 1, 1], Postprocessing())
    assert labels.max() == 2
    np.testing.assert_allclose(scores, 0.8, rtol=1e-6)


def test_a_score_travels_in_the_networks_file(tmp_path):
    settings = generate_settings(1, base_filters=2, input_size=16).with_overrides(
        {"target": "flow"}
    )
    run = RunFolder(tmp_path)
    save_network(build_unet(settings), run.file("network.keras"), settings)
    network = load_network(run.file("network.keras"))
    image = np.random.default_rng(0).random((40, 50))
    assert network.settings.postprocessing.score is None
    assert network.settings.postprocessing.least_score() == 0
    with pytest.raises(ValueError, match="no score"):
        network.settings.postprocessing.least_score("precise")
    store_postprocessing(run, Postprocessing(score=BY_PROBABILITY))
    network = load_network(run.file("network.keras"))
    assert network.settings.postprocessing.score == BY_PROBABILITY
    labels, scores = network.find(image, scale=2, least=0.0)
    assert labels.shape == (40, 50) and labels.max() == len(scores)
    assert (network.segment(image, scale=2) > 0).sum() <= (labels > 0).sum()
    least = [network.settings.postprocessing.least_score(point) for point in POINTS]
    assert least == list(POINTS.values())
    with pytest.raises(ValueError, match="precise, balanced, complete"):
        network.settings.postprocessing.least_score("sure")
    with pytest.raises(SettingsError, match="flow_errors"):
        network.settings.with_postprocessing(
            score=BY_PROBABILITY.model_dump() | {"weights": {"flow_errors": 1.0}}
        )


# ---------------------------------------------------------------- fitting


def draw_nuclei(n, source, seed, intercept=0.5):
    rng = np.random.default_rng(seed)
    features = pd.DataFrame(rng.normal(size=(n, len(FEATURES))), columns=list(FEATURES))
    true = apply_model(features.to_numpy(), intercept, {"flow_error": -2.0, "size": 1.0})
    return features.assign(iou=(rng.random(n) < true) * 0.8, source=source, image=0)


def test_the_model_that_made_the_nuclei_is_found_again():
    nuclei = pd.concat([draw_nuclei(4000, "a", 0), draw_nuclei(4000, "b", 1)])
    intercept, weights = fit_model(nuclei)
    assert intercept == pytest.approx(0.5, abs=0.15)
    true = {"flow_error": -2.0, "size": 1.0}
    assert all(weights[name] == pytest.approx(true.get(name, 0), abs=0.2) for name in FEATURES)


def test_a_source_is_judged_by_the_others():
    a, b = draw_nuclei(500, "a", 0), draw_nuclei(500, "b", 1)
    nuclei = pd.concat([a, b], ignore_index=True)
    scores = cross_validate(nuclei)
    changed = cross_validate(nuclei.assign(iou=nuclei["iou"].where(nuclei["source"] == "b", 0.0)))
    assert scores[:500].equals(changed[:500]) and not scores[500:].equals(changed[500:])
    reliability = measure_reliability(nuclei.assign(score=scores))
    assert reliability["n"].sum() == 1000
    large = reliability[reliability["n"] > 40]
    assert (large["predicted"] - large["observed"]).abs().max() < 0.2
    texts = plot_reliability(reliability).get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["calibrated", "a (n = 500)", "b (n = 500)"]


def test_judged_by_known_answers():
    images = pd.DataFrame({"source": ["a", "a", "b"], "image": [0, 1, 0], "n_true": [2, 0, 1]})
    nuclei = pd.DataFrame({"iou": [0.9, 0.62, 0.0], "score": [0.9, 0.8, 0.2]})
    nuclei = nuclei.assign(rule="x", source="a", image=0)
    table = judge(Found(nuclei, images), "x", 0.5).set_index("source")
    assert table.loc["a", ["n_images", "n_true", "ap_50", "f1_50"]].tolist() == [2, 2, 1, 1]
    assert table.loc["a", "mean_ap"] == pytest.approx((1 + (3 + 6 / 3) / 10) / 2)
    assert table.loc["b", ["ap_50", "f1_50"]].tolist() == [0, 0]
    assert judge(Found(nuclei, images), "x", np.inf).loc[0, "f1_50"] == pytest.approx(0.8)


def test_points_stand_in_order():
    nuclei = draw_nuclei(3000, "a", 0)
    score = apply_model(nuclei[list(FEATURES)].to_numpy(), 0.5, {"flow_error": -2.0, "size": 1.0})
    points = choose_points(nuclei.assign(score=score), 0.5)
    assert points["complete"] < points["balanced"] == 0.5 < points["precise"]


def test_no_image_judges_that_was_trained_or_tested_on(tmp_path):
    class Data:
        ids = ("a", "b", "c", "d", "e")
        labelled = property(lambda self: self)

        def select(self, places):
            return [self.ids[place] for place in places]

    run = RunFolder(tmp_path)
    split = pd.DataFrame({"id": ["a", "tnbc-b", "tnbc-c", "d"]})
    run.write_csv("split.csv", split.assign(split=["train", "test", "validation", "left out"]))
    assert choose_unseen(Data(), run, "tnbc", 40) == ["c", "e"]
    assert len(choose_unseen(Data(), run, "tnbc", 1)) == 1
    run.write_csv("split.csv", pd.DataFrame({"id": Data.ids, "split": "train"}))
    with pytest.raises(ValueError, match="trained or tested on all"):
        choose_unseen(Data(), run, "tnbc", 40)


def test_images_of_odd_sizes_are_brought_to_a_usual_one():
    image = np.zeros((40, 40), np.uint8)
    same = resize_to_usual(image, TWO)
    assert same[0] is image and same[1] is TWO
    large, labels = resize_to_usual(
        np.kron(image, np.ones((4, 4))), np.kron(TWO, np.ones((4, 4), int))
    )
    assert large.shape == labels.shape == (59, 59)


class Doubting:
    """A network that answers the image as maps, with settings of a flow network."""

    target = FLOW
    settings = generate_settings(1).with_overrides({"target": "flow"})

    def predict_maps(self, image):
        return image


def draw_maps(seed):
    """Maps of a grid of nuclei of which the dim ones are none, and the truth."""
    rng = np.random.default_rng(seed)
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.pad(np.ones((20, 20), int), 5))
    is_right = np.append(False, rng.random(16) < 0.5)
    maps = FLOW.encode(labels)
    maps[..., 0] *= np.where(is_right, 0.9, 0.6)[labels]
    maps[..., 1:] *= np.where(is_right, 0.95, 0.5)[labels][..., None]
    maps += rng.normal(0, 0.03, maps.shape)
    return maps, np.where(is_right[labels], labels, 0)


def test_what_only_looks_like_nuclei_gets_low_scores():
    sources = []
    for name in "ab":
        images, labels = zip(*(draw_maps([k, ord(name)]) for k in range(3)), strict=True)
        sources.append((name, Doubting(), images, labels))
    fitted = fit_score(sources)
    by_rule = fitted.trial.groupby("rule")["ap_50"].mean()
    assert by_rule.iloc[-1] < 0.8 and by_rule.iloc[:-1].max() == 1
    assert set(fitted.score.weights) == set(FEATURES)
    with pytest.raises(ValueError, match="two or more sources"):
        fit_score(sources[:1])
