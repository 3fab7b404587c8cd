"""Networks in files: the weights, and inside the same file the settings they were trained with.

A `.keras` file is a zip archive. Ours has one more member, so that a network and its
preprocessing cannot be mismatched; Keras reads the file as any other.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from helpers.network import losses  # noqa: F401   registers the losses that a file may name
from helpers.settings import Settings, parse_settings

SETTINGS = "nuclei/settings.json"
STATE = "nuclei/state.json"
ARRAYS = "nuclei/arrays.npz"


def save_network(
    model: keras.Model,
    file: Path,
    settings: Settings,
    *,
    state: dict[str, Any] | None = None,
    arrays: Sequence[NDArray] = (),
) -> None:
    """Write `model` to `file` (a path ending in .keras) with its settings and training state.

    `state` is what JSON can hold, `arrays` is anything else that a training must remember.
    """
    packed = io.BytesIO()
    np.savez(packed, *arrays)
    model.save(file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(SETTINGS, settings.model_dump_json(by_alias=True))
        archive.writestr(STATE, json.dumps(state or {}))
        archive.writestr(ARRAYS, packed.getvalue())


def read_settings(file: Path) -> Settings:
    """Return the settings that the network in `file` was trained with."""
    return parse_settings(
        _read_member(file, SETTINGS).decode(), source=f"{file.name} (settings inside)"
    )


def read_state(file: Path) -> dict[str, Any]:
    """Return the training state that was saved with the network in `file`."""
    return json.loads(_read_member(file, STATE))


def read_arrays(file: Path) -> list[NDArray]:
    """Return the arrays that were saved with the network in `file`, in their order."""
    with np.load(io.BytesIO(_read_member(file, ARRAYS)), allow_pickle=False) as packed:
        return [packed[f"arr_{place}"] for place in range(len(packed.files))]


def load_model(file: Path) -> keras.Model:
    """Return the network in `file`, compiled as it was; code inside the file is never run."""
    return keras.saving.load_model(file, safe_mode=True)


def _read_member(file: Path, member: str) -> bytes:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.read(member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(
            f"{file} is damaged or was not written by this series ({error}); "
            "train the run again, or restore the file"
        ) from error
