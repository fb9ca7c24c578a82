"""Seals the tables that `datasets` prepares from the Hub or a folder and keeps in its cache.

`datasets` does not verify its cache: a flipped bit silently changes the text, and a truncated file gives an error that
names no file. The seals, size and SHA-256 of each file, are in a folder of their own in its cache.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model.manifest import sha256_of_file

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

SEALS = "seals"
INFO = "dataset_info.json"
SHORT = 1 << 20


def load_prepared(*arguments: Any, **options: Any) -> Dataset:
    """As `load_dataset`, but damaged tables in its cache are rebuilt, with a warning.

    Raises:
        OSError, ValueError: as in `load_dataset`.
    """
    from datasets import DownloadMode, load_dataset
    from pyarrow import ArrowInvalid

    try:
        dataset = load_dataset(*arguments, **options)
    except Exception as error:  # any type: a damaged info file causes all kinds of errors
        damaged = [*_damaged_somewhere(), *_unreadable_infos()]
        if not damaged and not isinstance(error, ArrowInvalid):
            raise
        problem = f"{', '.join(map(str, damaged)) or arguments[0]} cannot be read ({error})"
    else:
        damaged = [path for path in _prepared_files(dataset) if _is_changed(path)]
        problem = ", ".join(f"{path} is not what it was" for path in damaged)
    if problem:
        logger.warning("The cached text is damaged and is rebuilt: %s.", problem)
        for folder in {path.parent for path in damaged if path.name == INFO}:
            shutil.rmtree(folder)  # otherwise it would be read again before it is rewritten
        dataset = load_dataset(*arguments, download_mode=DownloadMode.REUSE_CACHE_IF_EXISTS, **options)
        for path in _prepared_files(dataset):
            _seal_of(path).unlink(missing_ok=True)
    for path in _prepared_files(dataset):
        if _read_json(_seal_of(path)) is None:
            _write_seal(path)
    return dataset


@contextmanager
def only_what_is_prepared() -> Iterator[None]:
    """Let `datasets` ask nobody, as under HF_HUB_OFFLINE; where that is not set, whoever enters this says so.

    Raises:
        FileNotFoundError: this configuration was not prepared here; for other names `datasets` says so itself.
    """
    from datasets import config
    from datasets.utils import logging as log_of_datasets

    was_offline, verbosity = config.HF_HUB_OFFLINE, log_of_datasets.get_verbosity()
    config.HF_HUB_OFFLINE = True
    if not was_offline:
        log_of_datasets.set_verbosity_error()
    try:
        yield
    except ValueError as error:
        if str(error).startswith("Couldn't find cache for"):
            raise FileNotFoundError(str(error)) from error
        raise
    finally:
        config.HF_HUB_OFFLINE = was_offline
        log_of_datasets.set_verbosity(verbosity)


def _is_changed(path: Path) -> bool:
    """Whether a file differs from its seal; False for a file without a seal."""
    seal = _read_json(_seal_of(path))
    return seal is not None and seal != _describe(path)


def _damaged_somewhere() -> list[Path]:
    """Sealed files that differ, for errors of `datasets` that name no file; large files are compared by size only."""
    from datasets import config

    seals = map(_read_json, (Path(config.HF_DATASETS_CACHE) / SEALS).glob("*.json"))
    sealed = {
        Path(seal["path"]): seal["size"] for seal in seals if seal is not None and {"path", "size"} <= seal.keys()
    }
    there = {
        path: size for path, size in sealed.items() if path.parent.exists()
    }  # otherwise the whole folder was deleted
    return [
        path
        for path, size in there.items()
        if not path.exists() or path.stat().st_size != size or (size < SHORT and _is_changed(path))
    ]


def _unreadable_infos() -> list[Path]:
    """Info files that are not valid JSON; `datasets` would never rebuild them itself."""
    from datasets import config

    return [info for info in Path(config.HF_DATASETS_CACHE).rglob(INFO) if _read_json(info) is None]


def _prepared_files(dataset: Dataset) -> list[Path]:
    from datasets import config

    tables = [Path(file["filename"]) for file in dataset.cache_files]
    tables = [path for path in tables if path.is_relative_to(config.HF_DATASETS_CACHE)]  # not the user's own
    infos = {path.with_name(INFO): None for path in tables if path.with_name(INFO).exists()}
    return [*tables, *infos]


def _seal_of(path: Path) -> Path:
    from datasets import config

    return Path(config.HF_DATASETS_CACHE) / SEALS / f"{blake2b(os.fsencode(path), digest_size=16).hexdigest()}.json"


def _describe(path: Path) -> dict[str, str | int]:
    return {"path": str(path), "size": path.stat().st_size, "sha256": sha256_of_file(path)}


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # missing or damaged
        return None
    return found if isinstance(found, dict) else None


def _write_seal(path: Path) -> None:
    seal = _seal_of(path)
    try:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        seal.parent.mkdir(exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=seal.parent)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump(_describe(path), file)
            os.replace(beside, seal)
        finally:
            Path(beside).unlink(missing_ok=True)
    except OSError as error:  # a read-only or full cache: the text can be used all the same
        logger.info("%s is not sealed: %s", path, error)
