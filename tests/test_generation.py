"""Section 6.1: decoding through `generate`, whatever the cache, the batch and the padding."""

import pytest
import torch
from tiny import (
    BOS,
    EOS,
    SEPARATE_VOCABULARIES,
    beams_over_the_target_vocabulary,
    lively_model,
    pad_batch,
    sentences,
    until_end,
)
from transformers import DynamicCache

ROWS = sentences([3, 5, 12, 9, 4, 7])


@pytest.fixture(scope="module")
def model():
    """Its translations of `ROWS` differ and end at spread lengths, as the first test makes sure."""
    return lively_model()


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


def test_greedy_takes_the_likeliest_token_of_each_step(model):
    expected = []
    for row in ROWS:
        target = [BOS]
        while target[-1] != EOS and len(target) <= 12:
            logits = model(input_ids=torch.tensor([row]), decoder_input_ids=torch.tensor([target])).logits
            target.append(int(logits[0, -1].argmax()))
        expected += until_end(torch.tensor([target]))

    assert translate(model, ROWS, max_new_tokens=12) == expected


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


@pytest.mark.parametrize(
    "vocabularies", [{}, pytest.param(SEPARATE_VOCABULARIES, marks=beams_over_the_target_vocabulary)]
)
def test_sequence_scores_are_the_sum_of_their_steps(vocabularies):
    model = lively_model(**vocabularies)
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
