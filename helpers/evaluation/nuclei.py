"""Every image of a data set segmented into nuclei, matched with its truth, and counted."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from helpers.data.data_set import DataSet
from helpers.evaluation.matching import (
    OUTCOMES_PRED,
    OUTCOMES_TRUE,
    THRESHOLDS,
    Matching,
    match,
)
from helpers.evaluation.summary import by_modality, share_or_one

SCORES = ("ap_50", "ap_70", "ap_90", "mean_ap_50", "bowl", "recall_70", "pq", "aji")
"""For `summarise_scores`. All are pooled over nuclei but mean_ap_50 and bowl."""
ERRORS = ("merged", "split", "inaccurate", "missed", "extra")
"""The ways to go wrong: four of a true nucleus, and an object where there is none."""
_COLUMNS = [f"tp_{round(100 * threshold)}" for threshold in THRESHOLDS]
_COLUMN_OF = {"extra": "spurious"}
"""Columns of published tables keep the name they were written with."""
_COLUMN_OF_PRED = {"inaccurate": "inaccurate_pred"} | _COLUMN_OF


class MatchedImage(NamedTuple):
    """One image, its modality, its field of view (`group`) and how its nuclei were matched."""

    id: str
    modality: str
    group: Any
    matching: Matching

    @property
    def about(self) -> dict[str, Any]:
        """The columns that tables of images and of nuclei begin with."""
        return {"id": self.id, "modality": self.modality, "group": self.group}


def match_data_set(
    labels_pred: Iterable[NDArray[np.integer]], data: DataSet, known: pd.DataFrame
) -> list[MatchedImage]:
    """Return the matching of every image of `data`, under a progress bar.

    `labels_pred` are the predicted labels of each, (H, W) int, such as
    `map(network.segment, data.images)`; `known` has the columns id, modality and group for all of
    them, as a run's `split.csv`.
    """
    about = known.set_index("id").loc[data.ids]
    images = zip(data.ids, about["modality"], about["group"], data.labels, labels_pred, strict=True)
    return match_images(tqdm(images, "segmenting", len(data), unit=" images", leave=False))


def match_images(
    images: Iterable[tuple[str, str, Any, NDArray[np.integer], NDArray[np.integer]]],
) -> list[MatchedImage]:
    """Return the matching of every (id, modality, group, labels_true, labels_pred).

    `images` may be a generator. Errors are those of `match`, with the image named in a note.
    """
    matched = []
    for name, modality, group, labels_true, labels_pred in images:
        try:
            found = match(labels_true, labels_pred)
        except (TypeError, ValueError) as error:
            error.add_note(f"It happened at image {name!r}.")
            raise
        matched.append(MatchedImage(name, modality, group, found))
    return matched


def score_nuclei(matched: Iterable[MatchedImage]) -> pd.DataFrame:
    """Return the scores of every image and the counts from which they can be pooled.

    Returns
    -------
    DataFrame
        One row an image. id, modality, group; n_true, n_pred; tp_50, tp_55, ... tp_95 (pairs of at
        least that IoU); ap_50, ap_70, ap_90, f1_50, bowl, pq, aji (0 to 1; 1.0 for an image
        without nuclei in which none was predicted); the outcomes merged, split, inaccurate, missed
        (with tp_50 they add up to n_true) and merging, fragment, inaccurate_pred, spurious (with
        tp_50, to n_pred); n_merges, n_splits; iou_sum, aji_intersection and aji_union (px).

    Raises
    ------
    ValueError
        If there is no image.
    """
    table = pd.DataFrame([_count_nuclei(image) for image in matched])
    if table.empty:
        raise ValueError("there is no image to score; call `match_images` on at least one")
    nuclei = table["n_true"] + table["n_pred"]
    unions = {tp: nuclei - table[tp] for tp in _COLUMNS}
    precisions = {tp: share_or_one(table[tp], unions[tp]) for tp in _COLUMNS}
    scores = {f"ap_{percent}": precisions[f"tp_{percent}"] for percent in (50, 70, 90)} | {
        "f1_50": share_or_one(2 * table["tp_50"], nuclei),
        "bowl": np.mean(list(precisions.values()), axis=0),
        "pq": share_or_one(2 * table["iou_sum"], nuclei),
        "aji": share_or_one(table["aji_intersection"], table["aji_union"]),
    }
    after = table.columns.get_loc(_COLUMNS[-1]) + 1
    return pd.concat(
        [table.iloc[:, :after], pd.DataFrame(scores, table.index), table.iloc[:, after:]], axis=1
    )


def _count_nuclei(image: MatchedImage) -> dict[str, Any]:
    found = image.matching
    outcomes_true, outcomes_pred = found.outcomes_true.tolist(), found.outcomes_pred.tolist()
    return {
        **image.about,
        "n_true": found.n_true,
        "n_pred": found.n_pred,
        **dict(zip(_COLUMNS, found.tp.tolist(), strict=True)),
        **{name: outcomes_true.count(name) for name in OUTCOMES_TRUE[1:]},
        **{_COLUMN_OF_PRED.get(n, n): outcomes_pred.count(n) for n in OUTCOMES_PRED[1:]},
        "n_merges": found.n_merges,
        "n_splits": found.n_splits,
        "iou_sum": found.iou_sum,
        "aji_intersection": found.aji_intersection,
        "aji_union": found.aji_union,
    }


def nuclei_table(matched: Iterable[MatchedImage]) -> pd.DataFrame:
    """Return one row a true nucleus of all images.

    Columns id, modality, group of its image; label; area_px; diameter_px (of the circle of equal
    area); iou (with its partner, 0 without one); outcome (one of `matching.OUTCOMES_TRUE`).
    """
    parts = [
        pd.DataFrame(
            {
                **image.about,
                "label": image.matching.ids_true,
                "area_px": image.matching.areas_true,
                "diameter_px": np.sqrt(4 * image.matching.areas_true / np.pi),
                "iou": image.matching.iou_true,
                "outcome": image.matching.outcomes_true.astype(object),
            }
        )
        for image in matched
    ]
    if not parts:
        raise ValueError("there is no image to tabulate; call `match_images` on at least one")
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]


def pick_outcomes(matched: Sequence[MatchedImage]) -> pd.DataFrame:
    """Return one nucleus for each outcome that occurs, to look at.

    Columns outcome, place (of the image in `matched`) and label (of the truth, but for "extra"):
    the largest nucleus of the image that has the most of that outcome.
    """
    rows = []
    for outcome in ("found", *ERRORS):
        side = "pred" if outcome == "extra" else "true"
        masks = [getattr(image.matching, f"outcomes_{side}") == outcome for image in matched]
        place = int(np.argmax([mask.sum() for mask in masks]))
        if masks[place].any():
            found = matched[place].matching
            areas = np.where(masks[place], getattr(found, f"areas_{side}"), 0)
            rows.append((outcome, place, int(getattr(found, f"ids_{side}")[areas.argmax()])))
    return pd.DataFrame(rows, columns=["outcome", "place", "label"])


def tabulate_errors(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many errors of each type there are per 100 true nuclei, modality by modality.

    Columns modality, n_images, n_true, then `ERRORS` (NaN without true nuclei), of a table of
    `score_nuclei`. Merging and inaccurate objects and fragments are the other side of the same
    errors and not counted again.
    """
    rows = []
    for modality, chosen in by_modality(table):
        n_true = int(chosen["n_true"].sum())
        counts = {error: chosen[_COLUMN_OF.get(error, error)].sum() for error in ERRORS}
        shares = {error: 100 * n / n_true if n_true else np.nan for error, n in counts.items()}
        rows.append({"modality": modality, "n_images": len(chosen), "n_true": n_true, **shares})
    return pd.DataFrame(rows)
