"""The tokens of each side by id: most tokenizers have one vocabulary, some of Marian's and FSMT's have two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def source_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """Tokenise a source for CTranslate2: the source tokens of the ids in `tokenizer(text)`, end included."""
    ids: list[int] = tokenizer(text).input_ids
    if not has_two_vocabularies(tokenizer):
        return list(tokenizer.convert_ids_to_tokens(ids))
    tokens = source_vocabulary(tokenizer)  # `convert_ids_to_tokens` uses the target vocabulary
    return [tokens[index] for index in ids]


def source_vocabulary(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """List the source tokens by id; ids without a token become `<unused n>`."""
    return _by_id({**getattr(tokenizer, "encoder", {}), **tokenizer.get_vocab()})


def target_vocabulary(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """List the target tokens by id, as in `source_vocabulary`."""
    if not has_two_vocabularies(tokenizer):
        return source_vocabulary(tokenizer)
    # the vocabulary for decoding ids; tokens that were added later belong to both sides
    decoder: Mapping[int, str] = tokenizer.decoder
    return _by_id({**{token: index for index, token in decoder.items()}, **tokenizer.get_added_vocab()})


def has_two_vocabularies(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether source and target have different vocabularies."""
    encoder, decoder = (getattr(tokenizer, name, None) for name in ("encoder", "decoder"))
    if not isinstance(encoder, Mapping) or not isinstance(decoder, Mapping):
        return False
    return any(decoder.get(index) != token for token, index in encoder.items()) or len(decoder) != len(encoder)


def _by_id(ids: Mapping[str, int]) -> list[str]:
    tokens = {index: token for token, index in ids.items()}
    return [tokens.get(index, f"<unused {index}>") for index in range(max(tokens, default=-1) + 1)]
