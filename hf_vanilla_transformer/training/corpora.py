"""The text of a run: what its settings name, read as a corpus or as a stream, and made ready to train on."""

import logging
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, TypeAlias

import datasets
from transformers import PreTrainedTokenizerBase

from ..data.encoding import encode_corpus
from ..data.filtering import FilterReport, FilterSettings, filter_pairs
from ..data.reading import load_parallel_corpus
from ..data.stream_batching import StreamingBatches
from ..data.streaming import ParallelStream, stream_parallel_corpus
from .recipes import Settings

logger = logging.getLogger(__name__)

TrainingText: TypeAlias = datasets.Dataset | ParallelStream

_PAIRS_FOR_TOKENIZER = 1_000_000  # of a stream; a subword vocabulary gains nothing from more


def read_training_text(settings: Settings) -> TrainingText:
    """Source and target of the training pairs.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as of `load_parallel_corpus`; nothing to train on; a stream
            without `max_steps`, or with something to do at the end of its epochs.
    """
    data = settings.data
    if data.train_source is None and data.train_target is None and data.dataset_name is None:
        raise ValueError(
            "There is nothing to train on. Give `--train_source` and `--train_target`, or `--dataset_name`."
        )
    where = {"split": data.train_split, **_named(settings)}
    if not data.streaming:
        return load_parallel_corpus(data.train_source, data.train_target, **where)
    _check_stream(settings.training)
    return stream_parallel_corpus(data.train_source, data.train_target, **where)


def read_validation_text(settings: Settings) -> datasets.Dataset | None:
    """The same for validation, always in full; None if no validation is wanted."""
    if settings.training.eval_strategy == "no":
        return None
    data = settings.data
    files = (data.validation_source, data.validation_target)
    if not any(files) and data.dataset_name is None:
        raise ValueError(
            "There is nothing to validate on. Give `--validation_source` and `--validation_target`, or "
            "`--eval_strategy no`."
        )
    where = {"split": data.validation_split, **_named(settings)}
    if any(files) or not data.streaming:
        return load_parallel_corpus(*files, **where)
    # to load one split the ordinary way, `datasets` would fetch them all
    sources, targets = zip(*stream_parallel_corpus(**where), strict=True)
    return datasets.Dataset.from_dict({"source": sources, "target": targets})


def _named(settings: Settings) -> dict[str, Any]:
    names = ("dataset_name", "dataset_config_name", "source_lang", "target_lang", "source_column", "target_column")
    named = {name: getattr(settings.data, name) for name in names}
    return {**named, "languages_name_columns": settings.languages_name_columns}


def _check_stream(args: Any) -> None:
    if args.max_steps <= 0:
        raise ValueError("A stream has no length, so a run on it must be given one: set `--max_steps`.")
    by_epoch = [name for name in ("eval_strategy", "save_strategy") if getattr(args, name) == "epoch"]
    if by_epoch:
        raise ValueError(
            f"A stream is read on from one pass to the next, so nothing is done by epochs, but {by_epoch[0]} is "
            f"epoch. Set `--{by_epoch[0]} steps` and `--{by_epoch[0].split('_')[0]}_steps`."
        )


def sentences_for_tokenizer(text: TrainingText) -> Iterator[str]:
    """Both sides of all pairs, or of the first million of a stream."""
    if isinstance(text, ParallelStream):
        return chain.from_iterable(islice(text, _PAIRS_FOR_TOKENIZER))
    return (sentence for rows in text.iter(1000) for side in ("source", "target") for sentence in rows[side])


def encode_training_text(
    text: TrainingText, tokenizer: PreTrainedTokenizerBase, settings: Settings
) -> tuple[datasets.Dataset | StreamingBatches, FilterReport | None]:
    """Encoded and filtered pairs and their counts, which are logged; a stream counts as it is read."""
    args, data = settings.training, settings.data
    filters = FilterSettings(
        drop_empty=data.drop_empty,
        max_tokens=data.max_length or None,
        max_length_ratio=data.max_length_ratio,
        drop_duplicates=data.drop_duplicates,
        drop_identical=data.drop_identical,
    )
    if isinstance(text, ParallelStream):
        stream = StreamingBatches(
            text,
            tokenizer,
            filters,
            args.max_tokens,
            pool_size=data.pool_size,
            seed=args.data_seed if args.data_seed is not None else args.seed,
            rank=args.process_index,
            num_processes=args.world_size,
        )
        return stream, None
    pairs, report = filter_pairs(encode_corpus(text, tokenizer), filters)
    logger.info(f"Training pairs:\n{report.table()}")
    return pairs, report
