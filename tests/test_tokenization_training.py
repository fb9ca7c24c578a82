"""Text that allows no such vocabulary, and what is no text, is refused in one sentence."""

from collections.abc import Iterator

import pytest

from hf_vanilla_transformer.tokenization import ALGORITHMS, MINIMUM_VOCAB_SIZE, train_tokenizer

VOCAB_SIZE = 290
CORPUS = (
    *("L'eau de l'étang n'est pas aujourd'hui plus froide.", "The water of the pond isn't any colder today."),
    *("Nous étions 1234 étudiants dans l'école.", "We were 1234 students in the school, in the old school."),
    *("Die Straße führt zum großen Schloss.", "The street leads to the great castle, to the old castle."),
)


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> str:
    return request.param


def test_texts_are_read_once_as_a_stream():
    def stream() -> Iterator[str]:
        for n in range(3000):
            yield f"{CORPUS[n % len(CORPUS)]} {n}"

    assert len(train_tokenizer(stream(), VOCAB_SIZE)) == VOCAB_SIZE


def test_an_error_of_the_stream_reaches_the_caller(algorithm: str):
    def broken() -> Iterator[str]:
        yield "a line"
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        train_tokenizer(broken(), VOCAB_SIZE, algorithm)


def test_too_large_a_vocabulary_names_the_largest_possible(algorithm: str):
    with pytest.raises(
        ValueError, match=r"of 37,000 entries .* allows at most [\d,]+ .*Ask for [\d,]+ or fewer"
    ) as caught:
        train_tokenizer(CORPUS * 2, algorithm=algorithm)
    largest = int(str(caught.value).split("at most ")[1].split(" ")[0].replace(",", ""))

    assert len(train_tokenizer(CORPUS * 2, largest, algorithm)) == largest
    with pytest.raises(ValueError, match=f"at most {largest:,} "):
        train_tokenizer(CORPUS * 2, largest + 1, algorithm)


def test_text_without_any_repeated_piece(algorithm: str):
    with pytest.raises(ValueError, match=r"allows at most 259 .*\. Give more text\."):
        train_tokenizer(["a"], MINIMUM_VOCAB_SIZE, algorithm)


@pytest.mark.parametrize("vocab_size", [-1, 0, 259])
def test_too_small_a_vocabulary(vocab_size: int):
    with pytest.raises(ValueError, match=rf"at least 260 \(256 bytes, 3 special tokens .*got {vocab_size}"):
        train_tokenizer(CORPUS, vocab_size)


@pytest.mark.parametrize("vocab_size", [True, 300.0, "300", None])
def test_vocabulary_size_that_is_no_number(vocab_size: object):
    with pytest.raises(TypeError, match="vocab_size must be a whole number"):
        train_tokenizer(CORPUS, vocab_size)  # type: ignore[arg-type]


@pytest.mark.parametrize(("texts", "count"), [([], 0), (["", ""], 2), ([" ", "\n", "\t"], 3)])
def test_a_corpus_without_text(algorithm: str, texts: list[str], count: int):
    with pytest.raises(ValueError, match=rf"none of the {count} items given holds any"):
        train_tokenizer(texts, VOCAB_SIZE, algorithm)


def test_an_unknown_algorithm():
    with pytest.raises(ValueError, match="one of bpe, unigram; got 'wordpiece'"):
        train_tokenizer(CORPUS, VOCAB_SIZE, "wordpiece")


@pytest.mark.parametrize("item", [None, 5, b"bytes", ["list"]])
def test_an_item_that_is_no_string(algorithm: str, item: object):
    with pytest.raises(TypeError, match="must be a string, but item 2 is "):
        train_tokenizer(["a", "b", item], VOCAB_SIZE, algorithm)  # type: ignore[list-item]


def test_an_item_with_a_lone_surrogate(algorithm: str):
    with pytest.raises(ValueError, match=r"item 1 holds a lone surrogate: 'b\\ud800'"):
        train_tokenizer(["a", "b\ud800"], VOCAB_SIZE, algorithm)


@pytest.mark.parametrize("texts", ["one text", b"bytes", 5, None])
def test_texts_that_are_no_collection(texts: object):
    with pytest.raises(TypeError, match="texts must be an iterable of strings, one sentence each"):
        train_tokenizer(texts)  # type: ignore[arg-type]
