"""Which images belong together where pixels cannot tell: tissue of one organ, of one patient."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from posixpath import basename

import pandas as pd

from helpers.data.sets import GROUPS, find_set
from helpers.data.source import Source

_ENDING = re.compile(r"\.(png|tiff?|jpe?g)$", re.IGNORECASE)


def find_known_groups(source: Source, name: str, ids: Sequence[str]) -> list[str]:
    """Return the group of every id, with the data set's `name` before it, "" where unknown.

    A `groups.csv` in the data set says so, or one beside it that names the set in its column
    `source`, or else the rule of the published set that this is.

    Raises
    ------
    ValueError
        If the file has no column `id` (or `image`) or no `group`, or has none of the ids.
    """
    given = _read_groups(source, name)
    if given is None:
        published = source.published or find_set(name)
        if published is None or published.group is None:
            return [""] * len(ids)
        found = {each: re.match(published.group, each) for each in ids}
        given = {each: match[0] for each, match in found.items() if match}
    elif ids and not given.keys() & set(ids):
        raise ValueError(
            f"{GROUPS} of {str(source.path)!r} has rows for {', '.join(list(given)[:3])}, but none "
            f"for an image, such as {ids[0]!r}; its column `id` holds names of images"
        )
    return [f"{name}/{given[each]}" if given.get(each) else "" for each in ids]


def _read_groups(source: Source, name: str) -> dict[str, str] | None:
    """Return the group of each id in the file of a data set, or None without a file."""
    inside = [member for member in source.members if basename(member) == GROUPS]
    beside = source.path.parent / GROUPS
    if inside:
        table = _read_table(io.BytesIO(source.read(min(inside, key=len))), source.path)
    elif beside.is_file():
        table = _read_table(beside, beside)
        if "source" not in table or name not in set(table["source"]):
            return None
    else:
        return None
    if "source" in table and name in set(table["source"]):
        table = table[table["source"] == name]
    ids = table["id"].str.replace(_ENDING, "", regex=True)
    return dict(zip(ids, table["group"], strict=True))


def _read_table(file: Path | io.BytesIO, path: Path) -> pd.DataFrame:
    table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    table = table.rename(columns={"image": "id"})
    if missing := {"id", "group"} - set(table):
        raise ValueError(
            f"{GROUPS} of {str(path)!r} has the columns {', '.join(table)}, but must have `id` and "
            f"`group` ({', '.join(sorted(missing))} missing)"
        )
    return table
