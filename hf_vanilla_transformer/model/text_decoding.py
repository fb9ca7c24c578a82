"""Text in, text out: any number of sentences of any length to hypotheses with scores, by any encoder-decoder.

This is the implementation behind `Translator` and the `translate` pipeline. Sentences are checked, tokenised, sorted
by length and grouped into batches. Each batch is decoded by one call of `generate` or of the fast path. Hypotheses are
cut after their end of sentence and returned in the order of the sentences. Nothing is truncated, and sentences without
text are not passed to the model.

Beam search ranks hypotheses by their score: the sum of the natural logarithms of the tokens' probabilities, end of
sentence included, divided by ((5 + number of tokens) / 6) ** gnmt_length_penalty or, if that is not set, by (number of
tokens) ** length_penalty. It is at most 0, and the same for greedy decoding as for a beam of one.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers.generation import EosTokenCriteria, GenerationMixin, StoppingCriteriaList

from .call_settings import PAPER_EXTRA_TOKENS, CallSettings, as_ids, settle
from .configuration_vanilla_transformer import is_ours
from .fast_path import Call
from .generation import TranslationGenerationMixin
from .memory import keep_freed_memory
from .sentences import (
    MORE_POSITIONS,
    Place,
    batches_by_size,
    batches_by_tokens,
    batches_of_workers,
    check_lengths,
    check_sentences,
    inference,
    padded_source,
    sentence_place,
    warn_of_long_sources,
)
from .snapshot import Snapshot
from .sound_scores import NumbersWatch, is_score, no_translation
from .step_scores import StepScores

BATCH_TOKENS = 4096
MOST_WORKERS = 4
"""Maximum number of threads that decode; each holds a batch in memory."""

Progress = Callable[[int], object]


@dataclass(frozen=True)
class DecodedHypothesis:
    """One target.

    Attributes:
        ids: token ids, without the start token, end of sentence included.
        score: see the module's docstring; NaN if it was not asked for.
        finished: whether it ended by itself; `False` if it ran into its length limit.
        token_log_probabilities: of each token, or None if the model's `generate` does not return them.
    """

    ids: tuple[int, ...]
    score: float
    finished: bool
    token_log_probabilities: tuple[float, ...] | None = None


NOTHING = (DecodedHypothesis((), 0.0, True),)
"""The hypotheses of a sentence without text: only the empty target, with score 0."""


@dataclass(frozen=True)
class Request:
    """What a call with many sentences asks for, before `call_settings.settle` merges it with the configs.

    Attributes:
        settings: arguments of `generate` as given, possibly including a `generation_config`.
        n_best: number of hypotheses for each sentence.
        batch_tokens: maximum number of source tokens in a batch, padding included; a longer sentence goes alone.
        batch_size: maximum number of sentences in a batch, instead of `batch_tokens`.
        with_scores: whether to compute scores, which can cost memory if `transformers` decodes.
    """

    settings: Mapping[str, Any]
    n_best: int = 1
    batch_tokens: int = BATCH_TOKENS
    batch_size: int | None = None
    with_scores: bool = True


class TextDecoder:
    """A model and its tokenizer, from text to token ids and from token ids to hypotheses.

    Args:
        model: any encoder-decoder of `transformers` with `generate`.
        tokenizer: its tokenizer.
        snapshot: packed weights to decode with; if None, the model's own weights are read at each call.
    """

    def __init__(self, model: Any, tokenizer: Any, snapshot: Snapshot | None = None) -> None:
        self.model, self.tokenizer, self.snapshot = model, tokenizer, snapshot

    def encode(
        self,
        sentences: Sequence[str],
        place: Place = sentence_place,
        remedy: str = MORE_POSITIONS,
        most_tokens: int | None = None,
        goes_on: bool = False,
        **tokenizing: Any,
    ) -> list[list[int]]:
        """Token ids of each sentence, end of sentence included; empty for a sentence without text.

        If sources are longer than any seen in training, a warning names the longest.

        Args:
            sentences: any number of sentences.
            place: names a sentence in messages.
            remedy: what to do with a sentence that is too long, other than to split it.
            most_tokens: maximum number of tokens in a sentence, if limited.
            goes_on: whether these sentences continue an earlier call of the same run, which warns only once.
            tokenizing: arguments of the tokenizer's call.

        Raises:
            TypeError: `sentences` is not a list of strings.
            ValueError: text is not valid Unicode, or a sentence is longer than `most_tokens` or the model's positions.
        """
        check_sentences(sentences, place)
        with_text = [index for index, sentence in enumerate(sentences) if sentence.strip()]
        ids: list[list[int]] = [[] for _ in sentences]
        if with_text:
            tokenizing = {"truncation": False, "verbose": False, **tokenizing}
            encoded = self.tokenizer([sentences[index] for index in with_text], **tokenizing)
            for index, sentence in zip(with_text, encoded["input_ids"], strict=True):
                ids[index] = list(sentence)
        check_lengths(ids, self.model.config, place, remedy, most_tokens)
        warn_of_long_sources(ids, self.model, place, goes_on)
        return ids

    def decode(
        self,
        source_ids: Sequence[list[int]],
        request: Request,
        place: Place = sentence_place,
        progress: Progress | None = None,
    ) -> list[tuple[DecodedHypothesis, ...]]:
        """Decode sentences; in the precision of the weights, the result for one does not depend on the others.

        Args:
            source_ids: as returned by `encode`.
            request: how to decode.
            place: names a sentence in messages.
            progress: called after each batch with its number of sentences; called first for those without text.

        Returns:
            For each sentence its hypotheses, best first: as many as asked for, or as many as there are.

        Raises:
            ValueError: a setting is out of range or unknown to `generate`, or a sentence has no translation.
        """
        refuse_rows(request.settings)
        decoded: list[tuple[DecodedHypothesis, ...]] = [NOTHING] * len(source_ids)
        if progress is not None:
            progress(sum(not ids for ids in source_ids))
        lengths = [len(ids) for ids in source_ids]
        snapshot = self.snapshot
        if snapshot is None and sum(lengths) > request.batch_tokens and self._is_fast_kind():
            snapshot = Snapshot.of(self.model)  # for this call only: it pays off with several batches
        batches = self._batches(lengths, request, self._workers(snapshot))

        def decode_batch(batch: list[int]) -> list[tuple[DecodedHypothesis, ...]]:
            return self._decode_batch([source_ids[index] for index in batch], request, snapshot, batch, place)

        if self.model.device.type == "cpu":
            keep_freed_memory()
        with torch.inference_mode():
            for batch, found in zip(batches, self._side_by_side(decode_batch, batches, snapshot), strict=True):
                for index, hypotheses in zip(batch, found, strict=True):
                    decoded[index] = hypotheses
                if progress is not None:
                    progress(len(batch))
        return decoded

    def texts(self, rows: Sequence[Sequence[int]], **decoding: Any) -> list[str]:
        """The text of token ids, without special tokens."""
        if not rows:
            return []
        return list(self.tokenizer.batch_decode([list(row) for row in rows], skip_special_tokens=True, **decoding))

    # Batches

    def _is_fast_kind(self) -> bool:
        return has_our_generate(self.model) and self.model.device.type == "cpu"

    def _workers(self, snapshot: Snapshot | None) -> int:
        """Number of batches to decode at once: most steps of a search are too small for all threads of a CPU."""
        several = snapshot is not None and self.model.device.type == "cpu"
        return min(torch.get_num_threads(), MOST_WORKERS) if several else 1

    def _batches(self, lengths: list[int], request: Request, workers: int) -> list[list[int]]:
        if request.batch_size is not None:
            return batches_by_size(lengths, request.batch_size)
        if workers == 1:
            return list(batches_by_tokens(lengths, request.batch_tokens))
        return batches_of_workers(lengths, request.batch_tokens, workers)

    def _side_by_side(
        self, decode: Callable[[list[int]], Any], batches: list[list[int]], snapshot: Snapshot | None
    ) -> Iterator[Any]:
        """`map(decode, batches)`, on a CPU with several threads."""
        threads = torch.get_num_threads()
        workers = min(self._workers(snapshot), len(batches))
        if workers < 2:
            yield from map(decode, batches)
            return

        def work(batch: list[int]) -> Any:
            torch.set_num_threads(max(1, threads // workers))  # for this thread only, except in MKL
            with torch.inference_mode():
                return decode(batch)

        pool = ThreadPoolExecutor(workers)
        try:
            yield from pool.map(work, batches)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)

    # One batch

    def _decode_batch(
        self,
        source_ids: list[list[int]],
        request: Request,
        snapshot: Snapshot | None,
        indices: list[int],
        place: Place,
    ) -> list[tuple[DecodedHypothesis, ...]]:
        arguments = {
            **padded_source(source_ids, self.model, self.tokenizer),
            **with_settings(request.settings, return_dict_in_generate=True, num_return_sequences=request.n_best),
        }
        settings = settle(arguments, arguments.get("generation_config"), self.model.generation_config)
        arguments = self._with_length(arguments, settings)
        # a snapshot is in evaluation mode even if the model is not
        with nullcontext() if snapshot is not None else inference(self.model):
            outputs, steps, limits = self._generate(
                arguments, snapshot, request, settings.num_beams, lambda row: place(indices[row])
            )
        hypotheses = self._hypotheses(outputs, steps, limits, settings, ends_of(settings, arguments))
        each = range(0, len(hypotheses), request.n_best)
        rows = [hypotheses[start : start + request.n_best] for start in each]
        has_scores = steps is not None or getattr(outputs, "sequences_scores", None) is not None
        if not has_scores:
            return [tuple(row) for row in rows]
        # samples are not sorted
        rows = [sorted(row, key=lambda hypothesis: -hypothesis.score) for row in rows]
        precision = self.model.dtype if snapshot is None else snapshot.precision or self.model.dtype
        return [real_ones(row, place(at), settings, precision) for row, at in zip(rows, indices, strict=True)]

    def _with_length(self, arguments: dict[str, Any], settings: CallSettings) -> dict[str, Any]:
        """Add the paper's length limit if neither the call nor the generation config sets one (section 6.1)."""
        if settings.has_length():
            return arguments
        return with_settings(arguments, max_extra_tokens=PAPER_EXTRA_TOKENS)

    def _generate(
        self, arguments: dict[str, Any], snapshot: Snapshot | None, request: Request, beams: int, place: Place
    ) -> tuple[Any, torch.Tensor | None, torch.Tensor | None]:
        """One call of `generate`: its output, the log-probabilities of new tokens if known, (rows, new tokens), and
        the maximum length of each target."""
        model: Any = self.model
        plain = has_our_generate(model)
        if is_ours(model) and not plain:
            # a wrapper, a custom `generate` or another copy of this code: it settles its arguments itself
            call, obstacle = None, "another generate"
        else:
            call = Call(model, arguments, snapshot, says=plain, place=place)
            obstacle = call.obstacle or ""
        limits = None if call is None or call.limits is None else call.limits + call.prompt_len - 1
        by_transformers: Any = partial(GenerationMixin.generate, model) if plain else model.generate
        if call is not None and not obstacle:
            outputs = call.run(by_transformers)
            return outputs, outputs.token_log_probabilities, limits
        if snapshot is not None and snapshot.asked:
            raise ValueError(
                f"{snapshot.precision} needs our own search, which does not support {obstacle}. Leave one of the two "
                "out."
            )
        # scores of sequences come only with those of all tokens, which take gigabytes for a batch of beams
        watcher = StepScores(keep_chosen=beams == 1)
        watch = [watcher] if request.with_scores else []
        if call is not None:
            numbers = NumbersWatch()
            if request.with_scores:
                call.ask_for_scores()
            else:
                call.watch_logits(numbers)
            with inference(model):
                outputs = call.run(by_transformers, watch)
            numbers.require(len(arguments["input_ids"]), place, model.dtype)
        else:
            criteria = [*watch, *(arguments.pop("stopping_criteria", None) or ())]
            arguments = with_settings(arguments, output_scores=True) if request.with_scores else arguments
            with inference(model):
                outputs = by_transformers(**arguments, stopping_criteria=StoppingCriteriaList(criteria))
        return outputs, watcher.log_probabilities() if request.with_scores else None, limits

    def _hypotheses(
        self,
        outputs: Any,
        steps: torch.Tensor | None,
        limits: torch.Tensor | None,
        settings: CallSettings,
        ends: frozenset[int],
    ) -> list[DecodedHypothesis]:
        """Each row of the output, cut at its end."""
        tokens = outputs.sequences[:, 1:].tolist()  # without the decoder's start token
        told = getattr(outputs, "sequences_scores", None)
        scores = None if told is None else told.tolist()
        told_steps = None if steps is None else steps.double().tolist()
        sentences = len(tokens) if limits is None else len(limits)
        most = [len(tokens[0])] * sentences if limits is None else limits.tolist()
        each = len(tokens) // sentences
        found = []
        for row, ids in enumerate(tokens):
            kept, finished = cut_at_end(ids, most[row // each], ends)
            step = None if told_steps is None else told_steps[row]
            prompt = 0 if step is None else max(0, len(ids) - len(step))
            new = max(0, len(kept) - prompt)
            score = float("nan")
            if scores is not None:
                score = scores[row]
            elif step is not None:
                score = sum(step[:new]) / settings.normaliser(new)
            found.append(DecodedHypothesis(tuple(kept), score, finished, None if step is None else tuple(step[:new])))
        return found


_OUR_GENERATE = TranslationGenerationMixin.generate


ROWS = (
    *("inputs", "input_ids", "inputs_embeds", "encoder_outputs", "attention_mask", "position_ids", "labels"),
    *("decoder_input_ids", "decoder_attention_mask", "decoder_inputs_embeds", "decoder_position_ids"),
    *("past_key_values", "target_prefix", "prefix_allowed_tokens_fn", "custom_generate", "streamer"),
)
"""Arguments of `generate` that depend on the place of sentences in a batch."""


def refuse_rows(settings: Mapping[str, Any]) -> None:
    """Refuse settings that are given per sentence, since sentences are sorted and grouped into batches here.

    Raises:
        TypeError: there is such a setting.
    """
    given = [name for name in ROWS if settings.get(name) is not None]
    config = settings.get("generation_config")
    given += ["target_prefix"] if getattr(config, "target_prefix", None) is not None else []
    start = settings.get("decoder_start_token_id", getattr(config, "decoder_start_token_id", None))
    given += ["a list as decoder_start_token_id"] if isinstance(start, (list, tuple, torch.Tensor)) else []
    if given:
        raise TypeError(
            f"Sentences are sorted by length and batched, so {', '.join(given)} would reach the wrong ones. "
            "Call the model's `generate` with a batch of your own."
        )


def has_our_generate(model: Any) -> bool:
    """Whether `model.generate` is the one of this package, so that its behaviour is known before the call."""
    return getattr(type(model), "generate", None) is _OUR_GENERATE and "generate" not in vars(model)


def ends_of(settings: CallSettings, arguments: Mapping[str, Any]) -> frozenset[int]:
    """Ids that end a target: those of the configs and the call, or of a stopping criterion that replaces them."""
    criteria = arguments.get("stopping_criteria") or ()
    ids = [each.eos_token_id for each in criteria if type(each) is EosTokenCriteria]
    return frozenset(settings.eos_ids if not ids else (i for of in ids for i in as_ids(of.flatten())))


def real_ones(
    hypotheses: list[DecodedHypothesis], place: str, settings: CallSettings, computed_in: Any
) -> tuple[DecodedHypothesis, ...]:
    """Drop placeholders: if fewer hypotheses are found than beams, the rest have scores of minus a billion.

    Raises:
        NoScoreError: no hypothesis has a valid score.
    """
    found = [each for each in hypotheses if is_score(each.score, settings.normaliser(len(each.ids)))]
    if not found:
        raise no_translation(place, hypotheses[0].score, computed_in)
    return tuple(found)


def cut_at_end(tokens: list[int], limit: int, ends: frozenset[int]) -> tuple[list[int], bool]:
    """The tokens of a hypothesis, end of sentence included, and whether it ended by itself."""
    for position, token in enumerate(tokens[:limit]):
        if token in ends:
            return tokens[: position + 1], True
    return tokens[:limit], False


def with_settings(settings: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Settings of `generate` with more added, in the `generation_config` if given: `generate` takes only one form."""
    config = settings.get("generation_config")
    if config is None:
        return {**settings, **more}
    config = copy.deepcopy(config)
    config.update(**more)
    for name, value in more.items():  # `update` ignores this project's own settings
        setattr(config, name, value)
    return {**settings, "generation_config": config}


__all__ = ["BATCH_TOKENS", "DecodedHypothesis", "Progress", "Request", "TextDecoder"]
