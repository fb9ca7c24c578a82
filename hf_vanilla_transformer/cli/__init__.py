"""The command line: one file per command, found by its name, imported only when it runs.

A command fails in one or two sentences on stderr, without a traceback unless `--debug` is given.
"""

import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module

from .plain_messages import plain_messages
from .streams import UnwritableOutputError, discard, guarded_streams, require_stdout

PROGRAM = "vanilla-transformer"
COMMANDS = {
    "train": "train a model on parallel text",
    "translate": "translate files, pipes or what you type",
    "evaluate": "score a model's translations of a test set",
    "score": "compute the log-probability of given translations",
    "average": "average the newest checkpoints of a run",
    "convert": "convert a Marian (OPUS-MT) or FSMT model to this architecture",
    "export": "export a model to CTranslate2, ONNX or Marian",
    "illustrate": "show how a model translates a sentence: an offline HTML page, and figures",
    "push": "publish a model on the Hub, with a model card",
    "verify": "recompute every score on a model's card",
    "doctor": "check whether a checkpoint is sound",
    "curves": "plot a run's loss, learning rate and BLEU by step",
}
USAGE_ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141  # 128 + signal for the last two, as shells report it


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the command's name and its arguments; `sys.argv[1:]` if not given.

    Returns:
        The exit code: 0 on success only, 1 on failure, 2 on wrong usage, 130 on Ctrl-C, 141 on a broken pipe.
    """
    from .. import starting

    starting.imported()
    try:
        with guarded_streams():
            return _main(list(sys.argv[1:] if argv is None else argv))
    finally:
        starting.ended()


def _main(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if arguments and arguments[0] in COMMANDS:
        name, *rest = arguments
        with plain_messages(debug):
            return _run(name, lambda: import_module(f".{name}", __name__).main(rest), debug)
    if arguments and arguments[0] in ("-h", "--help"):
        return _run("help", _print_overview, debug)
    if arguments and arguments[0] == "--version":
        return _run("version", _print_version, debug)
    sys.stderr.write(f"{PROGRAM}: error: {_wrong_command(arguments)}\n")
    return USAGE_ERROR


def _print_overview() -> int:
    width = max(map(len, COMMANDS))
    print(f"usage: {PROGRAM} COMMAND [--debug] ...\n")
    print("The Transformer of 'Attention Is All You Need': train it, translate with it, score it.\n")
    for name, what in COMMANDS.items():
        print(f"  {name:<{width}}  {what}")
    print(f"\n{PROGRAM} COMMAND --help lists a command's options. --debug, anywhere, shows tracebacks.")
    return 0


def _print_version() -> int:
    from .. import __version__

    print(f"{PROGRAM} {__version__}")
    return 0


def _wrong_command(arguments: list[str]) -> str:
    known = f"The commands are {', '.join(COMMANDS)}; --help says more."
    if not arguments:
        return f"A command is needed. {known}"
    close = get_close_matches(arguments[0], [*COMMANDS, "--help", "--version"], n=1)
    return f"There is no command {arguments[0]!r}. " + (f"Did you mean {close[0]}? " if close else "") + known


def _run(name: str, command: Callable[[], int], debug: bool) -> int:
    """Run a command and turn an exception into an exit code and a one-sentence message."""
    try:
        require_stdout()
        code = _flushed(command)
    except BrokenPipeError:
        discard(sys.stdout)
        return BROKEN_PIPE
    except KeyboardInterrupt as stop:
        if debug:
            raise
        return _interrupted(name, stop)
    except Exception as error:
        if debug:
            raise
        if _began_with_an_interrupt(error):
            return _interrupted(name, error)
        sys.stderr.write(f"{PROGRAM} {name}: error: {_explain(error)}\n{_hint(error)}")
        return 1
    return code


def _flushed(command: Callable[[], int]) -> int:
    """Run a command and flush what it printed.

    Raises:
        OSError: some output was not written, whether or not the command noticed.
    """
    try:
        code = command()
    except SystemExit as stop:  # argparse, after its own message
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    sys.stdout.flush()
    failure = getattr(sys.stdout, "failure", None)
    if failure is not None:
        raise failure
    return code


def _interrupted(name: str, error: BaseException) -> int:
    sys.stderr.write(f"\n{PROGRAM} {name}: interrupted.\n{_hint(error)}")
    return INTERRUPTED


def _began_with_an_interrupt(error: BaseException | None) -> bool:
    """Whether this error was caused by Ctrl-C, for example in the middle of a library's import."""
    seen: set[int] = set()  # a chain may be circular
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _hint(error: BaseException) -> str:
    """The line on how to continue that was attached to the error, or nothing."""
    hint = getattr(error, "how_to_go_on", "")
    return f"{hint}\n" if hint else ""


def _explain(error: Exception) -> str:
    """The error's own message if it was written for users, else its type and first line."""
    from ..model.disk_space import full_disk

    if not isinstance(error, UnwritableOutputError) and (full := full_disk(error)):
        return full
    message = str(error).strip()
    if "out of memory" in message.lower():
        return f"Out of memory: lower --batch_tokens, or --max_tokens in training ({message.split(chr(10))[0]})."
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.strerror}: {error.filename}"
    if message and isinstance(error, (ValueError, TypeError, OSError, ImportError)):
        return message
    first = message.split("\n")[0]
    return f"{type(error).__name__}: {first} (unexpected: --debug shows where)" if first else type(error).__name__
