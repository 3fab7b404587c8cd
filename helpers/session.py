"""What every notebook starts with: the settings, the run's folder, the data and their split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from helpers.analysis.fields import find_groups, match_pixels, name_pixels
from helpers.analysis.modality import find_modalities
from helpers.analysis.splits import SPLIT_NAMES
from helpers.data.data_set import DataSet, read_data_set
from helpers.data.problems import DataFaultError
from helpers.parameters import check_page
from helpers.run_folder import RunFolder
from helpers.settings import Settings, load_settings

SPLIT_DEPENDS_ON = ("seed", "test_split_ratio", "validation_split_ratio")


class Session(NamedTuple):
    """One notebook's view of a run."""

    settings: Settings
    run: RunFolder
    location: str

    @property
    def masks(self) -> str:
        """Return what counts as a nucleus in the files, as notebook 01 has noted."""
        is_noted = self.run.file("masks.json").exists()
        return self.run.read_json("masks.json") if is_noted else "numbered"

    def read_data(self, *, faults: str | None = None, masks: str | None = None) -> DataSet:
        """Return the data set; `faults` and `masks` as in `helpers.data.data_set.read_data_set`.

        None does as notebook 01 has done. Where images are refused, `faults.csv` lists them.
        """
        faults = faults or ("skip" if self.run.file("split.csv").exists() else "refuse")
        try:
            data = read_data_set(self.location, faults=faults, masks=masks or self.masks)
        except DataFaultError as error:
            self.run.write_csv("faults.csv", error.faults)
            raise
        if not data.table["labelled"].any():
            raise ValueError(
                f"none of the {len(data)} images in {self.location!r} has masks, so there is "
                "nothing to learn from; put label images into a folder masks/ beside images/ (see "
                "data/README.md), or let `nuclei predict` segment them"
            )
        if masks and masks != self.masks:
            self.run.write_json("masks.json", masks)
        return data

    def read_split(self, data: DataSet) -> dict[str, DataSet]:
        """Return the labelled images of `data` by side, as the run's `split.csv` says.

        Raises FileNotFoundError before notebook 01, ValueError if it was made for other images.
        """
        labelled = data.labelled
        table = self.run.read_csv("split.csv").set_index("id")
        if unknown := set(labelled.ids) ^ set(table.index):
            differing = f"{len(unknown)} ids differ, e.g. {min(unknown)!r}"
        else:
            table = table.loc[labelled.ids]
            differing = _name_differing(table.reset_index(), describe_content(labelled))
        if differing:
            raise ValueError(
                f"{self.run}/split.csv was made for other images ({differing}); give another "
                "`run`, or execute notebook 01 again"
            )
        sides = table["split"].to_numpy()
        return {side: labelled.select(sides == side) for side in SPLIT_NAMES}

    def read_test_set(
        self, data: DataSet, location: str | None = None
    ) -> tuple[DataSet, pd.DataFrame]:
        """Return the images to test on, and what is known of them: the columns of `split.csv`.

        `location` is another data set with truth of its own, whose images are recognised by their
        pixels; None takes the test side of the split. ValueError if that is empty, or an image at
        `location` was trained on.
        """
        sides = self.read_split(data)
        known = self.run.read_csv("split.csv")
        known = known if "source" in known else known.assign(source="")
        if location is None:
            if not len(sides["test"]):
                raise ValueError(
                    f"{self.run}/split.csv has no test image; give a `test_set`, or execute "
                    "notebook 01 with a new `run` and a `test_split_ratio` above 0"
                )
            return sides["test"], known[known["split"] == "test"]
        test, labelled = read_data_set(location, masks=self.masks).labelled, data.labelled
        places = match_pixels(test.images, labelled.images)
        about = known.set_index("id").loc[labelled.ids].iloc[places].reset_index(drop=True)
        new = places < 0
        seen = np.flatnonzero(~new & about["split"].isin(["train", "validation"]))
        if len(seen):
            raise ValueError(
                f"{len(seen)} images of {location} were trained on in {self.run}, e.g. "
                f"{test.ids[seen[0]]!r}; execute notebooks 01 and 04 with this `test_set` and a "
                "new run"
            )
        strangers = test.select(new)
        about.loc[new, "source"] = strangers.table["source"].to_numpy()
        about.loc[new, "modality"] = find_modalities(strangers.images)["modality"].to_numpy()
        groups = find_groups(strangers.images, strangers.table["known_group"])
        about.loc[new, "group"] = known["group"].max() + 1 + groups
        about.insert(0, "id", test.ids)
        return test, about.assign(split="test")


def start_page(run: str) -> RunFolder:
    """Return the folder that a notebook writes to, and set the figures' style.

    Raises ValueError for a parameter that the page cannot use, or a run that the repository keeps.
    """
    from helpers.figures.common import set_style

    page = check_page()
    folder = RunFolder(run, replace_published=page.get("replace_published", False))
    if page:
        folder.refuse_published()
    set_style()
    return folder


def start_session(
    settings: str,
    data: str | None = None,
    run: str = "quick",
    seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Session:
    """Return the session that a notebook's parameters describe, and set the figures' style.

    `data` takes the place of that of the file `settings`, see `read_data_set`; `seed` and
    `overrides` that of its values, see `Settings.with_overrides`. `run` is a name, see `RunFolder`.
    """
    if data is not None and not isinstance(data, str | Path):
        raise ValueError(
            f"`data` is a {type(data).__name__}, not the name of a data set; run the cell that "
            "declares the parameters again"
        )
    folder = start_page(run)
    loaded = load_settings(settings).with_training(seed=seed).with_overrides(overrides or {})
    return Session(loaded, folder, str(data or loaded.data_set_location))


def describe_content(data: DataSet) -> pd.DataFrame:
    """Return what stands for the pixels and the label image of every image of a labelled set."""
    pixels = [name_pixels([image]) for image in data.images]
    return pd.DataFrame({"pixels": pixels, "truth": [name_pixels([each]) for each in data.labels]})


def _name_differing(kept: pd.DataFrame, now: pd.DataFrame) -> str:
    """Return which of pixels and label images are others than a split noted; "" for none."""
    for column, name in (("pixels", "images"), ("truth", "label images")):
        if column in kept:
            others = kept.loc[kept[column].to_numpy() != now[column].to_numpy(), "id"]
            if len(others):
                return f"{len(others)} of {len(kept)} {name} differ, e.g. {others.iloc[0]!r}"
    return ""


def settle_split(
    session: Session,
    drawn: pd.DataFrame,
    kept_back: Mapping[str, Sequence[str] | str] = MappingProxyType({}),
    data: DataSet | None = None,
) -> pd.DataFrame:
    """Return the run's split: the one it has, or else `drawn`, which becomes it.

    A run keeps the split that it began with, so that its network is never tested on images that
    it has learnt from. Another one takes its place when images, labels, seed, ratios or what is
    `kept_back` are others; ValueError if the run has a checkpoint that was trained on the old one.
    The run gets `split.csv`, and `split.json` with what it depends on.

    Parameters
    ----------
    drawn : DataFrame
        One row a labelled image: id, source, modality, group and split ("train", "validation",
        "test" or "left out").
    kept_back : mapping
        Names by what they are: "test_modalities", "test_sources", "left_out"; of a test set of its
        own "test_ids" and "test_pixels" (`helpers.analysis.fields.name_pixels`), without which
        splits from before it was noted go by the ids.
    data : DataSet, optional
        The labelled images of `drawn`, whose pixels and label images are noted with the split.
    """
    training, run = session.settings.training, session.run
    asked = {name: getattr(training, name) for name in SPLIT_DEPENDS_ON}
    noted = {name: v if isinstance(v, str) else sorted(v) for name, v in kept_back.items()}
    asked |= {name: value for name, value in noted.items() if value}
    drawn = drawn if data is None else pd.concat([drawn, describe_content(data)], axis=1)
    differing = "other settings, other images, or others kept back"
    if run.file("split.csv").exists() and run.file("split.json").exists():
        kept, before = run.read_csv("split.csv"), run.read_json("split.json")
        if "test_ids" in before and "test_pixels" in asked:
            before.setdefault("test_pixels", asked["test_pixels"])
        if before == asked and list(kept["id"]) == list(drawn["id"]):
            differing = "" if data is None else _name_differing(kept, drawn)
            if not differing:
                return kept
    if run.file("checkpoint.keras").exists():
        raise ValueError(
            f"{run} holds a network that was trained on another split: {differing}; give another "
            f"`run`, or what this one began with, or delete {run} to begin again"
        )
    run.write_json("split.json", asked)
    run.write_csv("split.csv", drawn)
    return drawn
