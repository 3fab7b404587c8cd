"""The loss and the metrics that a settings file may choose for training."""

import keras


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


def build_loss(name: str) -> keras.losses.Loss:
    """Return the loss of that name; `helpers.settings` has refused all other names."""
    return LOSSES[name]()


def build_metrics() -> list[keras.metrics.Metric]:
    """Return what is watched besides the loss: IoU of the foreground, thresholded at .5."""
    return [keras.metrics.BinaryIoU(target_class_ids=[1], threshold=0.5, name="iou")]
