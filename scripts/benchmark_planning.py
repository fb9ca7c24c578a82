"""Measure what planning an epoch's batches costs at the size of WMT14: seconds, and memory that became resident.

python scripts/benchmark_planning.py [--pairs 4500000] [--max_tokens 25000] [--num_processes 8]

Lengths alone, drawn at random: log-normal around 25 tokens, as of news text. Reads its memory from /proc (Linux).
"""

import argparse
import time

import numpy as np
from benchmark import resident_mib

from hf_vanilla_transformer.data.batching import TokenBudgetBatchSampler


def main() -> int:
    """Draw, plan, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pairs", type=int, default=4_500_000)
    parser.add_argument("--max_tokens", type=int, default=25_000)
    parser.add_argument("--num_processes", type=int, default=8)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    source = np.clip(generator.lognormal(3.2, 0.6, options.pairs), 1, 250).astype(np.int64)
    target = np.clip(source * generator.normal(1, 0.2, options.pairs), 1, 250).astype(np.int64)
    before, started = resident_mib("VmRSS"), time.perf_counter()
    sampler = TokenBudgetBatchSampler(source, target, options.max_tokens, num_processes=options.num_processes)
    batches = sum(1 for _ in sampler)
    seconds = time.perf_counter() - started
    print(f"{options.pairs:,} pairs into {batches:,} batches, {sampler.padding_share():.1%} padding")
    print(f"{seconds:.1f} s, {resident_mib('VmHWM') - before:,.0f} MiB beside the lengths")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
