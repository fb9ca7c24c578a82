"""Lines typed at a terminal, with the editing keys of a shell and a history that is kept for the next time.

Editing and history come from `readline`, if Python has it and both stdin and stdout are terminals. The history is
private to the user: `vanilla-transformer/history` in `$XDG_STATE_HOME` or `~/.local/state`. A problem with that file
never prevents typing. Piped lines are not kept.
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
    """The lines typed or piped into stdin, without line ends, until the end of input."""
    asks = sys.stdin.isatty()
    if asks:
        sys.stderr.write("Type a sentence and press Enter; Ctrl-D ends.\n")
    with _editing() if asks and sys.stdout.isatty() else nullcontext():
        while (line := _read(asks)) is not None:
            yield line
    if asks:
        sys.stderr.write("\n")  # after the prompt


def _read(asks: bool) -> str | None:
    prompt = PROMPT if asks else ""
    if not sys.stdout.isatty():  # only results go there
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
    """The file of the lines typed before."""
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if os.path.isabs(state) else Path(os.path.expanduser("~")) / ".local" / "state"
    return folder / "vanilla-transformer" / "history"


def _keep(readline: Any, path: Path) -> None:
    """Write the newest lines, readable by the user only; without space or permission, none are kept."""
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        readline.set_history_length(LINES_KEPT)
        readline.write_history_file(path)
        path.chmod(0o600)


__all__ = ["history_path", "typed_lines"]
