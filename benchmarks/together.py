"""What do networks of several seeds find together? The mean of their maps, on one test set.

    python benchmarks/together.py --runs reference reference_seed_2 reference_seed_3 \
        --data data/stage1_train.zip --test data/stardist_test.zip \
        --output results/reference/together.csv

The runs must have been made before (`make run ... SEED=`). The way from maps to nuclei is that of
the first run, as it is stored with its network: nothing is tuned for all of them, as the validation
images of each were taught to the others. It costs as many times the computation as there are runs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from speed import write_table

from helpers.evaluation.nuclei import SCORES, match_data_set, score_nuclei
from helpers.evaluation.summary import summarise_scores
from helpers.network.prediction import Network, load_network
from helpers.session import start_session


class Together(Network):
    """Several trained networks as one: their maps are averaged, the settings are the first's.

    Parameters
    ----------
    networks : sequence of Network
        At least one, of the same target.

    Raises
    ------
    ValueError
        If they differ in what their maps mean.
    """

    def __init__(self, networks: Sequence[Network]):
        self.networks, self.settings = networks, networks[0].settings
        targets = sorted({network.target.name for network in networks})
        if len(targets) > 1:
            raise ValueError(
                f"the networks answer different targets ({', '.join(targets)}), whose maps have no "
                "mean; give --runs of one target"
            )

    def predict_maps(self, image: NDArray) -> NDArray[np.float32]:
        """Return the mean of all networks' maps, (H, W, n_channels), each with its own looks."""
        return np.mean([network.predict_maps(image) for network in self.networks], axis=0)


def main() -> None:
    """Measure, print what it comes to, and write the scores of every image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", nargs="+", required=True, help="folders under results/")
    parser.add_argument("--settings", default="settings/reference.json")
    parser.add_argument("--data", required=True, help="what they were trained on")
    parser.add_argument("--test", required=True, help="a test set that none of them was trained on")
    parser.add_argument("--output", type=Path, help="CSV file to write")
    given = parser.parse_args()
    sessions = [start_session(given.settings, given.data, run) for run in given.runs]
    data = sessions[0].read_data(faults="skip")
    # Each run refuses images that it was trained on; fields of view are those of the first.
    test_sets = [each.read_test_set(data, given.test) for each in sessions]
    files = [each.run.require("network.keras") for each in sessions]
    together = Together([load_network(file) for file in files])
    test, known = test_sets[0]
    table = score_nuclei(match_data_set(map(together.segment, test.images), test, known))
    if given.output:
        write_table(table.round(4), given.output)
    summary = summarise_scores(table, SCORES)
    print(summary.query("modality == 'all'").to_string(index=False))


if __name__ == "__main__":
    main()
