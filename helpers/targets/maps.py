"""What a network is taught to answer: maps made from a label image, and the truth of their mask.

Each target is a way to say where the nuclei are, pixel by pixel. Some of them keep touching nuclei
apart; `helpers.targets.decoding` goes the way back, from maps to label images.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from helpers.data.labels import labels_to_interior, labels_to_mask

CHANNELS = {
    "foreground": ("nucleus",),
    "interior": ("interior",),
    "boundary": ("background", "interior", "boundary"),
    "distance": ("nucleus", "distance"),
    "flow": ("nucleus", "down", "right"),
}
"""The targets that a settings file may choose, and what each channel of their maps means."""


def labels_to_maps(labels: NDArray[np.integer], target: str) -> NDArray[np.float32]:
    """Return the maps that a network with `output_params.target` = `target` should answer.

    Parameters
    ----------
    labels : (H, W) integer array
        Label image, 0 = background.
    target : str
        One of `CHANNELS`.

    Returns
    -------
    (H, W, n_channels) float32 array
        "foreground": 1 in every nucleus. "interior": 1 in every nucleus but on its rim.
        "boundary": one class a pixel, 1 in its channel. "distance": 1 in every nucleus, and
        `distance_to_rim`. "flow": 1 in every nucleus, and `flow_to_centre`.

    Raises
    ------
    ValueError
        If `target` is none of `CHANNELS`, or `labels` is no label image.

    Examples
    --------
    >>> labels_to_maps(np.array([[0, 1, 1, 1]]), "boundary")[..., 2]
    array([[0., 1., 0., 0.]], dtype=float32)
    """
    if target not in CHANNELS:
        raise ValueError(f"target {target!r} must be one of {', '.join(CHANNELS)}")
    mask = labels_to_mask(labels)
    if target == "foreground":
        maps = mask[..., None]
    elif target == "interior":
        maps = labels_to_interior(labels)[..., None]
    elif target == "boundary":
        interior = labels_to_interior(labels)
        maps = np.stack([~mask, interior, mask & ~interior], axis=-1)
    elif target == "distance":
        maps = np.stack([mask, distance_to_rim(labels)], axis=-1)
    else:
        maps = np.concatenate([mask[..., None], flow_to_centre(labels)], axis=-1)
    return maps.astype(np.float32)


def foreground_of(maps, target: str):
    """Return the probability of nucleus, (..., H, W), in `maps` of that target.

    `maps` is a NumPy array or a tensor of any Keras backend, (..., H, W, n_channels).
    """
    return 1 - maps[..., 0] if target == "boundary" else maps[..., 0]


def flip_maps(
    maps: NDArray[np.floating], target: str, down: int, right: int
) -> NDArray[np.floating]:
    """Return the maps of an image as those of its mirror image; directions are mirrored, too.

    Parameters
    ----------
    maps : (H, W, n_channels) float array
    target : str
        One of `CHANNELS`.
    down, right : {1, -1}
        Steps along rows and columns: -1 mirrors.
    """
    flipped = maps[::down, ::right]
    return flipped * np.float32([1, down, right]) if target == "flow" else flipped


def transpose_maps(maps: NDArray[np.floating], target: str) -> NDArray[np.floating]:
    """Return the maps of an image as those of its transpose: rows are columns, down is right."""
    transposed = maps.swapaxes(0, 1)
    return transposed[..., [0, 2, 1]] if target == "flow" else transposed


def labels_to_target_mask(labels: NDArray[np.integer], target: str) -> NDArray[np.bool_]:
    """Return the mask, (H, W) bool, that the network's probability of nucleus is compared with.

    Whole nuclei, but for the target "interior", whose networks have never heard of rims.
    """
    return labels_to_interior(labels) if target == "interior" else labels_to_mask(labels)


def distance_to_rim(labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return how deep inside its nucleus a pixel lies: 1 at the deepest, near 0 at the rim.

    The Euclidean distance to the nearest pixel that belongs to something else, divided by the
    largest one of that nucleus; 0 in the background. The image's border counts as something
    else, so that a nucleus that it cuts has its deepest point inside the image.

    Examples
    --------
    >>> distance_to_rim(np.array([[1, 1, 1, 2, 2]] * 3))[1]
    array([0.5, 1. , 0.5, 1. , 1. ], dtype=float32)
    """
    distances = np.zeros(labels.shape, np.float32)
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if box is not None:
            nucleus = labels[box] == number
            inside = ndimage.distance_transform_edt(np.pad(nucleus, 1))[1:-1, 1:-1]
            distances[box][nucleus] = inside[nucleus] / inside.max()
    return distances


def flow_to_centre(labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return the direction from every pixel of a nucleus to its centre, (H, W, 2): down, right.

    Vectors of length 1; 0 at the centre and in the background. The centre is the pixel of the
    nucleus that is nearest to its centre of mass, so it lies inside, whatever the shape. On
    either side of the line where two nuclei touch, the vectors point away from each other, which
    keeps them apart (as the gradients of Stringer et al. 2021, doi:10.1038/s41592-020-01018-x,
    which follow the diffusion of heat instead).

    Examples
    --------
    >>> flow_to_centre(np.array([[1, 1, 1, 2, 2, 2]]))[0, :, 1]
    array([ 1.,  0., -1.,  1.,  0., -1.], dtype=float32)
    """
    numbers = np.unique(labels[labels > 0])
    if not len(numbers):
        return np.zeros((*labels.shape, 2), np.float32)
    place = np.searchsorted(numbers, labels)
    rows, columns = np.indices(labels.shape)
    to_mean = [
        _spread(ndimage.mean(axis, labels, numbers), place) - axis for axis in (rows, columns)
    ]
    centres = ndimage.minimum_position(np.hypot(*to_mean), labels, numbers)
    centres = np.array(centres, float).reshape(-1, 2)
    vectors = np.stack(
        [_spread(centres[:, 0], place) - rows, _spread(centres[:, 1], place) - columns], axis=-1
    )
    length = np.maximum(np.hypot(vectors[..., 0], vectors[..., 1]), 1)
    return np.where(labels[..., None] > 0, vectors / length[..., None], 0).astype(np.float32)


def _spread(values, place):
    """Return the value of each pixel's nucleus; anything in the background."""
    return np.asarray(values)[np.minimum(place, len(values) - 1)]
