"""Leave-one-source-out: how well a network does on images of laboratories that it never saw.

    python benchmarks/sources.py --settings settings/nuclei.json \
        --data data/stage1_train.zip,data/nuinsseg.zip,data/tnbc.zip,data/bsst265.zip \
        --left-out tnbc,bsst265

The network is trained on the other sources and tested on these, segmented as `nuclei predict`
does. Images on the test side of the reference run's split, or left out of it, are never trained on.
Every combination has a folder of its own with `scores_*.csv` of each source left out (a row an
image) and `summary.csv` (intervals over patients, organs or fields of view). Interrupted trainings
resume. `--network reference` scores a network that is there.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from helpers import load_network
from helpers.analysis.fields import find_groups
from helpers.analysis.modality import find_modalities
from helpers.analysis.splits import split_by_group
from helpers.data.data_set import DataSet, read_data_set
from helpers.evaluation.nuclei import SCORES, match_data_set, score_nuclei
from helpers.evaluation.summary import summarise_scores
from helpers.run_folder import REFERENCE, RunFolder
from helpers.settings import Settings, load_settings
from helpers.training.loop import train


def choose_images(data: DataSet, left_out: Sequence[str]) -> pd.Series:
    """Return for every image whether the network may see it.

    Raises ValueError if a source to be left out is not there, or none remains.
    """
    sources = data.table["source"]
    if unknown := set(left_out) - set(sources):
        raise ValueError(
            f"--left-out names {', '.join(sorted(unknown))}; the sources are "
            f"{', '.join(sources.unique())}"
        )
    if set(sources) <= set(left_out):
        raise ValueError("--left-out names every source; leave one to train on")
    split = RunFolder(REFERENCE).read_csv("split.csv")
    held_back = tuple(split.loc[split["split"].isin(["test", "left out"]), "id"])
    return ~sources.isin(left_out) & ~data.table["id"].str.endswith(held_back)


def train_on(run: RunFolder, settings: Settings, data: DataSet) -> None:
    """Train on a data set but for a validation side of whole groups."""
    modalities = find_modalities(data.images)["modality"]
    groups = find_groups(data.images[:], data.table["known_group"])
    sides = split_by_group(
        groups,
        test_ratio=0,
        validation_ratio=settings.training.validation_split_ratio,
        seed=settings.training.seed,
        strata=modalities,
        sources=data.table["source"],
    )
    table = pd.DataFrame({"id": data.ids, "source": data.table["source"], "modality": modalities})
    run.write_csv("split.csv", table.assign(group=groups, split=sides))
    taught, validation = (data.select(sides == side) for side in ("train", "validation"))
    print(f"{len(taught)} images to train on, {len(validation)} to validate", flush=True)
    sets = [(each.images[:], each.labels[:]) for each in (taught, validation)]
    train(run, settings, *sets)


def score_unseen(network: Path, data: DataSet) -> pd.DataFrame:
    """Return a row an image, as `helpers.evaluation.nuclei.score_nuclei`, and what was decided.

    `network` is the folder of its run.
    """
    network = load_network(network)
    known = pd.DataFrame({"id": data.ids, "modality": data.table["source"]})
    groups = data.table["known_group"]
    known["group"] = pd.factorize(groups.where(groups != "", known["id"]))[0]
    results = []

    def segment():
        for image in tqdm(data.images, total=len(data), unit=" images", leave=False):
            result = network.analyse(image)
            results.append({"scale": result.scale.scale, "n_warnings": len(result.warnings)})
            yield result.labels

    table = score_nuclei(match_data_set(segment(), data, known))
    return table.join(pd.DataFrame(results))


def score_sources(
    run: RunFolder, network: Path, data: DataSet, sources: Sequence[str], most: int | None
) -> None:
    """Write a table an unseen source, and one of what all of them come to."""
    parts = []
    for source in sources:
        unseen = data.select((data.table["source"] == source).to_numpy())
        step = -(-len(unseen) // most) if most else 1
        scores = score_unseen(network, unseen.select(range(0, len(unseen), step)))
        run.write_csv(f"scores_{source}.csv", scores.round(4))
        parts.append(summarise_scores(scores, SCORES).assign(modality=source))
    summary = pd.concat(parts).rename(columns={"modality": "source"}).round(4)
    run.write_csv("summary.csv", summary)
    print(summary.to_string(index=False))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and score; return 0, or 2 where nothing could start."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folders or zips, separated by commas")
    parser.add_argument("--left-out", default="", help="sources, separated by commas")
    parser.add_argument("--settings", type=Path, default="settings/nuclei.json")
    parser.add_argument("--network", help="score this run's network, and train none")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--epochs", type=int, help="instead of the settings file's")
    parser.add_argument("--output", default="sources", help="run that holds a folder each")
    parser.add_argument("--most", type=int, help="score at most so many images of a source")
    parser.add_argument("--replace-published", action="store_true", help="write into the kept run")
    given = parser.parse_args(arguments)
    try:
        base = RunFolder(given.output, replace_published=given.replace_published)
        base.refuse_published()
        settings = load_settings(given.settings).with_training(
            epoch_num=given.epochs, seed=given.seed
        )
        data = read_data_set(given.data, faults="skip").labelled
        left_out = [name for name in given.left_out.split(",") if name]
        may_see = choose_images(data, left_out)
    except (OSError, ValueError) as reason:
        print(reason, file=sys.stderr)
        return 2
    name = "without_" + "_".join(left_out) if left_out else "all"
    run = RunFolder(base.path / (given.network or f"{name}_seed_{settings.training.seed}"))
    network = RunFolder(given.network).path if given.network else run.path
    if not RunFolder(network).file("network.keras").exists():
        train_on(run, settings, data.select(may_see.to_numpy()))
    score_sources(run, network, data, left_out, given.most)
    return 0


if __name__ == "__main__":
    sys.exit(main())
