"""Predicates of the built-in corpus, by family, with their places and times.

Object pronouns: le, la, les are it and them for things, him, her and them for people, and only where the French form
shows which; lui is always him.
"""

from __future__ import annotations

from .adjectives import ADJECTIVES
from .clauses import BE, GO, Predicate
from .morphology import contract, starts_with_vowel
from .nouns import NOUNS, Noun, tagged
from .phrases import Draw, Nominal, Words, determined, noun_group, person, pick_adjectives, pick_number, thing
from .verbs import DITRANSITIVE, INTRANSITIVE, OTHER, REFLEXIVE, TRANSITIVE, Verb

AT_WORDS = "marché parc banque restaurant gare plage bibliothèque hôtel musée théâtre hôpital bureau"
AT = dict.fromkeys(AT_WORDS.split(), "at")
TIMES = {
    "present": (("le matin", "in the morning"), ("le soir", "in the evening"), ("tous les jours", "every day")),
    "past": (("hier", "yesterday"), ("ce matin", "this morning"), ("la semaine dernière", "last week")),
    "imperfect": (("hier", "yesterday"), ("ce matin", "this morning"), ("hier soir", "last night")),
    "future": (("demain", "tomorrow"), ("ce soir", "tonight"), ("la semaine prochaine", "next week")),
    "progressive": (("maintenant", "now"),),
    "can": (("demain", "tomorrow"), ("ce soir", "tonight"), ("maintenant", "now")),
}
TIMES.update(must=TIMES["can"], want=TIMES["can"], like=TIMES["present"][:2])
DATIVES = (
    ("lui", "him", 2),
    ("leur", "them", 5),
    ("me", "me", 0),
    ("te", "you", 1),
    ("nous", "us", 3),
    ("vous", "you", 4),
)
STATES = """
triste drôle calme intelligent riche timide gentil heureux fatigué malade jeune vieux célèbre français anglais italien
"""
PERSON_ADJECTIVES = tuple(ADJECTIVES[lemma] for lemma in STATES.split())
PASSING_WORDS = "triste calme riche heureux fatigué malade célèbre"
PASSING_ADJECTIVES = tuple(a for a in PERSON_ADJECTIVES if a.lemma in PASSING_WORDS.split())
IDIOMS = (
    ("faim", "hungry"),
    ("soif", "thirsty"),
    ("froid", "cold"),
    ("peur", "afraid"),
    ("sommeil", "sleepy"),
    ("raison", "right"),
)
AGES = (("dix", "ten"), ("vingt", "twenty"), ("trente", "thirty"), ("quarante", "forty"))
JOBS = """
étudiant/étudiante professeur/professeur médecin/médecin boulanger/boulangère chanteur/chanteuse musicien/musicienne
infirmier/infirmière avocat/avocate
"""
JOB_PAIRS = tuple(tuple(pair.split("/")) for pair in JOBS.split())
CLITIC_FORMS = (0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3)
OF_PEOPLE = frozenset({"aider", "inviter", "attendre", "rencontrer", "écouter", "voir"})
THING_VERBS = tuple(verb for name, verb in TRANSITIVE.items() if name not in OF_PEOPLE)
PERSON_VERBS = tuple(verb for name, verb in TRANSITIVE.items() if name in OF_PEOPLE)
GENERIC = tagged("fruit", "sweet", "food", "drink", "text", "animal", "fleur", "musée")
OWNED = tagged("thing", "sheet", "vehicle", "pet", "clothes", "home", "kin")
BELONGINGS = tuple(noun for noun in OWNED if "only" not in noun.tags)
DESTINATIONS = tuple(NOUNS[name] for name in [*AT, "école", "magasin", "jardin", "forêt", "cuisine", "salon"])
HAVE_AS_BE = OTHER["avoir"]._replace(base=BE.base, third=BE.third, past=BE.past, ing=BE.ing)
SHARED = frozenset({"home", "vehicle", "pet", "kin"})
GOODS = tuple(noun for noun in BELONGINGS if "kin" not in noun.tags)


def place(noun: Noun, motion: bool = False) -> tuple[Words, Words]:
    """Where something happens, or where someone goes: au marché, dans la cuisine."""
    article = "la" if noun.gender == "f" else "le"
    preposition, english = ("à", "at") if noun.lemma in AT else ("dans", "in")
    if noun.lemma == "école":
        return ["à", article, "école"], ["to" if motion else "at", "school"]
    if noun.lemma in ("train", "bus"):
        english = "on"
    return contract(preposition, [article, noun.lemma]), ["to" if motion else english, "the", noun.english[0]]


def transitive(draw: Draw, subject: Nominal, negated: bool) -> Predicate:
    """A verb with an object that makes sense."""
    verb = draw.one(THING_VERBS) if draw.chance(0.8) else draw.one(PERSON_VERBS)
    draw.lemmas.append(verb.infinitive)
    noun = draw.one(verb.objects)
    if noun.tags & {"person", "kin"}:
        found = person(draw, subject=subject)
    else:
        draw.link(verb.infinitive, noun.lemma)
        found = thing(draw, noun, subject, negated)
    return Predicate(verb, found.french, found.english)


def with_pronoun(draw: Draw, tense: str) -> Predicate:
    """A verb with an object pronoun before it; the past participle agrees with the pronoun."""
    form = draw.one(CLITIC_FORMS)
    clitic = ("le", "la", "les", "les")[form]
    if draw.chance(0.7):
        verb = draw.one(THING_VERBS)
        if verb.infinitive == "boire":  # objects of boire are mass nouns
            clitic, form = ("le", "la")[form % 2], form % 2
        return Predicate(verb, [], ["it" if form < 2 else "them"], clitic, form)
    verb = draw.one(PERSON_VERBS[:-1])
    hidden = tense != "past" and (starts_with_vowel(verb.infinitive))
    if hidden and form < 2:  # l'aide: him or her?
        clitic, form = "les", 2
    return Predicate(verb, [], [("him", "her", "them", "them")[form]], clitic, form)


def with_speaker(draw: Draw, subject: Nominal) -> Predicate:
    """A verb done to me, you or us."""
    options = [option for option in DATIVES[2:] if option[2] % 3 != subject.person % 3]
    clitic, english, owner = draw.one(options)
    form = int(draw.chance(0.4)) + 2 * (owner > 2)
    return Predicate(draw.one(PERSON_VERBS), [], [english], clitic, form)


def ditransitive(draw: Draw, subject: Nominal, negated: bool) -> Predicate:
    """Give, show or bring something to someone."""
    verb = draw.one(tuple(DITRANSITIVE.values()))
    noun = draw.one(verb.objects)
    draw.link(verb.infinitive, noun.lemma)
    found = thing(draw, noun, subject, negated, 0.25)
    if draw.chance(0.5):
        options = [option for option in DATIVES if option[2] in (2, 5) or option[2] % 3 != subject.person % 3]
        clitic, english, _ = draw.one(options)
        return Predicate(verb, found.french, [english, *found.english], clitic)
    receiver = person(draw, subject=subject)
    return Predicate(verb, [*found.french, *contract("à", receiver.french)], [*found.english, "to", *receiver.english])


def talking(draw: Draw, subject: Nominal) -> Predicate:
    """Talk to someone."""
    verb = OTHER["parler"]
    if draw.chance(0.5):
        options = [option for option in DATIVES if option[2] in (2, 5) or option[2] % 3 != subject.person % 3]
        clitic, english, _ = draw.one(options)
        return Predicate(verb, [], ["to", english], clitic)
    listener = person(draw, subject=subject)
    return Predicate(verb, contract("à", listener.french), ["to", *listener.english])


def intransitive(draw: Draw, subject: Nominal) -> Predicate:
    """An act without an object, with its place or company."""
    verb = draw.one(tuple(INTRANSITIVE.values()))
    draw.lemmas.append(verb.infinitive)
    if verb.places and draw.chance(0.65):
        return Predicate(verb, *placed(draw, verb))
    if draw.chance(0.5):
        company = person(draw, subject=subject)
        return Predicate(verb, ["avec", *company.french], ["with", *company.english])
    if verb.infinitive == "rester":
        return Predicate(verb, ["à", "la", "maison"], ["at", "home"])
    return Predicate(verb, [], [])


def placed(draw: Draw, verb: Verb) -> tuple[Words, Words]:
    """A place for a verb."""
    noun = draw.one(verb.places)
    draw.lemmas.append(noun.lemma)
    return place(noun)


def motion(draw: Draw, tense: str) -> Predicate:
    """Go somewhere or come from somewhere."""
    noun = draw.one(DESTINATIONS)
    draw.lemmas.append(noun.lemma)
    if tense != "future" and draw.chance(0.25):
        article = "la" if noun.gender == "f" else "le"
        english = ["school"] if noun.lemma == "école" else ["the", noun.english[0]]
        return Predicate(OTHER["venir"], contract("de", [article, noun.lemma]), ["from", *english])
    return Predicate(GO, *place(noun, motion=True))


def reflexive(draw: Draw) -> Predicate:
    """Get up, go to bed, ..."""
    verb = draw.one(tuple(REFLEXIVE.values()))
    draw.lemmas.append(verb.infinitive)
    if verb.infinitive in ("lever", "coucher") and draw.chance(0.5):
        french, english = draw.one((("tôt", "early"), ("tard", "late")))
        return Predicate(verb, [french], [english])
    return Predicate(verb, [], [])


def liking(draw: Draw) -> Predicate:
    """Like, love or hate a kind of thing: the French article is generic and English has none."""
    verb = OTHER[draw.one(("aimer", "adorer", "détester"))]
    noun = draw.one(GENERIC)
    draw.link(verb.infinitive, noun.lemma)
    plural = "mass" not in noun.tags
    adjectives = pick_adjectives(draw, noun, 0.35, without=("bon", "mauvais"))  # nobody loves bad milk
    group = noun_group(noun, plural, adjectives)
    found = determined("the", group, noun, plural)
    return Predicate(verb, found.french, found.english[1:])


def having(draw: Draw, subject: Nominal, negated: bool, tense: str) -> Predicate:
    """Have something, or a relative."""
    verb, noun = OTHER["avoir"], draw.one(GOODS if tense == "future" else BELONGINGS)
    draw.link(verb.infinitive, noun.lemma)
    each = subject.person > 2 and noun.tags.isdisjoint(SHARED)  # several people have several shirts
    plural = each or pick_number(draw, noun, 0.4)
    group = noun_group(noun, plural, pick_adjectives(draw, noun, 0.45))
    if negated:
        return Predicate(verb, ["de", *group[0]], [*([] if plural else ["a"]), *group[1]])
    found = determined("a", group, noun, plural)
    return Predicate(verb, found.french, found.english)


def feeling(draw: Draw) -> Predicate:
    """`avoir faim` is `be hungry`; likewise for being right, being afraid and ages."""
    if draw.chance(0.2):
        french, english = draw.one(AGES)
        return be_like([french, "ans"], [english, "years", "old"])
    french, english = draw.one(IDIOMS)
    return be_like([french], [english])


def be_like(french: Words, english: Words) -> Predicate:
    """`avoir` in French, `be` in English."""
    return Predicate(HAVE_AS_BE, french, english)


def quality(draw: Draw, subject: Nominal, tense: str) -> Predicate:
    """Be tired, rich, ...; lasting qualities only in the present tense."""
    adjective = draw.one(PERSON_ADJECTIVES if tense == "present" else PASSING_ADJECTIVES)
    draw.link(subject.lemma, adjective.lemma)
    return Predicate(BE, [adjective.french[subject.form]], [adjective.english])


def profession(draw: Draw, subject: Nominal) -> Predicate:
    """Be a student: French has no article here."""
    lemma = draw.one(JOB_PAIRS)[subject.gender == "f"]
    noun, plural = NOUNS[lemma], subject.person > 2
    draw.lemmas.append(lemma)
    article = [] if plural else ["a"]
    return Predicate(BE, [noun.french[plural]], [*article, noun.english[plural]])


def whereabouts(draw: Draw) -> Predicate:
    """Be somewhere."""
    noun = draw.one(DESTINATIONS)
    draw.lemmas.append(noun.lemma)
    return Predicate(BE, *place(noun))
