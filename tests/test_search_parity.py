"""Our search against `transformers`' own: the same sequences, the same scores, whatever the settings."""

import random
from typing import Any

import pytest
import torch
from stock_search import by_transformers
from tiny import (
    BOS,
    EOS,
    PAD,
    SEPARATE_VOCABULARIES,
    beams_over_the_target_vocabulary,
    lively_model,
    pad_batch,
    sentences,
    until_end,
)
from transformers import LogitsProcessor

SHAPES: dict[str, dict[str, Any]] = {
    "post-norm": {},
    "pre-norm, fairseq": {"normalize_before": True, "positional_encoding": "fairseq"},
    "learned, free widths": {"positional_encoding": "learned", "head_dim": 6, "value_head_dim": 10},
    "gelu, without biases": {"activation_function": "gelu", "attention_bias": False, "scale_embedding": False},
}
CASES = 120
TIE = 1e-5
"""Scores closer than this share of their size may be ranked either way."""


def settings_of(case: int) -> tuple[list[int], dict[str, Any]]:
    """Lengths of the sources and settings of `generate`, drawn at random."""
    draw = random.Random(case)
    beams = draw.randint(1, 8)
    settings: dict[str, Any] = {"num_beams": beams, "max_new_tokens": draw.choice([1, 2, 7, 20, 45])}
    if beams > 1:
        settings["early_stopping"] = draw.choice([True, False, False, "never"])
        settings["length_penalty"] = draw.choice([0.0, 0.6, 1.0, 1.7, -0.5])
        settings["num_return_sequences"] = draw.randint(1, beams)
    if draw.random() < 0.3:
        settings[draw.choice(["min_new_tokens", "min_length"])] = draw.randint(1, 9)
    if draw.random() < 0.3:
        settings["bad_words_ids"] = [[draw.randint(3, 39)], [draw.randint(3, 39)], [draw.randint(3, 39)]]
    if draw.random() < 0.2:
        settings.setdefault("bad_words_ids", []).append([draw.randint(3, 39), draw.randint(3, 39)])
    if draw.random() < 0.2:
        settings["suppress_tokens"] = [draw.randint(3, 39), draw.randint(3, 39)]
    if draw.random() < 0.2:
        settings["begin_suppress_tokens"] = [EOS, draw.randint(3, 39)]
    if draw.random() < 0.2:
        settings["forced_eos_token_id"] = EOS
    if draw.random() < 0.15:
        settings["forced_bos_token_id"] = draw.randint(3, 39)
    if draw.random() < 0.2:
        settings["renormalize_logits"] = True
    if draw.random() < 0.2:
        settings["no_repeat_ngram_size"] = draw.choice([2, 3])
    if draw.random() < 0.15:
        settings["repetition_penalty"] = 1.3
    if draw.random() < 0.25:
        settings["eos_token_id"] = [EOS, draw.randint(3, 39)]
    if draw.random() < 0.2:
        settings["max_extra_tokens"] = draw.randint(0, 12)
        del settings["max_new_tokens"]
    return [draw.randint(1, 14) for _ in range(draw.choice([1, 2, 5, 11]))], settings


def both(model, lengths: list[int], settings: dict[str, Any], **more: Any) -> tuple[Any, Any]:
    """Outputs of our search, which is seen to have run, and of `transformers`'."""
    ids, mask = pad_batch(sentences(lengths, seed=len(lengths)))
    inputs = {"inputs": ids, "attention_mask": mask, "return_dict_in_generate": True, **settings, **more}
    ours = model.generate(**inputs)
    assert ours.search_path == "fast"
    return ours, by_transformers(model, **{**inputs, "output_scores": True})


def count_differing(ours: Any, theirs: Any, returned: int) -> tuple[int, int]:
    """Rows that are not the same, and of these, rows whose scores are so close that rounding ranked them."""
    width = max(ours.sequences.shape[1], theirs.sequences.shape[1])
    rows, expected = (
        torch.nn.functional.pad(output.sequences, (0, width - output.sequences.shape[1]), value=-1)
        for output in (ours, theirs)
    )
    differing = [i for i in range(len(rows)) if until_end(rows[i : i + 1]) != until_end(expected[i : i + 1])]
    if not hasattr(theirs, "sequences_scores"):
        return len(differing), 0
    scores = theirs.sequences_scores
    ties = [i for i in differing if abs(ours.sequences_scores[i] - scores[i]) <= TIE * abs(scores[i])]
    same = [i for i in range(len(rows)) if i not in differing]
    torch.testing.assert_close(ours.sequences_scores[same], scores[same], rtol=1e-5, atol=1e-6)
    return len(differing), len(ties)


def test_sequences_and_scores_are_those_of_transformers():
    """Over random settings, on models whose outputs vary and end at spread lengths."""
    models = [lively_model(seed, **shape) for seed, shape in enumerate(SHAPES.values())]
    rows = differing = ties = 0
    seen_lengths = set()
    for case in range(CASES):
        lengths, settings = settings_of(case)
        ours, theirs = both(models[case % len(models)], lengths, settings)
        found, tied = count_differing(ours, theirs, settings.get("num_return_sequences", 1))
        assert found == tied, (case, settings)
        rows, differing, ties = rows + len(ours.sequences), differing + found, ties + tied
        seen_lengths |= {len(row) for row in until_end(theirs.sequences)}
    assert differing <= 0.01 * rows
    assert len(seen_lengths) > 15


@beams_over_the_target_vocabulary
def test_separate_vocabularies():
    model = lively_model(**SEPARATE_VOCABULARIES)
    ours, theirs = both(model, [4, 9, 12], {"num_beams": 4, "max_new_tokens": 20})
    assert torch.equal(ours.sequences, theirs.sequences)


def test_long_targets_outgrow_every_first_guess_of_room():
    """Slots of keys are dropped and doubled, hypotheses widened, positions computed anew."""
    model = lively_model()
    settings = {"num_beams": 5, "max_new_tokens": 150, "min_new_tokens": 140, "early_stopping": "never"}
    ours, theirs = both(model, [4, 12, 30], settings)
    assert torch.equal(ours.sequences, theirs.sequences)
    torch.testing.assert_close(ours.sequences_scores, theirs.sequences_scores)


def test_rows_and_fillings_are_shaped_as_in_transformers():
    for settings in ({"num_beams": 3, "num_return_sequences": 2}, {"num_beams": 1}):
        ours, theirs = both(lively_model(), [3, 9, 5], {"max_new_tokens": 30, **settings})
        assert torch.equal(ours.sequences, theirs.sequences)


def test_a_prefix_given_as_decoder_input_ids():
    prefix = torch.tensor([[BOS, 7, 9], [BOS, 4, 5], [BOS, 11, 30]])
    ours, theirs = both(lively_model(), [3, 9, 5], {"num_beams": 4, "max_new_tokens": 12}, decoder_input_ids=prefix)
    assert torch.equal(ours.sequences, theirs.sequences)
    torch.testing.assert_close(ours.sequences_scores, theirs.sequences_scores)


@pytest.mark.parametrize("side", ["left", "both"])
def test_padding_on_any_side(side):
    model = lively_model()
    rows = sentences([4, 9, 12])
    translations = []
    for where in ("right", side):
        ids, mask = pad_batch(rows, where)
        settings = {"num_beams": 4, "max_new_tokens": 15, "return_dict_in_generate": True}
        output = model.generate(ids, attention_mask=mask, **settings)
        translations.append(output.sequences.tolist())
        assert output.search_path == "fast"
    assert translations[0] == translations[1]


def test_scores_of_all_tokens_reproduce_the_scores_of_sequences():
    """`output_scores` keeps every row in the batch; `compute_transition_scores` adds them up."""
    model = lively_model()
    settings = {"num_beams": 4, "max_new_tokens": 20, "num_return_sequences": 3, "length_penalty": 0.8}
    ours, theirs = both(model, [3, 9, 5], settings, output_scores=True)
    assert len(ours.scores) == len(theirs.scores)
    for one, other in zip(ours.scores, theirs.scores, strict=True):
        torch.testing.assert_close(one, other)
    assert torch.equal(ours.beam_indices, theirs.beam_indices)
    steps = model.compute_transition_scores(ours.sequences, ours.scores, ours.beam_indices)
    torch.testing.assert_close(steps, ours.token_log_probabilities)
    lengths = (ours.beam_indices >= 0).sum(1)
    torch.testing.assert_close(steps.sum(1) / lengths**0.8, ours.sequences_scores)


@pytest.mark.parametrize("num_beams", [1, 4])
def test_log_probabilities_of_tokens_are_the_models(num_beams):
    model = lively_model()
    ids, mask = pad_batch(sentences([4, 9, 12]))
    output = model.generate(
        ids, attention_mask=mask, num_beams=num_beams, max_new_tokens=15, return_dict_in_generate=True
    )
    logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=output.sequences[:, :-1]).logits
    expected = logits.log_softmax(-1).gather(-1, output.sequences[:, 1:, None])[..., 0]
    ended = output.sequences[:, 1:].eq(EOS).int().cumsum(1) - output.sequences[:, 1:].eq(EOS).int() > 0
    torch.testing.assert_close(output.token_log_probabilities, expected.masked_fill(ended, 0.0), atol=1e-5, rtol=1e-5)


class Favourite(LogitsProcessor):
    """Doubles one token's probability, by the row's place: nothing that our search knows."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[torch.arange(len(scores)), 5 + torch.arange(len(scores)) % 7] += 0.7
        return scores


@pytest.mark.parametrize("num_beams", [1, 4])
def test_any_logits_processor_runs_even_one_that_knows_rows_by_their_place(num_beams):
    settings = {"num_beams": num_beams, "max_new_tokens": 25, "logits_processor": [Favourite()]}
    ours, theirs = both(lively_model(), [3, 9, 5, 7, 2], settings)
    assert torch.equal(ours.sequences, theirs.sequences)


def test_prefixes_that_a_function_allows():
    def allowed(sentence: int, ids: torch.Tensor) -> list[int]:
        return [EOS, *range(3 + sentence, 30)]

    settings = {"num_beams": 3, "max_new_tokens": 20, "prefix_allowed_tokens_fn": allowed}
    ours, theirs = both(lively_model(), [3, 9, 5, 7, 2], settings)
    assert torch.equal(ours.sequences, theirs.sequences)
    assert PAD not in {token for row in until_end(ours.sequences) for token in row[1:]}
