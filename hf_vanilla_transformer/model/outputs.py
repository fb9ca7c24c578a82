"""Outputs of `generate` with `return_dict_in_generate`: those of `transformers`, plus how the call was decoded."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from transformers.generation.utils import GenerateBeamEncoderDecoderOutput, GenerateEncoderDecoderOutput

FAST = "fast"
"""Value of `search_path` if the fast path decoded the call."""


@dataclass
class TranslationOutput(GenerateBeamEncoderDecoderOutput):
    """Output of beam search with `return_dict_in_generate`: the fields of `transformers`, and

    search_path (`str`):
        How the call was decoded: `"fast"`, or why it was left to `transformers`.
    token_log_probabilities (`torch.Tensor` of shape `(batch * num_return_sequences, new tokens)`, *optional*):
        The natural logarithm of each new token's probability, 0 after the end; a forced prefix is included. Only from
        the fast path, which also always returns `sequences_scores`, and never `past_key_values`.
    """

    token_log_probabilities: torch.Tensor | None = None
    search_path: str | None = None


@dataclass
class GreedyTranslationOutput(GenerateEncoderDecoderOutput):
    """Output of greedy decoding and sampling with `return_dict_in_generate`; fields as in `TranslationOutput`."""

    token_log_probabilities: torch.Tensor | None = None
    search_path: str | None = None


def with_search_path(outputs: Any, path: str) -> Any:
    """The output of `transformers` with `search_path` added; tensors are unchanged."""
    kinds: dict[Any, Any] = {
        GenerateBeamEncoderDecoderOutput: TranslationOutput,
        GenerateEncoderDecoderOutput: GreedyTranslationOutput,
    }
    kind = kinds.get(type(outputs))
    if kind is None:
        return outputs
    return kind(**{field.name: getattr(outputs, field.name) for field in fields(outputs)}, search_path=path)


__all__ = ["FAST", "GreedyTranslationOutput", "TranslationOutput", "with_search_path"]
