"""Kill training at every file it writes, resume it, and compare with the run that nobody killed.

Started by `test_training_crash.py` as a process of its own, which imports everything once and forks a child for each
run: a child can be killed as only the system kills.
Prints a JSON line: the kills that were tried, and for each that went wrong, how.
"""

import gc
import hashlib
import json
import os
import shlex
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from transformers import modeling_utils

from hf_vanilla_transformer import cli
from hf_vanilla_transformer.training.checkpoints import checkpoints_of, what_is_wrong
from hf_vanilla_transformer.training.recipes import parse_settings
from hf_vanilla_transformer.training.run import run_training

WORDS = {"fr": ("merci", "le chat dort", "la petite maison"), "en": ("thanks", "the cat sleeps", "the little house")}


KILLED = 8
"""Every so many of the runs is really killed."""


def in_child(action: Callable[[], None], errors: Path) -> int:
    """Run in a forked process; its wait status."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except BaseException:
            errors.write_text(traceback.format_exc())
            os._exit(1)
    return os.waitpid(child, 0)[1]


def options_of(run: Path) -> list[str]:
    """Five steps, the last in the middle of the third epoch, a checkpoint every two; all that is random is on."""
    text = run.parent / "text"
    return [
        *("--output_dir", str(run), "--train_source", f"{text}.fr", "--train_target", f"{text}.en"),
        *("--vocab_size", "290", "--d_model", "16", "--encoder_layers", "1", "--decoder_layers", "1"),
        *("--encoder_attention_heads", "2", "--decoder_attention_heads", "2", "--encoder_ffn_dim", "32"),
        *("--decoder_ffn_dim", "32", "--dropout", "0.3", "--max_steps", "5", "--max_tokens", "300"),
        *("--warmup_steps", "3", "--save_strategy", "steps", "--save_steps", "2", "--logging_steps", "1"),
        *("--precision", "fp32", "--use_cpu", "--report_to", "none", "--disable_tqdm", "true"),
    ]


def train(run: Path, resume: bool = False) -> None:
    """The run, or what is left of it."""
    run_training(parse_settings(None, options_of(run)), resume)


def ready_to_fork(base: Path) -> None:
    """Import all that a run does, by a run; no child looks for garbage among that."""
    train(base / "imported")
    gc.collect()
    gc.freeze()


def result(run: Path) -> str:
    """What must be equal: every logged loss and rate, and the weights."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().split("\n") if line]
    numbers = [(line["step"], line["loss"], line["learning_rate"]) for line in lines if "loss" in line]
    return f"{numbers} {hashlib.sha256((run / 'model.safetensors').read_bytes()).hexdigest()}"


def watch_writes(run: Path, on_write: Callable[[str], None]) -> None:
    """Call `on_write` before each file of the run is opened for writing, moved or deleted."""
    inside = str(run)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        path = str(arguments[0]) if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir") else ""
        if not path.startswith(inside):
            return
        if event != "open" or (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            on_write(f"{event} {path[len(inside) + 1 :]}")

    sys.addaudithook(hook)
    save = safetensors.torch.save_file

    def save_weights(tensors: Any, filename: Any, *args: Any, **kwargs: Any) -> None:
        # the library's own writes raise no audit events; what it leaves when it is killed is a hidden part of the file
        stray = Path(filename).parent / ".tmpA1b2C3"
        stray.write_bytes(b"half of the weights")
        on_write(f"weights {Path(filename).name}")
        stray.unlink()
        save(tensors, filename, *args, **kwargs)

    modeling_utils.safe_save_file = save_weights


def killing(run: Path, at: int, resume: bool = False) -> Callable[[], None]:
    """A run that kills itself before its write number `at`."""
    count = iter(range(1_000_000))

    def action() -> None:
        watch_writes(run, lambda _: os.kill(os.getpid(), signal.SIGKILL) if next(count) == at else None)
        train(run, resume)

    return action


def list_writes(base: Path) -> list[str]:
    """All writes of a whole run, in order."""
    run, listing = base / "listed", base / "listing"

    def action() -> None:
        writes: list[str] = []
        watch_writes(run, writes.append)
        train(run)
        listing.write_text("\n".join(writes))

    assert in_child(action, base / "errors") == 0, (base / "errors").read_text()
    return listing.read_text().split("\n")


def choose(writes: list[str]) -> Iterator[int]:
    """Each file once: when the second checkpoint or the final model writes it; and a few of the first checkpoint."""
    first_save = next(n for n, write in enumerate(writes) if "checkpoint-2" in write)
    yield from range(first_save, first_save + 9, 4)
    seen: set[str] = set()
    for number, write in enumerate(writes):
        if write.endswith(".py") and "modeling" not in write:  # of the files of code one is as good as another
            continue
        if ("checkpoint-4" in write or ".writing/model" in write or "checkpoint" not in write) and write not in seen:
            seen.add(write)
            if number > first_save:
                yield number


def keep_states(base: Path, numbers: list[int]) -> None:
    """Copy the folder of one run before each of these writes: what a kill there would leave."""

    def action() -> None:
        run, count = base / "copied", iter(range(1_000_000))

        def copy(_: str) -> None:
            number = next(count)
            if number in numbers:
                shutil.copytree(run, base / f"run{number}")

        watch_writes(run, copy)
        train(run)

    assert in_child(action, base / "errors") == 0, (base / "errors").read_text()


def kill(base: Path, number: int) -> str | None:
    """Kill a run before a write."""
    errors = base / "errors"
    status = in_child(killing(base / f"run{number}", number), errors)
    if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        return f"was not killed ({status}): {errors.read_text() if errors.exists() else ''}"
    return None


def problem_of(base: Path, number: int, reference: str) -> str | None:
    """Look at what a kill left, resume, compare."""
    run, errors = base / f"run{number}", base / "errors"
    broken = [str(folder) for folder in checkpoints_of(run) if what_is_wrong(folder) is not None]
    if broken:
        return f"left broken checkpoints: {broken}"
    has_checkpoint = bool(checkpoints_of(run))
    if has_checkpoint or not any(run.iterdir()):
        status = in_child(lambda: train(run, resume=has_checkpoint), errors)
    else:
        status = in_child(lambda: train(run), errors)
    if status != 0:
        return f"did not go on: {errors.read_text()}"
    strays = [path.name for path in [*run.rglob(".*"), *run.glob("*.lock")]]
    if strays or what_is_wrong(run) is not None:
        return f"left {strays}; {what_is_wrong(run)}"
    return None if result(run) == reference else f"ended elsewhere: {result(run)} instead of {reference}"


def problem_after_signal(base: Path, number: int, reference: str) -> str | None:
    """The command gets a signal while it logs step 3, stops with a checkpoint, and goes on by its last line."""
    run, output = base / f"signal{number}", base / f"stderr{number}"

    def interrupted() -> None:
        opened = iter(range(1_000_000))

        def on_write(write: str) -> None:
            if write == "open metrics.jsonl" and next(opened) == 2:
                os.kill(os.getpid(), number)

        watch_writes(run, on_write)
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), 2)
        os._exit(cli.main(["train", *options_of(run)]))

    status = in_child(interrupted, base / "errors")
    if os.waitstatus_to_exitcode(status) != 128 + number:
        return f"exit code {os.waitstatus_to_exitcode(status)}: {output.read_text()[-2000:]}"
    names = [folder.name for folder in checkpoints_of(run)]
    if names not in (["checkpoint-2", "checkpoint-3"], ["checkpoint-2", "checkpoint-4"]):
        return f"left {names}"
    last_line = output.read_text().strip().split("\n")[-1]
    command = last_line.rpartition("Continue with: vanilla-transformer ")[2]
    status = in_child(lambda: os._exit(cli.main(shlex.split(command))), base / "errors")
    if status != 0:
        return f"did not go on by {last_line!r}"
    return None if result(run) == reference else f"ended elsewhere: {result(run)} instead of {reference}"


def main(base: Path) -> None:
    """All kills."""
    torch.set_num_threads(1)
    for side, words in WORDS.items():
        lines = [f"{word} {number}\n" for number in range(12) for word in words]
        (base / f"text.{side}").write_text("".join(lines), encoding="utf-8")
    ready_to_fork(base)
    writes = list_writes(base)
    reference = result(base / "listed")
    tried = list(choose(writes))
    killed = tried[::KILLED]  # the others are copied, which takes half the time
    keep_states(base, [number for number in tried if number not in killed])
    problems = {
        writes[number]: (kill(base, number) if number in killed else None) or problem_of(base, number, reference)
        for number in tried
    }
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        problems[number.name] = problem_after_signal(base, number, reference)
    wrong = {write: problem for write, problem in problems.items() if problem}
    sys.stdout.write(json.dumps({"tried": [writes[number] for number in tried], "wrong": wrong}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
