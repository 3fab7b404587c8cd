import inspect
import json
from typing import get_args

import jsonschema
import pytest

from helpers.architecture import Activation, Initializer
from helpers.run_folder import ROOT, resolve
from helpers.settings import (
    CALLBACKS,
    Settings,
    SettingsError,
    generate_settings,
    load_settings,
    parse_settings,
    write_schema,
    write_settings,
)

ORIGINAL = "settings/original.json"


@pytest.fixture
def values():
    return json.loads(resolve(ORIGINAL).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def schema():
    return json.loads(resolve("settings/settings.schema.json").read_text(encoding="utf-8"))


def change(values, path, value):
    """Set the value at a dotted path; a new last key is added."""
    *parents, key = path.split(".")
    for parent in parents:
        values = values[parent]
    values[key] = value


def refusal(values):
    with pytest.raises(SettingsError) as caught:
        parse_settings(
            values if isinstance(values, str) else json.dumps(values), source="mine.json"
        )
    return str(caught.value)


CONF = "training_configuration"
PARAMS = f"{CONF}.training_parameters"
ENCODER = "model_structure.encoder_params"
DECODER = "model_structure.decoder_params"


def test_original_file_is_the_original_programs_own():
    theirs = ROOT.parent / "shared" / "origin" / "settings.json"
    if not theirs.is_file():
        pytest.skip("the original settings file is not at ../shared/origin")
    assert resolve(ORIGINAL).read_bytes() == theirs.read_bytes()


def test_original_keeps_its_meaning():
    settings = load_settings(ORIGINAL)
    structure = settings.model_structure
    assert settings.data_set_location == "U_NET"
    assert settings.training_configuration.enable_training
    assert settings.training.epoch_num == 25
    assert settings.training.batch_size == 16
    assert settings.training.validation_split_ratio == 0.025
    assert [b.filter_size for _, b in structure.encoder_blocks] == [16, 32, 64, 128, 256]
    assert [b.dropout_rate for _, b in structure.encoder_blocks] == [0.1, 0.1, 0.2, 0.2, 0.3]
    assert structure.bottle_neck_params.changing_conv_params.filter_size == 512
    assert [b.filter_size for _, b in structure.decoder_blocks] == [256, 128, 64, 32, 16]
    skips = [b.concatenate_layer for _, b in structure.decoder_blocks]
    assert skips == [f"encoder_block_{k}" for k in (5, 4, 3, 2, 1)]
    assert structure.size_multiple == (32, 32)


def test_defaults_of_what_the_original_file_does_not_say():
    settings = load_settings(ORIGINAL)
    size = settings.model_structure.input_params
    assert (size.height, size.width, size.channels) == (256, 256, 3)
    assert settings.training.loss == "binary_crossentropy"
    assert settings.training.learning_rate == 0.001
    assert settings.training.augmentation.flips == "all"
    assert settings.model_structure.output_params.target == "foreground"
    augmentation, decoding = settings.training.augmentation, settings.postprocessing
    assert (augmentation.turns, augmentation.scale) == (False, 1)
    assert (augmentation.blur, augmentation.noise) == (0, 0)
    for part in ("encoder_params", "bottle_neck_params", "decoder_params"):
        convolutions = getattr(settings.model_structure, part).general_conv_params
        assert convolutions.normalisation == "none"
    assert (decoding.threshold, decoding.seed_threshold, decoding.min_area_px) == (0.5, 0.5, 0)
    assert decoding.test_time_augmentation == "none"


NEW_KEYS = [
    (f"{PARAMS}.augmentation", {"turns": True, "scale": 1.5, "blur": 2.0, "noise": 0.1}),
    (f"{PARAMS}.augmentation", {"scale": 4.0, "blur": 10.0, "noise": 1.0}),
    (f"{PARAMS}.augmentation", {"scale": 1, "blur": 0, "noise": 0}),
    (f"{ENCODER}.general_conv_params.normalisation", "batch"),
    (f"{DECODER}.general_conv_params.normalisation", "none"),
    *(
        ("model_structure.output_params", {"target": target})
        for target in ("foreground", "interior", "boundary", "distance", "flow")
    ),
    ("postprocessing", {"threshold": 0.35, "seed_threshold": 0.7, "min_area_px": 20}),
    ("postprocessing", {"test_time_augmentation": "flips"}),
    ("postprocessing", {"test_time_augmentation": "scales"}),
]


@pytest.mark.parametrize(("path", "value"), NEW_KEYS)
def test_newer_keys_are_read_and_written(values, schema, tmp_path, path, value):
    change(values, path, value)
    jsonschema.validate(values, schema)
    settings = parse_settings(json.dumps(values))
    written = json.loads(write_settings(settings, tmp_path / "copy.json").read_text())
    for key in path.split("."):
        written = written[key]
    assert written == (written | value if isinstance(value, dict) else value)
    assert load_settings(tmp_path / "copy.json") == settings


@pytest.mark.parametrize("turns", [True, False])
def test_only_square_crops_are_turned(values, turns):
    change(values, f"{PARAMS}.augmentation", {"turns": turns})
    change(values, "model_structure.input_params", {"height": 128, "width": 256})
    if not turns:
        assert not parse_settings(json.dumps(values)).training.augmentation.turns
        return
    message = refusal(values)
    for part in ("augmentation.turns needs square crops", "128x256", "set turns to false"):
        assert part in message
    change(values, "model_structure.input_params", {"height": 128, "width": 128})
    assert parse_settings(json.dumps(values)).training.augmentation.turns


@pytest.mark.parametrize("name", ["original", "quick", "experiment"])
def test_written_settings_are_read_back_the_same(name, tmp_path):
    settings = load_settings(f"settings/{name}.json")
    file = write_settings(settings, tmp_path / "deeper" / "copy.json")
    assert load_settings(file) == settings
    assert [p.name for p in file.parent.iterdir()] == ["copy.json"]


def test_generated_with_five_blocks_is_the_originals_network():
    structure = generate_settings(5).model_structure
    assert structure == load_settings(ORIGINAL).model_structure


@pytest.mark.parametrize("n_blocks", range(1, 8))
def test_generator_takes_any_number_of_blocks(n_blocks):
    settings = generate_settings(n_blocks, base_filters=4, dropout=0.25, seed=3)
    blocks = settings.model_structure.encoder_blocks
    assert [b.filter_size for _, b in blocks] == [4 * 2**k for k in range(n_blocks)]
    assert {b.dropout_rate for _, b in blocks} == {0.25}
    assert settings.model_structure.size_multiple == (2**n_blocks,) * 2
    assert settings.training.seed == 3


@pytest.mark.parametrize("n_blocks", [0, 8])
def test_generator_refuses_too_few_or_too_many_blocks(n_blocks):
    with pytest.raises(SettingsError, match=f"{n_blocks} encoder blocks; allowed are 1 to 7"):
        generate_settings(n_blocks)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("data_set_locatoin", "x", ["unknown key", "did you mean 'data_set_location'"]),
        (f"{ENCODER}.general_conv_params.kernel_sise", [3, 3], ["did you mean 'kernel_size'"]),
        (
            f"{ENCODER}.changing_conv_params.encoder_block_1.dropuot_rate",
            0.1,
            ["encoder_block_1", "did you mean 'dropout_rate'"],
        ),
        (f"{PARAMS}.epochs", 3, [PARAMS, "unknown key 'epochs'", "epoch_num"]),
        (
            f"{DECODER}.changing_conv_params.decoder_block_2.concatenate_layer",
            "encoder_block_9",
            ["decoder_block_2", "'encoder_block_9' is no encoder block", "encoder_block_4"],
        ),
        (
            f"{DECODER}.changing_conv_params.decoder_block_2.concatenate_layer",
            "encoder_block_3",
            ["decoder_block_2", "32x32", "64x64", "use 'encoder_block_4'"],
        ),
        (
            f"{DECODER}.general_transpose_conv_params.strides",
            [3, 3],
            ["decoder_block_1", "do not undo the pooling [2, 2]", "set strides to [2, 2]"],
        ),
        (
            f"{ENCODER}.changing_conv_params.encoder_block_1.dropout_rate",
            1.5,
            ["encoder_block_1", "1.5"],
        ),
        (f"{ENCODER}.changing_conv_params.encoder_block_1.dropout_rate", -0.1, ["-0.1"]),
        (
            "model_structure.bottle_neck_params.changing_conv_params.dropout_rate",
            1.0,
            ["less than 1"],
        ),
        (
            f"{ENCODER}.general_conv_params.activation",
            "rellu",
            ["activation (='rellu')", "did you mean 'relu'"],
        ),
        (
            f"{ENCODER}.general_conv_params.kernel_initializer",
            "he_norma",
            ["did you mean 'he_normal'"],
        ),
        (f"{ENCODER}.general_conv_params.kernel_size", [3], ["kernel_size"]),
        (f"{ENCODER}.general_conv_params.kernel_size", [0, 3], ["kernel_size", "0"]),
        (f"{ENCODER}.changing_conv_params.encoder_block_1.filter_size", 0, ["filter_size (=0)"]),
        (
            f"{ENCODER}.changing_conv_params.block_6",
            {"dropout_rate": 0.1, "filter_size": 2},
            ["'block_6'"],
        ),
        (
            f"{ENCODER}.changing_conv_params.encoder_block_7",
            {"dropout_rate": 0.1, "filter_size": 2},
            ["'encoder_block_6' is missing"],
        ),
        (
            "model_structure.input_params",
            {"height": 250},
            ["height (=250)", "multiple of 32", "224 or 256"],
        ),
        (f"{PARAMS}.epoch_num", "25", ["epoch_num (='25')"]),
        (f"{PARAMS}.epoch_num", True, ["epoch_num"]),
        (f"{PARAMS}.epoch_num", 2.5, ["epoch_num (=2.5)"]),
        (f"{PARAMS}.batch_size", 0, ["batch_size (=0)"]),
        (f"{PARAMS}.validation_split_ratio", 1.0, ["validation_split_ratio (=1.0)"]),
        (f"{PARAMS}.loss", "dise", ["did you mean 'dice'"]),
        (f"{PARAMS}.augmentation", {"turn": True}, ["unknown key 'turn'", "did you mean 'turns'"]),
        (f"{PARAMS}.augmentation", {"turns": 1}, ["augmentation.turns (=1)"]),
        (f"{PARAMS}.augmentation", {"scale": 0.5}, ["augmentation.scale (=0.5)", "equal to 1"]),
        (f"{PARAMS}.augmentation", {"scale": 4.5}, ["augmentation.scale (=4.5)", "equal to 4"]),
        (f"{PARAMS}.augmentation", {"blur": -1.0}, ["augmentation.blur (=-1.0)", "equal to 0"]),
        (f"{PARAMS}.augmentation", {"blur": 11.0}, ["augmentation.blur (=11.0)", "equal to 10"]),
        (f"{PARAMS}.augmentation", {"noise": 1.5}, ["augmentation.noise (=1.5)", "equal to 1"]),
        (
            f"{ENCODER}.general_conv_params.normalisation",
            "bach",
            ["normalisation (='bach')", "did you mean 'batch'"],
        ),
        (
            "model_structure.output_params",
            {"target": "flows"},
            ["target (='flows')", "did you mean 'flow'"],
        ),
        ("postprocessing", {"treshold": 0.4}, ["postprocessing", "did you mean 'threshold'"]),
        ("postprocessing", {"threshold": 0.0}, ["postprocessing.threshold (=0.0)", "than 0"]),
        ("postprocessing", {"threshold": 1.0}, ["postprocessing.threshold (=1.0)", "than 1"]),
        ("postprocessing", {"seed_threshold": 1.5}, ["seed_threshold (=1.5)", "less than 1"]),
        ("postprocessing", {"min_area_px": -1}, ["min_area_px (=-1)", "equal to 0"]),
        ("postprocessing", {"min_area_px": 2.5}, ["min_area_px (=2.5)"]),
        (
            "postprocessing",
            {"test_time_augmentation": "flip"},
            ["did you mean 'flips'"],
        ),
        (f"{CONF}.enable_training", 1, ["enable_training (=1)"]),
        (
            f"{CONF}.call_backs_conf.EarlyStoping",
            {},
            ["'EarlyStoping' is not allowed", "did you mean 'EarlyStopping'"],
        ),
        (f"{CONF}.call_backs_conf.LambdaCallback", {}, ["'LambdaCallback' is not allowed"]),
        (f"{CONF}.call_backs_conf.EarlyStopping", {"patiense": 3}, ["did you mean 'patience'"]),
        (
            f"{CONF}.call_backs_conf.CSVLogger",
            {"filename": "../log.csv"},
            ["must stay inside the run"],
        ),
        (
            f"{CONF}.call_backs_conf.CSVLogger",
            {"filename": "/elsewhere/log.csv"},
            ["must stay inside the run"],
        ),
        (f"{CONF}.call_backs_conf.EarlyStopping", {"patience": [1]}, ["patience"]),
    ],
)
def test_what_cannot_be_built_is_refused(values, path, value, expected):
    change(values, path, value)
    message = refusal(values)
    assert message.startswith("mine.json: ")
    for part in expected:
        assert part in message
    assert "pydantic" not in message


def test_missing_encoder_block_is_named(values):
    del values["model_structure"]["encoder_params"]["changing_conv_params"]["encoder_block_5"]
    message = refusal(values)
    assert "decoder_block_1" in message
    assert "encoder_block_4" in message


def test_too_few_decoder_blocks_do_not_undo_the_poolings(values):
    del values["model_structure"]["decoder_params"]["changing_conv_params"]["decoder_block_5"]
    assert "do not undo 5 poolings by [2, 2]; use 5 decoder blocks" in refusal(values)


def test_missing_key_is_named(values):
    del values["training_configuration"]["training_parameters"]["epoch_num"]
    assert f"{PARAMS}.epoch_num: is missing; add it" in refusal(values)


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", '{"a": 1,}', "epochs = 3"])
def test_not_json_is_refused_with_its_place(text):
    assert "not JSON at line 1, column" in refusal(text)


@pytest.mark.parametrize("text", ["[]", "null", "3", '"text"'])
def test_json_that_is_no_object_is_refused(text):
    assert refusal(text).startswith("mine.json: ")


def test_repeated_key_is_refused():
    text = resolve(ORIGINAL).read_text(encoding="utf-8")
    text = text.replace('"epoch_num"', '"epoch_num": 3, "epoch_num"')
    assert "'epoch_num' stands twice" in refusal(text)


def test_all_faults_are_said_at_once(values):
    change(values, f"{PARAMS}.epoch_num", 0)
    change(values, f"{PARAMS}.batch_size", 0)
    assert len(refusal(values).splitlines()) == 2


def test_missing_file_names_those_that_there_are():
    with pytest.raises(FileNotFoundError, match=r"settings/original\.json, settings/quick\.json"):
        load_settings("settings/orignal.json")


def test_with_training_changes_and_checks():
    settings = generate_settings(2)
    assert settings.with_training(seed=7, epoch_num=None).training.seed == 7
    assert settings.with_training(seed=None) == settings
    with pytest.raises(SettingsError, match="unknown key 'sead'; did you mean 'seed'"):
        settings.with_training(sead=3)


def test_with_postprocessing_changes_and_checks():
    settings = generate_settings(2)
    changed = settings.with_postprocessing(threshold=0.4).with_postprocessing(min_area_px=7)
    assert (changed.postprocessing.threshold, changed.postprocessing.min_area_px) == (0.4, 7)
    assert changed.model_structure == settings.model_structure
    assert changed.training_configuration == settings.training_configuration
    assert settings.with_postprocessing() == settings
    with pytest.raises(SettingsError, match="unknown key 'treshold'; did you mean 'threshold'"):
        settings.with_postprocessing(treshold=0.4)
    with pytest.raises(SettingsError, match=r"threshold \(=1.5\)"):
        settings.with_postprocessing(threshold=1.5)


def test_callback_arguments_are_those_of_keras():
    import keras

    for name, arguments in CALLBACKS.items():
        signature = inspect.signature(getattr(keras.callbacks, name))
        known = [n for n, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD]
        assert list(arguments) == known, name


def test_activations_and_initialisers_exist_in_keras():
    import keras

    for activation in get_args(Activation):
        assert callable(keras.activations.get(activation))
    for initializer in get_args(Initializer):
        assert callable(keras.initializers.get(initializer))


def test_published_schema_is_that_of_the_settings(schema, tmp_path):
    written = json.loads(write_schema(tmp_path / "schema.json").read_text(encoding="utf-8"))
    assert written == schema
    jsonschema.validators.validator_for(schema).check_schema(schema)


@pytest.mark.parametrize("name", ["original", "quick", "experiment"])
def test_schema_accepts_the_shipped_files(schema, name):
    jsonschema.validate(json.loads(resolve(f"settings/{name}.json").read_text()), schema)


def test_schema_accepts_what_is_generated(schema):
    settings = generate_settings(2)
    jsonschema.validate(settings.model_dump(mode="json", by_alias=True), schema)
    assert Settings.model_validate_json(settings.model_dump_json(by_alias=True)) == settings


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data_set_locatoin", "x"),
        (f"{PARAMS}.epoch_num", "25"),
        (f"{PARAMS}.validation_split_ratio", 1.0),
        (f"{ENCODER}.general_conv_params.activation", "rellu"),
        (f"{ENCODER}.changing_conv_params.encoder_block_1.dropout_rate", 1.5),
        (f"{ENCODER}.general_conv_params.kernel_size", [3]),
        (f"{ENCODER}.general_conv_params.normalisation", "layer"),
        (f"{PARAMS}.augmentation", {"scale": 0.5}),
        ("model_structure.output_params", {"target": "edges"}),
        ("postprocessing", {"threshold": 1.0}),
    ],
)
def test_schema_refuses_what_the_settings_refuse(schema, values, path, value):
    change(values, path, value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema)
    assert refusal(values)


def test_cosine_and_plateau_cannot_both_set_the_learning_rate():
    text = resolve("settings/original.json").read_text(encoding="utf-8")
    values = json.loads(text)
    parameters = values["training_configuration"]["training_parameters"]
    parameters["learning_rate_schedule"] = "cosine"
    with pytest.raises(SettingsError, match="ReduceLROnPlateau does; remove one of them"):
        parse_settings(json.dumps(values))
    del values["training_configuration"]["call_backs_conf"]["ReduceLROnPlateau"]
    assert parse_settings(json.dumps(values)).training.learning_rate_schedule == "cosine"


@pytest.mark.parametrize(
    ("schedule", "restarts", "message"),
    [
        ("constant", [5], r"restarts \(=\[5\]\).*schedule is 'constant'; set it to \"cosine\""),
        ("cosine", [9, 5], r"restarts \(=\[9, 5\]\) must rise.*write \[5, 9\]"),
        ("cosine", [5, 5], r"must rise, each number of epochs once; write \[5\]"),
        ("cosine", [0], "learning_rate_restarts"),
    ],
)
def test_restarts_that_mean_nothing_are_refused(schedule, restarts, message):
    values = json.loads(resolve("settings/default.json").read_text(encoding="utf-8"))
    parameters = values["training_configuration"]["training_parameters"]
    values["training_configuration"]["call_backs_conf"] = {}
    parameters |= {"learning_rate_schedule": schedule, "learning_rate_restarts": restarts}
    with pytest.raises(SettingsError, match=message):
        parse_settings(json.dumps(values))
