import json

import keras
import numpy as np
import pandas as pd
import pytest

from helpers.network.prediction import load_network
from helpers.network.saving import load_model, read_settings, read_state
from helpers.run_folder import RunFolder
from helpers.settings import generate_settings, load_settings, parse_settings
from helpers.training import loop as training
from helpers.training.batches import Batches
from helpers.training.devices import Device
from helpers.training.loop import TrainingError, fingerprint, train

DEVICE = Device("CPU", "tensorflow", "float32", "for tests")
PLATEAU = {"ReduceLROnPlateau": {"patience": 1, "factor": 0.5, "min_delta": 0.01}}
EARLY = {"EarlyStopping": {"patience": 3, "min_delta": 0.05, "restore_best_weights": True}}


def settings_for(
    callbacks=PLATEAU, *, enable=True, target="foreground", normalisation="none", **changes
):
    settings = generate_settings(1, base_filters=2, dropout=0.2, input_size=8)
    values = settings.model_dump(mode="json", by_alias=True)
    configuration = values["training_configuration"]
    configuration["call_backs_conf"] = callbacks
    configuration["enable_training"] = enable
    structure = values["model_structure"]
    structure["output_params"]["target"] = target
    for part in ("encoder_params", "bottle_neck_params", "decoder_params"):
        structure[part]["general_conv_params"]["normalisation"] = normalisation
    configuration["training_parameters"] |= {"epoch_num": 4, "batch_size": 4} | changes
    return parse_settings(json.dumps(values))


def some_set(n, seed):
    rng = np.random.default_rng(seed)
    labels = [
        np.kron(rng.integers(0, 2, (2, 2)), np.ones((5, 5), int)).astype(np.int32) for _ in range(n)
    ]
    images = [np.uint8(60 + 120 * x + rng.integers(0, 60, x.shape)) for x in labels]
    return images, labels


TRAIN, VALIDATION = some_set(4, seed=0), some_set(3, seed=1)


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


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
        augmentation=augmentation,
    )  # fmt: skip
    run = RunFolder(tmp_path_factory.mktemp("whole") / "run")
    start(run, settings)
    return settings, run


def start(run, settings, data_key="these images", device=DEVICE, validation=VALIDATION, **more):
    return train(run, settings, TRAIN, validation, data_key=data_key, device=device, **more)


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


def test_network_loads_without_custom_objects_and_predicts(run):
    start(run, settings_for({}, epoch_num=1, loss="binary_crossentropy_dice"))
    assert keras.saving.load_model(run.file("checkpoint.keras")).compiled
    assert load_network(run.file("network.keras")).predict(TRAIN[0][0]).shape == (10, 10)


@pytest.mark.parametrize(
    ("uninterrupted", "epoch", "batch"),
    [
        (("foreground", "none"), 1, 0),
        (("foreground", "none"), 3, 2),
        (("flow", "batch"), 3, 2),
    ],
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


def test_learning_rate_falls_and_stays_low_after_a_break(run, monkeypatch):
    settings = settings_for(
        {"ReduceLROnPlateau": {"patience": 1, "factor": 0.5, "min_delta": 10.0}}, epoch_num=4
    )
    revive = kill_at(monkeypatch, 2, 0)
    with pytest.raises((Killed, Exception)):
        start(run, settings)
    revive()
    rates = start(run, settings)["learning_rate"]
    assert rates.is_monotonic_decreasing
    assert rates.iloc[-1] == pytest.approx(rates.iloc[0] / 4)


def test_interruption_after_the_last_epoch_loses_nothing(run, tmp_path, monkeypatch):
    callbacks = {"EarlyStopping": {"patience": 1, "min_delta": 10.0, "restore_best_weights": True}}
    settings, whole = settings_for(callbacks), RunFolder(tmp_path / "whole")
    start(whole, settings)
    finish = training.Checkpoint.finish

    def die(self):
        raise Killed

    monkeypatch.setattr(training.Checkpoint, "finish", die)
    with pytest.raises(Killed):
        start(run, settings)
    monkeypatch.setattr(training.Checkpoint, "finish", finish)
    assert len(start(run, settings)) == len(whole.read_csv("history.csv")) == 2
    assert_same_result(run, whole)


def test_other_settings_or_images_are_refused(finished):
    run, _ = finished
    with pytest.raises(TrainingError, match="trained with other settings"):
        start(run, settings_for(epoch_num=2, learning_rate=0.01))
    with pytest.raises(TrainingError, match="other images or another split"):
        start(run, settings_for(epoch_num=2), data_key="others")


@pytest.mark.parametrize("enable", [True, False], ids=["finished", "training disabled"])
def test_saved_network_is_taken_without_training(finished, monkeypatch, enable):
    run, history = finished
    monkeypatch.setattr(keras.Model, "fit", lambda *a, **k: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(start(run, settings_for(epoch_num=2, enable=enable)), history)


def test_more_epochs_go_on(run, tmp_path):
    whole = RunFolder(tmp_path / "whole")
    start(whole, settings_for(epoch_num=3))
    start(run, settings_for(epoch_num=1))
    start(run, settings_for(epoch_num=3))
    assert_same_result(run, whole)


def test_training_goes_on_in_the_precision_of_todays_device(run):
    start(run, settings_for(epoch_num=1))
    before = load_model(run.file("checkpoint.keras"))
    device = DEVICE._replace(precision="mixed_bfloat16")
    model, state = training.start_or_resume(run, settings_for(epoch_num=2), "these images", device)
    assert {layer.dtype_policy.name for layer in model.layers[1:-1]} == {"mixed_bfloat16"}
    assert len(state["history"]) == 1
    for ours, theirs in [
        (model.weights, before.weights),
        (model.optimizer.variables, before.optimizer.variables),
    ]:
        for one, two in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, two)
    assert len(start(run, settings_for(epoch_num=2), device=device)) == 2


def test_a_callback_that_waits_for_what_is_never_measured_is_refused(run):
    message = r"ReduceLROnPlateau monitors 'val_loss'.*only loss, iou; .*validation images"
    with pytest.raises(TrainingError, match=message):
        start(run, settings_for(), validation=None)
    watching_loss = {"ReduceLROnPlateau": {"monitor": "loss", "patience": 1}}
    assert len(start(run, settings_for(watching_loss, epoch_num=1), validation=None)) == 1


def test_cosine_falls_from_the_rate_to_nearly_nothing(run):
    settings = settings_for({}, epoch_num=4, learning_rate_schedule="cosine")
    start(run, settings.with_training(epoch_num=4, steps_per_epoch=1))
    rates = run.read_csv("history.csv")["learning_rate"]
    np.testing.assert_allclose(rates, 0.001 * np.array([1, 0.853553, 0.5, 0.146447]), rtol=1e-4)


def test_cosine_begins_anew_at_each_restart_that_is_reached(run):
    settings = settings_for({}, learning_rate_schedule="cosine")
    settings = settings.with_training(
        epoch_num=5, steps_per_epoch=1, learning_rate_restarts=(2, 4, 9)
    )
    start(run, settings)
    rates = run.read_csv("history.csv")["learning_rate"]
    np.testing.assert_allclose(rates, 0.001 * np.array([1, 0.5, 1, 0.5, 1]), rtol=1e-4)


def test_a_finished_training_goes_on_from_a_restart(run, tmp_path):
    short = settings_for({}, epoch_num=2, learning_rate_schedule="cosine")
    longer = short.with_training(epoch_num=4, learning_rate_restarts=(2,))
    start(run, short)
    in_two_parts = start(run, longer)
    in_one = start(RunFolder(tmp_path / "in_one"), longer)
    assert len(in_two_parts) == 4
    pd.testing.assert_frame_equal(
        in_two_parts.drop(columns="seconds"), in_one.drop(columns="seconds")
    )


def test_other_postprocessing_is_no_other_training(run):
    settings = settings_for(epoch_num=1)
    history = start(run, settings)
    again = start(run, settings.with_postprocessing(threshold=0.3))
    pd.testing.assert_frame_equal(again, history)
    assert read_settings(run.file("network.keras")).postprocessing.threshold == 0.3


def test_early_stopping_ends_the_run_for_good(run):
    callbacks = {"EarlyStopping": {"patience": 1, "min_delta": 10.0}}
    assert len(start(run, settings_for(callbacks, epoch_num=6))) == 2
    state = read_state(run.file("checkpoint.keras"))
    assert state["finished"]
    assert state["stopped_early"]
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
    with pytest.raises(FileNotFoundError, match=r"network\.keras is missing.*04 · Training"):
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


def test_arguments_that_keras_refuses_are_named(run):
    with pytest.raises(TrainingError, match=r"call_backs_conf\.ReduceLROnPlateau: .*factor"):
        start(run, settings_for({"ReduceLROnPlateau": {"factor": 2.0}}))


def test_fingerprint_tells_splits_apart():
    prints = {
        fingerprint(*sides)
        for sides in ((["a", "b"], ["c"]), (["a"], ["b", "c"]), (["a", "b"], []))
    }
    assert len(prints) == 3
    assert fingerprint(["a"], ["b"]) == fingerprint(("a",), ("b",))


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


def test_an_interrupted_finetuning_goes_on_where_it_was(finished, run):
    teacher, _ = finished
    start(run, settings_for(epoch_num=1), start_from=teacher)
    start(run, settings_for(epoch_num=2), start_from=teacher)
    straight = RunFolder(run.path.parent / "straight")
    start(straight, settings_for(epoch_num=2), start_from=teacher)
    one, other = (load_model(r.file("network.keras")).get_weights() for r in (run, straight))
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"target": "flow"}, "output_params"), ({"normalisation": "batch"}, "encoder_params")],
)
def test_a_network_of_another_build_is_no_beginning(finished, run, change, named):
    with pytest.raises(TrainingError, match=f"model_structure.{named} differs; take the settings"):
        start(run, settings_for(**change), start_from=finished[0])
    assert not run.path.exists()
