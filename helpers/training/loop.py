"""Training: compiled, watched, saved after every epoch, and resumed with nothing lost."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.keras import TqdmCallback

from helpers.network.losses import build_loss, build_metrics
from helpers.network.saving import load_model, read_settings, read_state, save_network
from helpers.network.unet import build_unet
from helpers.overrides import flatten
from helpers.run_folder import RunFolder
from helpers.settings import Settings, write_settings
from helpers.training.batches import Batches
from helpers.training.checkpoint import CHECKPOINT, Checkpoint, TrainingError, build_callbacks
from helpers.training.devices import Device, choose_device

KNOWN = 0.9
"""IoU of the foreground, in training, from which a batch counts as learned."""
MAY_CHANGE = ("epoch_num", "learning_rate_restarts", "precision")
"""Training parameters that may differ when a training resumes: how far, and how fast."""

SETTLING = 64
"""Batches by which averaged weights get the statistics of their normalisation."""

Images = tuple[Sequence[NDArray], Sequence[NDArray]]


def train(
    run: RunFolder,
    settings: Settings,
    train_set: Images,
    validation_set: Images | None = None,
    *,
    device: Device | None = None,
    start_from: RunFolder | None = None,
) -> pd.DataFrame:
    """Train the network of `settings`, or resume after the run's last epoch; return the history.

    The run gets `checkpoint.keras` after every epoch and, in the end, `network.keras`,
    `history.csv` and `settings.json`; one that is finished is not trained again.

    Parameters
    ----------
    train_set, validation_set : (images, labels)
        As `helpers.training.batches.Batches` takes them.
    start_from : RunFolder, optional
        A run whose trained network, built by the same settings, replaces random weights.

    Returns
    -------
    pandas.DataFrame
        One row an epoch: epoch (from 1), seconds, learning_rate, loss, iou, val_loss, val_iou.

    Raises
    ------
    TrainingError
        If the run's checkpoint belongs to other settings, images, label images or another start,
        if the network to start from is built otherwise, or if the loss is no number any more.
    FileNotFoundError
        If `enable_training` is false and there is no saved network.
    """
    if not settings.training_configuration.enable_training:
        run.require("network.keras")
        return run.read_csv("history.csv")
    run.refuse_published()
    device = device or choose_device(settings)
    shown = {"training": train_set, "validation": validation_set or ((), ())}
    model, state = start_or_resume(run, settings, describe_images(shown), device, start_from)
    with run.lock("training"):
        if not state["finished"]:
            _fit(run, settings, model, state, train_set, validation_set)
        history = pd.DataFrame(state["history"])
        _save_results(run, settings, model, history)
    return history


def compile_network(model: keras.Model, settings: Settings) -> keras.Model:
    """Return `model` compiled with Adam and the settings' loss; XLA is slower on CPUs, so off.

    With `weight_average` the weights become, when a training ends, their mean over its last steps.
    """
    target = settings.model_structure.output_params.target
    average = settings.training.weight_average
    averaging = {"use_ema": True, "ema_momentum": average} if average else {}
    model.compile(
        optimizer=keras.optimizers.Adam(settings.training.learning_rate, **averaging),
        loss=build_loss(settings.training.loss, target),
        metrics=build_metrics(target),
        jit_compile="auto" if keras.backend.backend() == "jax" else False,
    )
    return model


def overfit_batch(
    model: keras.Model, inputs: NDArray, targets: NDArray, *, max_steps: int
) -> dict[str, list[float]]:
    """Train `model` on one batch until it knows it or `max_steps` are over.

    Parameters
    ----------
    model : keras.Model
        As `compile_network` gives it; keeps what it has learned, and this batch's normalisation.
    inputs, targets : (n, height, width, channels) float32 arrays
        One batch, as `helpers.training.batches.Batches` gives it.

    Returns
    -------
    dict
        "loss" and "iou", one value a step, measured with dropout on.
    """
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda step, logs: setattr(model, "stop_training", logs["iou"] >= KNOWN)
    )
    history = model.fit(
        inputs, targets, batch_size=len(inputs), epochs=max_steps, callbacks=[watch], verbose=0
    ).history
    settle_normalisation(model, [inputs])
    return history


def settle_normalisation(model: keras.Model, batches: Iterable[NDArray]) -> None:
    """Give every batch normalisation of `model` the mean statistics of `batches`, for prediction.

    In training it uses those of its batch, in prediction a running mean, which after 150 steps
    (`momentum` .99) is still a fifth the value that it began with, and is not that of averaged
    weights (Izmailov et al. 2018, https://arxiv.org/abs/1803.05407, section 3.2).
    """
    layers = [each for each in model.layers if isinstance(each, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for n_before, inputs in enumerate(batches if layers else ()):
        for layer in layers:
            layer.momentum = n_before / (n_before + 1)
        model(inputs, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


# ------------------------------------------------------------------ beginning and resuming


def describe_images(shown: Mapping[str, Images]) -> dict[str, list[str]]:
    """Return digests of all images and label images, by side and which of the two they are."""
    return {
        f"{side} {kind}": [
            _digest(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
            for array in arrays
        ]
        for side, (images, labels) in shown.items()
        for kind, arrays in (("images", images), ("label images", labels))
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def start_or_resume(
    run: RunFolder,
    settings: Settings,
    images: dict[str, list[str]],
    device: Device,
    start_from: RunFolder | None = None,
) -> tuple[keras.Model, dict[str, Any]]:
    """Return (compiled model, state): new ones, or those of the run's last finished epoch."""
    keras.utils.set_random_seed(settings.training.seed)
    model = compile_network(build_unet(settings, precision=device.precision), settings)
    start = start_from and _digest(start_from.require("network.keras").read_bytes())
    file = run.file(CHECKPOINT)
    if not file.exists():
        if start_from is not None:
            model.set_weights(_read_start(start_from, settings))
        about = {"images": images, "start": start}
        return model, about | {"finished": False, "history": [], "callbacks": {}}
    state = read_state(file)
    _refuse_others(run, _differing_settings(settings, read_settings(file)))
    _refuse_others(run, _differing_images(images, state.get("images", images)))
    if start not in (None, state.get("start", start)):
        _refuse_others(run, f"it did not begin with the network of {start_from}")
    if state["finished"] and state["stopped_early"] is False:
        state["finished"] = len(state["history"]) >= settings.training.epoch_num
    _take_over(model, load_model(file))
    return model, state


def _refuse_others(run: RunFolder, differing: str) -> None:
    if differing:
        raise TrainingError(
            f"{run}/{CHECKPOINT} belongs to another training: {differing}; give another `run`, or "
            f"delete {run} to begin again"
        )


def _differing_settings(ours: Settings, theirs: Settings) -> str:
    """Return the first setting that differs, of those that a training depends on."""

    def essence(settings: Settings) -> dict[str, Any]:
        values = settings.model_dump(mode="json")
        for name in ("schema_location", "data_set_location", "postprocessing"):
            values.pop(name)
        values["training_configuration"].pop("enable_training")
        for name in MAY_CHANGE:
            values["training_configuration"]["training_parameters"].pop(name)
        return dict(flatten(values))

    now, before = essence(ours), essence(theirs)
    for name in now | before:
        if now.get(name) != before.get(name):
            return f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
    return ""


def _differing_images(ours: dict[str, list[str]], theirs: dict[str, list[str]]) -> str:
    """Return how many images, or label images, are others."""
    for name, digests in ours.items():
        before = theirs[name]
        n_others = (Counter(digests) - Counter(before)).total()
        if n_others or len(digests) != len(before):
            return f"{n_others} of {len(digests)} {name} are others ({len(before)} then)"
        if digests != before:
            return f"{name} are the same in another order"
    return ""


def _read_start(start_from: RunFolder, settings: Settings) -> list[NDArray]:
    """Return the weights of a trained run, if its network is the one that `settings` describe."""
    file = start_from.require("network.keras")
    differing = settings.differing_build(read_settings(file))
    if differing:
        raise TrainingError(
            f"the network of {start_from} cannot be the start: {differing} differs; take the "
            f"settings of that run ({start_from}/settings.json), and change only how it is "
            "trained (`overrides`)"
        )
    return load_model(file).get_weights()


def _take_over(model: keras.Model, saved: keras.Model) -> None:
    """Give `model` the weights and the optimizer's state of `saved`, whatever its precision."""
    model.set_weights(saved.get_weights())
    model.optimizer.build(model.trainable_variables)
    for ours, theirs in zip(model.optimizer.variables, saved.optimizer.variables, strict=True):
        ours.assign(theirs)


# ------------------------------------------------------------------ the epochs


def _fit(run, settings, model, state, train_set, validation_set) -> None:
    """Train until the last epoch, or until a callback ends it."""
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
    # A widget in a notebook; none where a log would keep every step of it.
    bar = [] if "TQDM_DISABLE" in os.environ else [TqdmCallback(verbose=1, leave=False)]
    model.fit(
        batches,
        validation_data=validation,
        initial_epoch=n_epochs,
        shuffle=False,
        epochs=n_epochs if state.get("stopping") else settings.training.epoch_num,
        callbacks=[*bar, *named, checkpoint],
        verbose=0,
    )
    if settings.training.weight_average:
        settle_normalisation(model, (batches[k][0] for k in range(min(SETTLING, len(batches)))))
    checkpoint.finish()


def _save_results(run: RunFolder, settings: Settings, model: keras.Model, history) -> None:
    """Write the network, without its optimizer, the history and the settings."""
    network = build_unet(settings)
    network.set_weights(model.get_weights())
    run.write("network.keras", lambda part: save_network(network, part, settings))
    run.write_csv("history.csv", history)
    write_settings(settings, run.file("settings.json"))
