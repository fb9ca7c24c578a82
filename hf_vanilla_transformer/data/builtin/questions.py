"""The questions of the built-in corpus: est-ce que, inversion, and questions with who, what, where, when and why.

A question ends with a question mark, in French after a space as its typography requires.
"""

from __future__ import annotations

from .clauses import Clause, Predicate, english_question, french, reported
from .nouns import tagged
from .phrases import Draw, Nominal, anyone, person, thing
from .predicates import PERSON_VERBS, THING_VERBS, intransitive, placed, transitive
from .statements import TENSES, Pair, action, fitting, state, with_circumstance, with_time
from .verbs import INTRANSITIVE

ASKED = (
    ("tu", "you", 1),
    ("vous", "you", 4),
    ("il", "he", 2),
    ("elle", "she", 2),
    ("ils", "they", 5),
    ("elles", "they", 5),
)
WHO = Nominal(["qui"], ["who"], 2, "m")
QUESTION = ["?"]
PUTTABLE = tagged("thing", "sheet", "clothes", "souris", "chat")
INVERTIBLE = frozenset({"être", "avoir", "aller", "venir", "aimer", "adorer", "détester"})
PLACED_VERBS = tuple(verb for verb in INTRANSITIVE.values() if verb.places)
NOT_DEFINITE = frozenset({"un", "une", "des", "de", "du", "beaucoup", "deux", "trois", "quatre", "cinq"})


def yes_no(draw: Draw) -> Pair:
    """Est-ce que ...?"""
    subject = anyone(draw)
    acting = draw.chance(0.65)
    clause = action(draw, subject, 0.0) if acting else state(draw, subject, 0.0)
    pair = ["est-ce", "que", *french(clause)], english_question(clause)
    if acting and draw.chance(0.5):
        pair = with_circumstance(draw, clause, pair, 0.0)
    return pair[0] + QUESTION, pair[1] + QUESTION


def inverted(draw: Draw) -> Pair:
    """As-tu ...?, a-t-il ...?: inversion after short common verbs only."""
    word, rendering, number = draw.one(ASKED)
    subject = Nominal([word], [rendering], number, "f" if word.startswith("elle") else "m")
    clause = action(draw, subject, 0.0) if draw.chance(0.6) else state(draw, subject, 0.0)
    verb = clause.predicate.verb
    if verb.infinitive not in INVERTIBLE and clause.tense in ("present", "imperfect"):
        clause = clause._replace(tense="past" if verb.objects else "want", adverb="")
    return french(clause, inverted=True) + QUESTION, english_question(clause) + QUESTION


def where_when_why(draw: Draw) -> Pair:
    """Où est-ce que ...?, quand est-ce que ...?, pourquoi est-ce que ...?"""
    subject, dice = anyone(draw), draw.random()
    if dice < 0.3:
        verb = draw.one(PLACED_VERBS)
        predicate = transitive(draw, subject, False) if draw.chance(0.6) else Predicate(verb, [], [])
        tense = draw.one(("present", "past", "past", "future", "want"))
        clause, words = Clause(subject, predicate, fitting(tense, predicate.verb, 2)), ("où", "where")
    elif dice < 0.6:
        predicate = transitive(draw, subject, False) if draw.chance(0.6) else intransitive(draw, subject)
        clause, words = (
            Clause(subject, predicate, fitting(draw.one(("past", "future", "future")), predicate.verb, 2)),
            ("quand", "when"),
        )
    else:
        clause = action(draw, subject, 0.4) if draw.chance(0.7) else state(draw, subject)
        words = ("pourquoi", "why")
    return [words[0], "est-ce", "que", *french(clause), "?"], [words[1], *english_question(clause), "?"]


def who(draw: Draw) -> Pair:
    """Qui a mangé la pomme ?"""
    clause = action(draw, WHO, 0.1)
    pair = with_circumstance(draw, clause, reported(clause), 0.0)
    return pair[0] + QUESTION, pair[1] + QUESTION


def what(draw: Draw) -> Pair:
    """Qu'est-ce que tu manges ?, qui est-ce que tu aides ?"""
    subject, tense = anyone(draw), draw.one(TENSES)
    things = draw.chance(0.7)
    verb = draw.one(THING_VERBS if things else PERSON_VERBS)
    draw.lemmas.append(verb.infinitive)
    tense = fitting(tense, verb, subject.person)
    clause = Clause(subject, Predicate(verb, [], []), tense)
    pair = [*french(clause)], [*english_question(clause)]
    if verb.places and draw.chance(0.3):
        where = placed(draw, verb)
        pair = pair[0] + where[0], pair[1] + where[1]
    else:
        pair = with_time(draw, pair, tense, front=0.0)
    words = ("que", "what") if things else ("qui", "who")
    return [words[0], "est-ce", "que", *pair[0], "?"], [words[1], *pair[1], "?"]


def where_is(draw: Draw) -> Pair:
    """Où est ...?"""
    subject = thing(draw, draw.one(PUTTABLE), None) if draw.chance(0.6) else person(draw)
    plural = subject.person > 2
    if subject.french[0] in NOT_DEFINITE:
        draw.forget()
        return where_is(draw)
    past = draw.chance(0.25)
    verb = ("étaient" if plural else "était") if past else ("sont" if plural else "est")
    be = ("were" if plural else "was") if past else ("are" if plural else "is")
    return ["où", verb, *subject.french, "?"], ["where", be, *subject.english, "?"]
