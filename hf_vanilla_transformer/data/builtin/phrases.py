"""Noun phrases of the built-in corpus, French and English built side by side.

One rendering for each: definite and `the`, demonstrative and `this/these`, indefinite singular and `a`; plural
indefinites, partitives and the `de` of a negation have no article in English.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from .adjectives import Adjective, adjectives_of
from .morphology import contract, starts_with_vowel
from .nouns import Noun, tagged

Choice = TypeVar("Choice")
Words = list[str]

UNOWNED = frozenset({"building", "sight", "transport", "tall", "place", "opening"})
SINGLE = frozenset({"mass", "place", "building", "room", "transport"})
KIN, PEOPLE = tagged("kin"), tagged("person")

DEFINITE, INDEFINITE, DEMONSTRATIVE = ("le", "la", "les"), ("un", "une", "des"), ("ce", "cette", "ces")
POSSESSIVES = (
    ("mon", "ma", "mes"),
    ("ton", "ta", "tes"),
    ("son", "sa", "ses"),
    ("notre", "notre", "nos"),
    ("votre", "votre", "vos"),
    ("leur", "leur", "leurs"),
)
POSSESSIVES_ENGLISH = ("my", "your", "his", "our", "your", "their")
NUMBERS = (("deux", "two"), ("trois", "three"), ("quatre", "four"), ("cinq", "five"))
NAMES = (
    ("paul", "m"),
    ("thomas", "m"),
    ("antoine", "m"),
    ("lucas", "m"),
    ("marie", "f"),
    ("julie", "f"),
    ("alice", "f"),
    ("sophie", "f"),
)
# French, English, person 0 to 5 and gender. `vous` is always plural; a masculine plural also stands for mixed groups.
PRONOUNS = (
    ("je", "i", 0, "m"),
    ("je", "i", 0, "f"),
    ("tu", "you", 1, "m"),
    ("tu", "you", 1, "f"),
    ("il", "he", 2, "m"),
    ("elle", "she", 2, "f"),
    ("nous", "we", 3, "m"),
    ("nous", "we", 3, "f"),
    ("vous", "you", 4, "m"),
    ("vous", "you", 4, "f"),
    ("ils", "they", 5, "m"),
    ("elles", "they", 5, "f"),
)


class Draw:
    """A source of random choices that also records which words were combined.

    `links` holds the combinations of the sentence, (noun, adjective) or (verb, noun), and `lemmas` its words; the
    splits need both. Only `Random.random` is used: it gives the same numbers on every Python version.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed).random
        self.links: list[tuple[str, str]] = []
        self.lemmas: list[str] = []

    def one(self, options: Sequence[Choice]) -> Choice:
        """One of the options, all equally likely."""
        return options[int(self.random() * len(options))]

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.random() < probability

    def forget(self) -> None:
        """Start a sentence: forget the words recorded so far."""
        self.links, self.lemmas = [], []

    def link(self, first: str, second: str) -> None:
        """Record a combination."""
        self.links.append((first, second))
        self.lemmas.append(first)
        self.lemmas.append(second)


class Nominal(NamedTuple):
    """A noun phrase. `person` is 0 to 5 (je ... ils), `gender` m or f; `lemma` its noun, if any."""

    french: Words
    english: Words
    person: int
    gender: str
    lemma: str = ""

    @property
    def form(self) -> int:
        """Which of the four agreement forms (m, f, m plural, f plural) goes with it."""
        return (self.gender == "f") + 2 * (self.person > 2)


def noun_group(noun: Noun, plural: bool, adjectives: Sequence[Adjective]) -> tuple[Words, Words]:
    """A noun with its adjectives, without determiner: some stand before it in French, all of them in English."""
    form = (noun.gender == "f") + 2 * plural
    before: Words = []
    after: Words = []
    for adjective in adjectives:
        word = adjective.french[form]
        if form == 0 and adjective.before and starts_with_vowel(noun.lemma):
            word = adjective.liaison
        (before if adjective.before else after).append(word)
    french = [*before, noun.french[plural], *after]
    return french, [*(adjective.english for adjective in adjectives), noun.english[plural]]


def pick_adjectives(draw: Draw, noun: Noun, probability: float, without: Sequence[str] = ()) -> list[Adjective]:
    """No adjective, one, or rarely two: one before the noun and one after it."""
    options = [adjective for adjective in adjectives_of(noun) if adjective.lemma not in without]
    if not options or not draw.chance(probability):
        return []
    first = draw.one(options)
    chosen = [first]
    if first.before and draw.chance(0.2):
        second = draw.one(options)
        if not second.before:
            chosen.append(second)
    for adjective in chosen:
        draw.link(noun.lemma, adjective.lemma)
    return chosen


def possessive(owner: int, gender: str, column: int, first: str) -> tuple[str, str]:
    """My, your ... before a noun (`gender` is the owner's); before a vowel ma, ta, sa are mon, ton, son."""
    if column == 1 and starts_with_vowel(first):
        column = 0
    english = "her" if owner == 2 and gender == "f" else POSSESSIVES_ENGLISH[owner]
    return POSSESSIVES[owner][column], english


def determined(
    determiner: str, group: tuple[Words, Words], noun: Noun, plural: bool, owner: tuple[int, str] = (0, "m")
) -> Nominal:
    """Put a determiner before a group. `owner` is the person and gender of a possessive's owner."""
    french, english = group
    column = 2 if plural else int(noun.gender == "f")
    if determiner == "the":
        words, rendering = [DEFINITE[column], *french], ["the", *english]
    elif determiner == "this":
        article = "cet" if column == 0 and starts_with_vowel(french[0]) else DEMONSTRATIVE[column]
        words, rendering = [article, *french], ["these" if plural else "this", *english]
    elif determiner == "my":
        article, own = possessive(*owner, column, french[0])
        words, rendering = [article, *french], [own, *english]
    elif "mass" in noun.tags:
        words, rendering = contract("de", [DEFINITE[column], *french]), english
    elif plural:
        article = "des" if french[0] == noun.french[1] else "de"  # de beaux livres
        words, rendering = [article, *french], english
    else:
        words, rendering = [INDEFINITE[column], *french], ["a", *english]
    return Nominal(words, rendering, 5 if plural else 2, noun.gender, noun.lemma)


def counted(draw: Draw, noun: Noun, group: tuple[Words, Words]) -> Nominal:
    """Deux livres, beaucoup de pain."""
    french, english = group
    if "mass" in noun.tags or draw.chance(0.3):
        return Nominal(["beaucoup", "de", *french], ["a", "lot", "of", *english], 5, noun.gender)
    number = draw.one(NUMBERS)
    return Nominal([number[0], *french], [number[1], *english], 5, noun.gender)


def possessor(draw: Draw, subject: Nominal | None) -> tuple[int, str]:
    """The owner of a thing: usually the subject; a third person only if the subject is that person."""
    if subject is not None and subject.english == ["who"] and not subject.lemma:
        subject = None  # avoids the ambiguity of his or her
    if subject is not None and draw.chance(0.7):
        return subject.person, subject.gender
    if subject is not None and subject.person in (1, 4):  # avoids mixing tu and votre
        return draw.one((0, 3)), "m"
    return draw.one((0, 0, 1, 3, 4)), "m"


def owned_by(draw: Draw, group: tuple[Words, Words], noun: Noun, plural: bool, subject: Nominal | None) -> Nominal:
    """Le livre du garçon: the boy's book."""
    head = determined("the", group, noun, plural)
    owner = person(draw, 0.1, subject, plurals=0.0)
    english = [*owner.english[:-1], owner.english[-1] + "'s", *group[1]]
    return Nominal([*head.french, *contract("de", owner.french)], english, head.person, head.gender)


def pick_number(draw: Draw, noun: Noun, probability: float) -> bool:
    """Whether to use the plural: never for mass nouns and most places, always for shoes."""
    if "pair" in noun.tags:
        return True
    counted_noun = noun.tags.isdisjoint(SINGLE) or not noun.tags.isdisjoint(("home", "sight"))
    return counted_noun and draw.chance(probability)


def thing(
    draw: Draw, noun: Noun, subject: Nominal | None = None, negated: bool = False, adjectives: float = 0.42
) -> Nominal:
    """A noun phrase as an object. After a negation an indefinite one has `de` (`pas de pain`) and no number."""
    mass = "mass" in noun.tags
    dice = draw.random()
    plural = pick_number(draw, noun, 1.0 if negated and dice >= 0.66 else 0.35)
    group = noun_group(noun, plural, pick_adjectives(draw, noun, adjectives))
    if dice < 0.3:
        return determined("the", group, noun, plural)
    if dice < 0.42:
        return determined("this", group, noun, plural)
    ownable = noun.tags.isdisjoint(UNOWNED) or "home" in noun.tags
    if dice < 0.58 and ownable:
        return determined("my", group, noun, plural, possessor(draw, subject))
    if dice < 0.66 and ownable:
        return owned_by(draw, group, noun, plural, subject)
    if negated:
        article = [] if plural or mass else ["a"]
        return Nominal(["de", *group[0]], [*article, *group[1]], 5 if plural else 2, noun.gender)
    if dice < 0.76 and (plural or mass):
        return counted(draw, noun, group)
    return determined("a", group, noun, plural)


def person(draw: Draw, adjectives: float = 0.25, subject: Nominal | None = None, plurals: float = 0.3) -> Nominal:
    """A noun phrase for a person other than the subject: a name, a relative or someone else; never indefinite."""
    dice = draw.random()
    if dice < 0.3:
        taken = subject.french if subject is not None else []
        name, gender = draw.one([entry for entry in NAMES if entry[0] not in taken])
        return Nominal([name], [name], 2, gender)
    taken_noun = subject.lemma if subject is not None else ""
    noun = draw.one([entry for entry in (KIN if dice < 0.55 else PEOPLE) if entry.lemma != taken_noun])
    draw.lemmas.append(noun.lemma)
    plural = "only" not in noun.tags and draw.chance(plurals)
    group = noun_group(noun, plural, pick_adjectives(draw, noun, adjectives))
    owned = "kin" in noun.tags or ("friend" in noun.tags and draw.chance(0.6))
    if owned:
        return determined("my", group, noun, plural, possessor(draw, subject))
    return determined("this" if draw.chance(0.25) else "the", group, noun, plural)


def pronoun(draw: Draw) -> Nominal:
    """A subject pronoun."""
    french, english, number, gender = draw.one(PRONOUNS)
    return Nominal([french], [english], number, gender)


def anyone(draw: Draw) -> Nominal:
    """A subject: a pronoun, a noun phrase, or two people."""
    dice = draw.random()
    if dice < 0.62:
        return pronoun(draw)
    if dice < 0.95:
        return person(draw)
    first, second = draw.one(NAMES), draw.one(NAMES)
    if first == second:
        return pronoun(draw)
    gender = "f" if first[1] == second[1] == "f" else "m"
    return Nominal([first[0], "et", second[0]], [first[0], "and", second[0]], 5, gender)
