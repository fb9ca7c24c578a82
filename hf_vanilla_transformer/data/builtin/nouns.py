"""The nouns of the built-in corpus: one row each, `french[/plural] gender english[/plural] tags`.

A missing plural is regular (`morphology.py`); an underscore joins the words of a compound. The tags say what a noun
is, and so what verbs and adjectives may be said of it. `mass` nouns have no plural; `kin` nouns take a possessive.
"""

from __future__ import annotations

from typing import NamedTuple

from .morphology import english_plural, french_plural

TABLE = """
homme         m man/men            person adult
femme         f woman/women        person adult
garçon        m boy                person child
fille         f girl               person child
enfant        m child/children     person child
ami           m friend             person friend
amie          f friend             person friend
voisin        m neighbour          person friend
voisine       f neighbour          person friend
étudiant      m student            person job
étudiante     f student            person job
professeur    m teacher            person job
médecin       m doctor             person job
boulanger     m baker              person job
boulangère    f baker              person job
chanteur      m singer             person job
chanteuse     f singer             person job
musicien      m musician           person job
musicienne    f musician           person job
infirmier     m nurse              person job
infirmière    f nurse              person job
avocat        m lawyer             person job
avocate       f lawyer             person job
frère         m brother            kin
sœur          f sister             kin
père          m father             kin only
mère          f mother             kin only
oncle         m uncle              kin
tante         f aunt               kin
cousin        m cousin             kin
cousine       f cousin             kin
chat          m cat                animal pet
chien         m dog                animal pet
cheval        m horse              animal big
oiseau        m bird               animal
lapin         m rabbit             animal pet
vache         f cow                animal big
souris        f mouse/mice         animal
pomme         f apple              fruit
banane        f banana             fruit
orange        f orange             fruit
poire         f pear               fruit
tomate        f tomato/tomatoes    fruit
fraise        f strawberry         fruit
gâteau        m cake               dish sweet
sandwich      m sandwich           dish
œuf           m egg                dish
biscuit       m biscuit            dish sweet
pain          m bread              mass food
fromage       m cheese             mass food
chocolat      m chocolate          mass food
viande        f meat               mass food
riz           m rice               mass food
poisson       m fish               mass food
soupe         f soup               mass food hot
salade        f salad              mass food
eau           f water              mass drink
lait          m milk               mass drink hot
café          m coffee             mass drink hot
thé           m tea                mass drink hot
vin           m wine               mass drink
jus           m juice              mass drink
livre         m book               text written sheet print
lettre        f letter             text written post sheet
journal       m newspaper          text sheet print
histoire      f story              text written tale
roman         m novel              text written sheet print
poème         m poem               text written tale
message       m message            text written post
robe          f dress              clothes
chemise       f shirt              clothes
jupe          f skirt              clothes
manteau       m coat               clothes
chapeau       m hat                clothes
veste         f jacket             clothes
écharpe       f scarf/scarves      clothes
chaussure     f shoe               clothes pair
clé           f key                thing
sac           m bag                thing box
téléphone     m phone              thing machine
stylo         m pen                thing
montre        f watch              thing machine
cadeau        m gift               thing parcel
parapluie     m umbrella           thing
photo         f photo              picture sheet
ordinateur    m computer           thing machine
bouteille     f bottle             thing parcel fragile
verre         m glass              thing fragile
assiette      f plate              thing fragile
boîte         f box                thing box parcel
lampe         f lamp               thing machine fragile
table         f table              furniture
chaise        f chair              furniture seat
armoire       f wardrobe           furniture
porte         f door               opening
fenêtre       f window             opening
voiture       f car                vehicle
vélo          m bike               vehicle
bateau        m boat               vehicle
train         m train              transport
bus           m bus                transport
fleur         f flower             plant
arbre         m tree               tall
maison        f house              building home
jardin        m garden             place
parc          m park               place
plage         f beach              place
forêt         f forest             place
rue           f street             place
ville         f town               place sight
école         f school             building
marché        m market             place
restaurant    m restaurant         building
gare          f station            building
bibliothèque  f library            building
hôpital       m hospital           building
hôtel         m hotel              building
musée         m museum             building sight
magasin       m shop               building
église        f church             building sight
banque        f bank               building
théâtre       m theatre            building
château       m castle             building sight
bureau        m office             room
cuisine       f kitchen            room
chambre       f bedroom            room
salon         m living_room        room
"""


class Noun(NamedTuple):
    """One noun: French and English forms (singular, plural), French gender `m` or `f`, and its tags."""

    french: tuple[str, str]
    gender: str
    english: tuple[str, str]
    tags: frozenset[str]

    @property
    def lemma(self) -> str:
        """The French singular, by which tables and combinations name the noun."""
        return self.french[0]


def read_noun(row: str) -> Noun:
    """Read one row of the table."""
    french, gender, english, *tags = row.split()
    one, _, many = french.partition("/")
    single, _, several = english.replace("_", " ").partition("/")
    forms = (one, many or french_plural(one)), (single, several or english_plural(single))
    return Noun(forms[0], gender, forms[1], frozenset(tags))


NOUNS: dict[str, Noun] = {noun.lemma: noun for noun in map(read_noun, TABLE.strip().split("\n"))}


def tagged(*tags: str) -> tuple[Noun, ...]:
    """All nouns that carry any of the tags (or have one of them as lemma), in the order of the table."""
    return tuple(noun for noun in NOUNS.values() if noun.tags.intersection(tags) or noun.lemma in tags)
