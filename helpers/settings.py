"""The settings file: read, checked, written and generated; settings/README.md explains every key.

The format is the JSON of the original program, loaded verbatim. Keys that it did not have are
optional, each with a default under which an original file keeps its meaning.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from helpers.architecture import ModelStructure, Strict, nearest
from helpers.overrides import OverrideError, apply_overrides, list_names
from helpers.run_folder import MADE_BY, OTHER_FILES, ROOT, resolve, write_json
from helpers.targets.score import FEATURES

Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Letter = Annotated[str, Field(min_length=1, max_length=1)]
Real = float | int
MONITOR = {"monitor": str, "mode": Literal["auto", "min", "max"], "verbose": int}
CALLBACKS: dict[str, dict[str, Any]] = {
    "CSVLogger": {"filename": str, "separator": Letter, "append": bool},
    "EarlyStopping": {
        **MONITOR, "min_delta": Real, "patience": Count, "baseline": Real | None,
        "restore_best_weights": bool, "start_from_epoch": Count,
    },
    "ModelCheckpoint": {
        **MONITOR, "filepath": str, "save_best_only": bool, "save_weights_only": bool,
        "save_freq": Literal["epoch"] | AtLeastOne, "initial_value_threshold": Real | None,
    },
    "ReduceLROnPlateau": {
        **MONITOR, "min_delta": Real, "patience": Count, "cooldown": Count,
        "factor": Annotated[Real, Field(gt=0, lt=1)], "min_lr": Annotated[Real, Field(ge=0)],
    },
    "TerminateOnNaN": {"raise_error": bool},
}  # fmt: skip
"""Keras callbacks that a settings file may name, with the types of their arguments; none that runs
code or talks to other machines (LambdaCallback, RemoteMonitor), so that a file is data only."""

Scalar = bool | int | float | str | None
OpenRatio = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Inside = Annotated[float, Field(gt=0, lt=1)]


class SettingsError(ValueError):
    """A settings file that cannot be used: where, the value, what is allowed, what to do."""


class Augmentation(Strict):
    """How training images are varied; validation and prediction see them as they are."""

    flips: Literal["all", "random", "none"] = "all"
    crop: Literal["centre", "random"] = "centre"
    gray: Share = 0.0
    invert: Share = 0.0
    intensity: OpenRatio = 0.0
    stain: OpenRatio = 0.0
    turns: bool = False
    scale: Annotated[float, Field(ge=1, le=4)] = 1.0
    diameters_px: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = None
    blur: Annotated[float, Field(ge=0, le=10)] = 0.0
    noise: Share = 0.0
    gamma: Annotated[float, Field(ge=1, le=4)] = 1.0
    dyes: OpenRatio = 0.0
    nuclei: Share = 0.0
    paste: Share = 0.0


class TrainingParameters(Strict):
    """How long, on what and how fast the network learns.

    With `balance`, an image of a modality of n images is shown with the weight n ** -balance; with
    `crowding`, one of n nuclei with n ** crowding besides.
    """

    epoch_num: AtLeastOne
    batch_size: AtLeastOne
    validation_split_ratio: OpenRatio
    test_split_ratio: OpenRatio = 0.2
    steps_per_epoch: AtLeastOne | None = None
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.001
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    learning_rate_restarts: tuple[AtLeastOne, ...] = ()
    loss: Literal[
        "binary_crossentropy", "binary_focal_crossentropy", "dice", "binary_crossentropy_dice"
    ] = "binary_crossentropy"
    augmentation: Augmentation = Augmentation()
    balance: Share = 0.0
    crowding: Share = 0.0
    weight_average: OpenRatio = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"

    @model_validator(mode="after")
    def _restarts_follow_each_other(self):
        restarts = list(self.learning_rate_restarts)
        if restarts and self.learning_rate_schedule != "cosine":
            raise ValueError(
                f"learning_rate_restarts (={restarts}) restart a falling rate, but "
                f'learning_rate_schedule is {self.learning_rate_schedule!r}; set it to "cosine" or '
                "remove the restarts"
            )
        if restarts != sorted(set(restarts)):
            raise ValueError(
                f"learning_rate_restarts (={restarts}) must rise, each number of epochs once; "
                f"write {sorted(set(restarts))}"
            )
        return self


class TrainingConfiguration(Strict):
    """Whether to train, and how; `enable_training: false` loads the run's saved network."""

    enable_training: bool
    training_parameters: TrainingParameters
    call_backs_conf: dict[str, dict[str, Scalar]] = Field(default_factory=dict)

    @field_validator("call_backs_conf")
    @classmethod
    def _callbacks_are_allowed(cls, callbacks):
        for name, arguments in callbacks.items():
            if name not in CALLBACKS:
                raise ValueError(
                    f"callback {name!r} is not allowed; {nearest(name, list(CALLBACKS))}"
                    f"allowed: {', '.join(CALLBACKS)}"
                )
            for argument, value in arguments.items():
                _check_argument(name, argument, value)
        return callbacks

    @model_validator(mode="after")
    def _one_hand_on_the_learning_rate(self):
        schedule = self.training_parameters.learning_rate_schedule
        if schedule != "constant" and "ReduceLROnPlateau" in self.call_backs_conf:
            raise ValueError(
                'learning_rate_schedule "cosine" sets the rate in every epoch and would undo what '
                "ReduceLROnPlateau does; remove one of them"
            )
        return self


def _check_argument(callback: str, argument: str, value: Scalar) -> None:
    known = CALLBACKS[callback]
    if argument not in known:
        raise ValueError(
            f"{callback} has no argument {argument!r}; {nearest(argument, list(known))}"
            f"it takes: {', '.join(known)}"
        )
    try:
        TypeAdapter(known[argument]).validate_python(value, strict=True)
    except ValidationError as error:
        reasons = dict.fromkeys(item["msg"].lower() for item in error.errors())
        raise ValueError(f"{callback}.{argument} (={value!r}): {' or '.join(reasons)}") from None
    if argument in ("filename", "filepath"):
        _check_file(f"{callback}.{argument}", Path(value))


def _check_file(argument: str, path: Path) -> None:
    """Refuse a callback's file that lies elsewhere, or that a run has for something else."""
    wrong, taken = "", [name.lower() for name in (*MADE_BY, *OTHER_FILES)]
    if path.is_absolute() or ".." in path.parts:
        wrong = "must stay inside the run's folder; give a plain file name"
    elif path.parts and path.parts[0].lower() in taken:
        wrong = "is a name that a run needs for itself; give another"
    if wrong:
        raise ValueError(f"{argument} (={str(path)!r}) {wrong}, such as 'log.csv' or 'best.keras'")


class Preprocessing(Strict):
    """How intensities reach the network.

    "percentile" maps the 1st to 99.8th percentile of each image to 0..1.
    """

    normalisation: Literal["scale", "percentile", "standardise"] = "scale"
    polarity: Literal["as_stored", "dark_ground"] = "as_stored"


OperatingPoint = Literal["precise", "balanced", "complete"]


class Score(Strict):
    """How likely a nucleus is right: a logistic model that `helpers.evaluation.score` has fitted.

    It judges what lies above its own `threshold`. A nucleus stays if its score is at least that of
    the operating point: "complete" keeps nearly all that are right, "precise" hardly a wrong one.
    """

    threshold: Inside
    intercept: float
    weights: dict[Literal[FEATURES], float]
    operating_points: dict[OperatingPoint, Share]


class Postprocessing(Strict):
    """From what the network answers to nuclei; tuned on validation images, stored with the network.

    `test_time_augmentation` "flips" answers with the mean over four orientations, at 4 times the
    cost; "scales" with that of the image and its mirror image at 1.5 times the size, at 3.25 times.
    With a `score`, it and the operating point act in place of `threshold` and `min_confidence`.
    """

    threshold: Inside = 0.5
    seed_threshold: Inside = 0.5
    min_area_px: Count = 0
    min_confidence: Share = 0.0
    test_time_augmentation: Literal["none", "flips", "scales"] = "none"
    score: Score | None = None
    operating_point: OperatingPoint = "balanced"

    @model_validator(mode="after")
    def _every_point_has_a_score(self):
        if self.score and self.operating_point not in self.score.operating_points:
            raise ValueError(
                f"operating_point {self.operating_point!r} is not among those of the score: "
                f"{', '.join(self.score.operating_points)}"
            )
        return self

    def least_score(self, operating_point: str | None = None) -> float:
        """Return the score from which a nucleus stays; without a score, its mean probability.

        `operating_point` is another than the stored one; it raises ValueError if there is none.
        """
        if operating_point is None and self.score is None:
            return self.min_confidence
        points = self.score.operating_points if self.score else {}
        chosen = operating_point or self.operating_point
        if chosen not in points:
            there_are = ", ".join(points) or "none, as this network has no score of its nuclei"
            raise ValueError(f"operating_point {chosen!r}: there are {there_are}")
        return points[chosen]


class Settings(Strict):
    """A complete settings file."""

    schema_location: str | None = Field(None, alias="$schema")
    data_set_location: str
    training_configuration: TrainingConfiguration
    model_structure: ModelStructure
    preprocessing: Preprocessing = Preprocessing()
    postprocessing: Postprocessing = Postprocessing()

    @model_validator(mode="after")
    def _only_squares_turn(self):
        size = self.model_structure.input_params
        if self.training.augmentation.turns and size.height != size.width:
            raise ValueError(
                f"augmentation.turns needs square crops, input_params are {size.height}x"
                f"{size.width}; make height and width equal, or set turns to false"
            )
        return self

    @property
    def training(self) -> TrainingParameters:
        """Short for `training_configuration.training_parameters`."""
        return self.training_configuration.training_parameters

    def differing_build(self, other: "Settings") -> str:
        """Return which part of the network is built otherwise; the size of crops may be."""
        crops = {"input_params": {"height", "width"}}
        for part in ("model_structure", "preprocessing"):
            ours = getattr(self, part).model_dump(exclude=crops)
            theirs = getattr(other, part).model_dump(exclude=crops)
            for name, value in ours.items():
                if value != theirs[name]:
                    return f"{part}.{name}"
        return ""

    def with_training(self, **changes: Any) -> "Settings":
        """Return the same settings with other training parameters; None leaves one as it is."""
        given = {f"training.{name}": each for name, each in changes.items() if each is not None}
        return self.with_overrides(given, source="changed settings")

    def with_postprocessing(self, **changes: Any) -> "Settings":
        """Return the same settings with other postprocessing."""
        given = {f"postprocessing.{name}": value for name, value in changes.items()}
        return self.with_overrides(given, source="changed settings")

    def without_callbacks(self) -> "Settings":
        """Return the same settings with no callback: nothing ends or slows a training early."""
        return self.with_overrides({"callbacks": {}})

    def with_overrides(self, overrides: Mapping[str, Any], source: str = "overrides") -> "Settings":
        """Return the same settings with other values, by their dotted names in the file.

        Short names: `training.*`, `augmentation.*`, `preprocessing.*`, `postprocessing.*`,
        `callbacks.*` and `target`; `blocks`, `filters`, `dropout`, `size`, `activation` and
        `normalisation` change every block of the network.

        Raises SettingsError if a name is unknown or a value is not allowed.

        Examples
        --------
        >>> load_settings("settings/quick.json").with_overrides({"training.seed": 3}).training.seed
        3
        """
        if not overrides:
            return self
        values = self.model_dump(mode="json", by_alias=True)
        try:
            changed = apply_overrides(values, overrides, list_names(Settings))
        except OverrideError as error:
            raise SettingsError(f"{source}: {error}") from None
        return _validate(changed, source)


def load_settings(path: str | Path) -> Settings:
    """Return the checked settings of a JSON file.

    A file with the key "based_on", the name of another file beside it, holds only what differs, as
    `Settings.with_overrides` takes it. FileNotFoundError names the files there are; SettingsError
    says what is no JSON, or cannot be built or trained.
    """
    file = resolve(path)
    if not file.is_file():
        shipped = sorted(f"settings/{p.name}" for p in (ROOT / "settings").glob("[!_]*.json"))
        shipped = [name for name in shipped if not name.endswith(".schema.json")]
        raise FileNotFoundError(f"no settings file {path!s}; there are {', '.join(shipped)}")
    values = _read_json(file.read_text(encoding="utf-8"), str(path))
    if not isinstance(values, dict) or "based_on" not in values:
        return _validate(values, str(path))
    base = file.parent / str(values.pop("based_on"))
    return load_settings(base).with_overrides(values, source=str(path))


def parse_settings(text: str, source: str = "settings") -> Settings:
    """Return the checked settings in a JSON `text`; `source` names it in errors."""
    return _validate(_read_json(text, source), source)


def _read_json(text: str, source: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_refuse_repeated_keys)
    except json.JSONDecodeError as error:
        raise SettingsError(
            f"{source}: not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None


def _validate(values: Any, source: str) -> Settings:
    try:
        return Settings.model_validate_json(json.dumps(values))
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors()]
        raise SettingsError("\n".join(f"{source}: {line}" for line in lines)) from None


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for key, count in Counter(key for key, _ in pairs).items():
        if count > 1:
            raise SettingsError(f"the key {key!r} stands twice in one object; keep one of them")
    return dict(pairs)


def _explain(item: dict[str, Any]) -> str:
    where = ".".join(map(str, item["loc"])) or "the file"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{where}: {message}"
    if item["type"] == "missing":
        return f"{where}: is missing; add it (settings/original.json shows a complete file)"
    value = item["input"]
    if item["type"] == "extra_forbidden":
        *parents, key = item["loc"]
        known = _known_keys(parents)
        where = ".".join(map(str, parents)) or "the file"
        return f"{where}: unknown key {key!r}; {nearest(str(key), known)}known: {', '.join(known)}"
    close = ""
    if item["type"] == "literal_error" and isinstance(value, str):
        close = nearest(value, re.findall("'(.*?)'", item["ctx"]["expected"]))
    return f"{where} (={value!r}): {close}{message[0].lower()}{message[1:]}"


def _known_keys(parents: list[str]) -> list[str]:
    """Return the keys allowed in the part of the file that `parents` lead to."""
    part: Any = Settings
    for name in parents:
        is_dict = get_origin(part) is dict
        part = get_args(part)[1] if is_dict else part.model_fields[name].annotation
    return [field.alias or name for name, field in part.model_fields.items()]


def write_settings(settings: Settings, path: str | Path) -> Path:
    """Write `settings` as JSON, every default spelt out, and return the file's path."""
    values = settings.model_dump(mode="json", by_alias=True)
    if values["$schema"] is None:
        del values["$schema"]
    return write_json(values, path)


def write_schema(path: str | Path = ROOT / "settings" / "settings.schema.json") -> Path:
    """Write the format's JSON schema, which editors use to complete and check settings files."""
    return write_json(Settings.model_json_schema(by_alias=True), path)


def generate_settings(
    n_blocks: int = 5,
    *,
    base_filters: int = 16,
    dropout: float | None = None,
    input_size: int = 256,
    data_set_location: str = "sample",
    **training: Any,
) -> Settings:
    """Return settings for a network of `n_blocks` encoder blocks, 1 to 7, shaped as the original.

    Filters double from block to block, from `base_filters` on. `dropout` is one rate, [0, 1), for
    every block, by default the original's, from .1 to .3. `input_size` is the height and width of
    the training crops in pixels, a multiple of 2 ** `n_blocks`. `training`: any of
    `TrainingParameters`, the original's values where not given. What cannot be built raises
    SettingsError.
    """
    shape = {"blocks": n_blocks, "filters": base_filters, "dropout": dropout, "size": input_size}
    callbacks = {"ReduceLROnPlateau": {"patience": 5}, "EarlyStopping": {"patience": 10}}
    others = {"data_set_location": data_set_location, "training": training, "callbacks": callbacks}
    original = load_settings(ROOT / "settings" / "original.json")
    return original.with_overrides(shape | others, source=f"generated settings ({n_blocks} blocks)")
