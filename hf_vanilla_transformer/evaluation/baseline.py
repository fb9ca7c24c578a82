"""The nearest-neighbour baseline: translate each sentence by copying that of the most similar training sentence.

Similarity is the cosine between TF-IDF vectors over lower-cased words and pairs of neighbouring words, where each
punctuation mark is a word. A term weighs its count times (ln((1 + N) / (1 + n)) + 1), where n of N training sentences
contain it. Left out: any editing of the copied translation, and a word splitter for text written without spaces.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from .corpus_checks import check_same_length, check_texts

_WORD = re.compile(r"\w+|[^\w\s]")


def nearest_neighbour_translations(
    sources: Sequence[str], training_sources: Sequence[str], training_targets: Sequence[str]
) -> list[str]:
    """Answer each source with the translation of the most similar training source.

    Args:
        sources: the sentences to translate.
        training_sources: the remembered sentences.
        training_targets: their translations.

    Returns:
        One remembered translation per source. Ties (to nine decimals) go to the first sentence, so a source that
        shares no word with the training text gets the first translation.

    Raises:
        TypeError: something is not a string.
        ValueError: a list is empty, or the training sides have different lengths.
    """
    queries = check_texts("sources", sources)
    remembered = check_texts("training_sources", training_sources)
    targets = check_texts("training_targets", training_targets)
    check_same_length("training_sources", remembered, "training_targets", targets)
    index = _TermIndex(remembered)
    return [targets[index.most_similar(query)] for query in queries]


class _TermIndex:
    """The sentences that contain each term, with their normalised weights, as one array cut at `starts`."""

    def __init__(self, sentences: list[str]) -> None:
        import numpy as np  # imported here: importing this package must stay fast

        self._size = len(sentences)
        self._term_ids: dict[str, int] = {}
        occurrences = [[self._term_ids.setdefault(t, len(self._term_ids)) for t in _terms(s)] for s in sentences]
        num_terms = max(1, len(self._term_ids))
        lengths = [len(ids) for ids in occurrences]
        term_of = np.array([term for ids in occurrences for term in ids], dtype=np.int64)  # (occurrences,)
        sentence_of = np.repeat(np.arange(self._size, dtype=np.int64), lengths)  # (occurrences,)
        del occurrences

        # sorted by term, then sentence; (postings,)
        keys, counts = np.unique(term_of * self._size + sentence_of, return_counts=True)
        terms, self._sentences = np.divmod(keys, self._size)
        holders = np.bincount(terms, minlength=num_terms)  # (terms,)
        self._starts = np.concatenate([[0], np.cumsum(holders)])  # (terms + 1,)
        self._idf = np.log((1 + self._size) / (1 + holders)) + 1  # (terms,)
        weights = counts * self._idf[terms]
        norms = np.sqrt(np.bincount(self._sentences, weights=weights**2, minlength=self._size))
        self._weights = weights / norms[self._sentences]  # (postings,)

    def most_similar(self, query: str) -> int:
        """Return the index of the sentence with the highest cosine; ties go to the first."""
        import numpy as np

        cosines = np.zeros(self._size)  # not divided by the query's norm, which is the same for all
        known = sorted(self._term_ids[term] for term in _terms(query) if term in self._term_ids)
        for term, count in zip(*np.unique(np.array(known, dtype=np.int64), return_counts=True), strict=True):
            postings = slice(self._starts[term], self._starts[term + 1])
            cosines[self._sentences[postings]] += count * self._idf[term] * self._weights[postings]
        # rounding hides the order of summation, which must not choose between equal sentences
        return int(np.argmax(np.round(cosines / max(cosines.max(), 1e-12), 9)))


def _terms(sentence: str) -> list[str]:
    words = _WORD.findall(sentence.lower())
    return words + [f"{first} {second}" for first, second in pairwise(words)]
