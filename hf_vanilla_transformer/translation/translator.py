"""Translate sentences in order and in bulk, with n-best lists and scores (section 6.1).

Sentences are decoded by `model/text_decoding.py`, which also explains scores: sorted by length, batched by tokens, and
returned in their original order. Decoding settings come from the model's generation config unless the call overrides
them. A source is never truncated. `Hypothesis.finished` tells whether a translation ran into its length limit.
N-best lists of samples are not supported.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from transformers import GenerationConfig

from ..model.call_settings import PAPER_EXTRA_TOKENS, CallSettings, settle
from ..model.sentences import check_batch_tokens, line_place, sentence_place
from ..model.text_decoding import BATCH_TOKENS, DecodedHypothesis, Progress, Request, TextDecoder
from .loading import choose_device, load_model_and_tokenizer
from .precision import take_snapshot

RESERVED_SETTINGS = (
    *("inputs", "input_ids", "attention_mask", "generation_config", "num_return_sequences"),
    *("return_dict_in_generate", "output_scores", "stopping_criteria", "streamer"),
)


@dataclass(frozen=True)
class Hypothesis:
    """One way to translate a sentence.

    Attributes:
        text: the translation, without special tokens; it may hold any character, newlines included.
        score: length-normalised log-probability, natural logarithm, at most 0 (see `model/text_decoding.py`).
        finished: whether it ended by itself; `False` if it ran into its length limit.
        token_log_probabilities: of each token, end of sentence included; `None` if the model's `generate` does not
            return them, as in beam search with models of other packages.
    """

    text: str
    score: float
    finished: bool
    token_log_probabilities: tuple[float, ...] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Translation:
    """The hypotheses for one sentence, best first: as many as asked for, but one for a sentence without text."""

    hypotheses: tuple[Hypothesis, ...]

    @property
    def text(self) -> str:
        """The best hypothesis' text."""
        return self.hypotheses[0].text

    @property
    def score(self) -> float:
        """The best hypothesis' score."""
        return self.hypotheses[0].score

    @property
    def finished(self) -> bool:
        """Whether the best hypothesis ended by itself."""
        return self.hypotheses[0].finished


class Translator:
    """A sequence-to-sequence model and its tokenizer, from text to text.

    A translator is a snapshot: if the fast path decodes the model, its weights are copied, packed and rounded when the
    translator is created. Later changes of the model do not affect it, so create a new one after a change. (Models of
    other classes, models with adapters or hooks, and calls that the fast path does not decode use the current model.)

    In float32, the result for a sentence depends neither on the other sentences nor on the machine, up to rounding.
    `bf16` and `int8` round differently in batches of other sizes, and `int8` scales all rows of a batch together.

    On a CPU with glibc, the process keeps freed memory for reuse.

    Args:
        model: any encoder-decoder of `transformers` with `generate`.
        tokenizer: its tokenizer.
        device: device to move the model to; `None` leaves it where it is.
        precision: precision of the matrix products, for models of this package. `None` means that of the weights.
            `"bf16"` and `"int8"` are faster on CPUs that support them, and change a few translations. `"auto"` picks
            the fastest on this machine by a short measurement, and logs it.

    Raises:
        ValueError: an unknown precision, or one that is unsupported by this model or device.
    """

    def __init__(
        self, model: Any, tokenizer: Any, device: str | torch.device | None = None, precision: str | None = None
    ) -> None:
        self.model = model if device is None else model.to(device)
        self.tokenizer = tokenizer
        snapshot = take_snapshot(self.model, precision)
        self.precision = None if snapshot is None else snapshot.precision
        self._decoder = TextDecoder(self.model, tokenizer, snapshot)

    @classmethod
    def from_pretrained(
        cls,
        folder_or_id: str | os.PathLike[str],
        device: str | torch.device | None = None,
        precision: str | None = None,
    ) -> "Translator":
        """Load a model and its tokenizer from a folder or from the Hub.

        Args:
            folder_or_id: a complete model folder, or a Hub name such as "org/name".
            device: device to use; `None` means the accelerator if there is one.
            precision: as in the class.

        Raises:
            FileNotFoundError, ValueError: see `load_model_and_tokenizer` and `choose_device`.
        """
        chosen = choose_device(device)  # before the long work
        return cls(*load_model_and_tokenizer(folder_or_id), chosen, precision)

    def translate(
        self,
        sentences: Sequence[str],
        num_beams: int | None = None,
        n_best: int = 1,
        batch_tokens: int = BATCH_TOKENS,
        *,
        first_line: int | None = None,
        progress: Progress | None = None,
        max_source_tokens: int | None = None,
        **generate_settings: Any,
    ) -> list[Translation]:
        """Translate sentences; the result for one does not depend on the others.

        A sentence without text (empty, or only white space) is not passed to the model: its one hypothesis is empty,
        with score 0. If a sentence is longer than any seen in training, or has more than 1,000 tokens, a warning names
        the longest, once for all sentences of a file.

        Args:
            sentences: any number of sentences of any length.
            num_beams: beam size, 1 for greedy decoding; `None` means that of the generation config.
            n_best: number of hypotheses for each sentence, at most `num_beams`; there may be fewer.
            batch_tokens: maximum number of source tokens in a batch, padding included; a longer sentence gets its own
                batch. Models of this package translate up to four batches at once on a CPU.
            first_line: line number of the first sentence in its file, so that messages name lines; if None, they name
                `sentences[i]`. From 2 on, the call continues a file of earlier calls.
            progress: called after each batch with its number of sentences; called first for those without text.
            max_source_tokens: refuse longer sentences before any is translated; `None` allows any length. Time and
                memory grow with the square of the length.
            generate_settings: other settings of `generate`, such as `length_penalty` or `max_extra_tokens`. If unset,
                they come from the generation config; if that does not limit the length, `max_extra_tokens` is 50.

        Returns:
            One translation per sentence, in the order of the sentences.

        Raises:
            TypeError: `sentences` is not a list of strings, or a setting is reserved for the translator.
            ValueError: `num_beams`, `n_best`, `batch_tokens` or `max_extra_tokens` is out of range, a setting is
                unknown to `generate`, or a sentence is longer than `max_source_tokens` or the model's positions.
        """
        check_batch_tokens(batch_tokens)
        settle_translation(self.model.generation_config, num_beams, n_best, generate_settings)  # before any work
        place = sentence_place if first_line is None else line_place(first_line)
        goes_on = first_line is not None and first_line > 1
        source_ids = self._decoder.encode(sentences, place, most_tokens=max_source_tokens, goes_on=goes_on)
        asked = {"num_beams": num_beams, **generate_settings}
        request = Request({name: value for name, value in asked.items() if value is not None}, n_best, batch_tokens)
        decoded = self._decoder.decode(source_ids, request, place, progress)
        texts = iter(self._decoder.texts([each.ids for hypotheses in decoded for each in hypotheses if each.ids]))
        return [Translation(tuple(_with_text(each, texts) for each in hypotheses)) for hypotheses in decoded]

    def translate_lines(
        self, lines: Iterable[str], *, chunk_lines: int = 2000, **settings: Any
    ) -> Iterator[Translation]:
        """Translate any number of lines in constant memory, in order.

        Args:
            lines: lines of text; read on demand, never more than `chunk_lines` ahead.
            chunk_lines: number of lines to read at a time, at least 1; larger values make fuller batches.
            settings: as in `translate`. Messages name a sentence by its line, counted from 1.

        Yields:
            One translation per line.

        Raises:
            ValueError: `chunk_lines` is out of range; during iteration, the errors of `translate`.
        """
        if chunk_lines < 1:
            raise ValueError(f"chunk_lines is a number of lines and must be at least 1, got {chunk_lines}.")
        return self._translate_chunks(iter(lines), chunk_lines, settings)

    def _translate_chunks(
        self, lines: Iterator[str], chunk_lines: int, settings: dict[str, Any]
    ) -> Iterator[Translation]:
        first_line = 1
        while chunk := list(islice(lines, chunk_lines)):
            yield from self.translate(chunk, first_line=first_line, **settings)
            first_line += len(chunk)

    def decoding(self, num_beams: int | None = None, n_best: int = 1, **generate_settings: Any) -> dict[str, Any]:
        """The settings that `translate` would use: as `describe_decoding`, plus the precision if not the weights'.

        Raises:
            TypeError, ValueError: as in `translate`.
        """
        described = describe_decoding(self.model.generation_config, num_beams, n_best, **generate_settings)
        return described if self.precision is None else {**described, "precision": self.precision}


def _with_text(hypothesis: DecodedHypothesis, texts: Iterator[str]) -> Hypothesis:
    text = next(texts) if hypothesis.ids else ""
    return Hypothesis(text, hypothesis.score, hypothesis.finished, hypothesis.token_log_probabilities)


def describe_decoding(
    defaults: GenerationConfig, num_beams: int | None = None, n_best: int = 1, **generate_settings: Any
) -> dict[str, Any]:
    """How a model with this generation config decodes, as a JSON-compatible dict.

    It holds the settings of the call, and those of the generation config that differ from the defaults of `generate`.
    """
    settings = settle_translation(defaults, num_beams, n_best, generate_settings)
    configured = {
        name: value
        for name, value in defaults.to_diff_dict().items()
        if not name.startswith(("_", "output_")) and not name.endswith("_token_id")
    }
    for name in ("transformers_version", "use_cache", "max_extra_tokens", "length_penalty", "gnmt_length_penalty"):
        configured.pop(name, None)
    called = {name: value for name, value in generate_settings.items() if value is not None}
    for name in ("length_penalty", "gnmt_length_penalty"):
        called.pop(name, None)
    extra = settings.max_extra_tokens if settings.has_length() else PAPER_EXTRA_TOKENS
    lengths = {} if extra is None else {"max_extra_tokens": extra}
    return {**configured, "num_beams": settings.num_beams, **settings.length_settings(), **lengths, **called}


def settle_translation(
    defaults: GenerationConfig, num_beams: int | None, n_best: int, generate_settings: Mapping[str, Any]
) -> CallSettings:
    """Merge the settings of a call of `translate` with those of the generation config; the call's take precedence.

    Raises:
        TypeError: a setting is reserved for the translator.
        ValueError: a number is out of range.
    """
    taken = [name for name in generate_settings if name in RESERVED_SETTINGS]
    if taken:
        raise TypeError(f"The translator itself sets {', '.join(taken)} of `generate`: leave it out.")
    settings = settle({"num_beams": num_beams, **generate_settings}, None, defaults)
    if not 1 <= n_best <= settings.num_beams:
        raise ValueError(
            f"n_best must be at least 1 and at most num_beams, got n_best {n_best} and num_beams "
            f"{settings.num_beams}. Raise num_beams to see more hypotheses."
        )
    return settings
