"""The command `nuclei`: runs the notebooks, segments folders, downloads data, writes settings."""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.overrides import OverrideError, read_override
from helpers.parameters import ParameterError, check_values, explain_unknown, read_text
from helpers.run_folder import PUBLISHED, REFERENCE, ROOT, RunFolder, name_locations, shorten
from helpers.series import (
    ENVIRONMENT,
    NOTEBOOKS_DIR,
    Declared,
    SeriesError,
    describe_run,
    find_notebooks,
    read_parameters,
    run_series,
)

FINE, FAILED, NOTHING_STARTED, STOPPED = 0, 1, 2, 130
"""Exit codes: all fine; something failed; nothing could start; stopped by Ctrl-C."""

SERIES = {
    "start": ("00", "notebook 00: the trained network on first images"),
    "run": ("01,02,03,04,05,08", "the notebooks on a data set: read it, train, test"),
    "experiment": ("01,06", "notebook 06: why masks come out inverted"),
    "targets": ("01,07", "notebook 07: how touching nuclei are separated"),
}
"""Which notebooks a command runs."""

OPTIONAL = "Optional[{}]".format
PREDICT = {
    "images": Declared("str", "folder of the images"),
    "out": Declared("str", "folder for the results"),
    "network": Declared("str", f"the run whose network answers (default: {REFERENCE})"),
    "channel": Declared(OPTIONAL("str"), "what shows the nuclei: a number, colour or stain"),
    "plane": Declared(OPTIONAL("str"), "which plane of a stack: a number, or max"),
    "pattern": Declared("str", 'which files, such as "*.tif"'),
    "diameter_px": Declared(OPTIONAL("float"), "median diameter of the nuclei, in pixels"),
    "pixel_size_um": Declared(OPTIONAL("float"), "side of a pixel, in micrometres"),
    "operating_point": Declared(OPTIONAL("str"), "precise, balanced or complete"),
    "overwrite": Declared("bool", "replace files that were made otherwise"),
}
SETTINGS = {
    "blocks": Declared("int", "encoder blocks, 1 to 7 (default: 5)"),
    "filters": Declared("int", "filters of the first block (default: 16)"),
    "dropout": Declared(OPTIONAL("float"), "one rate for all blocks, 0 to below 1"),
    "size": Declared("int", "crop height and width in pixels (default: 256)"),
}
DATA = {
    "name": Declared("str", "which data set"),
    "folder": Declared("str", "where to keep it (default: data/ of the repository)"),
}
OVERRIDE = {
    "--override": {
        "action": "append",
        "default": [],
        "metavar": "NAME=VALUE",
        "help": "another value of the settings file, as in training.learning_rate=0.001",
    }
}
REPLACE = {"replace_published": Declared("bool", "write into a run that the repository keeps")}


class UsageError(Exception):
    """A command line that cannot be read; the text says what to write instead."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> None:
        """Raise what is wrong instead of printing the usage."""
        raise UsageError(f"{self.prog}: {message}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of the command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = {name: _run_notebooks for name in SERIES} | COMMANDS
    try:
        if not given or given[0] in ("-h", "--help", "help"):
            print(_describe_commands())
            return FINE
        name, *rest = given
        if name not in commands:
            raise UsageError(explain_unknown(name, commands, "`nuclei {}`".format))
        return commands[name](name, rest)
    except (UsageError, ParameterError, OverrideError) as error:
        print(error, file=sys.stderr)
        return NOTHING_STARTED
    except (SeriesError, OSError, ValueError) as error:
        print(f"\n{error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\nstopped; the same command resumes", file=sys.stderr)
        return STOPPED


def _describe_commands() -> str:
    about = {name: text for name, (_, text) in SERIES.items()}
    about |= {name: function.__doc__.splitlines()[0] for name, function in COMMANDS.items()}
    lines = [f"  nuclei {name:<12}{text}\n" for name, text in about.items()]
    return f"usage: nuclei COMMAND [--option value ...]\n{''.join(lines)}nuclei run --help ..."


def _read_options(
    name: str,
    arguments: Sequence[str],
    declared: Mapping[str, Declared],
    more: Mapping[str, Mapping[str, Any]],
) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Return (all options as text, the declared ones that are given, in their types).

    `more` are further arguments, as argparse takes them.
    """
    parser = Parser(prog=f"nuclei {name}", allow_abbrev=False)
    for option, about in declared.items():
        switch = {"nargs": "?", "const": "true"} if about.type == "bool" else {}
        text = about.about.replace("%", "%%")
        parser.add_argument(f"--{option.replace('_', '-')}", help=text, **switch)
    for option, about in more.items():
        parser.add_argument(option, **about)
    known = [action.option_strings[0] for action in parser._actions if action.option_strings]
    # A name may be written as in --test-set, --test_set or --TEST_SET; values stay as they are.
    spelled = [
        re.sub(r"^--[\w-]+", lambda name: name[0].lower().replace("_", "-"), argument)
        for argument in arguments
    ]
    options, unknown = parser.parse_known_args(spelled)
    if unknown:
        raise UsageError(_explain_option(unknown[0], known, arguments))
    return options, {
        option: read_text(option, text, about.type)
        for option, about in declared.items()
        if (text := getattr(options, option)) is not None
    }


def _explain_option(unknown: str, known: list[str], arguments: Sequence[str]) -> str:
    """Return what is wrong with an option, and which was perhaps meant."""
    if not unknown.startswith("--"):
        return f"{unknown!r} belongs to no option; name it, as in --data {unknown}"
    names = [option.removeprefix("--").replace("-", "_") for option in (unknown, *known)]
    return explain_unknown(names[0].partition("=")[0], names[1:], _speak(arguments))


def _speak(arguments: Sequence[str]) -> Callable[[str], str]:
    """Return how to write an option's name: as make does if that is where they come from."""
    if any(re.match(r"--[A-Z][A-Z_]+=", argument) for argument in arguments):
        return lambda name: f"{name.upper()}="
    return lambda name: f"--{name.replace('_', '-')}"


# ------------------------------------------------------------------ the notebooks


def _run_notebooks(name: str, arguments: Sequence[str]) -> int:
    """Run the notebooks of a command."""
    notebooks = find_notebooks(only=SERIES[name][0].split(","))
    declared = {n: d for path in notebooks for n, d in read_parameters(path).items()}
    more = {"--only": {"help": "numbers of the notebooks to run, as in 04,05"}} | OVERRIDE
    options, given = _read_options(name, arguments, declared | REPLACE, more)
    if options.override:
        given["overrides"] = given.get("overrides", {}) | dict(map(read_override, options.override))
    given.setdefault("run", _name_run(name, given))
    try:
        only = find_notebooks(only=(options.only or SERIES[name][0]).split(","))
    except SeriesError as error:
        raise UsageError(f"--only: {error}") from None
    numbers = [path.name[:2] for path in only]
    print(f"run: {RunFolder(given['run'])}", flush=True)
    print(describe_run(run_series(given, numbers)))
    return FINE


def _name_run(command: str, given: Mapping[str, Any]) -> str:
    """Return a name for a run that was given none: that of its data, or of its settings."""
    if command == "start":
        return "quick_start"
    data, settings = given.get("data"), given.get("settings") or "quick.json"
    is_named = data and data != "sample"
    stem = "_".join(name_locations(data)) if is_named else Path(settings).stem
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).lstrip(".-") or "run"
    return f"my_{name}" if name in PUBLISHED else name


# ------------------------------------------------------------------ the other commands


def _predict(name: str, arguments: Sequence[str]) -> int:
    """Find the nuclei in every image of a folder."""
    from helpers.startup import silent_libraries

    more = {"folder": {"nargs": "?", "help": "the folder of the images, without --images"}}
    options, given = _read_options(name, arguments, PREDICT, more)
    if options.folder:
        given.setdefault("images", options.folder)
    for needed in ("images", "out"):
        if needed not in given:
            write = _speak(arguments)
            raise UsageError(f"predict needs {write('images')} and {write('out')}: two folders")
    given.setdefault("network", REFERENCE)
    check_values(given)
    for choice in ("channel", "plane"):
        if str(given.get(choice)).isdecimal():
            given[choice] = int(given[choice])
    with silent_libraries():
        return _segment(**given)


def _segment(images: str, out: str, network: str, **options: Any) -> int:
    """Segment a folder and print what came out; return the exit code."""
    from helpers.segment.folder import FAILED as FAILED_IMAGE
    from helpers.segment.folder import describe, segment_folder
    from helpers.segment.trained import load_network

    images, out = Path(images).expanduser(), Path(out).expanduser()
    trained = load_network(network)
    print(f"network of {RunFolder(network)} · {trained.device}", flush=True)
    summary = segment_folder(images, out, trained, **options)
    print(describe(summary, out))
    return FAILED if (summary["status"] == FAILED_IMAGE).any() else FINE


def _data(name: str, arguments: Sequence[str]) -> int:
    """Download a data set of nuclei; without a name, list those there are."""
    from helpers.data.sets import SETS, describe, fetch

    more = {"names": {"nargs": "*", "help": "data sets; without one, they are listed"}}
    options, given = _read_options(name, arguments, DATA, more)
    names = [*options.names, *filter(None, [given.get("name")])]
    if not names:
        print("\n".join(map(describe, SETS)))
    for each in names:
        try:
            path = fetch(each, given.get("folder") or ROOT / "data")
        except (OSError, ValueError) as reason:
            print(f"{each}: {reason}", file=sys.stderr)
            return FAILED
        print(f"{describe(each)}\n  in {shorten(path)}")
    return FINE


def _settings(name: str, arguments: Sequence[str]) -> int:
    """Write a settings file: nuclei settings --blocks 4 --filters 8 mine.json."""
    from helpers.settings import generate_settings, load_settings, write_settings

    more = {"file": {"help": "the file to write, such as mine.json"}}
    more["--based-on"] = {"help": "a settings file to begin with"}
    options, given = _read_options(name, arguments, SETTINGS, more | OVERRIDE)
    begin = load_settings(options.based_on) if options.based_on else generate_settings(5)
    settings = begin.with_overrides(given | dict(map(read_override, options.override)))
    print(f"wrote {write_settings(settings, Path(options.file).expanduser())}")
    return FINE


def _lab(name: str, arguments: Sequence[str]) -> int:
    """Open JupyterLab on the notebooks; further options go to it."""
    begin = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}"]
    page = f"--LabApp.default_url=/lab/tree/{NOTEBOOKS_DIR.name}"
    begin += [page, f"--config={ROOT / 'tools' / 'jupyter_config.py'}"]
    return subprocess.call([*begin, *arguments], env=os.environ | ENVIRONMENT)


COMMANDS: dict[str, Callable[[str, Sequence[str]], int]] = {
    "predict": _predict,
    "data": _data,
    "settings": _settings,
    "lab": _lab,
}


if __name__ == "__main__":
    sys.exit(main())
