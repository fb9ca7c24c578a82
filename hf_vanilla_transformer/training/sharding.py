"""Sharding (FSDP2) of a model whose embeddings and output projection are tied.

Accelerate groups the input embedding with the output projection, but not the embeddings of both stacks, and torch
refuses a weight that belongs to two groups (accelerate 1.15, torch 2.13). Here all modules with a tied weight are put
in one group beforehand (section 3.4); accelerate then does not change them.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import nn


def require_whole_states(plugin: Any) -> None:
    """Refuse sharded checkpoints: torch unpickles their metadata on resuming, and a pickle can run code.

    Full states are safetensors, or files that torch reads with `weights_only`, and each is a model folder.

    Args:
        plugin: accelerate's FSDP plugin.

    Raises:
        ValueError: its `state_dict_type` is not `FULL_STATE_DICT`.
    """
    kind = plugin.state_dict_type.name
    if kind != "FULL_STATE_DICT":
        raise ValueError(
            "Every checkpoint must be a complete model folder that is read without unpickling, but FSDP is set to "
            f"write {kind}, which torch unpickles. Set `fsdp_state_dict_type` (in `--fsdp_config`: `state_dict_type`) "
            "to FULL_STATE_DICT."
        )


def shard_tied_weights(model: nn.Module, accelerator: Any) -> None:
    """Put modules that share a weight in one FSDP2 group.

    Args:
        model: the model, not sharded yet; changed in place.
        accelerator: an accelerator with an FSDP plugin, whose settings apply.
    """
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    plugin, mesh = accelerator.state.fsdp_plugin, getattr(accelerator, "torch_device_mesh", None)
    for modules in tied_modules(model):
        if not isinstance(modules[0], FSDPModule):
            fully_shard(
                modules,
                mesh=None if mesh is None else mesh[tuple(accelerator.parallelism_config.fsdp_dim_names)],
                reshard_after_forward=False,  # the output projection runs last forward and first backward
                mp_policy=plugin.mixed_precision_policy or MixedPrecisionPolicy(),
                offload_policy=plugin.cpu_offload,
            )


def tied_modules(model: nn.Module) -> list[list[nn.Module]]:
    """Modules that share a parameter: one list for each shared parameter."""
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
