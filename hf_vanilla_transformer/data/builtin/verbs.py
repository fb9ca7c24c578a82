"""The verbs of the built-in corpus: their forms in both languages, their objects and places.

French forms come from `IRREGULAR_TABLE` or from the rules of `morphology.py`. English ones are regular unless the row
gives them, `base/past` or `base/past/ing`; an underscore joins a verb to its particle (look_for): only its first word
inflects. Objects are noun lemmas or tags of `nouns.py`, chosen so that every sentence makes sense.
"""

from __future__ import annotations

from typing import NamedTuple

from .morphology import er_present, imperfect, ing_form, past_tense, third_person
from .nouns import NOUNS, Noun, tagged

IRREGULAR_TABLE = """
être      suis es est sommes êtes sont                                   été
avoir     ai as a avons avez ont                                         eu
aller     vais vas va allons allez vont                                  allé
venir     viens viens vient venons venez viennent                        venu
partir    pars pars part partons partez partent                          parti
sortir    sors sors sort sortons sortez sortent                          sorti
dormir    dors dors dort dormons dormez dorment                          dormi
boire     bois bois boit buvons buvez boivent                            bu
lire      lis lis lit lisons lisez lisent                                lu
écrire    écris écris écrit écrivons écrivez écrivent                    écrit
prendre   prends prends prend prenons prenez prennent                    pris
perdre    perds perds perd perdons perdez perdent                        perdu
vendre    vends vends vend vendons vendez vendent                        vendu
attendre  attends attends attend attendons attendez attendent            attendu
ouvrir    ouvre ouvres ouvre ouvrons ouvrez ouvrent                      ouvert
choisir   choisis choisis choisit choisissons choisissez choisissent     choisi
voir      vois vois voit voyons voyez voient                             vu
courir    cours cours court courons courez courent                       couru
vouloir   veux veux veut voulons voulez veulent                          voulu
pouvoir   peux peux peut pouvons pouvez peuvent                          pu
devoir    dois dois doit devons devez doivent                            dû
savoir    sais sais sait savons savez savent                             su
"""

# Stems before a mute ending.
STRONG_STEMS = {"acheter": "achèt", "appeler": "appell", "lever": "lèv", "promener": "promèn"}

# infinitive | english | + if it has an imperfect (was ...ing) | objects
TRANSITIVE_TABLE = """
manger    | eat/ate       | + | fruit dish food
boire     | drink/drank   | + | drink
préparer  | prepare       | + | soupe salade sandwich gâteau café thé
lire      | read/read     | + | text
écrire    | write/wrote   | + | written
acheter   | buy/bought    |   | fruit dish food clothes thing print vehicle fleur furniture
vendre    | sell/sold     |   | clothes thing print vehicle fleur furniture home pet big
chercher  | look_for      | + | clothes thing sheet pet
trouver   | find/found    |   | clothes thing sheet pet
perdre    | lose/lost     |   | clothes thing sheet
laver     | wash          | + | clothes vehicle verre assiette bouteille fenêtre
porter    | wear/wore     | + | manteau chapeau veste écharpe chemise chaussure montre
regarder  | look_at       | + | picture plant animal sight tall
dessiner  | draw/drew     | + | animal plant home sight tall bateau
ouvrir    | open          |   | opening box parcel armoire lettre magasin
fermer    | close         |   | opening box armoire magasin
oublier   | forget/forgot/forgetting |   | clothes thing sheet
cacher    | hide/hid/hiding|   | thing lettre chocolat
choisir   | choose/chose  |   | clothes thing print fleur fruit
casser    | break/broke   |   | fragile machine chaise fenêtre
réparer   | repair        | + | machine vehicle chaise table porte
prendre   | take/took     |   | thing clothes sheet transport
visiter   | visit         |   | sight école théâtre hôpital
aider     | help          |   | person kin
inviter   | invite        |   | person kin
attendre  | wait_for      | + | person kin
rencontrer| meet/met      |   | person kin
écouter   | listen_to     | + | person kin
voir      | see/saw       |   | person kin animal transport vehicle
"""

# infinitive | english | + if it has an imperfect | auxiliary
INTRANSITIVE_TABLE = """
travailler| work          | + | avoir
dormir    | sleep/slept   | + | avoir
chanter   | sing/sang     | + | avoir
danser    | dance         | + | avoir
jouer     | play          | + | avoir
courir    | run/ran/running| + | avoir
arriver   | arrive        |   | être
rester    | stay          |   | être
partir    | leave/left    |   | être
sortir    | go_out/went/going|   | être
"""

# infinitive | where it is done
PLACES_TABLE = """
manger    | restaurant cuisine jardin parc plage
boire     | restaurant cuisine jardin salon
préparer  | cuisine
lire      | bibliothèque jardin chambre salon parc plage train bus
écrire    | bibliothèque jardin chambre salon bureau
acheter   | marché magasin ville
vendre    | marché magasin ville
chercher  | maison jardin rue bureau chambre salon
trouver   | jardin rue parc plage forêt
perdre    | jardin rue parc plage gare
laver     | jardin
regarder  | jardin parc
dessiner  | jardin parc école salon chambre
oublier   | gare restaurant bureau hôtel école train bus
cacher    | jardin chambre armoire cuisine
choisir   | magasin marché
casser    | cuisine salon
réparer   | jardin
aider     | jardin cuisine magasin école
attendre  | gare parc restaurant rue hôtel plage
rencontrer| gare parc restaurant rue plage musée
voir      | gare parc rue plage jardin forêt
travailler| bureau hôpital restaurant banque musée bibliothèque magasin jardin école
dormir    | chambre jardin salon hôtel train bus
chanter   | théâtre cuisine rue école église jardin
danser    | rue salon théâtre parc plage
jouer     | jardin parc rue plage école salon
courir    | parc forêt rue plage jardin
arriver   | gare école hôtel musée bureau théâtre hôpital
rester    | hôtel jardin bureau plage hôpital école voiture
"""

# infinitive | english | objects given, shown, ... to a person
DITRANSITIVE_TABLE = """
donner    | give/gave            | fruit thing clothes sheet fleur biscuit
montrer   | show/showed          | picture clothes text vehicle machine fleur
apporter  | bring/brought        | fruit dish thing sheet fleur
"""

# infinitive | english | the auxiliary is être
REFLEXIVE_TABLE = """
lever     | get_up/got/getting
coucher   | go_to_bed/went
habiller  | get_dressed/got/getting
promener  | go_for_a_walk/went
"""

OTHER_TABLE = """
être      | be/was
avoir     | have/had
aller     | go/went    |  | être
venir     | come/came  |  | être
parler    | talk
aimer     | like
adorer    | love
détester  | hate
vouloir   | want/wanted
pouvoir   | can/could
devoir    | must/must
penser    | think/thought
savoir    | know/knew
"""


class Verb(NamedTuple):
    """One verb. English forms are word tuples; `durative` ones have an imperfect and a progressive."""

    infinitive: str
    present: tuple[str, ...]
    imperfect: tuple[str, ...]
    participle: str
    auxiliary: str
    reflexive: bool
    base: tuple[str, ...]
    third: tuple[str, ...]
    past: tuple[str, ...]
    ing: tuple[str, ...]
    durative: bool
    objects: tuple[Noun, ...]
    places: tuple[Noun, ...]


def read_irregular(row: str) -> tuple[str, tuple[tuple[str, ...], str]]:
    """Read one row of `IRREGULAR_TABLE`: infinitive, then six present forms and the participle."""
    infinitive, *present, participle = row.split()
    return infinitive, (tuple(present), participle)


IRREGULAR = dict(map(read_irregular, IRREGULAR_TABLE.strip().split("\n")))


def french_forms(infinitive: str) -> tuple[tuple[str, ...], str]:
    """The six present forms and the past participle."""
    if infinitive in IRREGULAR:
        return IRREGULAR[infinitive]
    return er_present(infinitive, STRONG_STEMS.get(infinitive, "")), infinitive[:-2] + "é"


def english_forms(entry: str) -> tuple[tuple[str, ...], ...]:
    """Base, third person, past and -ing form of an entry such as `look_for` or `run/ran/running`."""
    base, *given = entry.split("/")
    verb, *particle = base.split("_")
    past = given[0] if given else past_tense(verb)
    ing = given[1] if len(given) > 1 else ing_form(verb)
    return tuple((form, *particle) for form in (verb, third_person(verb), past, ing))


def cells(table: str) -> list[list[str]]:
    """Rows and cells of a table."""
    return [[cell.strip() for cell in row.split("|")] for row in table.strip().split("\n")]


PLACES = {verb: tuple(NOUNS[place] for place in places.split()) for verb, places in cells(PLACES_TABLE)}


def build_verb(infinitive: str, english: str, durative: str = "", auxiliary: str = "avoir", objects: str = "") -> Verb:
    """Fill in all forms of a verb and look up its nouns; `auxiliary` may also be `reflexive`."""
    present, participle = french_forms(infinitive)
    base, third, past, ing = english_forms(english)
    return Verb(
        infinitive=infinitive,
        present=present,
        imperfect=imperfect(infinitive, present),
        participle=participle,
        auxiliary="avoir" if auxiliary == "avoir" else "être",
        reflexive=auxiliary == "reflexive",
        base=base,
        third=third,
        past=past,
        ing=ing,
        durative=durative == "+",
        objects=tagged(*objects.split()),
        places=PLACES.get(infinitive, ()),
    )


TRANSITIVE = {
    verb: build_verb(verb, english, durative, objects=objects)
    for verb, english, durative, objects in cells(TRANSITIVE_TABLE)
}
INTRANSITIVE = {row[0]: build_verb(*row) for row in cells(INTRANSITIVE_TABLE)}
DITRANSITIVE = {
    verb: build_verb(verb, english, objects=objects) for verb, english, objects in cells(DITRANSITIVE_TABLE)
}
REFLEXIVE = {verb: build_verb(verb, english, auxiliary="reflexive") for verb, english in cells(REFLEXIVE_TABLE)}
OTHER = {row[0]: build_verb(*row) for row in cells(OTHER_TABLE)}
