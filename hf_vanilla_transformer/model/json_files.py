"""Reading and writing JSON strictly: limited size and depth, unique keys, and finite numbers only.

Python's own reader keeps the last of two equal keys, accepts NaN and Infinity, which are not JSON, and raises a
RecursionError if the nesting is deep.
"""

import json
import math
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LARGEST_SETTINGS = 16 << 20
"""Maximum size of a settings file in bytes; real ones have a few kilobytes."""
LARGEST_TABLE = 128 << 20
"""Maximum size in bytes of a file that grows with a vocabulary, a run or a test set."""
DEEPEST = 64
"""Maximum nesting of lists and objects; a tokenizer has about ten levels."""


def read_json(path: str | os.PathLike[str], largest: int = LARGEST_SETTINGS, finite: bool = True) -> Any:
    """The content of a JSON file.

    Args:
        path: the file, UTF-8.
        largest: maximum size in bytes.
        finite: refuse NaN and Infinity; training logs may hold them.

    Raises:
        OSError: the file cannot be read.
        ValueError: the content is refused; the message names the file and says why.
    """
    path = Path(path)
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("it is not a regular file")
            content = file.read(largest + 1)
        if len(content) > largest:
            raise ValueError(f"it has more than {largest:,} bytes")
        return parse_json(content, finite)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}). Copy or download it again.") from error


def read_json_object(path: str | os.PathLike[str], largest: int = LARGEST_SETTINGS) -> dict[str, Any]:
    """The settings in a JSON file, by name.

    Raises:
        OSError, ValueError: as in `read_json`; ValueError also if the file does not hold an object.
    """
    found = read_json(path, largest)
    if not isinstance(found, dict):
        raise ValueError(
            f"{path} must hold a JSON object of settings, but it holds {json.dumps(found)[:40]}. Copy or download it "
            "again."
        )
    return found


def parse_json(text: str | bytes, finite: bool = True) -> Any:
    """The content of JSON text.

    Args:
        text: bytes are UTF-8.
        finite: refuse NaN, Infinity, and numbers too large for a float.

    Raises:
        ValueError: the text is not JSON, is nested too deeply, repeats a key or holds NaN or infinity; the message is
            a clause to follow the file's name.
    """
    try:
        text = text if isinstance(text, str) else str(text, "utf-8")
        if text.startswith("\ufeff"):
            raise _RefusedError("it begins with a byte order mark, which JSON does not allow")
        found = (_FINITE if finite else _ANY).decode(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except _RefusedError as error:
        raise ValueError(str(error)) from None
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    _require_shallow(found)
    return found


def to_json(value: Any, **options: Any) -> str:
    """As `json.dumps`, but refuse NaN and Infinity, which are not JSON.

    Raises:
        ValueError: the value holds NaN or infinity.
    """
    try:
        return json.dumps(value, **{"ensure_ascii": False, "allow_nan": False, **options})
    except ValueError as error:
        raise ValueError(
            "A result must hold finite numbers, but it holds NaN or infinity, which JSON cannot represent. Check the "
            "model with `doctor`."
        ) from error


_TOO_DEEP = f"its lists and objects are nested more than {DEEPEST} deep"


class _RefusedError(Exception):
    """Content that Python's reader would accept and this module refuses."""


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # opening a named pipe would wait for a writer


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _RefusedError(f"it names {twice[:60]!r} twice, and only one value can apply")
    return found


def _refuse_constant(name: str) -> Any:
    raise _RefusedError(f"it holds {name}, which is not a JSON number")


def _finite_number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _RefusedError(f"it holds {text[:40]}, which is too large a number")
    return number


_ANY = json.JSONDecoder(object_pairs_hook=_each_key_once)
_FINITE = json.JSONDecoder(
    object_pairs_hook=_each_key_once, parse_constant=_refuse_constant, parse_float=_finite_number
)


def _require_shallow(found: Any) -> None:
    level = [found]
    for _ in range(DEEPEST):
        level = [each for holder in level if isinstance(holder, (dict, list)) for each in _inside(holder)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _inside(holder: Any) -> Iterable[Any]:
    """The lists and objects inside a list or an object."""
    values = holder.values() if isinstance(holder, dict) else holder
    return [value for value in values if isinstance(value, (dict, list))]


__all__ = ["LARGEST_SETTINGS", "LARGEST_TABLE", "parse_json", "read_json", "read_json_object", "to_json"]
