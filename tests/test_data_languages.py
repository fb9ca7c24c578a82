"""Names of files tell languages where they plainly do, and nothing else."""

import pytest

from hf_vanilla_transformer.data.languages import languages_of_files, other_language, same_language


@pytest.mark.parametrize(
    ("source", "target", "languages"),
    [
        ("train.fr", "train.en", ("fr", "en")),
        ("corpus.en-fr.fr", "corpus.en-fr.en", ("fr", "en")),
        ("fr/train.txt", "en/train.txt", ("fr", "en")),
        ("train.en.txt", "train.de.txt", ("en", "de")),
        ("train.en.tok.bpe", "train.de.tok.bpe", ("en", "de")),
        ("source_en.txt", "target_de.txt", ("en", "de")),
        ("newstest2014-deen-src.en", "newstest2014-deen-ref.de", ("en", "de")),
        ("train.EN", "train.DE", ("en", "de")),
        ("train.pt-BR", "train.en", ("pt-BR", "en")),
        ("train.zh_Hans", "train.en", ("zh-Hans", "en")),
        ("train.fr", "reference.txt", ("fr", None)),
        ("train.src", "train.tgt", (None, None)),
        ("train.a", "train.b", (None, None)),
        ("from", "to", (None, None)),
        ("one.en", "two.en", (None, None)),
        ("train", "train", (None, None)),
        ("", "", (None, None)),
    ],
)
def test_languages_of_two_files(source, target, languages):
    assert languages_of_files(source, target) == languages
    assert languages_of_files(target, source) == languages[::-1]


def test_regions_make_no_other_language_and_other_lengths_are_not_compared():
    assert same_language("pt-BR", "pt_PT")
    assert not other_language("pt-BR", "pt")
    assert other_language("en", "de")
    assert not other_language("en", "eng")
    assert not same_language("en", "eng")
