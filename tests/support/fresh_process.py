"""Fresh processes in which our package was never imported, forked from one that has imported the libraries.

The imports of torch and transformers take seconds, and there are dozens of such tests. A test of what happens when
transformers is imported, or of settings that are read then, gets a process that has imported `TORCH` alone.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

_SERVER = """
import importlib, json, os, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
for line in sys.stdin:
    wanted = json.loads(line)
    child = os.fork()
    if not child:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
assert not [name for name in sys.modules if name.startswith("hf_vanilla_transformer")]
for number, place, mode in ((0, os.devnull, "r"), (1, wanted["stdout"], "w"), (2, wanted["stderr"], "w")):
    with open(place, mode) as file:
        os.dup2(file.fileno(), number)
os.chdir(wanted["cwd"])
os.environ.clear()
os.environ.update(wanted["environment"])
sys.argv, sys.path[0] = ["-c", *wanted["arguments"]], ""
exec(compile(wanted["code"], "<string>", "exec"), {"__name__": "__main__"})
"""


TORCH = ("torch", "torch._dynamo", "torch.distributed.tensor", "tokenizers", "sentencepiece", "PIL.Image", "yaml")
"""What transformers imports that takes long and reads no settings of the Hub."""


WITHOUT_PACKAGE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hf_vanilla_transformer":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
"""
"""The beginning of a program that does without our package, as for someone who has not installed it."""


class FreshProcesses:
    """Starts fresh processes that have imported some libraries."""

    def __init__(self, *libraries: str) -> None:
        self._libraries = libraries
        self._server: subprocess.Popen[str] | None = None

    def run(
        self, code: str, *arguments: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """What `python -c` would do and print, with nothing to read."""
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-c", _SERVER, *self._libraries],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory() as place:
            printed = {name: f"{place}/{name}" for name in ("stdout", "stderr")}
            wanted = {"code": code, "arguments": arguments, "cwd": str(cwd or Path.cwd()), **printed}
            wanted["environment"] = dict(os.environ if environment is None else environment)
            self._server.stdin.write(f"{json.dumps(wanted)}\n")
            self._server.stdin.flush()
            answer = self._server.stdout.readline()
            assert answer, "the process that others are forked from has ended; its stderr says why"
            read = {name: Path(path).read_text(encoding="utf-8") for name, path in printed.items()}
        return subprocess.CompletedProcess([sys.executable, "-c", code, *arguments], int(answer), **read)

    def close(self) -> None:
        """End the process that others are forked from."""
        if self._server is not None:
            self._server.communicate()


def started_processes(*libraries: str) -> Iterator[FreshProcesses]:
    """What a fixture yields: the same, ended at last."""
    if not hasattr(os, "fork"):
        pytest.skip("needs processes that fork")
    processes = FreshProcesses(*libraries)
    yield processes
    processes.close()
