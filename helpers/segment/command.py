"""The nuclei of every image in a folder, from a shell: `python -m helpers.segment IMAGES`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from helpers.run_folder import REFERENCE, RunFolder
from helpers.segment.folder import FAILED, SUFFIXES, list_images, segment_folder
from helpers.segment.outputs import SUMMARY

FINE, SOME_FAILED, NOTHING_STARTED, STOPPED = 0, 1, 2, 130
"""Exit codes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 all fine, 1 some image failed, 130 stopped by Ctrl-C.

    2 where nothing could start, or the results could not be written: one message says why.
    """
    options = _read_arguments(arguments)
    try:
        summary = _segment(options)
    except (OSError, ValueError) as reason:
        print(reason, file=sys.stderr)
        return NOTHING_STARTED
    except KeyboardInterrupt:
        print(
            "\nstopped; what is done is kept, and the same command goes on with the rest",
            file=sys.stderr,
        )
        return STOPPED
    print(describe(summary, Path(options.output)))
    return SOME_FAILED if (summary["status"] == FAILED).any() else FINE


def describe(summary: pd.DataFrame, output: Path) -> str:
    """Return what came out of a folder of images: counts, failures, warnings, and where it is.

    Parameters
    ----------
    summary : DataFrame
        From `helpers.segment.folder.segment_folder`.
    output : Path
        The folder of the results.
    """
    failed = summary[summary["status"] == FAILED]
    warned = summary[(summary["status"] != FAILED) & (summary["warning"] != "")]
    lines = [
        f"{len(summary) - len(failed)} of {len(summary)} images segmented, "
        f"{summary['n_nuclei'].sum()} nuclei; {len(warned)} with a warning, {len(failed)} failed"
    ]
    lines += [f"- {row.image} failed: {row.warning}" for row in failed.itertuples()]
    lines += [f"- {row.image}: {row.warning}" for row in warned.itertuples()]
    return "\n".join([*lines, f"Results: {output} (begin with {SUMMARY} and the overlays)"])


def _segment(options: argparse.Namespace) -> pd.DataFrame:
    list_images(options.images, options.pattern)  # before the network, which takes seconds to load
    RunFolder(options.run).require("network.keras")
    from helpers.segment.trained import load_network

    network = load_network(options.run)
    print(f"network of {RunFolder(options.run)} · {network.device}", flush=True)
    if network.familiarity is None:
        print("no out_of_distribution.json: whether images resemble its training is not known")
    return segment_folder(
        options.images,
        options.output,
        network,
        pattern=options.pattern,
        diameter_px=options.diameter,
        pixel_size_um=options.pixel_size,
        overwrite=options.overwrite,
    )


def _read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.segment",
        description=f"Finds the nuclei in every image ({', '.join(SUFFIXES)}) of a folder.",
        epilog="Exit code: 0 all fine, 1 some image failed, 2 nothing could start, 130 stopped.",
    )
    parser.add_argument("images", help="folder of the images; subfolders are not entered")
    parser.add_argument("--output", required=True, help="folder for the results")
    parser.add_argument(
        "--run",
        default=REFERENCE,
        help=f"whose network, a folder under results/ (default: {REFERENCE}, which comes along)",
    )
    parser.add_argument("--pattern", default="*", help='names to take, such as "*.tif"')
    parser.add_argument(
        "--diameter", type=float, metavar="PX", help="median diameter of the nuclei, in pixels"
    )
    parser.add_argument(
        "--pixel-size", type=float, metavar="UM", help="side of a pixel, in micrometres"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files that were made otherwise"
    )
    return parser.parse_args(arguments)
