"""What can be wrong with a data set, how grave each fault is, and the table that lists them."""

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

MAX_OVERLAP = 0.05  # share of the foreground claimed twice, above which masks are wrong
GRAVE = (
    "no image file", "several image files", "duplicate id", "unreadable image", "no masks",
    "several label images", "unreadable mask", "mask of another size", "overlapping masks",
    "number in several pieces", "faded edges", "ground as nucleus",
)  # fmt: skip
"""Faults of images that cannot be used; data/README.md says what each of them means."""
NOTED = (
    "small overlap", "empty mask", "hidden mask", "label image of one value",
    "mask of several values", "identical pixels", "transparent pixels", "file not in the layout",
)  # fmt: skip
REMEDIES = {
    "number in several pieces": "`--masks components` counts every connected piece as a nucleus",
    "faded edges": "`--masks components` cuts at half of the highest value and counts the pieces",
    "ground as nucleus": "`--masks inverted` takes what is not marked, piece by piece",
}
COLUMNS = ["fault", "id", "count", "detail", "action"]


class Fault(NamedTuple):
    """One fault of one image."""

    fault: str  # a name in GRAVE or NOTED
    id: str  # of the image; "" for a file that belongs to none
    count: int  # of files, of pieces or of pixels, whatever the fault is about
    detail: str


class DataFaultError(ValueError):
    """A data set has grave faults and was to be refused; `faults` is the table of all faults."""

    def __init__(self, message: str, faults: pd.DataFrame):
        super().__init__(message)
        self.faults = faults


def tabulate_faults(faults: Iterable[Fault], action: str) -> pd.DataFrame:
    """Return one row a fault: `COLUMNS`, grave faults first.

    `action` is what becomes of an image with a grave fault, "refused" or "skipped". Others are
    "kept"; a file outside the layout is "not read".
    """
    order = [*GRAVE, *NOTED]
    actions = dict.fromkeys(GRAVE, action) | {"file not in the layout": "not read"}
    rows = [(*fault, actions.get(fault.fault, "kept")) for fault in faults]
    rows.sort(key=lambda row: (order.index(row[0]), row[1], row[3]))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"count": "int64"})


def summarise_faults(faults: pd.DataFrame, n_ids: int = 3) -> pd.DataFrame:
    """Return one row for each kind of fault: images, total count, action and the first ids."""
    rows = [
        {
            "fault": fault,
            "images": group.loc[group["id"] != "", "id"].nunique(),
            "count": int(group["count"].sum()),
            "action": group["action"].iloc[0],
            "ids": name_some((name[:12] for name in dict.fromkeys(group["id"])), n_ids),
        }
        for fault, group in faults.groupby("fault", sort=False)
    ]
    return pd.DataFrame(rows, columns=["fault", "images", "count", "action", "ids"])


def refuse_faults(faults: pd.DataFrame, location: str, n_images: int) -> None:
    """Raise DataFaultError with the table of faults where one of them is grave."""
    grave = faults[faults["fault"].isin(GRAVE)]
    if grave.empty:
        return
    n_grave = grave["id"].nunique()
    ways = list(dict.fromkeys(REMEDIES[f] for f in grave["fault"].unique() if f in REMEDIES))
    if n_grave < n_images:
        ways.append("`--faults skip` leaves these images out")
    ways = "; ".join(["mend the files (faults.csv lists every one)", *ways])
    table = summarise_faults(faults).to_string(index=False)
    raise DataFaultError(
        f"{n_grave} of {n_images} images in {location!r} have faults:\n{table}\n"
        f"First: {grave['detail'].iloc[0]}\nWays out of `nuclei run`: {ways}.",
        faults,
    )


def name_some(names: Iterable[str], n: int = 3, separator: str = ", ") -> str:
    """Return the first names, and how many more there are.

    >>> name_some("abcde", 2)
    'a, b and 3 more'
    """
    names = list(names)
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return separator.join(names[:n]) + more
