"""What a threshold reaches that has learnt nothing: the score that a network has to beat."""

import numpy as np
from numpy.typing import NDArray

from helpers.exploration.kinds_compared import guess_nuclei
from helpers.settings import Settings


class Threshold:
    """Otsu's threshold in the place of a network: the rarer side of it is called nucleus.

    See `helpers.exploration.kinds_compared.guess_nuclei`. Scored like a network, by
    `helpers.evaluation.scores.evaluate`.

    Parameters
    ----------
    settings : Settings
        Those of the network that it is compared with; only the target is read.
    """

    def __init__(self, settings: Settings):
        self.settings = settings

    def predict(self, image: NDArray) -> NDArray[np.float32]:
        """Return 1 where `image` is guessed to be nucleus and 0 elsewhere.

        Parameters
        ----------
        image : (H, W) or (H, W, 3) array of uint8 or uint16

        Returns
        -------
        (H, W) float32 array of 0 and 1
        """
        return guess_nuclei(image).astype(np.float32)
