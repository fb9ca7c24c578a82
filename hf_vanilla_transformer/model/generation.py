"""How a translation is decoded (section 6.1), where it differs from `transformers`' `generate()`.

Each sentence may grow to its own source length plus `max_extra_tokens`, whatever it is batched with, and padding of
the source is never attended to, even if no mask was given. Greedy decoding and beam search are those of
`search.py`, with `transformers`' results at several times its speed.
"""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import reduce
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.generation import (
    EosTokenCriteria,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    MaxLengthCriteria,
    MaxTimeCriteria,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.utils import GenerateBeamEncoderDecoderOutput, GenerateEncoderDecoderOutput
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from .search import BeamSearch, SearchSettings, greedy_search
from .step_decoder import PackedModel, Precision, StepDecoder, packed_model

logger = logging.get_logger(__name__)


class SourceLengthLimit(StoppingCriteria):
    """Ends each target at its own limit ("maximum output length [...] input length + 50", section 6.1).

    Args:
        limits: most new tokens of each sentence, end of sentence included; shape (batch,).
        prompt_len: decoder tokens that were there before the first new one.
    """

    def __init__(self, limits: torch.Tensor, prompt_len: int) -> None:
        self.limits = limits
        self.prompt_len = prompt_len

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        beams = input_ids.shape[0] // self.limits.shape[0]  # `generate` repeats each sentence for its beams
        limits = self.limits.repeat_interleave(beams).to(input_ids.device)
        return input_ids.shape[1] - self.prompt_len >= limits


@dataclass(frozen=True)
class CallSettings:
    """What one call of `generate` asks of our own search.

    Attributes:
        gnmt_length_penalty: alpha of Wu et al. 2016, or None where `transformers`' `length_penalty` holds.
        coverage_penalty: beta of the same.
        target_prefix: tokens that targets must begin with; (batch, any), -100 where free.
        asked: whether the call itself, not the model's generation config, asks for one of these.
        packed: the model's weights, if they have encoded the source already.
    """

    gnmt_length_penalty: float | None = None
    coverage_penalty: float = 0.0
    target_prefix: torch.Tensor | None = None
    asked: bool = False
    packed: PackedModel | None = None


@dataclass
class TranslationOutput(GenerateBeamEncoderDecoderOutput):
    """What beam search returns with `return_dict_in_generate`: as in `transformers`, `sequences_scores` always, and

    token_log_probabilities (`torch.Tensor` of shape `(batch * num_return_sequences, new tokens)`):
        The natural logarithm of each new token's probability, 0 after the end. Under a forced prefix that of its
        tokens too.
    """

    token_log_probabilities: torch.Tensor | None = None


@dataclass
class GreedyTranslationOutput(GenerateEncoderDecoderOutput):
    """What greedy decoding returns with `return_dict_in_generate`; `token_log_probabilities` as of beam search."""

    token_log_probabilities: torch.Tensor | None = None


_CALL: ContextVar[CallSettings | None] = ContextVar("_CALL", default=None)
"""Of the call of `generate` that is running: `transformers` hands on only what it knows itself."""

_IDLE_HOOKS = "transformers.utils.output_capturing"
"""`transformers` leaves hooks of this module on every layer after a call for attention weights; they do nothing."""

_KNOWN_CRITERIA = (MaxLengthCriteria, EosTokenCriteria, MaxTimeCriteria, SourceLengthLimit)
_KNOWN_INPUTS = {"encoder_outputs", "attention_mask", "past_key_values", "use_cache", "logits_to_keep", "input_ids"}


class TranslationGenerationMixin(GenerationMixin):
    """`GenerationMixin` for translation: masks of the source, each target's own limit, and a search of our own.

    Greedy decoding and beam search run on `search.py`, with the results of `transformers`' own.
    Whatever that does not support is left to `transformers`, with one line in the log.

    Attributes:
        decoding_precision: of the matrix products of that search: None is the weights' own, `"bf16"` and `"int8"`
            (processors only) are faster where the processor has instructions for them, and less exact.
        search_path: how the last call was decoded: `"fast"`, or why it was left to `transformers`.
    """

    config: Any
    generation_config: GenerationConfig
    decoding_precision: Precision | None = None
    search_path: str | None = None

    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: LogitsProcessorList | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        *args: Any,
        max_extra_tokens: int | None = None,
        gnmt_length_penalty: float | None = None,
        coverage_penalty: float | None = None,
        target_prefix: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `GenerationMixin.generate`, plus:

        Args:
            max_extra_tokens: most tokens a target may have beyond those of its own source, both with their end of
                sentence (section 6.1 uses 50); at least 0. Unset, it comes from `generation_config` or else from the
                model's. A `max_length` or `max_new_tokens` given to this call, as an argument or in a
                `generation_config` without `max_extra_tokens`, takes the place of the model's.
            gnmt_length_penalty: alpha: beams are ranked by log-probability / ((5 + tokens) / 6) ** alpha (Wu et al.
                2016, equation 14; section 6.1 uses 0.6), tokens with the end of sentence. Unset, it comes from
                `generation_config` or else from the model's; a `length_penalty` given to this call takes its place.
            coverage_penalty: beta of the same equation, at least 0: adds beta times the sum over source tokens of
                log(min(attention, 1)) to the score of a finished hypothesis, the attention being what its tokens paid
                to that source token in the last layer, as the mean of its heads. Unset, as the former.
            target_prefix: (batch, any) ids that each target must begin with after its start token, -100 where it is
                free, which lets prefixes differ in length. Their log-probabilities count.

        A missing `attention_mask` is made from `pad_token_id`, which `GenerationMixin` does for decoders only.

        Raises:
            ValueError: a setting out of range, or one of the last three beside what our own search does not support.
        """
        source_ids = inputs if inputs is not None else kwargs.get("input_ids")
        if kwargs.get("attention_mask") is None and source_ids is not None and source_ids.dim() == 2:
            kwargs["attention_mask"] = source_mask(source_ids, self.config.pad_token_id)
        given = (gnmt_length_penalty, coverage_penalty, target_prefix)
        call = self._call_settings(*given, generation_config, kwargs)
        if call.target_prefix is not None and source_ids is not None and len(call.target_prefix) != len(source_ids):
            raise ValueError(
                f"`target_prefix` must have a row for each source, got {len(call.target_prefix)} rows for "
                f"{len(source_ids)} sources."
            )

        extra = self._extra_tokens(max_extra_tokens, generation_config, kwargs)
        source_lens = source_lengths(kwargs) if extra is not None else None
        if extra is not None and source_lens is not None:
            limit = SourceLengthLimit(source_lens + extra, self._decoder_prompt_len(kwargs))
            stopping_criteria = StoppingCriteriaList([*(stopping_criteria or ()), limit])
            if not asks_for_length(kwargs):
                longest = {"max_new_tokens": int(limit.limits.max()), "max_length": None}
                if generation_config is None:
                    kwargs.update(longest)
                else:  # `generate` takes either a config or single settings
                    generation_config = copy.deepcopy(generation_config)
                    generation_config.update(**longest)
        # a loop of the caller's own gets what `transformers` would give it
        own_loop = kwargs.get("custom_generate") is not None or kwargs.get("assistant_model") is not None
        if source_ids is not None and not own_loop and self._needs_states_alone(source_ids, generation_config, kwargs):
            with self._own_precision() as precision:
                packed = packed_model(self, precision)
                states = packed.encode(source_ids, kwargs["attention_mask"])
            call = replace(call, packed=packed)
            kwargs["encoder_outputs"] = BaseModelOutput(last_hidden_state=states)
        token = _CALL.set(None if own_loop else call)
        try:
            # mypy: `GenerationMixin` annotates `self` by a protocol of its own
            return super().generate(  # type: ignore[misc]
                inputs, generation_config, logits_processor, stopping_criteria, *args, **kwargs
            )
        finally:
            _CALL.reset(token)

    def _needs_states_alone(
        self, source_ids: torch.Tensor, generation_config: GenerationConfig | None, kwargs: dict[str, Any]
    ) -> bool:
        """Whether packed weights can encode: nothing else of the encoder is asked for, nor given."""
        if source_ids.dim() != 2 or kwargs.get("encoder_outputs") is not None:
            return False
        places = (kwargs, vars(generation_config or GenerationConfig()), vars(self.generation_config))
        asked = any(place.get(name) for place in places for name in ("output_attentions", "output_hidden_states"))
        return not (asked or self.training) and self._has_plain_layers()  # type: ignore[attr-defined]

    def _call_settings(
        self,
        gnmt_length_penalty: float | None,
        coverage_penalty: float | None,
        target_prefix: torch.Tensor | None,
        generation_config: GenerationConfig | None,
        kwargs: dict[str, Any],
    ) -> CallSettings:
        """The penalties that hold for this call: its own, else those of its config, else those of the model's."""
        nearer = generation_config if generation_config is not None else GenerationConfig()
        if kwargs.get("length_penalty") is None and gnmt_length_penalty is None:
            gnmt_length_penalty = getattr(nearer, "gnmt_length_penalty", None)
            if gnmt_length_penalty is None and nearer.length_penalty is None:
                gnmt_length_penalty = getattr(self.generation_config, "gnmt_length_penalty", None)
        if kwargs.get("length_penalty") is not None and gnmt_length_penalty is not None:
            raise ValueError(
                f"A length penalty is of one kind, but `length_penalty` {kwargs['length_penalty']} and "
                f"`gnmt_length_penalty` {gnmt_length_penalty} were given. Leave one of them out."
            )
        asked = (
            gnmt_length_penalty is not None and getattr(self.generation_config, "gnmt_length_penalty", None) is None
        )
        asked = asked or bool(coverage_penalty) or target_prefix is not None
        for config in (nearer, self.generation_config):
            if coverage_penalty is None:
                coverage_penalty = getattr(config, "coverage_penalty", None)
        if coverage_penalty is not None and coverage_penalty < 0:
            raise ValueError(f"`coverage_penalty` must be at least 0, got {coverage_penalty}.")
        return CallSettings(gnmt_length_penalty, coverage_penalty or 0.0, target_prefix, asked)

    # The search

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Any = None, **model_kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """One row a beam, which our own search has no need of: `_leave_to_transformers` does it where it is needed."""
        if _CALL.get() is not None:
            return input_ids, model_kwargs
        return super()._expand_inputs_for_generation(  # type: ignore[misc]
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **model_kwargs
        )

    def _beam_search(
        self,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        synced_gpus: bool = False,
        **model_kwargs: Any,
    ) -> Any:
        """As in `GenerationMixin`, on our own search wherever it can."""
        obstacle = self._obstacle(stopping_criteria, generation_config, synced_gpus, model_kwargs)
        given = (input_ids, logits_processor, stopping_criteria, generation_config, synced_gpus)
        if obstacle is not None:
            return self._leave_to_transformers(super()._beam_search, obstacle, *given, **model_kwargs)  # type: ignore[misc]
        with self._own_precision() as precision:
            decoder, settings = self._prepare_search(
                input_ids, stopping_criteria, generation_config, generation_config.num_beams, model_kwargs, precision
            )
            found = BeamSearch(decoder, input_ids, logits_processor, settings).run()
        if not generation_config.return_dict_in_generate:
            return found.sequences
        sequences: Any = found.sequences
        beam_indices: Any = found.beam_indices.int()
        scores: Any = tuple(found.step_scores) if generation_config.output_scores else None
        return TranslationOutput(
            sequences=sequences,
            sequences_scores=found.scores,
            scores=scores,
            beam_indices=beam_indices,
            token_log_probabilities=found.token_log_probabilities,
        )

    def _sample(
        self,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        synced_gpus: bool = False,
        streamer: Any = None,
        **model_kwargs: Any,
    ) -> Any:
        """As in `GenerationMixin`; greedy decoding is our own wherever it can be."""
        obstacle = self._obstacle(stopping_criteria, generation_config, synced_gpus, model_kwargs)
        if obstacle is None and streamer is not None:
            obstacle = "a streamer"
        if obstacle is None and generation_config.output_scores:
            obstacle = "scores of all tokens in greedy decoding"
        if obstacle is None and generation_config._pad_token_tensor is None:
            obstacle = "no padding token"
        given = (input_ids, logits_processor, stopping_criteria, generation_config, synced_gpus)
        if obstacle is not None:
            return self._leave_to_transformers(
                super()._sample,  # type: ignore[misc]
                obstacle,
                *given,
                streamer=streamer,
                **model_kwargs,
            )
        sequences: Any
        with self._own_precision() as precision:
            decoder, settings = self._prepare_search(
                input_ids, stopping_criteria, generation_config, 1, model_kwargs, precision
            )
            sequences, log_probabilities = greedy_search(decoder, input_ids, logits_processor, settings)
        if not generation_config.return_dict_in_generate:
            return sequences
        return GreedyTranslationOutput(sequences=sequences, token_log_probabilities=log_probabilities)

    @contextmanager
    def _own_precision(self) -> Iterator[Precision | None]:
        """The precision to search in, without autocast, which knows nothing of packed weights."""
        device = self.device.type  # type: ignore[attr-defined]
        precision = self.decoding_precision
        if (
            precision is None
            and torch.is_autocast_enabled(device)
            and torch.get_autocast_dtype(device) == torch.bfloat16
        ):
            precision = "bf16"
        with torch.autocast(device, enabled=False):
            yield precision

    def _obstacle(
        self,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        synced_gpus: bool,
        model_kwargs: dict[str, Any],
    ) -> str | None:
        """What keeps a call from our own search, or None."""
        asked = [
            name for name in ("attentions", "hidden_states", "logits") if getattr(generation_config, f"output_{name}")
        ]
        inputs = sorted(
            name for name, value in model_kwargs.items() if value is not None and name not in _KNOWN_INPUTS
        )
        criteria = [
            type(criterion).__name__ for criterion in stopping_criteria if type(criterion) not in _KNOWN_CRITERIA
        ]
        cache, kind = model_kwargs.get("past_key_values"), generation_config.cache_implementation
        call = _CALL.get()
        packed = call is not None and call.packed is not None
        obstacles = {
            "sampling": generation_config.do_sample,
            f"output of {' and '.join(asked)}": asked,
            "decoding without a cache": not generation_config.use_cache,
            f"a cache of kind {kind}": kind not in (None, "dynamic"),
            "a cache that is not empty": cache is not None and not isinstance(cache, EncoderDecoderCache),
            f"the inputs {', '.join(inputs)}": [name for name in inputs if not name.startswith("output_")],
            f"the stopping criterion {', '.join(criteria)}": criteria,
            "several processes that share one model": synced_gpus,
            "training mode": self.training,  # type: ignore[attr-defined]
            "more returned sequences than beams": generation_config.num_return_sequences > generation_config.num_beams,
            "layers that are no plain nn.Linear": not (packed or self._has_plain_layers()),
        }
        if isinstance(cache, EncoderDecoderCache):
            plain = type(cache.self_attention_cache) is DynamicCache and int(cache.get_seq_length()) == 0
            obstacles["a cache that is not empty"] = not plain
        return next((name for name, stands in obstacles.items() if stands), None)

    def _has_plain_layers(self) -> bool:
        """Whether all weights are here and as they were trained: no adapters, quantised, hooked or sharded layers."""
        if len(getattr(self, "hf_device_map", None) or ()) > 1:
            return False
        for module in self.modules():  # type: ignore[attr-defined]
            if hasattr(module, "_hf_hook") or (isinstance(module, nn.Linear) and type(module) is not nn.Linear):
                return False
            hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
            if any(getattr(hook, "__module__", None) != _IDLE_HOOKS for hook in hooks):
                return False
        layer = self.model.decoder.layers[0]  # type: ignore[attr-defined]
        return type(layer.self_attn.q_proj) is nn.Linear and type(layer.fc1.weight) is nn.Parameter

    def _leave_to_transformers(self, search: Any, obstacle: str, input_ids: Any, *args: Any, **kwargs: Any) -> Any:
        """Decode by `transformers`' own search, and say so."""
        call = _CALL.get()
        self.search_path = obstacle
        generation_config = args[2]
        left = "" if call is None else _what_is_lost(call, generation_config.num_beams)
        if call is not None and call.asked and left:
            raise ValueError(
                f"{left} needs our own search, which does not support {obstacle}. Leave one of the two out."
            )
        logger.warning_once(
            f"{obstacle[0].upper()}{obstacle[1:]}: decoded by transformers' own search, which is slower"
            + (f" and has no {left}: `length_penalty` holds." if left else ".")
        )
        if call is not None:
            input_ids, kwargs = super()._expand_inputs_for_generation(  # type: ignore[misc]
                expand_size=max(generation_config.num_beams, generation_config.num_return_sequences),
                is_encoder_decoder=True,
                input_ids=input_ids,
                **kwargs,
            )
        return search(input_ids, *args, **kwargs)

    def _prepare_search(
        self,
        input_ids: torch.Tensor,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        num_beams: int,
        model_kwargs: dict[str, Any],
        precision: Precision | None,
    ) -> tuple[StepDecoder, SearchSettings]:
        """The decoder, with the source read, and the settings of `transformers` as our search names them."""
        self.search_path = "fast"
        call = _CALL.get() or CallSettings()
        states = model_kwargs["encoder_outputs"][0].to(self.dtype)  # type: ignore[attr-defined]
        mask = model_kwargs.get("attention_mask")
        if mask is None:
            mask = states.new_ones(states.shape[:2], dtype=torch.long)
        pad, eos = generation_config._pad_token_tensor, generation_config._eos_token_tensor
        fill: Any = pad
        if num_beams > 1:  # as `transformers` fills up after beam search
            fill = -1 if eos is None else pad or eos[0]
        decoder = StepDecoder(
            packed_model(self, precision) if call.packed is None else call.packed,
            states,
            mask.to(states.device),
            num_beams,
            keep_attention=call.coverage_penalty > 0 and num_beams > 1,
        )
        limits = [criterion for criterion in stopping_criteria if isinstance(criterion, SourceLengthLimit)]
        times = [criterion for criterion in stopping_criteria if isinstance(criterion, MaxTimeCriteria)]
        alpha, theirs = call.gnmt_length_penalty, generation_config.length_penalty
        prefix = call.target_prefix
        settings = SearchSettings(
            num_beams=num_beams,
            num_return_sequences=generation_config.num_return_sequences,
            max_length=generation_config.max_length,
            limits=min_of(limit.limits + limit.prompt_len for limit in limits) if limits else None,
            eos=torch.empty(0, dtype=torch.long) if eos is None else eos,
            fill=int(fill),
            early_stopping=generation_config.early_stopping,
            normaliser=(lambda n: n**theirs) if alpha is None else (lambda n: gnmt_normaliser(n, alpha)),
            coverage_penalty=call.coverage_penalty if num_beams > 1 else 0.0,
            deadline=min((t.initial_timestamp + t.max_time for t in times), default=None),
            prefix=None if prefix is None else prefix.to(input_ids.device),
            keep_scores=bool(generation_config.return_dict_in_generate and generation_config.output_scores),
        )
        for name in ("limits", "eos"):
            value = getattr(settings, name)
            setattr(settings, name, None if value is None else value.to(input_ids.device))
        return decoder, settings

    def _extra_tokens(
        self, max_extra_tokens: int | None, generation_config: GenerationConfig | None, kwargs: dict[str, Any]
    ) -> int | None:
        """The allowance that holds for this call, or None where another length was asked for nearer to the call."""
        if max_extra_tokens is None and not asks_for_length(kwargs):
            # Within one config the allowance wins: `Seq2SeqTrainer` fills the model's with `max_length=20`
            max_extra_tokens = getattr(generation_config, "max_extra_tokens", None)
            if max_extra_tokens is None and not asks_for_length(vars(generation_config or GenerationConfig())):
                max_extra_tokens = getattr(self.generation_config, "max_extra_tokens", None)
        if max_extra_tokens is not None and max_extra_tokens < 0:
            raise ValueError(f"`max_extra_tokens` must be at least 0, got {max_extra_tokens}.")
        return max_extra_tokens

    def _decoder_prompt_len(self, kwargs: dict[str, Any]) -> int:
        """Decoder tokens before the first new one: a given prefix, with the start token that `generate` prepends."""
        prefix = kwargs.get("decoder_input_ids")
        if prefix is None:
            return 1
        start = self.generation_config.decoder_start_token_id
        start = self.generation_config.bos_token_id if start is None else start
        return prefix.shape[1] + int(bool((prefix[:, 0] != start).all()))

    def compute_transition_scores(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As in `GenerationMixin`, which takes the source's vocabulary for that of the scores."""
        target_side: Any = SimpleNamespace(config=self.config.get_text_config(decoder=True))
        return GenerationMixin.compute_transition_scores(target_side, *args, **kwargs)

    def create_masks_for_generate(self, attention_mask: torch.Tensor | None, **kwargs: Any) -> torch.Tensor | None:
        """Leave the target's mask as it is: positions are counted from it, and the decoder makes its own of it.

        `GenerationMixin` would turn it into a mask for a static cache here, which fails under flex attention, and
        does not fit a call that asks for attention weights.
        """
        return attention_mask


def _what_is_lost(call: CallSettings, num_beams: int) -> str:
    """The settings of a call that only our own search knows and that matter to it."""
    kept = {
        "`gnmt_length_penalty`": call.gnmt_length_penalty is not None and num_beams > 1,
        "`coverage_penalty`": call.coverage_penalty and num_beams > 1,
        "`target_prefix`": call.target_prefix is not None,
    }
    return " and ".join(name for name, matters in kept.items() if matters)


def gnmt_normaliser(tokens: int, alpha: float) -> float:
    """((5 + tokens) / 6) ** alpha, Wu et al. 2016, equation 14."""
    return ((5 + tokens) / 6) ** alpha


def min_of(limits: Iterable[torch.Tensor]) -> torch.Tensor:
    """The smallest of each sentence's limits."""
    return reduce(torch.minimum, limits)


def asks_for_length(settings: dict[str, Any]) -> bool:
    """Whether these settings of `generate` limit the target's length, whatever its source's."""
    return settings.get("max_length") is not None or settings.get("max_new_tokens") is not None


def source_mask(input_ids: torch.Tensor, pad_token_id: int | None) -> torch.Tensor:
    """1 at tokens, 0 at padding; shape (batch, source_len)."""
    if pad_token_id is None:
        return torch.ones_like(input_ids)
    return input_ids.ne(pad_token_id).long()


def source_lengths(kwargs: dict[str, Any]) -> torch.Tensor | None:
    """Real tokens of each source, shape (batch,), from the arguments of `generate`; None if there is no source."""
    mask = kwargs.get("attention_mask")
    if mask is not None:
        return mask.sum(-1)
    states = kwargs.get("inputs_embeds")
    if states is None and kwargs.get("encoder_outputs") is not None:
        states = kwargs["encoder_outputs"][0]
    if states is None:
        return None
    return torch.full((states.shape[0],), states.shape[1], device=states.device)


def positions_from_mask(mask: torch.Tensor) -> torch.Tensor:
    """Count real tokens from 0, so that padding on the left moves nothing; (batch, length) to (batch, length)."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)
