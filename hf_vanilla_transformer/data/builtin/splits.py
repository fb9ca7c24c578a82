"""The four splits of the built-in corpus: drawn once from a fixed seed, the same on every machine and Python version.

Held out of training, validation and test are whole combinations, a noun with an adjective or a verb with an object:
the two words never occur in the same sentence there. No held-out sentence shares its translation with a training one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from .adjectives import adjectives_of
from .expressions import EXPRESSIONS
from .nouns import NOUNS
from .phrases import Draw
from .sentences import sentence
from .verbs import TRANSITIVE

BUILTIN_NAME = "builtin-fr-en"
SPLITS = ("train", "validation", "test", "test_combinations")
SEED = 2017
TRAIN_SIZE, HELD_OUT_SIZE = 32_000, 500
MAX_WORDS, MIN_TEST_WORDS = 14, 3
HELD_OUT_ADJECTIVES, HELD_OUT_VERBS = 0.1, 0.08
HOMOGRAPHS = frozenset({"montre", "porte", "porter", "cassé"})  # spelt like a form of another word
RARE = 25  # minimum number of occurrences, among all drawn sentences, of each word in a test sentence
WORD = re.compile(r"'s\b|\w+(?:'(?!s\b))?|\?")

Pairs = list[tuple[str, str]]


def words(sentence: str) -> list[str]:
    """The words of a sentence: elided articles and the parts of a hyphenated word count as words."""
    return WORD.findall(sentence)


@lru_cache(maxsize=1)
def held_out_combinations() -> frozenset[tuple[str, str]]:
    """The held-out combinations, by lemma: (noun, adjective) and (verb, object noun)."""
    draw = Draw(SEED)
    return frozenset([*_held_out_adjectives(draw), *_held_out_objects(draw)])


def _held_out_adjectives(draw: Draw) -> Iterable[tuple[str, str]]:
    """Some (noun, adjective) pairs; a noun keeps at least four adjectives."""
    for noun in NOUNS.values():
        options = adjectives_of(noun) if noun.lemma not in HOMOGRAPHS else ()
        chosen = [a.lemma for a in options if draw.chance(HELD_OUT_ADJECTIVES) and a.lemma not in HOMOGRAPHS]
        yield from ((noun.lemma, lemma) for lemma in chosen[: max(0, len(options) - 4)])


def _held_out_objects(draw: Draw) -> Iterable[tuple[str, str]]:
    """Some (verb, noun) pairs; a verb keeps at least six objects."""
    for verb in TRANSITIVE.values():
        options = [noun for noun in verb.objects if not noun.tags & {"person", "kin"}]
        chosen = [noun.lemma for noun in options if draw.chance(HELD_OUT_VERBS) and noun.lemma not in HOMOGRAPHS]
        if verb.infinitive not in HOMOGRAPHS:
            yield from ((verb.infinitive, lemma) for lemma in chosen[: max(0, len(options) - 6)])


@lru_cache(maxsize=1)
def _corpus() -> dict[str, Pairs]:
    """All splits, by name."""
    plain, composed = _draw_pairs(Draw(SEED), held_out_combinations())
    frequent = [_frequent_words(pair[side] for pair in plain) for side in (0, 1)]
    unseen = _choose(Draw(SEED + 1), plain, {english for _, english in EXPRESSIONS}, frequent, 2 * HELD_OUT_SIZE)
    kept_apart = {english for _, english in unseen}
    train = [pair for pair in plain if pair[1] not in kept_apart][:TRAIN_SIZE]
    used = {english for _, english in train} | kept_apart
    combinations = _choose(Draw(SEED + 2), composed, used, frequent, HELD_OUT_SIZE)
    return dict(zip(SPLITS, (train, unseen[:HELD_OUT_SIZE], unseen[HELD_OUT_SIZE:], combinations), strict=True))


def _draw_pairs(draw: Draw, held_out: frozenset[tuple[str, str]]) -> tuple[Pairs, Pairs]:
    """Distinct pairs without any held-out combination, and pairs that contain one; others are drawn in vain."""
    partners: dict[str, set[str]] = {}
    for first, second in held_out:
        partners.setdefault(first, set()).add(second)
    plain, composed = dict(EXPRESSIONS), {}
    while len(plain) < TRAIN_SIZE + 3 * HELD_OUT_SIZE:
        french, english = sentence(draw)
        if french.count(" ") >= MAX_WORDS or english.count(" ") >= MAX_WORDS:
            continue
        if any(link in held_out for link in draw.links):
            composed[french] = english
        elif not any(lemma in partners and not partners[lemma].isdisjoint(draw.lemmas) for lemma in draw.lemmas):
            plain[french] = english
    return list(plain.items()), list(composed.items())


def _frequent_words(sentences: Iterable[str]) -> frozenset[str]:
    """Words that occur often enough to be tested on."""
    counts = Counter(word for sentence in sentences for word in words(sentence))
    return frozenset(word for word, count in counts.items() if count >= RARE)


def _choose(draw: Draw, pairs: Pairs, used: set[str], frequent: list[frozenset[str]], size: int) -> Pairs:
    """Choose pairs with frequent words, no two with one translation, none with a translation in `used`."""
    chosen: dict[str, str] = {}
    remaining = list(pairs)
    while len(chosen) < size and remaining:
        position = int(draw.random() * len(remaining))
        remaining[position], remaining[-1] = remaining[-1], remaining[position]
        french, english = remaining.pop()
        parts = words(french), words(english)
        testable = all(
            len(part) >= MIN_TEST_WORDS and frequent[side].issuperset(part) for side, part in enumerate(parts)
        )
        if testable and english not in used and english not in chosen:
            chosen[english] = french
    return [(french, english) for english, french in chosen.items()]


def builtin_corpus(split: str) -> list[tuple[str, str]]:
    """The pairs of one split of the built-in corpus.

    Args:
        split: one of `SPLITS`.

    Returns:
        (French, English) sentence pairs, always the same and in the same order; a copy, free to change.

    Raises:
        ValueError: if there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(
            f"The built-in corpus has the splits {', '.join(SPLITS)}, not {split!r}; ask for one of these."
        )
    return list(_corpus()[split])
