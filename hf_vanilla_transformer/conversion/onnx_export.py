"""Export to ONNX through `transformers.exporters`: one graph for the source, one for a single decoding step.

| graph | inputs | outputs |
|---|---|---|
| `encoder.onnx` | `input_ids`, `attention_mask` | `cross_keys.n`, `cross_values.n` of each decoder layer n |
| `decoder.onnx` | `decoder_input_ids`, `attention_mask`, `cross_*.n`, `past_*.n` | `logits`, `present_*.n` |

Shapes: source tokens and their mask (batch, source_len), the target's last token (batch, 1), logits (batch, vocab),
keys and values (batch, heads, length, width). The past may have length 0, so that the first step needs no separate
graph. Weights are float32.
"""

import contextlib
import copy
import io
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from ..model.modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration
from ..model.whole_folders import require_empty_folder, sealed_folder
from .exports import require_ours, require_saveable_settings
from .formats import EXPORT_FORMATS

Tensors = list[torch.Tensor]


def to_onnx(
    model: VanillaTransformerForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | os.PathLike[str],
) -> Path:
    """Write a folder for onnxruntime, with a copy of `onnx_runner.py`, which decodes greedily.

    Args:
        model: the model; not modified.
        tokenizer: its tokenizer, saved beside the graphs.
        folder: the folder to create; may exist if it is empty.

    Returns:
        `folder`.

    Raises:
        TypeError: another class of model.
        ImportError: a package is missing, or the installed transformers has no exporters.
        FileExistsError: `folder` is not empty.
        ValueError: the generation config has settings that `onnx_runner.py` does not support.
    """
    require_ours(model, "ONNX")
    if find_spec("transformers.exporters") is None:
        raise ImportError("The export to ONNX needs transformers.exporters. Install transformers 5.23 or newer.")
    EXPORT_FORMATS["onnx"].require_packages()
    from . import onnx_runner

    onnx_runner.refuse_unknown_settings(model.generation_config.to_diff_dict())
    require_saveable_settings(model.generation_config)
    require_empty_folder(folder)
    model = copy.deepcopy(model).float().cpu().requires_grad_(False).eval()
    with sealed_folder(folder, {"exported_to": {"format": "onnx"}}) as beside:
        _export_graphs(model, beside)
        model.generation_config.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        shutil.copyfile(onnx_runner.__file__, beside / "onnx_runner.py")
    return Path(folder)


class SourceGraph(nn.Module):
    """The encoder, and the keys and values that every decoder step reads."""

    def __init__(self, model: VanillaTransformerForConditionalGeneration) -> None:
        super().__init__()
        self.encoder = model.model.encoder
        self.layers = model.model.decoder.layers

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, Tensors]:
        """Map inputs (batch, source_len) to each layer's keys and values (batch, heads, source_len, d_k or d_v)."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pairs = [layer.encoder_attn.keys_and_values(states, states, None) for layer in self.layers]
        return {"cross_keys": [key for key, _ in pairs], "cross_values": [value for _, value in pairs]}


class StepGraph(nn.Module):
    """One step of the decoder."""

    def __init__(self, model: VanillaTransformerForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        decoder_input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        cross_keys: Tensors,
        cross_values: Tensors,
        past_keys: Tensors,
        past_values: Tensors,
    ) -> dict[str, Any]:
        """Map the last token (batch, 1) and the past to logits (batch, vocab) and the extended past."""
        cache = EncoderDecoderCache(_cache(past_keys, past_values), _cache(cross_keys, cross_values))
        cache.is_updated = dict.fromkeys(range(len(cross_keys)), True)
        batch, _, source_len, _ = cross_keys[0].shape
        # the keys stand in for the encoder's states, of which only the length is read
        encoded = BaseModelOutput(last_hidden_state=cross_keys[0].new_zeros(batch, source_len, 1))
        outputs = self.model(
            decoder_input_ids=decoder_input_ids,
            attention_mask=attention_mask,
            encoder_outputs=encoded,
            past_key_values=cache,
            use_cache=True,
        )
        layers = outputs.past_key_values.self_attention_cache.layers
        return {
            "logits": outputs.logits[:, -1],
            "present_keys": [layer.keys for layer in layers],
            "present_values": [layer.values for layer in layers],
        }


def _cache(keys: Tensors, values: Tensors) -> DynamicCache:
    cache = DynamicCache()
    for layer_idx, (key, value) in enumerate(zip(keys, values, strict=True)):
        cache.update(key, value, layer_idx)
    return cache


def _export_graphs(model: VanillaTransformerForConditionalGeneration, folder: Path) -> None:
    from transformers.exporters import OnnxConfig, OnnxExporter

    batch, source_len, past_len = (torch.export.Dim(name) for name in ("batch", "source_len", "past_len"))
    # lengths of the example; none is 1, which the exporter would treat as a constant
    tokens = torch.full((2, 5), model.config.vocab_size - 1)
    mask = torch.ones_like(tokens)
    of_source = {0: batch, 1: source_len}
    source = SourceGraph(model)
    with torch.no_grad():
        cross = source(tokens, mask)
    config = model.config
    widths = {name: cross[f"cross_{name}"][0].shape[-1] for name in ("keys", "values")}
    layers = range(config.decoder_layers)
    # separate tensors: the exporter would merge inputs that share one
    past = {
        f"past_{name}": [torch.zeros(2, config.decoder_attention_heads, 3, width) for _ in layers]
        for name, width in widths.items()
    }
    step = {
        "decoder_input_ids": tokens[:, :1],
        "attention_mask": mask,
        **cross,
        **past,
    }
    of_cross, of_past = [{0: batch, 2: source_len} for _ in layers], [{0: batch, 2: past_len} for _ in layers]
    of_step = {
        "decoder_input_ids": {0: batch},
        "attention_mask": of_source,
        **{"cross_keys": of_cross, "cross_values": of_cross, "past_keys": of_past, "past_values": of_past},
    }
    graphs: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
        "encoder.onnx": (
            source,
            {"input_ids": tokens, "attention_mask": mask},
            dict.fromkeys(("input_ids", "attention_mask"), of_source),
        ),
        "decoder.onnx": (StepGraph(model), step, of_step),
    }
    exporter = OnnxExporter()
    for name, (graph, example, dynamic) in graphs.items():
        with _quiet():
            exported = exporter.export(graph, example, OnnxConfig(dynamic=True, dynamic_shapes=dynamic))
            exporter.save_program(exported.program, folder / name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which prints each stage and warns about each operator that it does not need."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
