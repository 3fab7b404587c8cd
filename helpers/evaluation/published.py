"""Our scores of single nuclei beside the published ones, on the same images.

Published figures are quoted with their source. Ours come with a 95 % interval over fields of view
and with the range of their seeds. The table under `results/` is written anew by

    python -m helpers.evaluation.published
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.analysis.modality import MODALITIES
from helpers.evaluation.matching import THRESHOLDS
from helpers.evaluation.summary import bootstrap_interval, split_score
from helpers.run_folder import REFERENCE, resolve

PERCENTS = tuple(round(100 * threshold) for threshold in THRESHOLDS[:9])
"""IoU .50, .55, ... .90, at which others have published."""
POOLED = tuple(f"ap_{percent}" for percent in PERCENTS)
"""Average precision, pooled over the nuclei of all images."""
AVERAGED = (*(f"mean_ap_{percent}" for percent in PERCENTS), "bowl")
"""Average precision, averaged over images; "bowl" is the mean over IoU .50 to .95."""
ENDS = ("low", "high", "seed_low", "seed_high")
"""The interval of a score, and its smallest and largest value among the seeds."""
COMPARISON = "results/comparison.csv"

SCHMIDT = "Schmidt et al. 2018, table 1, https://doi.org/10.1007/978-3-030-00934-2_30"
LALIT = "Lalit et al. 2022, with test-time augmentation, https://doi.org/10.1016/j.media.2022.102523"
PATCHPERPIX = "https://github.com/Kainmueller-Lab/PatchPerPix"
RERUN = "https://github.com/hoyden/stardist_pytorch"
MICRO_SAM = "micro-SAM's comparison of automatic prompt generation"

PUBLISHED_AP = {
    "U-Net, 2 classes": (0.6739, 0.6295, 0.5975, 0.5650, 0.5339, 0.4819, 0.4151, 0.3248, 0.2032),
    "U-Net, 3 classes": (0.8060, 0.7753, 0.7431, 0.7011, 0.6543, 0.5777, 0.4910, 0.3738, 0.2258),
    "Mask R-CNN": (0.8323, 0.8051, 0.7728, 0.7299, 0.6838, 0.5974, 0.4893, 0.3525, 0.1891),
    "StarDist": (0.8641, 0.8361, 0.8043, 0.7545, 0.6850, 0.5862, 0.4495, 0.2865, 0.1191),
}
