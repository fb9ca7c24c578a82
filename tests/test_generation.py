"""Section 6.1: decoding through `generate`, and the limit on each target that its own source sets."""

import copy

import pytest
import torch
from tiny import BOS, EOS, PAD, lively_model, pad_batch, sentences, tiny_model, until_end
from transformers import AutoModelForSeq2SeqLM, DynamicCache, GenerationConfig

ROWS = sentences([3, 5, 12, 9, 4, 7])


@pytest.fixture(scope="module")
def model():
    """Its translations of `ROWS` differ and end at spread lengths, as the first test makes sure."""
    return lively_model()


@pytest.fixture
def fresh_generation_config(model, monkeypatch):
    """The model's own, to be changed at will."""
    monkeypatch.setattr(model, "generation_config", copy.deepcopy(model.generation_config))
    return model.generation_config


def translate(model, rows: list[list[int]], side: str = "right", **settings) -> list[list[int]]:
    ids, mask = pad_batch(rows, side)
    return until_end(model.generate(ids, attention_mask=mask, **settings))


def new_tokens(translations: list[list[int]]) -> list[int]:
    return [len(row) - 1 for row in translations]  # without the start token


def test_the_model_of_these_tests_is_lively(model):
    greedy = translate(model, ROWS, max_new_tokens=25)
    beams = translate(model, ROWS, max_new_tokens=25, num_beams=4)

    for translations in (greedy, beams):
        assert len({tuple(row) for row in translations}) == len(ROWS)
        assert len(set(new_tokens(translations))) >= 3
        assert max(len(set(row)) for row in translations) >= 6
    assert greedy != beams


# Caching


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("cache", [{"cache_implementation": "static"}, {"cache_implementation": "dynamic"}])
def test_every_cache_translates_as_no_cache_does(model, cache, num_beams):
    settings = {"num_beams": num_beams, "max_new_tokens": 15}

    assert translate(model, ROWS, **settings, **cache) == translate(model, ROWS, **settings, use_cache=False)


def test_a_static_cache_takes_keys_and_values_of_unequal_width():
    model = lively_model(head_dim=6, value_head_dim=10)
    settings = {"num_beams": 3, "max_new_tokens": 8}

    static = translate(model, ROWS, cache_implementation="static", **settings)

    assert static == translate(model, ROWS, use_cache=False, **settings)


def test_a_plain_cache_is_wrapped(model):
    """One cache for both attentions would append the source's keys to the target's."""
    expected = translate(model, ROWS, max_new_tokens=8)

    given = translate(model, ROWS, max_new_tokens=8, past_key_values=DynamicCache(config=model.config))

    assert given == expected


def test_compiled_decoding_is_one_graph_and_gives_the_same():
    from transformers.generation.configuration_utils import CompileConfig

    model = lively_model()
    expected = translate(model, ROWS[:2], max_new_tokens=4)
    compile_config = CompileConfig(backend="eager", fullgraph=True)
    compile_config._compile_all_devices = True

    compiled = translate(
        model, ROWS[:2], max_new_tokens=4, cache_implementation="static", compile_config=compile_config
    )

    assert compiled == expected


# A batch and its sentences


@pytest.mark.parametrize("settings", [{}, {"max_extra_tokens": 3}, {"max_extra_tokens": 0}])
@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_a_batch_is_each_sentence_alone(model, side, num_beams, settings):
    settings = {"num_beams": num_beams, **(settings or {"max_new_tokens": 15})}

    together = translate(model, ROWS, side, **settings)

    assert together == [translate(model, [row], **settings)[0] for row in ROWS]


def test_one_beam_is_greedy(model):
    """Beam search proper, of width one: greedy decoding takes another path through `generate`."""
    expected = translate(model, ROWS, max_new_tokens=15)

    ids, mask = pad_batch(ROWS)
    outputs = model.generate(ids, attention_mask=mask, max_new_tokens=15, num_beams=1)

    assert until_end(outputs) == expected
    stepwise = []
    for row in ROWS:
        target = [BOS]
        while target[-1] != EOS and len(target) <= 15:
            logits = model(input_ids=torch.tensor([row]), decoder_input_ids=torch.tensor([target])).logits
            target.append(int(logits[0, -1].argmax()))
        stepwise += until_end(torch.tensor([target]))
    assert stepwise == expected


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_missing_source_mask_is_made_from_the_pad_token(model, num_beams):
    ids, mask = pad_batch(ROWS, "both")
    settings = {"max_new_tokens": 10, "num_beams": num_beams}
    expected = model.generate(ids, attention_mask=mask, **settings)

    assert torch.equal(model.generate(ids, **settings), expected)
    assert torch.equal(model.generate(input_ids=ids, **settings), expected)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_encoder_outputs_may_stand_for_the_source(model, num_beams):
    ids, mask = pad_batch(ROWS)
    settings = {"max_extra_tokens": 2, "num_beams": num_beams}
    encoded = model.get_encoder()(input_ids=ids, attention_mask=mask)

    with_mask = model.generate(encoder_outputs=encoded, attention_mask=mask, **settings)
    alone = model.generate(encoder_outputs=model.get_encoder()(input_ids=ids[2:3]), **settings)

    assert until_end(with_mask) == translate(model, ROWS, **settings)
    assert until_end(alone) == translate(model, ROWS[2:3], **settings)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_translation_goes_on_from_a_prefix_padded_on_the_left(model, num_beams):
    prefixes = [[BOS, 5], [BOS, 6, 7, 8]]
    prefix, prefix_mask = pad_batch(prefixes, "left")
    settings = {"max_new_tokens": 6, "num_beams": num_beams}
    ids, mask = pad_batch(ROWS[:2])

    for cache in ("dynamic", "static"):
        together = model.generate(
            ids,
            attention_mask=mask,
            decoder_input_ids=prefix,
            decoder_attention_mask=prefix_mask,
            cache_implementation=cache,
            **settings,
        )[:, prefix.shape[1] :]
        for i, row in enumerate(ROWS[:2]):
            alone = model.generate(torch.tensor([row]), decoder_input_ids=torch.tensor([prefixes[i]]), **settings)[
                :, len(prefixes[i]) :
            ]
            assert until_end(together[i : i + 1]) == until_end(alone)


def test_sequence_scores_are_the_sum_of_their_steps(model):
    ids, mask = pad_batch(ROWS)
    settings = {"num_beams": 4, "num_return_sequences": 2, "max_extra_tokens": 4, "length_penalty": 1.0}

    outputs = model.generate(ids, attention_mask=mask, output_scores=True, return_dict_in_generate=True, **settings)
    steps = model.compute_transition_scores(outputs.sequences, outputs.scores, outputs.beam_indices)

    lengths = (outputs.beam_indices >= 0).sum(-1)
    torch.testing.assert_close(steps.sum(-1) / lengths, outputs.sequences_scores)
    for i, length in enumerate(lengths.tolist()):
        row = outputs.sequences[i, : 1 + length].tolist()
        logits = model(
            input_ids=ids[i // 2 : i // 2 + 1],
            attention_mask=mask[i // 2 : i // 2 + 1],
            decoder_input_ids=torch.tensor([row[:-1]]),
        ).logits
        probabilities = logits.log_softmax(-1)[0].gather(-1, torch.tensor(row[1:])[:, None])
        torch.testing.assert_close(steps[i].sum(), probabilities.sum(), atol=1e-4, rtol=0)


# At most source + 50 tokens


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

    with pytest.raises(ValueError, match="`max_extra_tokens` must be at least 0, got -1"):
        model.generate(torch.tensor([ROWS[0]]), max_extra_tokens=-1)


def test_the_settings_of_a_call_leave_no_trace(model, fresh_generation_config):
    before = fresh_generation_config.to_dict()

    translate(model, ROWS[:2], max_extra_tokens=2, num_beams=2)

    assert model.generation_config.to_dict() == before
