"""The probability of given translations: one forward pass over each, with its tokens as the decoder's input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..model.sentences import (
    Place,
    batches_by_tokens,
    check_batch_tokens,
    check_lengths,
    check_sentences,
    inference,
    line_place,
    pad,
    padded_source,
    warn_of_long_sources,
)
from ..model.sound_scores import half_precision_hint, is_score


@dataclass(frozen=True)
class TargetLogProbability:
    """The log-probability that a model gives to a translation.

    Attributes:
        log_probability: natural logarithm of P(target | source), the sum over its tokens, end of sentence included.
        tokens: number of tokens in the target, end of sentence included; at least 1.
    """

    log_probability: float
    tokens: int

    @property
    def mean(self) -> float:
        """Log-probability per token: the negative loss on this sentence alone; `exp(-mean)` is its perplexity."""
        return self.log_probability / self.tokens


def target_log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str],
    batch_tokens: int = 2048,
    *,
    first_line: int | None = None,
    progress: Callable[[int], object] | None = None,
    max_tokens: int | None = None,
    warns: bool = True,
) -> list[TargetLogProbability]:
    """Score target n as a translation of source n.

    Args:
        model: any encoder-decoder of `transformers` that takes `labels`.
        tokenizer: its tokenizer; `text_target=` encodes the targets.
        sources: source sentences; an empty one consists of the end of sentence only.
        targets: one translation for each source.
        batch_tokens: maximum number of tokens on either side of a batch, padding included; a longer pair gets its own
            batch.
        first_line: line number of the first pair in its files, so that messages name lines; if None, they name
            `sources[i]` or `targets[i]`.
        progress: called after each batch with its number of pairs.
        max_tokens: refuse longer sentences on either side.
        warns: whether to warn of sources that are longer than any seen in training.

    Returns:
        One result per pair, in order; it does not depend on the other pairs.

    Raises:
        TypeError: `sources` or `targets` is not a list of strings.
        ValueError: the two sides differ in length, `batch_tokens` is below 1, a sentence is longer than `max_tokens`
            or the model's positions, or the log-probability of a pair is not a valid number.
    """
    check_batch_tokens(batch_tokens)
    places = [_place(side, first_line) for side in ("source", "target")]
    for side, place in zip((sources, targets), places, strict=True):
        check_sentences(side, place)
    if len(sources) != len(targets):
        raise ValueError(
            f"Target n translates source n, but there are {len(sources):,} sources and {len(targets):,} targets."
        )
    if not sources:
        return []
    encoded = tokenizer(list(sources), text_target=list(targets), truncation=False, verbose=False)
    source_ids, target_ids = encoded["input_ids"], encoded["labels"]
    for ids, place in zip((source_ids, target_ids), places, strict=True):
        check_lengths(ids, model.config, place, most=max_tokens)
    if warns:
        warn_of_long_sources(source_ids, model, places[0], goes_on=first_line is not None and first_line > 1)
    sums = [0.0] * len(sources)
    longer = [max(len(source), len(target)) for source, target in zip(source_ids, target_ids, strict=True)]
    with inference(model):
        for batch in batches_by_tokens(longer, batch_tokens):
            source = padded_source([source_ids[index] for index in batch], model, tokenizer)
            scores = _sum_log_probabilities(model, source, [target_ids[index] for index in batch])
            for index, score in zip(batch, scores, strict=True):
                sums[index] = score
            if progress is not None:
                progress(len(batch))
    for index, total in enumerate(sums):
        if not is_score(total):
            raise ValueError(
                f"The model gives no probability for {places[1](index)}: its logarithm is {total:.3g}, which is not "
                "valid."
                f"{half_precision_hint(model.dtype)} Check its weights with `doctor`."
            )
    return [TargetLogProbability(total, len(ids)) for total, ids in zip(sums, target_ids, strict=True)]


def _place(side: str, first_line: int | None) -> Place:
    if first_line is not None:
        return line_place(first_line, f" of the {side}")
    return lambda index: f"{side}s[{index}]"


def _sum_log_probabilities(
    model: PreTrainedModel, source: dict[str, torch.Tensor], target_ids: list[list[int]]
) -> list[float]:
    labels = pad(target_ids, -100, model.device)  # (batch, target_len)
    logits = model(**source, labels=labels).logits.float()  # (batch, target_len, vocab)
    real = labels != -100
    picked = logits.gather(-1, labels.masked_fill(~real, 0)[..., None])[..., 0] - logits.logsumexp(-1)
    return picked.masked_fill(~real, 0.0).double().sum(-1).tolist()
