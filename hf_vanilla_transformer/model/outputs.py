"""What `generate` returns with `return_dict_in_generate`: outputs of `transformers` that say how they came about."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from transformers.generation.utils import GenerateBeamEncoderDecoderOutput, GenerateEncoderDecoderOutput

FAST = "fast"
"""`search_path` of what the fast path decoded."""


@dataclass
class TranslationOutput(GenerateBeamEncoderDecoderOutput):
    """What beam search returns with `return_dict_in_generate`: as in `transformers`, and

    search_path (`str`):
        How the call was decoded: `"fast"`, or why it was left to `transformers`.
    token_log_probabilities (`torch.Tensor` of shape `(batch * num_return_sequences, new tokens)`, *optional*):
        The natural logarithm of each new token's probability, 0 after the end, a forced prefix included. Of the fast
        path, which also gives `sequences_scores` always, and returns no `past_key_values`.
    """

    token_log_probabilities: torch.Tensor | None = None
    search_path: str | None = None


@dataclass
class GreedyTranslationOutput(GenerateEncoderDecoderOutput):
    """What greedy decoding and sampling return with `return_dict_in_generate`; the rest as of `TranslationOutput`."""

    token_log_probabilities: torch.Tensor | None = None
    search_path: str | None = None


def with_search_path(outputs: Any, path: str) -> Any:
    """`transformers`' output, which also says how it was decoded; tensors as they are."""
    kinds: dict[Any, Any] = {
        GenerateBeamEncoderDecoderOutput: TranslationOutput,
        GenerateEncoderDecoderOutput: GreedyTranslationOutput,
    }
    kind = kinds.get(type(outputs))
    if kind is None:
        return outputs
    return kind(**{field.name: getattr(outputs, field.name) for field in fields(outputs)}, search_path=path)


__all__ = ["FAST", "GreedyTranslationOutput", "TranslationOutput", "with_search_path"]
