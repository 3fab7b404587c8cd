"""How likely a nucleus is right: learned on images of several sources, stored with the network.

    python -m helpers.evaluation.score RUN --data data/nuinsseg,data/tnbc,data/stage1_train.zip

No image counts that the run was trained or tested on. Where a run was trained on every source, runs
that had to do without one answer for it: `--left-out tnbc=my_run_without_tnbc`.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from helpers.data.data_set import DataSet, read_data_set
from helpers.evaluation.matching import THRESHOLDS, match
from helpers.evaluation.tuning import store_postprocessing
from helpers.network.geometry import rescale
from helpers.network.prediction import Network, load_network
from helpers.run_folder import RunFolder, name_locations
from helpers.settings import Postprocessing, Score
from helpers.targets.score import FEATURES, apply_model, describe_nuclei, typical_area

CANDIDATES = (0.3, 0.4, 0.5)
"""Probabilities from which a pixel may belong to a nucleus: the best is stored with the score."""
CUTS = np.arange(0.05, 0.96, 0.05).round(2)
"""Scores from which a nucleus may stay at the operating point "balanced"."""
SAME = 0.002
"""Mean average precisions so close are the same; of such cuts the lowest counts, as a nucleus that
was dropped cannot be chosen by its score later."""
PRECISE, COMPLETE = 0.9, 0.98
"""What the other points stand for: share of nuclei kept that are right, and of right ones kept."""
USUAL_PX = 15.0, 25.0, 40.0
"""An image whose typical nucleus is smaller or larger is shown with one of the middle size."""
BEFORE = "threshold and min_confidence"
MOST = 40
"""Images of a source, at random: some thousand nuclei for six numbers."""
RIDGE, STEPS = 1e-3, 30
"""Of Newton's method: the penalty on weights of standardised features, and its steps."""

Source = tuple[str, Network, Iterable[NDArray], Iterable[NDArray]]


class ScoreFit(NamedTuple):
    """A score, and how well it did on sources that it had not seen."""

    score: Score
    trial: pd.DataFrame  # rule, source, n_images, n_true, ap_50, f1_50, mean_ap
    reliability: pd.DataFrame  # source, predicted, observed, n


class Found(NamedTuple):
    """Nuclei found, by rule, and how many there are in each image."""

    nuclei: pd.DataFrame  # rule, source, image, FEATURES, iou
    images: pd.DataFrame  # source, image, n_true


def fit_score(sources: Sequence[Source]) -> ScoreFit:
    """Return the score of a network's nuclei, fitted on all sources and tested on each in turn.

    Parameters
    ----------
    sources : sequence of (name, network, images, labels)
        Two or more; networks of the target "flow" that were not trained on the images.

    Raises
    ------
    ValueError
        If there are fewer sources, or a network has another target.
    """
    if len({name for name, *_ in sources}) < 2:
        raise ValueError("a score needs two or more sources, so that each is judged by the others")
    for name, network, *_ in sources:
        if network.target.name != "flow":
            raise ValueError(f"{name}: the target is {network.target.name!r}; it must be 'flow'")
    found = find_all(sources)
    trial = [judge(found, BEFORE, np.inf)]
    best: dict[str, Any] = {"mean_ap": -1.0}
    for threshold in CANDIDATES:
        nuclei = found.nuclei[found.nuclei["rule"] == str(threshold)]
        nuclei = nuclei.assign(score=cross_validate(nuclei))
        judged = [judge(found._replace(nuclei=nuclei), str(threshold), cut) for cut in CUTS]
        worth = np.array([table["mean_ap"].mean() for table in judged])
        place = int(np.argmax(worth >= worth.max() - SAME))
        trial.append(judged[place])
        if worth[place] > best["mean_ap"]:
            best = {"mean_ap": worth[place], "threshold": threshold, "nuclei": nuclei}
            best |= {"cut": float(CUTS[place])}
    nuclei = best["nuclei"]
    intercept, weights = fit_model(nuclei)
    score = Score(
        threshold=best["threshold"],
        intercept=intercept,
        weights=weights,
        operating_points=choose_points(nuclei, best["cut"]),
    )
    return ScoreFit(score, pd.concat(trial, ignore_index=True), measure_reliability(nuclei))


def find_all(sources: Iterable[Source]) -> Found:
    """Return what networks find: by `BEFORE`, their own rule, and from each of `CANDIDATES` on."""
    nuclei, images = [], []
    for name, network, source_images, source_labels in sources:
        before = network.settings.postprocessing.model_copy(update={"score": None})
        rules = {BEFORE: before}
        for threshold in CANDIDATES:
            rules[str(threshold)] = before.model_copy(update={"score": keep_all(threshold)})
        pairs = zip(source_images, source_labels, strict=True)
        for place, (image, labels) in enumerate(tqdm(pairs, name, unit=" images", leave=False)):
            image, labels = resize_to_usual(image, labels)
            maps = network.predict_maps(image)
            about = {"source": name, "image": place}
            images.append(about | {"n_true": len(np.unique(labels[labels > 0]))})
            for rule, choices in rules.items():
                table = describe_found(network, maps, labels, choices)
                nuclei.append(table.assign(rule=rule, **about))
    return Found(pd.concat(nuclei, ignore_index=True), pd.DataFrame(images))


def keep_all(threshold: float) -> Score:
    """Return a score that is .5 for every nucleus."""
    points = dict.fromkeys(("precise", "balanced", "complete"), 0.0)
    return Score(threshold=threshold, intercept=0.0, weights={}, operating_points=points)


def resize_to_usual(image: NDArray, labels: NDArray[np.integer]) -> tuple[NDArray, NDArray]:
    """Return an image and its labels such that a typical nucleus has a usual size, `USUAL_PX`."""
    areas = np.bincount(labels.ravel())[1:]
    diameter = np.sqrt(4 / np.pi * typical_area(areas[areas > 0]))
    smallest, middle, largest = USUAL_PX
    if np.isnan(diameter) or smallest <= diameter <= largest:
        return image, labels
    shape = tuple(max(1, round(px * middle / diameter)) for px in labels.shape)
    return rescale(image, shape), rescale(labels, shape, order=0)


def describe_found(
    network: Network, maps: NDArray, labels_true: NDArray[np.integer], choices: Postprocessing
) -> pd.DataFrame:
    """Return `FEATURES` of the nuclei of one image's maps, and their IoU with the true ones."""
    labels = network.target.decode(maps, choices)
    table = pd.DataFrame(describe_nuclei(maps, labels), columns=list(FEATURES))
    return table.assign(iou=match(labels_true, labels).iou_pred)


def fit_model(nuclei: pd.DataFrame) -> tuple[float, dict[str, float]]:
    """Return the intercept and the weights of a logistic model of which nuclei are right.

    Right is an IoU of at least .5. Every source counts the same, by Newton's method with a small
    ridge on weights of standardised features.
    """
    features, is_right = nuclei[list(FEATURES)].to_numpy(), (nuclei["iou"] >= 0.5).to_numpy()
    sizes = nuclei.groupby("source")["iou"].transform("size").to_numpy()
    shares = 1 / sizes / nuclei["source"].nunique()
    centre, spread = features.mean(axis=0), features.std(axis=0) + 1e-9
    columns = np.column_stack([np.ones(len(features)), (features - centre) / spread])
    ridge = RIDGE * np.diag([0.0, *np.ones(len(FEATURES))])
    model = np.zeros(columns.shape[1])
    for _ in range(STEPS):
        predicted = 1 / (1 + np.exp(-columns @ model))
        slope = columns.T @ (shares * (is_right - predicted)) - ridge @ model
        curvature = (columns.T * (shares * predicted * (1 - predicted))) @ columns + ridge
        model += np.linalg.solve(curvature + 1e-9 * np.eye(len(model)), slope)
    weights = model[1:] / spread
    intercept = float(model[0] - weights @ centre)
    return round(intercept, 4), dict(zip(FEATURES, weights.round(4).tolist(), strict=True))


def cross_validate(nuclei: pd.DataFrame) -> pd.Series:
    """Return the score of every nucleus by a model that was fitted on the other sources."""
    scores = pd.Series(0.0, nuclei.index)
    for name, left_out in nuclei.groupby("source"):
        model = fit_model(nuclei[nuclei["source"] != name])
        scores[left_out.index] = apply_model(left_out[list(FEATURES)].to_numpy(), *model)
    return scores


def judge(found: Found, rule: str, cut: float) -> pd.DataFrame:
    """Return how good the nuclei of a rule are, of those with a score of at least `cut`, if finite.

    One row a source: rule, source, cut, n_images, n_true; ap_50 and mean_ap (the mean over
    `THRESHOLDS`), averaged over images; f1_50, of all nuclei together; all from 0 to 1.
    """
    nuclei = found.nuclei[found.nuclei["rule"] == rule]
    nuclei = nuclei if np.isinf(cut) else nuclei[nuclei["score"] >= cut]
    keys = ["source", "image"]
    levels = pd.DataFrame({level: nuclei["iou"] >= level for level in THRESHOLDS})
    counts = levels.assign(n_pred=1).groupby([nuclei[key] for key in keys]).sum()
    counts = found.images.set_index(keys).join(counts).fillna(0)
    together = counts["n_true"] + counts["n_pred"]
    tp = counts[list(THRESHOLDS)]
    ap = (tp / tp.rsub(together, axis=0)).fillna(1.0)
    by_source = pd.DataFrame(
        {"n_true": counts["n_true"], "n_images": 1, "tp": tp[0.5], "together": together}
    )
    sums = by_source.groupby("source").sum()
    means = pd.DataFrame({"ap_50": ap[0.5], "mean_ap": ap.mean(axis=1)}).groupby("source").mean()
    table = sums[["n_images", "n_true"]].join(means).assign(f1_50=2 * sums["tp"] / sums["together"])
    table = table.reset_index().round(4)
    table.insert(0, "rule", rule)
    table.insert(2, "cut", np.nan if np.isinf(cut) else cut)
    return table


def choose_points(nuclei: pd.DataFrame, balanced: float) -> dict[str, float]:
    """Return the operating points by their least score, in the mean over sources.

    Precise: `PRECISE` of what stays is right; complete: `COMPLETE` of what is right stays. Neither
    is on the wrong side of `balanced`.
    """
    is_right = nuclei["iou"] >= 0.5
    precision, kept = [], []
    for cut in CUTS:
        stays = nuclei["score"] >= cut
        precision.append(is_right[stays].groupby(nuclei["source"]).mean().mean())
        kept.append(stays[is_right].groupby(nuclei["source"]).mean().mean())
    precise = CUTS[np.asarray(precision) >= PRECISE].min(initial=CUTS[-1])
    complete = CUTS[np.asarray(kept) >= COMPLETE].max(initial=CUTS[0])
    return {
        "precise": max(float(precise), balanced),
        "balanced": balanced,
        "complete": min(float(complete), balanced),
    }


def measure_reliability(nuclei: pd.DataFrame) -> pd.DataFrame:
    """Return, for every source and tenth of the score: its mean, and which share is right."""
    tenths = np.minimum((nuclei["score"] * 10).astype(int), 9)
    right = (nuclei["iou"] >= 0.5).astype(float)
    grouped = nuclei.assign(right=right).groupby(["source", tenths.rename("tenth")])
    named = {"predicted": ("score", "mean"), "observed": ("right", "mean"), "n": ("right", "size")}
    return grouped.agg(**named).round(4).reset_index().drop(columns="tenth")


def score_run(
    run: RunFolder, data: str, left_out: Mapping[str, str] | None = None, most: int = MOST
) -> ScoreFit:
    """Return the fit of `fit_score`, after storing the score in the file of the run's network.

    `score.csv` keeps the reliability, `score_trial.csv` what the score was worth. `data` names data
    sets, separated by commas; `left_out` the runs that answer for some of them, by the sets' names;
    of each set `most` images are taken at random.
    """
    sources = []
    for name, location in name_locations(data).items():
        answering = RunFolder((left_out or {}).get(name, run.path))
        network = load_network(answering.require("network.keras"))
        chosen = choose_unseen(read_data_set(location), answering, name, most)
        sources.append((name, network, chosen.images[:], chosen.labels[:]))
    fitted = fit_score(sources)
    before = load_network(run.require("network.keras")).settings.postprocessing
    store_postprocessing(run, before.model_copy(update={"score": fitted.score}))
    run.write_csv("score.csv", fitted.reliability)
    run.write_csv("score_trial.csv", fitted.trial)
    return fitted


def choose_unseen(data: DataSet, run: RunFolder, source: str, most: int) -> DataSet:
    """Return at most `most` labelled images that a run has neither trained nor been tested on."""
    split = run.read_csv("split.csv")
    used = set(split.loc[split["split"] != "validation", "id"])
    data = data.labelled
    free = [k for k, id_ in enumerate(data.ids) if not used & {id_, f"{source}-{id_}"}]
    if not free:
        raise ValueError(f"{source}: {run} was trained or tested on all of its images")
    places = np.random.default_rng(0).permutation(free)[:most]
    return data.select(np.sort(places))


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit and store the score of the run that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="run whose network gets the score")
    parser.add_argument("--data", required=True, help="data sets, separated by commas")
    parser.add_argument("--left-out", action="append", default=[], metavar="NAME=RUN")
    parser.add_argument("--most", type=int, default=MOST, help="images of each set")
    parser.add_argument("--replace-published", action="store_true", help="a run kept here, too")
    given = parser.parse_args(arguments)
    run = RunFolder(given.run, replace_published=given.replace_published)
    left_out = dict(each.split("=", 1) for each in given.left_out)
    fitted = score_run(run, given.data, left_out, given.most)
    print(fitted.trial.to_string(index=False), fitted.score.model_dump_json(indent=1), sep="\n")


if __name__ == "__main__":
    main()
