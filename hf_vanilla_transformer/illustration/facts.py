"""Facts about a model, as pairs of a label and a value."""

import os
from collections.abc import Sequence
from typing import Any

from .anatomy import POSITION_NAMES
from .beam_tree import length_penalty

Names = Sequence[str]


def model_name(model: Any) -> str:
    """The last part of the path or name it was loaded from, or else its class."""
    path = str(getattr(model, "name_or_path", "") or "").rstrip("/\\")
    return os.path.basename(path) or type(model).__name__


def model_facts(model: Any, settings: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of a label and a value, as far as the config states them."""
    config = model.config
    layers = _both(config, ("encoder_layers", "num_layers"), ("decoder_layers", "num_decoder_layers"))
    heads = _both(config, ("encoder_attention_heads", "num_heads"), ("decoder_attention_heads", "num_heads"))
    inner = _both(config, ("encoder_ffn_dim", "d_ff"), ("decoder_ffn_dim", "d_ff"))
    width = _first(config, ("d_model",))
    d_k = _first(config, ("head_dim", "d_kv"))
    first_heads = _first(config, ("decoder_attention_heads", "num_heads"))
    if d_k is None and width and first_heads:
        d_k = width // first_heads
    target_vocabulary = getattr(config, "decoder_vocab_size", None) or config.vocab_size
    vocabulary = f"{config.vocab_size:,}"
    if target_vocabulary != config.vocab_size:
        vocabulary += f" and {target_vocabulary:,}"
    facts = {
        "class": type(model).__name__,
        "parameters": f"{model.num_parameters():,}",
        "layers, encoder + decoder": layers,
        "vector width, d_model": width and f"{width:,}",
        "heads": heads,
        "head width, d_k": d_k and f"{d_k:,}",
        "feed-forward width, d_ff": inner,
        "vocabulary": vocabulary,
        "positional encoding": _positions(config),
        "LayerNorm": _norm(config),
        "decoding": _decoding(model, settings),
    }
    return [(label, str(value)) for label, value in facts.items() if value]


def _first(config: Any, names: Names) -> Any:
    return next((value for name in names if (value := getattr(config, name, None)) is not None), None)


def _both(config: Any, encoder: Names, decoder: Names) -> str | None:
    """Both values, or one number if they are equal."""
    one, other = _first(config, encoder), _first(config, decoder)
    if one is None or other is None:
        return None
    if "layers" in encoder[0]:
        return f"{one} + {other}"
    return f"{one:,}" if one == other else f"{one:,} and {other:,}"


def _positions(config: Any) -> str | None:
    if config.model_type == "marian":
        return POSITION_NAMES["concatenated"]
    return POSITION_NAMES.get(getattr(config, "positional_encoding", ""))


def _norm(config: Any) -> str | None:
    if not hasattr(config, "normalize_before"):
        return None
    return "before each sub-layer" if config.normalize_before else "after each residual sum, as in the paper"


def _decoding(model: Any, settings: dict[str, Any]) -> str:
    beams = settings.get("num_beams") or model.generation_config.num_beams or 1
    if beams == 1:
        return "greedy"
    return f"beam search with {beams} beams, scores divided by {length_penalty(model, settings)[0]}"
