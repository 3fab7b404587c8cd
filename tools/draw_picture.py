"""Draw README's picture: `python tools/draw_picture.py --data data/stage1_train.zip`.

Two images that the reference network was not trained on, a validation image of stained tissue and a
test image of fluorescence: each the one of the crowded ones that it does best.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from helpers import load_network
from helpers.data.data_set import DataSet, read_data_set
from helpers.evaluation.matching import match
from helpers.figures.common import set_style
from helpers.figures.nuclei import plot_nuclei_examples
from helpers.run_folder import REFERENCE, ROOT, RunFolder

SHOWN = {
    "stained tissue": ("purple_tissue", "validation"),
    "fluorescence": ("small_fluorescent", "test"),
}
CROWDED = 25  # nuclei; fewer make a dull picture
SIDE_PX = 256


def find_example(data: DataSet, ids: list[str], network) -> tuple[NDArray, NDArray, NDArray]:
    """Return image, true labels and predicted labels of the image with the best match."""
    best, example = -1.0, None
    for place in np.flatnonzero(np.isin(data.ids, ids)):
        image, labels_true = data.images[place], data.labels[place]
        if labels_true.max() < CROWDED or min(image.shape[:2]) < SIDE_PX:
            continue
        labels_pred = network.predictor.segment(image)
        found = match(labels_true, labels_pred)
        score = found.count(0.5) / (found.n_true + found.n_pred - found.count(0.5))
        if score > best:
            best, example = score, (image, labels_true, labels_pred)
    return example


def main() -> None:
    """Write docs/nuclei.png."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", default="data/stage1_train.zip", help="the Bowl's images")
    data = read_data_set(parser.parse_args().data)
    network, split = load_network(REFERENCE), RunFolder(REFERENCE).read_csv("split.csv")
    set_style()
    examples = []
    for modality, side in SHOWN.values():
        chosen = split.loc[(split["modality"] == modality) & (split["split"] == side), "id"]
        examples.append(find_example(data, list(chosen), network))
    window = (slice(0, SIDE_PX), slice(0, SIDE_PX))
    figure = plot_nuclei_examples(examples, list(SHOWN), [window] * len(examples))
    figure.savefig(ROOT / "docs" / "nuclei.png", dpi=110)


if __name__ == "__main__":
    main()
