"""What a network learns to predict: each representation of nuclei is one `Target`.

A new one is a file beside these and its name in `TARGETS`: settings, network, loss, batches,
thresholds and figures ask the target.

Examples
--------
>>> get_target("boundary").channels
('background', 'interior', 'boundary')
"""

from helpers.targets.base import Target
from helpers.targets.distance import BOUNDARY, DISTANCE
from helpers.targets.flow import FLOW
from helpers.targets.mask import FOREGROUND, INTERIOR

__all__ = ["TARGETS", "Target", "get_target"]

TARGETS = {target.name: target for target in (FOREGROUND, INTERIOR, BOUNDARY, DISTANCE, FLOW)}
"""Every target by the name that settings files call it."""


def get_target(name: str) -> Target:
    """Return the target of that name.

    Raises
    ------
    ValueError
        If there is none; the message lists those that there are.
    """
    if name not in TARGETS:
        raise ValueError(f"target {name!r} must be one of {', '.join(TARGETS)}")
    return TARGETS[name]
