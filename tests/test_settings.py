"""Settings files: what they mean, what is refused and how, overrides and generated ones."""

import inspect
import json
from typing import get_args

import jsonschema
import pytest

from helpers.architecture import Activation, Initializer
from helpers.run_folder import ROOT
from helpers.settings import (
    CALLBACKS,
    SettingsError,
    generate_settings,
    load_settings,
    parse_settings,
    write_schema,
    write_settings,
)

ORIGINAL = ROOT / "settings" / "original.json"
SCHEMA = json.loads((ROOT / "settings" / "settings.schema.json").read_text(encoding="utf-8"))
SHIPPED = sorted(p for p in (ROOT / "settings").glob("*.json") if "schema" not in p.name)


@pytest.fixture
def values():
    return json.loads(ORIGINAL.read_text(encoding="utf-8"))


def change(values, path, value):
    """Set the value at a dotted path; a new last key is added."""
    *parents, key = path.split(".")
    for parent in parents:
        values = values[parent]
    values[key] = value


def refusal(values):
    text = values if isinstance(values, str) else json.dumps(values)
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, source="mine.json")
    return str(caught.value)


CONF = "training_configuration"
CALLS = f"{CONF}.call_backs_conf"
PARAMS = f"{CONF}.training_parameters"
ENCODER = "model_structure.encoder_params"
BLOCK = f"{ENCODER}.changing_conv_params.encoder_block_1"
DECODER = "model_structure.decoder_params"
SKIP = f"{DECODER}.changing_conv_params.decoder_block_2.concatenate_layer"


# ---------------------------------------------------------------- what a file means


def test_original_file_is_the_original_programs_own():
    theirs = ROOT.parent / "shared" / "origin" / "settings.json"
    if not theirs.is_file():
        pytest.skip("the original settings file is not at ../shared/origin")
    assert ORIGINAL.read_bytes() == theirs.read_bytes()


def test_original_keeps_its_meaning():
    settings = load_settings(ORIGINAL)
    structure, training = settings.model_structure, settings.training
    assert (training.epoch_num, training.batch_size, training.loss) == (
        25, 16, "binary_crossentropy",
    )  # fmt: skip
    assert training.learning_rate == 0.001 and training.augmentation.flips == "all"
    assert [b.filter_size for _, b in structure.encoder_blocks] == [16, 32, 64, 128, 256]
    assert [b.dropout_rate for _, b in structure.encoder_blocks] == [0.1, 0.1, 0.2, 0.2, 0.3]
    skips = [b.concatenate_layer for _, b in structure.decoder_blocks]
    assert skips == [f"encoder_block_{k}" for k in (5, 4, 3, 2, 1)]
    assert structure.size_multiple == (32, 32)
    assert structure.output_params.target == "foreground"
    assert settings.postprocessing.test_time_augmentation == "none"
    assert generate_settings(5).model_structure == structure


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_files_load_and_are_written_and_read_the_same(file, tmp_path):
    settings = load_settings(file)
    copy = write_settings(settings, tmp_path / "deeper" / "copy.json")
    assert load_settings(copy) == settings
    assert [p.name for p in copy.parent.iterdir()] == ["copy.json"]
    jsonschema.validate(json.loads(copy.read_text(encoding="utf-8")), SCHEMA)


def test_published_schema_is_that_of_the_settings(tmp_path):
    written = json.loads(write_schema(tmp_path / "schema.json").read_text(encoding="utf-8"))
    assert written == SCHEMA
    jsonschema.validators.validator_for(SCHEMA).check_schema(SCHEMA)


def test_names_are_those_of_keras():
    import keras

    for name, arguments in CALLBACKS.items():
        signature = inspect.signature(getattr(keras.callbacks, name)).parameters.values()
        assert set(arguments) == {p.name for p in signature if p.kind is not p.VAR_KEYWORD}, name
    for activation in get_args(Activation):
        assert callable(keras.activations.get(activation))
    for initializer in get_args(Initializer):
        assert callable(keras.initializers.get(initializer))


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("data_set_locatoin", "x", ["unknown key", "did you mean 'data_set_location'"]),
        (f"{BLOCK}.dropuot_rate", 0.1, ["encoder_block_1", "did you mean 'dropout_rate'"]),
        (SKIP, "encoder_block_9", ["'encoder_block_9' is no encoder block", "encoder_block_4"]),
        (SKIP, "encoder_block_3", ["decoder_block_2", "32x32", "64x64", "use 'encoder_block_4'"]),
        (
            f"{DECODER}.general_transpose_conv_params.strides",
            [3, 3],
            ["decoder_block_1", "do not undo the pooling [2, 2]", "set strides to [2, 2]"],
        ),
        (f"{BLOCK}.dropout_rate", 1.5, ["encoder_block_1", "1.5"]),
        (f"{ENCODER}.general_conv_params.activation", "rellu", ["did you mean 'relu'"]),
        (f"{ENCODER}.general_conv_params.kernel_size", [3], ["kernel_size"]),
        (f"{ENCODER}.changing_conv_params.encoder_block_7", {"dropout_rate": 0, "filter_size": 2},
         ["'encoder_block_6' is missing"]),
        ("model_structure.input_params", {"height": 250},
         ["height (=250)", "multiple of 32", "224 or 256"]),
        (f"{PARAMS}.epoch_num", "25", ["epoch_num (='25')"]),
        (f"{PARAMS}.loss", "dise", ["did you mean 'dice'"]),
        (f"{PARAMS}.augmentation", {"scale": 4.5}, ["augmentation.scale (=4.5)", "equal to 4"]),
        ("postprocessing", {"threshold": 0.0}, ["postprocessing.threshold (=0.0)", "than 0"]),
        (f"{CALLS}.EarlyStoping", {}, ["'EarlyStoping' is not allowed", "'EarlyStopping'"]),
        (f"{CALLS}.EarlyStopping", {"patiense": 3}, ["did you mean 'patience'"]),
        (f"{CALLS}.EarlyStopping", {"patience": "3"}, ["EarlyStopping.patience (='3')", "integer"]),
        (f"{CALLS}.ReduceLROnPlateau", {"factor": 2.0}, ["factor (=2.0)", "less than 1"]),
        (f"{CALLS}.ReduceLROnPlateau", {"mode": "least"}, ["'auto', 'min' or 'max'"]),
        (f"{CALLS}.CSVLogger", {"filename": "../log.csv"}, ["must stay inside the run"]),
        (f"{CALLS}.CSVLogger", {"filename": "split.csv"}, ["a name that a run needs for itself"]),
        (f"{CALLS}.ModelCheckpoint", {"filepath": "Network.keras"}, ["needs for itself"]),
        (f"{CALLS}.ModelCheckpoint", {"filepath": "masks/best.keras"}, ["needs for itself"]),
    ],
)  # fmt: skip
def test_what_cannot_be_built_or_trained_is_refused(values, path, value, expected):
    change(values, path, value)
    message = refusal(values)
    assert message.startswith("mine.json: ") and "pydantic" not in message
    if path in ("data_set_locatoin", f"{BLOCK}.dropout_rate"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(values, SCHEMA)
    for part in expected:
        assert part in message


def test_blocks_and_poolings_must_agree(values):
    del values["model_structure"]["decoder_params"]["changing_conv_params"]["decoder_block_5"]
    assert "do not undo 5 poolings by [2, 2]; use 5 decoder blocks" in refusal(values)
    del values["model_structure"]["encoder_params"]["changing_conv_params"]["encoder_block_5"]
    assert "decoder_block_1" in refusal(values) and "encoder_block_4" in refusal(values)


def test_a_missing_key_a_repeated_one_and_several_faults_are_named(values):
    change(values, f"{PARAMS}.batch_size", 0)
    del values["training_configuration"]["training_parameters"]["epoch_num"]
    assert f"{PARAMS}.epoch_num: is missing; add it" in refusal(values)
    assert len(refusal(values).splitlines()) == 2
    text = ORIGINAL.read_text(encoding="utf-8").replace(
        '"epoch_num"', '"epoch_num": 3, "epoch_num"'
    )
    assert "'epoch_num' stands twice" in refusal(text)


@pytest.mark.parametrize("text", ["", "{'a': 1}", "null"])
def test_what_is_no_settings_file_is_refused(text):
    assert refusal(text).startswith("mine.json: ")


def test_missing_file_names_those_that_there_are():
    with pytest.raises(FileNotFoundError, match=r"settings/original\.json, settings/quick\.json"):
        load_settings("settings/orignal.json")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"learning_rate_schedule": "cosine"}, "ReduceLROnPlateau does; remove one of them"),
        ({"learning_rate_restarts": [5]}, r"schedule is 'constant'; set it to \"cosine\""),
        ({"learning_rate_schedule": "cosine", "learning_rate_restarts": [9, 5]}, r"\[5, 9\]"),
    ],
)
def test_two_hands_on_the_learning_rate_are_refused(overrides, message):
    settings = load_settings(ORIGINAL)
    if len(overrides) == 2:
        settings = settings.without_callbacks()
    with pytest.raises(SettingsError, match=message):
        settings.with_overrides({"training": overrides})


def test_only_square_crops_are_turned():
    wide = load_settings(ORIGINAL).with_overrides({"model_structure.input_params.height": 128})
    with pytest.raises(SettingsError, match=r"needs square crops, input_params are 128x256"):
        wide.with_overrides({"augmentation.turns": True})


# ---------------------------------------------------------------- overrides


QUICK = load_settings("settings/quick.json")


def test_overrides_reach_every_part_of_the_file():
    settings = QUICK.with_overrides(
        {
            "training.learning_rate": 0.01,
            "augmentation": {"flips": "none"},
            "postprocessing.threshold": 0.4,
            "target": "flow",
            "callbacks": {"EarlyStopping": {"patience": 3}},
            "model_structure.input_params.channels": 1,
        }
    )
    training, structure = settings.training, settings.model_structure
    assert (training.learning_rate, training.augmentation.flips) == (0.01, "none")
    assert settings.postprocessing.threshold == 0.4
    assert (structure.output_params.target, structure.input_params.channels) == ("flow", 1)
    assert settings.training_configuration.call_backs_conf == {"EarlyStopping": {"patience": 3}}
    assert QUICK.with_overrides({}) == QUICK
    assert QUICK.with_training(seed=None) == QUICK


def test_overrides_build_the_network_by_the_rules_of_generated_settings():
    settings = QUICK.with_overrides({"blocks": 4, "filters": 4, "size": 64, "activation": "relu"})
    expected = generate_settings(4, base_filters=4, input_size=64).model_structure
    assert settings.model_structure.encoder_blocks == expected.encoder_blocks
    assert settings.model_structure.decoder_blocks == expected.decoder_blocks
    assert settings.model_structure.decoder_params.general_conv_params.activation == "relu"
    dropped = QUICK.with_overrides({"dropout": 0.5}).model_structure
    assert {block.dropout_rate for _, block in dropped.decoder_blocks} == {0.5}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"learning_rate": 1}, "'learning_rate'; did you mean 'training.learning_rate'"),
        ({"training.seed": float("nan")}, r"seed \(=nan\)"),
        ({"training": 3}, "should be an object"),
        ({"blocks": 9}, "9 encoder blocks; allowed are 1 to 7"),
        ({"blocks": 2.5}, r"blocks \(=2.5\) must be a whole number"),
        ({"size": 100}, "multiple of 8 .*try 96 or 104"),
    ],
)  # fmt: skip
def test_overrides_that_mean_nothing_are_refused(overrides, message):
    with pytest.raises(SettingsError, match=f"overrides: .*{message}"):
        QUICK.with_overrides(overrides)


def test_a_file_may_hold_only_what_differs_from_another(tmp_path):
    write_settings(QUICK, tmp_path / "base.json")
    file = tmp_path / "mine.json"
    file.write_text('{"based_on": "base.json", "training": {"seed": 7}, "blocks": 2}')
    assert load_settings(file) == QUICK.with_overrides({"training.seed": 7, "blocks": 2})
    file.write_text('{"based_on": "base.json", "sead": 7}')
    with pytest.raises(SettingsError, match=r"mine\.json: .*'sead'; did you mean 'training.seed'"):
        load_settings(file)
