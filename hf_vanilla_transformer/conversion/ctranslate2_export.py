"""Ours to CTranslate2, which serves models on processors and GPUs.

| ours | CTranslate2's |
|---|---|
| `q_proj`, `k_proj`, `v_proj` | one matrix, rows in that order; `q_proj` alone in encoder-decoder attention |
| `final_logits_bias` | the bias of `decoder/projection` |
| positional encoding, any of the five | a table, of 1,024 rows or more if sinusoids, and no further positions |
| biases left out (`attention_bias=False`) | left out |
| `decoder_start_token_id` | `decoder_start_token` |
| generation config | nothing: `translate_options.json` has the arguments for `translate_batch` |
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..configuration_vanilla_transformer import VanillaTransformerConfig
from ..manifest_vanilla_transformer import require_empty_folder, sealed_folder
from ..modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration
from .exports import LONGEST, end_ids, head_widths, refuse_if_any, require_ours, require_packages
from .vocabularies import source_vocabulary, target_vocabulary

QUANTIZATIONS = ("float32", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16")
SHORTEST_TABLE = 1024  # of sinusoids: 2 MiB at d_model 512
OPTIONS_NAME = "translate_options.json"
ACTIVATIONS = {
    "relu": "RELU",
    "gelu": "GELU",
    "gelu_new": "GELUTanh",
    "gelu_fast": "GELUTanh",
    "gelu_pytorch_tanh": "GELUTanh",
    "quick_gelu": "GELUSigmoid",
    "silu": "SWISH",
    "swish": "SWISH",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
}
"""Names in `transformers` and in `ctranslate2.specs.common_spec.Activation`."""


def to_ctranslate2(
    model: VanillaTransformerForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | os.PathLike[str],
    quantization: str = "float32",
) -> Path:
    """Write a folder that `ctranslate2.Translator` runs, with vocabularies, start token and the tokenizer's files.

    A source is `tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)`, its end token included. A tokenizer with
    two vocabularies converts ids by the target's: there it is `tokenizer.tokenize(text)` and the end token.

    Args:
        model: left as it is.
        tokenizer: its tokenizer.
        folder: to make; may exist if it is empty.
        quantization: how weights are stored, one of `QUANTIZATIONS`; CTranslate2 computes in that type where the
            processor can.

    Returns:
        `folder`.

    Raises:
        TypeError: another kind of model.
        ImportError: CTranslate2 is not installed.
        FileExistsError: `folder` holds something.
        ValueError: CTranslate2 has no such model, there is no such quantization, or the tokenizer has more tokens
            than the model.
    """
    require_ours(model)
    require_packages("The export to CTranslate2", "ctranslate2")
    require_empty_folder(folder)
    require_quantization(quantization)
    config = model.config
    refuse_if_any(_ctranslate2_cannot(config), "CTranslate2")
    spec = _new_spec(config)
    _fill_stack(spec.encoder, model.model.encoder)
    _fill_stack(spec.decoder, model.model.decoder)
    _fill_linear(spec.decoder.projection, model.lm_head)
    if config.logits_bias:
        spec.decoder.projection.bias = _array(model.final_logits_bias[0])
    _register_vocabularies(spec, config, tokenizer)
    spec.config.layer_norm_epsilon = config.layer_norm_eps
    spec.validate()
    spec.optimize(quantization=quantization)
    with sealed_folder(folder, {"exported_to": {"format": "ctranslate2", "quantization": quantization}}) as beside:
        tokenizer.save_pretrained(beside)
        spec.save(str(beside))
        options = json.dumps(translate_options(model, tokenizer), ensure_ascii=False, indent=2)
        (beside / OPTIONS_NAME).write_text(options + "\n", encoding="utf-8", newline="\n")
    return Path(folder)


def require_quantization(quantization: str) -> None:
    """Refuse what CTranslate2 has no name for.

    Raises:
        ValueError: it is none of `QUANTIZATIONS`.
    """
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"`quantization` must be one of {', '.join(QUANTIZATIONS)}, got {quantization!r}.")


def translate_options(
    model: VanillaTransformerForConditionalGeneration, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """The model's generation settings as arguments of `translate_batch`, as far as it has them.

    It has no limit that grows with the source, and calls no other length penalty than length ** alpha its own:
    `max_decoding_length` is the model's `max_length`, or else 512.
    """
    settings = model.generation_config
    tokens = target_vocabulary(tokenizer)
    banned = [*(settings.bad_words_ids or []), *([token] for token in settings.suppress_tokens or [])]
    options: dict[str, Any] = {
        "beam_size": settings.num_beams or 1,
        "length_penalty": 1.0 if settings.length_penalty is None else settings.length_penalty,
        # without one CTranslate2 gives empty translations, which beam search often finds likeliest
        "min_decoding_length": max(1, settings.min_new_tokens or 0, (settings.min_length or 0) - 1),
        "max_decoding_length": min(
            settings.max_new_tokens or settings.max_length or LONGEST, table_length(model.config)
        ),
    }
    if banned:
        options["suppress_sequences"] = [[tokens[index] for index in word] for word in banned]
    ends = end_ids(model.config)
    if len(ends) > 1:
        options["end_token"] = [tokens[index] for index in ends]
    return options


def table_length(config: VanillaTransformerConfig) -> int:
    """Positions that the exported model has; sinusoids, which have no end here, need a table there."""
    if config.positional_encoding == "learned":
        return config.max_position_embeddings
    return max(config.max_position_embeddings, SHORTEST_TABLE)


def _ctranslate2_cannot(config: VanillaTransformerConfig) -> list[str]:
    cannot = [f"no {name}" for name in ("decoder_start_token_id", "eos_token_id") if getattr(config, name) is None]
    if config.activation_function not in ACTIVATIONS:
        cannot.append(f"the activation {config.activation_function}")
    for side in ("encoder", "decoder"):
        heads, d_k, d_v = head_widths(config, side)
        if (d_k * heads, d_v) != (config.d_model, d_k):
            cannot.append(f"{heads} heads of d_k {d_k} and d_v {d_v} in the {side} at d_model {config.d_model}")
    return cannot


def _new_spec(config: VanillaTransformerConfig) -> Any:
    from ctranslate2.specs import common_spec, transformer_spec

    options = {
        "pre_norm": config.normalize_before,
        "activation": common_spec.Activation[ACTIVATIONS[config.activation_function]],
    }
    return transformer_spec.TransformerSpec(
        transformer_spec.TransformerEncoderSpec(config.encoder_layers, config.encoder_attention_heads, **options),
        transformer_spec.TransformerDecoderSpec(config.decoder_layers, config.decoder_attention_heads, **options),
    )


def _fill_stack(spec: Any, stack: Any) -> None:
    """Encoder or decoder; the encoder has a list of embeddings, since CTranslate2 knows sources with factors."""
    config = stack.config
    embeddings = spec.embeddings[0] if isinstance(spec.embeddings, list) else spec.embeddings
    embeddings.weight = _array(stack.embed_tokens.weight)
    spec.scale_embeddings = stack.embed_scale
    positions = torch.arange(table_length(config), device=stack.embed_tokens.weight.device)
    with torch.no_grad():
        spec.position_encodings.encodings = _array(stack.embed_positions(positions))
    if config.normalize_before:
        _fill_norm(spec.layer_norm, stack.layer_norm)
    for layer_spec, layer in zip(spec.layer, stack.layers, strict=True):
        attention = layer.self_attn
        _fill_linear(layer_spec.self_attention.linear[0], attention.q_proj, attention.k_proj, attention.v_proj)
        _fill_linear(layer_spec.self_attention.linear[1], attention.out_proj)
        _fill_norm(layer_spec.self_attention.layer_norm, layer.self_attn_layer_norm)
        if hasattr(layer, "encoder_attn"):
            attention = layer.encoder_attn
            _fill_linear(layer_spec.attention.linear[0], attention.q_proj)
            _fill_linear(layer_spec.attention.linear[1], attention.k_proj, attention.v_proj)
            _fill_linear(layer_spec.attention.linear[2], attention.out_proj)
            _fill_norm(layer_spec.attention.layer_norm, layer.encoder_attn_layer_norm)
        _fill_linear(layer_spec.ffn.linear_0, layer.fc1)
        _fill_linear(layer_spec.ffn.linear_1, layer.fc2)
        _fill_norm(layer_spec.ffn.layer_norm, layer.final_layer_norm)


def _fill_linear(spec: Any, *layers: nn.Linear) -> None:
    """One matrix of several, their outputs side by side."""
    spec.weight = _array(torch.cat([layer.weight for layer in layers]))
    if layers[0].bias is not None:
        spec.bias = _array(torch.cat([layer.bias for layer in layers]))


def _fill_norm(spec: Any, norm: nn.LayerNorm) -> None:
    spec.gamma, spec.beta = _array(norm.weight), _array(norm.bias)


def _array(tensor: torch.Tensor) -> Any:
    return tensor.detach().float().cpu().numpy().copy()  # CTranslate2 rounds weights where they stand


def _register_vocabularies(spec: Any, config: VanillaTransformerConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    target_rows = config.decoder_vocab_size or config.vocab_size
    source = _padded_vocabulary(source_vocabulary(tokenizer), config.vocab_size, "source")
    target = _padded_vocabulary(target_vocabulary(tokenizer), target_rows, "target")
    spec.register_source_vocabulary(source)
    spec.register_target_vocabulary(target)
    end = target[end_ids(config)[0]]
    spec.config.eos_token = end
    # without an unknown token, or a beginning of sentence, CTranslate2 must still be given tokens of the vocabulary
    spec.config.unk_token = tokenizer.unk_token or end
    spec.config.bos_token = tokenizer.bos_token or end
    assert config.decoder_start_token_id is not None  # `_ctranslate2_cannot`
    spec.config.decoder_start_token = target[config.decoder_start_token_id]


def _padded_vocabulary(tokens: Sequence[str], rows: int, side: str) -> list[str]:
    if len(tokens) > rows:
        raise ValueError(
            f"The tokenizer has {len(tokens):,} {side} tokens, but the model has embeddings for {rows:,}. Use the "
            "tokenizer that the model was trained with."
        )
    return [*tokens, *(f"<unused {index}>" for index in range(len(tokens), rows))]
