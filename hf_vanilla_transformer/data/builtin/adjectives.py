"""The adjectives of the built-in corpus: one row each, `masculine[/feminine[/before a vowel]] english place nouns`.

`before` marks the few adjectives that stand before their noun; all others follow it. The last column names the nouns,
by tag or by lemma, that the adjective may describe (`goods` are four tags).
Invariable adjectives (marron, orange) are left out.
"""

from __future__ import annotations

from typing import NamedTuple

from .morphology import french_feminine, french_plural
from .nouns import NOUNS, Noun, tagged

GOODS = "thing clothes vehicle furniture"
TABLE = """
petit                   small       before goods animal building room dish place tall plant picture
grand                   big         before goods pet big building room place tall dish picture
beau/belle/bel          beautiful   before animal clothes building place plant tall picture vehicle tale
nouveau/nouvelle/nouvel new         before goods building text job friend picture
vieux/vieille/vieil     old         before goods adult friend animal building tall text picture
joli                    pretty      before clothes building plant thing room place furniture picture
bon/bonne               good        before fruit dish food drink text restaurant hôtel job friend
mauvais                 bad         before food dish drink text restaurant hôtel
jeune                   young       before adult job friend animal
rouge                   red         after  goods opening plant
bleu                    blue        after  goods opening plant
vert                    green       after  goods opening
jaune                   yellow      after  goods plant
noir                    black       after  goods pet big opening
blanc/blanche           white       after  goods pet big opening plant
gris                    grey        after  clothes thing vehicle pet big souris
cher/chère              expensive   after  goods restaurant hôtel
sale                    dirty       after  clothes vehicle room fragile box furniture place opening
propre                  clean       after  clothes vehicle room fragile box furniture opening hôtel
cassé                   broken      after  machine fragile furniture vehicle parapluie
lourd                   heavy       after  box parcel furniture ordinateur manteau
léger/légère            light       after  box clothes vélo ordinateur chaise
vide                    empty       after  box bouteille verre assiette building room transport armoire
utile                   useful      after  thing text
frais/fraîche           fresh       after  fruit œuf pain fromage poisson salade viande
chaud                   hot         after  hot
froid                   cold        after  hot drink
sucré                   sweet       after  fruit sweet drink
délicieux               delicious   after  fruit dish food
intéressant             interesting after  text musée ville
triste                  sad         after  tale roman child adult
drôle                   funny       after  text child friend adult
célèbre                 famous      after  job print tale sight restaurant théâtre picture
calme                   quiet       after  place hôtel restaurant child
moderne                 modern      after  building machine furniture room
français                french      after  text food vin restaurant job vehicle
anglais                 english     after  text thé restaurant job vehicle
italien                 italian     after  text restaurant vin job vehicle clothes
intelligent             intelligent after  person pet
riche                   rich        after  adult friend job
timide                  shy         after  child friend adult job
gentil/gentille         kind        after  person
heureux                 happy       after  child adult
fatigué                 tired       after  child adult job big
malade                  sick        after  child adult pet big
"""


class Adjective(NamedTuple):
    """One adjective: French forms (m, f, m plural, f plural), form before a vowel, English, place, nouns by lemma."""

    french: tuple[str, str, str, str]
    liaison: str
    english: str
    before: bool
    nouns: frozenset[str]

    @property
    def lemma(self) -> str:
        """The masculine singular, by which tables and combinations name the adjective."""
        return self.french[0]


def read_adjective(row: str) -> Adjective:
    """Read one row of the table."""
    forms, english, place, *tags = row.replace("goods", GOODS).split()
    masculine, *rest = forms.split("/")
    feminine = rest[0] if rest else french_feminine(masculine)
    french = masculine, feminine, french_plural(masculine), french_plural(feminine)
    liaison = rest[1] if len(rest) > 1 else masculine
    return Adjective(french, liaison, english, place == "before", frozenset(noun.lemma for noun in tagged(*tags)))


ADJECTIVES: dict[str, Adjective] = {a.lemma: a for a in map(read_adjective, TABLE.strip().split("\n"))}


def adjectives_of(noun: Noun) -> tuple[Adjective, ...]:
    """All adjectives that may describe `noun`, in the order of the table."""
    return ADJECTIVES_OF[noun.lemma]


ADJECTIVES_OF = {lemma: tuple(a for a in ADJECTIVES.values() if lemma in a.nouns) for lemma in NOUNS}
