"""Masks of real tokens, and positions that skip padding."""

import torch


def source_mask(input_ids: torch.Tensor, pad_token_id: int | None) -> torch.Tensor:
    """1 at tokens, 0 at padding; (batch, source_len)."""
    if pad_token_id is None:
        return torch.ones_like(input_ids)
    return input_ids.ne(pad_token_id).long()


def positions_from_mask(mask: torch.Tensor) -> torch.Tensor:
    """Count real tokens from 0, so that padding on the left shifts nothing; (batch, length) to (batch, length)."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


__all__ = ["positions_from_mask", "source_mask"]
