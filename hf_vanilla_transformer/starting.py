"""Setup before seconds of imports, if this process was started as the `vanilla-transformer` program.

The package imports this module first. It has no effect when the package is used as a library.

- Ctrl-C prints one line and exits with code 130, instead of a traceback from the middle of some import.
- A closed standard stream is opened on the null device. Otherwise the next file opened, such as a checkpoint, would
  get its number, and a library's output to standard error would be written to that file.
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
    """Whether this process runs `vanilla-transformer`, `python -m` with this package, or a launcher in `scripts`."""
    if sys.argv[:1] == ["-m"]:  # until Python has found the module
        return any(argument.endswith(_PACKAGE.name) for argument in sys.orig_argv)
    file = Path(getattr(sys.modules.get("__main__"), "__file__", None) or "")
    if _PROGRAM in (file.stem, file.parent.stem):  # on Windows a folder in an .exe
        return True
    command = file.stem.removesuffix("_model")
    return file.resolve().parent == _PACKAGE.parent / "scripts" and (_PACKAGE / "cli" / f"{command}.py").exists()


def begin() -> None:
    """Handle Ctrl-C, and open standard streams that are closed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # under nohup and the like it is ignored
        signal.signal(signal.SIGINT, _stop)


def imported() -> None:
    """Hand over to the command line: Ctrl-C raises `KeyboardInterrupt` again."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def importing() -> Iterator[None]:
    """Let Ctrl-C exit at once during slow imports within a command, when there is no work to clean up."""
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
    """Let another Ctrl-C end the process without a traceback, when only the exit is left to do."""
    if IS_PROGRAM and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _stop(*_: Any) -> None:
    os.write(2, f"\n{_PROGRAM}: interrupted.\n".encode())
    os._exit(130)  # 128 + SIGINT; the module being imported could swallow an exception


IS_PROGRAM = is_program()
if IS_PROGRAM:
    begin()
