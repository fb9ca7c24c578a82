"""Import and export Marian models in `transformers`' format (OPUS-MT).

The weights have the same names on both sides. What differs:

| Marian's | ours |
|---|---|
| a table of sinusoids, sines first, never saved | `positional_encoding="concatenated"`, computed |
| a table with other values | the convention that it follows, or `"learned"` |
| `final_logits_bias`, always there | `logits_bias=True`, or left out |
| `share_encoder_decoder_embeddings` without `tie_word_embeddings`: three matrices | shared only if two are equal |
"""

import logging
import os
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import GenerationConfig, MarianConfig, MarianMTModel, PreTrainedTokenizerBase

from ..model.configuration_vanilla_transformer import PositionalEncoding, Side, VanillaTransformerConfig
from ..model.generation import lasting_generation_config
from ..model.modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration
from .exports import LONGEST, refuse_if_any, require_ours
from .folders import save_converted
from .originals import (
    EMBEDDINGS,
    FIELDS,
    POSITIONS,
    common_fields,
    is_same_tensor,
    new_config,
    new_model,
    read_original,
    require_same_tensors,
    require_same_values,
)
from .positions import recognise_positions

logger = logging.getLogger(__name__)

SHARED = "model.shared.weight"

# Marian to ours


def from_marian(
    source: str | os.PathLike[str] | MarianMTModel, positions: Literal["tensor2tensor"] | None = None
) -> VanillaTransformerForConditionalGeneration:
    """Convert a Marian model to this package's class: the same function with the same weights.

    Args:
        source: a folder, a Hub name, or the model itself, which is not modified.
        positions: `"tensor2tensor"` for the sinusoids that Marian C++ trains with, in place of those that
            `transformers` computes: they differ by up to 0.14 within 100 tokens at d_model 512, and OPUS-MT models
            were trained with the former.

    Returns:
        The model, in evaluation mode, in the dtype of its weights, with the original's generation config.

    Raises:
        TypeError: `source` is none of these.
        FileNotFoundError, NotADirectoryError: no such folder or Hub name, or no config or weights in it.
        ValueError: another type of model, damaged weights, missing or unexpected weights, or a model that this package
            cannot represent; the message says why.
    """
    original = read_original(source, MarianMTModel, "marian")
    config = original.config
    weights = dict(original.state_dict())
    tables = [weights.pop(name) for name in POSITIONS]
    convention = recognise_positions(tables, ("concatenated", "tensor2tensor", "interleaved"))
    if positions is not None:
        convention = _chosen_positions(positions, convention)
    if convention == "learned":
        weights.update(zip(POSITIONS, tables, strict=True))

    shares = config.share_encoder_decoder_embeddings and is_same_tensor(*(weights[name] for name in EMBEDDINGS))
    ties = config.tie_word_embeddings and is_same_tensor(weights["lm_head.weight"], weights[EMBEDDINGS[1]])
    unread = weights.pop(SHARED, None)
    if shares:
        weights[SHARED] = weights[EMBEDDINGS[0]]
    elif unread is not None and not any(is_same_tensor(unread, weights[name]) for name in EMBEDDINGS):
        logger.warning(f"{SHARED} is left out: each stack has embeddings of its own, and nothing reads it.")
    return new_model(
        new_config(
            str(source) if isinstance(source, (str, os.PathLike)) else "The MarianMTModel",
            **common_fields(config),
            vocab_size=config.vocab_size,
            decoder_vocab_size=len(weights[EMBEDDINGS[1]]),
            share_encoder_decoder_embeddings=shares,
            tie_word_embeddings=ties,
            positional_encoding=convention,
            logits_bias=True,
        ),
        weights,
        original.generation_config,
    )


def _chosen_positions(asked: Literal["tensor2tensor"], found: str) -> PositionalEncoding:
    if asked != "tensor2tensor":
        raise ValueError(f"`positions` may be tensor2tensor, or left out for transformers' own; got {asked!r}.")
    if found == "learned":
        raise ValueError(
            "This model's positions were learned, and tensor2tensor's sinusoids would replace them. Leave "
            "`positions` out."
        )
    return asked


# Ours to Marian


def to_marian(model: VanillaTransformerForConditionalGeneration) -> MarianMTModel:
    """Convert one of this package's models to Marian: the same function, up to the order of summation in LayerNorm.

    The paper's interleaved sinusoids become Marian's, sines first, by one permutation of the residual stream's
    dimensions in every weight that reads or writes them. A model from `from_marian` comes back bit for bit.

    Args:
        model: the model; not modified.

    Returns:
        The model, in evaluation mode and in the same dtype. `max_extra_tokens`, unknown to Marian, becomes a
        `max_length` of 512 unless there is one.

    Raises:
        TypeError: another class of model.
        ValueError: Marian cannot represent the model; the message lists all reasons.
    """
    require_ours(model, "Marian")
    config = model.config
    refuse_if_any(_marian_cannot(config), "Marian")
    weights = dict(model.state_dict())
    if config.positional_encoding == "interleaved":
        order = sines_first(config.d_model)
        weights = {name: _permuted(name, tensor, order) for name, tensor in weights.items()}
    if not config.logits_bias:
        target_vocab = config.decoder_vocab_size or config.vocab_size
        weights["final_logits_bias"] = weights["lm_head.weight"].new_zeros(1, target_vocab)
    if not config.attention_bias:
        weights.update(_zero_biases(weights))

    marian: Any = MarianMTModel(_marian_config(model))
    marian.to(model.dtype)
    computed = {name: marian.get_parameter(name) for name in POSITIONS}
    require_same_tensors({**weights, **computed}, marian.state_dict())
    marian.load_state_dict({**weights, **computed})
    marian.tie_weights()
    require_same_values(weights, marian.state_dict())
    marian.generation_config = _marian_generation_config(model)
    return marian.eval()


def write_marian(
    model: VanillaTransformerForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | os.PathLike[str],
) -> Path:
    """Convert a model by `to_marian` and save it with its tokenizer as a folder for `MarianMTModel`.

    Args:
        model: the model; not modified.
        tokenizer: its tokenizer.
        folder: the folder to create; may exist if it is empty.

    Returns:
        `folder`.

    Raises:
        TypeError, ValueError: as in `to_marian`; generation settings that `transformers` does not save.
        FileExistsError: `folder` is not empty.
    """
    return save_converted(to_marian(model), tokenizer, folder, {"exported_to": {"format": "marian"}})


def _marian_cannot(config: VanillaTransformerConfig) -> list[str]:
    """List what Marian cannot represent, one phrase each."""
    convention = config.positional_encoding
    return [
        *([f"{convention} positions"] if convention not in ("interleaved", "concatenated") else []),
        *(["LayerNorm before each sub-layer (normalize_before)"] if config.normalize_before else []),
        *_free_head_widths(config),
        *([f"layer_norm_eps {config.layer_norm_eps}"] if config.layer_norm_eps != 1e-5 else []),
    ]


def _free_head_widths(config: VanillaTransformerConfig) -> list[str]:
    """Describe head widths that differ from d_model / heads."""
    found = []
    sides: tuple[Side, ...] = ("encoder", "decoder")
    for side in sides:
        heads, d_k, d_v = config.head_widths(side)
        if (d_k * heads, d_v * heads) != (config.d_model, config.d_model):
            found.append(f"{heads} heads of d_k {d_k} and d_v {d_v} in the {side} at d_model {config.d_model}")
    return found


def sines_first(d_model: int) -> torch.Tensor:
    """The index in the interleaved encoding of each dimension of the concatenated one; (d_model,)."""
    return torch.cat((torch.arange(0, d_model, 2), torch.arange(1, d_model, 2)))


READS = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "fc1.weight")
"""Weights whose columns are the residual stream's dimensions, like those of all embeddings."""
WRITES = ("out_proj.weight", "out_proj.bias", "fc2.weight", "fc2.bias", "layer_norm.weight", "layer_norm.bias")
"""Weights whose rows are the residual stream's dimensions."""
NEITHER = ("q_proj.bias", "k_proj.bias", "v_proj.bias", "fc1.bias", "final_logits_bias")


def _permuted(name: str, tensor: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    order = order.to(tensor.device)
    if name in (SHARED, *EMBEDDINGS, "lm_head.weight") or name.endswith(READS):
        return tensor.index_select(1, order)
    if name.endswith(WRITES):
        return tensor.index_select(0, order)
    if name.endswith(NEITHER):
        return tensor
    raise ValueError(f"It is unknown how {name} uses the residual stream, so its dimensions cannot be reordered.")


def _zero_biases(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    projections = [name for name in weights if name.endswith("_proj.weight")]
    return {name.replace("weight", "bias"): weights[name].new_zeros(len(weights[name])) for name in projections}


def _marian_config(model: VanillaTransformerForConditionalGeneration) -> MarianConfig:
    config = model.config
    return MarianConfig(
        **{name: getattr(config, name) for name in FIELDS},
        vocab_size=config.vocab_size,
        decoder_vocab_size=config.decoder_vocab_size,
        share_encoder_decoder_embeddings=config.share_encoder_decoder_embeddings,
        tie_word_embeddings=config.tie_word_embeddings,
        # the default, 0, would force token 0 at the end of every sentence
        forced_eos_token_id=model.generation_config.forced_eos_token_id,
        dtype=model.dtype,
    )


def _marian_generation_config(model: VanillaTransformerForConditionalGeneration) -> GenerationConfig:
    generation_config: Any = lasting_generation_config(model.generation_config)
    if getattr(generation_config, "gnmt_length_penalty", None) is not None:
        alpha = generation_config.gnmt_length_penalty
        del generation_config.gnmt_length_penalty
        logger.warning(f"Marian knows no gnmt_length_penalty ({alpha}): it uses `length_penalty`, 1.0 if not set.")
    if getattr(generation_config, "max_extra_tokens", None) is not None:
        del generation_config.max_extra_tokens
        if generation_config.max_length is None and generation_config.max_new_tokens is None:
            generation_config.max_length = LONGEST
            logger.warning(f"Marian knows no limit of source + n tokens: `max_length` is {LONGEST} instead.")
    return generation_config
