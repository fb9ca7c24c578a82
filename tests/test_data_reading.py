"""One function reads every kind of corpus; names, folders and refusals."""

import logging

import datasets
import pytest
from datasets import Dataset, DatasetDict, Features, Translation, Value

from hf_vanilla_transformer.data import builtin, load_parallel_corpus, stream_parallel_corpus

LANGS = {"source_lang": "de", "target_lang": "en"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with aligned files in it."""
    monkeypatch.chdir(tmp_path)
    for name, content in (("train.en", "one\n"), ("train.de", "eins\n"), ("train.tsv", "en\tde\none\teins\n")):
        (tmp_path / name).write_text(content, encoding="utf-8", newline="\n")
    return tmp_path


def pairs(corpus):
    assert corpus.features == Features(source=Value("string"), target=Value("string"))
    return list(zip(corpus["source"], corpus["target"], strict=True))


def test_two_files_or_one(folder):
    assert pairs(load_parallel_corpus("train.de", folder / "train.en")) == [("eins", "one")]
    assert pairs(load_parallel_corpus("train.tsv", **LANGS)) == [("eins", "one")]
    assert pairs(load_parallel_corpus(dataset_name="train.tsv", source_column="en", target_column="de")) == [
        ("one", "eins")
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"needs a source \(and target\) file or a dataset_name, but none was given"),
        ({"source": "train.en"}, r"A text file holds one side, but only source train\.en was given\. .*\.tsv, \.csv"),
        ({"target": "train.en"}, r"A target file needs its source file, but only target train\.en was given"),
        ({"source": "train.tsv", "dataset_name": "x"}, r"from files or from dataset_name, but both were given"),
        ({"dataset_name": "train.tsv", "split": "test"}, r"holds one split, .* but split 'test' of train\.tsv"),
        ({"source": "train.tsv", "source_lang": "en"}, r"only source_lang='en' was given"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_arguments_that_do_not_go_together(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_parallel_corpus(**arguments)


def test_the_same_file_twice_is_pointed_out(folder, caplog):
    with caplog.at_level(logging.WARNING):
        load_parallel_corpus(folder / "train.en", "train.en")
    assert "are the same file" in caplog.text


@pytest.mark.parametrize("name", ["none.tsv", "{}/none"])
def test_missing_file_or_folder(folder, name):
    with pytest.raises(FileNotFoundError, match=r"There is no file"):
        load_parallel_corpus(dataset_name=name.format(folder))


def nested(count=2, feature=None):
    rows = [{"de": f"de {n}", "en": f"en {n}"} for n in range(count)]
    feature = feature or Translation(languages=("de", "en"))
    return Dataset.from_dict(
        {"id": list(range(count)), "translation": rows}, Features(id=Value("int64"), translation=feature)
    )


@pytest.mark.parametrize(
    "feature", [Translation(languages=("de", "en")), {"de": Value("string"), "en": Value("string")}]
)
def test_saved_folder_nested(tmp_path, feature):
    nested(feature=feature).save_to_disk(tmp_path / "saved")
    corpus = load_parallel_corpus(dataset_name=str(tmp_path / "saved"), **LANGS)
    assert pairs(corpus) == [("de 0", "en 0"), ("de 1", "en 1")]


def test_saved_folder_with_splits(tmp_path):
    saved = tmp_path / "saved"
    DatasetDict(train=nested(3), test=nested(1)).save_to_disk(saved)
    assert len(load_parallel_corpus(dataset_name=str(saved), **LANGS)) == 3
    assert len(load_parallel_corpus(dataset_name=str(saved), split="test", **LANGS)) == 1
    with pytest.raises(ValueError, match=r"saved has the splits train, test, but 'dev' was asked for"):
        load_parallel_corpus(dataset_name=str(saved), split="dev", **LANGS)


def test_saved_folder_of_one_split(tmp_path):
    nested().save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"saved holds one split, which is read as 'train', but 'test'"):
        load_parallel_corpus(dataset_name=str(tmp_path / "saved"), split="test", **LANGS)


def test_folder_of_data_files(tmp_path):
    """Two Parquet files of a folder in the Hub's lay-out are two splits; a part of a split can be asked for."""
    for split, count in (("train", 4), ("validation", 1)):
        nested(count).to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    name = str(tmp_path)
    assert pairs(load_parallel_corpus(dataset_name=name, split="validation", **LANGS)) == [("de 0", "en 0")]
    assert len(load_parallel_corpus(dataset_name=name, split="train[:50%]", **LANGS)) == 2
    with pytest.raises(ValueError, match=r"Unknown split .dev."):
        load_parallel_corpus(dataset_name=name, split="dev", **LANGS)


def test_a_split_without_pairs(monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments, **keywords: nested(0))
    with pytest.raises(ValueError, match=r"at least one pair of sentences, but split 'test' of wmt/wmt14 has none"):
        load_parallel_corpus(dataset_name="wmt/wmt14", split="test", **LANGS)


def test_swapped_names_nulls_and_large_strings(tmp_path):
    """A column named `source` may be the target; nulls become empty sentences, which the filters count."""
    features = Features(source=Value("large_string"), target=Value("string"), other=Value("bool"))
    rows = Dataset.from_dict({"source": ["a", None], "target": ["b", "c"], "other": [True, False]}, features)
    rows.save_to_disk(tmp_path / "saved")
    corpus = load_parallel_corpus(dataset_name=str(tmp_path / "saved"), source_column="target", target_column="source")
    assert pairs(corpus) == [("b", "a"), ("c", "")]


@pytest.mark.parametrize(
    ("columns", "choice", "message"),
    [
        ({"a": ["x"]}, {}, r"must have the column\(s\) 'source', 'target', but it has 'a'"),
        ({"a": ["x"], "b": [1]}, {}, r"Column 'b' of \S+ must hold text, but it holds int64"),
        ({"a": ["x"], "b": [["y"]]}, {}, r"Column 'b' of \S+ must hold text, but it holds List"),
        ({"translation": [{"de": "x", "fr": "y"}]}, LANGS, r"'en' is not; it holds de, fr"),
        ({"source": [], "target": []}, {}, r"at least one pair of sentences, but \S+ has none"),
    ],
)
def test_datasets_refused(tmp_path, columns, choice, message):
    features = Features(source=Value("string"), target=Value("string")) if "source" in columns else None
    Dataset.from_dict(columns, features).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=message):
        load_parallel_corpus(dataset_name=str(tmp_path / "saved"), **choice)


def test_a_folder_that_datasets_cannot_read(tmp_path):
    (tmp_path / "train.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match=r"must be readable by datasets, but it is not: .*0xe9"):
        load_parallel_corpus(dataset_name=str(tmp_path))


def test_no_network_for_a_name_on_the_hub(monkeypatch):
    def offline(*arguments, **keywords):
        raise ConnectionError("Couldn't reach 'wmt/wmt14' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(ConnectionError, match=r"wmt/wmt14 \(de-en\) is neither a folder here nor whole in the cache"):
        load_parallel_corpus(dataset_name="wmt/wmt14", dataset_config_name="de-en", **LANGS)


def lookups(monkeypatch):
    """Names that `datasets` is asked for; it knows none."""
    asked = []

    def load_dataset(name, *arguments, **keywords):
        asked.append(name)
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


@pytest.mark.parametrize(
    "name", ["builtin-fr-em", "builtin_fr_en", "Builtin-FR-EN", "builtin-en-fr", "builtin", "bultin-fr-en"]
)
@pytest.mark.parametrize("load", [load_parallel_corpus, stream_parallel_corpus])
def test_a_misspelt_built_in_corpus_names_the_right_one_and_is_not_looked_up(monkeypatch, load, name):
    asked = lookups(monkeypatch)
    with pytest.raises(FileNotFoundError, match=rf"no built-in data set '{name}'\. Did you mean builtin-fr-en, "):
        load(dataset_name=name)
    assert not asked


@pytest.mark.parametrize("name", ["wmt14", "someone/builtin-fr-em", "opus_books", "multi30k-fr-en"])
def test_any_other_name_is_looked_up(monkeypatch, name):
    asked = lookups(monkeypatch)
    with pytest.raises(ConnectionError, match=rf"{name} is neither a folder here nor whole in the cache of the Hub"):
        load_parallel_corpus(dataset_name=name)
    assert asked == [name]


def test_a_folder_named_like_the_built_in_corpus_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nested().save_to_disk(tmp_path / "builtin-mine")
    assert len(load_parallel_corpus(dataset_name="builtin-mine", **LANGS)) == 2
    nested().to_parquet(tmp_path / "builtin_files" / "train.parquet")
    assert len(load_parallel_corpus(dataset_name="builtin_files", **LANGS)) == 2


def test_hub_arguments_are_passed_on(monkeypatch):
    calls = []

    def load_dataset(*arguments, **keywords):
        calls.append((arguments, keywords))
        return nested()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = load_parallel_corpus(dataset_name="wmt/wmt14", dataset_config_name="de-en", split="test", **LANGS)
    assert len(corpus) == 2
    assert calls == [(("wmt/wmt14", "de-en"), {"split": "test"})]


@pytest.fixture
def _small_builtin(monkeypatch):
    monkeypatch.setattr(builtin, "BUILTIN_NAME", "builtin-fr-en", raising=False)
    monkeypatch.setattr(builtin, "SPLITS", ("train", "test"), raising=False)
    monkeypatch.setattr(builtin, "builtin_corpus", lambda split: [(f"merci {split}", "thanks")], raising=False)


@pytest.mark.usefixtures("_small_builtin")
def test_builtin_corpus_with_its_splits_and_either_way_round():
    assert pairs(load_parallel_corpus(dataset_name="builtin-fr-en", split="test")) == [("merci test", "thanks")]
    turned = load_parallel_corpus(dataset_name="builtin-fr-en", source_lang="en", target_lang="fr")
    assert pairs(turned) == [("thanks", "merci train")]
    with pytest.raises(ValueError, match=r"builtin-fr-en has the splits train, test, but 'dev' was asked for"):
        load_parallel_corpus(dataset_name="builtin-fr-en", split="dev")
    with pytest.raises(ValueError, match=r"column\(s\) 'de', but it has 'fr', 'en'"):
        load_parallel_corpus(dataset_name="builtin-fr-en", **LANGS)


def test_every_public_name_of_the_room_resolves_and_no_other():
    from hf_vanilla_transformer import data

    assert {"load_parallel_corpus", "TokenBudgetBatchSampler", "filter_pairs", "encode_corpus"} <= set(dir(data))
    assert data.FilterSettings.__module__ == "hf_vanilla_transformer.data.filtering"
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = data.nonsense
