"""Whether the Hub can be reached: asked once, and briefly, before the libraries begin with their retries.

The one place that decides this, for models, tokenizers, data sets and pushes. Without a network the clients of the Hub
ask for each file for half a minute; here the cache is used instead, or one sentence says what is wrong. Only reaching
the Hub is bounded: whatever it answers, the libraries take as long as they need. Left out: the stock `from_pretrained`
and `pipeline`, which ask by themselves.
"""

import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from huggingface_hub import HfApi, get_session, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

logger = logging.getLogger(__name__)

T = TypeVar("T")

HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)
"""A repository's name, with its owner or without."""

ANSWER_WITHIN = 3.0
"""Seconds in which the Hub must answer, unless `HF_HUB_ETAG_TIMEOUT` says how long the libraries wait for a file's."""

REMEMBERED = 10.0
"""Seconds for which a Hub that was silent is not asked again: a model and its tokenizer wait once."""

SIGNS_OF_A_COPY = ("config.json", "tokenizer_config.json", "tokenizer.json", "README.md")


class HubNotReachedError(ConnectionError, FileNotFoundError):
    """A name that is nothing here, and a Hub that cannot be asked for it."""


@dataclass(frozen=True)
class Obstacle:
    """Why the Hub is not asked.

    Attributes:
        what: a clause that says it.
        remedy: what to do, after "check the spelling": a clause.
        wanted: whether the user said that the network stays off.
    """

    what: str
    remedy: str
    wanted: bool = False


def may_be_hub_id(name: str) -> bool:
    """Whether a name that is no path here may be meant for the Hub; "runs/mine" beside a folder `runs` is not."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    parent = Path(name).parent
    return HUB_ID.fullmatch(name) is not None and (parent == Path() or not parent.is_dir())


def from_hub_or_cache(name: str, read: Callable[[bool], T]) -> T:
    """What `read` makes of a name on the Hub, or of its copy in the cache where the Hub cannot be reached.

    Args:
        name: of a repository, for messages.
        read: reads it; the argument says whether from the cache alone. What is not there it tells by a
            `FileNotFoundError` or `ConnectionError`.

    Raises:
        HubNotReachedError: the Hub cannot be reached, and no copy is in the cache.
    """
    obstacle = find_obstacle()
    if obstacle is None:
        return read(False)
    try:
        found = read(True)
    except (FileNotFoundError, ConnectionError) as error:
        raise _not_reached(name, obstacle) from error
    if not obstacle.wanted:
        _say_once_that_a_copy_is_used(name, obstacle)
    return found


def require_copy_or_hub(name: str, revision: str | None = None) -> None:
    """Refuse a name that is no folder here and not in the cache if the Hub cannot be reached; quick, before imports.

    Raises:
        HubNotReachedError: so it is.
    """
    if not may_be_hub_id(name) or Path(name).exists() or _is_in_cache(name, revision):
        return
    if obstacle := find_obstacle():
        raise _not_reached(name, obstacle)


def require_hub(repo_id: str) -> None:
    """Refuse to speak with a Hub that cannot be reached.

    Raises:
        HubNotReachedError: it cannot.
    """
    if obstacle := find_obstacle():
        raise HubNotReachedError(
            f"{repo_id} is on the Hub, but {obstacle.what}. {obstacle.remedy[0].upper()}"
            f"{obstacle.remedy[1:]}, and try again."
        )


def find_obstacle() -> Obstacle | None:
    """Why the Hub cannot be asked now; None if it answers, whatever it says."""
    endpoint = HfApi().endpoint
    asked, known = _silences.get(endpoint, (-REMEMBERED, None))
    if time.monotonic() - asked < REMEMBERED:
        return known
    seconds = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or 0) or ANSWER_WITHIN
    error = _ask(endpoint, seconds)
    if error is None:
        return None
    if isinstance(error, OfflineModeIsEnabled):
        return Obstacle("HF_HUB_OFFLINE keeps the network off", "unset HF_HUB_OFFLINE", wanted=True)
    if "Timeout" not in type(error).__name__:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        return Obstacle(f"the Hub cannot be reached ({endpoint}: {reason})", "check the network")
    silence = Obstacle(
        f"the Hub cannot be reached ({endpoint}: no answer within {seconds:g} s)",
        "check the network, or raise HF_HUB_ETAG_TIMEOUT, in seconds, if it is slow",
    )
    _silences[endpoint] = time.monotonic(), silence
    return silence


_silences: dict[str, tuple[float, Obstacle | None]] = {}


def _ask(endpoint: str, seconds: float) -> Exception | None:
    """What keeps the Hub from answering, by the client's own session, which knows of proxies and certificates."""
    answers: SimpleQueue[Exception | None] = SimpleQueue()
    session = get_session()  # reads certificates, which is no waiting for the Hub

    def ask() -> None:
        try:
            session.head(endpoint, timeout=seconds, follow_redirects=False)
            answers.put(None)
        except Exception as error:  # whose class depends on huggingface_hub's version
            answers.put(error)

    # in a thread: no timeout bounds the look-up of a name, and that of a connection is for each of its addresses
    Thread(target=ask, daemon=True, name="asking the Hub").start()
    try:
        return answers.get(timeout=seconds)
    except Empty:
        return TimeoutError()


def _is_in_cache(name: str, revision: str | None) -> bool:
    found = (try_to_load_from_cache(name, file, revision=revision) for file in SIGNS_OF_A_COPY)
    return any(isinstance(path, str) for path in found)


def _not_reached(name: str, obstacle: Obstacle) -> HubNotReachedError:
    return HubNotReachedError(
        f"{name} is neither a folder here nor whole in the cache of the Hub, and {obstacle.what}. Check the spelling; "
        f"if it is a name on the Hub, {obstacle.remedy}."
    )


_said_of: set[str] = set()


def _say_once_that_a_copy_is_used(name: str, obstacle: Obstacle) -> None:
    if name not in _said_of:
        _said_of.add(name)
        logger.warning(
            f"The copy of {name} in the cache is used, since {obstacle.what}. With HF_HUB_OFFLINE=1 it is not asked."
        )


__all__ = [
    "HUB_ID",
    "HubNotReachedError",
    "find_obstacle",
    "from_hub_or_cache",
    "may_be_hub_id",
    "require_copy_or_hub",
    "require_hub",
]
