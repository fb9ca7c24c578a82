"""One forward pass of a translation, with everything a page shows of it: attention, vectors inside layers, logits.

Any encoder-decoder of `transformers` that gives attention weights is recorded. The vectors inside a layer are read by
hooks where layers have the parts of the BART family (ours, Marian, FSMT): `q_proj`, `k_proj`, `v_proj`, `out_proj`,
`fc1`, `fc2` and a LayerNorm for each sub-layer. Whether they are joined as the paper says is checked on the recorded
numbers themselves, so that nothing is shown that the model does not do.
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
    """What went into a module and what came out of it, each (tokens, width)."""

    given: torch.Tensor
    made: torch.Tensor


@dataclass
class Recording:
    """Attention weights by `encoder`, `decoder` and `cross`, a (heads, queries, keys) for each layer; logits
    (target_len, vocab); what passed through each module that was listened to; and how far two ways to the same number
    may be apart, relative to their size."""

    attention: dict[str, list[torch.Tensor]]
    logits: torch.Tensor
    passages: dict[nn.Module, Passage] = field(default_factory=dict)
    tolerance: float = 2e-3


def record(model: Any, source_ids: Sequence[int], decoder_ids: Sequence[int], inside: bool = True) -> Recording:
    """Read a source and a translation of it once, with eager attention; the model is left as it was.

    Args:
        model: an encoder-decoder of `transformers`.
        source_ids: the sentence, with its end.
        decoder_ids: the start token and the translation without its last token.
        inside: whether to keep what passes through the modules of each layer.

    Raises:
        ValueError: the model gives no attention weights.
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
                f"A page shows attention, but {type(model).__name__} gives no attention weights ({name}). Use a model "
                "with eager attention."
            )
    attention = {name: [plain(weights[0]) for weights in layers] for name, layers in found.items()}
    is_half = outputs.logits.dtype in (torch.bfloat16, torch.float16)
    return Recording(attention, plain(outputs.logits[0]), passages, 5e-2 if is_half else 2e-3)


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers in float32, on the processor."""
    return tensor.detach().float().cpu()


def to_array(tensor: torch.Tensor) -> Array:
    """The same numbers without torch."""
    values = array("f")
    values.frombytes(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return Array(tuple(tensor.shape), values)


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """Attention that keeps its weights; afterwards the model's own again."""
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
    """Whether a layer is built of the parts that are read."""
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
    """Keep what passes through `modules`."""
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
    """Take off what `transformers` leaves on layers that were asked for attention; with it our own search stops."""
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
    """(tokens, width): of one sentence, whichever of its axes counts batches. Copied: some models add in place."""
    tensor = plain(tensor)
    return (tensor.reshape(-1, tensor.shape[-1]) if tensor.dim() > 2 else tensor.squeeze(0)).clone()
