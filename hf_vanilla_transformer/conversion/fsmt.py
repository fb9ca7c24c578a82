"""Import FSMT: fairseq's WMT19 models in `transformers`' format.

| FSMT's | ours |
|---|---|
| `model.decoder.output_projection.weight` | `lm_head.weight` |
| a table of sinusoids, counted from the padding token | `positional_encoding="fairseq"`, computed |
| `src_vocab_size`, `tgt_vocab_size` | `vocab_size`, `decoder_vocab_size` |
| `tie_word_embeddings`: all three matrices are one | `share_encoder_decoder_embeddings` too, where two are equal |
"""

import os

from transformers import FSMTForConditionalGeneration

from ..model.modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration
from .marian import SHARED
from .originals import (
    EMBEDDINGS,
    POSITIONS,
    common_fields,
    is_same_tensor,
    new_config,
    new_model,
    read_original,
)
from .positions import recognise_positions


def from_fsmt(
    source: str | os.PathLike[str] | FSMTForConditionalGeneration,
) -> VanillaTransformerForConditionalGeneration:
    """Convert an FSMT model to this package's class: the same function with the same weights.

    Args:
        source: a folder, a Hub name, or the model itself, which is not modified.

    Returns:
        The model, in evaluation mode, in the dtype of its weights, with the original's generation config.

    Raises:
        TypeError, FileNotFoundError, NotADirectoryError, ValueError: as in `from_marian`.
    """
    original = read_original(source, FSMTForConditionalGeneration, "fsmt")
    config = original.config
    name = str(source) if isinstance(source, (str, os.PathLike)) else "The FSMTForConditionalGeneration"
    _check(config, name)
    weights = dict(original.state_dict())
    first = config.pad_token_id + 1  # the rows before it belong to no position
    tables = [weights.pop(table)[first:] for table in POSITIONS]
    convention = recognise_positions(tables, ("fairseq",), config.pad_token_id)
    if convention == "learned":
        raise ValueError(
            f"FSMT computes its positions, but {name} holds tables that are not fairseq's sinusoids. Check that its "
            "weights belong to its config."
        )
    weights["lm_head.weight"] = weights.pop("model.decoder.output_projection.weight")
    decoder = weights[EMBEDDINGS[1]]
    shares = config.tie_word_embeddings and is_same_tensor(weights[EMBEDDINGS[0]], decoder)
    ties = config.tie_word_embeddings and is_same_tensor(weights["lm_head.weight"], decoder)
    if shares:
        weights[SHARED] = decoder
    return new_model(
        new_config(
            name,
            **common_fields(config),
            vocab_size=config.src_vocab_size,
            decoder_vocab_size=config.tgt_vocab_size,
            share_encoder_decoder_embeddings=shares,
            tie_word_embeddings=ties,
            positional_encoding=convention,
        ),
        weights,
        original.generation_config,
    )


def _check(config: object, name: str) -> None:
    pad, start = getattr(config, "pad_token_id", None), getattr(config, "decoder_start_token_id", None)
    if pad is None or start == pad:
        raise ValueError(
            f"{name} has decoder_start_token_id {start} and pad_token_id {pad}: FSMT gives padding no position, which "
            "this package cannot do for a start token. The two must differ, as in all WMT19 models."
        )
