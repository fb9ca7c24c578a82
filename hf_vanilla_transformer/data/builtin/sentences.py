"""All productions of the built-in corpus with their weights, and those for relative clauses, conjunctions, commands.

Statements have no full stop, and there are no capital letters.
"""

from __future__ import annotations

from collections.abc import Callable

from .adjectives import ADJECTIVES, adjectives_of
from .clauses import BE, Clause, Predicate, english, french, reported
from .descriptions import existence, it_is, predicative, quality_of_thing, thing_somewhere
from .expressions import ADDRESSED, ANSWERS, EXPRESSIONS, FRIENDS
from .morphology import join_english, join_french
from .nouns import NOUNS, Noun, tagged
from .phrases import (
    NAMES,
    UNOWNED,
    Draw,
    Nominal,
    anyone,
    determined,
    noun_group,
    person,
    pick_adjectives,
    pick_number,
    thing,
)
from .predicates import IDIOMS, PERSON_ADJECTIVES, THING_VERBS, be_like, profession, transitive
from .questions import QUESTION, inverted, what, where_is, where_when_why, who, yes_no
from .statements import Pair, act, action, be, fitting, state
from .verbs import INTRANSITIVE, OTHER, TRANSITIVE

YOU = {1: Nominal(["tu"], ["you"], 1, "m"), 4: Nominal(["vous"], ["you"], 4, "m")}
COMMAND_WORDS = """
manger boire préparer lire laver fermer ouvrir choisir prendre regarder réparer chercher acheter cacher aider inviter
attendre écouter
"""
COMMANDS = tuple(COMMAND_WORDS.split())
WARNINGS = (*COMMANDS, "oublier", "perdre", "casser")
ANY_WILL_DO = frozenset({"manger", "boire", "préparer", "lire", "acheter", "choisir", "chercher", "prendre"})
ACTIVITIES = ("travailler", "dormir", "chanter", "danser", "jouer")
RELATIONS = tagged("kin", "friend")
STRANGERS = tagged("adult", "child", "job")
MEN, WOMEN = (
    tuple(NOUNS[name] for name in names.split())
    for names in ("frère oncle cousin ami voisin", "sœur tante cousine amie voisine")
)
KNOWING = (
    ("penser", "", "que", "that"),
    ("savoir", "", "que", "that"),
    ("savoir", "pas", "si", "if"),
    ("savoir", "pas", "pourquoi", "why"),
)
BECAUSE = (
    ("chanter", "", "heureux"),
    ("danser", "", "heureux"),
    ("dormir", "", "fatigué malade sommeil"),
    ("rester", "", "fatigué malade timide"),
    ("partir", "", "fatigué faim froid peur triste malade"),
    ("courir", "", "froid peur heureux"),
    ("travailler", "pas", "fatigué malade faim"),
    ("chanter", "pas", "triste timide fatigué malade"),
    ("danser", "pas", "triste timide fatigué malade"),
    ("jouer", "pas", "triste fatigué malade froid"),
    ("sortir", "pas", "fatigué malade froid peur sommeil"),
    ("dormir", "pas", "malade froid peur faim heureux"),
)
FEELINGS = dict(IDIOMS)
ADJECTIVES_OF_PEOPLE = frozenset(adjective.lemma for adjective in PERSON_ADJECTIVES)
GOOD_WORDS, BAD_WORDS = "drôle intelligent riche gentil heureux célèbre jeune", "triste timide fatigué malade vieux"
GOOD, BAD = GOOD_WORDS.split(), BAD_WORDS.split()
OPPOSITES = ({"jeune", "vieux"}, {"triste", "heureux"})
PRONOUN_WORDS = frozenset({"je", "tu", "il", "elle", "nous", "vous", "ils", "elles"})
GIFTS = tagged("thing", "clothes", "text", "fruit", "dish", "food", "drink", "fleur")
KNOWN = dict(EXPRESSIONS)


def relative_object(draw: Draw) -> Pair:
    """La pomme que j'ai mangée est sucrée: the participle agrees with the preceding object."""
    verb = draw.one(THING_VERBS)
    noun = draw.one(tuple(noun for noun in verb.objects if adjectives_of(noun)))
    adjective = draw.one(adjectives_of(noun))
    draw.link(verb.infinitive, noun.lemma)
    draw.link(noun.lemma, adjective.lemma)
    plural = pick_number(draw, noun, 0.35)
    head = determined("the", noun_group(noun, plural, ()), noun, plural)
    tense = fitting(draw.one(("past", "past", "present", "want")), verb, 2)
    inner = Clause(anyone(draw), Predicate(verb, [], [], "", head.form), tense)
    outer = predicative(head, adjective)
    be = "imperfect" if tense == "past" and draw.chance(0.4) else "present"
    subject = head._replace(
        french=[*head.french, "que", *french(inner)], english=[*head.english, "that", *english(inner)]
    )
    return reported(Clause(subject, outer, be))


def relative_subject(draw: Draw) -> Pair:
    """La femme qui chante est ma tante."""
    noun = draw.one(STRANGERS)
    draw.lemmas.append(noun.lemma)
    plural = draw.chance(0.3)
    head = determined("the", noun_group(noun, plural, ()), noun, plural)
    inner = action(draw, head._replace(french=["qui"], english=["who"]), 0.1)
    role = draw.one(WOMEN if noun.gender == "f" else MEN)
    owner = draw.one((0, 0, 1, 3, 4)), "m"
    complement = determined("my", noun_group(role, plural, ()), role, plural, owner)
    draw.lemmas.append(role.lemma)
    subject = head._replace(french=head.french + french(inner), english=head.english + english(inner))
    return reported(Clause(subject, Predicate(BE, complement.french, complement.english)))


def start_over(draw: Draw, production: Callable[[Draw], Pair]) -> Pair:
    """Start a sentence again if its choices do not fit together."""
    draw.forget()
    return production(draw)


def knowing(draw: Draw) -> Pair:
    """Je pense que ..., je ne sais pas si ..."""
    subject, inner_subject = anyone(draw), anyone(draw)
    if subject.person % 3 == inner_subject.person % 3 or subject.lemma == inner_subject.lemma != "":
        return start_over(draw, knowing)
    inner = action(draw, inner_subject, 0.15) if draw.chance(0.6) else state(draw, inner_subject)
    verb, negated, link, english_link = draw.one(KNOWING)
    outer = Clause(subject, Predicate(OTHER[verb], [link], [english_link]), "present", negated)
    first, second = reported(outer), reported(inner)
    return first[0] + second[0], first[1] + second[1]


def because(draw: Draw) -> Pair:
    """Elle ne travaille pas parce qu'elle est malade."""
    subject, tense = anyone(draw), draw.one(("present", "present", "past", "future"))
    verb, negation, causes = draw.one(BECAUSE)
    draw.lemmas.append(verb)
    main = Clause(subject, Predicate(INTRANSITIVE[verb], [], []), tense, negation)
    again, cause = same_person(subject), draw.one(causes.split())
    draw.lemmas.append(cause)
    reason = (
        predicative(again, ADJECTIVES[cause]) if cause in ADJECTIVES_OF_PEOPLE else be_like([cause], [FEELINGS[cause]])
    )
    first, second = reported(main), reported(Clause(again, reason, "imperfect" if tense == "past" else "present"))
    return [*first[0], "parce", "que", *second[0]], [*first[1], "because", *second[1]]


def same_person(subject: Nominal) -> Nominal:
    """The pronoun that stands for a subject in the next clause."""
    if subject.french[0] in PRONOUN_WORDS:
        return subject
    plural, feminine = subject.person > 2, subject.gender == "f"
    word = ("elle" if feminine else "il") + ("s" if plural else "")
    return subject._replace(french=[word], english=["they" if plural else "she" if feminine else "he"])


def contrast(draw: Draw) -> Pair:
    """Paul est riche mais il n'est pas heureux."""
    subject, tense = anyone(draw), draw.one(("present", "present", "imperfect"))
    good, other, bad = draw.one(GOOD), draw.one(GOOD), draw.one(BAD)
    pattern = draw.one(((good, "", other, "pas"), (good, "pas", other, ""), (good, "", bad, ""), (bad, "", good, "")))
    one, negation, two, second_negation = pattern
    if one == two or {one, two} in OPPOSITES:
        return start_over(draw, contrast)
    again = same_person(subject)
    first = reported(Clause(subject, predicative(subject, ADJECTIVES[one]), tense, negation))
    second = reported(Clause(again, predicative(again, ADJECTIVES[two]), tense, second_negation))
    draw.lemmas.extend((one, two))
    return [*first[0], "mais", *second[0]], [*first[1], "but", *second[1]]


def interruption(draw: Draw) -> Pair:
    """Elle lisait un livre quand le voisin est arrivé."""
    subject = anyone(draw)
    if subject.person in (1, 3, 4):
        return start_over(draw, interruption)
    if draw.chance(0.35):
        predicate = Predicate(INTRANSITIVE[draw.one(ACTIVITIES)], [], [])
    else:
        predicate = transitive(draw, subject, False)
    if not predicate.verb.durative:
        return start_over(draw, interruption)
    event = person(draw, subject=subject) if draw.chance(0.6) else anyone(draw)
    if event.person % 3 == subject.person % 3 and event.person != 2:
        return start_over(draw, interruption)
    verb = INTRANSITIVE[draw.one(("arriver", "partir", "sortir"))]
    first, second = (
        reported(Clause(subject, predicate, "imperfect")),
        reported(Clause(event, Predicate(verb, [], []), "past")),
    )
    return [*first[0], "quand", *second[0]], [*first[1], "when", *second[1]]


def specific(draw: Draw, noun: Noun, owner: Nominal) -> Nominal:
    """The, this or your thing."""
    plural = pick_number(draw, noun, 0.35)
    group = noun_group(noun, plural, pick_adjectives(draw, noun, 0.4))
    draw.lemmas.append(noun.lemma)
    determiner = draw.one(("the", "the", "this", "my") if noun.tags.isdisjoint(UNOWNED) else ("the", "this"))
    return determined(determiner, group, noun, plural, (owner.person, owner.gender))


def command(draw: Draw) -> Pair:
    """Mange ta pomme, ne fermez pas la porte."""
    subject = YOU[draw.one((1, 4))]
    negated = draw.chance(0.3)
    verb = TRANSITIVE[draw.one(WARNINGS if negated else COMMANDS)]
    noun = draw.one(verb.objects)
    if noun.tags & {"person", "kin"}:
        found = person(draw, subject=subject)
    else:
        draw.link(verb.infinitive, noun.lemma)
        found = (
            thing(draw, noun, subject)
            if verb.infinitive in ANY_WILL_DO and not negated
            else specific(draw, noun, subject)
        )
    form = verb.present[subject.person]
    form = form[:-1] if form.endswith("es") else form
    if negated:
        return ["ne", form, "pas", *found.french], ["do", "not", *verb.base, *found.english]
    return [form, *found.french], [*verb.base, *found.english]


def thanks_for(draw: Draw) -> Pair:
    """Merci pour les fleurs."""
    noun, much = draw.one(GIFTS), draw.chance(0.3)
    found = specific(draw, noun, YOU[draw.one((1, 4))])
    opening = (["merci", "beaucoup"], ["thank", "you", "very", "much"]) if much else (["merci"], ["thanks"])
    return [*opening[0], "pour", *found.french], [*opening[1], "for", *found.english]


def expression(draw: Draw) -> Pair:
    """A fixed expression said to someone, or an answer before a statement."""
    if draw.chance(0.75):
        first, friend = draw.one(ADDRESSED), draw.one(FRIENDS)
        words = first.split(), KNOWN[first].removesuffix("?").split()
        question = QUESTION if words[0][-1] == "?" else []
        return [*(w for w in words[0] if w != "?"), *friend[0].split(), *question], [
            *words[1],
            *friend[1].split(),
            *question,
        ]
    answer = draw.one(ANSWERS)
    statement = reported(state(draw, anyone(draw)) if draw.chance(0.6) else action(draw, anyone(draw)))
    return [answer, *statement[0]], [KNOWN[answer], *statement[1]]


def introduction(draw: Draw) -> Pair:
    """Bonjour je m'appelle marie, mon frère s'appelle paul, bonsoir je suis étudiant."""
    name, gender = draw.one(NAMES)
    greeting = draw.one(("", "bonjour", "bonsoir"))
    speaker = Nominal(["je"], ["i"], 0, gender)
    if draw.chance(0.35):
        words = reported(Clause(speaker, profession(draw, speaker)))
    elif draw.chance(0.4):
        words = ["je", "me", "appelle", name], ["my", "name", "is", name]
    else:
        greeting, noun = "", draw.one([noun for noun in RELATIONS if noun.gender == gender])
        draw.lemmas.append(noun.lemma)
        subject = determined("my", noun_group(noun, False, ()), noun, False, (draw.one((0, 1, 3, 4)), "m"))
        owner = [*subject.english[:-1], subject.english[-1] + "'s"]
        words = [*subject.french, "se", "appelle", name], [*owner, "name", "is", name]
    return [*greeting.split(), *words[0]], [*KNOWN.get(greeting, "").split(), *words[1]]


PRODUCTIONS: tuple[tuple[Callable[[Draw], Pair], int], ...] = (
    (act, 34),
    (be, 14),
    (yes_no, 7),
    (inverted, 5),
    (where_when_why, 5),
    (who, 3),
    (what, 3),
    (where_is, 1),
    (quality_of_thing, 7),
    (thing_somewhere, 3),
    (existence, 3),
    (it_is, 3),
    (relative_object, 3),
    (relative_subject, 2),
    (knowing, 4),
    (because, 2),
    (contrast, 2),
    (interruption, 2),
    (command, 3),
    (thanks_for, 1),
    (expression, 3),
    (introduction, 1),
)
WEIGHTED = tuple(production for production, weight in PRODUCTIONS for _ in range(weight))


def sentence(draw: Draw) -> tuple[str, str]:
    """One sentence pair; `draw.links` and `draw.lemmas` then list its combinations and words."""
    draw.forget()
    french_words, english_words = draw.one(WEIGHTED)(draw)
    return join_french(french_words), join_english(english_words)
