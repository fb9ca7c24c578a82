"""Whether bfloat16 is faster than float32 on this machine; support for the instruction is not enough.

CPUs with AMX, and AMD CPUs with AVX512-BF16, multiply bfloat16 matrices at least twice as fast as float32 matrices;
Intel CPUs with only AVX512-BF16 reach about 0.6 times the speed. So the speed of a CPU is measured briefly.
"""

import os
import time
from functools import cache

import torch
from transformers.utils import is_torch_bf16_gpu_available

_WORTH_IT = 1.2  # times as fast; less does not outweigh the rounding
_ROUNDS = 100
_SHAPE = (256, 256, 256)  # (tokens, d_in, d_out): short enough to run undisturbed beside other work


def computes_bf16_fast(use_cpu: bool = False) -> bool:
    """Whether this machine's GPU, or else its CPU, multiplies bfloat16 matrices faster than float32 matrices.

    A CPU that has the instruction is measured once per process, for about 0.1 seconds.

    Args:
        use_cpu: check the CPU even if there is a GPU.
    """
    if torch.cuda.is_available() and not use_cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.accelerator.is_available() and not use_cpu:
        return is_torch_bf16_gpu_available()
    return processor_has_bf16() and bf16_speed_of_processor() > _WORTH_IT


def precision_of_launcher() -> str | None:
    """The precision set by `accelerate launch`: bf16, fp16 or, if binding, no; None if the choice is open.

    DeepSpeed makes its own copy of the weights, so the trainer must then use the launcher's precision.
    """
    told = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    is_open = told == "no" and os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() != "true"
    return None if is_open else told


def processor_has_bf16() -> bool:
    """Whether the CPU has an instruction that multiplies bfloat16 matrices."""
    instructions = torch.cpu.get_capabilities()
    return bool(instructions.get("avx512_bf16") or instructions.get("amx_tile"))


@cache
def bf16_speed_of_processor() -> float:
    """The speed of a bfloat16 product relative to float32, from the best time of each, measured alternately."""
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several threads would wait for one another on a busy machine
    try:
        for _ in range(_ROUNDS):
            for dtype, spent in seconds.items():
                spent.append(seconds_of_product(dtype))
    finally:
        torch.set_num_threads(threads)
    return min(seconds[torch.float32][1:]) / min(seconds[torch.bfloat16][1:])  # the first one warms up


def seconds_of_product(dtype: torch.dtype) -> float:
    """Time of one product of two matrices of this dtype."""
    tokens, d_in, d_out = _SHAPE
    states, weight = torch.ones(tokens, d_in, dtype=dtype), torch.ones(d_out, d_in, dtype=dtype)
    started = time.perf_counter()
    torch.nn.functional.linear(states, weight)
    return time.perf_counter() - started
