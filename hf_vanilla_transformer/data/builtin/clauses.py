"""Clauses of the built-in corpus: one subject, one predicate, one tense, realised in both languages.

One English tense for each French one:

    présent                 present         simple present (eats)
    passé composé           past            simple past (ate)
    imparfait               imperfect       was/were + -ing; être, avoir, vouloir: simple past
    aller + infinitif       future          is going to + base
    être en train de        progressive     is/are + -ing
    pouvoir, devoir         can, must       can, must + base
    vouloir, aimer          want, like      want to, like to + base

Negations: `pas` is not, `plus` is no longer, `jamais` is never.
"""

from __future__ import annotations

from typing import NamedTuple

from .morphology import agree, starts_with_vowel
from .phrases import Nominal, Words
from .verbs import OTHER, Verb

BE, GO = OTHER["être"], OTHER["aller"]
MODALS = {
    "can": OTHER["pouvoir"],
    "must": OTHER["devoir"],
    "want": OTHER["vouloir"],
    "like": OTHER["aimer"],
    "future": GO,
    "progressive": BE,
}
REFLEXIVES = ("me", "te", "se", "nous", "vous", "se")
NEGATIONS = {"pas": "not", "plus": "no longer", "jamais": "never"}
MIDDLE_ADVERBS = {"souvent": "often", "toujours": "always", "parfois": "sometimes"}
BE_PRESENT = ("am", "are", "is", "are", "are", "are")
BE_PAST = ("was", "were", "was", "were", "were", "were")


class Predicate(NamedTuple):
    """A verb with its complements; `clitic` is an object pronoun, `agreement` the form it gives a participle."""

    verb: Verb
    french: Words
    english: Words
    clitic: str = ""
    agreement: int = 0


class Clause(NamedTuple):
    """A sentence without its place and time; `middle` is an adverb beside the verb, or a negation other than `pas`."""

    subject: Nominal
    predicate: Predicate
    tense: str = "present"
    negation: str = ""
    adverb: str = ""


def clitics(clause: Clause) -> Words:
    """Pronouns that stand before the verb: the reflexive one and an object."""
    reflexive = [REFLEXIVES[clause.subject.person]] if clause.predicate.verb.reflexive else []
    return reflexive + ([clause.predicate.clitic] if clause.predicate.clitic else [])


def participle(clause: Clause) -> str:
    """Past participle: with être it agrees with the subject, with avoir with a preceding direct object."""
    verb = clause.predicate.verb
    form = clause.subject.form if verb.auxiliary == "être" else clause.predicate.agreement
    return agree(verb.participle, form)


def french_verb(clause: Clause) -> tuple[Words, str, Words]:
    """The verb group in three parts: pronouns before the finite verb, the finite verb, what follows it."""
    verb, person = clause.predicate.verb, clause.subject.person
    if clause.tense in MODALS:
        link = ["en", "train", "de"] if clause.tense == "progressive" else []
        return [], MODALS[clause.tense].present[person], [*link, *clitics(clause), verb.infinitive]
    if clause.tense == "past":
        return clitics(clause), OTHER[verb.auxiliary].present[person], [participle(clause)]
    return clitics(clause), (verb.imperfect if clause.tense == "imperfect" else verb.present)[person], []


def french(clause: Clause, inverted: bool = False) -> Words:
    """The French words of a clause; `inverted` puts a subject pronoun after the verb (as-tu, a-t-il)."""
    before, finite, after = french_verb(clause)
    middle = [word for word in (clause.negation, clause.adverb) if word]
    if clause.negation:
        before = ["ne", *before]
    if not inverted:
        return [*clause.subject.french, *before, finite, *middle, *after, *clause.predicate.french]
    pronoun = clause.subject.french[0]
    link = ["-t"] if starts_with_vowel(pronoun) and finite[-1] not in "td" else []
    return [*before, finite, *link, "-" + pronoun, *middle, *after, *clause.predicate.french]


def english_verb(clause: Clause) -> tuple[str, Words, Words]:
    """The verb group: an auxiliary, what follows it, and the affirmative group (he eats has no auxiliary)."""
    verb, person, tense = clause.predicate.verb, clause.subject.person, clause.tense
    past = tense in ("past", "imperfect")
    if tense in ("future", "progressive") or (tense == "imperfect" and verb.durative):
        be = (BE_PAST if past else BE_PRESENT)[person]
        rest = ["going", "to", *verb.base] if tense == "future" else [*verb.ing]
        return be, rest, [be, *rest]
    if tense in ("can", "must"):
        return tense, [*verb.base], [tense, *verb.base]
    rest = []
    if tense in ("want", "like"):
        verb, rest = MODALS[tense], ["to", *verb.base]
    if verb.base == BE.base:
        be = (BE_PAST if past else BE_PRESENT)[person]
        return be, [], [be]
    if past:
        return "did", [*verb.base, *rest], [*verb.past, *rest]
    if person == 2:
        return "does", [*verb.base, *rest], [*verb.third, *rest]
    return "do", [*verb.base, *rest], [*verb.base, *rest]


def english(clause: Clause) -> Words:
    """The English words of a clause as a statement."""
    auxiliary, rest, affirmative = english_verb(clause)
    subject, after = clause.subject.english, clause.predicate.english
    if clause.negation == "pas":
        refusal = ["cannot"] if auxiliary == "can" else [auxiliary, "not"]
        return [*subject, *refusal, *rest, *after]
    middle = NEGATIONS[clause.negation].split() if clause.negation else []
    middle += [MIDDLE_ADVERBS[clause.adverb]] if clause.adverb else []
    if affirmative[0] == auxiliary:
        return [*subject, auxiliary, *middle, *rest, *after]
    return [*subject, *middle, *affirmative, *after]


def english_question(clause: Clause) -> Words:
    """The English words of a clause as a question, without the question mark."""
    auxiliary, rest, _ = english_verb(clause)
    middle = [NEGATIONS[clause.negation]] if clause.negation else []
    middle += [MIDDLE_ADVERBS[clause.adverb]] if clause.adverb else []
    return [auxiliary, *clause.subject.english, *middle, *rest, *clause.predicate.english]


def reported(clause: Clause) -> tuple[Words, Words]:
    """A clause as a statement in both languages."""
    return french(clause), english(clause)
