"""Whether bfloat16 pays on this machine; having the instruction does not mean so.

Processors with AMX, and AMD's with AVX512-BF16, multiply bfloat16 matrices two and more times as fast as float32 ones;
Intel's with AVX512-BF16 alone do it at about 0.6 times the speed. So a processor is asked, by a short measurement.
"""

import os
import time
from functools import cache

import torch
from transformers.utils import is_torch_bf16_gpu_available

_WORTH_IT = 1.2  # times as fast; the rounding costs something too
_ROUNDS = 100
_SHAPE = (256, 256, 256)  # (tokens, d_in, d_out): short enough to run undisturbed beside other work


def computes_bf16_fast(use_cpu: bool = False) -> bool:
    """Whether this machine's GPU, or else its processor, multiplies bfloat16 matrices faster than float32 ones.

    A processor that has the instruction is measured once in a process, for about a tenth of a second.

    Args:
        use_cpu: ask about the processor although there is a GPU.
    """
    if torch.cuda.is_available() and not use_cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.accelerator.is_available() and not use_cpu:
        return is_torch_bf16_gpu_available()
    return processor_has_bf16() and bf16_speed_of_processor() > _WORTH_IT


def precision_of_launcher() -> str | None:
    """What `accelerate launch` was told: bf16, fp16 or, where that binds, no; None if it left the choice open.

    DeepSpeed makes its own copy of the weights, so that under it the trainer must do as the launcher was told.
    """
    told = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    is_open = told == "no" and os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() != "true"
    return None if is_open else told


def processor_has_bf16() -> bool:
    """Whether it has an instruction that multiplies bfloat16 matrices."""
    instructions = torch.cpu.get_capabilities()
    return bool(instructions.get("avx512_bf16") or instructions.get("amx_tile"))


@cache
def bf16_speed_of_processor() -> float:
    """How many times as fast as a float32 product a bfloat16 one is: the best of each, taken in turn."""
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several would wait for one another where the machine has other work
    try:
        for _ in range(_ROUNDS):
            for dtype, spent in seconds.items():
                spent.append(seconds_of_product(dtype))
    finally:
        torch.set_num_threads(threads)
    return min(seconds[torch.float32][1:]) / min(seconds[torch.bfloat16][1:])  # the first one warms up


def seconds_of_product(dtype: torch.dtype) -> float:
    """Time of one product of two matrices of this type."""
    tokens, d_in, d_out = _SHAPE
    states, weight = torch.ones(tokens, d_in, dtype=dtype), torch.ones(d_out, d_in, dtype=dtype)
    started = time.perf_counter()
    torch.nn.functional.linear(states, weight)
    return time.perf_counter() - started
