"""Learn Unigram pieces (Kudo 2018, arXiv:1804.10959) with the trainer of `tokenizers`, working around two flaws.

Seeds: the trainer starts from substrings with at least two different continuations. A word split from its punctuation
has only one, its end, so "giant" never becomes a piece unless "giants" occurs too, which made sentences a sixth longer
on Multi30k. `_lines` gives each repeated word a second continuation.

Order: because of the trainer's hash tables, scores of two runs differ in insignificant digits. `_canonical` rounds
them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .special_tokens import SPECIAL_TOKENS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# A word with the white space before it. The pre-tokenizer never joins two of these: each distinct one is split once.
# Only Python counts the four separators \x1c to \x1f as white space.
SPACED_WORD = re.compile(r"[^\S\x1c-\x1f]*[\S\x1c-\x1f]+|[^\S\x1c-\x1f]+")
MARK = "ÿ"  # the byte-level name of 0xFF, a byte that UTF-8 never contains
UNUSED_SPREAD = 257 * 1e-4  # the trainer sets unused bytes 0.0001 apart, from the rarest piece up, in no fixed order
WORDS_A_LINE = 1000


def learn_unigram(backend: Tokenizer, texts: Iterable[str], vocab_size: int, show_progress: bool) -> None:
    """Give `backend` a Unigram model of at most `vocab_size` entries, learned from the texts as it pre-tokenizes them.

    Memory grows with the number of distinct words, not with the length of the text.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    words = _count_words(backend, texts)
    learner = Tokenizer(models.Unigram())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=show_progress,
    )
    learner.train_from_iterator(_lines(words), trainer)
    backend.model = models.Unigram(_canonical(learner), None, False)


def _count_words(backend: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """The count of each pre-token, in byte-level characters (none of which is a space)."""
    from tokenizers import normalizers

    spaced: Counter[str] = Counter()
    for text in texts:
        spaced.update(SPACED_WORD.findall(f" {text}" if text else ""))
    nfc = normalizers.NFC()
    words: Counter[str] = Counter()
    for spaced_word, count in spaced.items():
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(nfc.normalize_str(spaced_word)):
            words[word] += count
    return words


def _lines(words: Counter[str]) -> Iterator[str]:
    """Each word as often as it occurs, and once more with the mark if it is repeated."""
    for word, count in sorted(words.items()):
        for start in range(0, count, WORDS_A_LINE):
            yield " ".join([word] * min(WORDS_A_LINE, count - start))
        if count > 1:
            # No piece can hold the mark: it always ends its word, so it has only one continuation
            yield word + MARK


def _canonical(learner: Tokenizer) -> list[tuple[str, float]]:
    """Pieces by descending rounded score; unused bytes get the score of the rarest piece."""
    learned = json.loads(learner.to_str())["model"]["vocab"]
    scores = {piece: score for piece, score in learned if piece not in SPECIAL_TOKENS}
    rarest = min(scores.values())
    for piece, score in scores.items():
        unused = piece == MARK or (len(piece) == 1 and score < rarest + UNUSED_SPREAD)
        scores[piece] = round(rarest if unused else score, 6)
    ordered = sorted(scores.items(), key=lambda entry: (-entry[1], entry[0]))
    return [(token, 0.0) for token in SPECIAL_TOKENS] + ordered
