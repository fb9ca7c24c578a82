"""Text to ids with EOS on both sides; lengths as Arrow has them."""

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets
from datasets.table import MemoryMappedTable
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hf_vanilla_transformer.data import FilterSettings, filter_pairs, load_parallel_corpus
from hf_vanilla_transformer.data.encoding import encode_corpus, sequence_lengths

SOURCE = ["a b c", "", "b"]
TARGET = ["a", "c c", "a b a b"]
EOS = 2


def word_tokenizer(ends_with_eos=True, truncates_at=None, **names):
    words = {"<pad>": 0, "<s>": 1, "</s>": EOS, "a": 3, "b": 4, "c": 5}
    backend = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ends_with_eos:
        backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    if truncates_at:
        backend.enable_truncation(truncates_at)
        backend.enable_padding(length=20)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", **{"eos_token": "</s>", **names})


def corpus(**columns):
    return Dataset.from_dict({"source": SOURCE, "target": TARGET, **columns})


def test_ids_of_both_sides_with_eos():
    encoded = encode_corpus(corpus(), word_tokenizer())
    assert encoded["input_ids"] == [[3, 4, 5, EOS], [EOS], [4, EOS]]
    assert encoded["labels"] == [[3, EOS], [5, 5, EOS], [3, 4, 3, 4, EOS]]
    assert encoded.column_names == ["source", "target", "input_ids", "labels"]


def test_other_columns_stay():
    assert encode_corpus(corpus(id=[7, 8, 9]), word_tokenizer())["id"] == [7, 8, 9]


def test_nothing_is_truncated_or_padded_whatever_the_tokenizer_was_saved_with():
    tokenizer = word_tokenizer(truncates_at=2, model_max_length=2)
    assert encode_corpus(corpus(), tokenizer)["labels"] == encode_corpus(corpus(), word_tokenizer())["labels"]


@pytest.mark.parametrize(("row", "source"), [(0, SOURCE), (1, ["a </s>", "", "b"])])
def test_a_side_without_eos_is_refused(row, source):
    rows = corpus().remove_columns("source").add_column("source", source)
    message = rf"end-of-sentence token '</s>' \(id 2\), but input_ids of row {row} does not\. Add it in"
    with pytest.raises(ValueError, match=message):
        encode_corpus(rows, word_tokenizer(ends_with_eos=False))


def test_a_target_side_without_eos_is_refused(monkeypatch):
    """A tokenizer may switch its post-processor for the target."""
    tokenizer = word_tokenizer()
    template = processors.TemplateProcessing(single="$A", special_tokens=[])
    tokenizer._switch_to_target_mode = lambda: setattr(tokenizer.backend_tokenizer, "post_processor", template)
    with pytest.raises(ValueError, match=r"but labels of row 0 does not"):
        encode_corpus(corpus(), tokenizer)


def test_a_tokenizer_that_has_no_eos_is_let_be():
    encoded = encode_corpus(corpus(), word_tokenizer(ends_with_eos=False, eos_token=None))
    assert encoded["input_ids"] == [[3, 4, 5], [], [4]]


def test_lengths_of_any_selection_and_order():
    """Whole, sliced, picked, shuffled and put together from several tables."""
    encoded = encode_corpus(corpus(), word_tokenizer())
    views = [
        encoded,
        encoded.select(range(1, 3)),
        encoded.select([2, 0, 0]),
        encoded.shuffle(seed=1),
        concatenate_datasets([encoded.select(range(2, 3)), encoded]),
        encoded.select(range(1, 3)).select([1, 0]),
        encoded.select([]),
    ]
    for view in views:
        for column in ("input_ids", "labels"):
            lengths = sequence_lengths(view, column)
            assert lengths.dtype == np.int64
            assert lengths.tolist() == [len(ids) for ids in view[column]]


def test_a_corpus_from_files_stays_on_disk(tmp_path):
    """Reading, encoding, filtering and choosing columns copy no text into memory."""
    (tmp_path / "a").write_text("a b\n\nb\n", encoding="utf-8")
    (tmp_path / "b").write_text("c\na\nb b\n", encoding="utf-8")
    read = load_parallel_corpus(tmp_path / "a", tmp_path / "b")
    encoded = encode_corpus(read, word_tokenizer())
    kept, report = filter_pairs(encoded, FilterSettings(max_tokens=9))
    assert report.kept == 2
    for stage in (read, encoded, kept, kept.select_columns(["input_ids", "labels"])):
        assert isinstance(stage.data, MemoryMappedTable)
