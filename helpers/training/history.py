"""What a finished training's history says about it."""

import pandas as pd

GUESSED = 1.5
"""Loss above that of a network that answers the same probability everywhere, by a margin."""
FOUND = 0.2
"""IoU of the foreground in training, below which hardly a nucleus is marked."""


def judge_training(history: pd.DataFrame) -> list[str]:
    """Return what speaks against a training, in sentences; nothing where it has learned.

    Parameters
    ----------
    history : DataFrame
        From `helpers.training.loop.train`, one row an epoch.

    Examples
    --------
    >>> judge_training(pd.DataFrame({"loss": [0.7, 0.2], "iou": [0.1, 0.8]}))
    []
    """
    loss, said = history["loss"], []
    first, last, best = loss.iloc[0], loss.iloc[-1], loss.min()
    if last > GUESSED:
        said.append(
            f"the loss ended at {last:.3g}, where guessing gives less than 1; lower "
            "training.learning_rate"
        )
    elif len(loss) > 1 and last >= first:
        said.append(
            f"the loss did not fall ({first:.3g} in the first epoch, {last:.3g} in the last); "
            "change training.learning_rate, or look at a batch"
        )
    elif last > 2 * best and last - best > 0.1:
        said.append(
            f"the loss rose again from {best:.3g} to {last:.3g}; lower training.learning_rate"
        )
    if "iou" in history and history["iou"].iloc[-1] < FOUND:
        said.append(
            f"IoU {history['iou'].iloc[-1]:.2f} on the training images themselves: hardly a "
            "nucleus is marked; train longer, or look at images and masks (notebook 01)"
        )
    return [f"The network has not learned: {sentence}." for sentence in said]
