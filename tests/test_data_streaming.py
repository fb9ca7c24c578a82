"""A stream gives what the corpus on disk gives, in its order, each time anew, and refuses what that refuses."""

import itertools
import json
import os

import datasets
import pytest
from datasets import Dataset, DatasetDict, Features, Translation, Value

from hf_vanilla_transformer.data import builtin, load_parallel_corpus, stream_parallel_corpus, streaming
from hf_vanilla_transformer.data.streaming import ParallelStream
from hf_vanilla_transformer.tokenization import train_tokenizer

LANGS = {"source_lang": "de", "target_lang": "en"}
ROWS = [("eins", "one"), ("zwei\u2028\rdrei", 'two "2"'), ("", "three"), ("vier", "four")]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(path, lines):
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    return str(path)


def nested(rows=ROWS):
    features = Features(id=Value("int64"), translation=Translation(languages=("de", "en")))
    translations = [{"de": source, "en": target} for source, target in rows]
    return Dataset.from_dict({"id": list(range(len(rows))), "translation": translations}, features)


def text_files(folder):
    sides = zip(*ROWS, strict=True)
    return {
        side: write(folder / f"train.{side}", lines) for side, lines in zip(("source", "target"), sides, strict=True)
    }


def tsv(folder):
    return {"source": write(folder / "t.tsv", ["en\tde", *(f"{en}\t{de}" for de, en in ROWS)]), **LANGS}


def csv(folder):
    rows = ('"{}","{}"'.format(de, en.replace('"', '""')) for de, en in ROWS)
    return {"source": write(folder / "t.csv", ["source,target", *rows])}


def jsonl(folder):
    rows = [json.dumps({"translation": {"de": de or None, "en": en}}) for de, en in ROWS]
    return {"dataset_name": write(folder / "t.jsonl", rows), **LANGS}


def parquet(folder):
    nested().to_parquet(folder / "t.parquet")
    return {"source": str(folder / "t.parquet"), **LANGS}


def saved_folder(folder):
    DatasetDict(test=nested(), other=nested(ROWS[:1])).save_to_disk(folder / "saved")
    return {"dataset_name": str(folder / "saved"), "split": "test", **LANGS}


def folder_of_parquet(folder):
    for number, rows in enumerate((ROWS[:3], ROWS[3:])):
        nested(rows).to_parquet(folder / "data" / f"train-0000{number}-of-00002.parquet")
    return {"dataset_name": str(folder), **LANGS}


def folder_of_json(folder):
    rows = [json.dumps({"de": de or None, "id": 1, "en": en}) for de, en in ROWS]
    (folder / "data").mkdir()
    write(folder / "data" / "train-00000-of-00001.jsonl", rows)
    return {"dataset_name": str(folder), "source_column": "de", "target_column": "en"}


EVERY_KIND = [text_files, tsv, csv, jsonl, parquet, saved_folder, folder_of_parquet, folder_of_json]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_kind_of_corpus_is_the_same_streamed_and_loaded(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(streaming, "ROWS_TOGETHER", 3)
    arguments = kind(tmp_path)
    stream = stream_parallel_corpus(**arguments)
    corpus = load_parallel_corpus(**arguments)
    assert list(stream) == list(zip(corpus["source"], corpus["target"], strict=True)) == ROWS
    assert list(stream) == ROWS  # once more, from the first


@pytest.mark.parametrize("kind", [text_files, tsv, jsonl, parquet, saved_folder, folder_of_parquet])
def test_nothing_is_stored(tmp_path, kind):
    arguments = kind(tmp_path)
    before = set(tmp_path.rglob("*"))
    assert list(stream_parallel_corpus(**arguments)) == ROWS
    new = [path for path in tmp_path.rglob("*") if path.is_file() and path not in before]
    assert sum(path.stat().st_size for path in new) == 0  # a lock of `datasets` at most


def test_builtin_corpus(monkeypatch):
    monkeypatch.setattr(builtin, "SPLITS", ("train", "test"))
    monkeypatch.setattr(builtin, "builtin_corpus", lambda split: [(f"merci {split}", "thanks")])
    stream = stream_parallel_corpus(dataset_name="builtin-fr-en", split="test", source_lang="en", target_lang="fr")
    assert list(stream) == [("thanks", "merci test")]
    with pytest.raises(ValueError, match=r"has the splits train, test, but 'dev' was asked for"):
        stream_parallel_corpus(dataset_name="builtin-fr-en", split="dev")


@pytest.mark.parametrize(("source", "target", "counts"), [(2, 5, r"2 lines and \S+ has 5"), (3, 2, r"3 .* has 2")])
def test_unequal_sides_are_refused_at_the_end_with_both_counts(tmp_path, source, target, counts):
    sides = (write(tmp_path / f"t.{side}", ["a"] * lines) for side, lines in (("de", source), ("en", target)))
    pairs = iter(stream_parallel_corpus(*sides))
    assert list(itertools.islice(pairs, 2)) == [("a", "a")] * 2
    with pytest.raises(ValueError, match=rf"t\.de has {counts}.*same release"):
        next(pairs)


def test_invalid_utf8_names_file_and_line_when_reading_comes_to_it(tmp_path):
    good = write(tmp_path / "t.de", ["a"] * 10_000)
    (tmp_path / "t.en").write_bytes(b"b\n" * 9_998 + b"caf\xe9\nb\n")
    pairs = iter(stream_parallel_corpus(good, tmp_path / "t.en"))
    assert next(pairs) == ("a", "b")
    with pytest.raises(ValueError, match=r"line 9,999 of \S+t\.en holds the byte 0xe9"):
        list(pairs)


def test_invalid_utf8_in_the_header_of_a_table(tmp_path):
    (tmp_path / "t.tsv").write_bytes(b"caf\xe9\tb\nx\ty\n")
    with pytest.raises(ValueError, match=r"line 1 of \S+t\.tsv holds the byte 0xe9"):
        stream_parallel_corpus(tmp_path / "t.tsv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", "", r"at least one pair of sentences, but there is none in \S+t\.tsv"),
        ("t.tsv", "source\ttarget\n", r"at least one pair of sentences, but there is none in \S+t\.tsv"),
        ("t.tsv", "a\tb\tc\n1\t2\t3\n", r"'source', 'target', but it has 'a', 'b', 'c'.*first row of a \.tsv"),
        ("t.csv", "source,target\nx\n", r"must have 2 cells.*row 2 has 1"),
        ("t.jsonl", '{"source": "a", "target": 1}\n', r"'target' must hold text, but in row 1 of \S+ it holds int"),
        ("t.jsonl", '{"source": "a", "target": "\\ud800"}\n', r"row 1 of \S+t\.jsonl holds half of a surrogate pair"),
        ("t.de", "a\n", r"A text file holds one side, but only source"),
    ],
)
def test_files_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        list(stream_parallel_corpus(tmp_path / name))


def test_two_empty_files(tmp_path):
    sides = [write(tmp_path / name, []) for name in ("t.de", "t.en")]
    with pytest.raises(
        ValueError, match=r"at least one pair of sentences, but there is none in \S+t\.de and \S+t\.en"
    ):
        list(stream_parallel_corpus(*sides))


def test_a_missing_file_is_named_before_anything_is_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file \S+none\.en"):
        stream_parallel_corpus(write(tmp_path / "t.de", ["a"]), tmp_path / "none.en")


def test_a_pipe_cannot_be_read_again(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"read again for every epoch, but \S+pipe is a pipe or device"):
        stream_parallel_corpus(write(tmp_path / "t.de", ["a"]), tmp_path / "pipe")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": ["x"]}, r"must have the column\(s\) 'source', 'target', but it has 'a'"),
        ({"a": ["x"], "b": [1]}, r"Column 'b' of \S+ must hold text, but it holds int64"),
        ({"a": ["x"], "b": [["y"]]}, r"Column 'b' of \S+ must hold text, but it holds List"),
    ],
)
def test_columns_of_a_folder_are_checked_before_it_is_read(tmp_path, columns, message):
    Dataset.from_dict(columns).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=message):
        stream_parallel_corpus(dataset_name=str(tmp_path))


def test_a_folder_that_datasets_cannot_read(tmp_path):
    (tmp_path / "train.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match=r"must be readable by datasets, but it is not: .*0xe9"):
        stream_parallel_corpus(dataset_name=str(tmp_path))


@pytest.mark.parametrize("rows", [ROWS, []])
def test_a_dataset_whose_columns_show_only_when_it_is_read(monkeypatch, rows):
    """Loading scripts and odd files give `datasets` no features beforehand."""
    given = [{"translation": {"de": source or None, "en": target}, "id": 1} for source, target in rows]
    calls = []

    def load_dataset(*arguments, **keywords):
        calls.append((arguments, keywords))
        return datasets.IterableDataset.from_generator(lambda: iter(given))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    if rows:
        assert list(stream_parallel_corpus(dataset_name="wmt/wmt14", dataset_config_name="de-en", **LANGS)) == ROWS
    else:
        with pytest.raises(ValueError, match=r"there is none in split 'train' of wmt/wmt14"):
            stream_parallel_corpus(dataset_name="wmt/wmt14", dataset_config_name="de-en", **LANGS)
    assert calls == [(("wmt/wmt14", "de-en"), {"split": "train", "streaming": True})]


def test_a_tokenizer_is_learned_from_the_first_pairs_alone():
    """As the docstring of `ParallelStream` says."""
    taken = []

    def read():
        for number in itertools.count():
            taken.append(number)
            yield f"source {number}", f"target {number}"

    pairs = itertools.islice(ParallelStream(read, "here"), 50)
    tokenizer = train_tokenizer(itertools.chain.from_iterable(pairs), vocab_size=270)
    assert (len(tokenizer), len(taken)) == (270, 50)
