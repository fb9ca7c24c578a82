"""Lines typed at a terminal: edited with the keys that a shell has, and kept for the next time.

Editing and history are those of `readline`, where Python has it and both ends are a terminal. History is a file of the
user's own: `vanilla-transformer/history` in `$XDG_STATE_HOME` or `~/.local/state`. Whatever is wrong with that file,
lines can be typed; of what is piped in nothing is kept.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

LINES_KEPT = 1000
PROMPT = "> "


def typed_lines() -> Iterator[str]:
    """What is typed or piped into stdin, line by line without its end, until the end of input."""
    asks = sys.stdin.isatty()
    if asks:
        sys.stderr.write("Type a sentence and Enter; Ctrl-D ends.\n")
    with _editing() if asks and sys.stdout.isatty() else nullcontext():
        while (line := _read(asks)) is not None:
            yield line
    if asks:
        sys.stderr.write("\n")  # after the prompt


def _read(asks: bool) -> str | None:
    prompt = PROMPT if asks else ""
    if not sys.stdout.isatty():  # results alone go there
        sys.stderr.write(prompt)
        sys.stderr.flush()
        prompt = ""
    try:
        return input(prompt)
    except EOFError:
        return None


@contextmanager
def _editing() -> Iterator[None]:
    try:
        import readline
    except ImportError:  # as on Windows
        yield
        return
    path = history_path()
    with suppress(OSError):
        readline.read_history_file(path)
    try:
        yield
    finally:
        _keep(readline, path)


def history_path() -> Path:
    """Where the lines typed before are."""
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if os.path.isabs(state) else Path(os.path.expanduser("~")) / ".local" / "state"
    return folder / "vanilla-transformer" / "history"


def _keep(readline: Any, path: Path) -> None:
    """Write the newest lines, for the user's own eyes; a disk that is full or not theirs keeps none."""
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        readline.set_history_length(LINES_KEPT)
        readline.write_history_file(path)
        path.chmod(0o600)


__all__ = ["history_path", "typed_lines"]
