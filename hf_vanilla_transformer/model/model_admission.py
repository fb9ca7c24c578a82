"""Which models the fast path may decode: exactly those whose `forward` it reproduces. Anything unknown is an obstacle.

The fast path reads the model's weights and computes with its own code what `forward` computes with them. So a model is
admitted only if its modules have exactly the types of the modeling file, their parameters are plain, and nothing
changes their `forward`: no method or attribute of an instance overrides its class's, no function of a class was
replaced after the file was loaded, and there is no hook, parametrisation, adapter or custom attention function. Two
wrappers are allowed: accelerate's autocast around the model's own `forward`, and the hooks that `transformers` leaves
behind after a call for attention weights, which do nothing.

Other code that reads weights (exports) calls `require_plain_weights`, which applies the same rules.
"""

import sys
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from transformers.activations import ACT2FN
from transformers.generation import GenerationMixin
from transformers.integrations.flash_attention import flash_attention_forward
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask, sdpa_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.utils import output_capturing

from .autocast import autocast_of

# Models: the modules of each class, by their names in the modeling file


Class = TypeVar("Class", bound=type)

_OF_TORCH: tuple[type, ...] = (nn.Linear, nn.Embedding, nn.LayerNorm, nn.Identity, nn.ModuleList)
_ATTENTION: dict[str, tuple[str, ...]] = dict.fromkeys(("q_proj", "k_proj", "v_proj", "out_proj"), ("Linear",))
_LAYER: dict[str, tuple[str, ...]] = {
    "self_attn": ("MultiHeadAttention",),
    "self_attn_layer_norm": ("LayerNorm",),
    "activation_fn": ("activation",),
    "fc1": ("Linear",),
    "fc2": ("Linear",),
    "final_layer_norm": ("LayerNorm",),
}
_STACK: dict[str, tuple[str, ...]] = {
    "embed_tokens": ("Embedding",),
    "embed_positions": ("SinusoidalPositionalEncoding", "LearnedPositionalEmbedding"),
    "layers": ("ModuleList",),
    "layer_norm": ("LayerNorm", "Identity"),
}
_PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "VanillaTransformerForConditionalGeneration": {"model": ("VanillaTransformerModel",), "lm_head": ("Linear",)},
    "VanillaTransformerModel": {
        "shared": ("Embedding",),
        "encoder": ("VanillaTransformerEncoder",),
        "decoder": ("VanillaTransformerDecoder",),
    },
    "VanillaTransformerEncoder": _STACK,
    "VanillaTransformerDecoder": _STACK,
    "EncoderLayer": _LAYER,
    "DecoderLayer": {**_LAYER, "encoder_attn": ("MultiHeadAttention",), "encoder_attn_layer_norm": ("LayerNorm",)},
    "MultiHeadAttention": _ATTENTION,
}
"""The child modules of each class. All must be present, except `shared` if embeddings are not shared."""
_PARAMETERS = {
    "Linear": {"weight", "bias"},
    "LayerNorm": {"weight", "bias"},
    "Embedding": {"weight"},
    "LearnedPositionalEmbedding": {"weight"},
}
_OF_MODULES = ("__call__", "_call_impl", "_wrapped_call_impl", "__getattr__", "forward")
_IDLE_HOOKS = vars(output_capturing)


class _Kind:
    """What a module of an exact class must look like.

    Attributes:
        name: the class's name in the modeling file or in torch.
        parts: child modules and their kinds; None for a list of any number of layers.
        parameters, buffers: their names.
        layer: the kind of the layers in it.
        methods: names that an instance must not override.
        known_methods: exceptions to `methods`, which are checked elsewhere.
    """

    def __init__(self, name: str, of: type) -> None:
        self.name = name
        self.parts = None if of is nn.ModuleList else _PARTS.get(name, {})
        self.parameters = frozenset(_PARAMETERS.get(name, ()))
        is_head = "lm_head" in (self.parts or ())
        self.buffers = ("final_logits_bias",) if is_head else ()
        self.known_methods = {"forward"} if is_head else set()
        self.layer = {"VanillaTransformerEncoder": "EncoderLayer", "VanillaTransformerDecoder": "DecoderLayer"}.get(
            name, ""
        )
        self.methods = frozenset(n for n in dir(of) if callable(getattr(of, n, None))) | {"_compiled_call_impl"}


class _Original:
    """The modeling file as it was loaded: its classes and the functions that they use."""

    def __init__(self, model_class: type) -> None:
        module = sys.modules[model_class.__module__]
        names = {*_PARTS, "SinusoidalPositionalEncoding", "LearnedPositionalEmbedding"}
        ours = {name: model_class if name == model_class.__name__ else vars(module)[name] for name in names}
        self.kinds = {of: _Kind(name, of) for name, of in ours.items()}
        self.kinds |= {of: _Kind(of.__name__, of) for of in _OF_TORCH}
        self.kinds |= {of: _Kind("activation", of) for of in _activations()}
        written_here = {base for of in ours.values() for base in of.__mro__ if base.__module__ == module.__name__}
        # of other libraries' classes only what computes: libraries change the rest of nn.Module at run time
        self.functions = [
            *((vars(of), _functions(vars(of))) for of in (*written_here, GradientCheckpointingLayer, GenerationMixin)),
            *(
                (vars(of), {name: _of_torch(vars(of).get(name)) for name in _OF_MODULES})
                for of in (nn.Module, PreTrainedModel, *_OF_TORCH, *_activations())
            ),
            (vars(module), {**_functions(vars(module)), "ALL_ATTENTION_FUNCTIONS": ALL_ATTENTION_FUNCTIONS}),
            (vars(nn.functional), {name: getattr(nn.functional, name) for name in _OF_FUNCTIONAL}),
        ]
        self.sizes = [(of, len(vars(of)), frozenset(vars(of))) for of in (*written_here, GradientCheckpointingLayer)]

    def replaced(self) -> str | None:
        """The name of a function that was replaced or added since the file was loaded, or None."""
        for now, before in self.functions:
            for name, function in before.items():
                if now.get(name) is not function:
                    return name
        for of, size, names in self.sizes:
            if len(vars(of)) != size:  # a name in the class itself overrides its base's
                added = [
                    n for n in vars(of).keys() - names if callable(vars(of)[n]) or isinstance(vars(of)[n], property)
                ]
                if added:
                    return sorted(added)[0]
        return None


def _of_torch(function: Any) -> Any:
    """The function itself; an object that equals nothing if torch's was replaced before this package was imported."""
    module = getattr(function, "__module__", None) or "torch"
    return function if module.split(".")[0] in ("torch", "transformers") else object()


_OF_FUNCTIONAL = ("dropout", "linear", "embedding", "layer_norm", "relu", "softmax", "scaled_dot_product_attention")


def _functions(space: Mapping[str, Any]) -> dict[str, Any]:
    kinds = (types.FunctionType, staticmethod, classmethod, property)
    return {name: value for name, value in space.items() if isinstance(value, kinds)}


def _activations() -> set[type]:
    """Classes of the activation functions in `ACT2FN`."""
    found = set()
    for name in ACT2FN:
        entry = dict.__getitem__(ACT2FN, name)
        of = entry[0] if isinstance(entry, tuple) else entry
        if isinstance(of, type) and issubclass(of, nn.Module):
            found.add(of)
    return found


_ORIGINALS: dict[type, _Original] = {}


def known_to_the_fast_path(model_class: Class) -> Class:
    """Record the modeling file when its last class is defined: this is what the fast path reproduces."""
    _ORIGINALS[model_class] = _Original(model_class)
    return model_class


def is_known_class(model: object) -> bool:
    """Whether a model's class is exactly the one that the fast path knows."""
    return type(model) in _ORIGINALS


def why_not_model(model: Any, lasting: bool = False, weights_only: bool = False) -> str | None:
    """Why the fast path does not compute what this model's `forward` computes, in words, or None if it does.

    Args:
        model: any model.
        lasting: check for a snapshot, which is in evaluation mode even if the model is not.
        weights_only: check only the weights, regardless of mode, dtypes and attention function.
    """
    original = _ORIGINALS.get(type(model))
    if original is None:
        return f"a model of class {type(model).__name__}"
    replaced = original.replaced()
    if replaced is not None:
        return f"another `{replaced}` than this package's own"
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        return "hooks on all modules"
    state = vars(model)
    forward = state.get("forward")
    if forward is not None and autocast_of(model) is None:
        return "another `forward` of VanillaTransformerForConditionalGeneration"
    config = model.config
    weight = model.lm_head.weight if isinstance(getattr(model, "lm_head", None), nn.Linear) else None
    like = None if weight is None or weights_only else (weight.dtype, weight.device)
    check = _Check(original.kinds, config, like, lasting or weights_only)
    found = check.module(model, original.kinds[type(model)])
    if found is not None:
        return found[0].format(".".join(reversed(found[1])) or "the model")
    return None if weights_only else _why_not_attention(model, config) or _why_not_widths(model)


_Found = tuple[str, list[str]] | None
"""A description of what is unknown, with {} for its place, and the names of the place from the inside out."""


class _Check:
    """One walk over a model's modules. Every call of `generate` waits for it, so it names places only if needed."""

    def __init__(self, kinds: dict[type, _Kind], config: Any, like: Any, may_train: bool) -> None:
        self.kinds, self.config, self.like, self.may_train = kinds, config, like, may_train
        self.on_cpu = like is not None and like[1].type == "cpu"

    def module(self, module: nn.Module, kind: _Kind, layer: str = "") -> _Found:
        """What is unknown about a module or the modules in it; `layer` is the kind of layers in its lists."""
        state = vars(module)
        if not kind.methods.isdisjoint(state):
            own = sorted(kind.methods & state.keys() - kind.known_methods)
            if own:
                return f"another `{own[0]}` of {{}}", []
        if state["training"] and not self.may_train:
            return "training mode", []
        if state["_forward_hooks"] or state["_forward_pre_hooks"]:
            hooks = (*state["_forward_hooks"].values(), *state["_forward_pre_hooks"].values())
            if any(getattr(hook, "__globals__", None) is not _IDLE_HOOKS for hook in hooks):
                return "a hook on {}", []
        names = state.keys()
        if not all(names.isdisjoint(state[kept]) for kept in ("_modules", "_parameters", "_buffers")):
            return "an attribute in place of a module or weight of {}", []
        if "config" in state and state["config"] is not self.config:
            return "another config of {}", []
        if state["_buffers"] or kind.buffers:
            found = self._buffers(state["_buffers"], kind)
            if found is not None:
                return found
        if state["_parameters"] or kind.parameters:
            found = self._parameters(state["_parameters"], kind)
            if found is not None:
                return found
        return (
            self._children(state["_modules"], kind, layer or kind.layer) if state["_modules"] or kind.parts else None
        )

    def _parameters(self, parameters: dict[str, Any], kind: _Kind) -> _Found:
        if parameters.keys() != kind.parameters:
            return "the parameters of {}", []
        for name, tensor in parameters.items():
            if type(tensor) is nn.Parameter:
                if not tensor.numel() or tensor.layout is not torch.strided or tensor.is_meta:
                    return "a weight of {} that is not here, or in another layout", []
                if self.like is not None and (
                    tensor.dtype is not self.like[0]
                    or not ((self.on_cpu and tensor.is_cpu) or tensor.device == self.like[1])
                ):
                    return "weights of several types or devices", []
            elif tensor is not None or name != "bias":
                return f"a {type(tensor).__name__} as {name} of {{}}", []
        weight, bias = parameters.get("weight"), parameters.get("bias")
        if bias is not None and (weight is None or len(bias) != len(weight) or bias.dim() != 1):
            return "a bias of another shape in {}", []
        return None

    def _buffers(self, buffers: dict[str, Any], kind: _Kind) -> _Found:
        expected = kind.buffers if self.config.logits_bias else ()
        if tuple(buffers) != expected or any(type(tensor) is not torch.Tensor for tensor in buffers.values()):
            return "the buffers of {}", []
        if self.like is not None and any((tensor.dtype, tensor.device) != self.like for tensor in buffers.values()):
            return "weights of several types or devices", []
        return None

    def _children(self, children: dict[str, Any], kind: _Kind, layer: str) -> _Found:
        if kind.parts is not None and children.keys() != kind.parts.keys():
            extra = children.keys() ^ kind.parts.keys()
            if extra != {"shared"} or "shared" in children:
                return f"other modules in {{}} ({', '.join(sorted(extra))})", []
        for name, child in children.items():
            known = self.kinds.get(type(child))
            wanted = (layer,) if kind.parts is None else kind.parts[name]
            if known is None or known.name not in wanted:
                return f"a {type(child).__module__}.{type(child).__name__} as {{}}", [name]
            found = self.module(child, known, layer if known.parts is None else "")
            if found is not None:
                found[1].append(name)
                return found
        return None


_EQUAL_ATTENTION: dict[str, Callable[..., Any]] = {
    "sdpa": sdpa_attention_forward,
    "flex_attention": flex_attention_forward,
    "flash_attention_2": flash_attention_forward,
    "flash_attention_3": flash_attention_forward,
}
"""Equation 1 by other kernels of `transformers`; `eager` is in the modeling file."""


def _why_not_attention(model: Any, config: Any) -> str | None:
    name = config._attn_implementation
    if ALL_ATTENTION_FUNCTIONS.get(name) is not _EQUAL_ATTENTION.get(name) or (
        name != "eager" and name not in _EQUAL_ATTENTION
    ):
        return f"the attention function {name}"
    masks = {"sdpa": sdpa_mask, "eager": eager_mask}
    if name in masks and ALL_MASK_ATTENTION_FUNCTIONS.get(name) is not masks[name]:
        return f"the attention mask of {name}"
    for stack, attentions in (("encoder", ("self_attn",)), ("decoder", ("self_attn", "encoder_attn"))):
        for number, layer in enumerate(getattr(model.model, stack).layers):
            for attention in attentions:
                # kernels of transformers mask the future by this flag
                if getattr(layer, attention).is_causal is not ((stack, attention) == ("decoder", "self_attn")):
                    return f"another `is_causal` of {stack}.layers.{number}.{attention}"
    return None


def _shape(linear: nn.Module) -> torch.Size:
    weight: Any = linear._parameters["weight"]
    return weight.shape


def _why_not_widths(model: Any) -> str | None:
    """Widths that do not fit the paper's layers: `forward` may broadcast them, packed weights do not."""
    d_model, words = model.model.encoder.embed_tokens.weight.shape[1], model.lm_head.weight.shape[0]
    if model.lm_head.weight.shape[1] != d_model or model.model.decoder.embed_tokens.weight.shape[1] != d_model:
        return "embeddings of several widths"
    if model.config.logits_bias and tuple(model.final_logits_bias.shape) != (1, words):
        return "a final_logits_bias of another shape"
    if not len(model.model.decoder.layers):
        return "no decoder layer"
    for side in ("encoder", "decoder"):
        for number, layer in enumerate(getattr(model.model, side).layers):
            parts = layer._modules  # every call waits for this, and attribute access on modules is slow
            inner = _shape(parts["fc1"])[0]
            widths = [(_shape(parts["fc1"]), (inner, d_model)), (_shape(parts["fc2"]), (d_model, inner))]
            for name in ("self_attn", "encoder_attn")[: 1 + (side == "decoder")]:
                state = vars(parts[name])
                query, key, value, out = (_shape(state["_modules"][each]) for each in _ATTENTION)
                heads, rest = divmod(query[0], state["d_k"])
                keys, values = heads * state["d_k"], heads * state["d_v"]
                widths += [(query, (keys, d_model)), (key, (keys, d_model))]
                widths += [(value, (values, d_model)), (out, (d_model, values))]
                if rest or "num_key_value_groups" in state or not isinstance(state["scaling"], (int, float)):
                    return f"another kind of attention as {side}.layers.{number}.{name}"
            if any(found != wanted for found, wanted in widths):
                return f"other widths in {side}.layers.{number}"
    return "`is_causal` of the config" if hasattr(model.config, "is_causal") else None


# Other uses of weights


def require_plain_weights(model: Any, what: str) -> None:
    """Refuse a model whose `forward` computes with more than its plain weights.

    Args:
        model: a model of this package.
        what: what needs the weights, as the subject of a sentence ("The export to Marian").

    Raises:
        ValueError: adapters, quantised or sharded layers, parametrisations, other modules or methods.
    """
    obstacle = why_not_model(model, weights_only=True)
    if obstacle is None:
        return
    remedy = "Remove it first."
    if has_adapters(model):
        obstacle, remedy = "adapters", "Merge them into the weights first: PEFT's `model.merge_and_unload()`."
    elif any(hasattr(tensor, "device_mesh") for tensor in model.parameters()):
        obstacle, remedy = "weights that are sharded over processes", "Gather them first."
    elif getattr(model, "hf_quantizer", None) is not None or "quantized" in repr(type(model.lm_head)):
        obstacle, remedy = "quantised weights", "Load the model without quantisation."
    raise ValueError(
        f"{what} reads weights, which must be all that `forward` uses, but this model has {obstacle}. {remedy}"
    )


def has_adapters(model: Any) -> bool:
    """Whether a model holds PEFT adapters or is wrapped in a PEFT model."""
    classes = {type(model), *map(type, model.modules())}
    return any(each.__module__.split(".")[0] == "peft" for each in classes)


__all__ = ["has_adapters", "is_known_class", "known_to_the_fast_path", "require_plain_weights", "why_not_model"]
