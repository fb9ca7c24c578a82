"""Inflection and spelling of French and English, as far as the built-in corpus needs them.

Regular inflection is computed here; irregular forms are in the tables of `nouns.py`, `adjectives.py` and `verbs.py`.
Left out: the aspirated h (no word of the lexicon has one), capital letters, and every tense the grammar does not use.
"""

from __future__ import annotations

from collections.abc import Sequence

VOWELS = frozenset("aeiouyhàâéèêëîïôûùœ")
ELIDING = frozenset({"je", "me", "te", "se", "le", "la", "ne", "de", "que", "ce"})
AN_EXCEPTIONS = frozenset({"useful"})  # spelled with a vowel, pronounced with a consonant
IMPERFECT_ENDINGS = ("ais", "ais", "ait", "ions", "iez", "aient")
ER_ENDINGS = ("e", "es", "e", "ons", "ez", "ent")


def starts_with_vowel(word: str) -> bool:
    """Whether French elides before `word` (every h of the lexicon is mute)."""
    return word[0] in VOWELS


def contract(preposition: str, phrase: Sequence[str]) -> list[str]:
    """Put `de` or `à` before a noun phrase: de + le = du, de + les = des, à + le = au, à + les = aux."""
    first = phrase[0]
    if preposition in ("de", "à") and (first == "les" or (first == "le" and not starts_with_vowel(phrase[1]))):
        contracted = {"dele": "du", "deles": "des", "àle": "au", "àles": "aux"}[preposition + first]
        return [contracted, *phrase[1:]]
    return [preposition, *phrase]


def join_french(tokens: Sequence[str]) -> str:
    """Spell a sentence: elision (le ami = l'ami, si il = s'il), and no space before a hyphen."""
    pieces: list[str] = []
    for token, following in zip(tokens, [*tokens[1:], "-"], strict=True):
        elides = (token in ELIDING and starts_with_vowel(following)) or (token == "si" and following in ("il", "ils"))
        if token[0] == "-" and pieces:
            pieces[-1] = pieces[-1][:-1]
        pieces.append(token[:-1] + "'" if elides else token + " ")
    return "".join(pieces).rstrip(" ")


def join_english(tokens: Sequence[str]) -> str:
    """Spell a sentence: a before a vowel sound = an, and the question mark touches the last word."""
    pieces = [
        "an" if token == "a" and following[0] in "aeiou" and following not in AN_EXCEPTIONS else token
        for token, following in zip(tokens, [*tokens[1:], "."], strict=True)
    ]
    return " ".join(pieces).replace(" ?", "?")


def french_plural(word: str) -> str:
    """Plural of a noun or adjective: invariable after s and x, -eau to -eaux, -al to -aux, otherwise + s."""
    if word[-1] in "sx":
        return word
    if word.endswith("eau"):
        return word + "x"
    if word.endswith("al"):
        return word[:-1] + "ux"
    return word + "s"


def french_feminine(word: str) -> str:
    """Feminine of a regular adjective: -e stays, -eux to -euse, -ier to -ière, otherwise + e."""
    if word[-1] == "e":
        return word
    if word.endswith("eux"):
        return word[:-1] + "se"
    if word.endswith("ien"):
        return word + "ne"
    return word + "e"


def agree(participle: str, form: int) -> str:
    """Past participle in one of the four forms: 0 masculine, 1 feminine, 2 masculine plural, 3 feminine plural."""
    if form == 2 and participle[-1] == "s":
        return participle
    return participle + ("", "e", "s", "es")[form]


def er_present(infinitive: str, strong: str = "") -> tuple[str, ...]:
    """Present of a regular verb in -er; `strong` is the stem before a mute ending (acheter: achèt)."""
    stem = infinitive[:-2]
    forms = [(stem if person in (3, 4) else strong or stem) + ending for person, ending in enumerate(ER_ENDINGS)]
    if stem[-1] == "g":
        forms[3] = stem + "eons"
    return tuple(forms)


def imperfect(infinitive: str, present: Sequence[str]) -> tuple[str, ...]:
    """Imperfect, from the first person plural of the present (être alone has a stem of its own)."""
    stem = "ét" if infinitive == "être" else present[3][:-3]
    soft = stem[:-1] if stem.endswith("ge") else stem
    return tuple((soft if ending[0] == "i" else stem) + ending for ending in IMPERFECT_ENDINGS)


def english_plural(noun: str) -> str:
    """Plural of a regular noun; of a compound, that of its last word."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun[-1] == "y" and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def third_person(verb: str) -> str:
    """Third person singular of the present."""
    if verb.endswith("o"):
        return verb + "es"
    return {"be": "is", "have": "has"}.get(verb) or english_plural(verb)


def past_tense(verb: str) -> str:
    """Past of a regular verb."""
    if verb[-1] == "e":
        return verb + "d"
    if verb[-1] == "y" and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return verb + "ed"


def ing_form(verb: str) -> str:
    """Present participle of a verb that does not double its consonant."""
    if verb[-1] == "e" and verb not in ("be", "see"):
        return verb[:-1] + "ing"
    return verb + "ing"
