"""Tables in the cache of `datasets`: complete or absent, verified when opened, and rebuilt if damaged.

Each table has its own folder, sealed like a model folder: its manifest holds size and SHA-256. If several processes
need the same table at once, one writes it while the others wait. For tables that `datasets` itself prepares, see
`prepared`.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model.manifest import damaged_files, read_manifest
from ..model.whole_folders import sealed_folder
from .text import no_pairs

if TYPE_CHECKING:
    from datasets import Dataset, Features

logger = logging.getLogger(__name__)

TABLE = "table.arrow"
CACHE_VERSION = 2  # increase it when the same bytes shall give different pairs
PAIRS_TOGETHER = 10_000
NO_LOCKS = (None, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # errors of file systems without locks


def cached_table(kind: str, name: str, write: Callable[[Path], object]) -> Dataset:
    """Open a table in the cache, memory-mapped; write it first if it is missing or damaged.

    Args:
        kind: subfolder of the cache.
        name: identifies the content: the same name means the same rows.
        write: writes the Arrow file to a given path.

    Raises:
        OSError: the cache cannot be written; the message gives the folder and its free space.
    """
    from datasets import Dataset, config

    folder = Path(config.HF_DATASETS_CACHE) / kind / name
    if _what_is_wrong(folder) is not None:
        try:
            _make(folder, write)
        except OSError as error:
            if _what_is_wrong(folder) is not None:  # otherwise another process has written it in the meantime
                raise explained(error) from error
    return Dataset.from_file(str(folder / TABLE))


def cached_pairs(content: str, pairs: Iterable[tuple[str, str]], origin: str) -> Dataset:
    """The cached table of text pairs, with columns `source` and `target`.

    Args:
        content: identifies the content of the files that the pairs come from.
        pairs: the pairs; read only if there is no such table yet.
        origin: the files, for messages.

    Raises:
        OSError: as in `cached_table`.
        ValueError: there are no pairs, or the text holds half of a surrogate pair.
    """
    name = blake2b(f"{CACHE_VERSION} {content}".encode(), digest_size=16).hexdigest()
    return cached_table("parallel_text", name, lambda path: _write_pairs(path, iter(pairs), origin))


def _write_pairs(path: Path, pairs: Iterator[tuple[str, str]], origin: str) -> None:
    from datasets import Features, Value
    from datasets.arrow_writer import ArrowWriter

    rows = 0
    with ArrowWriter(features=Features(source=Value("string"), target=Value("string")), path=str(path)) as writer:
        while batch := list(islice(pairs, PAIRS_TOGETHER)):
            source, target = (list(side) for side in zip(*batch, strict=True))
            try:
                writer.write_batch({"source": source, "target": target})
            except UnicodeEncodeError:
                raise ValueError(
                    f"Text must be made of whole characters, but among rows {rows + 1:,} to {rows + len(batch):,} of "
                    f"{origin} one holds half of a surrogate pair, such as \\ud800. Repair or remove it."
                ) from None
            rows += len(batch)
        if not rows:
            raise no_pairs(origin)
        writer.finalize()


def cached_map(
    dataset: Dataset, function: Callable[..., Any], features: Features, desc: str, **arguments: Any
) -> Dataset:
    """Batched `Dataset.map` that stores the result as a cached table, for a dataset on disk.

    Args:
        dataset: the input; for a dataset in memory, the result stays in memory.
        function: takes a batch and the arguments, returns the new or changed columns.
        features: features of the result.
        desc: label of the progress bar.
        arguments: further arguments of `function`; with function and dataset, they identify the table.

    Raises:
        OSError: as in `cached_table`.
    """
    from datasets import is_caching_enabled
    from datasets.fingerprint import update_fingerprint

    options: dict[str, Any] = {"batched": True, "fn_kwargs": arguments, "features": features, "desc": desc}
    if not dataset.cache_files or not is_caching_enabled():
        return dataset.map(function, **options)
    name = update_fingerprint(dataset._fingerprint, function, {**arguments, "features": features})

    def write(path: Path) -> None:
        dataset.map(function, cache_file_name=str(path), load_from_cache_file=False, **options)

    return cached_table("mapped_text", name, write)


def _what_is_wrong(folder: Path) -> str | None:
    """Why a folder in the cache is unusable, or None if it is sound."""
    try:
        manifest = read_manifest(folder)
        if manifest is None or TABLE not in manifest["files"]:
            return "it was not written completely"
        return next(iter(damaged_files(folder)), None)
    except (OSError, ValueError, RecursionError) as error:
        return str(error)


def _make(folder: Path, write: Callable[[Path], object]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder) as is_alone:
        problem = _what_is_wrong(folder)
        if problem is None:
            return
        if folder.exists():
            logger.warning("The cached text in %s is damaged (%s); it is rebuilt.", folder, problem)
            shutil.rmtree(folder)
        for left_over in (
            folder.parent.glob(f".{folder.name}.*.tmp") if is_alone else ()
        ):  # of a process that was killed
            shutil.rmtree(left_over, ignore_errors=True)
        with sealed_folder(folder) as beside:
            write(beside / TABLE)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Lock a folder; yields whether its file system supports locks."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("Another process is writing %s; waiting for it.", folder)
        lock.acquire()
    except (NotImplementedError, OSError) as error:
        if getattr(error, "errno", None) not in NO_LOCKS:
            raise
        yield False  # each process writes a temporary folder, and the first one to finish is kept
        return
    try:
        yield True
    finally:
        lock.release()


def explained(error: OSError) -> OSError:
    """Add the cache folder and its free space to an error about the cache; return other errors unchanged."""
    from datasets import config

    root = Path(config.HF_DATASETS_CACHE)
    inside = error.filename is None or Path(error.filename).is_relative_to(root)
    if error.errno is None or not inside:
        return error
    found = OSError(
        f"Text is kept in the cache of datasets, but {root} cannot be written: {os.strerror(error.errno)} "
        f"({_free_space(root)}). Make room there, or set HF_DATASETS_CACHE to another folder."
    )
    found.errno = error.errno  # for callers that check it
    return found


def _free_space(root: Path) -> str:
    there = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    return f"{shutil.disk_usage(there).free / 1e9:,.1f} GB free"
