"""`generate` for translation (section 6.1): that of `GenerationMixin`, plus the paper's settings and the fast path.

Each target may grow to its own source length plus `max_extra_tokens`, whatever else is in the batch. Padding of the
source is never attended to, even without a mask. `fast_path.py` decides how a call is decoded.
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from transformers.generation import GenerationConfig, GenerationMixin, LogitsProcessorList, StoppingCriteriaList

from .fast_path import Call

_BY_POSITION = (
    *("prefix_allowed_tokens_fn", "synced_gpus", "assistant_model", "streamer"),
    *("negative_prompt_ids", "negative_prompt_attention_mask", "custom_generate"),
)
"""Arguments of `GenerationMixin.generate` by position, after the first four."""


class TranslationGenerationMixin(GenerationMixin):
    """`GenerationMixin` for translation.

    Greedy decoding and beam search use this project's own search, which gives the same results as `transformers`, if
    it computes exactly what the model's `forward` does. All other calls are left to `transformers`, with one line in
    the log. With `return_dict_in_generate=True` the output's `search_path` tells which search was used.
    """

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
        gnmt_length_penalty: float | None = None,
        coverage_penalty: float | None = None,
        target_prefix: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `GenerationMixin.generate`, plus:

        Args:
            max_extra_tokens: how many tokens a target may have beyond the length of its own source, end of sentence
                included in both (section 6.1 uses 50); at least 0. If unset, it comes from `generation_config`, then
                from the model's config. A `max_length` or `max_new_tokens` given to this call, as an argument or in a
                `generation_config` without `max_extra_tokens`, overrides the model's.
            gnmt_length_penalty: alpha: beams are ranked by log-probability / ((5 + tokens) / 6) ** alpha (Wu et al.
                2016, equation 14; section 6.1 uses 0.6), end of sentence included. If unset, it comes from
                `generation_config`, then from the model's config. A `length_penalty` given to this call overrides it.
            coverage_penalty: beta of the same equation, at least 0: adds beta times the sum over source tokens of
                log(min(attention, 1)) to the score of a finished hypothesis, where attention is the total that its
                tokens paid to the source token in the last layer, averaged over heads. If unset, it comes from
                `generation_config`, then from the model's config.
            target_prefix: (batch, any) ids that each target must begin with after its start token; -100 where the
                target is free, so that prefixes may differ in length. Their log-probabilities count.

        A missing `attention_mask` is made from `pad_token_id`; `GenerationMixin` does so only for decoders. Learned
        positions limit the length of targets. `labels` are ignored.

        Raises:
            ValueError: a setting is out of range, or one of the last three is combined with something that our own
                search does not support.
        """
        given = {
            "inputs": inputs,
            "generation_config": generation_config,
            "logits_processor": logits_processor,
            "stopping_criteria": stopping_criteria,
            "max_extra_tokens": max_extra_tokens,
            "gnmt_length_penalty": gnmt_length_penalty,
            "coverage_penalty": coverage_penalty,
            "target_prefix": target_prefix,
        }
        # mypy: `GenerationMixin` annotates `self` by a protocol of its own
        return Call(self, {**by_name(args, kwargs), **given}).run(super().generate)  # type: ignore[misc]

    def compute_transition_scores(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As in `GenerationMixin`, but for the target vocabulary: `GenerationMixin` assumes the source's."""
        target_side: Any = SimpleNamespace(config=self.config.get_text_config(decoder=True))
        return GenerationMixin.compute_transition_scores(target_side, *args, **kwargs)

    def create_masks_for_generate(self, attention_mask: torch.Tensor | None, **kwargs: Any) -> torch.Tensor | None:
        """Leave the target's mask unchanged: positions are counted from it, and the decoder builds its own mask.

        `GenerationMixin` would turn it into a mask for a static cache. That fails with flex attention, and does not
        fit a call that asks for attention weights.
        """
        return attention_mask


def by_name(positional: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a call of `generate` by name; the positional ones are those after the first four.

    Raises:
        TypeError: an argument is given twice, or there are more than `generate` takes.
    """
    if len(positional) > len(_BY_POSITION):
        raise TypeError(f"`generate` takes {4 + len(_BY_POSITION)} arguments by position, got {4 + len(positional)}.")
    given = dict(zip(_BY_POSITION, positional, strict=False))
    twice = [name for name in given if name in named]
    if twice:
        raise TypeError(f"`generate` got {', '.join(twice)} twice, by position and by name.")
    return {**given, **named}


def lasting_generation_config(config: GenerationConfig) -> GenerationConfig:
    """A copy that keeps every setting when it is saved and loaded.

    One that was derived from a model's config is marked so, and is loaded without settings that `transformers` does
    not know, such as `max_extra_tokens`. The mark, like all that begins with `_`, is not copied.
    """
    settings = config.to_dict()
    return GenerationConfig(**{name: value for name, value in settings.items() if not name.startswith("_")})


__all__ = ["TranslationGenerationMixin", "lasting_generation_config"]
