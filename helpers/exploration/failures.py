"""Where a network will fail, predicted from its training images before it is trained.

A network learns first what separates most pixels, and that is brightness. So the masks of a
threshold, which learns nothing, tell how far brightness goes. Where they are bad, something else
in the image looks like nuclei, and only many examples could teach the difference. The rival
explanation is rarity: a network fails on what it has seldom seen. Both rank the kinds of image,
so measured scores can decide between them.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers.exploration.kinds_compared import guess_nuclei

FAILS_BELOW = 0.5
"""IoU below which a mask fails: of all that is nucleus or is called so, half is wrong."""


def predict_failures(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    kinds: Sequence[str],
    groups: Sequence[int],
) -> pd.DataFrame:
    """Return, from training images alone, on which kinds a network will fail.

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, 3) arrays of uint8 or uint16
        The training side of a split, with masks.
    labels : sequence of (H, W) integer arrays
        0 is background.
    kinds : (n,) sequence of str
    groups : (n,) sequence of int
        Field of view of every image.

    Returns
    -------
    DataFrame
        One row a kind, the likeliest failure first. `threshold_iou`: mean IoU, 0 to 1, of the
        masks of `guess_nuclei`; `risk`: what it lacks to 1; `fails`: whether `threshold_iou` is
        below `FAILS_BELOW`, and so the network's mean IoU is expected to be; `training_fields`:
        fields of view; `rank` by risk and `rarity_rank` by fields, 1 the likeliest failure.
    """
    ious = [_score_guess(*both) for both in zip(images, labels, strict=True)]
    table = pd.DataFrame({"kind": np.asarray(kinds), "group": np.asarray(groups), "iou": ious})
    by_kind = table.groupby("kind")
    result = pd.DataFrame({"threshold_iou": by_kind["iou"].mean()})
    result["risk"] = 1 - result["threshold_iou"]
    result["fails"] = result["threshold_iou"] < FAILS_BELOW
    result["training_fields"] = by_kind["group"].nunique()
    result["rank"] = result["risk"].rank(ascending=False, method="min").astype(int)
    result["rarity_rank"] = result["training_fields"].rank(method="min").astype(int)
    return result.sort_values("rank")


def _score_guess(image: np.ndarray, labels: np.ndarray) -> float:
    guess, mask = guess_nuclei(image), labels > 0
    union = np.count_nonzero(guess | mask)
    return np.count_nonzero(guess & mask) / union if union else 1.0
