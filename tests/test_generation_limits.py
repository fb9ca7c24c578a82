"""Section 6.1: a target has at most its own source's tokens and 50 more, wherever that allowance is written."""

import pytest
import torch
from tiny import BOS, EOS, PAD, pad_batch, sentences, tiny_model
from transformers import AutoModelForSeq2SeqLM, GenerationConfig

from hf_vanilla_transformer.model.memory import memory_of

ROWS = sentences([3, 5, 12, 9, 4, 7])


def endless(**overrides):
    """A model that never ends a sentence, so that only limits do."""
    model = tiny_model(logits_bias=True, **overrides)
    model.final_logits_bias[:, EOS] = -1e9
    return model


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("side", ["left", "right"])
def test_each_target_ends_at_its_own_limit(num_beams, side):
    model = endless()
    ids, mask = pad_batch(ROWS, side)

    outputs = model.generate(
        ids, attention_mask=mask, num_beams=num_beams, max_extra_tokens=4, return_dict_in_generate=True,
        output_scores=True,
    )  # fmt: skip

    limits = [len(row) + 4 for row in ROWS]
    if num_beams == 1:
        assert [int((row[1:] != PAD).sum()) for row in outputs.sequences] == limits
    else:
        assert (outputs.beam_indices >= 0).sum(-1).tolist() == limits
    assert outputs.sequences.shape[1] == 1 + max(limits)


@pytest.mark.parametrize("num_return_sequences", [1, 3])
def test_several_targets_of_one_source_share_its_limit(num_return_sequences):
    model = endless()
    ids, mask = pad_batch(ROWS[:3])

    outputs = model.generate(
        ids, attention_mask=mask, do_sample=True, num_return_sequences=num_return_sequences, max_extra_tokens=1
    )

    assert outputs.shape == (3 * num_return_sequences, 1 + 12 + 1)
    assert outputs[0, 1 + 3 + 1 :].eq(PAD).all()


def test_a_prefix_does_not_count_towards_the_limit():
    model = endless()
    source = torch.tensor([ROWS[1]])

    for prefix in ([BOS, 7, 8], [7, 8]):  # `generate` prepends the start token where it is missing
        outputs = model.generate(source, decoder_input_ids=torch.tensor([prefix]), max_extra_tokens=2)
        assert outputs.shape[1] == 3 + len(ROWS[1]) + 2


def limit_of(model, **settings) -> int:
    """New tokens that a source of five tokens gets."""
    return model.generate(torch.tensor([ROWS[1]]), **settings).shape[1] - 1


def test_the_limit_comes_from_the_generation_config_unless_the_call_says_otherwise():
    model = endless()
    assert limit_of(model) == 20  # transformers' default

    model.generation_config.max_extra_tokens = 3
    assert limit_of(model) == 8
    assert limit_of(model, max_extra_tokens=6) == 11
    assert limit_of(model, max_new_tokens=4) == 4
    assert limit_of(model, max_length=4) == 3  # the start token counts
    assert limit_of(model, max_extra_tokens=6, max_new_tokens=4) == 4  # both asked for, both hold
    assert limit_of(model, max_extra_tokens=1, max_new_tokens=30) == 6


def test_a_given_generation_config_is_nearer_to_the_call_than_the_models():
    model = endless()
    model.generation_config.max_extra_tokens = 3

    assert limit_of(model, generation_config=GenerationConfig()) == 8
    assert limit_of(model, generation_config=GenerationConfig(max_extra_tokens=5)) == 10
    assert limit_of(model, generation_config=GenerationConfig(max_new_tokens=4)) == 4
    assert limit_of(model, generation_config=GenerationConfig(max_length=4)) == 3
    given = GenerationConfig(max_extra_tokens=5)
    limit_of(model, generation_config=given)
    assert given.max_new_tokens is None  # the caller's object stays as it was


def test_the_limit_survives_what_the_stock_trainer_does_to_the_config(caplog):
    """After the first evaluation with generation, `Seq2SeqTrainer` fills the model's config with `max_length=20`."""
    model = endless()
    model.generation_config.max_extra_tokens = 40

    model.generation_config.update(**GenerationConfig()._get_default_generation_params(), defaults_only=True)

    assert model.generation_config.max_length == 20
    assert limit_of(model) == 45
    assert limit_of(model, generation_config=model.generation_config) == 45
    assert limit_of(model, max_new_tokens=4) == 4
    assert model.generation_config.max_length == 20


def test_the_limit_is_saved_with_the_model(tmp_path):
    model = endless()
    model.generation_config.max_extra_tokens = 3
    model.generation_config.num_beams = 2

    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)

    assert GenerationConfig.from_pretrained(tmp_path).max_extra_tokens == 3
    assert loaded.generation_config.max_extra_tokens == 3
    assert limit_of(loaded) == 8


def test_a_negative_limit_is_refused():
    model = tiny_model()

    with pytest.raises(ValueError, match="`max_extra_tokens` must be a whole number of at least 0, got -1"):
        model.generate(torch.tensor([ROWS[0]]), max_extra_tokens=-1)


def test_the_settings_of_a_call_leave_no_trace():
    model = endless()
    before = model.generation_config.to_dict()

    limit_of(model, max_extra_tokens=2, num_beams=2)

    assert model.generation_config.to_dict() == before


def test_there_are_no_more_beams_than_tokens_to_begin_with():
    with pytest.raises(ValueError, match="`num_beams` must be at most the 40 tokens of the target vocabulary, got 41"):
        tiny_model().generate(torch.tensor([[5, EOS]]), num_beams=41)


def test_beams_that_no_memory_could_hold_are_refused_before_any_work(monkeypatch):
    """Two decoder layers of width 32, keys and values of 4 bytes: 512 bytes a token and beam."""
    monkeypatch.setattr("hf_vanilla_transformer.model.length_limits.memory_of", lambda device: 20_000_000)
    ids = torch.full((100, 13), 5)
    tiny_model().generate(ids, num_beams=30, max_new_tokens=1)
    with pytest.raises(
        ValueError, match=r"31 beams for 100 sentences at once need about 0\.0 GB, .* Lower `num_beams`"
    ):
        tiny_model().generate(ids, num_beams=31, max_new_tokens=1)


def test_the_processor_says_how_much_memory_it_has():
    assert memory_of(torch.device("meta")) is None
    assert memory_of(torch.device("cpu")) is None or memory_of(torch.device("cpu")) > 10**8
