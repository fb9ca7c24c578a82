"""Descriptions in the built-in corpus: what things are like, where they are, that they exist, and what they are."""

from __future__ import annotations

from .adjectives import Adjective, adjectives_of
from .clauses import BE, Clause, Predicate, english_question, french, reported
from .nouns import NOUNS, Noun, tagged
from .phrases import UNOWNED, Draw, Nominal, counted, determined, noun_group, pick_adjectives, pick_number
from .statements import Pair

CHANGING_WORDS = "sale propre vide chaud froid frais malade fatigué heureux célèbre calme cher"
CHANGING = frozenset(CHANGING_WORDS.split())
THINGS = tagged(
    "thing", "clothes", "vehicle", "building", "text", "furniture", "fruit", "dish", "food", "animal", "room", "plant"
)
PUTTABLE = tagged("thing", "sheet", "clothes", "souris", "chat")
SPOTS = (
    (("sur",), ("on",), ("table", "chaise")),
    (("sous",), ("under",), ("table", "chaise", "arbre")),
    (("dans",), ("in",), ("sac", "boîte", "armoire", "cuisine", "chambre", "salon", "voiture", "bureau", "jardin")),
    (("devant",), ("in", "front", "of"), ("porte", "maison", "fenêtre", "école", "gare")),
    (("derrière",), ("behind",), ("porte", "maison", "arbre", "église", "musée")),
)
DESCRIBABLE = tuple(noun for noun in THINGS if adjectives_of(noun))
NAMEABLE = tagged("thing", "clothes", "vehicle", "building", "text", "furniture", "fruit", "dish", "animal")
FOODS = tagged("food", "drink", "fruit", "dish")
FOOD_SPOTS = (
    (["dans", "la", "cuisine"], ["in", "the", "kitchen"]),
    (["sur", "la", "table"], ["on", "the", "table"]),
)
IT_IS = (("est", "était"), ("sont", "étaient"))


def definite(draw: Draw, noun: Noun) -> Nominal:
    """A definite, demonstrative or possessive noun phrase without adjective, as a subject."""
    plural = pick_number(draw, noun, 0.3)
    draw.lemmas.append(noun.lemma)
    group = noun_group(noun, plural, ())
    determiner = draw.one(("the", "the", "this", "my"))
    owner = draw.one((0, 1, 3, 4)), "m"
    return determined("the" if determiner == "my" and noun.tags & UNOWNED else determiner, group, noun, plural, owner)


def quality_of_thing(draw: Draw) -> Pair:
    """La robe est rouge."""
    noun = draw.one(DESCRIBABLE)
    adjective = draw.one(adjectives_of(noun))
    draw.link(noun.lemma, adjective.lemma)
    subject = definite(draw, noun)
    negated = draw.one(("", "", "pas", "plus"))
    negated = "pas" if negated == "plus" and adjective.lemma not in CHANGING else negated
    clause = Clause(subject, predicative(subject, adjective), draw.one(("present", "present", "imperfect")), negated)
    if draw.chance(0.15) and not negated:
        return ["est-ce", "que", *french(clause), "?"], [*english_question(clause), "?"]
    return reported(clause)


def predicative(subject: Nominal, adjective: Adjective) -> Predicate:
    """Be red: the adjective agrees with the subject."""
    return Predicate(BE, [adjective.french[subject.form]], [adjective.english])


def spot(draw: Draw, lemma: str) -> Pair:
    """On the table, behind the door: any place except inside the thing."""
    french_words, english_words, lemmas = draw.one(SPOTS)
    noun = NOUNS[draw.one([name for name in lemmas if name != lemma])]
    draw.lemmas.append(noun.lemma)
    article = "la" if noun.gender == "f" else "le"
    return [*french_words, article, noun.lemma], [*english_words, "the", noun.english[0]]


def thing_somewhere(draw: Draw) -> Pair:
    """Le livre est sur la table."""
    noun = draw.one(PUTTABLE)
    subject, where = definite(draw, noun), spot(draw, noun.lemma)
    clause = Clause(
        subject,
        Predicate(BE, *where),
        draw.one(("present", "present", "imperfect")),
        draw.one(("", "", "pas", "plus")),
    )
    return reported(clause)


def existence(draw: Draw) -> Pair:
    """Il y a un chat sur la table: there is a cat on the table."""
    noun = draw.one(PUTTABLE + FOODS)
    plural = pick_number(draw, noun, 0.4)
    group = noun_group(noun, plural, pick_adjectives(draw, noun, 0.4))
    draw.lemmas.append(noun.lemma)
    where = draw.one(FOOD_SPOTS) if noun in FOODS else spot(draw, noun.lemma)
    past = draw.chance(0.3)
    verb, be = ("avait" if past else "a"), (("were" if plural else "was") if past else ("are" if plural else "is"))
    if draw.chance(0.2):
        return ["il", "ne", "y", verb, "pas", "de", *group[0], *where[0]], ["there", be, "no", *group[1], *where[1]]
    found = counted(draw, noun, group) if plural and draw.chance(0.4) else determined("a", group, noun, plural)
    if draw.chance(0.2):
        words = ["est-ce", "que", "il", "y", verb, *found.french, *where[0], "?"]
        return words, [be, "there", *found.english, *where[1], "?"]
    return ["il", "y", verb, *found.french, *where[0]], ["there", be, *found.english, *where[1]]


def it_is(draw: Draw) -> Pair:
    """C'est un chat, ce sont mes livres."""
    noun = draw.one(NAMEABLE)
    plural = pick_number(draw, noun, 0.35)
    group = noun_group(noun, plural, pick_adjectives(draw, noun, 0.6))
    draw.lemmas.append(noun.lemma)
    determiners = ("a", "a", "the", "my") if noun.tags.isdisjoint(UNOWNED) else ("a", "a", "the")
    found = determined(draw.one(determiners), group, noun, plural, (draw.one((0, 1, 3, 4, 5)), "m"))
    past, negated = draw.chance(0.25), draw.chance(0.25)
    verb = IT_IS[plural][past]
    subject = ["they" if plural else "it", {True: ("are", "were"), False: ("is", "was")}[plural][past]]
    ne, pas = (["ne"], ["pas"]) if negated else ([], [])
    return ["ce", *ne, verb, *pas, *found.french], [*subject, *(["not"] if negated else []), *found.english]
