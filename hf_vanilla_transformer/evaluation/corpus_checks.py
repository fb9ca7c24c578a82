"""Checks before sentences are scored or saved: all are strings, both sides have equal length, none is missing."""

from collections.abc import Iterable, Sized


def check_texts(name: str, texts: Iterable[object]) -> list[str]:
    """Return `texts` as a list after checking that it holds at least one string and only strings of valid Unicode.

    Args:
        name: what the sentences are, for the messages.
        texts: an iterable of strings.

    Raises:
        TypeError: `texts` or one of its items has the wrong type.
        ValueError: `texts` is empty, or a string cannot be encoded as UTF-8.
    """
    if isinstance(texts, (str, bytes)) or not hasattr(texts, "__iter__"):
        raise TypeError(
            f"{name} must be a list of strings, one per sentence, but one {type(texts).__name__} was given. "
            "Put a single sentence into a list."
        )
    items = list(texts)
    if not items:
        raise ValueError(f"A corpus needs at least one sentence, but {name} holds 0. Check the file it was read from.")
    return [_checked_text(f"{name}[{number}]", text) for number, text in enumerate(items)]


def check_references(references: Iterable[object]) -> list[list[str]]:
    """Return a list of references per sentence; all these lists have the same length.

    Args:
        references: for each sentence a string, or a list of strings.

    Raises:
        TypeError: an item is neither a string nor a list of strings.
        ValueError: there is no sentence or no reference, or the number of references per sentence varies.
    """
    if isinstance(references, (str, bytes)) or not hasattr(references, "__iter__"):
        return [check_texts("references", references)]  # raises: not a list
    items = list(references)
    if not any(isinstance(item, (list, tuple)) for item in items):
        return [[text] for text in check_texts("references", items)]
    lists = []
    for number, item in enumerate(items):
        if not isinstance(item, (list, tuple)):
            raise TypeError(
                f"references must hold either strings or lists of strings, but references[{number}] is a "
                f"{type(item).__name__} among lists. Put it into a list."
            )
        if not item:
            raise ValueError(f"Every sentence needs a reference, but references[{number}] is an empty list. Drop it.")
        lists.append(check_texts(f"references[{number}]", item))
    for number, item in enumerate(lists):
        if len(item) != len(lists[0]):
            raise ValueError(
                f"Every sentence must have the same number of references, but references[0] has {len(lists[0])} and "
                f"references[{number}] has {len(item)}. Score with the references that all sentences have."
            )
    return lists


def check_same_length(name: str, items: Sized, other_name: str, other_items: Sized) -> None:
    """Check that both sides have the same length.

    Raises:
        ValueError: the lengths differ; the message states both.
    """
    if len(items) != len(other_items):
        raise ValueError(
            f"{name} and {other_name} must pair sentence n with sentence n, but there are {len(items):,} {name} and "
            f"{len(other_items):,} {other_name}. Check that both come from the same test set; "
            "several references go into one list per sentence."
        )


def _checked_text(place: str, text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(
            f"{place} must be a string, but it is a {type(text).__name__}. Decode token ids to text first."
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{place} must be valid Unicode, but it holds the lone surrogate {text[error.start]!r}. "
            "Read the file as UTF-8 without errors='surrogateescape'."
        ) from None
    return text
