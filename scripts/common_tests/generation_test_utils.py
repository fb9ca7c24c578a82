"""Stands in for `tests/generation/test_utils.py`, which the source distribution of transformers lacks.

A few tests of `generate` that any encoder-decoder must pass; our own tests cover the rest of the missing ones.
"""

from typing import Any

import torch
from transformers import GenerationConfig

MODES: dict[str, dict[str, Any]] = {
    "greedy": {"num_beams": 1},
    "beams": {"num_beams": 3},
    "several": {"num_beams": 3, "num_return_sequences": 2},
    "sample": {"do_sample": True, "num_beams": 1},
    "beam sample": {"do_sample": True, "num_beams": 3},
}
NEW_TOKENS = 4


class GenerationTesterMixin:
    """Mixed into a model's tests, with `model_tester` and `all_generative_model_classes`."""

    model_tester: Any
    all_generative_model_classes: Any

    def _generative_models(self) -> list[tuple[Any, dict[str, torch.Tensor]]]:
        models = []
        for model_class in self.all_generative_model_classes:
            config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
            torch.manual_seed(0)
            model = model_class(config).eval()
            models.append((model, {name: inputs[name] for name in ("input_ids", "attention_mask")}))
        return models

    def _generate(self, model: Any, inputs: dict[str, torch.Tensor], **settings: Any) -> Any:
        config = GenerationConfig(**{"min_new_tokens": NEW_TOKENS, "max_new_tokens": NEW_TOKENS, **settings})
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
            setattr(config, name, getattr(model.config, name))
        torch.manual_seed(0)
        return model.generate(**inputs, generation_config=config)

    def test_every_mode_generates_as_many_tokens_as_asked_for(self) -> None:
        for model, inputs in self._generative_models():
            for settings in MODES.values():
                rows = len(inputs["input_ids"]) * settings.get("num_return_sequences", 1)
                assert self._generate(model, inputs, **settings).shape == (rows, 1 + NEW_TOKENS)

    def test_a_cache_changes_nothing(self) -> None:
        for model, inputs in self._generative_models():
            for settings in MODES.values():
                with_cache = self._generate(model, inputs, use_cache=True, **settings)
                assert torch.equal(with_cache, self._generate(model, inputs, use_cache=False, **settings))

    def test_a_static_cache_changes_nothing(self) -> None:
        for model, inputs in self._generative_models():
            for name in ("greedy", "beams"):
                dynamic = self._generate(model, inputs, **MODES[name])
                assert torch.equal(
                    dynamic, self._generate(model, inputs, cache_implementation="static", **MODES[name])
                )

    def test_dictionaries_hold_what_was_asked_for(self) -> None:
        for model, inputs in self._generative_models():
            model.set_attn_implementation("eager")
            asked = {f"output_{name}": True for name in ("scores", "logits", "attentions", "hidden_states")}
            for settings in MODES.values():
                found = self._generate(model, inputs, return_dict_in_generate=True, **asked, **settings)
                for name in ("scores", "logits", "decoder_attentions", "cross_attentions", "decoder_hidden_states"):
                    assert len(found[name]) == NEW_TOKENS, name
                assert found["scores"][0].shape[-1] == model.config.vocab_size
                assert len(found["encoder_attentions"]) == model.config.num_hidden_layers

    def test_transition_scores_add_up_to_those_of_sequences(self) -> None:
        for model, inputs in self._generative_models():
            found = self._generate(
                model, inputs, **MODES["beams"], length_penalty=0.0, output_scores=True, return_dict_in_generate=True
            )
            steps = model.compute_transition_scores(found.sequences, found.scores, found.beam_indices)
            torch.testing.assert_close(steps.sum(1), found.sequences_scores)
