"""Pools to batches: all pairs once an epoch, the same sequence however it is dealt, skipped or told beforehand."""

import itertools
import json
import logging

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from hf_vanilla_transformer.data import FilterSettings, encode_corpus, filter_pairs, stream_batching
from hf_vanilla_transformer.data.stream_batching import StreamingBatches
from hf_vanilla_transformer.data.streaming import ParallelStream

WORDS = [f"w{number}" for number in range(40)]
EOS = 1
MAX_TOKENS = 12
FIT = FilterSettings(max_tokens=7)
ALL = FilterSettings(max_tokens=7, max_length_ratio=3, drop_duplicates=True, drop_identical=True)
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
CORPORA = st.lists(st.tuples(SENTENCES, SENTENCES), max_size=40).map(lambda rows: [*rows, *numbered(8)])
POOLS = st.sampled_from([6, 15, 60])
few = settings(max_examples=10, deadline=None)


def word_tokenizer(ends_with_eos=True):
    backend = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": EOS} | {word: n for n, word in enumerate(WORDS, 2)}))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ends_with_eos:
        backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<pad>")


TOKENIZER = word_tokenizer()


def stream(rows, filters=FIT, pool_size=10, tokenizer=TOKENIZER, max_tokens=MAX_TOKENS, **settings):
    return StreamingBatches(rows, tokenizer, filters, max_tokens, pool_size=pool_size, **settings)


def numbered(count):
    """Different pairs, of 2 to 6 tokens a side, by which order can be told."""
    return [(" ".join([WORDS[n % 40]] * (1 + n % 5)), " ".join([WORDS[n // 40]] * (1 + n % 3))) for n in range(count)]


def text(batch):
    """Pairs of a batch, as words."""
    sides = ([row[side] for row in batch] for side in ("input_ids", "labels"))
    return list(zip(*([TOKENIZER.decode(ids[:-1]) for ids in side] for side in sides), strict=True))


def take(batches, count):
    return [text(batch) for batch in itertools.islice(batches, count)]


def first_epoch(batches):
    """Batches until the corpus is read through, whatever comes then."""
    taken = []
    for batch in batches:
        if batches.seen["knows_all"]:
            return taken
        taken.append(batch)
    return taken


def batches_of_an_epoch(batches):
    """How many batches all processes together get in an epoch."""
    first_epoch(batches)
    return sum(pool[1] for pool in batches.seen["pools"])


def loaded(rows, filters):
    """The same of a corpus on disk: the pairs kept and the report."""
    columns = dict(zip(("source", "target"), map(list, zip(*rows, strict=True)), strict=True))
    kept, report = filter_pairs(encode_corpus(Dataset.from_dict(columns), TOKENIZER), filters)
    return sorted(zip(kept["source"], kept["target"], strict=True)), report


@few
@given(CORPORA, st.sampled_from([FIT, ALL]), POOLS)
def test_every_pair_that_passes_the_filters_once_an_epoch_as_of_a_corpus_on_disk(rows, filters, pool_size):
    """Only the search for duplicates sees less than the whole."""
    pool_size = max(pool_size, len(rows)) if filters.drop_duplicates else pool_size
    kept, report = loaded(rows, filters)
    batches = stream(rows, filters, pool_size)
    epoch = batches_of_an_epoch(batches)
    for start in (0, epoch, 2 * epoch):
        batches.skip(start)
        assert sorted(itertools.chain(*take(batches, epoch))) == kept
    assert (batches.report.total, batches.report.dropped) == (report.total, report.dropped)


@few
@given(CORPORA, POOLS)
def test_both_budgets_are_kept(rows, pool_size):
    for batch in first_epoch(stream(rows, pool_size=pool_size)):
        for side in ("input_ids", "labels"):
            assert len(batch) * max(len(row[side]) for row in batch) <= MAX_TOKENS
            assert all(row[side][-1] == EOS for row in batch)


@few
@given(CORPORA, POOLS, st.integers(2, 3))
def test_processes_in_turn_give_the_sequence_of_one(rows, pool_size, processes):
    """Over several pools and epochs, whether or not the processes divide their number of batches."""
    alone = take(stream(rows, pool_size=pool_size), 12 * processes)
    dealt = (
        take(stream(rows, pool_size=pool_size, rank=rank, num_processes=processes), 12) for rank in range(processes)
    )
    assert list(itertools.chain(*zip(*dealt, strict=True))) == alone


@pytest.mark.parametrize(("processes", "stopped_after"), [(1, 3), (1, 40), (3, 9)])
def test_after_a_skip_the_sequence_is_that_of_a_run_never_stopped(processes, stopped_after):
    """Within a pool and over borders of pools and epochs; told or not what an earlier run saw of the pools."""

    def fresh():
        return stream(numbered(40), pool_size=15, rank=processes - 1, num_processes=processes)

    expected = take(fresh(), 50)
    stopped = fresh()
    take(stopped, stopped_after)
    for skipped in (0, 1, 5, 6, 13, 14, 31, 45):
        for seen in (None, json.loads(json.dumps(stopped.seen))):
            resumed = fresh()
            resumed.skip(skipped, seen)
            assert take(resumed, 5) == expected[skipped : skipped + 5]


def test_pools_that_were_seen_are_passed_over_without_encoding(monkeypatch):
    encoded = []

    def encode_pairs(pairs, tokenizer, *, first_row):
        encoded.append((first_row, len(pairs)))
        return original(pairs, tokenizer, first_row=first_row)

    original = stream_batching.encode_pairs
    monkeypatch.setattr(stream_batching, "encode_pairs", encode_pairs)
    batches = stream(numbered(35))
    epoch = batches_of_an_epoch(batches)
    in_three_pools = sum(pool[1] for pool in batches.seen["pools"][:3])
    resumed = stream(numbered(35))
    encoded.clear()
    resumed.skip(5 * epoch + in_three_pools, batches.seen)
    take(resumed, 1)
    assert encoded == [(30, 5)]
    assert (resumed.report.total, resumed.report.kept) == (35, 35)


def test_pools_seen_under_other_settings_are_refused():
    with pytest.raises(ValueError, match=r"from the same settings, but they come from .*'pool_size': 5.* Restore"):
        stream(numbered(9)).skip(1, stream(numbered(9), pool_size=5).seen)


def test_epochs_pools_and_seeds_differ_in_their_order():
    rows = numbered(60)
    batches = stream(rows, pool_size=30)
    epoch = batches_of_an_epoch(batches)
    taken = take(batches, 2 * epoch)
    first, second = taken[:epoch], taken[epoch:]
    assert first != second
    assert take(stream(rows, pool_size=30, seed=1), epoch) != first
    assert take(stream(rows, pool_size=30), epoch) == first
    same_pools = stream(rows[:30] * 2, pool_size=30)
    half = batches_of_an_epoch(same_pools) // 2
    assert take(same_pools, half) != take(same_pools, 2 * half)[half:]


def test_no_more_than_a_pool_is_read_ahead():
    """An endless corpus: before each batch, only its own pool and those before it have been read."""
    read = []

    def endless():
        for number in itertools.count():
            read.append(number)
            yield numbered(1000)[number % 1000]

    batches = iter(stream(ParallelStream(endless, "here"), pool_size=50))
    yielded = 0
    for batch in itertools.islice(batches, 100):
        assert len(read) <= 50 * (yielded // 50 + 1)
        yielded += len(batch)
    assert yielded > 150


def test_a_pool_is_let_go_before_the_next_is_read(monkeypatch):
    import weakref

    pools = []

    def apply_filters(pool, filters):
        assert not any(earlier() is not None for earlier in pools)
        kept, report = original(pool, filters)
        pools.extend(map(weakref.ref, (pool, kept)))
        return kept, report

    original = stream_batching.apply_filters
    monkeypatch.setattr(stream_batching, "apply_filters", apply_filters)
    take(stream(numbered(45), ALL), 60)
    assert len(pools) > 10


def test_a_pool_is_encoded_in_parts(monkeypatch):
    """However a pool is cut for encoding, its batches are the same."""
    whole = take(stream(numbered(35)), 40)
    monkeypatch.setattr(stream_batching, "PAIRS_TOGETHER", 3)
    assert take(stream(numbered(35)), 40) == whole


def test_duplicates_are_found_within_a_pool_and_the_table_says_so():
    rows = [("w1", "w2"), ("w1", "w2"), ("w3", "w4"), ("w1", "w2")]
    batches = stream(rows, FilterSettings(max_tokens=7, drop_duplicates=True), pool_size=2)
    first_epoch(batches)
    assert batches.report.dropped == {"empty": 0, "too_long": 0, "duplicate": 1}
    assert "- duplicate of an earlier pair of the same 2  1   25.00 %" in batches.report.table()


def test_the_counts_are_logged_once_by_the_first_process(caplog):
    with caplog.at_level(logging.INFO):
        take(stream(numbered(5), rank=1, num_processes=2), 20)
        assert caplog.text == ""
        take(stream(numbered(5)), 20)
    assert caplog.text.count("read once to the end") == 1
    assert "pairs kept" in caplog.text


def test_a_pool_without_a_pair_left_is_passed():
    rows = [("w1", "w2"), ("", ""), ("", ""), ("w3", "w4")]
    assert take(stream(rows, pool_size=1), 4) == [[("w1", "w2")], [("w3", "w4")]] * 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"at least one pair of sentences, but there is none"),
        ([("", "w1")] * 25, r"(?s)pass the filters, but none does; loosen them.*a side is empty +25 +100\.00 %"),
    ],
)
@pytest.mark.timeout(20)
def test_a_stream_that_yields_nothing_is_an_error_and_no_endless_loop(rows, message):
    with pytest.raises(ValueError, match=message):
        next(iter(stream(rows)))


@pytest.mark.parametrize(
    "later",
    [numbered(25), numbered(19), numbered(31), [("", ""), *numbered(30)[1:]], []],
)
@pytest.mark.parametrize("skips", [False, True])
def test_a_corpus_that_changes_between_epochs_is_refused(later, skips):
    """Told by the counts; a pool that is passed over is counted only in pairs."""
    now = [numbered(30)]
    batches = stream(ParallelStream(lambda: iter(now[0]), "here"))
    epoch = batches_of_an_epoch(batches)
    now[0] = later
    batches.skip(epoch - 1 if skips else 0)
    message = r"same pairs in the same order each time.*those from pair (1|11|21|31) on" if later else "none in here"
    if skips and later and later[0] == ("", ""):
        assert len(take(batches, 1)) == 1
        return
    with pytest.raises(ValueError, match=message):
        take(batches, 2 * epoch)


def test_a_sentence_without_eos_is_named_by_its_row_of_the_stream(monkeypatch):
    monkeypatch.setattr(stream_batching, "PAIRS_TOGETHER", 2)
    rows = [("w1 </s>", "w1 </s>")] * 15 + [("w1 </s>", "w1")]
    with pytest.raises(ValueError, match=r"but labels of row 15 does not"):
        take(stream(rows, tokenizer=word_tokenizer(ends_with_eos=False)), 20)


def test_a_data_loader_and_the_usual_collator_take_the_batches():
    collator = DataCollatorForSeq2Seq(TOKENIZER)
    loader = DataLoader(stream(numbered(30)), batch_size=None, collate_fn=collator)
    for inputs, batch in zip(itertools.islice(loader, 20), take(stream(numbered(30)), 20), strict=True):
        assert inputs["input_ids"].shape == (len(batch), max(len(source.split()) + 1 for source, _ in batch))
        assert inputs["labels"].shape == (len(batch), max(len(target.split()) + 1 for _, target in batch))


def test_worker_processes_are_refused():
    loader = DataLoader(stream(numbered(3)), batch_size=None, num_workers=1, collate_fn=list)
    with pytest.raises(ValueError, match=r"read by the training process itself.*num_workers .* to 0"):
        next(iter(loader))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": iter([])}, r"an iterator, which can be read once, was given"),
        ({"pool_size": 0}, r"pool_size must be a whole number of at least 1, but it is 0"),
        ({"rank": 2, "num_processes": 2}, r"rank must be below num_processes, but it is 2 of 2"),
        ({"rank": -1}, r"rank must be a whole number of at least 0, but it is -1"),
        ({"filters": FilterSettings()}, r"max_tokens must be at most the 12 tokens of a batch, but it is None\. Set"),
        ({"filters": FilterSettings(max_tokens=13)}, r"at most the 12 tokens of a batch, but it is 13"),
    ],
)
def test_settings_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        stream(**{"rows": numbered(3), **settings})


def test_a_skip_below_nothing_is_refused():
    with pytest.raises(ValueError, match=r"batches must be a whole number of at least 0, but it is -1"):
        stream(numbered(3)).skip(-1)
