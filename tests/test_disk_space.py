"""A full disk is known by whatever a library raises, and named with its folder and what is free."""

import errno
import os
import pickle
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import safetensors.torch
import tokenizers
import torch

from hf_vanilla_transformer.model.disk_space import DiskFullError, full_disk, writing_to

resource = pytest.importorskip("resource", reason="needs a limit on the size of files")
LIMIT = 100_000
WORDS = [f"word{number}" for number in range(40_000)]


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """What a full disk does, by a limit of the system: a write comes short, then fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def save_arrow(folder: Path) -> None:
    rows = datasets.Dataset.from_dict({"text": WORDS})
    rows.map(lambda batch: batch, batched=True, cache_file_name=str(folder / "cache.arrow"))


def generate_arrow(folder: Path) -> None:
    datasets.Dataset.from_generator(lambda: ({"text": word} for word in WORDS), cache_dir=str(folder))


def save_tokenizer(folder: Path) -> None:
    model = tokenizers.models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="word0")
    tokenizers.Tokenizer(model).save(str(folder / "tokenizer.json"))


def copy(folder: Path) -> None:
    shutil.copyfile(folder.parent / "large", folder / "copy")


def save_to_open_file(folder: Path) -> None:
    with open(folder / "state.pt", "wb") as file:
        torch.save({"weights": torch.zeros(100_000)}, file)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "text": lambda folder: (folder / "text").write_text("word " * 100_000),
    "safetensors": lambda folder: safetensors.torch.save_file({"w": torch.zeros(100_000)}, folder / "w.safetensors"),
    "torch": lambda folder: torch.save({"w": torch.zeros(100_000)}, folder / "state.pt"),
    "torch, many": lambda folder: torch.save([torch.zeros(1000) for _ in range(100)], folder / "state.pt"),
    "torch, old": lambda folder: torch.save(
        torch.zeros(100_000), folder / "state.pt", _use_new_zipfile_serialization=False
    ),
    "torch, open file": save_to_open_file,
    "numpy": lambda folder: np.save(folder / "array.npy", np.zeros(100_000)),
    "tokenizer": save_tokenizer,
    "datasets, map": save_arrow,
    "datasets, generator": generate_arrow,
    "copy": copy,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_every_library_raises_is_one_sentence_with_folder_and_free_space(writer: str, tmp_path: Path):
    (tmp_path / "large").write_bytes(bytes(3 * LIMIT))
    folder = tmp_path / "inner"
    folder.mkdir()
    with no_file_larger_than(LIMIT), pytest.raises(DiskFullError) as full, writing_to(folder, "nothing is lost"):
        WRITERS[writer](folder)
    assert full.value.errno == errno.EFBIG
    assert full.value.filename == str(folder)
    message = str(full.value)
    assert message.startswith(f"{folder} does not allow a file of this size, with ")
    assert " free on its disk. Raise the limit (`ulimit -f`), or " in message
    assert message.endswith("; nothing is lost.")


# what libraries were seen to raise on a full disk, by their words
REPORTED: dict[str, Callable[[], BaseException]] = {
    "the system": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "a quota": lambda: OSError(errno.EDQUOT, "Disk quota exceeded"),
    "safetensors": lambda: Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    "an old torch": lambda: RuntimeError("write(): fd 3 failed with No space left on device"),
    "datasets, before it begins": lambda: OSError("Not enough disk space. Needed: 4.00 GB (download: 1.00 GB)"),
    "sqlite": lambda: sqlite3.OperationalError("database or disk is full"),
    "xet": lambda: RuntimeError("Data processing error: File I/O error: No space left on device (os error 28)"),
    "pyarrow": lambda: OSError(
        errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device"
    ),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("reported", REPORTED)
def test_a_cause_is_found_under_other_errors(reported: str, seed: int, tmp_path: Path):
    """However many errors it was raised from or while handling it."""
    chance = random.Random(f"{reported} {seed}")
    error = REPORTED[reported]()
    for _ in range(chance.randrange(4)):
        outer = chance.choice((RuntimeError, ValueError, KeyError))("while writing")
        setattr(outer, chance.choice(("__cause__", "__context__")), error)
        error = outer
    message = full_disk(error, tmp_path)
    assert message is not None
    how = "The quota on the disk of" if reported == "a quota" else "The disk of"
    assert message.startswith(f"{how} {tmp_path} is ")
    assert " MB free" in message or " GB free" in message


@pytest.mark.parametrize(
    "error",
    [
        ValueError("`d_model` (15) must be a multiple of 2."),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "corpus.txt"),
        PermissionError(errno.EACCES, "Permission denied", "/root"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),  # by itself: not sure
        RuntimeError("PytorchStreamReader failed reading zip archive: failed finding central directory"),
        OSError("100 requested and 50 written"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_mean_what_they_say(error: BaseException, tmp_path: Path):
    assert full_disk(error, tmp_path) is None
    with pytest.raises(type(error)) as same, writing_to(tmp_path):
        raise error
    assert same.value is error


def refuse_in(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As if the disk of `folder`, and no other, were full."""
    make = tempfile.TemporaryFile

    def refuse(*args: Any, **kwargs: Any) -> Any:
        if Path(kwargs["dir"]).absolute() == folder:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return make(*args, **kwargs)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)


def test_the_folder_that_is_full_is_named_and_not_the_one_that_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A full temporary folder or cache, while the run's own disk has room."""
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    other.mkdir()
    error = OSError(errno.ENOSPC, "No space left on device")
    remedies = {
        "TMPDIR": "set TMPDIR to",
        "HF_HOME": "set HF_HOME to",
        "HF_DATASETS_CACHE": "set HF_DATASETS_CACHE to",
    }
    for variable, remedy in remedies.items():
        with monkeypatch.context() as patch:
            patch.setenv(variable, str(other))
            refuse_in(patch, other)
            message = str(full_disk(error, run))
        assert message.startswith(f"The disk of {other} is full: ")
        assert remedy in message
    with monkeypatch.context() as patch:
        patch.setenv("TMPDIR", str(other))
        refuse_in(patch, other)
        nowhere = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
        assert str(full_disk(nowhere, run)).startswith(f"The disk of {other} is full: ")


def test_a_named_file_names_its_folder(tmp_path: Path):
    """One that was given, if the file is inside; of a copy the place where it goes."""
    inner = tmp_path / "run" / ".writing"
    inner.mkdir(parents=True)
    error = OSError(errno.ENOSPC, "No space left on device", str(inner / "a" / "b"))
    assert str(full_disk(error)).startswith(f"The disk of {inner} is full: ")
    assert str(full_disk(error, tmp_path / "run")).startswith(f"The disk of {tmp_path / 'run'} is full: ")
    copied = OSError(errno.ENOSPC, "No space left on device", "/etc/hosts", None, str(inner / "a"))
    assert str(full_disk(copied)).startswith(f"The disk of {inner} is full: ")
    shared = RuntimeError("unable to write to file </torch_17_3>: No space left on device (28)")
    assert full_disk(shared) is not None


def test_a_disk_that_nobody_names_is_a_disk():
    """All that are known here take more."""
    message = full_disk(OSError(errno.ENOSPC, "No space left on device"))
    assert message == (
        "A disk is full (No space left on device), and the library does not say which. Free some space."
    )


def test_no_room_for_one_more_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    disk = os.statvfs(tmp_path)
    full = type("Disk", (), {"f_files": 1000, "f_favail": 0, "f_bavail": disk.f_bavail, "f_frsize": disk.f_frsize})
    full.f_blocks, full.f_bfree = disk.f_blocks, disk.f_bfree
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    assert "free but no room for one more file" in str(full_disk(OSError(errno.ENOSPC, "full", str(tmp_path))))


def test_the_first_finding_stands(tmp_path: Path):
    """What was found inside is not found again outside, and goes through a process's pipe as it is."""
    with pytest.raises(DiskFullError) as outer, writing_to("/"), writing_to(tmp_path, "all is well"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert outer.value.filename == str(tmp_path)
    assert full_disk(ValueError("over it"), "/") is None
    again = pickle.loads(pickle.dumps(outer.value))
    assert str(again) == str(outer.value) == full_disk(outer.value, "/")
