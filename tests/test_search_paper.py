"""Section 6.1 and Wu et al. 2016: length and coverage penalties and forced prefixes, against a search written out."""

import math

import pytest
import torch
from tiny import BOS, EOS, lively_model, pad_batch, sentences
from torch import nn

ROWS = sentences([4, 9, 6])


def gnmt(tokens: int, alpha: float) -> float:
    return ((5 + tokens) ** alpha) / ((5 + 1) ** alpha)


@torch.no_grad()
def written_out(
    model: nn.Module,
    source: list[int],
    beams: int,
    most: int,
    alpha: float = 0.0,
    beta: float = 0.0,
    prefix: tuple[int, ...] = (),
) -> list[tuple[list[int], float]]:
    """Beam search by its definition: whole targets through the model at each step, no cache, no tensors of beams.

    Returns:
        Targets without their start token, and their scores, best first.
    """
    ids = torch.tensor([source])
    running: list[tuple[list[int], float, torch.Tensor]] = [([], 0.0, torch.zeros(len(source)))]
    finished: list[tuple[list[int], float]] = []
    while running:
        candidates = []
        for target, score, seen in running:
            output = model(input_ids=ids, decoder_input_ids=torch.tensor([[BOS, *target]]), output_attentions=True)
            log_probabilities = output.logits[0, -1].double().log_softmax(-1).tolist()
            attention = output.cross_attentions[-1][0, :, -1].mean(0)  # of the last layer's last position, over heads
            allowed = [prefix[len(target)]] if len(target) < len(prefix) else range(len(log_probabilities))
            candidates += [([*target, t], score + log_probabilities[t], seen + attention) for t in allowed]
        candidates.sort(key=lambda candidate: -candidate[1])
        length = len(candidates[0][0])
        ended = [c[0][-1] == EOS or length == most for c in candidates]
        for (target, score, seen), over in list(zip(candidates, ended, strict=True))[:beams]:
            if over:
                coverage = sum(math.log(min(float(p), 1.0)) for p in seen)
                finished.append((target, score / gnmt(length, alpha) + beta * coverage))
        finished = sorted(finished, key=lambda hypothesis: -hypothesis[1])[:beams]
        running = [c for c, over in zip(candidates, ended, strict=True) if not over][:beams]
        if running and len(finished) == beams and running[0][1] / gnmt(length, alpha) <= finished[-1][1]:
            break
    return finished


def found(model: nn.Module, beams: int, **settings) -> list[list[tuple[list[int], float]]]:
    """The hypotheses of each of `ROWS` by `generate`, in one padded batch."""
    ids, mask = pad_batch(ROWS)
    output = model.generate(
        ids,
        attention_mask=mask,
        num_beams=beams,
        num_return_sequences=beams,
        return_dict_in_generate=True,
        **settings,
    )
    assert output.search_path == "fast"
    rows = []
    for sequence, beam_indices, score in zip(
        output.sequences.tolist(), output.beam_indices, output.sequences_scores.tolist(), strict=True
    ):
        rows.append((sequence[1 : 1 + int((beam_indices >= 0).sum())], score))
    return [rows[start : start + beams] for start in range(0, len(rows), beams)]


def require_equal(model: nn.Module, beams: int, reference: dict, **settings) -> None:
    for source, hypotheses in zip(ROWS, found(model, beams, max_new_tokens=10, **settings), strict=True):
        expected = written_out(model, source, beams, most=10, **reference)
        assert [target for target, _ in hypotheses] == [target for target, _ in expected]
        for (_, score), (_, wanted) in zip(hypotheses, expected, strict=True):
            assert score == pytest.approx(wanted, abs=1e-6 * max(1.0, abs(wanted)) + 1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("beams", [2, 4])
def test_the_length_penalty_of_wu_et_al(alpha, beams):
    require_equal(lively_model(), beams, {"alpha": alpha}, gnmt_length_penalty=alpha)


@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_the_coverage_penalty(beta):
    require_equal(lively_model(1), 3, {"alpha": 0.6, "beta": beta}, gnmt_length_penalty=0.6, coverage_penalty=beta)


def test_a_forced_prefix_counts_in_the_score():
    prefix = torch.tensor([[7, 9]] * len(ROWS))
    reference = {"alpha": 0.6, "prefix": (7, 9)}
    require_equal(lively_model(), 3, reference, gnmt_length_penalty=0.6, target_prefix=prefix)


@pytest.mark.parametrize("num_beams", [1, 4])
def test_prefixes_of_unequal_length(num_beams):
    """What one sentence is forced to say changes nothing for the others."""
    model = lively_model()
    ids, mask = pad_batch(ROWS)
    prefix = torch.tensor([[-100, -100, -100], [11, -100, -100], [5, 6, 7]])
    settings = {"num_beams": num_beams, "max_new_tokens": 15}
    free = model.generate(ids, attention_mask=mask, **settings)
    forced = model.generate(ids, attention_mask=mask, target_prefix=prefix, **settings)
    assert forced[0, 1:].tolist()[:5] == free[0, 1:].tolist()[:5]
    assert forced[1, 1] == 11
    assert forced[2, 1:4].tolist() == [5, 6, 7]


def test_penalties_change_the_ranking():
    """Else the tests above would say little."""
    model = lively_model()
    best = {
        tuple(hypotheses[0][0])
        for alpha in (0.0, 4.0)
        for hypotheses in found(model, 4, gnmt_length_penalty=alpha, max_new_tokens=25)
    }
    assert len(best) > len(ROWS)


def test_the_generation_configs_penalty_holds_until_the_call_says_otherwise():
    model = lively_model()
    kinds = {
        name: found(model, 4, max_new_tokens=25, **settings)
        for name, settings in {
            "gnmt": {"gnmt_length_penalty": 2.0},
            "theirs": {"length_penalty": 0.3},
            "default": {},
        }.items()
    }
    model.generation_config.gnmt_length_penalty = 2.0
    assert found(model, 4, max_new_tokens=25) == kinds["gnmt"]
    assert found(model, 4, max_new_tokens=25, length_penalty=0.3) == kinds["theirs"]
    assert kinds["gnmt"] != kinds["default"]


def test_each_sentence_ends_at_its_own_source_plus_n_tokens():
    model = lively_model()
    model.generation_config.max_extra_tokens = 2
    model.generation_config.min_new_tokens = 99
    for source, hypotheses in zip(ROWS, found(model, 3), strict=True):
        assert {len(target) for target, _ in hypotheses} == {len(source) + 2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coverage_penalty": -0.1}, "`coverage_penalty` must be at least 0, got -0.1"),
        (
            {"gnmt_length_penalty": 0.6, "length_penalty": 1.0},
            "A call takes one length penalty, but `length_penalty` 1.0",
        ),
        ({"target_prefix": torch.tensor([[5]])}, "must have a row for each source, got 1 rows for 3 sources"),
        (
            {"gnmt_length_penalty": 0.6, "use_cache": False},
            "needs our own search, which does not support decoding without",
        ),
        (
            {"target_prefix": torch.tensor([[5]] * 3), "do_sample": True},
            "`target_prefix` needs our own search, which does not support sampling",
        ),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    ids, mask = pad_batch(ROWS)
    with pytest.raises(ValueError, match=message):
        lively_model().generate(ids, attention_mask=mask, num_beams=3, max_new_tokens=5, **settings)


def test_a_models_penalty_that_transformers_search_does_not_know_is_named(caplog):
    model = lively_model()
    model.generation_config.gnmt_length_penalty = 0.6
    ids, mask = pad_batch(ROWS)
    model.generate(ids, attention_mask=mask, num_beams=3, max_new_tokens=5, use_cache=False)
    assert "has no `gnmt_length_penalty`: `length_penalty` holds" in caplog.text
