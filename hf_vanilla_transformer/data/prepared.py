"""What `datasets` reads from the Hub or a folder and keeps prepared, sealed when it is first seen.

`datasets` takes what it prepared earlier as it finds it: a flipped bit there is other text, and a file cut short an
error that names none. The seals, size and SHA-256 of each file, lie in a folder of their own in its cache.
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
    """`load_dataset`, with what it prepared earlier made again, and a line that says so, if that is damaged.

    Raises:
        OSError, ValueError: as of `load_dataset`.
    """
    from datasets import DownloadMode, load_dataset
    from pyarrow import ArrowInvalid

    try:
        dataset = load_dataset(*arguments, **options)
    except Exception as error:  # of any kind, for an info that lacks a letter says anything
        damaged = [*_damaged_somewhere(), *_unreadable_infos()]
        if not damaged and not isinstance(error, ArrowInvalid):
            raise
        problem = f"{', '.join(map(str, damaged)) or arguments[0]} cannot be read ({error})"
    else:
        damaged = [path for path in _prepared_files(dataset) if _is_changed(path)]
        problem = ", ".join(f"{path} is not what it was" for path in damaged)
    if problem:
        logger.warning("Of the cached text %s; it is made again.", problem)
        for folder in {path.parent for path in damaged if path.name == INFO}:
            shutil.rmtree(folder)  # it would be read once more before it is written
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
    """Whether a file is not what was sealed; one without seal is what it is."""
    seal = _read_json(_seal_of(path))
    return seal is not None and seal != _describe(path)


def _damaged_somewhere() -> list[Path]:
    """Sealed files that differ, where `datasets` does not say what it cannot read; long ones by their size."""
    from datasets import config

    seals = map(_read_json, (Path(config.HF_DATASETS_CACHE) / SEALS).glob("*.json"))
    sealed = {
        Path(seal["path"]): seal["size"] for seal in seals if seal is not None and {"path", "size"} <= seal.keys()
    }
    there = {path: size for path, size in sealed.items() if path.parent.exists()}  # else all of it was taken away
    return [
        path
        for path, size in there.items()
        if not path.exists() or path.stat().st_size != size or (size < SHORT and _is_changed(path))
    ]


def _unreadable_infos() -> list[Path]:
    """What `datasets` says of what it prepared, where that is no JSON; it would never make it again itself."""
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
    except (OSError, ValueError, RecursionError):  # none, or a damaged one
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
    except OSError as error:  # a cache that others filled, or a full one: the text is there all the same
        logger.info("%s is not sealed: %s", path, error)
