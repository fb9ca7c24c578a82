"""The entry point of `generate`: settle the settings of a call, decide how to decode it, and decode it.

A call that the fast path computes exactly (`model_admission.py`, `call_admission.py`) is decoded by `beam_search.py`
or `greedy_search.py` on packed weights. The search is passed to `transformers` as its documented `custom_generate`, so
that `transformers` prepares masks, lengths, logits processors and criteria. Any other call is left to `transformers`
unchanged. Nothing of a call is stored on the model; the output tells how the call was decoded.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from transformers.generation import (
    EosTokenCriteria,
    GenerationConfig,
    LogitsProcessorList,
    MaxLengthCriteria,
    MaxTimeCriteria,
    StoppingCriteriaList,
)
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from .beam_search import BeamSearch
from .call_admission import why_not_call
from .call_settings import LENGTHS, OWN, as_ids, settle, without_unset
from .configuration_vanilla_transformer import longest_sentence
from .greedy_search import greedy_search
from .length_limits import ForcedEndAtLimit, SourceLengthLimit, length_limits, require_room, source_lengths
from .masks import source_mask
from .model_admission import is_known_class, why_not_model
from .outputs import FAST, GreedyTranslationOutput, TranslationOutput, with_search_path
from .packed_layers import PackedModel
from .packed_products import Precision, Weights
from .search_settings import SearchSettings
from .snapshot import Snapshot, without_autocast
from .sound_scores import first_unsound, no_translation
from .step_decoder import StepDecoder

logger = logging.get_logger(__name__)

_NEVER_READ = ("labels", "num_items_in_batch")
"""Passed by trainers that decode their training batches; `generate` would pass them to the encoder."""


class Call:
    """One call of `generate`, settled before any work is done: `Call(...).run(by_transformers)`.

    Args:
        model: any encoder-decoder with `generate`; the fast path decodes only models of this package.
        arguments: arguments of the call, by name.
        snapshot: packed weights to decode with instead of the model's own.
        says: whether to log that the fast path does not decode the call.
        place: names a sentence of the batch in messages.

    Attributes:
        settings: the settled settings.
        limits: maximum number of new tokens of each target, (batch,), or None.
        obstacle: why the call is left to `transformers`, in words, or None.

    Raises:
        ValueError: a setting is out of range, two settings contradict each other, or one of this project's settings
            is combined with something that only `transformers` can decode.
    """

    def __init__(
        self,
        model: Any,
        arguments: Mapping[str, Any],
        snapshot: Snapshot | None = None,
        says: bool = True,
        place: Callable[[int], str] = "row {} of the batch".format,
    ) -> None:
        self.model, self.snapshot, self.place = model, snapshot, place
        self.arguments = without_unset(arguments)
        self._name_inputs()
        self.given: GenerationConfig | None = self.arguments.pop("generation_config", None)
        self.settings = settle(self.arguments, self.given, model.generation_config)
        for name in (*OWN, *_NEVER_READ):
            self.arguments.pop(name, None)
        self.prompt_len = self._prompt_len()
        self.limits = self._limits()
        self.own_loop = self.arguments.get("custom_generate") is not None
        self.obstacle = self._obstacle()
        self._require_known_settings(says and not self.own_loop)

    def _name_inputs(self) -> None:
        """Give the source one name, and a mask: `GenerationMixin` makes none for encoders."""
        given = self.arguments
        source = given.pop("inputs", None)
        if source is not None and "input_ids" not in given:
            given["input_ids"] = source
        elif source is not None:
            given["inputs"] = source  # `transformers` explains that only one may be given
        source = given.get("input_ids")
        if source is not None and not isinstance(source, torch.Tensor):
            raise TypeError(f"Token ids must be a tensor, (batch, source_len), got a {type(source).__name__}.")
        if given.get("attention_mask") is None and isinstance(source, torch.Tensor) and source.dim() == 2:
            given["attention_mask"] = source_mask(source, self.model.config.pad_token_id)

        states = given.get("encoder_outputs")
        if states is not None:  # a copy, since `transformers` repeats its tensors in place
            is_plain = type(states) in (tuple, list, dict)
            made = (
                BaseModelOutput(**states) if type(states) is dict else BaseModelOutput(*states) if is_plain else None
            )
            given["encoder_outputs"] = copy.copy(states) if made is None else made

    def _prompt_len(self) -> int:
        """Number of decoder tokens before the first new one: a given prefix, and a start token that is prepended."""
        prefix = self.arguments.get("decoder_input_ids")
        if prefix is None:
            return 1
        values = self.settings.values
        start = values.get("decoder_start_token_id")
        start = values.get("bos_token_id") if start is None else start
        if start is None:
            return prefix.shape[1]
        return prefix.shape[1] + int((prefix[:, 0] != torch.as_tensor(start, device=prefix.device)).all())

    def _limits(self) -> torch.Tensor | None:
        lens = source_lengths(self.arguments, self.model.config.pad_token_id)
        if lens is not None and not len(lens):
            raise ValueError("`generate` needs at least one sentence, got an empty batch.")
        prefix, config = self.settings.target_prefix, self.model.config
        words = getattr(config, "decoder_vocab_size", None) or getattr(config, "vocab_size", None)
        if prefix is not None and words is not None and prefix.numel() and prefix.max() >= words:
            raise ValueError(
                f"`target_prefix` must hold tokens of the target vocabulary ({words:,}), got {int(prefix.max())}."
            )
        if prefix is not None and lens is not None and len(prefix) != len(lens):
            raise ValueError(
                f"`target_prefix` must have a row for each source, got {len(prefix)} rows for {len(lens)} sources."
            )
        require_room(self.settings, self.model, lens)
        limits = length_limits(self.settings, self.model.config, lens, self.prompt_len)
        asked = self._asked_length()
        return limits if limits is None or asked is None else limits.clamp(max=asked)

    def _asked_length(self) -> int | None:
        """The number of new tokens that the call itself sets, which applies in addition to `max_extra_tokens`."""
        if self.settings.max_extra_tokens is None:
            return None
        longest = self.arguments.get("max_length")
        new = self.arguments.get("max_new_tokens")
        return new if new is not None else None if longest is None else max(1, longest - self.prompt_len)

    def _forces_own_ends(self) -> bool:
        """Whether targets are forced to end, each at its own limit."""
        return self.settings.max_extra_tokens is not None and bool(self.settings.forced_eos_ids)

    def watch_logits(self, watch: Any) -> None:
        """Have `transformers` call `watch` as the last logits processor."""
        given = self.arguments.get("logits_processor") or ()
        self.arguments["logits_processor"] = LogitsProcessorList([*given, watch])

    def ask_for_scores(self) -> None:
        """Have `transformers` return scores, if it decodes the call."""
        if self.given is None:
            self.arguments["output_scores"] = True
        else:
            self.given = copy.deepcopy(self.given)
            self.given.output_scores = True

    def _obstacle(self) -> str | None:
        if self.own_loop:
            return "a decoding loop of the caller's own"
        if not is_known_class(self.model):
            return why_not_model(self.model)
        obstacle = why_not_call(self.model, self.arguments, self.settings, by_snapshot=self.snapshot is not None)
        if obstacle is None and self.snapshot is None:
            obstacle = why_not_model(self.model)
        return obstacle

    def _require_known_settings(self, says: bool) -> None:
        """Refuse settings that cannot be honoured; warn if they come only from the model's config."""
        lost = [name for name in self.settings.own_settings() if self.obstacle is not None]
        asked = [f"`{name}`" for name in lost if name in self.settings.asked]
        if asked:
            raise ValueError(
                f"{' and '.join(asked)} needs our own search, which does not support {self.obstacle}. Leave one of "
                "the two out."
            )
        if self.obstacle is not None and says:
            names = " and ".join(f"`{name}`" for name in lost)
            logger.warning_once(
                f"{self.obstacle[0].upper()}{self.obstacle[1:]}: decoded by transformers' own search, which is slower"
                + (f" and has no {names}: `length_penalty` holds." if lost else ".")
            )

    # Decoding

    def run(self, by_transformers: Callable[..., Any], watch: Iterable[Any] = ()) -> Any:
        """Decode; a call can be run only once.

        Args:
            by_transformers: `GenerationMixin.generate` of the model.
            watch: criteria that never stop, added if `transformers` decodes the call.
        """
        if self.obstacle is None:
            return self._search(by_transformers)
        outputs = by_transformers(**self._arguments_with_limits([*watch]))
        return outputs if self.own_loop else with_search_path(outputs, self.obstacle)

    def _arguments_with_limits(self, watch: list[Any]) -> dict[str, Any]:
        """The call's arguments, with each target's own limit as a stopping criterion."""
        arguments = dict(self.arguments)
        criteria = [*watch, *(arguments.pop("stopping_criteria", None) or ())]
        if self.limits is not None:
            criteria.append(SourceLengthLimit(self.limits, self.prompt_len))
            if self._forces_own_ends():
                forced = ForcedEndAtLimit(self.limits, self.prompt_len, self.settings.forced_eos_ids)
                processors = [*(arguments.get("logits_processor") or ()), forced]
                arguments["logits_processor"] = LogitsProcessorList(processors)
        if criteria:
            arguments["stopping_criteria"] = StoppingCriteriaList(criteria)
        return self._with_longest(arguments)

    def _with_longest(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Add the length of the longest target as a setting of `transformers`, unless the call sets a length."""
        more: dict[str, Any] = {"forced_eos_token_id": None} if self._forces_own_ends() else {}
        if self.limits is not None and self.settings.max_extra_tokens is not None:
            if not any(arguments.get(name) is not None for name in LENGTHS):
                more |= {"max_new_tokens": int(self.limits.max()), "max_length": None}
        elif self.limits is not None:
            more |= self._clamped_length(int(self.limits.max()))
        if self.given is None:
            return {**arguments, **more}
        given = self.given  # `generate` takes either a config or single settings; the caller's stays as it was
        if more:
            given = copy.deepcopy(given)
            given.update(**more)
            arguments = {name: value for name, value in arguments.items() if name not in more}
        return {**arguments, "generation_config": given}

    def _clamped_length(self, room: int) -> dict[str, Any]:
        """The length that positions allow, if the requested one is longer."""
        values = self.settings.values
        new = values.get("max_new_tokens")
        if new is None and values.get("max_length") is not None:
            new = values["max_length"] - self.prompt_len
        if new is None or new <= room:
            return {}
        positions = longest_sentence(self.model.config)
        logger.warning_once(
            f"This model has positions for {positions:,} tokens: targets end there, although up to {new:,} new tokens "
            "were requested."
        )
        return {"max_new_tokens": room, "max_length": None}

    def _search(self, by_transformers: Callable[..., Any]) -> Any:
        arguments = self._with_longest(dict(self.arguments))
        with without_autocast(self.model) as precision:
            packed = self._packed(precision)
            if self._encodes_here():
                states = packed.encode(self.arguments["input_ids"], self.arguments["attention_mask"])
                arguments["encoder_outputs"] = BaseModelOutput(last_hidden_state=states)

            def search(model: Any, input_ids: torch.Tensor, **prepared: Any) -> Any:
                return self._search_prepared(packed, input_ids, **prepared)

            return by_transformers(**arguments, custom_generate=search)

    def _packed(self, precision: Precision | None) -> PackedModel:
        if self.snapshot is not None:
            return self.snapshot.packed
        steps = self.limits.max().item() if self.limits is not None else self._longest()
        return PackedModel(self.model, Weights(precision, steps=int(steps)))

    def _longest(self) -> int:
        """Approximate maximum number of new tokens."""
        values = self.settings.values
        return values.get("max_new_tokens") or values.get("max_length") or 20

    def _encodes_here(self) -> bool:
        """Whether packed weights encode the source: only if ids and their mask are all that is given."""
        given = self.arguments
        others = ("encoder_outputs", "inputs_embeds", "position_ids", "inputs")
        ids, mask = given.get("input_ids"), given.get("attention_mask")
        whole = isinstance(ids, torch.Tensor) and ids.dim() == 2 and mask is not None and mask.shape == ids.shape
        return whole and all(given.get(name) is None for name in others)

    def _search_prepared(
        self,
        packed: PackedModel,
        input_ids: torch.Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        encoder_outputs: Any,
        attention_mask: torch.Tensor | None = None,
        **_: Any,
    ) -> Any:
        """The search that `transformers` calls instead of its own loop; it gets a row per beam and takes the first."""
        beams = self.settings.num_beams
        prompt = input_ids[::beams]
        states = encoder_outputs[0][::beams]
        mask = (
            states.new_ones(states.shape[:2], dtype=torch.long) if attention_mask is None else attention_mask[::beams]
        )
        decoder = StepDecoder(
            packed, states.to(packed.dtype), mask.to(states.device), beams, keep_attention=self._covers()
        )
        settings = self._search_settings(generation_config, stopping_criteria, logits_processor, prompt)
        if beams == 1:
            sequences, steps = greedy_search(decoder, prompt, logits_processor, settings)
            self._require_scores(steps)
            if not generation_config.return_dict_in_generate:
                return sequences
            return GreedyTranslationOutput(sequences=sequences, token_log_probabilities=steps, search_path=FAST)  # type: ignore[arg-type]
        found: Any = BeamSearch(decoder, prompt, logits_processor, settings).run()
        self._require_scores(found.scores[:: settings.num_return_sequences])
        if not generation_config.return_dict_in_generate:
            return found.sequences
        return TranslationOutput(
            sequences=found.sequences,
            sequences_scores=found.scores,
            scores=tuple(found.step_scores) if generation_config.output_scores else None,
            beam_indices=found.beam_indices.int(),
            token_log_probabilities=found.token_log_probabilities,
            search_path=FAST,
        )

    def _require_scores(self, scores: torch.Tensor) -> None:
        """Refuse targets chosen by scores that are NaN, unless the call asked to remove invalid values."""
        row = None if self.settings.values.get("remove_invalid_values") else first_unsound(scores)
        if row is not None:
            precision = self.model.dtype if self.snapshot is None else self.snapshot.precision or self.model.dtype
            raise no_translation(self.place(row), float("nan"), precision)

    def _covers(self) -> bool:
        return self.settings.coverage_penalty > 0 and self.settings.num_beams > 1

    def _search_settings(
        self, config: Any, criteria: Iterable[Any], processors: Iterable[Any], prompt: torch.Tensor
    ) -> SearchSettings:
        """The call's settings in the form that the search reads, with the limits of the stopping criteria."""
        device, beams = prompt.device, self.settings.num_beams
        longest = [each.max_length for each in criteria if type(each) is MaxLengthCriteria]
        ends = [each.eos_token_id for each in criteria if type(each) is EosTokenCriteria]
        times = [each.initial_timestamp + each.max_time for each in criteria if type(each) is MaxTimeCriteria]
        limits = [each.limits + each.prompt_len for each in criteria if type(each) is SourceLengthLimit]
        if self.limits is not None:
            limits.append(self.limits + self.prompt_len)
        eos, fill = as_ids(config.eos_token_id), config.pad_token_id
        if beams > 1:  # the padding of `transformers` after beam search
            fill = -1 if config.eos_token_id is None else fill or eos[0]
        elif fill is None:
            fill = eos[0]
        forced = self.settings.forced_eos_ids if self._forces_own_ends() else ()
        prefix = self.settings.target_prefix
        return SearchSettings(
            num_beams=beams,
            num_return_sequences=self.settings.num_return_sequences,
            max_length=min(longest, default=config.max_length),
            limits=torch.stack([limit.to(device) for limit in limits]).amin(0) if limits else None,
            eos=torch.cat([end.flatten().to(device) for end in ends]) if ends else prompt.new_empty(0),
            ends_foreseen=len(eos),
            forced_eos=torch.tensor(forced, dtype=torch.long, device=device),
            fill=int(fill),
            early_stopping=config.early_stopping,
            normaliser=self.settings.normaliser,
            coverage_penalty=self.settings.coverage_penalty if self._covers() else 0.0,
            deadline=min(times, default=None),
            prefix=None if prefix is None else prefix.to(device),
            keep_scores=bool(config.return_dict_in_generate and config.output_scores),
        )


__all__ = ["Call"]
