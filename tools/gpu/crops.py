"""Crops, their maps and their variation, a batch at a time, in JAX.

What `helpers.training.batches` and `helpers.training.augmentation` do for one crop in NumPy.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from skimage.color import hed_from_rgb, rgb_from_hed

from helpers.training.augmentation import COVERED, DYED, FAINTEST, GAINS, RECOLOURED

WHITE = 255.0


def make_crops(flat, size, views):
    """Return what `views` show of the images in `flat`.

    Parameters
    ----------
    flat : (pixels, labels, places)
        All images end to end, (n, 3) float16 and (n,) int16, the first pixel being nothing; and
        (n_images, n_levels, 3) int: where each image at each level begins, its height and width.
    size : int
        Side of the crops, in pixels.
    views : dict of (batch,) arrays
        image, level, top, left, scale, turn.

    Returns
    -------
    inputs (batch, size, size, 3) float32, labels (batch, size, size) int32, exists (…) bool
    """
    pixels, truth, places = flat
    grid = jnp.arange(size, dtype=jnp.float32) + 0.5
    rows, columns = jnp.meshgrid(grid, grid, indexing="ij")
    turn = views["turn"][:, None, None]
    down = jnp.where(turn & 1, size - rows, rows)
    right = jnp.where(turn & 2, size - columns, columns)
    down, right = jnp.where(turn & 4, right, down), jnp.where(turn & 4, down, right)
    scale = views["scale"][:, None, None]
    y = views["top"][:, None, None] + down / scale - 0.5
    x = views["left"][:, None, None] + right / scale - 0.5
    begin, height, width = (v[:, None, None] for v in places[views["image"], views["level"]].T)
    exists = (y > -0.5) & (y < height - 0.5) & (x > -0.5) & (x < width - 0.5)

    def at(row, column):
        row, column = jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)
        return jnp.where(exists, begin + row * width + column, 0)

    top, left = jnp.floor(y).astype(jnp.int32), jnp.floor(x).astype(jnp.int32)
    v, u = (y - top)[..., None], (x - left)[..., None]
    corners = [[pixels[at(top + a, left + b)].astype(jnp.float32) for b in (0, 1)] for a in (0, 1)]
    upper, lower = (one * (1 - u) + other * u for one, other in corners)
    nearest = at(jnp.round(y).astype(jnp.int32), jnp.round(x).astype(jnp.int32))
    labels = jnp.where(exists, truth[nearest], 0).astype(jnp.int32)
    return upper * (1 - v) + lower * v, labels, exists


def make_maps(labels, n_labels):
    """Return what the target "flow" makes of label images below `n_labels`, (n, h, w, 3)."""
    n, h, w = labels.shape
    segments = (labels + n_labels * jnp.arange(n)[:, None, None]).ravel()
    total = n * n_labels
    axes = jnp.arange(h)[:, None], jnp.arange(w)
    y, x = (jnp.broadcast_to(a, labels.shape).ravel().astype(jnp.float32) for a in axes)
    count = jnp.maximum(jax.ops.segment_sum(jnp.ones_like(y), segments, total), 1)
    mean = [(jax.ops.segment_sum(a, segments, total) / count)[segments] for a in (y, x)]
    distance = jnp.hypot(y - mean[0], x - mean[1])
    least = jax.ops.segment_min(distance, segments, total)[segments]
    place = jnp.where(distance <= least, jnp.arange(y.size), y.size)
    centre = jax.ops.segment_min(place, segments, total)[segments] % (h * w)
    way = [centre // w - y, centre % w - x]
    length = jnp.maximum(jnp.hypot(*way), 1)
    is_nucleus = (labels > 0).ravel()
    maps = [is_nucleus, *(jnp.where(is_nucleus, a / length, 0) for a in way)]
    return jnp.stack(maps, -1).reshape(n, h, w, 3).astype(jnp.float32)


class Draws:
    """Random numbers, one of each kind a crop, from one key."""

    def __init__(self, key, n: int):
        self.keys, self.n = iter(random.split(key, 40)), n

    def uniform(self, low, high, *shape):
        """Return (n, *shape) numbers."""
        return random.uniform(next(self.keys), (self.n, *shape), minval=low, maxval=high)

    def normal(self, shape):
        """Return numbers of mean 0 and deviation 1."""
        return random.normal(next(self.keys), shape)

    def chance(self, share):
        """Return for each crop whether it is one of a share, (n, 1, 1, 1)."""
        return as_crops(self.uniform(0, 1) < share)


def as_crops(values):
    """Return one value a crop so that it spreads over the crop."""
    return values.reshape(len(values), 1, 1, 1)


def of_labels(values, labels):
    """Return for each pixel the value, of (n, n_labels), of its label."""
    return jnp.take_along_axis(values, labels.reshape(len(labels), -1), 1).reshape(labels.shape)


def vary(inputs, labels, exists, views, strength, key, n_labels):
    """Return inputs and labels varied as `strength`, the settings' augmentation, says.

    Pasted nuclei get numbers from `n_labels` on.
    """
    draws = Draws(key, len(inputs))
    inputs = change_dyes(inputs, views, strength["dyes"], draws)
    inputs = change_brightness(inputs, labels, exists, strength["nuclei"], draws, n_labels)
    inputs, labels = paste_nuclei(inputs, labels, exists, strength["paste"], draws, n_labels)
    exponent = as_crops(jnp.exp(draws.uniform(-1, 1) * jnp.log(strength["gamma"])))
    inputs = jnp.where(exponent == 1, inputs, jnp.sign(inputs) * jnp.abs(inputs) ** exponent)
    is_gray = draws.chance(strength["gray"])
    inputs = jnp.where(is_gray, inputs.mean(-1, keepdims=True), inputs)
    for name, size in (("stain", 3), ("intensity", 1)):
        gain, shift = (draws.uniform(-1, 1, 1, 1, size) * strength[name] for _ in range(2))
        if name == "stain":
            is_colour = as_crops(views["colour"])
            gain, shift = (jnp.where(is_colour, each, 0) for each in (gain, shift))
        inputs = inputs * (1 + gain) + shift / 2
    inputs = blur(inputs, draws.uniform(0, 1) * strength["blur"])
    noise = as_crops(draws.uniform(0, 1)) * strength["noise"]
    inputs = inputs + noise * draws.normal(inputs.shape)
    return jnp.where(exists[..., None], inputs, 0), jnp.where(exists, labels, 0)


def change_dyes(inputs, views, strength, draws):
    """Return crops of stained tissue as if their dyes were others, or of other amounts."""
    offset, span = as_crops(views["offset"]), as_crops(views["range"])
    light = jnp.maximum((offset + inputs * span) / WHITE, FAINTEST)
    amounts = -jnp.log(light) @ hed_from_rgb.astype(np.float32)
    amounts = amounts * jnp.exp(draws.uniform(-1, 1, 1, 1, 3) * strength)
    blue, _, brown = rgb_from_hed.astype(np.float32)
    hues = rgb_from_hed.astype(np.float32) + 0.3 * strength * draws.uniform(-1, 1, 3, 3)
    mixed, is_other = draws.uniform(0, 1, 2, 1), draws.uniform(0, 1, 2, 1) < RECOLOURED
    nuclei = mixed[:, 0] * brown + (1 - mixed[:, 0]) * blue
    ground = mixed[:, 1] * blue + (1 - mixed[:, 1]) * hues[:, 1]
    hues = hues.at[:, 0].set(jnp.where(is_other[:, 0], nuclei, hues[:, 0]))
    hues = hues.at[:, 1].set(jnp.where(is_other[:, 1], ground, hues[:, 1]))
    hues = jnp.maximum(hues, 0.01)
    lengths = np.linalg.norm(rgb_from_hed, axis=1, keepdims=True).astype(np.float32)
    hues = hues * lengths / jnp.linalg.norm(hues, axis=2, keepdims=True)
    changed = WHITE * jnp.exp(-jnp.einsum("nhwd,ndc->nhwc", amounts, hues))
    changed = (changed - offset) / span
    return jnp.where(as_crops(views["dyed"]) & draws.chance(DYED * (strength > 0)), changed, inputs)


def change_brightness(inputs, labels, exists, share, draws, n_labels):
    """Return crops in half of which a share of the nuclei is dimmer or brighter by itself."""
    is_ground = ((labels == 0) & exists)[..., None]
    n_pixels = jnp.maximum(is_ground.sum((1, 2), keepdims=True), 1)
    ground = (inputs * is_ground).sum((1, 2), keepdims=True) / n_pixels
    gains = jnp.exp(draws.uniform(*np.log(GAINS), n_labels))
    changes = (draws.uniform(0, 1, n_labels) < share) & (draws.uniform(0, 1, 1) < 0.5)
    gains = jnp.where(changes, gains, 1).at[:, 0].set(1)
    return ground + (inputs - ground) * soften(of_labels(gains, labels))[..., None]


def paste_nuclei(inputs, labels, exists, share, draws, n_labels):
    """Return crops, and labels, in a share of which nuclei are there a second time."""
    n, h, w = labels.shape
    offsets = n_labels * jnp.arange(n)[:, None, None]

    def total(values, of):
        return jax.ops.segment_sum(values.ravel() * 1.0, (of + offsets).ravel(), n * n_labels)

    edge = jnp.ones((h, w), bool).at[1:-1, 1:-1].set(False) | ~exists
    is_whole = total(edge & (labels > 0), labels).reshape(n, n_labels) == 0
    chosen = is_whole & (draws.uniform(0, 1, n_labels) < 0.5) & (draws.uniform(0, 1, 1) < share)
    shift = jnp.round(draws.uniform(-0.6, 0.6, 2) * h).astype(jnp.int32)
    rows, columns = jnp.arange(h) - shift[:, :1], jnp.arange(w) - shift[:, 1:]
    inside = ((rows >= 0) & (rows < h))[:, :, None] & ((columns >= 0) & (columns < w))[:, None]
    rows = jnp.clip(jnp.where(draws.uniform(0, 1, 1) < 0.5, h - 1 - rows, rows), 0, h - 1)
    at = jnp.arange(n)[:, None, None], rows[:, :, None], jnp.clip(columns, 0, w - 1)[:, None]
    moved = jnp.where(inside, labels[at], 0)
    moved = jnp.where(of_labels(chosen.at[:, 0].set(False), moved), moved, 0)
    covered = total((labels > 0) | ~exists, moved)
    is_free = (covered <= COVERED * total(jnp.ones_like(moved), moved)).reshape(n, n_labels)
    moved = jnp.where(of_labels(is_free, moved), moved, 0)
    alpha = soften((moved > 0).astype(jnp.float32))[..., None]
    together = jnp.where(moved > 0, moved + n_labels, labels)
    return inputs + alpha * (inputs[at] - inputs), together


def soften(maps):
    """Return the mean of 3 x 3 pixels."""
    padded = jnp.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 9


def blur(inputs, sigma):
    """Return every crop blurred by a Gaussian of its own sigma, up to about 1.5 pixels."""
    reach = 3
    offsets = jnp.arange(-reach, reach + 1)
    weights = jnp.exp(-0.5 * (offsets / jnp.maximum(sigma, 1e-3)[:, None]) ** 2)
    weights = weights / weights.sum(1, keepdims=True)
    for axis in (1, 2):
        pads = [(reach, reach) if axis == a else (0, 0) for a in range(4)]
        padded = jnp.pad(inputs, pads, mode="reflect")
        length = inputs.shape[axis]
        cuts = [jax.lax.slice_in_dim(padded, k, k + length, axis=axis) for k in range(len(offsets))]
        inputs = sum(as_crops(weights[:, k]) * cut for k, cut in enumerate(cuts))
    return inputs
