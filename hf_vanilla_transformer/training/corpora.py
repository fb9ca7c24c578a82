"""The text of a run, as named by its settings: read as a corpus or a stream, encoded and filtered."""

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

_PAIRS_FOR_TOKENIZER = 1_000_000  # of a stream; more would not improve the vocabulary


def read_training_text(settings: Settings) -> TrainingText:
    """Source and target of the training pairs.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as in `load_parallel_corpus`; also if no training text is
            named, or if a stream has no `max_steps` or is to be saved or evaluated by epoch.
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
    """Source and target of the validation pairs, never as a stream; None without validation."""
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
    # without streaming, `datasets` would download all splits
    sources, targets = zip(*stream_parallel_corpus(**where), strict=True)
    return datasets.Dataset.from_dict({"source": sources, "target": targets})


def _named(settings: Settings) -> dict[str, Any]:
    names = ("dataset_name", "dataset_config_name", "source_lang", "target_lang", "source_column", "target_column")
    named = {name: getattr(settings.data, name) for name in names}
    return {**named, "languages_name_columns": settings.languages_name_columns}


def _check_stream(args: Any) -> None:
    if args.max_steps <= 0:
        raise ValueError("A stream has no length, so the run needs one: set `--max_steps`.")
    by_epoch = [name for name in ("eval_strategy", "save_strategy") if getattr(args, name) == "epoch"]
    if by_epoch:
        raise ValueError(
            f"A stream has no epochs, so nothing can be done at the end of one, but {by_epoch[0]} is "
            f"epoch. Set `--{by_epoch[0]} steps` and `--{by_epoch[0].split('_')[0]}_steps`."
        )


def sentences_for_tokenizer(text: TrainingText) -> Iterator[str]:
    """Both sides of all pairs; of a stream, the first million pairs."""
    if isinstance(text, ParallelStream):
        return chain.from_iterable(islice(text, _PAIRS_FOR_TOKENIZER))
    return (sentence for rows in text.iter(1000) for side in ("source", "target") for sentence in rows[side])


def encode_training_text(
    text: TrainingText, tokenizer: PreTrainedTokenizerBase, settings: Settings
) -> tuple[datasets.Dataset | StreamingBatches, FilterReport | None]:
    """Encode and filter the pairs, and log the counts; for a stream, pairs are counted as they are read."""
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
