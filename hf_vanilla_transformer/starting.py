"""What must be settled before seconds of imports, where this process was started as the program.

Imported first by the package, and without effect where the package is used as a library.

- Ctrl-C is one line and exit code 130; Python's own answer is a traceback from the middle of some import.
- A standard stream that was closed is opened on the null device, for else the next file that is opened, such as a
  checkpoint, gets its number, and what a library writes to standard error goes there.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent
_PROGRAM = "vanilla-transformer"


def is_program() -> bool:
    """Whether this process is `vanilla-transformer`, `python -m` with this package, or a launcher in `scripts`."""
    if sys.argv[:1] == ["-m"]:  # until Python has found the module
        return any(argument.endswith(_PACKAGE.name) for argument in sys.orig_argv)
    file = Path(getattr(sys.modules.get("__main__"), "__file__", None) or "")
    if _PROGRAM in (file.stem, file.parent.stem):  # on Windows a folder in an .exe
        return True
    command = file.stem.removesuffix("_model")
    return file.resolve().parent == _PACKAGE.parent / "scripts" and (_PACKAGE / "cli" / f"{command}.py").exists()


def begin() -> None:
    """Answer Ctrl-C, and leave no number of a standard stream free."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # under nohup and the like it is ignored
        signal.signal(signal.SIGINT, _stop)


def imported() -> None:
    """The command line has taken over: Ctrl-C raises `KeyboardInterrupt` again."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def importing() -> Iterator[None]:
    """Seconds of imports within a command, when no work has begun that an interrupt must tidy up after."""
    in_charge = (
        IS_PROGRAM
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if in_charge:
        signal.signal(signal.SIGINT, _stop)
    try:
        yield
    finally:
        if in_charge:
            imported()


def ended() -> None:
    """Nothing is left to do but to leave; another Ctrl-C needs no traceback."""
    if IS_PROGRAM and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _stop(*_: Any) -> None:
    os.write(2, f"\n{_PROGRAM}: interrupted.\n".encode())
    os._exit(130)  # 128 + SIGINT; an exception could get lost in what is being imported


IS_PROGRAM = is_program()
if IS_PROGRAM:
    begin()
