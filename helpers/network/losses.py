"""The loss and the metrics that a settings file may choose for training.

A loss of that name judges the mask. Targets of several maps (`helpers.targets`) add what their
further channels need.
"""

import keras

from helpers.targets import get_target


@keras.saving.register_keras_serializable(package="helpers")
class BinaryCrossentropyDice(keras.losses.Loss):
    """Mean of the binary cross-entropy and one minus the Dice coefficient of each image.

    Both arguments have shape (batch, height, width, 1): truth 0 or 1, prediction in 0..1. Dice
    rewards overlap however small the nuclei's share of the image is (Milletari et al. 2016,
    doi:10.1109/3DV.2016.79); the cross-entropy keeps the probabilities calibrated.
    """

    def call(self, y_true, y_pred):
        """Return one value per image."""
        y_true = keras.ops.cast(y_true, y_pred.dtype)
        pixels = keras.losses.binary_crossentropy(y_true, y_pred)
        dice = keras.losses.dice(y_true, y_pred, axis=(1, 2, 3))
        return 0.5 * (keras.ops.mean(pixels, axis=(1, 2)) + dice)


LOSSES = {
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
    "binary_focal_crossentropy": keras.losses.BinaryFocalCrossentropy,
    "dice": lambda: keras.losses.Dice(axis=(1, 2, 3)),
    "binary_crossentropy_dice": BinaryCrossentropyDice,
}


@keras.saving.register_keras_serializable(package="helpers")
class MapsLoss(keras.losses.Loss):
    """The loss of the mask, plus what the maps of a target add to it.

    Where the channels are classes ("boundary"): the mean of the mask's loss over the classes, each
    against the others. Otherwise ("distance", "flow"): the loss of the first channel, plus the mean
    squared error of the others over the pixels of true nuclei, summed over channels; what they say
    in the background does not count. `loss` is one of `LOSSES`; both tensors are (batch, height,
    width, n_channels) maps of `target`.
    """

    def __init__(self, loss: str, target: str, name: str = "maps_loss", **options):
        super().__init__(name=name, **options)
        self.loss, self.target = loss, target
        self.mask_loss = LOSSES[loss]()

    def call(self, y_true, y_pred):
        """Return one value for the batch."""
        y_true = keras.ops.cast(y_true, y_pred.dtype)
        if get_target(self.target).is_classes:
            classes = [slice(c, c + 1) for c in range(y_pred.shape[-1])]
            losses = [self.mask_loss(y_true[..., c], y_pred[..., c]) for c in classes]
            return sum(losses) / len(losses)
        nuclei = y_true[..., :1]
        errors = nuclei * keras.ops.square(y_true[..., 1:] - y_pred[..., 1:])
        n_pixels = keras.ops.maximum(keras.ops.sum(nuclei), 1)
        return self.mask_loss(nuclei, y_pred[..., :1]) + keras.ops.sum(errors) / n_pixels

    def get_config(self):
        """Return what rebuilds the loss."""
        return super().get_config() | {"loss": self.loss, "target": self.target}


@keras.saving.register_keras_serializable(package="helpers")
class ForegroundIoU(keras.metrics.BinaryIoU):
    """IoU of the foreground in the maps of a target, thresholded at .5."""

    def __init__(self, target: str, name: str = "iou", dtype=None):
        super().__init__(target_class_ids=[1], threshold=0.5, name=name, dtype=dtype)
        self.target = target

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add the pixels of a batch of (batch, height, width, n_channels) maps."""
        foreground = get_target(self.target).foreground
        masks = foreground(y_true), foreground(y_pred)
        return super().update_state(*masks, sample_weight=sample_weight)

    def get_config(self):
        """Return what rebuilds the metric."""
        return {"target": self.target, "name": self.name, "dtype": self.dtype}


def build_loss(name: str, target: str = "foreground") -> keras.losses.Loss:
    """Return the loss of that name for that target; `helpers.settings` has refused other names."""
    return LOSSES[name]() if get_target(target).is_mask else MapsLoss(name, target)


def build_metrics(target: str = "foreground") -> list[keras.metrics.Metric]:
    """Return what is watched besides the loss: IoU of the foreground, thresholded at .5."""
    return [ForegroundIoU(target)]
