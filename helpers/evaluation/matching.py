"""Every image of a data set taken apart into nuclei, and matched with its truth."""

from collections.abc import Callable, Iterator

import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from helpers.data.data_set import DataSet
from helpers.evaluation.nuclei_scores import MatchedImage, match_images
from helpers.network.prediction import Network


def match_network(network: Network, data: DataSet, known: pd.DataFrame) -> list[MatchedImage]:
    """Return the matching of every image of `data` with what the network makes of it."""
    return match_data_set(lambda place: network.segment(data.images[place]), data, known)


def match_data_set(
    segment: Callable[[int], NDArray], data: DataSet, known: pd.DataFrame
) -> list[MatchedImage]:
    """Return the matching of every image of `data`, under a progress bar.

    Parameters
    ----------
    segment : callable
        Takes the place of an image in `data`, gives its predicted labels, (H, W) int.
    data : DataSet
        Labelled images.
    known : DataFrame
        Has the columns id, kind and group for all of them, as a run's `split.csv`.
    """
    about = known.set_index("id")[["kind", "group"]].to_dict("index")

    def each() -> Iterator[tuple]:
        places = tqdm(range(len(data)), desc="segmenting", unit=" images", leave=False)
        for place in places:
            name = data.ids[place]
            yield (
                name,
                about[name]["kind"],
                about[name]["group"],
                data.labels[place],
                segment(place),
            )

    return match_images(each())
