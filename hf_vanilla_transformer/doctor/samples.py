"""Artificial sentences made from a tokenizer's vocabulary, for models whose language is unknown."""

import random

from transformers import PreTrainedTokenizerBase

WORDS = (3, 11, 6, 8)


def sample_sentences(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Make sentences of fixed lengths in words, the same at each call."""
    generator = random.Random(0)
    words = vocabulary_words(tokenizer)
    if not words:
        raise ValueError("The tokenizer has no token that is a word. Give your own sentences with --text.")
    return [" ".join(generator.choice(words) for _ in range(count)) for count in WORDS]


def vocabulary_words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Up to 500 tokens whose text the tokenizer encodes without an unknown token."""
    generator = random.Random(0)
    special = set(tokenizer.all_special_ids)
    ids = sorted(i for i in tokenizer.get_vocab().values() if i not in special)
    generator.shuffle(ids)
    words: list[str] = []
    for token in ids[:3000]:
        text = str(tokenizer.decode([token])).strip()
        if text.isalpha() and tokenizer.unk_token_id not in tokenizer(text, add_special_tokens=False)["input_ids"]:
            words.append(text)
        if len(words) == 500:
            break
    return sorted(words, key=lambda word: (-len(word), word))[:200]
