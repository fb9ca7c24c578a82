"""Sentences in no language, made of a tokenizer's own vocabulary, for models whose language nobody told us."""

import random

from transformers import PreTrainedTokenizerBase

WORDS = (3, 11, 6, 8)


def sample_sentences(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Sentences of so many words each, the same at each call."""
    generator = random.Random(0)
    words = vocabulary_words(tokenizer)
    if not words:
        raise ValueError("The tokenizer has no token that is a word: give sentences of your own by --text.")
    return [" ".join(generator.choice(words) for _ in range(count)) for count in WORDS]


def vocabulary_words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The tokens that are text which the tokenizer takes up again without an unknown token, at most 500."""
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
