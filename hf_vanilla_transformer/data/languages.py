"""Guesses the languages of parallel text from file names: `train.en`, `europarl.de-en.de`, `fr/test.txt`.

It recognizes the two-letter codes of ISO 639-1, alone or with a region or script (`pt-BR`, `zh_Hans`), and ignores
everything else in a name.
"""

import os
import re
from pathlib import Path

_ISO_639_1 = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el
en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu
ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na
nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn
so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
on
"""
CODES = frozenset(_ISO_639_1.split())
_REGION = re.compile(r"[A-Z]{2}|[A-Z][a-z]{3}|\d{3}")
_ENDINGS = frozenset({"txt", "gz", "tok", "bpe", "sp", "clean"})

PathLike = str | os.PathLike[str]


def languages_of_files(source: PathLike, target: PathLike) -> tuple[str | None, str | None]:
    """The languages of two aligned files, from the parts in which their names differ, or else from their suffixes.

    Args:
        source, target: the paths; the files need not exist. The last folder of a path is considered too.

    Returns:
        A code for each side, or `None` if its name has none; two equal codes count as none.
    """
    sides = [_words(Path(path)) for path in (source, target)]
    while all(sides) and sides[0][0] == sides[1][0]:
        sides = [words[1:] for words in sides]
    while all(sides) and sides[0][-1] == sides[1][-1]:
        sides = [words[:-1] for words in sides]
    found = [language_of_words(words) for words in sides]
    if None in found:
        found = [_language_of_ending(Path(path)) for path in (source, target)]
    return (None, None) if found[0] == found[1] else (found[0], found[1])


def language_of_words(words: list[str]) -> str | None:
    """The language code formed by one word, or by a word and its region or script; `None` for anything else."""
    if not words or len(words) > 2 or words[0].lower() not in CODES:
        return None
    if len(words) == 1:
        return words[0].lower()
    return f"{words[0].lower()}-{words[1]}" if _REGION.fullmatch(words[1]) else None


def same_language(one: str, other: str) -> bool:
    """Whether two codes mean the same language, whatever their regions."""
    return _base(one) == _base(other)


def other_language(one: str, other: str) -> bool:
    """Whether two codes certainly mean different languages; `en` and `eng` might mean the same."""
    return not same_language(one, other) and len(_base(one)) == len(_base(other))


def _base(code: str) -> str:
    return re.split("[-_]", code)[0].lower()


def _words(path: Path) -> list[str]:
    return re.findall(r"[^\W_]+", f"{path.parent.name}/{path.name}")


def _language_of_ending(path: Path) -> str | None:
    """The language of `test.en` or `test_en.txt`, but not of a file called `to`."""
    words = re.findall(r"[^\W_]+", path.name)
    while words and words[-1].lower() in _ENDINGS:
        words.pop()
    if len(words) > 2 and (found := language_of_words(words[-2:])):
        return found
    return language_of_words(words[-1:]) if len(words) > 1 else None


__all__ = ["CODES", "language_of_words", "languages_of_files", "other_language", "same_language"]
