"""Which channel of an image is meant: by number, by name, by colour or by stain."""

import re

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2hed

NUCLEAR = re.compile(r"dapi|hoechst|h33342|draq|syto|nucle|propidium|to-?pro|h2b", re.IGNORECASE)
GIVE = ": give "  # between what a file holds and the parameter that says which of it is meant
CHANNELS = {
    "red": (0,), "green": (1,), "blue": (2,), "yellow": (0, 1), "magenta": (0, 2), "cyan": (1, 2),
    "gray": (0, 1, 2),
}  # fmt: skip
"""Colours that a channel of an RGB image can be asked by: the lowest of these channels."""


def select_channel(image: NDArray, channel: int | str | None) -> NDArray:
    """Return the channel of an image, (H, W) or (H, W, 3), that is asked for, (H, W).

    A gray image is returned as it is, and all of it for None and "rgb". Others are 1 to 3, a colour
    of `CHANNELS`, or "haematoxylin": the optical density of that stain (Ruifrok & Johnston 2001,
    Anal. Quant. Cytol. Histol. 23, 291-299) as float32, 1 where it absorbs all but one part in 255.
    Another one raises ValueError.

    Examples
    --------
    >>> select_channel(np.array([[[7, 8, 9]]]), "cyan")
    array([[8]])
    """
    n = 1 if image.ndim == 2 else image.shape[2]
    if channel is None or (n == 3 and str(channel).lower() == "rgb"):
        return image
    if isinstance(channel, int | np.integer) and 1 <= channel <= n:
        return image if n == 1 else image[..., channel - 1]
    name = str(channel).lower().replace("grey", "gray")
    if name in ("haematoxylin", "hematoxylin"):
        return image if n == 1 else _unmix_haematoxylin(image)
    if name in (*CHANNELS, "rgb"):
        return image if n == 1 else image[..., CHANNELS[name]].min(axis=2)
    raise ValueError(
        f"`channel` (={channel!r}) of an image with {n} must be a number from 1 to {n}, "
        f'{", ".join(CHANNELS)}, "haematoxylin" or None'
    )


def _unmix_haematoxylin(image: NDArray) -> NDArray[np.float32]:
    full = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1.0
    stain = rgb2hed(np.clip(image / np.float32(full), 0, 1))[..., 0]
    return np.clip(stain * (6 / np.log10(255)), 0, 1).astype(np.float32)  # rgb2hed: shares of 6


def choose_channel(channel, names: list[str]) -> tuple[list[int], str]:
    """Return the indices of the channels that are asked for, and a note."""
    n = len(names)
    shown = ", ".join(f"{i} {name}".strip() for i, name in enumerate(names, 1))
    lower = [name.lower() for name in names]
    if channel is None:
        nuclear = [i for i, name in enumerate(names) if NUCLEAR.search(name)]
        if len(nuclear) == 1:
            return nuclear, f"channel {nuclear[0] + 1} of {n} ({names[nuclear[0]]})"
    elif is_number(channel) and 1 <= channel <= n:
        return [channel - 1], f"channel {channel} of {n}"
    elif isinstance(channel, str) and channel.lower() == "rgb" and n == 3:
        return [0, 1, 2], "3 channels as red, green and blue"
    elif isinstance(channel, str) and lower.count(channel.lower()) == 1:
        index = lower.index(channel.lower())
        return [index], f"channel {index + 1} of {n} ({names[index]})"
    or_rgb = ', or "rgb" if they are red, green and blue' if n == 3 else ""
    raise ValueError(
        f"{n} channels ({shown}){GIVE}`channel` (={channel!r}), the number or name of the one with "
        f"the nuclei{or_rgb}"
    )


def to_number(value: int | str | None) -> int | str | None:
    """Return digits that came as text, as from a command line, as a number."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def is_number(value) -> bool:
    """Return whether a value is a whole number, which True is not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
