"""Parallel text from wherever it is: files, `datasets` names and folders, or the built-in corpus.

Every way gives a `datasets.Dataset` with the string columns `source` and `target`, line for line what was read, for
`filter_pairs` to filter. A corpus has a length and can be read in any order; one that does not fit the disk is for
`stream_parallel_corpus`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import nullcontext
from difflib import get_close_matches
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hub_access import HUB_ID, from_hub_or_cache
from .caching import cached_map, explained
from .columns import NESTED, ColumnChoice, Key, choose_columns
from .files import TABLE_SUFFIXES, check_file, read_table, read_text_files, table_columns
from .prepared import load_prepared, only_what_is_prepared
from .text import NO_TEXT, plain, warn_of_controls

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
HUB_PREFIXES = ("hf://", "buckets/")
"""Of what `datasets` reads there beside data sets' names."""


def load_parallel_corpus(
    source: PathLike | None = None,
    target: PathLike | None = None,
    *,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    split: str = "train",
    source_lang: str | None = None,
    target_lang: str | None = None,
    source_column: str | None = None,
    target_column: str | None = None,
    languages_name_columns: bool = False,
) -> Dataset:
    """Read a parallel corpus, line for line.

    Args:
        source: text file of the source side, or alone one TSV, CSV, JSONL or Parquet file that holds both sides; the
            first row of a TSV or CSV file names its columns.
        target: text file of the target side, aligned line by line.
        dataset_name: instead of files, `builtin-fr-en`, a name on the Hub, a folder (of `save_to_disk` or of data
            files) or one TSV, CSV, JSONL or Parquet file.
        dataset_config_name: configuration of a Hub dataset, such as `de-en`.
        split: split of a dataset, such as `validation` or `train[:1%]`; files have none.
        source_lang: key of the source in the Hub's nested `translation`, or name of its column.
        target_lang: the same for the target.
        source_column: name of the source's column; without it the columns are those named by the languages, else
            `source` and `target`, else the only two.
        target_column: the same for the target.
        languages_name_columns: whether a table must have columns of the languages' names, unless columns are named.

    Returns:
        String columns `source` and `target`, memory-mapped (the built-in corpus: in memory); nulls are empty strings.

    Raises:
        FileNotFoundError: a file, folder or dataset does not exist.
        ConnectionError: the Hub cannot be reached, and the data set was not prepared here earlier.
        ValueError: sides of unequal length, invalid UTF-8, no pairs, unknown columns, languages or splits, or
            arguments that do not go together.
    """
    choice = ColumnChoice(source_column, target_column, source_lang, target_lang, languages_name_columns)
    files = find_files(source, target, dataset_name, split)
    if len(files) > 1:
        return read_text_files(*files)
    if files:
        return read_table(files[0], choice)
    return _load_named(str(dataset_name), dataset_config_name, split, choice)


def find_files(
    source: PathLike | None, target: PathLike | None, dataset_name: str | None, split: str
) -> tuple[()] | tuple[Path] | tuple[Path, Path]:
    """Two text files or one table, as the arguments of `load_parallel_corpus` name them; none if `datasets` reads it.

    Raises:
        ValueError: the arguments do not go together.
    """
    if dataset_name is not None:
        if source is not None or target is not None:
            raise ValueError("A corpus comes from files or from dataset_name, but both were given. Leave one out.")
        if not _is_one_file(str(dataset_name), split):
            return ()
        source = dataset_name
    if source is None:
        raise ValueError(
            f"A target file needs its source file, but only target {target} was given. Give source too."
            if target is not None
            else "A corpus needs a source (and target) file or a dataset_name, but none was given."
        )
    if target is not None:
        _warn_of_the_same_file(Path(source), Path(target))
        return Path(source), Path(target)
    if Path(source).suffix.lower() not in TABLE_SUFFIXES:
        raise ValueError(
            f"A text file holds one side, but only source {source} was given. Give target too, or one file with both "
            f"sides ({', '.join(TABLE_SUFFIXES)})."
        )
    return (Path(source),)


def keys_of_table(path: Path, choice: ColumnChoice) -> tuple[Key, Key]:
    """Which columns of a TSV, CSV, JSONL or Parquet file would be read.

    Raises:
        ValueError, FileNotFoundError: as of `load_parallel_corpus`.
    """
    check_file(path)
    return choose_columns(choice, *table_columns(path, path.suffix.lower()), str(path))


def _warn_of_the_same_file(source: Path, target: Path) -> None:
    if source.exists() and target.exists() and source.samefile(target):
        logger.warning("Source and target are the same file, %s; check the two paths.", source)


def _is_one_file(name: str, split: str) -> bool:
    from .builtin import BUILTIN_NAME

    path = Path(name)
    if name == BUILTIN_NAME or not (path.is_file() or path.suffix.lower() in TABLE_SUFFIXES):
        return False
    if split != "train":
        raise ValueError(
            f"One file holds one split, which is read as 'train', but split {split!r} of {name} was asked for. "
            "Give that split as a file of its own."
        )
    return True


def _load_named(name: str, config_name: str | None, split: str, choice: ColumnChoice) -> Dataset:
    from .builtin import BUILTIN_NAME

    dataset = load_builtin(split) if name == BUILTIN_NAME else load_named(name, config_name, split)
    corpus = _pick_columns(dataset, choice, name)
    if not len(corpus):
        raise ValueError(f"A corpus needs at least one pair of sentences, but split {split!r} of {name} has none.")
    return corpus


def load_builtin(split: str) -> Dataset:
    """The built-in corpus, columns `fr` and `en`, in memory."""
    from datasets import Dataset

    from .builtin import BUILTIN_NAME, SPLITS, builtin_corpus

    if split not in SPLITS:
        raise ValueError(f"{BUILTIN_NAME} has the splits {', '.join(SPLITS)}, but {split!r} was asked for.")
    french, english = (list(side) for side in zip(*builtin_corpus(split), strict=True))
    return Dataset.from_dict({"fr": french, "en": english})


def load_named(name: str, config_name: str | None, split: str, **options: bool) -> Any:
    """The dataset that `datasets` finds under a name or in a folder, as it is; `options` are of its `load_dataset`."""
    path = Path(name)
    if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
        return _load_saved(path, split)
    if path.exists():
        return _load_by_datasets(name, config_name, split, **options)
    if path.is_absolute():
        raise FileNotFoundError(f"There is no file or folder {name}. Check the path.")
    _refuse_misspelt_builtin(name)
    if not (HUB_ID.fullmatch(name) or name.startswith(HUB_PREFIXES)):
        return _load_by_datasets(name, config_name, split, **options)  # which says what it takes

    def read(local_files_only: bool) -> Any:
        with only_what_is_prepared() if local_files_only else nullcontext():
            return _load_by_datasets(name, config_name, split, **options)

    return from_hub_or_cache(f"{name} ({config_name})" if config_name else name, read)


def _refuse_misspelt_builtin(name: str) -> None:
    """What can only be a built-in corpus is not looked up on the Hub, where data sets of users have an owner."""
    from .builtin import BUILTIN_NAME

    folded = name.lower().replace("_", "-")
    if "/" not in name and (folded.startswith("builtin") or get_close_matches(folded, [BUILTIN_NAME], cutoff=0.8)):
        raise FileNotFoundError(
            f"There is no built-in data set {name!r}. Did you mean {BUILTIN_NAME}, which serves both directions? One "
            "on the Hub is given with its owner, as in owner/name."
        )


def _load_by_datasets(name: str, config_name: str | None, split: str, **options: bool) -> Any:
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    try:
        if options.get("streaming"):
            return load_dataset(name, config_name, split=split, **options)
        return load_prepared(name, config_name, split=split, **options)
    except ConnectionError as error:
        raise ConnectionError(
            f"{name} is no file or folder here and the Hub cannot be reached to look for a dataset of that name "
            f"({error}). Check the name, or go online once so that it is cached."
        ) from None
    except OSError as error:
        raise explained(error) from error
    except (DatasetGenerationError, JSONDecodeError) as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno is not None:
            raise explained(error.__cause__) from error
        raise ValueError(f"{name} must be readable by datasets, but it is not: {error.__cause__ or error}") from error


def _load_saved(folder: Path, split: str) -> Dataset:
    from datasets import DatasetDict, load_from_disk
    from pyarrow import ArrowInvalid

    try:
        saved = load_from_disk(str(folder))
    except (ArrowInvalid, JSONDecodeError, OSError) as error:
        if type(error) not in (ArrowInvalid, JSONDecodeError, OSError):
            raise
        raise ValueError(
            f"A dataset saved by datasets is needed, but {folder} is damaged: {error}. Save or copy it again."
        ) from error
    except IndexError:  # datasets saves a dataset without rows, but cannot read it back
        raise ValueError(f"A corpus needs at least one pair of sentences, but {folder} has none.") from None
    if not isinstance(saved, DatasetDict):
        if split != "train":
            raise ValueError(
                f"{folder} holds one split, which is read as 'train', but {split!r} was asked for. Give that split as "
                "a folder of its own."
            )
        return saved
    if split not in saved:
        raise ValueError(f"{folder} has the splits {', '.join(saved)}, but {split!r} was asked for.")
    return saved[split]


def _pick_columns(dataset: Dataset, choice: ColumnChoice, origin: str) -> Dataset:
    """Columns `source` and `target`, by name, type string, nulls emptied, control characters made spaces."""
    from datasets import Features, Value

    languages = nested_languages(dataset.features.get(NESTED))
    keys = choose_columns(choice, dataset.column_names, languages, origin)
    if languages:
        dataset = dataset.flatten()
    names = [".".join(key) for key in keys]
    check_text(dataset.features, names, origin)
    dataset = dataset.select_columns(names).rename_columns(dict(zip(names, ("source", "target"), strict=True)))
    features = Features(source=Value("string"), target=Value("string"))
    nulls = sum(dataset.data.column(side).null_count for side in ("source", "target"))
    controls = sum(_count_controls(dataset.data.column(side)) for side in ("source", "target"))
    warn_of_controls(controls, origin)
    if dataset.features != features or nulls or controls:
        return cached_map(dataset, _plain_text, features, "Reading")
    return dataset


def nested_languages(nested: Any) -> list[str]:
    """Languages of a `translation` column: a `Translation` feature or a plain struct."""
    return list(getattr(nested, "languages", None) or (nested if isinstance(nested, dict) else []))


def check_text(features: Mapping[str, Any], names: list[str], origin: str) -> None:
    """Raise `ValueError` if one of these columns, of features without nested ones, does not hold text."""
    for name in names:
        dtype = getattr(features[name], "dtype", None)
        if dtype not in ("string", "large_string", "string_view"):
            raise ValueError(f"Column {name!r} of {origin} must hold text, but it holds {dtype or features[name]}.")


def _count_controls(column: Any) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = column.cast(pa.large_string()) if pa.types.is_string_view(column.type) else column
    return pc.sum(pc.count_substring_regex(column, NO_TEXT)).as_py() or 0


def _plain_text(rows: dict[str, list[str | None]]) -> dict[str, list[str]]:
    return {side: [plain(text or "") for text in rows[side]] for side in ("source", "target")}
