"""Real clients of the tests' Hub, in processes of their own, since `huggingface_hub` reads settings when imported."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fresh_process import FreshProcesses
from hub_repositories import WRITER
from hub_server import TestHub

REPO = "someone/fr-en"


def client_environment(hub: TestHub, home: Path, token: str | None = WRITER, **variables: str) -> dict[str, str]:
    """The variables of a client with an empty cache, speaking to this Hub alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    known = {"HF_TOKEN": token} if token else {}
    mode = {} if hub.xet else {"HF_HUB_DISABLE_XET": "1"}
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return {**kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), **known, **mode, **quiet, **variables}


@dataclass
class Client:
    """Someone without a token, in a fresh process for each question, outside the repository."""

    processes: FreshProcesses
    hub: TestHub
    home: Path

    def python(self, code: str, *arguments: Any, **variables: str) -> subprocess.CompletedProcess[str]:
        """What `python -c` prints."""
        self.home.mkdir(parents=True, exist_ok=True)
        environment = client_environment(self.hub, self.home, token=None, **variables)
        return self.processes.run(code, *map(str, arguments), cwd=self.home, environment=environment)

    def command(self, *arguments: Any, **variables: str) -> subprocess.CompletedProcess[str]:
        """What a command of ours prints, likewise."""
        return self.python(_COMMAND, *arguments, **variables)


_COMMAND = "import sys; from hf_vanilla_transformer.cli import main; sys.exit(main())"


def result_of(done: subprocess.CompletedProcess[str]) -> Any:
    """What a script printed last, as JSON."""
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


_SESSION = """
import contextlib, io, json, os, runpy, sys, time, traceback
time.sleep = lambda seconds: None
from hf_vanilla_transformer.cli import main
import hf_vanilla_transformer.hub.push

def run(argv):
    if not argv[0].endswith(".py"):
        return main(argv)
    sys.argv, sys.path[0] = argv, os.path.dirname(argv[0])
    try:
        runpy.run_path(argv[0], run_name="__main__")
    except Exception:
        traceback.print_exc()
        return 1
    return 0

for line in sys.stdin:
    wanted = json.loads(line)
    for name, value in wanted["variables"].items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(wanted["argv"])
    print("RESULT" + json.dumps({"code": code, "out": out.getvalue(), "err": err.getvalue()}), flush=True)
"""


class Session:
    """One process that runs command after command, importing once, and that never sleeps."""

    def __init__(self, hub: TestHub, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SESSION],
            env=client_environment(hub, home),
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(home / "stderr").open("w"),
            text=True,
        )

    def run(self, *arguments: Any, **variables: str | None) -> "Answer":
        """A command or a script and its arguments, with these variables from now on."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        wanted = {"argv": [str(argument) for argument in arguments], "variables": variables}
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("RESULT"):
                return Answer(**json.loads(line.removeprefix("RESULT")))
        raise AssertionError(f"the session ended with {self._process.wait()}")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


@dataclass
class Pushing:
    """A Hub and a client of it."""

    hub: TestHub
    session: Session

    def push(self, folder: Path, *more: str, token: str | None = WRITER) -> "Answer":
        """Push a folder with the command."""
        return self.session.run("push", "--model", folder, "--repo_id", REPO, *more, HF_TOKEN=token)

    @property
    def files(self) -> set[str]:
        """What the repository holds, but for what every repository holds."""
        return set(self.hub.repositories[REPO].files) - {".gitattributes"}


@dataclass
class Answer:
    """What a command of a session gave."""

    code: int
    out: str
    err: str
