"""Which models and calls the fast path may decode: exactly those whose result it computes. What it does not know is an
obstacle, never ignored.

The fast path reads the model's weights and computes by its own code what `forward` computes with them. So a model is
admitted only if its modules are those of the modeling file, to the exact type, with plain parameters, and nothing
stands in the way of their own `forward`: no method or attribute of an instance in place of its class's, no function of
a class replaced since the file was loaded, no hook, no parametrisation, no adapter, no attention function but
`transformers`' own. Two wrappers are known: accelerate's autocast around the model's own `forward`, and the hooks that
`transformers` leaves behind after a call for attention weights, which do nothing.

Whatever else reads weights (exports) asks `require_plain_weights`, by the same rules.
"""

import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from transformers.activations import ACT2FN
from transformers.generation import (
    EosTokenCriteria,
    GenerationConfig,
    GenerationMixin,
    MaxLengthCriteria,
    MaxTimeCriteria,
)
from transformers.integrations.flash_attention import flash_attention_forward
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask, sdpa_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.utils import output_capturing

from .call_settings import CallSettings, SourceLengthLimit

# Models: what each class is made of, by the names of the modeling file


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
"""The child modules of each, all of which must be there (but `shared`, where embeddings are not)."""
_PARAMETERS = {
    "Linear": {"weight", "bias"},
    "LayerNorm": {"weight", "bias"},
    "Embedding": {"weight"},
    "LearnedPositionalEmbedding": {"weight"},
}
_OF_MODULES = ("__call__", "_call_impl", "_wrapped_call_impl", "__getattr__", "forward")
_IDLE_HOOKS = vars(output_capturing)


class _Kind:
    """What an exact class of module must look like.

    Attributes:
        name: in the modeling file, or torch's.
        parts: child modules and their kinds; None where any number of layers is held.
        parameters, buffers: their names.
        layer: the kind of layers in it.
        methods, known_methods: names that an instance must not have of its own, but for those looked at elsewhere.
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
    """The modeling file as it was loaded: its classes, and the functions that they compute with."""

    def __init__(self, model_class: type) -> None:
        module = sys.modules[model_class.__module__]
        names = {*_PARTS, "SinusoidalPositionalEncoding", "LearnedPositionalEmbedding"}
        ours = {name: model_class if name == model_class.__name__ else vars(module)[name] for name in names}
        self.kinds = {of: _Kind(name, of) for name, of in ours.items()}
        self.kinds |= {of: _Kind(of.__name__, of) for of in _OF_TORCH}
        self.kinds |= {of: _Kind("activation", of) for of in _activations()}
        written_here = {base for of in ours.values() for base in of.__mro__ if base.__module__ == module.__name__}
        # of classes of others only what computes: libraries change the rest of nn.Module at run time
        self.functions = [
            *((vars(of), _functions(vars(of))) for of in (*written_here, GradientCheckpointingLayer, GenerationMixin)),
            *(
                (vars(of), {name: vars(of)[name] for name in _OF_MODULES if name in vars(of)})
                for of in (nn.Module, PreTrainedModel, *_OF_TORCH, *_activations())
            ),
            (vars(module), _functions(vars(module))),
            (vars(nn.functional), {name: getattr(nn.functional, name) for name in _OF_FUNCTIONAL}),
        ]
        self.model_class = model_class

    def replaced(self) -> str | None:
        """The name of a function that is no longer the one that was loaded, or None."""
        for now, before in self.functions:
            for name, function in before.items():
                if now.get(name) is not function:
                    return name
        return None


_OF_FUNCTIONAL = ("linear", "embedding", "layer_norm", "relu", "softmax", "scaled_dot_product_attention")


def _functions(space: Mapping[str, Any]) -> dict[str, Any]:
    kinds = (types.FunctionType, staticmethod, classmethod, property)
    return {name: value for name, value in space.items() if isinstance(value, kinds)}


def _activations() -> set[type]:
    """Classes of the named activation functions."""
    found = set()
    for name in ACT2FN:
        entry = dict.__getitem__(ACT2FN, name)
        of = entry[0] if isinstance(entry, tuple) else entry
        if isinstance(of, type) and issubclass(of, nn.Module):
            found.add(of)
    return found


_ORIGINALS: dict[type, _Original] = {}


def known_to_the_fast_path(model_class: Class) -> Class:
    """Remember the modeling file as it stands when its last class is made: what the fast path equals."""
    _ORIGINALS[model_class] = _Original(model_class)
    return model_class


def is_known_class(model: object) -> bool:
    """Whether a model is of the class that the fast path knows, to the letter."""
    return type(model) in _ORIGINALS


def why_not_model(model: Any, lasting: bool = False, weights_only: bool = False) -> str | None:
    """Why the fast path does not compute what this model's `forward` computes, in words, or None if it does.

    Args:
        model: any.
        lasting: whether it is asked for a snapshot, which is in evaluation mode whatever the model is in.
        weights_only: whether it is asked what the weights are, whatever mode, types and attention function they are
            computed with.
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
    return None if weights_only else _why_not_attention(model, config)


_Found = tuple[str, list[str]] | None
"""What is unknown, with {} for its place, and the place's names from the inside out."""


class _Check:
    """One walk over a model's modules, which every call of `generate` waits for: places are named only when needed."""

    def __init__(self, kinds: dict[type, _Kind], config: Any, like: Any, may_train: bool) -> None:
        self.kinds, self.config, self.like, self.may_train = kinds, config, like, may_train

    def module(self, module: nn.Module, kind: _Kind, layer: str = "") -> _Found:
        """What is unknown of a module or of those in it; `layer` is the kind of layers that are in its lists."""
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
                if not tensor.numel() or tensor.is_meta or tensor.layout is not torch.strided:
                    return "a weight of {} that is not here, or in another layout", []
                if self.like is not None and (tensor.dtype, tensor.device) != self.like:
                    return "weights of several types or devices", []
            elif tensor is not None or name != "bias":
                return f"a {type(tensor).__name__} as {name} of {{}}", []
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
"""Equation 1 by other kernels of `transformers`' own; `eager` is the modeling file's."""


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
                # transformers' kernels hide the future by this flag
                if getattr(layer, attention).is_causal is not ((stack, attention) == ("decoder", "self_attn")):
                    return f"another `is_causal` of {stack}.layers.{number}.{attention}"
    return None


# Autocast


def autocast_of(model: Any) -> tuple[torch.dtype, str] | None:
    """The type that accelerate's wrapper around the model's own `forward` computes in, and the device it acts on.

    `Accelerator.prepare` puts it on the instance; None if there is no such wrapper, or something else in it.
    """
    wrapped, own, weights = vars(model).get("forward"), vars(type(model)).get("forward"), model.dtype
    if not isinstance(wrapped, types.MethodType) or wrapped.__self__ is not model:
        return None
    of_accelerate = "accelerate.utils.operations"
    to_float32: Any = getattr(wrapped.__func__, "__wrapped__", None)
    if wrapped.__func__.__globals__["__name__"] != of_accelerate or type(to_float32).__module__ != of_accelerate:
        return None
    in_autocast = to_float32.model_forward
    if not isinstance(in_autocast, types.FunctionType):
        return None
    if in_autocast.__code__ is not _DECORATED_BY_AUTOCAST or getattr(in_autocast, "__wrapped__", None) is not own:
        return None
    cells = dict(zip(in_autocast.__code__.co_freevars, in_autocast.__closure__ or (), strict=True))
    autocast = cells["autocast_instance"].cell_contents
    if cells["func"].cell_contents is not own or type(autocast) is not torch.autocast:
        return None
    dtype: torch.dtype = autocast.fast_dtype if autocast._enabled else weights
    return dtype, autocast.device


_DECORATED_BY_AUTOCAST = torch.autocast("cpu", enabled=False)(lambda: None).__code__


def computing_type(model: Any) -> torch.dtype:
    """The type that the model's matrix products are computed in: under autocast that of autocast."""
    found = autocast_of(model)
    device = model.device.type
    if found is not None and found[1] == device:
        return found[0]
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else model.dtype


# Calls


_ENTRANCES = ("streamer", "synced_gpus", "assistant_model", "tokenizer", "assistant_tokenizer")
"""Arguments that `custom_generate` loses."""
_READ = {"encoder_outputs", "attention_mask", "input_ids", "inputs_embeds", "position_ids", "decoder_input_ids"}
_NOT_READ = {"labels", "num_items_in_batch", "return_dict", "return_loss", "skip_logits", "trust_remote_code"}
"""Inputs that the result of decoding does not depend on."""
_PROCESSED = {"prefix_allowed_tokens_fn", "negative_prompt_ids", "negative_prompt_attention_mask"}
_CRITERIA = (MaxLengthCriteria, EosTokenCriteria, MaxTimeCriteria, SourceLengthLimit)
_HARMLESS_FIELDS = {
    *("cache_config", "max_cache_len", "compile_config", "disable_compile", "transformers_version"),
    *("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold"),
    *("max_matching_ngram_size", "assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight"),
}
"""Of sampling, assisted decoding and compiled static caches, which are other obstacles."""
_SETTLED_FIELDS = {
    *("max_length", "max_new_tokens", "min_length", "min_new_tokens", "early_stopping", "max_time"),
    *("do_sample", "num_beams", "num_beam_groups", "use_cache", "cache_implementation", "num_return_sequences"),
    *("repetition_penalty", "encoder_repetition_penalty", "length_penalty", "no_repeat_ngram_size", "bad_words_ids"),
    *("renormalize_logits", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values"),
    *("exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "sequence_bias"),
    *("guidance_scale", "watermarking_config", "encoder_no_repeat_ngram_size"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"),
}
"""What the search asks of the settled call, or `transformers` makes logits processors and criteria of."""


def why_not_call(model: Any, call: Mapping[str, Any], settings: CallSettings, by_snapshot: bool = False) -> str | None:
    """Why this call of `generate` is not decoded by the fast path, in words, or None if it is.

    Args:
        model: of ours.
        call: all arguments of the call that are not None, by name.
        settings: what they ask for, settled.
        by_snapshot: whether packed weights are there already, in a precision of their own.
    """
    obstacles = (*_by_settings(settings), *_by_arguments(call), *_by_surroundings())
    if not by_snapshot:
        obstacles = (*obstacles, _by_autocast(model))
    return next((name for name, stands in obstacles if stands), None)


def _by_settings(settings: CallSettings) -> Iterator[tuple[str, Any]]:
    values = settings.values
    greedy = settings.num_beams == 1
    kind = values.get("cache_implementation")
    outputs = [name for name in ("attentions", "hidden_states", "logits") if values.get(f"output_{name}")]
    yield "sampling", values.get("do_sample")
    yield f"output of {' and '.join(outputs)}", outputs
    yield "decoding without a cache", not values.get("use_cache")
    yield f"a cache of kind {kind}", kind not in (None, "dynamic")
    yield "groups of beams", (values.get("num_beam_groups") or 1) > 1
    yield "more returned sequences than beams", settings.num_return_sequences > settings.num_beams
    yield "scores of all tokens in greedy decoding", greedy and values.get("output_scores")
    yield "no padding token", greedy and not _has_padding(settings)
    unknown = [
        name
        for name in vars(GenerationConfig())
        if not name.startswith("_") and name not in _HARMLESS_FIELDS | _SETTLED_FIELDS and _is_set(values.get(name))
    ]
    yield f"the setting {', '.join(unknown)}", unknown


def _is_set(value: Any) -> bool:
    return value is not None and value is not False and not (isinstance(value, (int, float)) and value == 0)


def _has_padding(settings: CallSettings) -> bool:
    """`transformers` takes the end of sentence where there is no padding token."""
    return settings.values.get("pad_token_id") is not None or bool(settings.eos_ids)


def _by_arguments(call: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _ENTRANCES:
        yield f"a {name}" if name != "synced_gpus" else "several processes that share one model", call.get(name)
    yield "a cache that is given", call.get("past_key_values") is not None
    fields = vars(GenerationConfig()).keys()
    known = {*_READ, *_NOT_READ, *_PROCESSED, *_ENTRANCES, *fields, "past_key_values", "logits_to_keep"}
    arguments = sorted(call.keys() - known - {"generation_config", "logits_processor", "stopping_criteria"})
    yield f"the inputs {', '.join(arguments)}", arguments
    criteria = names_of(call.get("stopping_criteria") or (), _CRITERIA)
    yield f"the stopping criterion {', '.join(criteria)}", criteria
    yield "a choice of logits", not isinstance(call.get("logits_to_keep", 1), int)
    mask = call.get("attention_mask")
    yield "a mask that is not one number a token", isinstance(mask, torch.Tensor) and mask.dim() != 2


def _by_autocast(model: Any) -> tuple[str, bool]:
    kept, own = computing_type(model), model.dtype
    return f"autocast to {kept}", kept is not own and (own, kept) != (torch.float32, torch.bfloat16)


def names_of(things: Iterable[Any], known: tuple[type, ...]) -> list[str]:
    """Classes of those that are none of the known ones exactly."""
    return [type(thing).__name__ for thing in things if type(thing) not in known]


def _by_surroundings() -> Iterator[tuple[str, Any]]:
    """What stands between all calls of torch and what they do."""
    yield "tracing", torch.compiler.is_compiling() or torch.jit.is_tracing()
    yield "a dispatch mode", torch._C._len_torch_dispatch_stack()
    modes = torch.overrides._get_current_function_mode_stack()
    yield "a function mode", names_of(modes, (torch.utils._device.DeviceContext,))


# Exits of weights


def require_plain_weights(model: Any, what: str) -> None:
    """Refuse a model whose weights are not all that its `forward` computes with.

    Args:
        model: of ours.
        what: what would be done with them, as the subject of a sentence ("The export to Marian").

    Raises:
        ValueError: adapters, quantised or sharded layers, parametrisations, other modules or methods.
    """
    obstacle = why_not_model(model, weights_only=True)
    if obstacle is None:
        return
    remedy = "Take it off first."
    if has_adapters(model):
        obstacle, remedy = "adapters", "Merge them into the weights first: `model.merge_and_unload()` of PEFT."
    elif any(hasattr(tensor, "device_mesh") for tensor in model.parameters()):
        obstacle, remedy = "weights that are shared out over processes", "Gather them first."
    elif getattr(model, "hf_quantizer", None) is not None or "quantized" in repr(type(model.lm_head)):
        obstacle, remedy = "quantised weights", "Load the model without quantisation."
    raise ValueError(
        f"{what} reads weights, and must see what `forward` computes with, but this model has {obstacle}. {remedy}"
    )


def has_adapters(model: Any) -> bool:
    """Whether a model holds adapters of PEFT, or is wrapped in one of its models."""
    classes = {type(model), *map(type, model.modules())}
    return any(each.__module__.split(".")[0] == "peft" for each in classes)


__all__ = [
    "autocast_of",
    "computing_type",
    "has_adapters",
    "is_known_class",
    "known_to_the_fast_path",
    "require_plain_weights",
    "why_not_call",
    "why_not_model",
]
