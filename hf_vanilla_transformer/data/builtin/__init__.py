"""The built-in parallel corpus, French to English, written by a grammar of our own: the first run needs no download.

Reading order: `nouns.py`, `adjectives.py`, `verbs.py` and `expressions.py` are the lexicon, as tables; `morphology.py`
inflects and spells; `phrases.py`, `clauses.py`, `predicates.py`, `statements.py` build noun phrases up to statements;
`questions.py`, `descriptions.py` and `sentences.py` hold the productions; `splits.py` draws the corpus. Every French
sentence has exactly one translation, since each construction has one rendering. Left out: capitals, full stops, the
simple future, the subjunctive and the conditional, and all that only context could decide.
"""

from .splits import BUILTIN_NAME, SPLITS, builtin_corpus, held_out_combinations

__all__ = ["BUILTIN_NAME", "SPLITS", "builtin_corpus", "held_out_combinations"]
