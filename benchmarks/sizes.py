"""Are nuclei of every size found? Real images, resized until their nuclei are 8 to 80 px wide.

    python benchmarks/sizes.py --run reference --data data/stardist_test.zip \
        --output results/reference/sizes.csv

Every image and its labels are resized until the median diameter of its nuclei is that of a row of
the table, and segmented in three ways: as it is, at the scale that `choose_scale` finds by itself,
and with the diameter given. The run must not have been trained on the images.

The labels as resized are the truth, so what resizing itself destroys is lost before anything is
scored. Nuclei of which no pixel is left do not count, and gaps below a pixel close. Of a disc 8 px
wide an outline half a pixel further in has an IoU of .77 with it, one a whole pixel further in .56:
there the truth is a matter of rounding, and part of what is missing at a high IoU is no fault of
the network. Nor does an enlarged image show more than the stored one did. Images that would become
too small or too large are left out, so that not every row has the same ones; see `n_images`.
"""

import argparse
import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from speed import write_table
from tqdm import tqdm

from helpers import load_network
from helpers.data.data_set import DataSet, read_data_set
from helpers.evaluation.nuclei import MatchedImage, match_images, score_nuclei
from helpers.evaluation.summary import summarise_scores
from helpers.network.geometry import rescale
from helpers.network.prediction import Network
from helpers.segment.measure import median_diameter
from helpers.segment.scale import choose_scale

DIAMETERS_PX = (8, 11, 16, 23, 32, 45, 64, 80)
"""Half an octave apart, the last a little less; the usual range is 10 to 60 px."""
SIDES_PX = (32, 2500)
"""Shorter and longer side that a resized image must not exceed: a context to judge by, and time."""
SCORES = ("ap_50", "recall_70")


class Found(NamedTuple):
    """By which factor an image was resized for the network, and the labels that came of it."""

    scale: float
    labels: NDArray[np.int32]


def measure_diameter(labels: NDArray[np.integer]) -> float:
    """Return the median diameter, in pixels, of the nuclei of a label image; NaN without any."""
    areas = np.bincount(labels.ravel())[1:]
    return median_diameter(areas[areas > 0])


def draw_images(diameters_px: Sequence[float], n_images: int, rng: np.random.Generator) -> list:
    """Return the positions of `n_images` images, or of all, that cover the range of diameters.

    Sorted by diameter, the images are parted into as many equal shares, and one of each share is
    drawn. An image without nuclei, whose diameter is NaN, is never drawn.
    """
    order = np.argsort(diameters_px, kind="stable")[: np.isfinite(diameters_px).sum()]
    shares = np.array_split(order, min(n_images, len(order)))
    return [int(rng.choice(share)) for share in shares]


def resize_nuclei(
    image: NDArray, labels: NDArray[np.integer], diameter_px: float
) -> tuple[NDArray, NDArray] | None:
    """Return the image and its labels with nuclei of this median diameter, in their own types.

    None where a side would leave `SIDES_PX`.
    """
    factor = diameter_px / measure_diameter(labels)
    shape = tuple(round(px * factor) for px in labels.shape)
    if min(shape) < SIDES_PX[0] or max(shape) > SIDES_PX[1]:
        return None
    return rescale(image, shape), rescale(labels, shape, order=0)


def segment_ways(
    network: Network, image: NDArray, diameter_px: float, known: tuple[float, float]
) -> dict[str, Found]:
    """Return what is found in an image, by way: "as_is", "found" (the scale), "given" (the size).

    Equal scales are computed once.
    """
    chosen = {
        "found": choose_scale(network, image, known=known),
        "given": choose_scale(network, image, diameter_px=diameter_px, known=known),
    }
    scales = {"as_is": 1.0} | {way: choice.scale for way, choice in chosen.items()}
    labels = {scale: network.segment(image, scale=scale) for scale in set(scales.values())}
    return {way: Found(scale, labels[scale]) for way, scale in scales.items()}


def measure(
    network: Network,
    data: DataSet,
    known: tuple[float, float],
    diameters_px: Sequence[float] = DIAMETERS_PX,
) -> pd.DataFrame:
    """Return how well the nuclei of labelled images are found, by their size and by way.

    The images, each with a nucleus at least, are brought to median diameters of `diameters_px`;
    `known` are the smallest and the largest that the network knows. Columns: diameter_px, way,
    n_images, n_skipped (images that would be too small or too large), n_nuclei; each of `SCORES`,
    pooled over nuclei, with the ends of its 95 % interval over images (NaN where there is one);
    scale_median. A size that no image can take has no row.
    """
    matched, scales = defaultdict(list), defaultdict(list)
    trials = list(itertools.product(diameters_px, range(len(data.ids))))
    for diameter_px, place in tqdm(trials, desc="segmenting", unit=" images"):
        resized = resize_nuclei(data.images[place], data.labels[place], diameter_px)
        if resized is None:
            continue
        image, labels = resized
        name = data.ids[place]
        for way, found in segment_ways(network, image, diameter_px, known).items():
            matched[diameter_px, way] += match_images([(name, "", name, labels, found.labels)])
            scales[diameter_px, way].append(found.scale)
    rows = [
        {"diameter_px": diameter_px, "way": way, "n_images": len(found)}
        | {"n_skipped": len(data.ids) - len(found)}
        | summarise(found)
        | {"scale_median": float(np.median(scales[diameter_px, way]))}
        for (diameter_px, way), found in matched.items()
    ]
    return pd.DataFrame(rows).round(4)


def summarise(matched: list[MatchedImage]) -> dict[str, float]:
    """Return the number of true nuclei, and every score with the ends of its interval."""
    summary = summarise_scores(score_nuclei(matched), SCORES).set_index("score")
    row = {"n_nuclei": int(summary["n_nuclei"].iloc[0])}
    for score in SCORES:
        found = summary.loc[score]
        row |= {score: found["estimate"]}
        row |= {f"{score}_low": found["low"], f"{score}_high": found["high"]}
    return row


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="reference", help="folder under results/")
    parser.add_argument("--data", default="data/stardist_test.zip", help="never trained on")
    parser.add_argument("--images", type=int, default=8, help="how many, over all sizes")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of the images")
    parser.add_argument("--output", type=Path, help="CSV file to write")
    given = parser.parse_args()
    network = load_network(given.run)
    data = read_data_set(given.data).labelled
    diameters_px = [measure_diameter(labels) for labels in data.labels]
    drawn = draw_images(diameters_px, given.images, np.random.default_rng(given.seed))
    print(
        f"{len(drawn)} of {len(data)} images; the network knows {network.known_px} px", flush=True
    )
    table = measure(network.predictor, data.select(drawn), network.known_px)
    write_table(table, given.output)


if __name__ == "__main__":
    main()
