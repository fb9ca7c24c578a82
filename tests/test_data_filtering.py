"""Filters: each with its switch and its count, the first that holds, and all counts add up."""

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_vanilla_transformer.data.filtering import REASONS, FilterReport, FilterSettings, filter_pairs

OFF = FilterSettings(drop_empty=False)
ALL = FilterSettings(True, max_tokens=4, max_length_ratio=2, drop_duplicates=True, drop_identical=True)
SENTENCES = st.lists(st.sampled_from(["a", "b", "c"]), max_size=5).map(" ".join)


def encoded(rows):
    """A corpus whose tokens are its words and an end of sentence."""
    rows = [tuple(row) for row in rows]
    columns = {"source": [row[0] for row in rows], "target": [row[1] for row in rows]}
    for text, ids in (("source", "input_ids"), ("target", "labels")):
        columns[ids] = [[*range(len(sentence.split())), 2] for sentence in columns[text]]
    return Dataset.from_dict(columns)


def kept(rows, settings):
    corpus, report = filter_pairs(encoded(rows), settings)
    return list(zip(corpus["source"], corpus["target"], strict=True)), report


GOOD = ("x y", "u v")
BAD = {
    "empty": ("", " "),
    "too_long": ("x x x x", "u u u"),
    "length_ratio": ("x x x", "u"),
    "duplicate": GOOD,
    "identical": ("same", "same"),
}
SWITCHES = {
    "empty": {"drop_empty": True},
    "too_long": {"max_tokens": 4},
    "length_ratio": {"max_length_ratio": 1.9},
    "duplicate": {"drop_duplicates": True},
    "identical": {"drop_identical": True},
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_filter_alone_drops_its_pairs_and_nothing_else(reason):
    rows = [GOOD, *BAD.values()]
    left, report = kept(rows, FilterSettings(**{"drop_empty": False, **SWITCHES[reason]}))
    bad = 1 + list(BAD).index(reason)
    assert left == rows[:bad] + rows[bad + 1 :]
    assert report.dropped == {reason: 1}
    assert (report.total, report.kept) == (6, 5)


def test_all_off_keeps_all():
    rows = [GOOD, *BAD.values()]
    left, report = kept(rows, OFF)
    assert left == rows
    assert (report.dropped, report.kept) == ({}, 6)


@pytest.mark.parametrize("blank", ["", " ", "\u3000\t", "\u0085\r"])
@pytest.mark.parametrize("side", [0, 1])
def test_white_space_alone_is_empty(blank, side):
    pair = ["a", "b"]
    pair[side] = blank
    assert kept([pair, GOOD], FilterSettings())[1].dropped == {"empty": 1}


@pytest.mark.parametrize("flip", [False, True])
def test_limits_are_inclusive_and_count_the_end_of_sentence_on_either_side(flip):
    def rows(*pairs):
        return [pair[::-1] if flip else pair for pair in pairs]

    long = kept(rows(("x x x", "u"), ("x x x x", "u")), FilterSettings(max_tokens=4))
    assert long[0] == rows(("x x x", "u"))
    ratio = kept(rows(("x x x", "u"), ("x x x x", "u")), FilterSettings(max_length_ratio=2))
    assert ratio[0] == rows(("x x x", "u"))


def test_a_pair_counts_under_the_first_reason_alone():
    rows = [("", ""), ("", ""), ("x x x x x", "x x x x x"), ("same", "same"), ("same", "same"), GOOD]
    assert kept(rows, ALL)[1].dropped == {"empty": 2, "too_long": 1, "length_ratio": 0, "duplicate": 1, "identical": 1}


def test_duplicates_are_exact_pairs():
    """Neither one side alone, nor the same characters divided otherwise, nor spaces more."""
    rows = [("a b", "c"), ("a b", "d"), ("a", " bc"), ("a b", "c "), ("a b", "c"), ("a b", "c")]
    left, report = kept(rows, FilterSettings(drop_duplicates=True))
    assert left == rows[:4]
    assert report.dropped["duplicate"] == 2


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=30))
def test_filters_agree_with_a_plain_loop(rows):
    expected, seen = [], set()
    for source, target in rows:
        lengths = sorted((len(source.split()) + 1, len(target.split()) + 1))
        fits = lengths[1] <= 4 and lengths[1] <= 2 * lengths[0]
        if source and target and fits and (source, target) not in seen and source != target:
            expected.append((source, target))
        seen.add((source, target))
    if not expected:
        with pytest.raises(ValueError, match="At least one pair must pass"):
            kept(rows, ALL)
        return
    left, report = kept(rows, ALL)
    assert left == expected
    assert report.kept == len(expected)
    assert sum(report.dropped.values()) + report.kept == len(rows)


def test_rows_beyond_the_first_piece(monkeypatch):
    monkeypatch.setattr("hf_vanilla_transformer.data.filtering.TEXT_ROWS", 2)
    rows = [GOOD, ("a", "b"), ("c", "d"), GOOD, ("", "x")]
    left, report = kept(rows, FilterSettings(drop_duplicates=True))
    assert left == rows[:3]
    assert report.dropped == {"empty": 1, "duplicate": 1}


def test_raw_text_suffices_for_filters_that_count_no_tokens():
    raw = encoded([GOOD, ("", "u")]).select_columns(["source", "target"])
    corpus, _ = filter_pairs(raw, FilterSettings(drop_duplicates=True))
    assert corpus["source"] == ["x y"]


@pytest.mark.parametrize("setting", [{"max_tokens": 5}, {"max_length_ratio": 2}])
def test_counting_tokens_of_raw_text_is_refused(setting):
    raw = encoded([GOOD]).select_columns(["source", "target"])
    with pytest.raises(ValueError, match=r"must have the columns input_ids and labels, but it has source, target"):
        filter_pairs(raw, FilterSettings(**setting))


def test_nothing_left_shows_the_table():
    with pytest.raises(
        ValueError, match=r"(?s)none does; loosen them\.\npairs read .*- a side is empty +2 .*kept +0 "
    ):
        kept([("", "a"), ("b", "")], FilterSettings())


@pytest.mark.parametrize("setting", [{"max_tokens": 0}, {"max_length_ratio": 0.5}, {"max_length_ratio": float("nan")}])
def test_settings_out_of_range(setting):
    [(name, value)] = setting.items()
    with pytest.raises(ValueError, match=rf"{name} must be at least 1, or None .* but it is {value!r}"):
        FilterSettings(**setting)


def test_table_is_aligned_and_shows_active_filters_alone():
    settings = FilterSettings(max_tokens=1000, max_length_ratio=2.5)
    table = FilterReport(12_345, {"empty": 45, "too_long": 0, "length_ratio": 300}, settings).table()
    assert table.split("\n") == [
        "pairs read                  12,345  100.00 %",
        "- a side is empty               45    0.36 %",
        "- a side over 1,000 tokens       0    0.00 %",
        "- length ratio over 2.5        300    2.43 %",
        "pairs kept                  12,000   97.21 %",
    ]
