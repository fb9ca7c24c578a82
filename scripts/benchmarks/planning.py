"""The cost of planning an epoch's batches at the size of WMT14: seconds and growth of resident memory.

Only lengths are used, drawn at random: log-normal around 25 tokens, as in news text.
"""

import argparse
import time
from typing import Any

from .markdown import Figures
from .rounds import Spread, figures_of, in_a_process, of_rounds, positive, resident_mib

PAIRS, MAX_TOKENS, PROCESSES = 4_500_000, 25_000, 8


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Of `planning`."""
    command.add_argument("--pairs", type=positive, default=PAIRS)
    command.add_argument("--max_tokens", type=positive, default=MAX_TOKENS)
    command.add_argument("--num_processes", type=positive, default=PROCESSES)


def plan(options: argparse.Namespace) -> dict[str, float]:
    """Draw the lengths and plan, in this process."""
    import numpy as np

    from hf_vanilla_transformer.data.batching import TokenBudgetBatchSampler

    generator = np.random.default_rng(0)
    source = np.clip(generator.lognormal(3.2, 0.6, options.pairs), 1, 250).astype(np.int64)
    target = np.clip(source * generator.normal(1, 0.2, options.pairs), 1, 250).astype(np.int64)
    before, started = resident_mib("VmRSS"), time.perf_counter()
    sampler = TokenBudgetBatchSampler(source, target, options.max_tokens, num_processes=options.num_processes)
    batches = sum(1 for _ in sampler)
    seconds = time.perf_counter() - started
    return {
        **{"batches": batches, "padding_share": sampler.padding_share(), "seconds": seconds},
        "mib": resident_mib("VmHWM") - before,
    }


def measure_planning(options: argparse.Namespace) -> dict[str, Any]:
    """Run every round in its own process."""
    names = ("pairs", "max_tokens", "num_processes")
    arguments = ["planning", "--side", "ours", *(f"--{name}={getattr(options, name)}" for name in names)]
    runs = []
    for _ in range(options.rounds):
        runs.append(in_a_process(arguments))
        print(
            f"{options.pairs:,} pairs into {runs[-1]['batches']:,} batches, {runs[-1]['padding_share']:.1%} padding, "
            f"{runs[-1]['seconds']:.1f} s, {runs[-1]['mib']:,.0f} MiB beside the lengths",
            flush=True,
        )
    return {"runs": runs}


def planning_table(options: argparse.Namespace) -> Figures:
    """One row."""
    runs = measure_planning(options)["runs"]
    seconds, mib = (Spread.of(figures_of(runs, name)) for name in ("seconds", "mib"))
    row = [f"{options.pairs:,}", f"{runs[0]['batches']:,}", f"{runs[0]['padding_share']:.1%}"]
    return Figures(
        ["pairs", "batches", "padding", "seconds", "MiB beside the lengths"],
        [[*row, seconds.text(".1f"), mib.text(".0f")]],
        f"Batches of an epoch, of at most {options.max_tokens:,} tokens a side, for {options.num_processes} "
        f"processes; lengths drawn at random. {of_rounds(options.rounds)}",
        [("planning an epoch's batches", f"{seconds.median:.1f} s for {options.pairs:,} pairs")],
        {"runs": runs},
    )
