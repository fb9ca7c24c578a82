"""Statements of the built-in corpus: someone does, is, has or likes something, then or now, here or there."""

from __future__ import annotations

from .clauses import Clause, Predicate, reported
from .phrases import Draw, Nominal, Words, anyone
from .predicates import (
    TIMES,
    ditransitive,
    feeling,
    having,
    intransitive,
    liking,
    motion,
    placed,
    profession,
    quality,
    reflexive,
    talking,
    transitive,
    whereabouts,
    with_pronoun,
    with_speaker,
)
from .verbs import TRANSITIVE, Verb

Pair = tuple[Words, Words]
TENSES = (
    ("present",) * 8
    + ("past",) * 6
    + ("future", "future", "imperfect", "imperfect", "progressive", "can", "must", "want", "like")
)
DURATIVE_ONLY = ("imperfect", "progressive", "like")
ACCIDENTS = frozenset({"oublier", "perdre", "casser", "trouver"})
STATE_TENSES = ("present",) * 6 + ("imperfect",) * 3 + ("future",)


def negate(draw: Draw, tense: str, probability: float = 0.25) -> str:
    """No negation, or one that goes with the tense."""
    if not draw.chance(probability):
        return ""
    dice = draw.random()
    if dice < 0.25 and tense in ("present", "past"):
        return "jamais"
    return "plus" if dice > 0.8 and tense in ("present", "imperfect", "can", "want") else "pas"


def predicate_for(draw: Draw, subject: Nominal, negated: bool, tense: str) -> Predicate:
    """What a person does."""
    dice = draw.random()
    if dice < 0.51:
        return transitive(draw, subject, negated)
    if dice < 0.63:
        return with_pronoun(draw, tense)
    if dice < 0.67:
        return with_speaker(draw, subject)
    if dice < 0.74:
        return ditransitive(draw, subject, negated)
    if dice < 0.77:
        return talking(draw, subject)
    if dice < 0.90:
        return intransitive(draw, subject)
    return motion(draw, tense) if dice < 0.95 else reflexive(draw)


def fitting(tense: str, verb: Verb, person: int, negated: bool = False) -> str:
    """The tense itself, or one that suits the verb.

    Nobody plans to lose or break things, and the past of what has no duration is the passé composé. To keep paradigms
    short, the imperfect of an action does without tu, nous and vous.
    """
    if tense in DURATIVE_ONLY and (not verb.durative or (tense == "imperfect" and person in (1, 3, 4))):
        return "past"
    if tense not in ("present", "past") and verb.infinitive in ACCIDENTS:
        return "past"
    return "can" if tense == "must" and negated and not verb.durative else tense


def action(draw: Draw, subject: Nominal, negation: float = 0.25) -> Clause:
    """A clause about what someone does, in any tense."""
    wished = draw.one(TENSES)
    negated = negate(draw, wished, negation)
    predicate = predicate_for(draw, subject, negated != "", wished)
    tense = fitting(wished, predicate.verb, subject.person, negated != "")
    if negated == "plus" and tense != wished:
        negated = "pas"
    adverb = ""
    if tense == "present" and not negated and draw.chance(1.0 if predicate.verb.infinitive in ACCIDENTS else 0.15):
        adverb = draw.one(("souvent", "toujours", "parfois"))
    return Clause(subject, predicate, tense, negated, adverb)


def state(draw: Draw, subject: Nominal, negation: float = 0.25) -> Clause:
    """A clause about what someone is, has or likes."""
    tense = draw.one(STATE_TENSES)
    dice = draw.random()
    negated = "pas" if draw.chance(negation) else ""
    if dice < 0.3:
        return Clause(subject, quality(draw, subject, tense), tense, negated)
    if dice < 0.4:
        return Clause(subject, profession(draw, subject), tense, negated)
    if dice < 0.48:
        return Clause(subject, whereabouts(draw), "imperfect" if tense == "future" else tense, negated)
    if dice < 0.6:
        return Clause(subject, feeling(draw), "present" if tense == "future" else tense, negated)
    if dice < 0.85:
        return Clause(subject, having(draw, subject, negated != "", tense), tense, negated)
    return Clause(subject, liking(draw), "present", negated)


def with_time(draw: Draw, pair: Pair, tense: str, probability: float = 0.3, front: float = 0.3) -> Pair:
    """Add when it happens, at the end or, with probability `front`, at the beginning."""
    if tense not in TIMES or not draw.chance(probability):
        return pair
    time, english_time = draw.one(TIMES[tense])
    if draw.chance(front) and tense in ("past", "future", "imperfect"):
        return [*time.split(), *pair[0]], [*english_time.split(), *pair[1]]
    return [*pair[0], *time.split()], [*pair[1], *english_time.split()]


def with_circumstance(draw: Draw, clause: Clause, pair: Pair, front: float = 0.3) -> Pair:
    """Add a place, a time, both or neither."""
    verb = clause.predicate.verb
    if verb.places and verb.infinitive in TRANSITIVE and draw.chance(0.2):
        where = placed(draw, verb)
        pair = [*pair[0], *where[0]], [*pair[1], *where[1]]
        return with_time(draw, pair, clause.tense, 0.1, 0.0)
    habit = clause.tense != "present" or verb.durative or not verb.objects
    blocked = clause.negation == "jamais" or clause.adverb or not habit
    return pair if blocked else with_time(draw, pair, clause.tense, front=front)


def act(draw: Draw) -> Pair:
    """Someone does something."""
    clause = action(draw, anyone(draw))
    return with_circumstance(draw, clause, reported(clause))


def be(draw: Draw) -> Pair:
    """Someone is, has or likes something."""
    return reported(state(draw, anyone(draw)))
