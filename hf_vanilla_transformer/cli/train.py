"""Train a model from a recipe: from parallel text to a model folder that translates."""

import argparse
import logging
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..training.recipe_files import find_recipe, recipe_names
from . import PROGRAM
from .options import CommandParser, option_names, unknown_option, with_underscores

if TYPE_CHECKING:
    from ..training.recipes import Settings

DESCRIPTION = """Train a model from a recipe. Every setting of a recipe is also an option, and an option overrides the
recipe. The defaults below apply without a recipe. --help_all also lists the settings of transformers' Trainer."""

OWN_OPTIONS = ("--recipe", "--output_dir", "--resume", "--help_all")


def build_parser() -> CommandParser:
    """The command's own options; all others are settings of the run."""
    parser = CommandParser(
        prog=f"{PROGRAM} train",
        usage=f"{PROGRAM} train --output_dir DIR [--recipe NAME] [--resume] [--SETTING VALUE ...]",
        description=DESCRIPTION,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="list the options that most runs need")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--help_all", action="store_true", help="also list all options of transformers' Trainer")
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"{', '.join(recipe_names())}, or a YAML file of your own; without one, the paper's base model",
    )
    parser.add_argument(
        "--output_dir", metavar="DIR", help="run folder; must not hold a run yet, except with --resume"
    )
    parser.add_argument("--resume", action="store_true", help="continue from the newest complete checkpoint")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the options, train, print where the model is."""
    parser = build_parser()
    options, overrides = parser.parse_known_args(with_underscores(sys.argv[1:] if argv is None else argv))
    for option in option_names(overrides):
        if get_close_matches(option, OWN_OPTIONS, n=1, cutoff=0.75):  # settings are known once the Trainer is imported
            parser.error(unknown_option(option, OWN_OPTIONS))
    if options.help or options.help_all:
        print(_help(parser, options.help_all))
        return 0
    if not options.output_dir:
        raise ValueError("A run needs a folder to write to: give `--output_dir`.")
    if options.recipe is not None:
        find_recipe(options.recipe)

    from ..training.checkpoints import SETTINGS_NAME
    from ..training.recipes import parse_settings

    begun = Path(options.output_dir) / SETTINGS_NAME
    if options.resume and options.recipe is None and begun.is_file():
        options.recipe = str(begun)  # the run's own settings
    elif options.resume and begun.parent.is_dir() and not overrides and options.recipe is None:
        raise ValueError(
            f"The settings of the run in {options.output_dir} are lost: there is no {SETTINGS_NAME}. Give `--resume` "
            "together with the recipe and the options that the run was started with."
        )
    settings = parse_settings(options.recipe, ["--output_dir", options.output_dir, *overrides])
    with _log_on_stderr() if settings.training.should_log else nullcontext():
        return _train(settings, options)


def _train(settings: "Settings", options: argparse.Namespace) -> int:
    from ..training.interruption import Interrupted
    from ..training.run import run_training

    for note in settings.notes if settings.training.should_log else ():
        print(note, file=sys.stderr)
    try:
        run = run_training(settings, options.resume)
    except Interrupted as stop:
        if settings.training.should_log:
            sys.stderr.write(f"{stop} {_how_to_go_on(options.output_dir)}\n")
        return stop.exit_code
    except (Exception, KeyboardInterrupt) as error:
        error.how_to_go_on = _how_to_go_on(options.output_dir, error)  # type: ignore[union-attr]
        raise
    if settings.training.should_log:
        print(f"The model is in {run}. Translate with: vanilla-transformer translate --model {run}")
    return 0


def _how_to_go_on(output_dir: str, error: BaseException | None = None) -> str:
    """The last line printed by a run that did not finish: how to continue."""
    from ..training.checkpoints import SETTINGS_NAME, checkpoints_of, what_is_wrong
    from ..training.run_lock import RunInUseError

    run = Path(output_dir)
    if (
        isinstance(error, RunInUseError) or not (run / SETTINGS_NAME).exists()
    ):  # another process's run, or it has not started
        return ""
    checkpoints = checkpoints_of(run)
    if checkpoints and all(what_is_wrong(checkpoint) for checkpoint in reversed(checkpoints)):
        return ""
    if checkpoints:
        return f"Continue with: vanilla-transformer train --resume --output_dir {shlex.quote(output_dir)}"
    if isinstance(error, KeyboardInterrupt):
        return "No checkpoint was written yet: start again with the same command."
    return "No checkpoint was written yet: fix the error above, and start again in the same folder."


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Log the package's messages to stderr from level INFO, not only warnings."""
    logger = logging.getLogger("hf_vanilla_transformer")
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)


def _help(parser: CommandParser, everything: bool) -> str:
    """The help text: every setting with its type, choices and default."""
    from dataclasses import MISSING, fields

    from ..training.arguments import CONFIG_DEFAULTS, GROUPS, TRAINING_SETTINGS

    groups = dict(GROUPS)
    if everything:
        from ..training.trainer_arguments import TranslationTrainingArguments

        groups["training"] = TranslationTrainingArguments
    else:
        section = parser.add_argument_group("training", "the settings that most runs need; --help_all lists the rest")
        for name, setting in TRAINING_SETTINGS.items():
            _add(section, name, setting.type, setting.help, setting.default, setting.choices)
    for name, group in groups.items():
        section = parser.add_argument_group(name, " ".join((group.__doc__ or "").split("\n\n")[0].split()))
        for field in fields(group):
            if field.init and field.name not in ("output_dir", "debug"):  # both are listed above
                about = field.metadata
                default = CONFIG_DEFAULTS.get(field.name) if name == "model" else field.default
                shown = None if default is MISSING else default
                _add(section, field.name, field.type, about.get("help", ""), shown, about.get("choices", ()))
    return parser.format_help()


def _add(section: Any, name: str, kind: Any, text: str, default: Any, choices: Sequence[str]) -> None:
    words = [word for word in re.split(r"\W+", getattr(kind, "__name__", None) or str(kind)) if word in _METAVARS]
    metavar = "{" + ",".join(choices) + "}" if choices else _METAVARS[words[0]] if words else "VALUE"
    shown = str(default).lower() if isinstance(default, bool) else getattr(default, "value", default)
    ending = "" if shown in (None, "") else f" (default: {shown})"
    section.add_argument(f"--{name}", metavar=metavar, help=(text + ending).replace("%", "%%") or " ")


_METAVARS = {"bool": "true|false", "int": "INTEGER", "float": "NUMBER", "str": "TEXT", "dict": "JSON"}
