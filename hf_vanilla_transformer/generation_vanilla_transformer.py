"""How a translation is decoded (section 6.1), where it differs from `transformers`' `generate()`.

Each sentence may grow to its own source length plus `max_extra_tokens`, whatever it is batched with, and padding of
the source is never attended to, even if no mask was given.
"""

import copy
from types import SimpleNamespace
from typing import Any

import torch
from transformers.generation import (
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)


class SourceLengthLimit(StoppingCriteria):
    """Ends each target at its own limit ("maximum output length [...] input length + 50", section 6.1).

    Args:
        limits: most new tokens of each sentence, end of sentence included; shape (batch,).
        prompt_len: decoder tokens that were there before the first new one.
    """

    def __init__(self, limits: torch.Tensor, prompt_len: int) -> None:
        self.limits = limits
        self.prompt_len = prompt_len

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        beams = input_ids.shape[0] // self.limits.shape[0]  # `generate` repeats each sentence for its beams
        limits = self.limits.repeat_interleave(beams).to(input_ids.device)
        return input_ids.shape[1] - self.prompt_len >= limits


class TranslationGenerationMixin(GenerationMixin):
    """`GenerationMixin` for translation: masks of the source, and each target's own limit."""

    config: Any
    generation_config: GenerationConfig

    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: LogitsProcessorList | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        *args: Any,
        max_extra_tokens: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `GenerationMixin.generate`, plus:

        Args:
            max_extra_tokens: most tokens a target may have beyond those of its own source, both with their end of
                sentence (section 6.1 uses 50); at least 0. Unset, it comes from `generation_config` or else from the
                model's. A `max_length` or `max_new_tokens` given to this call, as an argument or in a
                `generation_config` without `max_extra_tokens`, takes the place of the model's.

        A missing `attention_mask` is made from `pad_token_id`, which `GenerationMixin` does for decoders only.
        """
        source_ids = inputs if inputs is not None else kwargs.get("input_ids")
        if kwargs.get("attention_mask") is None and source_ids is not None and source_ids.dim() == 2:
            kwargs["attention_mask"] = source_mask(source_ids, self.config.pad_token_id)

        extra = self._extra_tokens(max_extra_tokens, generation_config, kwargs)
        source_lens = source_lengths(kwargs) if extra is not None else None
        if extra is not None and source_lens is not None:
            limit = SourceLengthLimit(source_lens + extra, self._decoder_prompt_len(kwargs))
            stopping_criteria = StoppingCriteriaList([*(stopping_criteria or ()), limit])
            if not asks_for_length(kwargs):
                longest = {"max_new_tokens": int(limit.limits.max()), "max_length": None}
                if generation_config is None:
                    kwargs.update(longest)
                else:  # `generate` takes either a config or single settings
                    generation_config = copy.deepcopy(generation_config)
                    generation_config.update(**longest)
        # mypy: `GenerationMixin` annotates `self` by a protocol of its own
        return super().generate(  # type: ignore[misc]
            inputs, generation_config, logits_processor, stopping_criteria, *args, **kwargs
        )

    def _extra_tokens(
        self, max_extra_tokens: int | None, generation_config: GenerationConfig | None, kwargs: dict[str, Any]
    ) -> int | None:
        """The allowance that holds for this call, or None where another length was asked for nearer to the call."""
        if max_extra_tokens is None and not asks_for_length(kwargs):
            # Within one config the allowance wins: `Seq2SeqTrainer` fills the model's with `max_length=20`
            max_extra_tokens = getattr(generation_config, "max_extra_tokens", None)
            if max_extra_tokens is None and not asks_for_length(vars(generation_config or GenerationConfig())):
                max_extra_tokens = getattr(self.generation_config, "max_extra_tokens", None)
        if max_extra_tokens is not None and max_extra_tokens < 0:
            raise ValueError(f"`max_extra_tokens` must be at least 0, got {max_extra_tokens}.")
        return max_extra_tokens

    def _decoder_prompt_len(self, kwargs: dict[str, Any]) -> int:
        """Decoder tokens before the first new one: a given prefix, with the start token that `generate` prepends."""
        prefix = kwargs.get("decoder_input_ids")
        if prefix is None:
            return 1
        start = self.generation_config.decoder_start_token_id
        start = self.generation_config.bos_token_id if start is None else start
        return prefix.shape[1] + int(bool((prefix[:, 0] != start).all()))

    def compute_transition_scores(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As in `GenerationMixin`, which takes the source's vocabulary for that of the scores."""
        target_side: Any = SimpleNamespace(config=self.config.get_text_config(decoder=True))
        return GenerationMixin.compute_transition_scores(target_side, *args, **kwargs)

    def create_masks_for_generate(self, attention_mask: torch.Tensor | None, **kwargs: Any) -> torch.Tensor | None:
        """Leave the target's mask as it is: positions are counted from it, and the decoder makes its own of it.

        `GenerationMixin` would turn it into a mask for a static cache here, which fails under flex attention, and
        does not fit a call that asks for attention weights.
        """
        return attention_mask


def asks_for_length(settings: dict[str, Any]) -> bool:
    """Whether these settings of `generate` limit the target's length, whatever its source's."""
    return settings.get("max_length") is not None or settings.get("max_new_tokens") is not None


def source_mask(input_ids: torch.Tensor, pad_token_id: int | None) -> torch.Tensor:
    """1 at tokens, 0 at padding; shape (batch, source_len)."""
    if pad_token_id is None:
        return torch.ones_like(input_ids)
    return input_ids.ne(pad_token_id).long()


def source_lengths(kwargs: dict[str, Any]) -> torch.Tensor | None:
    """Real tokens of each source, shape (batch,), from the arguments of `generate`; None if there is no source."""
    mask = kwargs.get("attention_mask")
    if mask is not None:
        return mask.sum(-1)
    states = kwargs.get("inputs_embeds")
    if states is None and kwargs.get("encoder_outputs") is not None:
        states = kwargs["encoder_outputs"][0]
    if states is None:
        return None
    return torch.full((states.shape[0],), states.shape[1], device=states.device)


def positions_from_mask(mask: torch.Tensor) -> torch.Tensor:
    """Count real tokens from 0, so that padding on the left moves nothing; (batch, length) to (batch, length)."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)
