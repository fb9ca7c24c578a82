"""What a command writes to stderr: this package's messages, errors of libraries, and progress bars on a terminal only.

Warnings and log lines of torch, transformers, datasets and the like are for developers. `--debug` shows all of them,
and a library's own environment variable, if the user has set it, decides for that library. Nothing is imported for
this: a library that is imported later reads its variable, and one already imported is configured directly.
"""

import logging
import os
import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ..import_hooks import ImportHook

_PACKAGE = __package__.split(".")[0]
_VERBOSITY = {
    "transformers": "TRANSFORMERS_VERBOSITY",
    "datasets": "DATASETS_VERBOSITY",
    "huggingface_hub": "HF_HUB_VERBOSITY",
}
"""Loggers with a level and a handler of their own, and the environment variables that set the level."""
_BARS = {
    "huggingface_hub.utils": "HF_HUB_DISABLE_PROGRESS_BARS",
    "datasets.utils": "HF_DATASETS_DISABLE_PROGRESS_BARS",
}
"""Modules with `disable_progress_bars`, and the environment variables that do the same."""
_MAKES_BARS = "transformers.utils.logging"
_OTHERS = {"TORCH_CPP_LOG_LEVEL": "ERROR"}


@contextmanager
def plain_messages(debug: bool = False) -> Iterator[None]:
    """Keep library messages off stderr, except errors.

    Args:
        debug: leave library messages as they are.
    """
    with ExitStack() as stack:
        stack.enter_context(_log_of_others_from(logging.WARNING if debug else logging.ERROR))
        if not debug:
            wanted = {**dict.fromkeys(_VERBOSITY.values(), "error"), **_OTHERS}
            wanted |= {} if sys.stderr.isatty() else dict.fromkeys((*_BARS.values(), "TQDM_DISABLE"), "1")
            unset = {name: value for name, value in wanted.items() if name not in os.environ}
            stack.enter_context(_environment(unset))
            stack.enter_context(_imported_are_told(unset.keys()))
            stack.enter_context(_no_bar_for_files_of_weights())
            stack.enter_context(warnings.catch_warnings())
            if not sys.warnoptions:  # neither PYTHONWARNINGS nor -W
                warnings.simplefilter("ignore")
        yield


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)


class _OnStandardError(logging.StreamHandler):
    """Writes plain messages to the current `sys.stderr`."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.addFilter(lambda record: record.name.split(".")[0] == _PACKAGE or record.levelno >= least)

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, _: Any) -> None:
        pass


@contextmanager
def _log_of_others_from(least: int) -> Iterator[None]:
    """Log to stderr: all records of this package, and those of other packages from the level `least`."""
    root, handler = logging.getLogger(), _OnStandardError(least)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


@contextmanager
def _imported_are_told(variables: Collection[str]) -> Iterator[None]:
    """Apply these variables to libraries that are already imported."""
    loggers = [
        logging.getLogger(name)
        for name, variable in _VERBOSITY.items()
        if name in sys.modules and variable in variables
    ]
    levels = [logger.level for logger in loggers]
    found = [sys.modules[name] for name, variable in _BARS.items() if name in sys.modules and variable in variables]
    bars = [module for module in found if not module.are_progress_bars_disabled()]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    for module in bars:
        module.disable_progress_bars()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for module in bars:
            module.enable_progress_bars()


# Reading or writing weights takes little time, and its progress bar would interrupt the one over steps


@contextmanager
def _no_bar_for_files_of_weights() -> Iterator[None]:
    module = sys.modules.get(_MAKES_BARS)
    if module is not None:
        was_active = module.is_progress_bar_enabled()
        module.disable_progress_bar()
    hook = ImportHook({_MAKES_BARS: lambda module: module.disable_progress_bar()})
    sys.meta_path.insert(0, hook)
    try:
        yield
    finally:
        sys.meta_path.remove(hook)
        if module is not None and was_active:
            module.enable_progress_bar()
