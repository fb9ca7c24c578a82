"""The provenance of a figure: date, commit, machine, versions and command."""

import datetime
import platform
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .markdown import code, escaped

CODE = ("hf_vanilla_transformer", "scripts", "pyproject.toml", ":(exclude,glob)**/README.md")
"""Paths of the code that figures depend on; README files, which hold the figures, are excluded."""
PACKAGES = {"torch": "torch", "transformers": "transformers", "CTranslate2": "ctranslate2"}


@dataclass(frozen=True)
class Provenance:
    """The provenance of one table.

    Attributes:
        date: date of measurement, ISO 8601.
        commit: the short hash, with a note if the code differs from it.
        machine: CPU or GPU, and memory.
        versions: versions by display names of the packages.
        command: the command that repeats the measurement.
    """

    date: str
    commit: str
    machine: str
    versions: dict[str, str]
    command: str

    def when(self) -> str:
        """Date and commit, for the summary."""
        return f"{self.date}, {self.commit}"

    def caption(self, notes: str) -> str:
        """The caption below a table."""
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        found = f"Measured {self.date}, commit {self.commit}, on {self.machine}; {versions}: "
        return f"{notes} {escaped(found)} {code(self.command)}."

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def find_provenance(root: Path, arguments: Sequence[str], on_gpu: bool, packages: Sequence[str]) -> Provenance:
    """The provenance of a measurement made now.

    Args:
        root: the checkout.
        arguments: arguments of `scripts/benchmark.py`; absolute paths are reduced to their last part.
        on_gpu: whether the table is measured on a GPU if there is one.
        packages: the packages involved, out of `PACKAGES`.
    """
    told = [Path(argument).name if Path(argument).is_absolute() else argument for argument in arguments]
    versions = {"Python": platform.python_version(), **{name: version_of(name) for name in packages}}
    return Provenance(
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        commit=describe_commit(root),
        machine=describe_machine(on_gpu),
        versions=versions,
        command=shlex.join(["python", "scripts/benchmark.py", *told]),
    )


def version_of(name: str) -> str:
    """The version of one of `PACKAGES`.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return version(PACKAGES[name])
    except PackageNotFoundError:
        raise ValueError(
            f"The table compares with {name}, which is not installed. Install it with "
            "`pip install -e '.[conversion]'`."
        ) from None


def describe_commit(root: Path) -> str:
    """The short hash of a checkout's commit, with a note if the code differs from it."""
    commit = _git(root, "rev-parse", "--short", "HEAD")
    if commit is None:
        return "unknown (no git checkout)"
    return f"{commit} and uncommitted changes" if _git(root, "status", "--porcelain", "--", *CODE) else commit


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def describe_machine(on_gpu: bool = True) -> str:
    """The CPU with its threads and vector units, or the GPU, and the memory."""
    import torch

    from hf_vanilla_transformer.training.record import describe_hardware

    if on_gpu and torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
        return f"{describe_hardware(torch.device('cuda'), 1)}, {memory / 2**30:.0f} GiB"
    units = [torch.backends.cpu.get_cpu_capability().replace("AVX512", "AVX-512")]  # the widest that torch uses
    if "amx_tile" in _read("/proc/cpuinfo"):
        units.append("AMX")
    return f"{describe_hardware(torch.device('cpu'), 1)}, {' and '.join(units)}, {_memory()}"


def _memory() -> str:
    found = [line.split()[1] for line in _read("/proc/meminfo").splitlines() if line.startswith("MemTotal")]
    return f"{int(found[0]) / 2**20:.0f} GiB" if found else "memory unknown"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
