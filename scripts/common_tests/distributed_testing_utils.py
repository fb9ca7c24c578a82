"""Stands in for `tests/distributed_testing_utils.py`, which the source distribution of transformers lacks.

Starts gloo processes on this machine. The FSDP tests build decoders with `AutoModelForCausalLM`; here every model is
an encoder-decoder, so each process uses `AutoModelForSeq2SeqLM` instead. The bias of the keys has gradient 0, since
softmax is invariant to it: Adam's default epsilon would turn its rounding noise into full steps, different in each
computation, so epsilon is larger here.
"""

import functools
import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing


def _get_distributed_backend() -> str:
    return "gloo"


def _get_distributed_device_type() -> str:
    return "cpu"


def _get_rank_device(rank: int) -> torch.device:
    return torch.device("cpu")


def _set_rank_device(rank: int) -> None:
    """CPUs need no setting."""


def _start_rank_processes(function: Callable[..., None], args: tuple[Any, ...], nprocs: int) -> None:
    torch.multiprocessing.spawn(_with_encoder_decoders, args=(function, args), nprocs=nprocs)


def _with_encoder_decoders(rank: int, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    from transformers import AutoModelForSeq2SeqLM

    from tests import test_fsdp_mixin

    torch.set_num_threads(1)
    test_fsdp_mixin.AutoModelForCausalLM = AutoModelForSeq2SeqLM
    torch.optim.Adam = functools.partial(torch.optim.Adam, eps=1e-4)
    function(rank, *args)


def run_distributed(world_size: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`run_distributed(2)(function)(*args)` calls `function(rank, *args)` in each of two processes of a group."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        def start(*args: Any) -> None:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            torch.multiprocessing.spawn(_in_a_group, args=(world_size, port, function, args), nprocs=world_size)

        return start

    return decorate


def _in_a_group(rank: int, world_size: int, port: int, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
    )
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    try:
        function(rank, *args)
    finally:
        dist.destroy_process_group()
