"""Which calls of `generate` the fast path may decode: those for which it computes everything that is asked for.

An argument, a setting or a criterion that is not named here is an obstacle. So is anything that intercepts torch's
functions. Logits processors are not obstacles: the search calls those that it does not know.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from transformers.generation import EosTokenCriteria, MaxLengthCriteria, MaxTimeCriteria

from .autocast import unpacked_type
from .call_settings import FIELDS, CallSettings
from .length_limits import SourceLengthLimit

_ENTRANCES = ("streamer", "synced_gpus", "assistant_model", "tokenizer", "assistant_tokenizer")
"""Arguments that `transformers` does not pass to `custom_generate`."""
_READ = {"encoder_outputs", "attention_mask", "input_ids", "inputs_embeds", "position_ids", "decoder_input_ids"}
_NOT_READ = {"labels", "num_items_in_batch", "return_dict", "return_loss", "trust_remote_code"}
"""Inputs that do not affect the result of decoding."""
_PROCESSED = {"prefix_allowed_tokens_fn", "negative_prompt_ids", "negative_prompt_attention_mask"}
_CRITERIA = (MaxLengthCriteria, EosTokenCriteria, MaxTimeCriteria, SourceLengthLimit)
_HARMLESS_FIELDS = {
    *("cache_config", "max_cache_len", "compile_config", "disable_compile", "transformers_version"),
    *("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold"),
    *("max_matching_ngram_size", "assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight"),
}
"""Settings of sampling, assisted decoding and compiled static caches, which are obstacles by themselves."""
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
"""Settings that the search reads, or that `transformers` turns into logits processors and criteria."""
_CRITERIA_CALLS = {kind: kind.__call__ for kind in _CRITERIA}
_UNKNOWN_FIELDS = sorted(FIELDS - _HARMLESS_FIELDS - _SETTLED_FIELDS)
_KNOWN_ARGUMENTS = {
    *(*_READ, *_NOT_READ, *_PROCESSED, *_ENTRANCES, *FIELDS, "past_key_values", "logits_to_keep"),
    *("generation_config", "logits_processor", "stopping_criteria"),
}


def why_not_call(model: Any, call: Mapping[str, Any], settings: CallSettings, by_snapshot: bool = False) -> str | None:
    """Why the fast path does not decode this call of `generate`, in words, or None if it does.

    Args:
        model: a model of this package.
        call: all arguments of the call that are not None, by name.
        settings: the settled settings of the call.
        by_snapshot: whether the call uses the packed weights of a snapshot, which have their own precision.
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
    unknown = [name for name in _UNKNOWN_FIELDS if _is_set(values.get(name))]
    yield f"the setting {', '.join(unknown)}", unknown


def _is_set(value: Any) -> bool:
    return value is not None and value is not False and not (isinstance(value, (int, float)) and value == 0)


def _has_padding(settings: CallSettings) -> bool:
    """Whether there is an id to pad with: without a padding token, `transformers` uses the end of sentence."""
    return settings.values.get("pad_token_id") is not None or bool(settings.eos_ids)


def _by_arguments(call: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _ENTRANCES:
        yield f"a {name}" if name != "synced_gpus" else "several processes that share one model", call.get(name)
    yield "a cache that is given", call.get("past_key_values") is not None
    arguments = sorted(call.keys() - _KNOWN_ARGUMENTS)
    yield f"the inputs {', '.join(arguments)}", arguments
    criteria = [
        type(each).__name__
        for each in call.get("stopping_criteria") or ()
        if _CRITERIA_CALLS.get(type(each)) is not type(each).__call__
    ]
    yield f"the stopping criterion {', '.join(criteria)}", criteria
    kept = call.get("logits_to_keep", 1)
    yield "a choice of logits", not isinstance(kept, int) or kept < 0
    mask = call.get("attention_mask")
    yield "a mask that is not one number a token", isinstance(mask, torch.Tensor) and mask.dim() != 2


def _by_autocast(model: Any) -> tuple[str, bool]:
    kept = unpacked_type(model)
    return f"autocast to {kept}", kept is not None


def names_of(things: Iterable[Any], known: tuple[type, ...]) -> list[str]:
    """Class names of the things whose exact class is not among the known ones."""
    return [type(thing).__name__ for thing in things if type(thing) not in known]


def _by_surroundings() -> Iterator[tuple[str, Any]]:
    """Anything that intercepts torch's functions."""
    yield "tracing", torch.compiler.is_compiling() or torch.jit.is_tracing()
    yield "a dispatch mode", torch._C._len_torch_dispatch_stack()
    modes = torch.overrides._get_current_function_mode_stack()
    yield "a function mode", names_of(modes, (_DEFAULT_DEVICE,))


with torch.device("cpu"):
    _DEFAULT_DEVICE = type(torch.overrides._get_current_function_mode_stack()[-1])
    """The function mode that a default device sets."""


__all__ = ["why_not_call"]
