"""Trains the runs of a plan one after another on one GPU, and tests each on what it has not seen.

    KERAS_BACKEND=jax python tools/gpu/train.py PACK.zip PLAN.json OUT

For every run OUT gets `NAME.json` (the loss) and, where the plan keeps it, `NAME.npz` (the averaged
weights); `scores.csv.gz` has a row an image, with the matches at IoU .50 to .95.
"""

import argparse
import io
import json
import os
import sys
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from multiprocessing import get_context
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pandas as pd

TEST_PX = 512  # side of the central squares that a run is tested on
N_TEST = 55  # images of a source, evenly chosen
CONFIDENCES = (0.0, 0.8)  # of nuclei that count in `scores.csv.gz`
MIN_AREA_PX = 20
LEVELS = range(50, 100, 5)
WARM_UP = 100  # steps on which the learning rate rises
EPOCH = 150  # steps between two lines


@dataclass
class Run:
    """One training: on what, how, how long; `tools/gpu/plans.py` writes them."""

    name: str
    settings: str
    sources: list[str]
    test: list[str] = field(default_factory=list)
    overrides: dict = field(default_factory=dict)
    seed: int = 1
    steps: int = 4500
    batch: int = 32
    keep: bool = False


class Images:
    """All images of a pack: the table, and (image, labels) of each, float16 and int16."""

    def __init__(self, file: Path, most: int | None = None):
        with zipfile.ZipFile(file) as archive:
            table = pd.read_csv(archive.open("table.csv"), dtype={"id": str})
            held = set(archive.namelist())
            table = table[[f"images/{number}.webp" in held for number in table["number"]]]
            table = table.groupby("source").head(most) if most else table
            self.table = table.reset_index(drop=True)
            names = [(f"images/{n}.webp", f"labels/{n}.png") for n in self.table["number"]]
            stored = [[archive.read(name) for name in pair] for pair in names]
        with ThreadPoolExecutor() as pool:
            ranges = self.table["offset"], self.table["scale"]
            self.pairs = list(pool.map(decode, stored, *ranges))

    def flatten(self):
        """Return all images end to end, each at full and at half size; see `crops.make_crops`."""
        pixels, labels = [np.zeros((1, 3), np.float16)], [np.zeros(1, np.int16)]
        places, begin = [], 1
        for image, truth in self.pairs:
            for level in (0, 1):
                places.append((begin, *truth.shape))
                pixels.append(image.reshape(-1, 3))
                labels.append(truth.ravel())
                begin += truth.size
                if level == 0:
                    image, truth = halve(image), truth[1::2, 1::2]
        return np.concatenate(pixels), np.concatenate(labels), np.reshape(places, (-1, 2, 3))

    def squares(self, places):
        """Return the central squares of images, padded at the end, and their label images."""
        cuts = [cut_square(*self.pairs[place]) for place in places]
        return np.stack([image for image, _ in cuts]), [labels for _, labels in cuts]

    def find(self, source: str) -> np.ndarray:
        """Return the places of a source's test images."""
        column = "side" if source == "validation" else "source"
        places = np.flatnonzero(self.table[column] == source)
        return places[:: max(1, len(places) // N_TEST)]


def decode(stored, offset, scale):
    """Return an image normalised, (H, W, 3) float16, and its labels, int16."""
    from PIL import Image

    image, labels = (np.asarray(Image.open(io.BytesIO(each))) for each in stored)
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    normalised = (image.astype(np.float32) - offset) / scale
    return normalised.astype(np.float16), labels.astype(np.int16)


def halve(image):
    """Return an image at half its size."""
    h, w = (px // 2 for px in image.shape[:2])
    blocks = image[: 2 * h, : 2 * w].reshape(h, 2, w, 2, 3)
    return blocks.mean(axis=(1, 3), dtype=np.float32).astype(np.float16)


def cut_square(image, labels):
    """Return the central square of both; the image is mirrored up to `TEST_PX`."""
    top, left = (max(0, (px - TEST_PX) // 2) for px in labels.shape)
    part = np.s_[top : top + TEST_PX, left : left + TEST_PX]
    missing = [(0, TEST_PX - px) for px in labels[part].shape]
    return np.pad(image[part], [*missing, (0, 0)], mode="symmetric"), labels[part]


def draw_views(run: Run, settings, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return what every crop of a run shows, (steps, batch) each; `table` has `place`."""
    training, size = settings.training, settings.model_structure.input_params.height
    augmentation = training.augmentation
    rng = np.random.default_rng([run.seed, run.steps])
    n = run.steps * run.batch
    kinds = table["source"] + table["modality"]
    shares = kinds.map(kinds.value_counts()) ** -training.balance
    shares *= np.maximum(table["n_nuclei"], 1) ** training.crowding
    image = rng.choice(len(table), n, p=(shares / shares.sum()).to_numpy())
    chosen = table.iloc[image]
    scale = augmentation.scale ** rng.uniform(-1, 1, n)
    if augmentation.diameters_px:
        low, high = (limit / chosen["diameter_px"] for limit in augmentation.diameters_px)
        scale = np.clip(scale, low, high).to_numpy()
    level = (scale < np.sqrt(0.5)).astype(int)
    scale = scale * (1 + level)
    views = {"image": chosen["place"].to_numpy(), "level": level, "scale": scale}
    for name, side in (("top", "height"), ("left", "width")):
        room = chosen[side].to_numpy() // (1 + level) - size / scale
        views[name] = np.where(room > 0, room * rng.random(n), room / 2)
    views |= {"turn": rng.integers(8, size=n), "offset": chosen["offset"].to_numpy()}
    views |= {"range": chosen["scale"].to_numpy(), "colour": chosen["colour"].to_numpy()}
    views["dyed"] = views["colour"] & (views["range"] < 0)
    types = {"i": np.int32, "f": np.float32, "b": bool}
    return {
        name: values.reshape(run.steps, run.batch).astype(types[values.dtype.kind])
        for name, values in views.items()
    }


class Trainer:
    """One network structure, compiled once, for run after run."""

    def __init__(self, settings, n_labels: int):
        import jax

        from helpers.network.losses import build_loss
        from helpers.network.unet import build_unet

        self.n_labels, self.average = n_labels, settings.training.weight_average
        self.size = settings.model_structure.input_params.height
        self.build = build_unet
        self.model = build_unet(settings, precision=os.environ.get("PRECISION", "mixed_bfloat16"))
        self.large = build_unet(settings, free_size=True)
        self.loss = build_loss(settings.training.loss, settings.model_structure.target.name)
        self.epoch = jax.jit(self._epoch, donate_argnums=0)
        self.answer = jax.jit(lambda weights, x: self.large.stateless_call(*weights, x)[0])

    def _step(self, state, flat, strength, views, rate, key):
        import jax

        from tools.gpu.crops import make_crops, make_maps, vary

        jnp = jax.numpy
        trained, others, first, second, mean, n = state
        inputs, labels, exists = make_crops(flat, self.size, views)
        inputs, labels = vary(inputs, labels, exists, views, strength, key, self.n_labels)
        maps = make_maps(labels, 2 * self.n_labels)

        def loss_of(weights):
            answer, changed = self.model.stateless_call(weights, others, inputs, training=True)
            return self.loss(maps, answer), changed

        (loss, others), gradients = jax.value_and_grad(loss_of, has_aux=True)(trained)
        n = n + 1  # Adam (Kingma & Ba 2015), with Keras' constants
        first = [0.9 * a + 0.1 * g for a, g in zip(first, gradients, strict=True)]
        second = [0.999 * a + 0.001 * g * g for a, g in zip(second, gradients, strict=True)]
        step = rate * jnp.sqrt(1 - 0.999**n) / (1 - 0.9**n)
        moves = [step * a / (jnp.sqrt(b) + 1e-7) for a, b in zip(first, second, strict=True)]
        trained = [w - move for w, move in zip(trained, moves, strict=True)]
        keep = jnp.minimum(self.average, n / (n + 10))
        mean = [
            keep * a + (1 - keep) * b if a.dtype == jnp.float32 else b
            for a, b in zip(mean, [*trained, *others], strict=True)
        ]
        return (trained, others, first, second, mean, n), loss

    def _epoch(self, state, flat, strength, *steps):
        import jax

        return jax.lax.scan(lambda s, each: self._step(s, flat, strength, *each), state, steps)

    def train(self, run: Run, settings, flat, table):
        """Return (last weights, averaged weights, loss by epoch); weights are (trained, others)."""
        import jax
        import keras

        jnp = jax.numpy
        views = draw_views(run, settings, table)
        top = settings.training.learning_rate
        rates = top * (1 + np.cos(np.pi * np.arange(run.steps) / run.steps)) / 2
        rates[:WARM_UP] *= np.linspace(0.1, 1, WARM_UP)[: run.steps]
        keys = jax.random.split(jax.random.key(run.seed), run.steps)
        keras.utils.set_random_seed(run.seed)
        fresh = self.build(settings)
        trained, others = (
            [jnp.array(v.value) for v in variables]
            for variables in (fresh.trainable_variables, fresh.non_trainable_variables)
        )
        zeros = [jnp.zeros_like(v) for v in trained]
        mean = [jnp.array(v) for v in (*trained, *others)]
        state = trained, others, zeros, [jnp.zeros_like(v) for v in trained], mean, jnp.float32(0)
        chosen = settings.training.augmentation.model_dump()
        strength = {k: jnp.float32(chosen[k]) for k in STRENGTHS}
        history, start = [], time.perf_counter()
        for begin in range(0, run.steps, EPOCH):
            now = slice(begin, begin + EPOCH)
            part = {name: jnp.asarray(values[now]) for name, values in views.items()}
            rate = jnp.asarray(rates[now], jnp.float32)
            state, losses = self.epoch(state, flat, strength, part, rate, keys[now])
            history.append(round(float(losses.mean()), 5))
            if begin == 0:
                print(f"  first steps {time.perf_counter() - start:.0f} s", flush=True)
                start = time.perf_counter()
        speed = max(run.steps - EPOCH, 0) * run.batch / (time.perf_counter() - start)
        print(f"{run.name}: loss {history[0]} to {history[-1]}, {speed:.0f} crops/s", flush=True)
        n = len(state[0])
        return (state[0], state[1]), (state[4][:n], state[4][n:]), history

    def predict(self, weights, squares):
        """Return maps (n, TEST_PX, TEST_PX, 3) float16, eight squares at a time."""
        maps = []
        for start in range(0, len(squares), 8):
            part = squares[start : start + 8]
            full = np.zeros((8, *part.shape[1:]), np.float32)
            full[: len(part)] = part
            maps.append(np.asarray(self.answer(weights, full)[: len(part)], np.float16))
        return np.concatenate(maps)

    def to_keras(self, weights):
        """Return weights in the order of `keras.Model.set_weights`."""
        variables = self.model.trainable_variables, self.model.non_trainable_variables
        for kept, values in zip(variables, weights, strict=True):
            for variable, value in zip(kept, values, strict=True):
                variable.assign(value)
        return self.model.get_weights()


STRENGTHS = ("gray", "stain", "intensity", "blur", "noise", "gamma", "dyes", "nuclei", "paste")


def score(maps, labels):
    """Return, for each of `CONFIDENCES`, true and predicted nuclei and the matches at `LEVELS`."""
    from helpers.evaluation.matching import match
    from helpers.settings import Postprocessing
    from helpers.targets import get_target

    maps = maps[: labels.shape[0], : labels.shape[1]].astype(np.float32)
    found = get_target("flow").decode(maps, Postprocessing(min_area_px=MIN_AREA_PX))
    areas = np.maximum(np.bincount(found.ravel()), 1)
    confidences = np.bincount(found.ravel(), maps[..., 0].ravel()) / areas
    rows = []
    for least in CONFIDENCES:
        kept = match(labels, np.where((confidences >= least)[found], found, 0))
        matches = [int((kept.iou_true >= level / 100).sum()) for level in LEVELS]
        rows.append([least, len(kept.ids_true), len(kept.ids_pred), *matches])
    return rows


def check_maps(images: Images) -> None:
    """Raise if the maps made here are not those of `helpers.targets`."""
    from helpers.targets import get_target
    from tools.gpu.crops import make_maps

    labels = np.stack([cut_square(*images.pairs[0])[1][:128, :128]] * 2).astype(np.int32)
    ours = np.asarray(make_maps(labels, int(labels.max()) + 1))[0]
    # Two pixels may be equally near to a nucleus's centre of mass; either is its centre.
    differing = (np.abs(ours - get_target("flow").encode(labels[0])) > 0.2).mean()
    if differing > 0.01:
        raise AssertionError(f"{differing:.1%} of the maps differ from helpers.targets")


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean AP at .50 and over .50 to .95 over images, recall and precision at .50."""
    matches = table[[f"tp_{level}" for level in LEVELS]].to_numpy()
    union = (table["n_true"] + table["n_pred"]).to_numpy()[:, None] - matches
    ap = np.where(union > 0, matches / np.maximum(union, 1), 1)
    table = table.assign(ap_50=ap[:, 0], ap=ap.mean(axis=1))
    grouped = table.groupby(["run", "weights", "source", "confidence"], sort=False)
    means = grouped[["ap_50", "ap"]].mean()
    sums = grouped[["tp_50", "n_true", "n_pred"]].sum()
    means["recall"] = sums["tp_50"] / sums["n_true"]
    means["precision"] = sums["tp_50"] / sums["n_pred"]
    return means.round(3)


def start_worker():
    """Keep the processes that score off the GPU."""
    os.environ["JAX_PLATFORMS"] = "cpu"


def main() -> None:
    """Train what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pack", type=Path)
    parser.add_argument("plan", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=np.inf, help="after which no run begins")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), help="of I, N: every Nth run")
    parser.add_argument("--most", type=int, help="images of each source, to try the script")
    given = parser.parse_args()
    begun = time.perf_counter()
    import jax

    from helpers.settings import load_settings

    known = {each.name for each in fields(Run)}
    plan = json.loads(given.plan.read_text())[given.part[0] :: given.part[1]]
    runs = [Run(**{k: v for k, v in each.items() if k in known}) for each in plan]
    images = Images(given.pack, given.most)
    check_maps(images)
    flat = [jax.numpy.asarray(array) for array in images.flatten()]
    print(f"{len(images.table)} images on {jax.devices()[0]}", flush=True)
    n_workers = max(2, (os.cpu_count() or 2) // given.part[1] - 1)
    pool = ProcessPoolExecutor(n_workers, get_context("spawn"), start_worker)
    n_labels = int(images.table["n_nuclei"].max()) + 1
    given.out.mkdir(parents=True, exist_ok=True)
    trainers, waiting, tested = {}, [], {}
    for run in runs:
        if time.perf_counter() - begun > given.seconds:
            print(f"no time left: {run.name}", flush=True)
            continue
        settings = load_settings(run.settings).with_overrides(run.overrides)
        structure = settings.model_structure.model_dump_json()
        trainer = trainers.setdefault(structure, None) or Trainer(settings, n_labels)
        trainers[structure] = trainer
        table = images.table
        is_taught = table["source"].isin(run.sources) & table["side"].isin(["source", "train"])
        taught = table.assign(place=range(len(table)))[is_taught]
        last, mean, history = trainer.train(run, settings, flat, taught)
        (given.out / f"{run.name}.json").write_text(json.dumps({"loss": history}))
        if run.keep:
            np.savez(given.out / f"{run.name}.npz", *trainer.to_keras(mean))
        for source in run.test:
            places = images.find(source)
            squares, labels = tested.setdefault(source, images.squares(places))
            for name, weights in (("last", last), ("mean", mean)):
                about = [(run.name, name, source, image_id) for image_id in table["id"][places]]
                futures = map(
                    pool.submit, [score] * len(labels), trainer.predict(weights, squares), labels
                )
                waiting += zip(about, futures, strict=True)
    names = ["run", "weights", "source", "id", "confidence", "n_true", "n_pred"]
    names += [f"tp_{level}" for level in LEVELS]
    rows = [(*about, *row) for about, future in waiting for row in future.result()]
    scores = pd.DataFrame(rows, columns=names)
    scores.to_csv(given.out / f"scores_{given.part[0]}.csv.gz", index=False)
    print(summarise(scores).to_string(), f"\n{time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
