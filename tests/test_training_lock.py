"""A run's folder is one process's: a second start is refused, a killed one leaves no lock."""

import contextlib
import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash_driver import WORDS, options_of

from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.training import run_lock
from hf_vanilla_transformer.training.run_lock import LOCK_NAME, RunInUseError, locked_run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Parallel text beside the folder of a run."""
    for side, words in WORDS.items():
        lines = [f"{word} {number}\n" for number in range(12) for word in words]
        (tmp_path / f"text.{side}").write_text("".join(lines), encoding="utf-8")
    return tmp_path


@pytest.fixture
def other() -> Iterator[Callable[[Path], int]]:
    """Another process that holds the lock of a folder until it is killed."""
    children: list[int] = []

    def hold(run: Path) -> int:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                with locked_run(run):
                    os.write(writing, b"locked")
                    signal.pause()
            finally:
                os._exit(1)
        children.append(child)
        os.close(writing)
        assert os.read(reading, 6) == b"locked"
        os.close(reading)
        return child

    yield hold
    for child in children:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(1))
def test_whoever_trains_is_alone_and_who_was_killed_blocks_nobody(seed: int, tmp_path: Path):
    """Second starts at any write of a living run, starts at once, kills before a checkpoint: real processes."""
    driver = Path(__file__).parent / "support" / "lock_driver.py"
    done = subprocess.run(
        [sys.executable, str(driver), str(tmp_path), str(seed)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.strip().split("\n")[-1])
    assert len(report) >= 7
    assert {case: problem for case, problem in report.items() if problem} == {}


def test_a_killed_process_holds_no_lock(tmp_path: Path, other: Callable[[Path], int]):
    """What it leaves is a file with its name in it, which is in nobody's way and is gone after the next."""
    holder = other(tmp_path)
    with pytest.raises(RunInUseError, match=f"process {holder} on .*, since 20"), locked_run(tmp_path):
        pass
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == holder
    with locked_run(tmp_path), locked_run(tmp_path):  # once for the run, once more for its trainer
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_outlives_its_parent_holds_no_lock(tmp_path: Path):
    """As the worker of a DataLoader, or of `datasets`."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        with locked_run(tmp_path):
            child = os.fork()
            if child == 0:
                signal.pause()
            os.write(writing, str(child).encode())
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    child = int(os.read(reading, 20))
    try:
        os.kill(child, 0)
        with locked_run(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EIO])
def test_storage_without_locks_is_said_once_and_used(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(run_lock.fcntl, "flock", refuse)
    (tmp_path / LOCK_NAME).write_text('{"pid": 7, "host": "elsewhere", "since": "noon"}')
    with caplog.at_level(logging.WARNING), locked_run(tmp_path), locked_run(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]
    (record,) = caplog.records
    assert f"The storage of {tmp_path} cannot lock files ({os.strerror(number)})" in record.getMessage()
    assert "(run.lock names one: process 7 on elsewhere, since noon). Make sure that there is none." in caplog.text


def test_a_folder_that_was_made_for_a_lock_alone_goes_with_it(tmp_path: Path):
    with locked_run(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / LOCK_NAME).is_file()
    assert list(tmp_path.iterdir()) == []
    with locked_run(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "run.yaml").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["run.yaml"]


def test_a_run_that_lives_may_be_read(text: Path, other: Callable[[Path], int], capfd):
    """`average` and `curves` need no lock."""
    run = text / "run"
    assert main(["train", *options_of(run)]) == 0
    other(run)
    assert main(["average", "--checkpoints", str(run), "--last", "2", "--output", str(text / "mean")]) == 0
    assert main(["curves", "--run", str(run)]) == 0
    assert not (text / "mean" / LOCK_NAME).exists()
    capfd.readouterr()


def test_an_error_before_the_first_step_says_what_to_change_and_blocks_nothing(text: Path, capfd):
    run = text / "run"
    for options, problem in ((["--d_model", "15"], "`d_model` (15)"), (["--max_tokens", "3"], "must fit the budget")):
        assert main(["train", *options_of(run), *options]) == 1
        *_, error, last = capfd.readouterr().err.strip().split("\n")
        assert problem in (error if (run / "run.yaml").exists() else last)
        assert not (run / "run.yaml").exists() or last == (
            "No checkpoint was written yet: fix the error above, and start again in the same folder."
        )
    assert main(["train", *options_of(run)]) == 0


def test_ctrl_c_before_the_first_step_says_how_to_begin_again(text: Path, monkeypatch: pytest.MonkeyPatch, capfd):
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    run = text / "run"
    monkeypatch.setattr("hf_vanilla_transformer.training.run.encode_training_text", interrupt)
    assert main(["train", *options_of(run)]) == 130
    lines = capfd.readouterr().err.strip().split("\n")
    assert lines[-2:] == [
        "vanilla-transformer train: interrupted.",
        "No checkpoint was written yet: start again with the same command.",
    ]
    monkeypatch.undo()
    assert main(["train", *options_of(run)]) == 0
