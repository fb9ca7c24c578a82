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
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model.manifest import sha256_of_file

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

SEALS = "seals"


def load_prepared(*arguments: Any, **options: Any) -> Dataset:
    """`load_dataset`, with what it prepared earlier made again, and a line that says so, if that is damaged.

    Raises:
        OSError, ValueError: as of `load_dataset`.
    """
    from datasets import DownloadMode, load_dataset
    from pyarrow import ArrowInvalid

    problem = ""
    try:
        dataset = load_dataset(*arguments, **options)
    except json.JSONDecodeError:
        if not _drop_unreadable_infos():
            raise
        dataset = load_dataset(*arguments, **options)
    except (ArrowInvalid, OSError) as error:
        damaged = _all_changed_files() if type(error) in (ArrowInvalid, OSError, FileNotFoundError) else []
        if not damaged and type(error) is not ArrowInvalid:
            raise
        problem = f"{', '.join(map(str, damaged)) or arguments[0]} cannot be read ({error})"
    else:
        problem = ", ".join(f"{path} is not what it was" for path in _changed_files(dataset))
    if problem:
        logger.warning("Of the cached text %s; it is made again.", problem)
        dataset = load_dataset(*arguments, download_mode=DownloadMode.REUSE_CACHE_IF_EXISTS, **options)
        _forget_seals(dataset)
    _seal_files(dataset)
    return dataset


def _changed_files(dataset: Dataset) -> list[Path]:
    """Files that `datasets` prepared and that are not what was sealed; the user's own are never among them."""
    return [path for path in _prepared_files(dataset) if _read_seal(path) not in (None, _describe(path))]


def _all_changed_files() -> list[Path]:
    """The same among all files that were ever sealed, for when `datasets` does not say what it cannot read."""
    from datasets import config

    seals = (Path(config.HF_DATASETS_CACHE) / SEALS).glob("*.json")
    paths = [Path(seal["path"]) for seal in map(_read_json, seals) if seal is not None]
    paths = [path for path in paths if path.parent.exists()]  # else all of it was taken away
    return [path for path in paths if not path.exists() or _read_seal(path) != _describe(path)]


def _seal_files(dataset: Dataset) -> None:
    """Have the files that `datasets` prepared on the disk, and keep their size and SHA-256, if nobody has yet."""
    for path in _prepared_files(dataset):
        if _read_seal(path) is None:
            _write_seal(path)


def _forget_seals(dataset: Dataset) -> None:
    """The files are about to be made again, or were."""
    for path in _prepared_files(dataset):
        _seal_of(path).unlink(missing_ok=True)


def _drop_unreadable_infos() -> bool:
    """Take away what `datasets` prepared and cannot describe any more, which it would never do itself."""
    from datasets import config

    dropped = False
    for info in list(Path(config.HF_DATASETS_CACHE).rglob("dataset_info.json")):
        if _read_json(info) is None:
            logger.warning("Of the cached text %s is damaged; it is made again.", info)
            shutil.rmtree(info.parent)
            dropped = True
    return dropped


def _prepared_files(dataset: Dataset) -> list[Path]:
    from datasets import config

    files = (Path(file["filename"]) for file in dataset.cache_files)
    return [path for path in files if path.is_relative_to(config.HF_DATASETS_CACHE)]


def _seal_of(path: Path) -> Path:
    from datasets import config

    return Path(config.HF_DATASETS_CACHE) / SEALS / f"{blake2b(os.fsencode(path), digest_size=16).hexdigest()}.json"


def _describe(path: Path) -> dict[str, Any]:
    return {"path": str(path), "size": path.stat().st_size, "sha256": sha256_of_file(path)}


def _read_seal(path: Path) -> Any:
    return _read_json(_seal_of(path))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # none, or a damaged one
        return None


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
