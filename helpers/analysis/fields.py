"""Find images that belong together: tiles cut from one field of view, and copies.

Where a field was cut, the last column of one tile continues as the first column of the next, and
the pixels along the cut show it.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.stats import norm

MAX_JUMP = 1.5
"""Largest squared jump across a seam, in units of the squared step between lines inside. A true
seam is one more such step; the ratio scatters by about a quarter: two such deviations."""
CHANCE = 0.05  # that one edge finds a partner by accident among all its rivals (Bonferroni)
MIN_SIGNIFICANCE = 3.0  # standard deviations, even where an edge has only a few rivals

SEAM_COLUMNS = ("i", "j", "side", "correlation", "significance", "jump")

_COARSE_PX = 6.0  # parts nuclei and light (coarse) from chromatin, rims and noise (fine)
_BLOCK = 512  # edges compared at a time: keeps the pairwise tables within some megabytes
_STEPS = {"right": (0, 1), "below": (1, 0)}


def find_groups(images: Sequence[np.ndarray], known: Sequence[str] = ()) -> np.ndarray:
    """Return a group number for every image; tiles of one field, and copies, share a number.

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, 3) arrays of uint8 or uint16
        Only lines along edges are read, and whole images where two may be copies of one another.
    known : (n,) sequence of str, optional
        What else images share, such as `known_group` of `DataSet.table`; "" is not shared.

    Returns
    -------
    (n,) array of int64
        Numbered from 0 in order of first appearance. An image without siblings has its own number.
    """
    n = len(images)
    if len(known) not in (0, n):
        raise ValueError(f"`known` has {len(known)} entries for {n} images; give one an image")
    firsts: dict[str, int] = {}
    shared = [(firsts.setdefault(name, place), place) for place, name in enumerate(known) if name]
    links = [find_seams(images)[["i", "j"]], find_copies(images)]
    links = pd.concat([*links, pd.DataFrame(shared, columns=["i", "j"])]).astype(int)
    joined = coo_matrix((np.ones(len(links)), (links["i"], links["j"])), shape=(n, n))
    return pd.factorize(connected_components(joined, directed=False)[1])[0].astype(np.int64)


def find_seams(images: Sequence[np.ndarray]) -> pd.DataFrame:
    """Return the seams between adjacent tiles: image `j` is right of, or below, image `i`.

    Two equally long edges of images of one kind are the two sides of one cut if their profiles
    correlate more than chance explains, if the jump across the seam is no larger than the steps
    between lines inside the tiles, up to `MAX_JUMP`, and if each edge is the other's most
    significant partner. Edges that hold nothing but noise cannot be joined: such tiles are missed.

    Profiles are square roots of the intensity, which levels the noise of photon counting. Coarse
    shape and fine detail, which chance makes agree independently, are correlated separately; both
    correlations are turned into standard deviations by Student's t, with the number of independent
    values after Bartlett [1]_ and the approximation of Wallace [2]_, and combined after Stouffer.

    Returns
    -------
    DataFrame
        Most significant first. `i`, `j`: positions in `images`; `side`: "right" or "below";
        `correlation`: of the two profiles, -1 to 1; `significance`: in standard deviations; `jump`:
        squared step across the seam over squared step inside (about 1 for a true seam).

    References
    ----------
    .. [1] M. S. Bartlett (1935). Some aspects of the time-correlation problem in regard to tests of
       significance. Journal of the Royal Statistical Society 98(3), 536-543. doi:10.2307/2342284
    .. [2] D. L. Wallace (1959). Bounds on normal approximations to Student's and the chi-square
       distributions. Annals of Mathematical Statistics 30(4), 1121-1130.
    """
    found = [seam for edges in _read_edges(images) for seam in _match_edges(*edges)]
    seams = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=SEAM_COLUMNS)
    best_i = seams.groupby(["i", "side"])["significance"].transform("max")
    best_j = seams.groupby(["j", "side"])["significance"].transform("max")
    seams = seams[(seams["significance"] == best_i) & (seams["significance"] == best_j)]
    return seams.sort_values("significance", ascending=False, ignore_index=True)


def find_copies(images: Sequence[np.ndarray]) -> pd.DataFrame:
    """Return pairs `i`, `j` of images that are equal, as they are, turned or mirrored.

    Each later copy is paired with the first one. Images whose outermost lines differ cannot be
    copies, so only the few that agree there are read whole.
    """
    alike = defaultdict(list)
    for position, image in enumerate(images):
        edges = [image[0], image[-1], image[:, 0], image[:, -1]]
        sums = sorted(int(np.asarray(edge, dtype=np.int64).sum()) for edge in edges)
        alike[(*sorted(image.shape[:2]), image.ndim, *sums)].append(position)
    pairs = []
    for positions in alike.values():
        first_with = {}
        for position in positions if len(positions) > 1 else ():
            first = first_with.setdefault(_hash_any_way_up(images[position]), position)
            if first != position:
                pairs.append((first, position))
    return pd.DataFrame(pairs, columns=["i", "j"])


def _read_edges(images: Sequence[np.ndarray]) -> Iterator[tuple]:
    """Yield side, positions and outer lines (outermost first) of images that may touch there."""
    edges = defaultdict(list)
    for position, image in enumerate(images):
        if min(image.shape[:2]) < 2:
            continue
        modality = (image.ndim, str(image.dtype))
        ends = {
            "right": (image[:, [-1, -2]].swapaxes(0, 1), image[:, [0, 1]].swapaxes(0, 1)),
            "below": (image[[-1, -2]], image[[0, 1]]),
        }
        for side, lines in ends.items():
            key = (side, lines[0].shape[1], *modality)
            edges[key].append((position, *(_level_noise(pair) for pair in lines)))
    for (side, *_), members in edges.items():
        if len(members) > 1:
            yield side, *(np.stack(part) for part in zip(*members, strict=True))


def _level_noise(lines: np.ndarray) -> np.ndarray:
    """Return the square root of the intensity of (2, L) or (2, L, 3) lines: (2, L) float64."""
    lines = np.asarray(lines, dtype=np.float64)
    return np.sqrt(lines.mean(axis=2) if lines.ndim == 3 else lines)


def _match_edges(
    side: str, positions: np.ndarray, ends: np.ndarray, starts: np.ndarray
) -> Iterator[pd.DataFrame]:
    """Yield the significant and continuous seams between (n, 2, L) closing and opening lines."""
    least = max(MIN_SIGNIFICANCE, norm.isf(CHANCE / (len(positions) - 1)))
    coarse_j, fine_j = _profiles(starts[:, 0])
    for first in range(0, len(positions), _BLOCK):
        block = ends[first : first + _BLOCK]
        coarse_i, fine_i = _profiles(block[:, 0])
        significance = _deviations(coarse_i, coarse_j) + _deviations(fine_i, fine_j)
        significance /= np.sqrt(2)
        jump = _jumps(block, starts)
        linked = (significance > least) & (jump < MAX_JUMP)
        linked &= positions[first : first + _BLOCK, None] != positions
        i, j = np.nonzero(linked)
        correlation = (_standardise(block[i, 0]) * _standardise(starts[j, 0])).mean(axis=1)
        columns = (positions[first + i], positions[j], side, correlation)
        columns += (significance[i, j], jump[i, j])
        yield pd.DataFrame(dict(zip(SEAM_COLUMNS, columns, strict=True)))


def _profiles(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the standardised coarse shape and fine detail, (n, L) each, of lines (n, L)."""
    coarse = gaussian_filter1d(lines, _COARSE_PX, axis=1)
    return _standardise(coarse), _standardise(lines - coarse)


def _standardise(rows: np.ndarray) -> np.ndarray:
    """Return rows of mean 0 and deviation 1; a constant row becomes 0: correlates with none."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    return np.where(deviation > 1e-9, centred / np.maximum(deviation, 1e-9), 0.0)


def _deviations(rows_i: np.ndarray, rows_j: np.ndarray) -> np.ndarray:
    """Return every row's correlation with every other, in standard deviations of chance."""
    length = rows_i.shape[1]
    r = np.clip(rows_i @ rows_j.T / length, -0.9999, 0.9999)
    shared = _autocorrelate(rows_i) @ _autocorrelate(rows_j).T
    n_independent = length / np.maximum(1 + 2 * shared, 1)
    freedom = np.maximum(n_independent - 2, 0.5)
    # Student's t is sqrt(freedom * r^2 / (1 - r^2)); Wallace gives the normal deviate for it.
    normal = np.sqrt(-freedom * np.log1p(-r * r)) * (8 * freedom + 1) / (8 * freedom + 3)
    return np.sign(r) * normal


def _autocorrelate(rows: np.ndarray) -> np.ndarray:
    """Return the autocorrelation of standardised rows at lags 1 to half their length."""
    length = rows.shape[1]
    power = np.abs(np.fft.rfft(rows, 2 * length)) ** 2
    return np.fft.irfft(power)[:, 1 : max(length // 2, 2)] / length


def _jumps(ends: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return every squared step across a seam over the geometric mean of the two inside."""
    inside = [((lines[:, 0] - lines[:, 1]) ** 2).mean(axis=1) for lines in (ends, starts)]
    outer_i, outer_j = ends[:, 0], starts[:, 0]
    squares = [(outer**2).mean(axis=1) for outer in (outer_i, outer_j)]
    across = np.add.outer(*squares) - 2 * outer_i @ outer_j.T / outer_i.shape[1]
    return np.maximum(across, 0) / np.maximum(np.sqrt(np.outer(*inside)), 1e-9)


def match_pixels(images: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> np.ndarray:
    """Return the (n,) positions among `others` of the images with the same values, or -1.

    >>> one, other = np.eye(3, dtype=np.uint8), np.ones((3, 3), np.uint16)
    >>> match_pixels([one, 2 * one], [other, one.astype(np.uint16)])
    array([ 1, -1])
    """
    places = {_hash(image): place for place, image in reversed(list(enumerate(others)))}
    return np.array([places.get(_hash(image), -1) for image in images], np.int64)


def name_pixels(images: Sequence[np.ndarray]) -> str:
    """Return a text that stands for these images, in any order and under any names."""
    return hashlib.sha256(b"".join(sorted(map(_hash, images)))).hexdigest()[:16]


def _hash(image: np.ndarray) -> bytes:
    values = np.ascontiguousarray(image, np.uint16)
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).digest()


def _hash_any_way_up(image: np.ndarray) -> bytes:
    """Return a digest that an image shares with its mirrored and turned versions."""
    turned = [np.rot90(image, k) for k in range(4)]
    return min(_hash(version) for one in turned for version in (one, one[:, ::-1]))


def place_tiles(seams: pd.DataFrame, start: int) -> dict[int, tuple[int, int]]:
    """Return the place (row, column), from 0, of image `start` and of all that seams join to it.

    `seams` are from `find_seams`, the best first. A seam that would put an image where another one
    lies already is passed over.

    Examples
    --------
    >>> seams = pd.DataFrame({"i": [3, 3], "j": [5, 8], "side": ["right", "below"]})
    >>> place_tiles(seams, 5)
    {5: (0, 1), 3: (0, 0), 8: (1, 0)}
    """
    places = {start: (0, 0)}
    links = list(zip(seams["i"], seams["j"], seams["side"], strict=True))
    grown = True
    while grown:
        grown = False
        for i, j, side in links:
            step = np.array(_STEPS[side])
            for old, new, place in ((i, j, step), (j, i, -step)):
                if old not in places or new in places:
                    continue
                spot = tuple(int(x) for x in np.add(places[old], place))
                if spot not in places.values():
                    places[int(new)], grown = spot, True
    top, left = np.min(list(places.values()), axis=0)
    return {image: (int(row - top), int(column - left)) for image, (row, column) in places.items()}


def choose_field(seams: pd.DataFrame, groups: np.ndarray) -> int | None:
    """Return an image of the group that its seams prove best; None where there are no seams.

    That is the one with the highest sum of significances among groups of at most four images,
    which a reader can take in; among all if there is none of these.
    """
    if seams.empty:
        return None
    weights = seams.groupby(groups[seams["i"].to_numpy(int)])["significance"].sum()
    sizes = np.bincount(groups)
    small = weights[[sizes[group] <= 4 for group in weights.index]]
    return int(np.flatnonzero(groups == (weights if small.empty else small).idxmax())[0])
