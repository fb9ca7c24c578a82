"""What a call of `generate` asks for is settled once: the nearest says, and nothing out of range passes."""

import pytest
import torch
from stock_search import by_transformers
from tiny import EOS, lively_model, pad_batch, sentences, tiny_config, tiny_model, until_end
from transformers import GenerationConfig

from hf_vanilla_transformer.model.call_settings import FIELDS, OWN, settle
from hf_vanilla_transformer.model.length_limits import TOKENS, length_limits
from hf_vanilla_transformer.model.setting_ranges import COUNTS, NUMBERS

ROWS = sentences([3, 5, 12, 9, 4, 7])
IDS, MASK = pad_batch(ROWS)


def config_with(**own) -> GenerationConfig:
    config = GenerationConfig()
    for name, value in own.items():
        setattr(config, name, value)
    return config


@pytest.mark.parametrize(
    ("call", "given", "own", "alpha", "power"),
    [
        ({}, {}, {}, None, 1.0),
        ({}, {}, {"gnmt_length_penalty": 0.6}, 0.6, 1.0),
        ({}, {}, {"gnmt_length_penalty": 0.6, "length_penalty": 1.0}, 0.6, 1.0),  # as the stock trainer fills it
        ({}, {"length_penalty": 0.3}, {"gnmt_length_penalty": 0.6}, None, 0.3),
        ({}, {"gnmt_length_penalty": 0.2}, {"length_penalty": 0.3}, 0.2, 1.0),
        ({"length_penalty": 2.0}, {"gnmt_length_penalty": 0.2}, {"gnmt_length_penalty": 0.6}, None, 2.0),
        ({"gnmt_length_penalty": 0.9}, {"length_penalty": 0.2}, {"gnmt_length_penalty": 0.6}, 0.9, 1.0),
        ({"gnmt_length_penalty": None}, {}, {"gnmt_length_penalty": 0.6}, 0.6, 1.0),
    ],
)
def test_the_nearest_length_penalty_holds_whatever_its_kind(call, given, own, alpha, power):
    settings = settle(call, config_with(**given), config_with(**own))
    assert (settings.gnmt_length_penalty, settings.length_penalty) == (alpha, power)
    assert settings.normaliser(4) == pytest.approx(((5 + 4) / 6) ** alpha if alpha is not None else 4**power)


def test_who_asked_is_known():
    """Only what the models config asks for may be lost with a word of warning; else it is an error."""
    own = config_with(gnmt_length_penalty=0.6, coverage_penalty=0.2)
    assert settle({}, None, own).asked == {"target_prefix"}
    assert "gnmt_length_penalty" in settle({"gnmt_length_penalty": 0.6}, None, own).asked
    assert "coverage_penalty" in settle({}, config_with(coverage_penalty=0.1), own).asked


@pytest.mark.parametrize(
    "given", [{"gnmt_length_penalty": 0.6}, {"generation_config": config_with(coverage_penalty=0.5)}]
)
def test_a_penalty_that_was_asked_for_is_no_less_an_error_if_the_models_config_has_one_too(given):
    model = lively_model()
    model.generation_config.gnmt_length_penalty = model.generation_config.coverage_penalty = 0.6
    settings = {"num_beams": 3, "max_new_tokens": 4, "use_cache": False}
    if "generation_config" in given:
        given["generation_config"].update(**settings)
        settings = {}
    with pytest.raises(ValueError, match="needs our own search, which does not support decoding without a cache"):
        model.generate(IDS, attention_mask=MASK, **settings, **given)


def test_a_caller_that_hands_on_the_models_own_config_asks_for_nothing(caplog):
    model = lively_model()
    model.generation_config.update(num_beams=3, max_new_tokens=4)
    model.generation_config.gnmt_length_penalty = 0.6
    model.lm_head.register_forward_hook(lambda *_: None)
    model.generate(IDS, attention_mask=MASK, generation_config=model.generation_config)
    assert "has no `gnmt_length_penalty`: `length_penalty` holds" in caplog.text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"num_beams": 0}, r"`num_beams` must be a whole number of at least 1 \(1 is greedy\), got 0"),
        ({"num_beams": 2.5}, "`num_beams` must be a whole number"),
        ({"num_beams": True}, "`num_beams` must be a whole number"),
        ({"num_return_sequences": 0}, "`num_return_sequences` must be a whole number of at least 1, got 0"),
        ({"max_extra_tokens": -1}, "`max_extra_tokens` must be a whole number of at least 0, got -1"),
        ({"length_penalty": float("nan")}, "`length_penalty` must be a finite number, got nan"),
        ({"gnmt_length_penalty": float("inf")}, "`gnmt_length_penalty` must be a finite number, got inf"),
        ({"coverage_penalty": float("nan")}, "`coverage_penalty` must be a finite number, got nan"),
        ({"coverage_penalty": -1.0}, "`coverage_penalty` must be at least 0"),
        ({"length_penalty": 1.0, "gnmt_length_penalty": 0.6}, "A call takes one length penalty"),
    ],
)
def test_what_is_out_of_range_is_refused_before_any_work(call, message):
    with pytest.raises(ValueError, match=message):
        settle(call, None, GenerationConfig())
    with pytest.raises(ValueError, match=message):
        lively_model().generate(IDS, attention_mask=MASK, **call)


@pytest.mark.parametrize("place", ["call", "given", "own"])
def test_no_setting_of_generation_is_nan_or_infinite(place):
    """Every field that `transformers` knows and every one of ours, in lists too, wherever it was set."""
    where = {"call": "", "given": " in the given generation config", "own": " in the model's generation config"}[place]
    lists = {"target_prefix", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "force_words_ids"}  # of ids
    for name in sorted((FIELDS | {*OWN}) - lists):
        for value in (float("nan"), float("inf"), [1, float("nan")], torch.tensor(float("inf"))):
            stated = {"call": {}, "given": None, "own": GenerationConfig()}
            stated[place] = {name: value} if place == "call" else config_with(**{name: value})
            with pytest.raises(ValueError, match=rf"`{name}` must (be|hold) .*number.*, got .*{where}\.$"):
                settle(*stated.values())


@pytest.mark.parametrize("name", sorted({*COUNTS, *NUMBERS}))
def test_every_number_of_decoding_has_its_range(name):
    least, most = {**COUNTS, **NUMBERS}[name]
    settle({name: least}, None, GenerationConfig())
    settle({name: most}, None, GenerationConfig())
    far = [least - 1, most * 2 + 1, 10**400 if name in COUNTS else 1e300]
    for value in [*far, "1", True]:
        with pytest.raises(ValueError, match=rf"`{name}` must be "):
            settle({name: value}, None, GenerationConfig())


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("token", [40, -7, 10**9])
def test_tokens_are_of_the_target_vocabulary(name, token):
    """One outside ended no target, or was another from the vocabulary's end, or an IndexError."""
    model = lively_model()
    model.generation_config.update(**{name: token})
    for beams in (1, 3):
        with pytest.raises(ValueError, match=rf"`{name}` must be of the target vocabulary, .* below 40, got {token}"):
            model.generate(IDS, attention_mask=MASK, num_beams=beams, max_new_tokens=3)


def test_a_bias_may_ban_a_token():
    settle({"sequence_bias": {(3,): float("-inf")}}, None, GenerationConfig())
    with pytest.raises(ValueError, match="`sequence_bias` must hold finite numbers"):
        settle({"sequence_bias": {(3,): float("nan")}}, None, GenerationConfig())


def test_limits_are_the_sources_allowance_and_the_models_positions():
    lens = torch.tensor([3, 30])
    extra = settle({"max_extra_tokens": 5}, None, GenerationConfig())
    learned = tiny_config(positional_encoding="learned", max_position_embeddings=20)
    assert length_limits(extra, tiny_config(), lens, 1).tolist() == [8, 35]
    assert length_limits(extra, learned, lens, 1).tolist() == [8, 20]  # the last token is never read
    assert length_limits(extra, learned, lens, 4).tolist() == [8, 17]
    none = settle({}, None, GenerationConfig())
    assert length_limits(none, tiny_config(), lens, 1) is None
    assert length_limits(none, learned, lens, 1).tolist() == [20, 20]


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("settings", [{"max_new_tokens": 90}, {"max_extra_tokens": 90}, {"max_length": 90}])
def test_targets_end_where_learned_positions_do(num_beams, settings, caplog):
    """In both searches: `generate` used to raise in the middle of a list."""
    model = tiny_model(positional_encoding="learned", max_position_embeddings=16, logits_bias=True)
    model.final_logits_bias[:, EOS] = -1e9
    given = {"inputs": IDS, "attention_mask": MASK, "num_beams": num_beams, **settings}
    for outputs in (
        model.generate(**given),
        by_transformers(model, **given),
        model.generate(**given, use_cache=False),
    ):
        assert outputs.shape == (6, 1 + 16)


def test_labels_are_no_obstacle_and_change_nothing():
    """The stock trainer passes them where it validates by `generate`."""
    model = lively_model()
    model.generation_config.gnmt_length_penalty = 2.0
    settings = {"attention_mask": MASK, "num_beams": 4, "max_new_tokens": 15, "return_dict_in_generate": True}
    expected = model.generate(IDS, **settings)
    labels = IDS.masked_fill(MASK == 0, -100)
    found = model.generate(IDS, **settings, labels=labels, num_items_in_batch=3)
    assert found.search_path == "fast"
    assert torch.equal(found.sequences, expected.sequences)
    assert torch.equal(found.sequences_scores, expected.sequences_scores)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_forced_end_comes_at_each_sentences_own_limit(num_beams, fast):
    """`transformers` forces it at the end of the longest of the batch, so that the others never end."""
    model = lively_model()
    model.final_logits_bias[:, EOS] -= 50.0
    settings = {"num_beams": num_beams, "max_extra_tokens": 2, "forced_eos_token_id": EOS, "use_cache": fast}

    together = model.generate(IDS, attention_mask=MASK, **settings)

    for row, source in zip(together.tolist(), ROWS, strict=True):
        assert row.index(EOS) == len(source) + 2
    for index, source in enumerate(ROWS):
        alone = model.generate(torch.tensor([source]), **settings)
        assert until_end(alone) == until_end(together[index : index + 1])


@pytest.mark.parametrize("early_stopping", [False, "never"])
def test_a_sentences_beams_do_not_depend_on_its_neighbours_limits(early_stopping):
    model = lively_model()
    settings = {"num_beams": 4, "max_extra_tokens": 3, "early_stopping": early_stopping, "length_penalty": 1.5}
    together = model.generate(IDS, attention_mask=MASK, return_dict_in_generate=True, **settings)
    for index, source in enumerate(ROWS):
        alone = model.generate(torch.tensor([source]), return_dict_in_generate=True, **settings)
        assert until_end(alone.sequences) == until_end(together.sequences[index : index + 1])
        torch.testing.assert_close(alone.sequences_scores[0], together.sequences_scores[index], atol=1e-5, rtol=1e-5)


def test_the_callers_own_encoder_outputs_stay_as_they_are():
    model = lively_model()
    encoded = model.get_encoder()(input_ids=IDS, attention_mask=MASK)
    for use_cache in (True, False):
        model.generate(
            encoder_outputs=encoded, attention_mask=MASK, num_beams=3, max_new_tokens=3, use_cache=use_cache
        )
        assert len(encoded.last_hidden_state) == len(IDS)


def test_nothing_of_a_call_is_kept_on_the_model():
    model = lively_model()
    before = set(vars(model)), model.generation_config.to_dict()
    for settings in ({"num_beams": 3}, {"use_cache": False}, {"do_sample": True}):
        model.generate(IDS, attention_mask=MASK, max_new_tokens=3, **settings)
    assert (set(vars(model)), model.generation_config.to_dict()) == before


@pytest.mark.parametrize(
    ("arguments", "message"), [((None,) * 12, "takes 11 arguments"), ((None, None, None, None, None), None)]
)
def test_arguments_by_position_are_those_of_transformers(arguments, message):
    model = lively_model()
    if message is None:
        expected = model.generate(IDS, max_new_tokens=3)
        assert torch.equal(model.generate(IDS, *arguments[1:], max_new_tokens=3), expected)
        with pytest.raises(TypeError, match="prefix_allowed_tokens_fn twice"):
            model.generate(IDS, None, None, None, None, prefix_allowed_tokens_fn=None)
    else:
        with pytest.raises(TypeError, match=message):
            model.generate(*arguments)
