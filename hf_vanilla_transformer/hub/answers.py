"""What the Hub answers, in one sentence that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub.errors import (
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..hub_access import require_hub

_TRANSPORT = {"TransportError", "NetworkError", "TimeoutException"}
"""Of the HTTP library, whose name depends on huggingface_hub's version."""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a little later: an error of the Hub's own, or a broken connection."""
    if isinstance(error, OfflineModeIsEnabled):
        return False
    status = _status(error)
    return status >= 500 if status else _is_transport(error)


@contextmanager
def explained(repo_id: str, revision: str | None = None) -> Iterator[None]:
    """See that the Hub can be reached, and turn the client's errors into Python's own kinds, each with a sentence.

    Raises:
        HubNotReachedError: a `ConnectionError`, before anything is tried.
        PermissionError: no token, or one that may not do this.
        FileNotFoundError: no such repository or branch.
        ConnectionError: no network, or a Hub that fails.
        ValueError: the repository changed meanwhile, or the Hub refuses what was sent.
    """
    require_hub(repo_id)
    try:
        yield
    except RevisionNotFoundError as error:
        raise FileNotFoundError(
            f"{repo_id} has no branch or commit {revision or 'main'}. Make the branch first, or leave it out."
        ) from error
    except LocalEntryNotFoundError as error:
        raise ConnectionError(
            f"The Hub cannot be reached any more, and nothing of {repo_id} is in the cache. Check the network."
        ) from error
    except Exception as error:
        if status := _status(error):
            raise _by_status(repo_id, status, error) from error
        if _is_transport(error):
            raise ConnectionError(
                f"The connection to the Hub broke ({type(error).__name__}). The same command goes on where it ended."
            ) from error
        raise


def _by_status(repo_id: str, status: int, error: Any) -> Exception:
    said = _what_it_said(error)
    if status == 401 and not isinstance(error, RepositoryNotFoundError):
        return PermissionError(f"The Hub does not know the access token ({said}). {_LOGIN}")
    if status == 401:
        return PermissionError(f"{repo_id} needs an access token, or is not there ({said}). {_LOGIN}")
    if status == 403:
        return PermissionError(
            f"The access token may not write to {repo_id} ({said}). Give one that may, or a name of your own."
        )
    if status == 404:
        return FileNotFoundError(f"There is no repository {repo_id} that this access token may see ({said}).")
    if status == 412:
        return ValueError(
            f"{repo_id} was changed by somebody else during the push, so nothing was published. Look at it, then run "
            "the same command again: what was uploaded stays."
        )
    if status >= 500:
        return ConnectionError(f"The Hub fails ({said}). The same command later goes on where this one ended.")
    return ValueError(f"The Hub refuses this ({said}).")


_LOGIN = "Log in with `hf auth login`, or set HF_TOKEN to a token that may write."


def _status(error: BaseException) -> int:
    """The HTTP status behind an error, 0 if there is none."""
    return getattr(getattr(error, "response", None), "status_code", 0) or 0


def _is_transport(error: BaseException) -> bool:
    is_library = any(base.__name__ in _TRANSPORT for base in type(error).__mro__)
    return is_library or isinstance(error, ConnectionError | TimeoutError)


def _what_it_said(error: Any) -> str:
    message = getattr(error, "server_message", None) or str(error)
    return f"{_status(error)}: {' '.join(message.split())[:160]}"
