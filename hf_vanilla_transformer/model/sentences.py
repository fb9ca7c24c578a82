"""Sentences before they reach a model: checks, length limits, batches of similar length, and padding."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch

from .configuration_vanilla_transformer import longest_sentence

logger = logging.getLogger(__name__)

LONG_SENTENCE = 1000
"""Above this many tokens, one sentence may take minutes: time and memory of attention grow with the square."""

Place = Callable[[int], str]
"""Maps the index of a sentence to its name in messages."""


def sentence_place(index: int) -> str:
    """`sentences[3]`, for sentences given as a list."""
    return f"sentences[{index}]"


def line_place(first_line: int, side: str = "") -> Place:
    """`line 4`, for sentences from a file whose line `first_line` is sentence 0."""
    return lambda index: f"line {first_line + index:,}{side}"


def check_sentences(sentences: Sequence[str], place: Place) -> None:
    """Refuse anything but a list of Unicode strings.

    Raises:
        TypeError: a single string, something other than a list, or an item that is not a string.
        ValueError: a string with half of a surrogate pair, which UTF-8 cannot encode.
    """
    if isinstance(sentences, (str, bytes)) or not isinstance(sentences, Sequence):
        raise TypeError(
            f"Sentences must be a list of strings, but a {type(sentences).__name__} was given. "
            "Put a single sentence into a list."
        )
    for index, sentence in enumerate(sentences):
        if not isinstance(sentence, str):
            raise TypeError(f"Every sentence must be a string, but {place(index)} is {sentence!r:.60}.")
        try:
            sentence.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(
                f"Every sentence must be Unicode text, but {place(index)} holds half of a surrogate pair: "
                f"{sentence!r:.60}. Read its file as UTF-8 with errors='strict'."
            ) from None


MORE_POSITIONS = "use a model with more positions (`max_position_embeddings`) or with sinusoids"


def check_lengths(
    ids: Sequence[Sequence[int]], config: Any, place: Place, remedy: str = MORE_POSITIONS, most: int | None = None
) -> None:
    """Refuse sentences that are longer than the model's positions; nothing is ever truncated.

    Args:
        ids: token ids of each sentence.
        config: config of the model.
        place: names a sentence in messages.
        remedy: what to do with such a sentence other than to split it.
        most: a further limit on the number of tokens.

    Raises:
        ValueError: a sentence is too long.
    """
    _check_most(ids, place, most)
    limit = longest_sentence(config)
    for index, sentence in enumerate(ids):
        if limit is not None and len(sentence) > limit:
            raise ValueError(
                f"This model has positions for {limit:,} tokens, but {place(index)} has {len(sentence):,}. "
                f"Split it, or {remedy}."
            )


def _check_most(ids: Sequence[Sequence[int]], place: Place, most: int | None) -> None:
    for index, sentence in enumerate(ids):
        if most is not None and len(sentence) > most:
            raise ValueError(
                f"A sentence must have at most {most:,} tokens, but {place(index)} has {len(sentence):,}: time and "
                "memory grow with the square. Split it into sentences, or raise max_source_tokens."
            )


def longest_known_source(config: Any) -> int | None:
    """Length of the longest source seen in training, in tokens, or the stated number of positions if that is not
    recorded; `None` if neither is known."""
    trained = getattr(config, "trained_source_length", None)
    return getattr(config, "max_position_embeddings", None) if trained is None else trained


_SAID: "WeakKeyDictionary[Any, str]" = WeakKeyDictionary()
"""The last warning of `warn_of_long_sources` for each model."""


def warn_of_long_sources(ids: Sequence[Sequence[int]], model: Any, place: Place, goes_on: bool = False) -> None:
    """Warn of the longest source if it is longer than any seen in training, or so long that it may take minutes.

    Args:
        ids: token ids of each source.
        model: any encoder-decoder.
        place: names a source in messages.
        goes_on: whether these sources continue an earlier call of the same run. A run warns once, at its first long
            sources, and a warning is not repeated for the same model.
    """
    known = longest_known_source(model.config)
    limit = min(known or LONG_SENTENCE, LONG_SENTENCE)
    longer = [index for index, source in enumerate(ids) if len(source) > limit]
    if not longer:
        if not goes_on:
            _SAID.pop(model, None)
        return
    said = _SAID.get(model)
    message = _about_long_sources(ids, longer, model.config, place)
    if message != said and not (goes_on and said):
        _SAID[model] = message
        logger.warning(message)


def _about_long_sources(ids: Sequence[Sequence[int]], longer: list[int], config: Any, place: Place) -> str:
    worst = max(longer, key=lambda index: len(ids[index]))
    length, known = len(ids[worst]), longest_known_source(config)
    message = f"{place(worst)} has {length:,} tokens"
    if known is not None and length > known:
        is_recorded = getattr(config, "trained_source_length", None) is not None
        message += (
            f", but training saw no source of more than {known:,}"
            if is_recorded
            else f", but the model's stated limit is {known:,} (`max_position_embeddings`)"
        )
        message += ": expect a poor translation. Split it into sentences"
    if length > LONG_SENTENCE:
        message += ", far more than a sentence: it may take minutes and a lot of memory"
    others = f"; {len(longer) - 1:,} more of these sentences are too long" if len(longer) > 1 else ""
    return f"{message}{others}."


def check_batch_tokens(batch_tokens: int) -> None:
    """Refuse a budget of tokens that is too small for any sentence.

    Raises:
        ValueError: it is below 1.
    """
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens is a number of tokens and must be at least 1, got {batch_tokens}.")


def batches_by_tokens(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Group sentences of similar length into batches, longest first, so that memory runs out at once or never.

    Args:
        lengths: number of tokens of each sentence; those of length 0 are left out.
        batch_tokens: maximum number of tokens in a batch, padding included; a longer sentence gets its own batch.

    Yields:
        Indices into `lengths`.
    """
    order = sorted((i for i, length in enumerate(lengths) if length), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // lengths[order[start]])
        yield order[start : start + size]
        start += size


def batches_by_size(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Group sentences of similar length into batches of `size`, longest first; those of length 0 are left out."""
    order = sorted((i for i, length in enumerate(lengths) if length), key=lambda i: -lengths[i])
    return [order[start : start + size] for start in range(0, len(order), size)]


def batches_of_workers(lengths: Sequence[int], batch_tokens: int, workers: int) -> list[list[int]]:
    """As `batches_by_tokens`, but with smaller batches if that lets the workers finish at the same time."""
    batches = list(batches_by_tokens(lengths, batch_tokens))
    if workers == 1 or len(batches) < 2:
        return batches
    wanted = -(-len(batches) // workers) * workers
    even = sum(len(batch) * lengths[batch[0]] for batch in batches) // wanted
    for budget in range(even, batch_tokens, max(1, even // 50)):  # the least that makes no more batches
        smaller = list(batches_by_tokens(lengths, budget))
        if len(smaller) <= wanted:
            return smaller
    return batches


def pad(ids: Sequence[Sequence[int]], padding: int, device: torch.device) -> torch.Tensor:
    """Token ids of different lengths to one tensor, (batch, longest), padded on the right."""
    longest = max(len(sentence) for sentence in ids)
    return torch.tensor([[*sentence, *[padding] * (longest - len(sentence))] for sentence in ids], device=device)


def padded_source(ids: Sequence[Sequence[int]], model: Any, tokenizer: Any) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, each (batch, source_len), on the model's device."""
    padding = next((i for i in (tokenizer.pad_token_id, model.config.pad_token_id) if i is not None), 0)
    mask = pad([[1] * len(sentence) for sentence in ids], 0, model.device)
    return {"input_ids": pad(ids, padding, model.device), "attention_mask": mask}


class _Evaluations:
    """The number of threads that use a model for inference, and its modules that were in training mode before."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.users = 0
        self.trained: list[Any] = []

    def begin(self, model: Any) -> None:
        with self.lock:
            self.users += 1
            if self.users == 1:
                self.trained = [module for module in model.modules() if module.training]
                model.eval()

    def end(self) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0:
                for module in self.trained:
                    module.training = True
                self.trained = []


_EVALUATIONS: "WeakKeyDictionary[Any, _Evaluations]" = WeakKeyDictionary()
_NEW = Lock()


@contextmanager
def inference(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients, for any number of threads; afterwards each module's mode is restored."""
    with _NEW:
        evaluations = _EVALUATIONS.setdefault(model, _Evaluations())
    evaluations.begin(model)
    try:
        with torch.inference_mode():
            yield
    finally:
        evaluations.end()


__all__ = [
    "MORE_POSITIONS",
    "Place",
    "batches_by_size",
    "batches_by_tokens",
    "batches_of_workers",
    "check_batch_tokens",
    "check_lengths",
    "check_sentences",
    "inference",
    "line_place",
    "longest_known_source",
    "pad",
    "padded_source",
    "sentence_place",
    "warn_of_long_sources",
]
