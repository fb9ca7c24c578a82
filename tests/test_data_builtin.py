"""The built-in corpus: its size and splits, that nothing leaks, that it never changes, that both languages are right.

The checks of spelling and agreement read the finished sentences with small rules of their own, not the grammar's.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from functools import lru_cache
from itertools import pairwise

import pytest

from hf_vanilla_transformer.data.builtin import BUILTIN_NAME, SPLITS, builtin_corpus, held_out_combinations
from hf_vanilla_transformer.data.builtin.adjectives import ADJECTIVES
from hf_vanilla_transformer.data.builtin.nouns import NOUNS
from hf_vanilla_transformer.data.builtin.phrases import Draw
from hf_vanilla_transformer.data.builtin.sentences import sentence
from hf_vanilla_transformer.data.builtin.verbs import TRANSITIVE

GOLDEN = "b65fb7e4ef73715dd2dcd35164125a8ba25b1ddd9968fe05d3cb6c980d6cddf9"
VOWEL = "[aeiouyhàâéèêëîïôûœ]"
# Words of a sentence, an elided article and the question mark being words too.
WORD = re.compile(r"'s\b|\w+(?:'(?!s\b))?|\?")


@lru_cache(maxsize=2)
def training_counts(side: int) -> Counter[str]:
    """How often each word of one side occurs in training."""
    return Counter(word for pair in builtin_corpus("train") for word in WORD.findall(pair[side]))


def everything() -> list[tuple[str, str]]:
    """The pairs of all splits."""
    return [pair for split in SPLITS for pair in builtin_corpus(split)]


def digest() -> str:
    """SHA-256 of the whole corpus."""
    text = "".join(f"{split}\t{s}\t{t}\n" for split in SPLITS for s, t in builtin_corpus(split))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def offenders(pattern: str, sentences: list[str]) -> list[str]:
    """The first sentences in which the pattern is found."""
    found = re.compile(pattern)
    return [sentence for sentence in sentences if found.search(sentence)][:5]


def forms_of(lemma: str) -> set[str]:
    """Surface forms of a noun, an adjective or a verb."""
    if lemma in NOUNS:
        return set(NOUNS[lemma].french)
    if lemma in ADJECTIVES:
        return {*ADJECTIVES[lemma].french, ADJECTIVES[lemma].liaison}
    verb = TRANSITIVE[lemma]
    return {*verb.present, *verb.imperfect, lemma, *(verb.participle + ending for ending in ("", "e", "s", "es"))}


@pytest.fixture(scope="module", name="french")
def all_sources() -> list[str]:
    return [source for source, _ in everything()]


@pytest.fixture(scope="module", name="english")
def all_targets() -> list[str]:
    return [target for _, target in everything()]


def test_sizes_and_names() -> None:
    assert BUILTIN_NAME == "builtin-fr-en"
    assert 30_000 <= len(set(builtin_corpus("train"))) == len(builtin_corpus("train")) <= 36_000
    assert [len(builtin_corpus(split)) for split in SPLITS[1:]] == [500, 500, 500]


def test_unknown_split_is_refused_and_a_known_one_copied() -> None:
    with pytest.raises(ValueError, match="train, validation, test, test_combinations, not 'dev'"):
        builtin_corpus("dev")
    builtin_corpus("test").clear()
    assert len(builtin_corpus("test")) == 500


@pytest.mark.parametrize("side", [0, 1])
def test_vocabulary_and_lengths(side: int) -> None:
    counts = training_counts(side)
    assert len(counts) >= 400
    assert sum(counts.values()) / len(counts) > 150
    lengths = [len(pair[side].split()) for pair in everything()]
    assert max(lengths) <= 14
    assert sum(4 <= length <= 10 for length in lengths) > 0.75 * len(lengths)
    assert 5.5 < sum(lengths) / len(lengths) < 8


@pytest.mark.parametrize("split", SPLITS[1:])
def test_words_of_the_held_out_sets_are_frequent_in_training(split: str) -> None:
    for side in (0, 1):
        tested = {word for pair in builtin_corpus(split) for word in WORD.findall(pair[side])}
        assert {word for word in tested if training_counts(side)[word] < 20} == set()


def test_no_sentence_is_in_two_splits_on_either_side() -> None:
    for side in (0, 1):
        seen: set[str] = set()
        for split in SPLITS:
            sentences = {pair[side] for pair in builtin_corpus(split)}
            assert seen.isdisjoint(sentences)
            seen |= sentences


def test_each_source_has_one_target() -> None:
    targets = dict(everything())
    assert len(targets) == len(everything())
    draw = Draw(7)
    for _ in range(10_000):  # also among what the corpus left out
        source, target = sentence(draw)
        assert targets.setdefault(source, target) == target


def test_article_pairs_and_greetings_are_in_training() -> None:
    train = dict(builtin_corpus("train"))
    assert train["merci"] == "thanks"
    assert train["je suis étudiant"] == "i am a student"
    assert train["je suis étudiante"] == "i am a student"
    assert train["bonjour"] == "hello"


def test_the_corpus_never_changes() -> None:
    """The same on every Python version and machine, and under the hash seed that this very run drew."""
    assert digest() == GOLDEN


def test_held_out_combinations_are_absent_though_their_words_are_not() -> None:
    """No form of a word meets a form of its partner, anywhere in a sentence of the other splits."""
    partners: dict[str, set[str]] = {}
    for first, second in held_out_combinations():
        for form in forms_of(first):
            partners.setdefault(form, set()).update(forms_of(second))
    for split in SPLITS[:3]:
        for source, _ in builtin_corpus(split):
            present = set(WORD.findall(source))
            assert all(partners[word].isdisjoint(present) for word in present & partners.keys()), source
    for pair in held_out_combinations():
        assert all(sum(training_counts(0)[form] for form in forms_of(lemma)) >= 50 for lemma in pair), pair


def test_each_sentence_of_the_combination_set_holds_one() -> None:
    held_out = [(forms_of(first), forms_of(second)) for first, second in held_out_combinations()]
    for source, _ in builtin_corpus("test_combinations"):
        present = set(WORD.findall(source))
        assert any(first & present and second & present for first, second in held_out), source
    assert len(held_out) >= 80


def test_elision(french: list[str]) -> None:
    assert not offenders(rf"(?<![\w'-])(je|me|te|se|le|la|ne|de|que|ma|ta|sa|ce) {VOWEL}", french)
    assert not offenders(rf"\b(?:[cdjlmnst]|qu)'(?!{VOWEL})", french)
    assert not offenders(r"\bsi ils?\b|' |  ", french)
    for elided in ("l'", "d'", "j'", "n'", "s'", "qu'", "c'", "m'", "t'"):
        assert any(elided in text for text in french), elided


def test_genders_by_hand(french: list[str]) -> None:
    """The lexicon's genders, against a list that does not come from it."""
    feminine = (
        "pomme|banane|clé|robe|chemise|montre|voiture|maison|lettre|fleur|porte|table|chaise|lampe|bouteille|photo"
    )
    masculine = "livre|gâteau|chat|vélo|train|sac|chapeau|stylo|parapluie|musée|verre|manteau|téléphone|bateau|message"
    assert not offenders(rf"\b(?:un|ce|du|au|mon|ton|son) (?:{feminine})\b", french)
    assert not offenders(rf"\b(?:une|cette|ma|ta|sa) (?:{masculine})\b", french)
    assert not offenders(r"\bc'(?!est\b|était\b|étaient\b)", french)


def test_contraction(french: list[str]) -> None:
    assert not offenders(r"\b(de|à) les?\b(?! \w+(?:er|re|ir)\b)", french)
    assert not offenders(rf"\b(?:du|au) {VOWEL}", french)
    for contracted in ("du", "des", "au", "aux"):
        assert any(f" {contracted} " in text for text in french), contracted
    nouns = "|".join(noun.french[0] for noun in NOUNS.values() if re.match(VOWEL, noun.french[0]))
    assert not offenders(rf"\b(?:beau|nouveau|vieux) (?:{nouns})\b", french)
    assert offenders(rf"\b(?:bel|nouvel|vieil) (?:{nouns})\b", french)
    assert not offenders(rf"\b(?:bel|nouvel|vieil|cet) (?!{VOWEL})", french)


def test_every_negation_has_both_parts(french: list[str]) -> None:
    assert not offenders(r"(?:\bne\b|\bn')(?!.*\b(?:pas|plus|jamais)\b)", french)
    assert not offenders(r"^(?!.*(?:\bne\b|\bn'))(?!pas encore).*\b(?:pas|plus|jamais)\b", french)


def test_no_indefinite_article_after_a_negated_verb(french: list[str]) -> None:
    negated = [text for text in french if not re.search(r"\bce n|\bvien|\bven", text)]
    assert not offenders(r"\bn(?:e |')\w+ (?:pas|plus|jamais) (?:un|une|des|du)\b", negated)


def test_determiners_agree_with_their_noun(french: list[str]) -> None:
    """A determiner right before a noun of the lexicon has its gender and number."""
    singular = {
        "m": {"le", "un", "ce", "cet", "mon", "ton", "son", "notre", "votre", "leur", "du", "au"},
        "f": {"la", "une", "cette", "ma", "ta", "sa", "mon", "ton", "son", "notre", "votre", "leur"},
    }
    plural = {
        "les",
        "des",
        "ces",
        "mes",
        "tes",
        "ses",
        "nos",
        "vos",
        "leurs",
        "aux",
        "deux",
        "trois",
        "quatre",
        "cinq",
    }
    wanted: dict[str, set[str]] = {}
    for noun in NOUNS.values():
        wanted.setdefault(noun.french[0], set()).update(singular[noun.gender])
        if "mass" not in noun.tags:
            wanted.setdefault(noun.french[1], set()).update(plural)
    for verb_form in ("montre", "montres", "porte", "portes"):  # nouns too
        wanted.pop(verb_form)
    determiners = singular["m"] | singular["f"] | plural
    for text in french:
        for before, after in pairwise(WORD.findall(text)):
            assert before not in determiners or after not in wanted or before in wanted[after], text


def test_adjectives_agree_with_their_subject(french: list[str]) -> None:
    for text in french:
        match = re.fullmatch(r"(il|elle|ils|elles) (?:est|sont|était|étaient) (\w+)", text)
        if match:
            form = ("il", "elle", "ils", "elles").index(match[1])
            described = [adjective for adjective in ADJECTIVES.values() if match[2] in adjective.french]
            assert all(adjective.french[form] == match[2] for adjective in described), text


def test_participles_agree(french: list[str]) -> None:
    moved = "allé|parti|sorti|arrivé|resté|venu|levé|couché|habillé|promené"
    assert not offenders(rf"\belles (?:se )?sont (?:{moved})(?!es\b)", french)
    assert not offenders(rf"\belle (?:s')?est (?:{moved})(?!e\b)", french)
    assert not offenders(rf"\bils (?:se )?sont (?:{moved})(?!s\b)", french)
    assert not offenders(r"\bles (?:ai|as|a|avons|avez|ont) (?:\w+(?:é|u|i|t))(?= |$)", french)
    assert not offenders(r"^la \w+ que (?:tu as|nous avons|vous avez) \w+(?:é|u|it)(?= )", french)


def test_english_articles_and_nouns(english: list[str]) -> None:
    assert not offenders(r"\ba (?!useful)[aeiou]", english)
    assert not offenders(r"\ban (?:[^aeiou]|useful)", english)
    assert not offenders(r"\b(?:childs|mans|womans|mouses|scarfs|tomatos|persons)\b", english)
    assert not offenders(r"\b(?:the|my|your|his|our|their) (?:the|a|an|this|these)\b", english)


def test_english_verbs_agree(english: list[str]) -> None:
    assert not offenders(r"^(?:he|she|it) (?:do|have|are|am|were|want|eat|go)\b", english)
    assert not offenders(r"^(?:i|you|we|they) (?:does|has|is|wants|eats|goes)\b", english)
    assert not offenders(r"\b(?:do|does|did) (?:not )?(?:is|are|was|were|has|had|went|ate|wants|goes)\b", english)
    assert not offenders(r"\b(?:did|must|cannot) (?:not )?(?:eats|ate|drank|wrote|broke|found|bought|took)\b", english)
    assert not offenders(r"\b(?:can not|forgeting|runing|haveing|dont|musts|cans)\b", english)


def test_characters_and_question_marks() -> None:
    for source, target in everything():
        assert source.endswith(" ?") == target.endswith("?"), source
        assert source.count("?") == target.count("?") <= 1
        assert re.fullmatch(r"[a-zàâéèêëîïôùûœç' ?-]+", source), source
        assert re.fullmatch(r"[a-z' ?]+", target), target
        assert not re.search(r" \?|  |^ | $", target), target


CONSTRUCTIONS = {
    "preceding object": r"\b(?:les|que) .*\b(?:ai|as|a|avons|avez|ont) \w+(?:és|ées|us|ues)\b",
    "imparfait": r"\b(?:mangeait|lisait|était|avaient)\b",
    "futur proche": r"\b(?:vais|vas|va|allons|allez|vont) \w+(?:er|ir|re)\b",
    "progressive": "en train d",
    "modal": r"\b(?:peux|peut|dois|doit|veux|veut|voulons) \w+(?:er|ir|re)\b",
    "no longer": r"\bn(?:e |').*\bplus\b",
    "never": r"\bn(?:e |').*\bjamais\b",
    "object pronoun": r"^(?:il|elle|je|tu) (?:le|la|les|lui|leur) \w+",
    "reflexive": r"\b[ms]'(?:est|habille|appelle)",
    "est-ce que": r"^est-ce qu(?:e |')",
    "inversion": r"-(?:tu|vous|il|elle|t-il|t-elle)\b",
    "who, what": "^(?:qui|qu'est-ce) ",
    "where, when, why": "^(?:où|quand|pourquoi) ",
    "there is": r"\bil y a\b",
    "relative object": r"^(?:le|la|les|l')\b.* qu(?:e |').*\b(?:est|sont|était|étaient)\b",
    "reported": r"\b(?:pense|sais|sait|pensent)\b.* (?:qu(?:e |')|si |s')",
    "because": r"\bparce qu(?:e |')",
    "when he came": r"\w .*\bquand\b",
    "imperative": r"^(?:mange|mangez|lis|lisez|ferme|fermez) ",
}


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_every_construction_is_frequent_in_training(construction: str) -> None:
    found = re.compile(CONSTRUCTIONS[construction])
    assert sum(found.search(source) is not None for source, _ in builtin_corpus("train")) >= 40
