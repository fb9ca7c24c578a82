"""What is computed otherwise on an accelerator, seen on a processor that is taken for one."""

from typing import Any

import pytest
import torch
from tiny import lively_model, pad_batch, sentences
from torch.profiler import ProfilerActivity, profile

from hf_vanilla_transformer.model import next_tokens, step_decoder

IDS, MASK = pad_batch(sentences([4, 9, 12, 2, 7, 5]))

CALLS: dict[str, dict[str, Any]] = {
    "greedy": {"num_beams": 1},
    "beams": {"num_beams": 4},
    "tokens that are forbidden": {"num_beams": 3, "suppress_tokens": [7, 10**6], "bad_words_ids": [[9], [11]]},
    "tokens that are forbidden after others": {"num_beams": 3, "bad_words_ids": [[9, 11]], "no_repeat_ngram_size": 2},
    "limits by the source": {"num_beams": 4, "max_extra_tokens": 20},
    "the paper's penalties": {"num_beams": 4, "gnmt_length_penalty": 0.6, "coverage_penalty": 0.2},
    "a processor of all scores": {"num_beams": 2, "repetition_penalty": 1.2},
}


@pytest.fixture
def as_on_an_accelerator(monkeypatch):
    """Call it to have processors taken for accelerators by what searches."""

    def take() -> None:
        for module in (next_tokens, step_decoder):
            monkeypatch.setattr(module, "on_accelerator", lambda device: True)

    return take


@pytest.mark.parametrize("settings", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("fresh", [step_decoder.FRESH_SLOTS, 32])  # slots used again never, and in the middle
def test_an_accelerator_finds_what_a_processor_does(settings, fresh, as_on_an_accelerator, monkeypatch):
    monkeypatch.setattr(step_decoder, "FRESH_SLOTS", fresh)
    models = [lively_model(seed) for seed in range(2)]
    settings = {"max_new_tokens": 24, "return_dict_in_generate": True, **settings}
    expected = [model.generate(IDS, attention_mask=MASK, **settings) for model in models]
    as_on_an_accelerator()
    for model, wanted in zip(models, expected, strict=True):
        found = model.generate(IDS, attention_mask=MASK, **settings)
        assert found.sequences.tolist() == wanted.sequences.tolist()
        torch.testing.assert_close(found.token_log_probabilities, wanted.token_log_probabilities)


READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal")
"""What makes a processor wait for a device: numbers, and sizes that depend on them."""


def reads_of_a_call(model, **settings) -> int:
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        output = model.generate(IDS, attention_mask=MASK, return_dict_in_generate=True, **settings)
    assert output.search_path == "fast"
    return sum(event.count for event in profiler.key_averages() if event.key in READS)


@pytest.mark.parametrize("call", ["greedy", "beams", "tokens that are forbidden", "limits by the source"])
def test_a_step_reads_from_its_device_twice_at_most(call, as_on_an_accelerator):
    """While no sentence leaves the batch."""
    as_on_an_accelerator()
    model, counts = lively_model(), []
    for tokens in (5, 15):
        settings = {**CALLS[call], "min_new_tokens": tokens, "max_new_tokens": tokens}
        counts.append(reads_of_a_call(model, **settings))
    assert counts[0] > 0
    assert (counts[1] - counts[0]) / 10 <= (1 if call == "greedy" else 2)
