"""What happens around every epoch: the callbacks that settings name, and the checkpoint."""

import math
import time
from collections.abc import Collection, Sequence
from typing import Any

import keras
import numpy as np

from helpers.network.saving import read_arrays, save_network
from helpers.run_folder import RunFolder
from helpers.settings import Settings
from helpers.training.batches import Batches

CHECKPOINT = "checkpoint.keras"
REMEMBERED = ("best", "best_epoch", "cooldown_counter", "stopped_epoch", "wait")
"""What Keras callbacks know from earlier epochs and must get back when a training resumes."""


class TrainingError(RuntimeError):
    """A training that cannot start, resume or be trusted."""


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


class Checkpoint(keras.callbacks.Callback):
    """Prints one line an epoch and saves everything that the next epoch depends on."""

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
        """Append to the history, print the line, save."""
        if not all(math.isfinite(value) for value in logs.values()):
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
        early = n_epochs < self.settings.training.epoch_num
        self.state |= {"finished": True, "stopped_early": early}
        self.save()

    def save(self):
        """Write the checkpoint, whole or not at all."""
        kept = (getattr(callback, "best_weights", None) for callback in self.others)
        more = {"state": self.state, "arrays": next(filter(None, kept), [])}
        self.run.write(
            CHECKPOINT, lambda part: save_network(self.model, part, self.settings, **more)
        )


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
    return [each for each in model.layers if isinstance(each, keras.layers.Dropout) and each.rate]


def _state_of(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Return what a callback has learned so far; its arguments come from the settings."""
    values = {name: value for name, value in vars(callback).items() if name in REMEMBERED}
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}


def _line(row: dict[str, float], n_epochs: int) -> str:
    shown = {name: value for name, value in row.items() if name not in ("epoch", "seconds")}
    numbers = " · ".join(f"{name} {value:.4g}" for name, value in shown.items())
    return f"epoch {row['epoch']:3d}/{n_epochs} · {row['seconds']:.0f} s · {numbers}"
