"""Translate sentences in order and in bulk, with n-best lists and scores (section 6.1).

Sentences are sorted by length, batched by tokens and given back in the order they came in. How they are decoded comes
from the model's generation config unless the call says otherwise. A source is never truncated; a translation that ran
into its length limit says so (`Hypothesis.finished`).

A hypothesis' score is the one beam search ranks by: the sum of the natural logarithms of its tokens' probabilities,
end of sentence included, divided by ((5 + number of tokens) / 6) ** gnmt_length_penalty or, where that is not set, by
(number of tokens) ** length_penalty. It is at most 0, and the same for greedy decoding as for a beam of one. Left out:
n-best lists of samples.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from transformers.generation import StoppingCriteriaList

from ..model.generation import SourceLengthLimit, TranslationGenerationMixin
from ..model.memory import keep_freed_memory
from .loading import choose_device, load_model_and_tokenizer
from .parallel import side_by_side, workers_for
from .precision import set_decoding_precision
from .search import Search, StepScores, cut_at_end, settle_search
from .sentences import (
    batches_of_workers,
    check_batch_tokens,
    check_lengths,
    check_sentences,
    inference,
    line_place,
    longest_sentence,
    padded_source,
    sentence_place,
)

DEFAULT_BATCH_TOKENS = 4096

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Hypothesis:
    """One way to translate a sentence.

    Attributes:
        text: the translation, special tokens left out; it may hold any character, newlines included.
        score: length-normalised log-probability, natural logarithm, at most 0 (see the module's docstring).
        finished: whether it ended by itself; `False` if it ran into its length limit.
        token_log_probabilities: of each of its tokens, end of sentence included; `None` where the model's `generate`
            does not tell them, as beam search of other models does not.
    """

    text: str
    score: float
    finished: bool
    token_log_probabilities: tuple[float, ...] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Translation:
    """The hypotheses for one sentence, best first: as many as asked for, and one for a sentence without text."""

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


NOTHING = Translation((Hypothesis("", 0.0, True),))
"""The translation of a sentence without text: the empty one, with certainty."""


class Translator:
    """A sequence-to-sequence model and its tokenizer, from text to text.

    On a processor with glibc, the process keeps the memory that translating has freed, for the next step to use.

    Args:
        model: any encoder-decoder of `transformers` with `generate`.
        tokenizer: its tokenizer.
        device: where to move the model; `None` leaves it where it is.
        precision: of the matrix products, for models of ours: `None` is the weights' own, `"bf16"` and `"int8"` are
            faster on processors that have instructions for them and change a few translations, `"auto"` is the
            fastest of all on this machine, found by a short measurement and named in the log.

    Raises:
        ValueError: another precision, or one that this model or device has not.
    """

    def __init__(
        self, model: Any, tokenizer: Any, device: str | torch.device | None = None, precision: str | None = None
    ) -> None:
        self.model = model if device is None else model.to(device)
        self.tokenizer = tokenizer
        if precision is not None:
            set_decoding_precision(self.model, precision)

    @classmethod
    def from_pretrained(
        cls,
        folder_or_id: str | os.PathLike[str],
        device: str | torch.device | None = None,
        precision: str | None = None,
    ) -> "Translator":
        """Load a model and its tokenizer from a folder or by their name on the Hub.

        Args:
            folder_or_id: a complete model folder, or a name such as "org/name".
            device: `None` takes the accelerator if there is one.
            precision: as of the class.

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
        batch_tokens: int = DEFAULT_BATCH_TOKENS,
        *,
        first_line: int | None = None,
        progress: Progress | None = None,
        **generate_settings: Any,
    ) -> list[Translation]:
        """Translate sentences; what one of them gives does not depend on the others.

        A sentence without text (empty, or nothing but white space) is not shown to the model: its one hypothesis is
        empty, with score 0.

        Args:
            sentences: any number, of any length.
            num_beams: beam size, 1 is greedy; `None` takes the generation config's.
            n_best: hypotheses of each sentence, at most `num_beams`.
            batch_tokens: most source tokens of a batch, padding included; a longer sentence goes alone. Models of ours
                translate up to four batches at once on a processor.
            first_line: number of the first sentence in its file, for messages to name a line; without it they name
                `sentences[i]`.
            progress: called after each batch with its number of sentences, those without text once at the start.
            generate_settings: other settings of `generate`, such as `length_penalty` or `max_extra_tokens`; unset,
                the generation config's hold, and if that limits no length, `max_extra_tokens` is 50.

        Returns:
            One translation per sentence, in the order of the sentences.

        Raises:
            TypeError: `sentences` is not a list of strings, or a setting is the translator's own.
            ValueError: `num_beams`, `n_best`, `batch_tokens` or `max_extra_tokens` out of range, a setting unknown to
                `generate`, or a sentence longer than the model has positions for.
        """
        check_batch_tokens(batch_tokens)
        search = settle_search(self.model.generation_config, num_beams, n_best, generate_settings)
        place = sentence_place if first_line is None else line_place(first_line)
        check_sentences(sentences, place)
        source_ids = self._encode(sentences)
        check_lengths(source_ids, self.model.config, place)
        return self._translate(source_ids, search, batch_tokens, progress or (lambda sentences: None))

    def translate_lines(
        self, lines: Iterable[str], *, chunk_lines: int = 2000, **settings: Any
    ) -> Iterator[Translation]:
        """Translate any number of lines in steady memory, in order.

        Args:
            lines: read as translations are asked for, never more than `chunk_lines` ahead.
            chunk_lines: lines to read before any is translated, at least 1; more make fuller batches.
            settings: as of `translate`. Messages name a sentence by its line, counted from 1.

        Yields:
            One translation per line.

        Raises:
            ValueError: `chunk_lines` out of range, and, when it comes to it, what `translate` raises.
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
        """What `translate` would decode with, as a dict that JSON can hold.

        The settings of the call, then those of the generation config that differ from the defaults of `generate`.
        """
        defaults = self.model.generation_config
        search = settle_search(defaults, num_beams, n_best, generate_settings)
        configured = {
            name: value
            for name, value in defaults.to_diff_dict().items()
            if not name.startswith(("_", "output_")) and not name.endswith("_token_id")
        }
        for name in ("transformers_version", "use_cache", "max_extra_tokens", "length_penalty", "gnmt_length_penalty"):
            configured.pop(name, None)
        precision = getattr(self.model, "decoding_precision", None)
        precisions = {} if precision is None else {"precision": precision}
        lengths = {} if search.max_extra_tokens is None else {"max_extra_tokens": search.max_extra_tokens}
        return {
            **configured,
            "num_beams": search.num_beams,
            **search.length_settings(),
            **lengths,
            **precisions,
            **search.settings,
        }

    def _translate(
        self, source_ids: list[list[int]], search: Search, batch_tokens: int, progress: Progress
    ) -> list[Translation]:
        translations = [NOTHING] * len(source_ids)
        progress(sum(not ids for ids in source_ids))
        batches = batches_of_workers([len(ids) for ids in source_ids], batch_tokens, workers_for(self.model))

        def translate_batch(batch: list[int]) -> list[Translation]:
            return self._translate_batch([source_ids[index] for index in batch], search)

        if self.model.device.type == "cpu":
            keep_freed_memory()
        with inference(self.model):
            for batch, translated in zip(batches, side_by_side(self.model, translate_batch, batches), strict=True):
                for index, translation in zip(batch, translated, strict=True):
                    translations[index] = translation
                progress(len(batch))
        return translations

    def _encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Token ids of each sentence, end of sentence included; none for a sentence without text."""
        with_text = [index for index, sentence in enumerate(sentences) if sentence.strip()]
        ids: list[list[int]] = [[] for _ in sentences]
        if with_text:
            encoded = self.tokenizer([sentences[index] for index in with_text], truncation=False, verbose=False)
            for index, sentence in zip(with_text, encoded["input_ids"], strict=True):
                ids[index] = list(sentence)
        return ids

    def _translate_batch(self, source_ids: list[list[int]], search: Search) -> list[Translation]:
        settings = dict(search.settings)
        criteria = StoppingCriteriaList()
        limits = self._length_limits(source_ids, search)
        if limits is not None:
            criteria.append(SourceLengthLimit(limits, prompt_len=1))
            settings |= {"max_new_tokens": int(limits.max()), "max_length": None}
        outputs, steps = self._generate(
            criteria,
            **padded_source(source_ids, self.model, self.tokenizer),
            num_beams=search.num_beams,
            num_return_sequences=search.n_best,
            **search.length_settings(),
            return_dict_in_generate=True,
            **settings,
        )
        tokens = outputs.sequences[:, 1:].tolist()  # without the decoder's start token
        most = [len(tokens[0])] * len(source_ids) if limits is None else limits.tolist()
        hypotheses = [cut_at_end(row, most[i // search.n_best], search.eos_ids) for i, row in enumerate(tokens)]
        if search.num_beams == 1:
            scores = [
                sum(row[: len(ids)]) / search.normaliser(len(ids))
                for row, (ids, _) in zip(steps.double().tolist(), hypotheses, strict=True)
            ]
        else:
            scores = outputs.sequences_scores.tolist()
        return self._gather(hypotheses, scores, None if steps is None else steps.tolist(), search.n_best)

    def _generate(self, criteria: StoppingCriteriaList, **arguments: Any) -> tuple[Any, Any]:
        """What `generate` gives, and the log-probabilities of its tokens where it tells them, (rows, new tokens)."""
        if isinstance(self.model, TranslationGenerationMixin):
            outputs = self.model.generate(stopping_criteria=criteria, **arguments)
            if self.model.search_path == "fast":
                return outputs, outputs.token_log_probabilities
        # others give scores of sequences only with those of all tokens
        step_scores = StepScores(keep_chosen=arguments["num_beams"] == 1)
        watched = StoppingCriteriaList([step_scores, *criteria])
        outputs = self.model.generate(stopping_criteria=watched, output_scores=True, **arguments)
        return outputs, step_scores.log_probabilities() if step_scores.keep_chosen else None

    def _length_limits(self, source_ids: list[list[int]], search: Search) -> torch.Tensor | None:
        """Most new tokens of each sentence, shape (batch,); `None` where `generate`'s own limit is all there is."""
        positions = longest_sentence(self.model.config)
        if search.max_extra_tokens is None:
            return None
        limits = torch.tensor([len(ids) + search.max_extra_tokens for ids in source_ids])
        return limits if positions is None else limits.clamp(max=positions)

    def _gather(
        self,
        hypotheses: list[tuple[list[int], bool]],
        scores: list[float],
        steps: list[list[float]] | None,
        n_best: int,
    ) -> list[Translation]:
        texts = self.tokenizer.batch_decode([ids for ids, _ in hypotheses], skip_special_tokens=True)
        each = [None] * len(texts) if steps is None else steps
        ranked = [
            Hypothesis(text, score, finished, None if step is None else tuple(step[: len(ids)]))
            for text, score, step, (ids, finished) in zip(texts, scores, each, hypotheses, strict=True)
        ]
        return [Translation(tuple(ranked[start : start + n_best])) for start in range(0, len(ranked), n_best)]
