"""Export to CTranslate2, which serves models on CPUs and GPUs.

| ours | CTranslate2's |
|---|---|
| `q_proj`, `k_proj`, `v_proj` | one matrix, rows in that order; `q_proj` alone in encoder-decoder attention |
| `final_logits_bias` | the bias of `decoder/projection` |
| positional encoding, any of the five | a table of fixed length, at least 1,024 rows for sinusoids |
| biases left out (`attention_bias=False`) | left out |
| `decoder_start_token_id` | `decoder_start_token` |
| generation config | `translate_options.json`, by the table of `ctranslate2_options.py` |
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..model.configuration_vanilla_transformer import VanillaTransformerConfig
from ..model.modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration
from ..model.whole_folders import require_empty_folder, sealed_folder
from .ctranslate2_options import named, padded_vocabulary, table_length, target_tokens, translate_options
from .exports import end_ids, refuse_if_any, require_ours, start_id
from .formats import EXPORT_FORMATS
from .vocabularies import source_vocabulary

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
    """Write a folder that `ctranslate2.Translator` loads, with vocabularies, start token and the tokenizer's files.

    A source is `source_tokens(tokenizer, text)` of `conversion/vocabularies.py`, its end token included. It may have
    as many tokens as the position table (see `table_length`); a longer one fails.

    Args:
        model: the model; not modified.
        tokenizer: its tokenizer.
        folder: the folder to create; may exist if it is empty.
        quantization: how weights are stored, as in `formats.py`; CTranslate2 computes in that type if the CPU
            supports it.

    Returns:
        `folder`.

    Raises:
        TypeError: another class of model.
        ImportError: CTranslate2 is not installed.
        FileExistsError: `folder` is not empty.
        ValueError: CTranslate2 does not support such a model or quantization, the tokenizer has more tokens than the
            model, or the generation config names tokens outside the vocabulary.
    """
    require_ours(model, "CTranslate2")
    EXPORT_FORMATS["ctranslate2"].require_packages()
    require_empty_folder(folder)
    EXPORT_FORMATS["ctranslate2"].require_options({"quantization": quantization})
    config = model.config
    refuse_if_any(_ctranslate2_cannot(model), "CTranslate2")
    source = padded_vocabulary(source_vocabulary(tokenizer), config.vocab_size, "source")
    target = target_tokens(config, tokenizer)
    arguments = translate_options(model, tokenizer)
    spec = _new_spec(config)
    _fill_stack(spec.encoder, model.model.encoder)
    _fill_stack(spec.decoder, model.model.decoder)
    _fill_linear(spec.decoder.projection, model.lm_head)
    if config.logits_bias:
        spec.decoder.projection.bias = _array(model.final_logits_bias[0])
    spec.register_source_vocabulary(source)
    spec.register_target_vocabulary(target)
    _name_special_tokens(spec.config, model, tokenizer, target)
    spec.config.layer_norm_epsilon = config.layer_norm_eps
    spec.validate()
    spec.optimize(quantization=quantization)
    with sealed_folder(folder, {"exported_to": {"format": "ctranslate2", "quantization": quantization}}) as beside:
        tokenizer.save_pretrained(beside)
        spec.save(str(beside))
        options = json.dumps(arguments, ensure_ascii=False, indent=2)
        (beside / OPTIONS_NAME).write_text(options + "\n", encoding="utf-8", newline="\n")
    return Path(folder)


def _ctranslate2_cannot(model: VanillaTransformerForConditionalGeneration) -> list[str]:
    config = model.config
    cannot = ["no decoder_start_token_id"] if start_id(model) is None else []
    cannot += ["no eos_token_id"] if not end_ids(model) else []
    if config.activation_function not in ACTIVATIONS:
        cannot.append(f"the activation {config.activation_function}")
    for side in ("encoder", "decoder"):
        heads, d_k, d_v = config.head_widths(side)
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
    """Fill encoder or decoder; the encoder has a list of embeddings, since CTranslate2 supports source factors."""
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
    """Fill one matrix from several layers, their outputs concatenated."""
    spec.weight = _array(torch.cat([layer.weight for layer in layers]))
    if layers[0].bias is not None:
        spec.bias = _array(torch.cat([layer.bias for layer in layers]))


def _fill_norm(spec: Any, norm: nn.LayerNorm) -> None:
    spec.gamma, spec.beta = _array(norm.weight), _array(norm.bias)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy().copy()  # CTranslate2 rounds weights in place


def _name_special_tokens(
    names: Any,
    model: VanillaTransformerForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    target: list[str],
) -> None:
    start, end = start_id(model), named(target, end_ids(model), "eos_token_id")[0]
    assert start is not None  # `_ctranslate2_cannot`
    names.decoder_start_token = named(target, [start], "decoder_start_token_id")[0]
    names.eos_token = end
    # a model without unknown or start-of-sentence token: CTranslate2 still needs some tokens of the vocabulary
    names.unk_token = tokenizer.unk_token or end
    names.bos_token = tokenizer.bos_token or end
