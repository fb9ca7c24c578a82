"""The nearest-neighbour baseline equals a slow cosine written out, breaks ties by order, and is fast enough."""

import math
import random
import re
import time
from collections import Counter
from itertools import pairwise

import pytest

from hf_vanilla_transformer.evaluation import nearest_neighbour_translations

WORDS = [f"w{n}" for n in range(40)]


def corpus(size, seed):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 8))) for _ in range(size)]


def slow_nearest(source, training):
    """TF-IDF cosine as the formula reads, one dictionary per sentence."""

    def terms(sentence):
        words = re.findall(r"\w+|[^\w\s]", sentence.lower())
        return Counter(words + [(a, b) for a, b in pairwise(words)])

    bags = [terms(sentence) for sentence in training]
    holders = Counter(term for bag in bags for term in bag)

    def vector(bag):
        return {t: n * (math.log((1 + len(bags)) / (1 + holders[t])) + 1) for t, n in bag.items() if t in holders}

    query = vector(terms(source))
    cosines = []
    for bag in map(vector, bags):
        norm = math.sqrt(sum(w * w for w in bag.values()) * sum(w * w for w in query.values())) or 1.0
        cosines.append(sum(w * query.get(t, 0.0) for t, w in bag.items()) / norm)
    return next(n for n, cosine in enumerate(cosines) if cosine > max(cosines) - 1e-9)


def test_same_neighbours_as_the_formula_written_out():
    training, queries = corpus(60, seed=0), corpus(40, seed=1)
    targets = [str(number) for number in range(60)]

    found = nearest_neighbour_translations(queries, training, targets)

    assert found == [targets[slow_nearest(query, training)] for query in queries]
    assert len(set(found)) > 20


def test_a_remembered_sentence_gets_its_own_translation_whatever_its_case():
    training = ["Le chat dort.", "Le chien dort.", "le chat mange le chien ."]

    assert nearest_neighbour_translations(["LE CHIEN DORT ."], training, ["a", "b", "c"]) == ["b"]


def test_word_order_counts_through_pairs_of_words():
    training = ["the dog bites the man", "the man bites the dog"]

    assert nearest_neighbour_translations([training[1]], training, ["a", "b"]) == ["b"]


def test_the_first_of_equals_wins():
    training = ["x y", "un chat", "un chat", "un  Chat"]

    assert nearest_neighbour_translations(["un chat noir", "???", ""], training, list("abcd")) == ["b", "a", "a"]


def test_sentences_without_words_do_no_harm():
    assert nearest_neighbour_translations(["chat", ""], ["", "   ", "un chat"], list("abc")) == ["c", "a"]
    assert nearest_neighbour_translations(["chat"], [""], ["a"]) == ["a"]


def test_common_words_do_not_make_it_slow():
    """A quarter of 35,000 pairs and of 1,000 queries, in a quarter of 10 seconds; every word is in many sentences."""
    training, queries = corpus(8_750, seed=2), corpus(250, seed=3)

    start = time.process_time()
    nearest_neighbour_translations(queries, training, training)

    assert time.process_time() - start < 2.5


@pytest.mark.parametrize(
    ("sources", "training_sources", "training_targets", "error", "message"),
    [
        (["a"], ["a", "b"], ["c"], ValueError, r"there are 2 training_sources and 1 training_targets"),
        (["a"], [], [], ValueError, r"training_sources holds 0"),
        ([], ["a"], ["b"], ValueError, r"but sources holds 0"),
        ("a", ["a"], ["b"], TypeError, r"sources must be a list of strings"),
        (["a"], ["a"], [1], TypeError, r"training_targets\[0\] must be a string, but it is a int"),
    ],
)
def test_bad_input_is_refused(sources, training_sources, training_targets, error, message):
    with pytest.raises(error, match=message):
        nearest_neighbour_translations(sources, training_sources, training_targets)
