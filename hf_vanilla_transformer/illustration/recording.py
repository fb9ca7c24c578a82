"""Record one forward pass of a translation for the page: attention, vectors inside layers, logits.

This works for any encoder-decoder of `transformers` that returns attention weights. Hooks read the vectors inside a
layer if it has the parts of the BART family (ours, Marian, FSMT): `q_proj`, `k_proj`, `v_proj`, `out_proj`, `fc1`,
`fc2` and a LayerNorm for each sub-layer. The recorded values show whether these are connected as in the paper, so the
page never shows something that the model does not compute.
"""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ..model.sentences import inference
from .contents import Array

SIDES = ("encoder", "decoder")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")


@dataclass
class Passage:
    """Input and output of a module, each (tokens, width)."""

    given: torch.Tensor
    made: torch.Tensor


@dataclass
class Recording:
    """Attention weights by `encoder`, `decoder` and `cross`, (heads, queries, keys) per layer; logits
    (target_len, vocab); input and output of each recorded module; and the relative tolerance for comparing two
    computations of the same value."""

    attention: dict[str, list[torch.Tensor]]
    logits: torch.Tensor
    passages: dict[nn.Module, Passage] = field(default_factory=dict)
    tolerance: float = 2e-3


def record(model: Any, source_ids: Sequence[int], decoder_ids: Sequence[int], inside: bool = True) -> Recording:
    """Run a source and its translation through the model once, with eager attention; the model is not modified.

    Args:
        model: an encoder-decoder of `transformers`.
        source_ids: the sentence, with its end.
        decoder_ids: the start token and the translation without its last token.
        inside: whether to record inputs and outputs of the modules in each layer.

    Raises:
        ValueError: the model returns no attention weights.
    """
    source = torch.tensor([list(source_ids)], device=model.device)
    decoder_inputs = torch.tensor([list(decoder_ids)], device=model.device)
    modules = _modules_to_hear(model) if inside else []
    with inference(model), eager_attention(model), _hooks_taken_off(model), _listening(modules) as passages:
        outputs = model(
            input_ids=source,
            attention_mask=torch.ones_like(source),
            decoder_input_ids=decoder_inputs,
            output_attentions=True,
            use_cache=False,
            return_dict=True,
        )
    found = {
        "encoder": outputs.encoder_attentions,
        "decoder": outputs.decoder_attentions,
        "cross": outputs.cross_attentions,
    }
    for name, layers in found.items():
        if not layers or any(weights is None for weights in layers):
            raise ValueError(
                f"A page shows attention, but {type(model).__name__} returns no attention weights ({name}). Use a "
                "model with eager attention."
            )
    attention = {name: [plain(weights[0]) for weights in layers] for name, layers in found.items()}
    is_half = outputs.logits.dtype in (torch.bfloat16, torch.float16)
    return Recording(attention, plain(outputs.logits[0]), passages, 5e-2 if is_half else 2e-3)


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Convert to float32 on the CPU."""
    return tensor.detach().float().cpu()


def to_array(tensor: torch.Tensor) -> Array:
    """Convert a tensor to an `Array`."""
    values = array("f")
    values.frombytes(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return Array(tuple(tensor.shape), values)


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """Switch to eager attention, which returns its weights; restore the model's own afterwards."""
    before = getattr(model.config, "_attn_implementation", None)
    if before in (None, "eager"):
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def stack_of(model: Any, side: str) -> Any:
    """The encoder or the decoder."""
    return model.get_encoder() if side == "encoder" else model.get_decoder()


def sublayers_of(layer: nn.Module, side: str) -> list[tuple[str, str]]:
    """Names of a layer's attention modules and of their LayerNorms."""
    names = [("self_attn", "self_attn_layer_norm"), ("encoder_attn", "encoder_attn_layer_norm")]
    return names[:1] if side == "encoder" else names


def has_known_parts(layer: nn.Module, side: str) -> bool:
    """Whether a layer has the parts that are read."""
    attention = [getattr(layer, name, None) for name, _ in sublayers_of(layer, side)]
    norms = [norm for _, norm in sublayers_of(layer, side)]
    parts = [*norms, "fc1", "fc2", "final_layer_norm"]
    return all(hasattr(module, name) for module in attention for name in PROJECTIONS) and all(
        isinstance(getattr(layer, name, None), nn.Module) for name in parts
    )


def _modules_to_hear(model: Any) -> list[nn.Module]:
    found: list[nn.Module] = []
    for side in SIDES:
        stack = stack_of(model, side)
        embedding = getattr(stack, "embed_tokens", None)
        found += [embedding] if isinstance(embedding, nn.Module) else []
        for layer in getattr(stack, "layers", ()):
            if has_known_parts(layer, side):
                attention = [getattr(layer, name) for name, _ in sublayers_of(layer, side)]
                found += [layer, layer.fc1, layer.fc2, layer.final_layer_norm]
                found += [getattr(module, name) for module in attention for name in PROJECTIONS]
                found += [getattr(layer, norm) for _, norm in sublayers_of(layer, side)]
    return found


@contextmanager
def _listening(modules: list[nn.Module]) -> Iterator[dict[nn.Module, Passage]]:
    """Record inputs and outputs of `modules`."""
    passages: dict[nn.Module, Passage] = {}

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], made: Any) -> None:
        given = args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values())))
        made = made[0] if isinstance(made, tuple) else made
        passages[module] = Passage(_rows(given), _rows(made))

    handles = [module.register_forward_hook(keep, with_kwargs=True) for module in modules]
    try:
        yield passages
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _hooks_taken_off(model: nn.Module) -> Iterator[None]:
    """Remove the hooks that `transformers` leaves on layers after returning attention; they disable our own search."""
    flag = "_output_capturing_hooks_installed"
    before = {module: (set(module._forward_hooks), flag in vars(module)) for module in model.modules()}
    try:
        yield
    finally:
        for module, (hooks, was_flagged) in before.items():
            for key in set(module._forward_hooks) - hooks:
                del module._forward_hooks[key]
            if not was_flagged:
                vars(module).pop(flag, None)


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    """Copy one sentence to (tokens, width), whichever axis is the batch; some models later add in place."""
    tensor = plain(tensor)
    return (tensor.reshape(-1, tensor.shape[-1]) if tensor.dim() > 2 else tensor.squeeze(0)).clone()
