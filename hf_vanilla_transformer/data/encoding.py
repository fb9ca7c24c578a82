"""Encodes sentences to token ids, and measures their lengths in tokens.

Both sides end with the end-of-sentence token, which always counts as a token. Nothing is truncated; `filter_pairs`
drops and counts pairs that are too long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .caching import cached_map

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import Table
    from transformers import PreTrainedTokenizerBase


PAIR_IDS = "pair_ids"
"""Column with the number of each pair in its corpus, counted from 0, for messages."""


def encode_corpus(corpus: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Add the token ids of both sides.

    Args:
        corpus: string columns `source` and `target`.
        tokenizer: its `text_target=` encodes the target side; it must end each sentence with its EOS, if it has one.

    Returns:
        `corpus` with the columns `input_ids` and `labels`, lists of ids, EOS included, untruncated and unpadded.

    Raises:
        ValueError: the tokenizer has an EOS token but does not put it at the end of a sentence.
        OSError: the cache cannot be written.
    """
    from datasets import Features, Value
    from datasets import Sequence as ListOf

    ids = ListOf(Value("int32"))
    features = Features({**corpus.features, "input_ids": ids, "labels": ids})
    encoded = cached_map(corpus, _encode_batch, features, "Encoding", tokenizer=tokenizer)
    for column in ("input_ids", "labels"):
        _check_ends(encoded.data, column, tokenizer)
    return encoded


def encode_pairs(pairs: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerBase, *, first_row: int = 0) -> Table:
    """Encode some pairs of a stream, in memory, as `encode_corpus` does a corpus.

    Args:
        pairs: sources with their targets, at least one.
        tokenizer: as in `encode_corpus`.
        first_row: the stream's row number of the first pair, counted from 0, for messages.

    Returns:
        Columns `source`, `target`, `input_ids`, `labels`.

    Raises:
        ValueError: as in `encode_corpus`.
    """
    import pyarrow as pa

    text = dict(zip(("source", "target"), map(list, zip(*pairs, strict=True)), strict=True))
    ids = _encode_batch(text, tokenizer)
    types = {"source": pa.string(), "target": pa.string(), **dict.fromkeys(ids, pa.list_(pa.int32()))}
    encoded = pa.table({**text, **ids}, pa.schema(types))
    for column in ids:
        _check_ends(encoded, column, tokenizer, first_row)
    return encoded


def sequence_lengths(dataset: Dataset, column: str) -> np.ndarray:
    """The number of tokens in each row of a list column, read from Arrow's offsets.

    Args:
        dataset: an encoded corpus; a selection or order of rows is respected.
        column: `input_ids` or `labels` of an encoded corpus.

    Returns:
        int64 array of shape (rows,).
    """
    import pyarrow.compute as pc

    lengths = pc.list_value_length(dataset.data.column(column)).to_numpy().astype(np.int64)
    # a selection is stored as a list of row numbers, and Arrow is slow at gathering lists by it
    selection = dataset._indices
    return lengths if selection is None else lengths[selection.column(0).to_numpy()]


def _encode_batch(rows: dict[str, list[str]], tokenizer: PreTrainedTokenizerBase) -> dict[str, list[list[int]]]:
    encoded = tokenizer(
        rows["source"],
        text_target=rows["target"],
        truncation=False,
        padding=False,
        return_attention_mask=False,
        verbose=False,
    )
    return {"input_ids": encoded["input_ids"], "labels": encoded["labels"]}


def _check_ends(encoded: Table, column: str, tokenizer: PreTrainedTokenizerBase, first_row: int = 0) -> None:
    """Check that sentences end with EOS: a model that never saw one never learns to stop."""
    if tokenizer.eos_token_id is None:
        return
    row = first_row
    for rows in encoded.column(column).chunks:
        ids = rows.values.to_numpy(zero_copy_only=False)
        offsets = rows.offsets.to_numpy()  # (rows + 1,), into `ids`
        ends = np.full(len(rows), -1)
        full = offsets[1:] > offsets[:-1]
        ends[full] = ids[offsets[1:][full] - 1]
        wrong = np.flatnonzero(ends != tokenizer.eos_token_id)
        if len(wrong):
            raise ValueError(
                f"Every sentence must end with the tokenizer's end-of-sentence token {tokenizer.eos_token!r} (id "
                f"{tokenizer.eos_token_id}), but {column} of row {row + int(wrong[0]):,} does not. Add it in the "
                "tokenizer's post-processor."
            )
        row += len(rows)
