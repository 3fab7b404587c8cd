"""What every notebook starts with: the settings, the run's folder, the data and their split."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from helpers.data import DataSet, read_data_set
from helpers.run_folder import RunFolder
from helpers.settings import Settings, load_settings

SIDES = ("train", "validation", "test")


class Session(NamedTuple):
    """One notebook's view of a run."""

    settings: Settings
    run: RunFolder
    data_set_location: str

    def read_data(self, *, faults: str = "refuse") -> DataSet:
        """Return the data set; `faults` says what happens to images that are not sound.

        See `helpers.data.read_data_set`.
        """
        return read_data_set(self.data_set_location, faults=faults)

    def read_split(self, data: DataSet) -> dict[str, DataSet]:
        """Return the labelled images of `data` by side, as the run's `split.csv` says.

        Raises
        ------
        FileNotFoundError
            If notebook 01 has not yet split this run's data.
        ValueError
            If the split was made for other images.
        """
        labelled = data.labelled
        split = self.run.read_csv("split.csv", dtype={"id": str}).set_index("id")["split"]
        unknown = set(labelled.ids) ^ set(split.index)
        if unknown:
            raise ValueError(
                f"{self.run}/split.csv was made for other images ({len(unknown)} ids differ, e.g. "
                f"{min(unknown)!r}); give another run, or execute notebook 01 again"
            )
        sides = split.loc[labelled.ids].to_numpy()
        return {side: labelled.select(sides == side) for side in SIDES}


def start_session(
    settings: str, data_set_location: str | None = None, run: str = "quick", seed: int | None = None
) -> Session:
    """Return the session that a notebook's parameters describe, and set the figures' style.

    Parameters
    ----------
    settings : str
        A settings file; a relative path starts at the repository's root.
    data_set_location : str, optional
        Overrides the settings file's: a folder, a zip, or "sample" for the embedded sample.
    run : str
        The folder under `results/`.
    seed : int, optional
        Overrides the settings file's.
    """
    from helpers.plots import set_style

    set_style()
    loaded = load_settings(settings).with_training(seed=seed)
    return Session(loaded, RunFolder(run), data_set_location or loaded.data_set_location)


def write_split(run: RunFolder, split: pd.DataFrame) -> Path:
    """Write the run's `split.csv` and return its path; a split once trained on never changes.

    Parameters
    ----------
    run : RunFolder
        The run that the split belongs to.
    split : DataFrame
        One row a labelled image: id, kind, group and split ("train", "validation" or "test").

    Raises
    ------
    ValueError
        If the run has a checkpoint and an image would change sides: images that the network has
        learnt from would be called test images.
    """
    if run.file("checkpoint.keras").exists() and run.file("split.csv").exists():
        before = run.read_csv("split.csv", dtype={"id": str}).set_index("id")["split"]
        after = split.set_index("id")["split"]
        ids = before.index.union(after.index)
        n_moved = int(
            (before.reindex(ids, fill_value="") != after.reindex(ids, fill_value="")).sum()
        )
        if n_moved:
            raise ValueError(
                f"{run}/checkpoint.keras was trained on another split: {n_moved} of {len(after)} "
                "images would change sides; give another `run`, or the settings, seed and data "
                "that this one began with, or delete its folder to begin anew"
            )
    return run.write_csv("split.csv", split)
