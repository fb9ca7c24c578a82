"""Weights shared out over processes (FSDP2), for a model whose embeddings and output projection are one matrix.

Accelerate groups the input embedding with the output projection, but not the embeddings of both stacks, and torch
refuses a weight that belongs to two groups (accelerate 1.15, torch 2.13). Here all modules of a tied weight are put in
one group beforehand (section 3.4); accelerate then leaves them as they are.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import nn


def require_whole_states(plugin: Any) -> None:
    """Refuse checkpoints in shards: torch unpickles their description when a run goes on, and a pickle can run code.

    Whole states are safetensors, and what torch reads with `weights_only`; and each is a model's folder.

    Args:
        plugin: accelerate's, of FSDP.

    Raises:
        ValueError: its `state_dict_type` is another.
    """
    kind = plugin.state_dict_type.name
    if kind != "FULL_STATE_DICT":
        raise ValueError(
            "Every checkpoint must be a whole model's folder that is read without unpickling, but FSDP is set to "
            f"write {kind}, which torch unpickles. Set `fsdp_state_dict_type` (in `--fsdp_config`: `state_dict_type`) "
            "to FULL_STATE_DICT."
        )


def shard_tied_weights(model: nn.Module, accelerator: Any) -> None:
    """Put modules that have a weight in common in one FSDP2 group.

    Args:
        model: not sharded yet; changed in place.
        accelerator: with an FSDP plugin, whose settings apply.
    """
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    plugin, mesh = accelerator.state.fsdp_plugin, getattr(accelerator, "torch_device_mesh", None)
    for modules in tied_modules(model):
        if not isinstance(modules[0], FSDPModule):
            fully_shard(
                modules,
                mesh=None if mesh is None else mesh[tuple(accelerator.parallelism_config.fsdp_dim_names)],
                reshard_after_forward=False,  # the output projection is the last to run and the first to run back
                mp_policy=plugin.mixed_precision_policy or MixedPrecisionPolicy(),
                offload_policy=plugin.cpu_offload,
            )


def tied_modules(model: nn.Module) -> list[list[nn.Module]]:
    """Modules that hold the same parameter, a list for each parameter that several hold."""
    holders = defaultdict(list)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders[id(parameter)].append(module)
    return [modules for modules in holders.values() if len(modules) > 1]


def gather_whole_model(sharded: Any, model_class: Any, device: torch.device) -> Any:
    """A copy of a sharded model with all its weights, on every process."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    state = get_model_state_dict(sharded, options=StateDictOptions(full_state_dict=True))
    whole = model_class(sharded.config).to(dtype=sharded.config.dtype)
    whole.load_state_dict(state)
    whole.generation_config = sharded.generation_config
    return whole.to(device)
