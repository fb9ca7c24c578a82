"""Measure sides in turn, each in its own process, and report the median of the figures with its spread."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

SCRIPT = Path(__file__).parents[1] / "benchmark.py"


def positive(text: str) -> int:
    """Parse an option's number, at least 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, got {text!r}")
    return int(text)


class Spread(NamedTuple):
    """Median, minimum and maximum of some rounds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one figure."""
        return cls(min(values), statistics.median(values), max(values))

    def text(self, form: str = ".2f") -> str:
        """Format as text, such as 1.70 (1.62 to 1.78)."""
        return f"{self.median:{form}} ({self.low:{form}} to {self.high:{form}})"


def of_rounds(count: int) -> str:
    """The caption's sentence on spreads."""
    return f"Median and spread of {count} round{'s' if count > 1 else ''}."


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """The ratio of two sides, round by round."""
    return Spread.of([one / other for one, other in zip(numerators, denominators, strict=True)])


def in_a_process(arguments: Sequence[str], checkout: Path = SCRIPT.parents[1]) -> dict[str, Any]:
    """Run `scripts/benchmark.py` of a checkout with these arguments; return its last line of output, parsed.

    Raises:
        SystemExit: it failed; the message holds the end of its stderr.
    """
    command = [sys.executable, str(checkout / "scripts" / SCRIPT.name), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"`benchmark.py {' '.join(arguments)}` failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().split("\n")[-1])


def sides_in_turn(arguments: Sequence[str], sides: Sequence[str], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """The figures of every side; each round runs all sides once."""
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            runs[side].append(in_a_process([*arguments, "--side", side]))
            print(f"round {number + 1}, {side}: {runs[side][-1]}", flush=True)
    return runs


def figures_of(runs: Sequence[dict[str, Any]], name: str) -> list[float]:
    """One figure from every round of a side."""
    return [run[name] for run in runs]


def resident_mib(field: str) -> float:
    """Resident memory of this process now (`VmRSS`) or at its peak (`VmHWM`), in MiB.

    Raises:
        SystemExit: this is not Linux.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        raise SystemExit("The resident memory of a process is read from /proc, which only Linux has.")
    lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
    return int(lines[field].split()[0]) / 1024
