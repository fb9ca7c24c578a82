"""Subword vocabularies: learn one from text, load one from a folder (section 5.1 of the paper).

The result is a plain fast tokenizer that `AutoTokenizer` loads without this package.
"""

from .loading import load_tokenizer
from .special_tokens import (
    BOS_TOKEN,
    BOS_TOKEN_ID,
    EOS_TOKEN,
    EOS_TOKEN_ID,
    PAD_TOKEN,
    PAD_TOKEN_ID,
    SPECIAL_TOKENS,
)
from .training import ALGORITHMS, MINIMUM_VOCAB_SIZE, train_tokenizer

__all__ = [
    "ALGORITHMS",
    "BOS_TOKEN",
    "BOS_TOKEN_ID",
    "EOS_TOKEN",
    "EOS_TOKEN_ID",
    "MINIMUM_VOCAB_SIZE",
    "PAD_TOKEN",
    "PAD_TOKEN_ID",
    "SPECIAL_TOKENS",
    "load_tokenizer",
    "train_tokenizer",
]
