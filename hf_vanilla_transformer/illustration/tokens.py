"""Readable tokens: the text of each, and which of them form a word."""

from collections.abc import Sequence
from typing import Any

from .contents import Token

WORD_STARTS = ("Ġ", "▁", " ")
SPACE = "␣"
"""A token that is only the space before a word."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]


def readable_tokens(ids: Sequence[int], tokenizer: Any, is_target: bool = False) -> list[Token]:
    """The text of each id, or its name in the vocabulary if the text is not a whole character.

    Args:
        ids: ids of one sentence.
        tokenizer: any tokenizer of `transformers`.
        is_target: whether they are target ids, for tokenizers with two vocabularies.
    """
    special = set(tokenizer.all_special_ids)
    tokens: list[Token] = []
    after_word = False
    for index in ids:
        name = _name(index, tokenizer, is_target)
        is_special = index in special
        text = name if is_special else _text(index, name, tokenizer)
        tokens.append(Token(text, index, after_word and not is_special and not name.startswith(WORD_STARTS)))
        after_word = not is_special
    return tokens


def tokens_alone(ids: Sequence[int], tokenizer: Any, is_target: bool = False) -> list[Token]:
    """As `readable_tokens`, for unrelated ids: only its name tells whether a token continues a word."""
    tokens = []
    for index in ids:
        (token,) = readable_tokens([index], tokenizer, is_target)
        inner = index not in tokenizer.all_special_ids and not _name(index, tokenizer, is_target).startswith(
            WORD_STARTS
        )
        tokens.append(Token(token.text, index, inner))
    return tokens


def words_of(tokens: Sequence[Token]) -> list[list[int]]:
    """Group the indices of tokens by word."""
    words: list[list[int]] = []
    for index, token in enumerate(tokens):
        if token.continues and words:
            words[-1].append(index)
        else:
            words.append([index])
    return words


def _name(index: int, tokenizer: Any, is_target: bool) -> str:
    decoder = getattr(tokenizer, "target_encoder", None)
    if is_target and getattr(tokenizer, "separate_vocabs", False) and decoder:
        return next((name for name, number in decoder.items() if number == index), f"[{index}]")
    return str(tokenizer.convert_ids_to_tokens(index) or f"[{index}]")  # ids beyond the tokenizer have no name


def _text(index: int, name: str, tokenizer: Any) -> str:
    bare = next((name[len(start) :] for start in WORD_STARTS if name.startswith(start)), name)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        return bare or SPACE
    text = tokenizer.decode([index], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if REPLACEMENT in text and REPLACEMENT not in name:  # part of a character's bytes
        return _bytes_of(name) or name
    return text.strip(" ") or SPACE


def _bytes_of(name: str) -> str | None:
    """The bytes of a byte-level BPE token, as `‹F0 9F›`; None for other tokens.

    In its name, printable bytes stand for themselves, and the others are mapped in order to U+0100 onwards (GPT-2).
    """
    others = [byte for byte in range(256) if byte not in PRINTABLE]
    table = {**{chr(byte): byte for byte in PRINTABLE}, **{chr(256 + n): byte for n, byte in enumerate(others)}}
    if not all(letter in table for letter in name):
        return None
    return f"‹{bytes(table[letter] for letter in name).hex(' ').upper()}›"
