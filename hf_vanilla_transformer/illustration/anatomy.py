"""Analyse a recorded pass: what each head computed, and the stages of each layer in the order of figure 1.

Every result is checked against the model's own next value: scores must give its attention weights, sums must equal the
input of its LayerNorm. If a model computes something else, `UnknownParts` says what, and the page leaves it out.
"""

from typing import Any

import torch

from ..model.configuration_vanilla_transformer import is_ours, longest_sentence
from .contents import Attention, Embeddings, Heads, Layer, Positions, Stage
from .recording import SIDES, Passage, Recording, has_known_parts, stack_of, sublayers_of, to_array

POSITION_NAMES = {
    "interleaved": "the paper's: sine and cosine alternate",
    "concatenated": "sines, then cosines, with the paper's wavelengths (Marian in transformers)",
    "tensor2tensor": "sines, then cosines (Tensor2Tensor, Marian C++)",
    "fairseq": "sines, then cosines, positions counted from the padding id (fairseq)",
    "learned": "learned, one vector per position (table 3, row E)",
}
MOST_POSITIONS = 64


class UnknownParts(Exception):  # noqa: N818  # not an error for callers: the page shows the message instead
    """A model's layers differ from the paper's; the message tells the reader how."""


def take_attention_apart(model: Any, recording: Recording) -> dict[str, Attention]:
    """Queries, keys, scores and values of all three kinds of attention.

    Raises:
        UnknownParts: they cannot be read, or do not produce the model's attention weights.
    """
    kinds = {
        "encoder": ("encoder", "self_attn"),
        "decoder": ("decoder", "self_attn"),
        "cross": ("decoder", "encoder_attn"),
    }
    found = {}
    for kind, (side, name) in kinds.items():
        modules = [getattr(layer, name) for layer in _known_layers(model, side)]
        heads = [
            _heads(module, weights, recording, causal=kind == "decoder")
            for module, weights in zip(modules, recording.attention[kind], strict=True)
        ]
        found[kind] = Attention(heads, _scaling(modules[0], heads[0]))
    return found


def weights_alone(recording: Recording) -> dict[str, Attention]:
    """Only the attention weights, which any model returns."""
    return {
        kind: Attention([Heads(to_array(weights)) for weights in layers])
        for kind, layers in recording.attention.items()
    }


def take_layers_apart(model: Any, recording: Recording) -> dict[str, list[Layer]]:
    """The stages of each layer.

    Raises:
        UnknownParts: the sub-layers are not joined by residual connections and pre- or post-LayerNorm.
    """
    return {side: [_layer(layer, side, recording) for layer in _known_layers(model, side)] for side in SIDES}


def take_embeddings_apart(model: Any, recording: Recording) -> dict[str, Embeddings]:
    """Scaled embeddings, and their sum with the positions, of both sides.

    Raises:
        UnknownParts: the difference between the two is not a positional encoding.
    """
    found = {}
    for side in SIDES:
        stack = stack_of(model, side)
        first = _known_layers(model, side)[0]
        embedding = getattr(stack, "embed_tokens", None)
        if embedding not in recording.passages or getattr(stack, "layernorm_embedding", None) is not None:
            raise UnknownParts("This model does not simply add positions to its embeddings.")
        scale = float(getattr(stack, "embed_scale", 1.0))
        scaled = recording.passages[embedding].made * scale
        total = recording.passages[first].given
        if scaled.shape != total.shape:
            raise UnknownParts("This model's layers and embeddings differ in width.")
        found[side] = Embeddings(to_array(scaled), to_array(total), scaled.shape[1])
    return found


def read_positions(model: Any, recording: Recording) -> Positions:
    """The positional encoding in use: up to 64 positions, or only the sentence's if no more can be computed.

    Raises:
        UnknownParts: the model adds no position vectors.
    """
    encoder = stack_of(model, "encoder")
    if getattr(encoder, "embed_positions", None) is None:
        raise UnknownParts(
            "This model adds no position vectors to its embeddings; it represents positions in another way."
        )
    if is_ours(model):
        convention = model.config.positional_encoding
        count = min(MOST_POSITIONS, longest_sentence(model.config) or MOST_POSITIONS)
        with torch.no_grad():
            values = encoder.embed_positions(torch.arange(count, device=model.device))
        return Positions(POSITION_NAMES[convention], to_array(values))
    embeddings = {side: recording.passages[stack_of(model, side).embed_tokens] for side in SIDES}
    differences = [
        recording.passages[_known_layers(model, side)[0]].given
        - embeddings[side].made * float(getattr(stack_of(model, side), "embed_scale", 1.0))
        for side in SIDES
    ]
    longest = max(differences, key=len)
    conventions = {"marian": "concatenated", "fsmt": "fairseq"}
    name = POSITION_NAMES.get(conventions.get(model.config.model_type, ""), "as this model adds it")
    return Positions(name, to_array(longest))


def _known_layers(model: Any, side: str) -> list[Any]:
    layers = list(getattr(stack_of(model, side), "layers", ()))
    if not layers or not all(has_known_parts(layer, side) for layer in layers):
        raise UnknownParts(
            f"The layers of {type(model).__name__} do not have the paper's parts under names known to this package."
        )
    return layers


def _scaling(module: Any, heads: Heads) -> float:
    assert heads.query is not None
    return float(getattr(module, "scaling", heads.query.shape[-1] ** -0.5))


def _split(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Reshape (tokens, heads * width) to (heads, tokens, width)."""
    return rows.view(rows.shape[0], heads, -1).transpose(0, 1)


def _heads(module: Any, weights: torch.Tensor, recording: Recording, causal: bool) -> Heads:
    count = weights.shape[0]
    query, key, value = (
        _split(recording.passages[getattr(module, name)].made, count) for name in ("q_proj", "k_proj", "v_proj")
    )
    output = _split(recording.passages[module.out_proj].given, count)
    scores = query @ key.transpose(1, 2) * float(getattr(module, "scaling", query.shape[-1] ** -0.5))
    seen = torch.ones_like(scores[0], dtype=torch.bool)
    seen = seen.tril() if causal else seen
    again = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    if not torch.allclose(again, weights, atol=recording.tolerance) or not torch.allclose(
        weights @ value, output, atol=recording.tolerance * max(1.0, float(value.abs().max()))
    ):
        raise UnknownParts("This model's attention weights are not simply the softmax of scaled dot products.")
    return Heads(*(to_array(tensor) for tensor in (weights, scores, query, key, value, output)))


def _layer(layer: Any, side: str, recording: Recording) -> Layer:
    x = recording.passages[layer].given
    stages = [_stage("input", "", x)]
    names = {"self_attn": "self-attention", "encoder_attn": "encoder-decoder attention"}
    for module_name, norm_name in sublayers_of(layer, side):
        projection = recording.passages[getattr(layer, module_name).out_proj]
        work = [("heads", projection.given), ("projected", projection.made)]
        x = _add_and_norm(
            stages, x, names[module_name], work, recording.passages[getattr(layer, norm_name)], recording.tolerance
        )
    second = recording.passages[layer.fc2]
    work = [("inner", second.given), ("output", second.made)]
    x = _add_and_norm(stages, x, "feed-forward", work, recording.passages[layer.final_layer_norm], recording.tolerance)
    if not _same(x, recording.passages[layer].made, recording.tolerance):
        raise UnknownParts("This model's layers compute more than the paper's.")
    return Layer(stages, sum(parameter.numel() for parameter in layer.parameters()))


def _add_and_norm(
    stages: list[Stage],
    x: torch.Tensor,
    sublayer: str,
    work: list[tuple[str, torch.Tensor]],
    norm: Passage,
    tolerance: float,
) -> torch.Tensor:
    """Append the stages of one sub-layer, with post-LayerNorm as in the paper or pre-LayerNorm; return its output."""
    total = x + work[-1][1]
    normed = _stage("norm", sublayer, norm.made, norm.given)
    inside = [_stage(kind, sublayer, values) for kind, values in work]
    if _same(norm.given, total, tolerance):  # LayerNorm(x + Sublayer(x))
        stages += [*inside, _stage("sum", sublayer, total), normed]
        return norm.made
    if _same(norm.given, x, tolerance):  # x + Sublayer(LayerNorm(x))
        stages += [normed, *inside, _stage("sum", sublayer, total)]
        return total
    raise UnknownParts("This model's sub-layers are not joined by a residual connection and LayerNorm.")


def _same(one: torch.Tensor, other: torch.Tensor, tolerance: float) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=tolerance, atol=tolerance * float(one.std()))


def _stage(kind: str, sublayer: str, values: torch.Tensor, normed: torch.Tensor | None = None) -> Stage:
    """Make a stage; `normed` is the input of LayerNorm, whose mean and deviation are stored."""
    of = values if normed is None else normed
    return Stage(
        kind,
        sublayer,
        to_array(values),
        values.shape[1],
        of.mean(-1).tolist(),
        of.std(-1, correction=0).tolist(),
        (values != 0).sum(-1).tolist() if kind == "inner" else (),
    )
