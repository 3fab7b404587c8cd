"""What `nuclei predict` says of a folder of images at the end."""

from pathlib import Path

import pandas as pd

from helpers.segment.folder import FAILED
from helpers.segment.outputs import SUMMARY


def describe(summary: pd.DataFrame, out: Path) -> str:
    """Return what came out of a folder of images: counts, failures, warnings, and where it is.

    Parameters
    ----------
    summary : DataFrame
        From `helpers.segment.folder.segment_folder`.
    out : Path
        The folder of the results.
    """
    is_failed = summary["status"] == FAILED
    failed, warned = summary[is_failed], summary[~is_failed & (summary["warning"] != "")]
    lines = [
        f"{len(summary) - len(failed)} of {len(summary)} images segmented, "
        f"{summary['n_nuclei'].sum()} nuclei; {len(warned)} with a warning, {len(failed)} failed"
    ]
    lines += [f"- {row.image} failed: {row.warning}" for row in failed.itertuples()]
    lines += [f"- {row.image}: {row.warning}" for row in warned.itertuples()]
    lines += summary.attrs.get("notes", [])
    return "\n".join([*lines, f"Results: {out} (begin with {SUMMARY} and the overlays)"])
