"""Short fixed expressions of the built-in corpus: greetings, thanks and answers."""

from __future__ import annotations

from .phrases import NAMES

TABLE = """
merci | thanks
merci beaucoup | thank you very much
non merci | no thanks
oui merci | yes thanks
bonjour | hello
bonsoir | good evening
bonne nuit | good night
bonne journée | have a nice day
au revoir | goodbye
à bientôt | see you soon
à demain | see you tomorrow
à ce soir | see you tonight
bienvenue | welcome
félicitations | congratulations
bonne chance | good luck
bon appétit | enjoy your meal
bon voyage | have a good trip
joyeux anniversaire | happy birthday
pardon | sorry
excusez-moi | excuse me
de rien | you are welcome
oui | yes
non | no
d'accord | all right
bien sûr | of course
pas encore | not yet
moi aussi | me too
je suis désolé | i am sorry
je suis désolée | i am sorry
je suis étudiant | i am a student
je suis étudiante | i am a student
comment allez-vous ? | how are you?
comment vas-tu ? | how are you?
comment ça va ? | how are you?
je vais bien | i am fine
je vais bien merci | i am fine thanks
s'il vous plaît | please
s'il te plaît | please
bonne année | happy new year
"""

EXPRESSIONS = tuple((french, english) for french, english in (row.split(" | ") for row in TABLE.strip().split("\n")))
# Expressions that may address someone: bonjour paul, merci beaucoup mon ami.
ADDRESSED = tuple(french for french, _ in EXPRESSIONS if "étudiant" not in french)
FRIENDS = (
    *((name, name) for name, _ in NAMES),
    ("madame", "madam"),
    ("monsieur", "sir"),
    ("mon ami", "my friend"),
    ("mon amie", "my friend"),
)
ANSWERS = ("oui", "non")
