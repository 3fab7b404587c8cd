"""One batch learned by heart: the strongest simple test of a network, its loss and its data."""

import keras
from numpy.typing import NDArray

KNOWN = 0.9
"""IoU of the foreground, in training, from which a batch counts as learned."""


def learn_by_heart(
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
