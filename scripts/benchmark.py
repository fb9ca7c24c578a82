"""Benchmark this package against its alternatives: both sides in turn, reported as a ratio.

    python scripts/benchmark.py training      target tokens per second, against Marian under the stock trainer
    python scripts/benchmark.py memory        peak memory of a training step, against the stock trainer
    python scripts/benchmark.py planning      planning an epoch's batches for 4.5 million pairs
    python scripts/benchmark.py decode        decoding, against Marian and CTranslate2
    python scripts/benchmark.py startup       import, first translation, help
    python scripts/benchmark.py check         cost per call of checking whether the fast path applies
    python scripts/benchmark.py lines         memory of a long translation
    python scripts/benchmark.py report        measure the tables of the README files and write them

Each measurement runs in its own process, alternating A B A B ... The modules in `scripts/benchmarks/` give details.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import decoding, decoding_sides, lines, memory, planning, provenance, report, starting, training
from benchmarks.rounds import positive

MEASURES = {
    "training": training.measure_training,
    "memory": memory.measure_memory,
    "planning": planning.measure_planning,
    "decode": decoding.measure_decoding,
    "startup": starting.measure_startup,
    "check": starting.measure_check,
    "lines": lines.measure_lines,
}


def parser() -> argparse.ArgumentParser:
    """Make the parser, with one sub-command per benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    commands = parser.add_subparsers(dest="what", required=True)

    def add(name: str, module: Any) -> argparse.ArgumentParser:
        about = {"description": module.__doc__, "formatter_class": argparse.RawDescriptionHelpFormatter}
        return commands.add_parser(name, help=module.__doc__.split("\n", maxsplit=1)[0], **about)

    measured = {name: add(name, module) for name, module in MODULES.items()}
    for name, command in measured.items():
        if hasattr(MODULES[name], "add_arguments"):
            MODULES[name].add_arguments(command)
        if name != "lines":
            command.add_argument("--rounds", type=positive, default=report.ROUNDS)
        command.add_argument("--output", help="write all figures to this JSON file")
        command.add_argument("--side", help=argparse.SUPPRESS)  # internal: measure this side in this process
    for name in ("training", "decode", "startup"):
        measured[name].add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    measured["decode"].add_argument("--workload", help=argparse.SUPPRESS)
    report.add_arguments(add("report", report))
    return parser


MODULES = {
    **{"training": training, "memory": memory, "planning": planning, "decode": decoding},
    **{"startup": starting, "check": starting, "lines": lines},
}


def measure_side(options: argparse.Namespace) -> dict[str, Any]:
    """Measure one side, in this process."""
    if options.what == "training":
        return training.train_side(options.side, options.folder, options.steps)
    if options.what == "memory":
        return memory.memory_of_side(options.side, options)
    if options.what == "planning":
        return planning.plan(options)
    if options.what == "lines":
        return lines.translate(options.model, options.lines[0])
    if options.what == "decode":
        return decoding_sides.run_side(options.side, options.workload, options.folder)
    starting.start_side(options.side, options.folder)
    return {}


def main() -> int:
    """Parse, measure, print and write the figures."""
    options = parser().parse_args()
    try:
        if options.what == "report":
            report.report(options)
        elif options.side:
            print(json.dumps(measure_side(options)))
        else:
            machine = provenance.describe_machine()
            print(machine)
            result = {"machine": machine, **MEASURES[options.what](options)}
            if options.output:
                Path(options.output).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
