"""The search speaks to a `Decoder`, whatever that is: an ensemble and a lexical constraint are a class each.

What these tests show is the design: neither class knows anything of the search, nor the search of them.
"""

import pytest
import torch
from tiny import BOS, EOS, lively_model, pad_batch, sentences, until_end
from transformers import LogitsProcessorList

from hf_vanilla_transformer.model.beam_search import BeamSearch
from hf_vanilla_transformer.model.greedy_search import greedy_search
from hf_vanilla_transformer.model.packed_layers import PackedModel
from hf_vanilla_transformer.model.packed_products import Weights
from hf_vanilla_transformer.model.search_settings import SearchSettings
from hf_vanilla_transformer.model.step_decoder import StepDecoder

ROWS = sentences([4, 9, 6, 12])
IDS, MASK = pad_batch(ROWS)
MOST = 8


class Ensemble:
    """Several decoders as one: the mean of their probabilities (as fairseq and Marian C++ combine models)."""

    def __init__(self, decoders):
        self.decoders = decoders

    def __getattr__(self, name):
        def tell_all(*given):
            for decoder in self.decoders:
                getattr(decoder, name)(*given)

        return tell_all

    def logits(self, rows):
        probabilities = [decoder.logits(rows).softmax(-1) for decoder in self.decoders]
        return torch.stack(probabilities).mean(0).log()


class MustSay:
    """A decoder whose hypotheses may end only after they have said a word: state of each hypothesis, moved with it."""

    def __init__(self, decoder, word, beams):
        self.decoder, self.word, self.beams = decoder, word, beams

    def read_prompt(self, prompt):
        self.decoder.read_prompt(prompt)
        self.said = torch.zeros(len(prompt), self.beams, dtype=torch.bool)
        self.at_prompt = True

    def logits(self, rows):
        logits = self.decoder.logits(rows)
        said = self.said[rows, : 1 if self.at_prompt else self.beams].flatten()
        logits[~said, EOS] = float("-inf")
        return logits

    def select(self, parents):
        self.decoder.select(parents)
        self.said = self.said.gather(1, parents)

    def step(self, tokens):
        self.decoder.step(tokens)
        self.said, self.at_prompt = self.said | (tokens == self.word), False

    def keep(self, rows):
        self.decoder.keep(rows)
        self.said = self.said[rows]


def decoder_of(model, beams):
    packed = PackedModel(model, Weights())
    return StepDecoder(packed, packed.encode(IDS, MASK), MASK, beams)


def settings_for(beams):
    return SearchSettings(
        num_beams=beams, num_return_sequences=beams, max_length=1 + MOST, limits=None, eos=torch.tensor([EOS]),
        ends_foreseen=1, forced_eos=torch.empty(0, dtype=torch.long), fill=0,
    )  # fmt: skip


@torch.no_grad()
def by_passes(log_probabilities, source, beams):
    """Beam search by its definition over `log_probabilities(source, target)`; targets and scores, best first."""
    running, finished = [([BOS], 0.0)], []
    while running:
        candidates = []
        for target, score in running:
            steps = log_probabilities(source, target).tolist()
            candidates += [([*target, token], score + step) for token, step in enumerate(steps) if step > -1e8]
        candidates.sort(key=lambda candidate: -candidate[1])
        length = len(candidates[0][0]) - 1
        over = [target[-1] == EOS or length == MOST for target, _ in candidates]
        finished += [(t, s / length) for (t, s), ends in list(zip(candidates, over, strict=True))[:beams] if ends]
        finished = sorted(finished, key=lambda hypothesis: -hypothesis[1])[:beams]
        running = [candidate for candidate, ends in zip(candidates, over, strict=True) if not ends][:beams]
        if running and len(finished) == beams and running[0][1] / length <= finished[-1][1]:
            break
    return finished


def require_equal(found, expected, beams):
    for index, hypotheses in enumerate(expected):
        rows = slice(index * beams, index * beams + len(hypotheses))
        lengths = (found.beam_indices[rows] >= 0).sum(1).tolist()
        for row, score, length, (target, wanted) in zip(
            found.sequences[rows].tolist(), found.scores[rows].tolist(), lengths, hypotheses, strict=True
        ):
            assert row[: 1 + length] == target
            assert score == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("beams", [2, 4])
def test_an_ensemble_of_two_models_is_a_class(beams):
    models = [lively_model(seed) for seed in (0, 1)]
    prompt = torch.full((len(ROWS), 1), BOS)

    def mean(source, target):
        given = {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([target])}
        return torch.stack([model(**given).logits[0, -1].softmax(-1) for model in models]).mean(0).log()

    with torch.inference_mode():
        found = BeamSearch(Ensemble([decoder_of(m, beams) for m in models]), prompt, [], settings_for(beams)).run()
        alone = BeamSearch(decoder_of(models[0], beams), prompt, [], settings_for(beams)).run()

    require_equal(found, [by_passes(mean, source, beams) for source in ROWS], beams)
    assert not torch.equal(found.sequences[:, :3], alone.sequences[:, :3])


def test_an_ensemble_decodes_greedily_too():
    models = [lively_model(seed) for seed in (0, 1)]
    prompt = torch.full((len(ROWS), 1), BOS)

    with torch.inference_mode():
        ensemble = Ensemble([decoder_of(model, 1) for model in models])
        found, _ = greedy_search(ensemble, prompt, LogitsProcessorList(), settings_for(1))
    for source, row in zip(ROWS, found.tolist(), strict=True):
        for place, token in enumerate(row[1:], start=1):
            given = {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([row[:place]])}
            assert int(sum(model(**given).logits[0, -1].softmax(-1) for model in models).argmax()) == token
            if token == EOS:
                break


def test_one_beam_is_greedy():
    model, prompt = lively_model(), torch.full((len(ROWS), 1), BOS)
    with torch.inference_mode():
        greedy, _ = greedy_search(decoder_of(model, 1), prompt, LogitsProcessorList(), settings_for(1))
        found = BeamSearch(decoder_of(model, 1), prompt, [], settings_for(1)).run()
    assert until_end(found.sequences) == until_end(greedy)


def test_a_word_that_must_be_said_is_a_class_whose_state_moves_with_the_beams():
    model, beams = lively_model(), 4
    prompt = torch.full((len(ROWS), 1), BOS)
    with torch.inference_mode():
        free = BeamSearch(decoder_of(model, beams), prompt, [], settings_for(beams)).run()
    word = int(free.sequences[-1, 2])  # which the worst hypothesis of the last sentence says of itself

    def constrained(source, target):
        given = {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([target])}
        logits = model(**given).logits[0, -1].clone()
        if word not in target:
            logits[EOS] = float("-inf")
        return logits.log_softmax(-1)

    with torch.inference_mode():
        decoder = MustSay(decoder_of(model, beams), word, beams)
        found = BeamSearch(decoder, prompt, [], settings_for(beams)).run()
    expected = [by_passes(constrained, source, beams) for source in ROWS]
    require_equal(found, expected, beams)
    assert any(word in target for hypotheses in expected for target, _ in hypotheses)
    assert not torch.equal(found.scores, free.scores)
