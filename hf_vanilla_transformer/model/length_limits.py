"""How long each target of a batch may be: its source length plus an allowance (section 6.1), and the positions."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from transformers.generation import LogitsProcessor, StoppingCriteria

from .call_settings import CallSettings, as_ids
from .configuration_vanilla_transformer import VanillaTransformerConfig, longest_sentence
from .masks import source_mask
from .memory import in_gb, memory_of

TOKENS = ("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id")
"""Settings whose tokens appear in targets, and so must be in the vocabulary; `eos_token_id` and bans need not be."""


def length_limits(
    settings: CallSettings, config: Any, source_lens: torch.Tensor | None, prompt_len: int
) -> torch.Tensor | None:
    """Maximum number of new tokens of each target, end of sentence included, by its source length and the positions.

    Args:
        settings: settings of the call.
        config: config of the model; learned positions limit the length.
        source_lens: length of each source in tokens, (batch,); None if unknown.
        prompt_len: number of target tokens before the first new one.

    Returns:
        (batch,), or None if only `max_length` or similar settings limit targets.
    """
    if source_lens is None:
        return None
    limits = None if settings.max_extra_tokens is None else source_lens + settings.max_extra_tokens
    positions = longest_sentence(config)
    if positions is not None:
        room = max(1, positions + 1 - prompt_len)  # the last token is never read
        limits = torch.full_like(source_lens, room) if limits is None else limits.clamp(max=room)
    return None if limits is None else limits.clamp(min=1)


def require_room(settings: CallSettings, model: Any, source_lens: torch.Tensor | None) -> None:
    """Refuse tokens outside the vocabulary, and more beams than the vocabulary has tokens or the memory can hold.

    Args:
        settings: settings of the call.
        model: the model that decodes; memory is checked only for models of this package.
        source_lens: length of each source in tokens, (batch,); None if unknown.

    Raises:
        ValueError: a token is outside the vocabulary, or there are too many beams.
    """
    config, beams = model.config, settings.num_beams
    words = getattr(config, "decoder_vocab_size", None) or getattr(config, "vocab_size", None)
    if words is not None and beams > words:
        raise ValueError(f"`num_beams` must be at most the {words:,} tokens of the target vocabulary, got {beams:,}.")
    for name in TOKENS:
        outside = [] if words is None else [id for id in as_ids(settings.values.get(name)) if not 0 <= id < words]
        if outside:
            raise ValueError(
                f"`{name}` must be of the target vocabulary, at least 0 and below {words:,}, got {outside[0]}. "
                "Correct the call or the model's generation config."
            )
    memory = memory_of(model.device)
    if beams == 1 or source_lens is None or memory is None or not isinstance(config, VanillaTransformerConfig):
        return
    heads, d_k, d_v = config.head_widths("decoder")
    # keys and values of targets about as long as their sources
    needed = int(source_lens.sum()) * beams * config.decoder_layers * heads * (d_k + d_v) * model.dtype.itemsize
    if needed > memory:
        raise ValueError(
            f"{beams:,} beams for {len(source_lens):,} sentences at once need about {in_gb(needed)}, but there are "
            f"{in_gb(memory)} on {model.device}. Lower `num_beams`, or the number of tokens or sentences in a batch."
        )


def source_lengths(inputs: Mapping[str, Any], pad_token_id: int | None = None) -> torch.Tensor | None:
    """Number of real tokens of each source, (batch,), from the arguments of `generate`; None without a source."""
    if inputs.get("attention_mask") is not None:
        return inputs["attention_mask"].sum(-1).long()
    if inputs.get("input_ids") is not None:
        return source_mask(inputs["input_ids"], pad_token_id).sum(-1)
    states = inputs.get("inputs_embeds")
    if states is None and inputs.get("encoder_outputs") is not None:
        states = inputs["encoder_outputs"][0]
    return None if states is None else torch.full((states.shape[0],), states.shape[1], device=states.device)


class SourceLengthLimit(StoppingCriteria):
    """Ends each target at its own limit ("maximum output length [...] input length + 50", section 6.1).

    Args:
        limits: maximum number of new tokens of each target, end of sentence included; (batch,).
        prompt_len: number of decoder tokens before the first new one.
    """

    def __init__(self, limits: torch.Tensor, prompt_len: int) -> None:
        self.limits = limits
        self.prompt_len = prompt_len

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return input_ids.shape[1] - self.prompt_len >= for_rows(self.limits, input_ids)


class ForcedEndAtLimit(LogitsProcessor):
    """Forces `forced_eos_token_id` at each target's own limit; `transformers` forces it at the batch's maximum length.

    Args:
        limits, prompt_len: as in `SourceLengthLimit`.
        eos_ids: ids that the last token is chosen from.
    """

    def __init__(self, limits: torch.Tensor, prompt_len: int, eos_ids: Iterable[int]) -> None:
        self.limits = limits
        self.prompt_len = prompt_len
        self.eos_ids = list(eos_ids)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        last: Any = input_ids.shape[1] - self.prompt_len == for_rows(self.limits, input_ids) - 1
        forced: Any = torch.full_like(scores, float("-inf"))
        forced[:, self.eos_ids] = 0
        chosen: Any = torch.where(last[:, None], forced, scores)
        return chosen


def for_rows(limits: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
    """The limit of each row: `generate` repeats each sentence for its beams."""
    return limits.repeat_interleave(input_ids.shape[0] // limits.shape[0]).to(input_ids.device)


__all__ = ["ForcedEndAtLimit", "SourceLengthLimit", "length_limits", "require_room", "source_lengths"]
