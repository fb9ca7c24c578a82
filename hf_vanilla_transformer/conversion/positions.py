"""Recognise the positional encoding in a stored table: known sinusoids by their values, anything else as learned."""

from collections.abc import Sequence

import torch

from ..model.configuration_vanilla_transformer import PositionalEncoding, VanillaTransformerConfig
from ..model.modeling_vanilla_transformer import SinusoidalPositionalEncoding

# Sinusoids in half precision are off by up to 2^-9 (bfloat16); two conventions differ by more than 0.3
_TOLERANCE = 4e-3


def recognise_positions(
    tables: Sequence[torch.Tensor], candidates: Sequence[PositionalEncoding], pad_token_id: int | None = 0
) -> PositionalEncoding:
    """The convention that both stacks' tables follow, or `"learned"` if they follow none.

    Args:
        tables: row n is the encoding of position n; (positions, d_model) each.
        candidates: the sinusoids to try, likeliest first.
        pad_token_id: where fairseq's positions start.

    Raises:
        ValueError: the two tables follow different conventions.
    """
    found = [_recognise(table, candidates, pad_token_id) for table in tables]
    if len(set(found)) > 1:
        raise ValueError(
            f"Encoder and decoder must use the same positional encoding, but the encoder's table is {found[0]} and "
            f"the decoder's {found[1]}, which this package does not support."
        )
    return found[0]


def _recognise(
    table: torch.Tensor, candidates: Sequence[PositionalEncoding], pad_token_id: int | None
) -> PositionalEncoding:
    length, d_model = table.shape
    if d_model % 2 == 0:
        for convention in candidates:
            config = VanillaTransformerConfig(
                d_model=d_model, head_dim=1, positional_encoding=convention, pad_token_id=pad_token_id
            )
            sinusoids = SinusoidalPositionalEncoding(config)(torch.arange(length, device=table.device))
            if torch.allclose(table.float(), sinusoids, rtol=0, atol=_TOLERANCE):
                return convention
    return "learned"
