"""Training: compiled, watched, saved after every epoch, and resumed with nothing lost."""

import hashlib
import json
import math
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.keras import TqdmCallback

from helpers.network.losses import build_loss, build_metrics
from helpers.network.saving import (
    load_model,
    read_arrays,
    read_settings,
    read_state,
    save_network,
)
from helpers.network.unet import build_unet
from helpers.run_folder import RunFolder
from helpers.settings import Settings, write_settings
from helpers.training.batches import Batches
from helpers.training.devices import Device, choose_device

KNOWN = 0.9
"""IoU of the foreground, in training, from which a batch counts as learned."""


def overfit_batch(
    model: keras.Model, inputs: NDArray, targets: NDArray, *, max_steps: int
) -> dict[str, list[float]]:
    """Teach `model` one batch, over and over, until it knows it or `max_steps` are over.

    Parameters
    ----------
    model : keras.Model
        Compiled, with the metric "iou"; see `helpers.training.loop.compile_network`. It keeps what
        it has learned, and the normalisation of this batch (`settle_normalisation`).
    inputs, targets : (n, height, width, channels) float32 arrays
        One batch, as `helpers.training.batches.Batches` gives it.
    max_steps : int
        At most so many steps.

    Returns
    -------
    dict
        "loss" and "iou", one value a step, measured with dropout on.
    """

    def stop_when_known(step, logs):
        model.stop_training = logs["iou"] >= KNOWN

    watch = keras.callbacks.LambdaCallback(on_epoch_end=stop_when_known)
    history = model.fit(
        inputs, targets, batch_size=len(inputs), epochs=max_steps, callbacks=[watch], verbose=0
    ).history
    settle_normalisation(model, inputs)
    return history


def settle_normalisation(model: keras.Model, inputs: NDArray) -> None:
    """Give every batch normalisation of `model` the statistics of `inputs`, for prediction.

    In training it uses those of its batch, in prediction a running mean, which takes in a
    hundredth at every step (`momentum` .99): after 150 steps a fifth of it is still the value that
    it began with, and what the network has learned comes out distorted.
    """
    layers = [each for each in model.layers if isinstance(each, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    model(inputs, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


CHECKPOINT = "checkpoint.keras"
MAY_CHANGE = ("epoch_num", "learning_rate_restarts", "precision")
"""Training parameters that may differ when a training goes on: how far, and how fast."""
REMEMBERED = ("best", "best_epoch", "cooldown_counter", "stopped_epoch", "wait")
"""What Keras callbacks know from earlier epochs and must get back when a training goes on."""


class TrainingError(RuntimeError):
    """A training that cannot start, go on or be trusted."""


def train(
    run: RunFolder,
    settings: Settings,
    train_set: tuple[Sequence[NDArray], Sequence[NDArray]],
    validation_set: tuple[Sequence[NDArray], Sequence[NDArray]] | None = None,
    *,
    data_key: str = "",
    device: Device | None = None,
    start_from: RunFolder | None = None,
) -> pd.DataFrame:
    """Train the network of `settings`, or go on from the run's last epoch, and return the history.

    Parameters
    ----------
    run : RunFolder
        Gets `checkpoint.keras` after every epoch and, in the end, `network.keras`, `history.csv`
        and `settings.json`. A run that is finished is not trained again.
    train_set, validation_set : (images, labels)
        As `helpers.training.batches.Batches` takes them.
    data_key : str
        Names the images (see `fingerprint`); a checkpoint trained on others is refused.
    start_from : RunFolder, optional
        A run whose trained network is the beginning, instead of random weights. Its structure
        and preprocessing must be those of `settings`.

    Returns
    -------
    pandas.DataFrame
        One row an epoch: epoch (from 1), seconds, learning_rate, loss, iou, val_loss, val_iou.

    Raises
    ------
    TrainingError
        If the run's checkpoint belongs to other settings or images, if `enable_training` is false
        and there is no saved network, if the network to start from is built otherwise, or if the
        loss is no number any more.
    """
    if not settings.training_configuration.enable_training:
        run.require("network.keras")
        return run.read_csv("history.csv")
    device = device or choose_device(settings)
    model, state = start_or_resume(run, settings, data_key, device, start_from)
    if not state["finished"]:
        _fit(run, settings, model, state, train_set, validation_set)
    history = pd.DataFrame(state["history"])
    _save_results(run, settings, model, history)
    return history


def fingerprint(train_ids: Sequence[str], validation_ids: Sequence[str]) -> str:
    """Return a text that names a split: other images, or others held back, give another text."""
    sides = json.dumps([list(train_ids), list(validation_ids)])
    return hashlib.sha256(sides.encode()).hexdigest()


def start_or_resume(
    run: RunFolder,
    settings: Settings,
    data_key: str,
    device: Device,
    start_from: RunFolder | None = None,
):
    """Return (compiled model, state): new ones, or those of the run's last finished epoch."""
    keras.utils.set_random_seed(settings.training.seed)
    model = compile_network(build_unet(settings, precision=device.precision), settings)
    file = run.file(CHECKPOINT)
    if not file.exists():
        if start_from is not None:
            model.set_weights(_read_start(start_from, settings))
        return model, {"data_key": data_key, "finished": False, "history": [], "callbacks": {}}
    state = read_state(file)
    _check_same(run, settings, read_settings(file), data_key, state["data_key"])
    if state["finished"] and state["stopped_early"] is False:
        state["finished"] = len(state["history"]) >= settings.training.epoch_num
    _take_over(model, load_model(file))
    return model, state


def _read_start(start_from: RunFolder, settings: Settings) -> list[NDArray]:
    """Return the weights of a trained run, if its network is the one that `settings` describe."""
    file = start_from.require("network.keras")
    theirs = read_settings(file)
    for part in ("model_structure", "preprocessing"):
        differing = _differing(getattr(settings, part), getattr(theirs, part))
        if differing:
            raise TrainingError(
                f"the network of {start_from} cannot be the start: {part}.{differing} differs; "
                f"take the settings of that run ({start_from}/settings.json) and change only how "
                "it is trained"
            )
    return load_model(file).get_weights()


def _differing(ours: Any, theirs: Any) -> str:
    """Return the first key whose value differs; the size of training crops may."""
    for name, value in ours.model_dump(exclude={"input_params": {"height", "width"}}).items():
        if value != theirs.model_dump(exclude={"input_params": {"height", "width"}})[name]:
            return name
    return ""


def _take_over(model: keras.Model, saved: keras.Model) -> None:
    """Give `model` the weights and the optimizer's state of `saved`, whatever its precision."""
    model.set_weights(saved.get_weights())
    model.optimizer.build(model.trainable_variables)
    for ours, theirs in zip(model.optimizer.variables, saved.optimizer.variables, strict=True):
        ours.assign(theirs)


def compile_network(model: keras.Model, settings: Settings) -> keras.Model:
    """Return `model` compiled with Adam and the settings' loss; XLA is slower on CPUs, so off."""
    target = settings.model_structure.output_params.target
    model.compile(
        optimizer=keras.optimizers.Adam(settings.training.learning_rate),
        loss=build_loss(settings.training.loss, target),
        metrics=build_metrics(target),
        jit_compile="auto" if keras.backend.backend() == "jax" else False,
    )
    return model


def build_callbacks(
    run: RunFolder, settings: Settings, watched: Collection[str]
) -> list[keras.callbacks.Callback]:
    """Return the Keras callbacks that the settings name; files they write stay in the run's folder.

    Raises
    ------
    TrainingError
        If Keras refuses a callback's arguments, or if one monitors what is not `watched`.
    """
    callbacks = []
    for name, arguments in settings.training_configuration.call_backs_conf.items():
        paths = {k: str(run.file(v)) for k, v in arguments.items() if k in ("filename", "filepath")}
        try:
            callback = getattr(keras.callbacks, name)(**{**arguments, **paths})
        except (TypeError, ValueError) as error:
            raise TrainingError(
                f"call_backs_conf.{name}: {error}; correct the settings file"
            ) from error
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and monitor not in watched:
            raise TrainingError(
                f"call_backs_conf.{name} monitors {monitor!r}, but this training measures only "
                f"{', '.join(watched)}; change `monitor`, or give validation images"
                " (validation_split_ratio)"
            )
        callbacks.append(callback)
    return callbacks


def _fit(run, settings, model, state, train_set, validation_set):
    run.path.mkdir(parents=True, exist_ok=True)
    batches = Batches(*train_set, settings)
    validation = Batches(*validation_set, settings, augment=False) if validation_set else None
    target = settings.model_structure.output_params.target
    measured = ["loss", *(metric.name for metric in build_metrics(target))]
    watched = [*measured, *(f"val_{name}" for name in measured if validation)]
    named = build_callbacks(run, settings, watched)
    for callback in named:
        if isinstance(callback, keras.callbacks.CSVLogger) and state["history"]:
            callback.append = True
    n_epochs = len(state["history"])
    checkpoint = Checkpoint(run, settings, state, named, batches)
    progress = TqdmCallback(verbose=1, leave=False, disable="TQDM_DISABLE" in os.environ)
    model.fit(
        batches,
        validation_data=validation,
        initial_epoch=n_epochs,
        shuffle=False,
        epochs=n_epochs if state.get("stopping") else settings.training.epoch_num,
        callbacks=[progress, *named, checkpoint],
        verbose=0,
    )
    checkpoint.finish()


class Checkpoint(keras.callbacks.Callback):
    """Says one line an epoch and saves everything that the next epoch depends on.

    The network, the optimizer, the history and the state of the other
    callbacks go into one file, written whole or not at all.
    """

    def __init__(
        self, run: RunFolder, settings: Settings, state: dict, others: Sequence, batches: Batches
    ):
        super().__init__()
        self.run, self.settings, self.state = run, settings, state
        self.others, self.batches = others, batches
        file = run.file(CHECKPOINT)
        self.best_weights = read_arrays(file) if file.exists() else []

    def on_train_begin(self, logs=None):
        """Give the other callbacks back what they knew; they have just forgotten it."""
        for callback in self.others:
            for name, value in self.state["callbacks"].get(type(callback).__name__, {}).items():
                setattr(callback, name, value)
            if getattr(callback, "restore_best_weights", False) and self.best_weights:
                callback.best_weights = self.best_weights

    def on_epoch_begin(self, epoch, logs=None):
        """Let batches, dropout and learning rate follow from the epoch; start its clock."""
        self.batches.epoch = epoch
        if self.settings.training.learning_rate_schedule == "cosine":
            self.model.optimizer.learning_rate = cosine_rate(self.settings, epoch)
        for place, layer in enumerate(_dropouts(self.model)):
            rng = np.random.default_rng([self.settings.training.seed, epoch, place])
            layer.seed_generator.state.assign(rng.integers(2**31, size=2, dtype=np.uint32))
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Append to the history, say the line, save."""
        if not all(value == value and abs(value) != float("inf") for value in logs.values()):
            kept = f"{self.run}/{CHECKPOINT} holds epoch {epoch}" if epoch else "nothing was saved"
            raise TrainingError(
                f"the loss is no number any more in epoch {epoch + 1}; {kept}. "
                f"Lower learning_rate (={self.settings.training.learning_rate}) or check the images"
            )
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = {"epoch": epoch + 1, "seconds": round(time.perf_counter() - self._start, 2)}
        row |= {"learning_rate": rate} | {name: float(value) for name, value in logs.items()}
        self.state["history"].append(row)
        self.state["callbacks"] = {type(c).__name__: _state_of(c) for c in self.others}
        self.state["stopping"] = bool(self.model.stop_training)
        print(_line(row, self.settings.training.epoch_num), flush=True)
        self.save()

    def finish(self):
        """Note that nothing is left to do."""
        n_epochs = len(self.state["history"])
        self.state |= {
            "finished": True,
            "stopped_early": n_epochs < self.settings.training.epoch_num,
        }
        self.save()

    def save(self):
        """Write the checkpoint, whole or not at all."""
        best = _best_weights(self.others)

        def write(part: Path) -> None:
            save_network(self.model, part, self.settings, state=self.state, arrays=best)

        self.run.write(CHECKPOINT, write)


def cosine_rate(settings: Settings, epoch: int) -> float:
    """Return the learning rate of `epoch` (from 0) on half a cosine.

    Loshchilov & Hutter 2017, SGDR, equation 5, https://arxiv.org/abs/1608.03983; the cosines end
    at `learning_rate_restarts` and with the training.
    """
    training = settings.training
    ends = [*training.learning_rate_restarts, training.epoch_num]
    start = max((end for end in ends if end <= epoch), default=0)
    end = min(end for end in ends if end > epoch)
    share = (epoch - start) / (end - start)
    return training.learning_rate * (1 + math.cos(math.pi * share)) / 2


def _dropouts(model: keras.Model) -> list[keras.layers.Dropout]:
    dropouts = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    return [layer for layer in dropouts if layer.rate > 0]


def _state_of(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Return what a callback has learned so far; what it was told comes from the settings."""
    values = {name: value for name, value in vars(callback).items() if name in REMEMBERED}
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}


def _best_weights(callbacks: Sequence[keras.callbacks.Callback]) -> list[NDArray]:
    """Return the weights that EarlyStopping keeps to restore at the end, if it does."""
    return next((c.best_weights for c in callbacks if getattr(c, "best_weights", None)), [])


def _line(row: dict[str, float], n_epochs: int) -> str:
    shown = {name: value for name, value in row.items() if name not in ("epoch", "seconds")}
    numbers = " · ".join(f"{name} {value:.4g}" for name, value in shown.items())
    return f"epoch {row['epoch']:3d}/{n_epochs} · {row['seconds']:.0f} s · {numbers}"


def _check_same(run, settings, saved_settings, data_key, saved_key):
    def essence(which: Settings) -> str:
        values = which.model_dump(mode="json")
        for name in ("schema_location", "data_set_location", "postprocessing"):
            values.pop(name)
        values["training_configuration"].pop("enable_training")
        for name in MAY_CHANGE:
            values["training_configuration"]["training_parameters"].pop(name)
        return json.dumps(values, sort_keys=True)

    other_settings = essence(settings) != essence(saved_settings)
    if other_settings or data_key != saved_key:
        differs = "settings" if other_settings else "images or another split"
        raise TrainingError(
            f"{run}/{CHECKPOINT} was trained with other {differs}; give another run, "
            f"or delete {run} to start anew"
        )


def _save_results(
    run: RunFolder, settings: Settings, model: keras.Model, history: pd.DataFrame
) -> None:
    def save_without_optimizer(part: Path) -> None:
        network = build_unet(settings)
        network.set_weights(model.get_weights())
        save_network(network, part, settings)

    run.write("network.keras", save_without_optimizer)
    run.write_csv("history.csv", history)
    run.write("settings.json", lambda part: write_settings(settings, part))
