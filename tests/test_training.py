import keras
import numpy as np
import pandas as pd
import pytest

from helpers.network.saving import load_model, read_settings, read_state
from helpers.network.unet import build_unet
from helpers.run_folder import RunFolder
from helpers.settings import generate_settings, load_settings
from helpers.training import checkpoint, loop
from helpers.training.batches import Batches
from helpers.training.history import judge_training
from helpers.training.loop import (
    KNOWN,
    TrainingError,
    compile_network,
    describe_images,
    overfit_batch,
    settle_normalisation,
    train,
)
from tests.conftest import DEVICE

PLATEAU = {"ReduceLROnPlateau": {"patience": 1, "factor": 0.5, "min_delta": 0.01}}
EARLY = {"EarlyStopping": {"patience": 3, "min_delta": 0.05, "restore_best_weights": True}}


def settings_for(
    callbacks=PLATEAU, *, enable=True, target="foreground", normalisation="none", **changes
):
    settings = generate_settings(1, base_filters=2, dropout=0.2, input_size=8)
    return settings.with_overrides(
        {
            "callbacks": callbacks,
            "training_configuration.enable_training": enable,
            "target": target,
            "normalisation": normalisation,
            "training": {"epoch_num": 4, "batch_size": 4} | changes,
        }
    )


def some_set(n, seed):
    rng = np.random.default_rng(seed)
    labels = [
        np.kron(rng.integers(0, 2, (2, 2)), np.ones((5, 5), int)).astype(np.int32) for _ in range(n)
    ]
    images = [np.uint8(60 + 120 * x + rng.integers(0, 60, x.shape)) for x in labels]
    return images, labels


TRAIN, VALIDATION = some_set(4, seed=0), some_set(3, seed=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that is finished after two epochs, for tests that only read it, and its history."""
    run = RunFolder(tmp_path_factory.mktemp("finished") / "run")
    return run, start(run, settings_for(epoch_num=2))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, request):
    """The settings of a run that was not interrupted, and the run."""
    target, normalisation = request.param
    augmentation = {"flips": "all", "turns": True, "noise": 0.1} if normalisation == "batch" else {}
    settings = settings_for(
        PLATEAU | EARLY, epoch_num=5, target=target, normalisation=normalisation,
        augmentation=augmentation, weight_average=0.9 if augmentation else 0.0,
    )  # fmt: skip
    run = RunFolder(tmp_path_factory.mktemp("whole") / "run")
    start(run, settings)
    return settings, run


def start(run, settings, images=TRAIN, device=DEVICE, validation=VALIDATION, **more):
    return train(run, settings, images, validation, device=device, **more)


class Killed(BaseException):
    """What an interruption of the kernel looks like from inside."""


def kill_at(monkeypatch, epoch, batch):
    """Make the training die while it asks for a batch; return what brings it back to life."""
    get = Batches.__getitem__

    def get_or_die(self, index):
        if self.augment and (self.epoch, index) == (epoch, batch):
            raise Killed
        return get(self, index)

    monkeypatch.setattr(Batches, "__getitem__", get_or_die)
    return lambda: monkeypatch.setattr(Batches, "__getitem__", get)


def assert_same_result(run, other):
    ours, theirs = (load_model(r.file("network.keras")).get_weights() for r in (run, other))
    for one, two in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, two)
    histories = [r.read_csv("history.csv").drop(columns="seconds") for r in (run, other)]
    pd.testing.assert_frame_equal(*histories)
    states = [read_state(r.file("checkpoint.keras")) for r in (run, other)]
    assert states[0]["callbacks"] == states[1]["callbacks"]


def test_training_leaves_network_history_and_settings(finished):
    run, history = finished
    assert history["epoch"].tolist() == [1, 2]
    assert {"seconds", "learning_rate", "loss", "iou", "val_loss", "val_iou"} <= set(history)
    assert sorted(file.name for file in run.path.iterdir()) == [
        "checkpoint.keras", "history.csv", "network.keras", "settings.json",
    ]  # fmt: skip
    assert load_settings(run.file("settings.json")) == settings_for(epoch_num=2)
    assert read_settings(run.file("network.keras")) == settings_for(epoch_num=2)
    pd.testing.assert_frame_equal(run.read_csv("history.csv"), history)


@pytest.mark.parametrize(
    ("uninterrupted", "epoch", "batch"),
    [(("foreground", "none"), 1, 0), (("flow", "batch"), 3, 2)],
    indirect=["uninterrupted"],
    ids=lambda value: ", ".join(value) if isinstance(value, tuple) else None,
)
def test_resumed_training_equals_an_uninterrupted_one(
    run, uninterrupted, monkeypatch, epoch, batch
):
    settings, whole = uninterrupted
    revive = kill_at(monkeypatch, epoch, batch)
    with pytest.raises((Killed, Exception)):
        start(run, settings)
    assert len(read_state(run.file("checkpoint.keras"))["history"]) == epoch
    revive()
    start(run, settings)
    assert_same_result(run, whole)


def test_interruption_after_the_last_epoch_loses_nothing(run, tmp_path, monkeypatch):
    callbacks = {"EarlyStopping": {"patience": 1, "min_delta": 10.0, "restore_best_weights": True}}
    settings, whole = settings_for(callbacks), RunFolder(tmp_path / "whole")
    start(whole, settings)
    finish = checkpoint.Checkpoint.finish

    def die(self):
        raise Killed

    monkeypatch.setattr(checkpoint.Checkpoint, "finish", die)
    with pytest.raises(Killed):
        start(run, settings)
    monkeypatch.setattr(checkpoint.Checkpoint, "finish", finish)
    assert len(start(run, settings)) == len(whole.read_csv("history.csv")) == 2
    assert_same_result(run, whole)


def with_other_labels(place):
    images, labels = TRAIN
    return images, [1 - each if k == place else each for k, each in enumerate(labels)]


@pytest.mark.parametrize(
    ("changes", "images", "message"),
    [
        ({"learning_rate": 0.01}, TRAIN, "parameters.learning_rate was 0.001 and is 0.01"),
        ({}, with_other_labels(2), "1 of 4 training label images are others"),
        ({}, some_set(5, seed=3), r"5 of 5 training images are others \(4 then\)"),
        ({}, [each[::-1] for each in TRAIN], "training images are the same in another order"),
    ],
)
def test_other_settings_images_or_masks_are_refused(finished, changes, images, message):
    run, _ = finished
    with pytest.raises(TrainingError, match=f"another training: .*{message}.*; give another `run`"):
        start(run, settings_for(epoch_num=2, **changes), images)


def test_a_checkpoint_of_an_earlier_version_is_taken(finished, monkeypatch):
    run, history = finished
    read = loop.read_state
    names = ("images", "start")
    monkeypatch.setattr(
        loop, "read_state", lambda file: {k: v for k, v in read(file).items() if k not in names}
    )
    pd.testing.assert_frame_equal(start(run, settings_for(epoch_num=2)), history)


def test_saved_network_is_taken_without_training(finished, monkeypatch):
    run, history = finished
    monkeypatch.setattr(keras.Model, "fit", lambda *a, **k: pytest.fail("trained again"))
    for enable in (True, False):
        again = start(run, settings_for(epoch_num=2, enable=enable))
        pd.testing.assert_frame_equal(again, history)


@pytest.mark.parametrize("fine_tuned", [False, True])
def test_more_epochs_go_on(finished, run, tmp_path, fine_tuned):
    teacher, whole = finished[0] if fine_tuned else None, RunFolder(tmp_path / "whole")
    start(whole, settings_for(epoch_num=2), start_from=teacher)
    start(run, settings_for(epoch_num=1), start_from=teacher)
    start(run, settings_for(epoch_num=2), start_from=teacher)
    assert_same_result(run, whole)


def test_averaged_weights_are_those_of_all_steps_with_falling_share(run, monkeypatch):
    seen = []

    def remember(self, epoch, logs=None):
        seen.append(self.model.get_weights())

    monkeypatch.setattr(loop.Checkpoint, "on_train_batch_end", remember, raising=False)
    start(run, settings_for({}, epoch_num=2, weight_average=0.8))
    expected = seen[0]
    for weights in seen[1:]:
        expected = [0.8 * one + 0.2 * two for one, two in zip(expected, weights, strict=True)]
    averaged = load_model(run.file("network.keras")).get_weights()
    for one, two, last in zip(expected, averaged, seen[-1], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
        assert not np.array_equal(two, last)


def test_training_goes_on_in_the_precision_of_todays_device(run):
    start(run, settings_for(epoch_num=1))
    device = DEVICE._replace(precision="mixed_bfloat16")
    images = describe_images({"training": TRAIN, "validation": VALIDATION})
    model, state = loop.start_or_resume(run, settings_for(epoch_num=2), images, device)
    assert {layer.dtype_policy.name for layer in model.layers[1:-1]} == {"mixed_bfloat16"}
    assert len(state["history"]) == 1
    before = load_model(run.file("checkpoint.keras")).optimizer.variables
    for ours, theirs in zip(model.optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_callback_that_waits_for_what_is_never_measured_is_refused(run):
    message = r"ReduceLROnPlateau monitors 'val_loss'.*only loss, iou; .*validation images"
    with pytest.raises(TrainingError, match=message):
        start(run, settings_for(), validation=None)
    watching_loss = {"ReduceLROnPlateau": {"monitor": "loss", "patience": 1}}
    assert len(start(run, settings_for(watching_loss, epoch_num=1), validation=None)) == 1


def test_cosine_falls_and_restarts_where_it_is_asked_to():
    def rates(epoch_num, *restarts):
        settings = settings_for(
            {}, epoch_num=epoch_num, learning_rate_schedule="cosine",
            learning_rate_restarts=restarts,
        )  # fmt: skip
        return [1000 * checkpoint.cosine_rate(settings, epoch) for epoch in range(epoch_num)]

    np.testing.assert_allclose(rates(4), [1, 0.853553, 0.5, 0.146447], rtol=1e-4)
    np.testing.assert_allclose(rates(5, 2, 4, 9), [1, 0.5, 1, 0.5, 1], rtol=1e-4)


def test_other_postprocessing_is_no_other_training(run):
    settings = settings_for(epoch_num=1)
    history = start(run, settings)
    again = start(run, settings.with_postprocessing(threshold=0.3))
    pd.testing.assert_frame_equal(again, history)
    assert read_settings(run.file("network.keras")).postprocessing.threshold == 0.3


def test_early_stopping_ends_the_run_for_good(run):
    callbacks = {"EarlyStopping": {"patience": 1, "min_delta": 10.0}}
    assert len(start(run, settings_for(callbacks, epoch_num=6))) == 2
    assert len(start(run, settings_for(callbacks, epoch_num=8))) == 2


def test_loss_that_is_no_number_stops_and_keeps_the_checkpoint(run, monkeypatch):
    start(run, settings_for(epoch_num=1))
    before = run.file("checkpoint.keras").read_bytes()
    get = Batches.__getitem__
    monkeypatch.setattr(
        Batches, "__getitem__", lambda self, k: (get(self, k)[0] * np.nan, get(self, k)[1])
    )
    with pytest.raises(TrainingError, match=r"no number any more in epoch 2.*Lower learning_rate"):
        start(run, settings_for(epoch_num=3))
    assert run.file("checkpoint.keras").read_bytes() == before
    assert len(read_state(run.file("checkpoint.keras"))["history"]) == 1


def test_training_disabled_needs_a_saved_network(run):
    with pytest.raises(FileNotFoundError, match=r"network\.keras is missing.*04_training"):
        start(run, settings_for(enable=False))


def test_files_of_callbacks_stay_in_the_run_and_go_on(run):
    callbacks = {
        "CSVLogger": {"filename": "log.csv"},
        "ModelCheckpoint": {"filepath": "best.keras", "save_best_only": True},
    }
    start(run, settings_for(callbacks, epoch_num=1))
    start(run, settings_for(callbacks, epoch_num=3))
    assert run.read_csv("log.csv")["epoch"].tolist() == [0, 1, 2]
    assert run.file("best.keras").exists()


def test_a_trained_network_is_the_beginning(finished, run):
    teacher, _ = finished
    settings = settings_for(epoch_num=1, learning_rate=1e-9, seed=5)
    start(run, settings, start_from=teacher)
    before, after = (load_model(r.file("network.keras")).get_weights() for r in (teacher, run))
    for ours, theirs in zip(after, before, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    fresh = RunFolder(run.path.parent / "fresh")
    start(fresh, settings)
    weights = load_model(fresh.file("network.keras")).get_weights()
    assert max(np.abs(a - b).max() for a, b in zip(weights, before, strict=True)) > 0.01


@pytest.mark.parametrize(
    ("change", "named"),
    [({"target": "flow"}, "output_params"), ({"normalisation": "batch"}, "encoder_params")],
)
def test_a_network_of_another_build_is_no_beginning(finished, run, change, named):
    with pytest.raises(TrainingError, match=f"model_structure.{named} differs; take the settings"):
        start(run, settings_for(**change), start_from=finished[0])
    assert not run.path.exists()


def test_a_start_that_would_be_ignored_is_refused(finished, run):
    teacher, _ = finished
    start(run, settings_for(epoch_num=1))
    with pytest.raises(TrainingError, match="did not begin with the network of"):
        start(run, settings_for(epoch_num=2), start_from=teacher)
    assert len(start(run, settings_for(epoch_num=2))) == 2


# ---------------------------------------------------------------- one batch


def a_network(normalisation="batch"):
    keras.utils.set_random_seed(0)
    settings = generate_settings(1, base_filters=8, dropout=0, input_size=16, learning_rate=0.01)
    settings = settings.with_overrides({"normalisation": normalisation})
    return compile_network(build_unet(settings), settings)


def a_batch():
    rng = np.random.default_rng(0)
    targets = np.zeros((2, 16, 16, 1), np.float32)
    targets[:, 4:12, 4:12] = 1
    inputs = np.repeat(targets, 3, axis=-1) * 5 + 3
    return inputs + rng.normal(0, 0.1, inputs.shape).astype(np.float32), targets


@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_an_easy_batch_is_known_long_before_the_steps_are_over(normalisation):
    model = a_network(normalisation)
    history = overfit_batch(model, *a_batch(), max_steps=300)
    assert len(history["iou"]) < 300 and history["iou"][-1] >= KNOWN
    assert model.evaluate(*a_batch(), verbose=0, return_dict=True)["iou"] > 0.8


def test_a_settled_network_predicts_what_it_answers_in_training():
    model, (inputs, _) = a_network(), a_batch()
    in_training = np.asarray(model(inputs, training=True))
    assert np.abs(np.asarray(model(inputs)) - in_training).max() > 0.05
    settle_normalisation(model, [inputs])
    np.testing.assert_allclose(np.asarray(model(inputs)), in_training, atol=1e-3)


def test_averaged_weights_predict_with_statistics_of_their_own(run):
    # At a rate that does not fall, the running statistics are those of quite other weights.
    settings = settings_for(
        {}, target="flow", normalisation="batch", epoch_num=3, learning_rate=0.1, weight_average=0.9
    ).with_overrides({"dropout": 0.0})
    start(run, settings)
    model = load_model(run.file("network.keras"))
    saved = model.get_weights()
    batches = Batches(*TRAIN, settings)
    batches.epoch = 2
    settle_normalisation(model, [batches[k][0] for k in range(len(batches))])
    for one, two in zip(saved, model.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


# ---------------------------------------------------------------- judgement


@pytest.mark.parametrize(
    ("loss", "iou", "said"),
    [
        ([0.7, 0.3, 0.1], [0.1, 0.5, 0.9], None),
        ([0.7], [0.4], None),
        ([0.7, 0.72, 0.71], [0.4, 0.4, 0.4], "the loss did not fall (0.7 in the first"),
        ([0.9, 900.0], [0.4, 0.4], "the loss ended at 900"),
        ([1.0, 0.1, 0.5], [0.4, 0.6, 0.4], "the loss rose again from 0.1 to 0.5"),
        ([0.6, 0.2], [0.0, 0.01], "hardly a nucleus is marked"),
    ],
)
def test_a_training_that_did_not_learn_is_said(loss, iou, said):
    warnings = judge_training(pd.DataFrame({"loss": loss, "iou": iou}))
    assert len(warnings) == (said is not None)
    assert all(said in warning for warning in warnings)
