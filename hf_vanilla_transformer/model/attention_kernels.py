"""Support for the attention kernels behind equation 1: choose one for each call, and prepare inputs for flash kernels.

The equation itself and the module that calls these functions are in `modeling_vanilla_transformer.py`.
"""

import copy
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.utils import logging

from .configuration_vanilla_transformer import VanillaTransformerConfig

logger = logging.get_logger(__name__)


def config_for_call(
    config: VanillaTransformerConfig, output_attentions: bool | None, cache: Cache | None = None
) -> VanillaTransformerConfig:
    """The config for the masks and attention of this call: eager if the implementation does not support the call."""
    if output_attentions and config._attn_implementation != "eager":
        reason = f"Attention weights were asked for, which `{config._attn_implementation}` attention does not keep"
    elif config._attn_implementation == "flex_attention" and getattr(cache, "is_compileable", False):
        # its mask reads the length of a static cache too late, after the cache has grown
        reason = "`flex_attention` masks a static cache wrongly"
    else:
        return config
    logger.warning_once(
        f"{reason}: such calls are computed with eager attention. Load the model with "
        '`attn_implementation="eager"` to do so always.'
    )
    config = copy.copy(config)
    config._attn_implementation = "eager"
    return config


def is_flash(config: VanillaTransformerConfig) -> bool:
    """Whether a flash kernel computes attention; such kernels take masks and head widths in their own form."""
    return "flash" in (config._attn_implementation or "")


def pad_to_one_head_dim(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pad the narrower of d_k and d_v with zeros, since flash kernels take a single width.

    Zeros add nothing to a dot product. The output's extra columns are zero, and the caller cuts them off.
    """
    widen = value.shape[-1] - query.shape[-1]
    if widen > 0:
        query, key = nn.functional.pad(query, (0, widen)), nn.functional.pad(key, (0, widen))
    elif widen < 0:
        value = nn.functional.pad(value, (0, -widen))
    return query, key, value


def drop_source_padding(
    key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, query_len: int
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Concatenate the keys and values of all real tokens, and return where each sentence begins, for flash kernels.

    If given the mask, `transformers` applies it to the queries too and zeroes target positions (its issue #35032).

    Args:
        key: (batch, heads, source_len, d_k).
        value: (batch, heads, source_len, d_v).
        mask: 1 at real tokens of the source; (batch, source_len).
        query_len: target positions of each sentence; all are kept.

    Returns:
        Keys and values of shape (1, heads, real tokens, width), and the kernel's arguments for unequal lengths.
    """
    real, source_lens = mask.bool(), mask.sum(-1, dtype=torch.int32)
    key, value = (states.transpose(1, 2)[real].transpose(0, 1)[None] for states in (key, value))
    target_ends = torch.arange(mask.shape[0] + 1, dtype=torch.int32, device=mask.device) * query_len
    return (
        key,
        value,
        {
            "cu_seq_lens_q": target_ends,
            "cu_seq_lens_k": nn.functional.pad(source_lens.cumsum(0, dtype=torch.int32), (1, 0)),
            "max_length_q": query_len,
            "max_length_k": int(source_lens.max()),
        },
    )


__all__ = ["config_for_call", "drop_source_padding", "is_flash", "pad_to_one_head_dim"]
