"""What the kernels behind equation 1 need around them: which computes a call, and what flash kernels want of padding.

The equation itself, and the module that calls these, is in `modeling_vanilla_transformer.py`.
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
    """The config that masks and attention of this call follow: eager where the implementation cannot serve it."""
    if output_attentions and config._attn_implementation != "eager":
        reason = f"Attention weights were asked for, which `{config._attn_implementation}` attention does not keep"
    elif config._attn_implementation == "flex_attention" and getattr(cache, "is_compileable", False):
        # its mask reads the length of a static cache too late, when the cache has grown already
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
    """Whether a flash kernel computes attention, which takes its masks and widths in a form of its own."""
    return "flash" in (config._attn_implementation or "")


def pad_to_one_head_dim(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Widen the narrower of d_k and d_v with zeros, since flash kernels take one width.

    Zeros add nothing to a dot product, and the output's extra columns are zero: the caller cuts them off.
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
    """Join the sentences' real keys and values end to end, and say where each begins, as flash kernels take them.

    Given the mask itself, `transformers` takes it for the queries' too and zeroes target positions (its issue #35032).

    Args:
        key: (batch, heads, source_len, d_k); `value` likewise.
        mask: 1 at real tokens of the source; (batch, source_len).
        query_len: target positions of each sentence, all of them kept.

    Returns:
        Keys and values of shape (1, heads, real tokens, width), and the arguments of a kernel for unequal lengths.
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
