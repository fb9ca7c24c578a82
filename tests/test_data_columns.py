"""Which column is which, and refusals that list the columns there are."""

import pytest

from hf_vanilla_transformer.data.columns import ColumnChoice, choose_columns

LANGS = {"source_lang": "de", "target_lang": "en"}


@pytest.mark.parametrize(
    ("choice", "columns", "languages", "keys"),
    [
        ({}, ["a", "b"], [], (("a",), ("b",))),
        ({}, ["target", "id", "source"], [], (("source",), ("target",))),
        ({}, ["id", "source", "target", "translation"], ["de", "en"], (("source",), ("target",))),
        (LANGS, ["id", "en", "de"], [], (("de",), ("en",))),
        (LANGS, ["source", "target"], [], (("source",), ("target",))),
        (LANGS, ["translation"], ["en", "de", "fr"], (("translation", "de"), ("translation", "en"))),
        (LANGS, ["id", "translation"], ["en", "de"], (("translation", "de"), ("translation", "en"))),
        (LANGS, ["en", "translation"], ["en", "de"], (("translation", "de"), ("translation", "en"))),
        ({**LANGS, "source_column": "x", "target_column": "y"}, ["x", "y", "en", "de"], [], (("x",), ("y",))),
    ],
)
def test_columns_found(choice, columns, languages, keys):
    assert choose_columns(ColumnChoice(**choice), columns, languages, "F") == keys


@pytest.mark.parametrize(
    ("choice", "columns", "languages", "message"),
    [
        ({}, ["a", "b", "c"], [], r"F must have the column\(s\) 'source', 'target', but it has 'a', 'b', 'c'\. Name"),
        (LANGS, ["german", "english"], [], r"column\(s\) 'de', 'en', but it has 'german', 'english'"),
        (LANGS, ["de", "x"], [], r"column\(s\) 'en', but it has 'de', 'x'"),
        (LANGS, [], [], r"but it has none"),
        ({"source_column": "x", "target_column": "b"}, ["a", "b"], [], r"column\(s\) 'x', but it has 'a', 'b'"),
        ({}, ["translation"], ["de", "en"], r"holds the languages de, en\. Say which is which by source_lang"),
        ({}, ["id", "translation"], ["de", "en"], r"holds the languages de, en\. Say which is which"),
        (LANGS, ["translation"], ["fr", "en"], r"'de' is not; it holds fr, en"),
        (
            {"source_column": "de", "target_column": "en"},
            ["translation"],
            ["de", "en"],
            r"it has 'translation' \(translation holds de, en\)",
        ),
    ],
)
def test_columns_not_found(choice, columns, languages, message):
    with pytest.raises(ValueError, match=message):
        choose_columns(ColumnChoice(**choice), columns, languages, "F")


def test_hint_ends_the_message():
    with pytest.raises(ValueError, match=r"target_column\. The first row counts\.$"):
        choose_columns(ColumnChoice(), ["a"], [], "F", " The first row counts.")


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("source_column", "target_column"),
        ("target_column", "source_column"),
        ("source_lang", "target_lang"),
        ("target_lang", "source_lang"),
    ],
)
def test_half_a_choice(given, missing):
    with pytest.raises(ValueError, match=rf"only {given}='x' was given\. Give {missing} too"):
        ColumnChoice(**{given: "x"})


@pytest.mark.parametrize("what", ["column", "lang"])
def test_both_sides_the_same(what):
    with pytest.raises(ValueError, match=rf"source_{what} and target_{what} must differ, but both are 'x'"):
        ColumnChoice(**{f"source_{what}": "x", f"target_{what}": "x"})
