"""Start runs in folders where others live, were killed or had no room, and look whether each is alone and whole.

Started by `test_training_lock.py` as a process of its own, which imports everything once and forks a child for each
run. Arguments: a folder to work in, a seed. Prints a JSON line: for each case what went wrong, or null.
"""

import fcntl
import json
import os
import random
import resource
import select
import signal
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import torch
from crash_driver import WORDS, list_writes, options_of, ready_to_fork, result, watch_writes

from hf_vanilla_transformer import cli
from hf_vanilla_transformer.training.checkpoints import checkpoints_of, what_is_wrong


def fork(action: Callable[[], object], output: Path) -> int:
    """Start a child whose output goes to a file; its process."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            for number in (1, 2):
                os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
            code = int(action() or 0)
        finally:
            sys.stdout.flush()
            os._exit(code)
    return child


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def command(*options: str) -> Callable[[], int]:
    return lambda: cli.main(["train", *options])


def started_while(signal_number: int, run: Path, at: int, output: Path, options: list[str]) -> int:
    """A child that trains, and gives itself a signal before its write number `at`."""
    count = iter(range(1_000_000))

    def action() -> int:
        watch_writes(run, lambda _: os.kill(os.getpid(), signal_number) if next(count) == at else None)
        return cli.main(["train", *options])

    return fork(action, output)


def what_is_there(run: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in run.rglob("*")}


def problem_of_folder(run: Path) -> str | None:
    wrong = {folder.name: what_is_wrong(folder) for folder in (run, *checkpoints_of(run))}
    left = [path.name for path in [*run.rglob(".*"), *run.glob("*.lock")]]
    return f"{wrong}, left {left}" if left or any(wrong.values()) else None


def second_starts(base: Path, at: int, chance: random.Random, reference: str) -> str | None:
    """A run is stopped before a write; a start, a resume and another seed come to nothing and harm nothing."""
    run = base / f"second{at}"
    first = started_while(signal.SIGSTOP, run, at, base / "first", options_of(run))
    status = os.waitpid(first, os.WUNTRACED)[1]
    if not os.WIFSTOPPED(status):
        return f"did not stop ({status})"
    before = what_is_there(run)
    others = ([], ["--resume"], ["--seed", str(chance.randrange(1000))])
    for number, options in enumerate(others):
        output = base / f"other{at}-{number}"
        code = exit_code(fork(command(*options_of(run), *options), output))
        last = output.read_text().strip().split("\n")[-1]
        told = f"Another process is training in {run}: process {first} on " in last and "Wait until it ends" in last
        if code != 1 or not told:
            os.kill(first, signal.SIGKILL)
            return f"{options}: exit code {code}, {last!r}"
    untouched = what_is_there(run) == before
    os.kill(first, signal.SIGCONT)
    code = exit_code(first)
    if code != 0 or not untouched:
        return f"the first ended with {code}, its files {'' if untouched else 'not '}as they were"
    return problem_of_folder(run) or (None if result(run) == reference else "another result")


def many_at_once(base: Path, chance: random.Random) -> str | None:
    """Starts and resumes at the same time, one of them killed: whoever trains is alone."""
    run, output = base / "many", base / "many.log"
    writes = chance.randrange(5, 30)
    options = [options_of(run) + (["--resume"] if chance.random() < 0.3 else []) for _ in range(3)]
    killed = started_while(signal.SIGKILL, run, writes, output, options_of(run))
    codes = [exit_code(child) for child in [*(fork(command(*each), output) for each in options), killed]]
    code = exit_code(fork(command(*options_of(run), *(["--resume"] if checkpoints_of(run) else [])), output))
    if code != 0 and what_is_wrong(run) is not None:
        return f"exit codes {codes} and {code}: {output.read_text()[-2000:]}"
    if "Traceback" in output.read_text() or not set(codes) <= {0, 1, -9}:
        return f"exit codes {codes}: {output.read_text()[-2000:]}"
    return problem_of_folder(run)


def killed_before_a_checkpoint(base: Path, at: int, reference: str) -> str | None:
    """`--resume` says what to do, and the same command does it."""
    run, output = base / f"killed{at}", base / f"killed{at}.log"
    code = exit_code(started_while(signal.SIGKILL, run, at, output, options_of(run)))
    if code != -signal.SIGKILL:
        return f"ended with {code}"
    output = base / f"resumed{at}.log"
    code = exit_code(fork(command("--resume", "--output_dir", str(run)), output))
    told = "no complete checkpoint" in output.read_text() and "Start without `--resume`" in output.read_text()
    if code != 1 or not told or "Continue with" in output.read_text():
        return f"--resume: {code}, {output.read_text()[-1000:]}"
    code = exit_code(fork(command(*options_of(run)), output))
    if code != 0:
        return f"the same command: {code}, {output.read_text()[-1000:]}"
    return problem_of_folder(run) or (None if result(run) == reference else "another result")


def killed_while_the_model_appears(base: Path, chance: random.Random) -> str | None:
    """Without any checkpoint: sealed before its first file is in place, the model needs no step more."""
    run, output = base / "cut", base / "cut.log"
    options = [*options_of(run), "--save_strategy", "no"]
    moves = iter(range(1_000_000))
    at = chance.randrange(8)

    def action() -> int:
        def on_write(write: str) -> None:
            if write.startswith("os.rename .writing/model/") and "/." not in write[25:] and next(moves) == at:
                os.kill(os.getpid(), signal.SIGKILL)

        watch_writes(run, on_write)
        return cli.main(["train", *options])

    code = exit_code(fork(action, output))
    if code != -signal.SIGKILL or what_is_wrong(run) is None:
        return f"was not cut ({code}): {output.read_text()[-1000:]}"
    again = exit_code(fork(command(*options), output))
    resumed = exit_code(fork(command("--resume", "--output_dir", str(run)), output))
    told = "already holds a run" in output.read_text() and "is finished" in output.read_text()
    if (again, resumed) != (1, 0) or not told:
        return f"{again}, {resumed}: {output.read_text()[-1000:]}"
    return problem_of_folder(run)


def no_room(base: Path, chance: random.Random, reference: str) -> str | None:
    """No file may get larger than some size: the last lines say so and how to go on, and that is how it goes on."""
    size = chance.choice((2_000, 10_000, 30_000, 60_000))
    run, output = base / f"no room {size}", base / f"no room {size}.log"

    def action() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        return cli.main(["train", *options_of(run)])

    code = exit_code(fork(action, output))
    said = output.read_text().strip().split("\n")
    told = any(f"error: {run} does not allow a file of this size, with " in line for line in said[-2:])
    if code != 1 or not told or "Traceback" in output.read_text():
        return f"{size} bytes: {code}, {said[-3:]}"
    broken = [folder.name for folder in checkpoints_of(run) if what_is_wrong(folder) is not None]
    code = exit_code(fork(command(*options_of(run), *(["--resume"] if checkpoints_of(run) else [])), output))
    if code != 0 or broken:
        return f"{size} bytes: then {code}, {broken}, {output.read_text()[-1000:]}"
    return problem_of_folder(run) or (None if result(run) == reference else "another result")


def ignored_hangup(base: Path, reference: str) -> str | None:
    """Under `nohup` a lost terminal ends nothing."""
    run = base / "nohup"

    def action() -> int:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

        def on_write(write: str) -> None:
            if write == "open metrics.jsonl":
                os.kill(os.getpid(), signal.SIGHUP)

        watch_writes(run, on_write)
        return cli.main(["train", *options_of(run)])

    code = exit_code(fork(action, base / "nohup.log"))
    return None if code == 0 and result(run) == reference else f"ended with {code}"


def lost_terminal(base: Path) -> str | None:
    """A terminal that is closed takes no more lines and sends SIGHUP: a checkpoint is there all the same."""
    run = base / "terminal"
    ours, terminal = os.openpty()
    options = [option for option in options_of(run) if option not in ("--disable_tqdm", "true")]
    validation = [option.replace("--train_", "--validation_") for option in options[2:6]]
    more = ["--max_steps", "5000", "--save_steps", "5000", "--eval_strategy", "steps", "--eval_steps", "1"]

    def action() -> int:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        os.close(ours)
        os.dup2(terminal, 1)
        os.dup2(terminal, 2)
        return cli.main(["train", *options, *validation, *more])

    child = fork(action, base / "terminal.log")
    os.close(terminal)
    shown = b""
    while not (run / "metrics.jsonl").exists():
        try:
            if select.select([ours], [], [], 0.005)[0]:
                shown += os.read(ours, 4096)
        except OSError:  # nobody writes there any more
            return f"ended before the terminal was lost: {shown[-500:].decode(errors='replace')}"
    os.close(ours)
    code, names = exit_code(child), [folder.name for folder in checkpoints_of(run)]
    return None if code == 128 + signal.SIGHUP and len(names) == 1 else f"ended with {code} and {names}"


def main(base: Path, seed: int) -> None:
    """All cases."""
    torch.set_num_threads(1)
    for side, words in WORDS.items():
        lines = [f"{word} {number}\n" for number in range(12) for word in words]
        (base / f"text.{side}").write_text("".join(lines), encoding="utf-8")
    chance = random.Random(seed)
    ready_to_fork(base)
    writes = list_writes(base)
    reference = result(base / "listed")
    first_save = next(number for number, write in enumerate(writes) if "checkpoint-2" in write)
    begun = next((number for number, write in enumerate(writes) if write.endswith("run.lock")), 0) + 1
    report: dict[str, str | None] = {}
    for at in (chance.randrange(begun, first_save), chance.randrange(first_save, len(writes))):
        report[f"second starts at {writes[at]}"] = second_starts(base, at, chance, reference)
    for at in (0, *chance.sample(range(1, first_save), 3)):
        report[f"killed at {writes[at]}"] = killed_before_a_checkpoint(base, at, reference)
    report["many at once"] = many_at_once(base, chance)
    report["killed while the model appears"] = killed_while_the_model_appears(base, chance)
    report["no room"] = no_room(base, chance, reference)
    report["hangup, ignored"] = ignored_hangup(base, reference)
    report["terminal lost"] = lost_terminal(base)
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
