"""Whatever a call of `generate` asks for, it gets what a loop over `forward` with the same rules gives."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import pytest
import torch
from plain_searches import (
    Expected,
    Rules,
    by_forward,
    decoded_by_transformers,
    expect,
    path_of,
    require_beams,
    require_greedy,
    usual_rules,
)
from tiny import BOS, EOS, PAD, lively_model, pad_batch, sentences
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria
from transformers.generation import (
    EosTokenCriteria,
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    MaxLengthCriteria,
    RepetitionPenaltyLogitsProcessor,
)
from transformers.modeling_outputs import BaseModelOutput

NEW, BEAMS = 7, 3
IDS, MASK = pad_batch(sentences([6, 16, 9, 12, 7, 10]))
SENTENCES = len(IDS)
OFTEN = 16
"""A token that the model below says early in many of its targets."""


def model_to_call() -> Any:
    """Its targets end after 3 to 7 tokens."""
    model = lively_model(4, encoder_layers=2)
    model.final_logits_bias[:, EOS] += 1.0
    return model


@dataclass
class Call:
    """One way to call `generate`.

    Attributes:
        settings: what `generate` is given besides the source; None takes away what it would be given.
        rules: by which the loop decodes.
        inputs: what the loop gives `forward` in place of the source.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    rules: Rules = field(default_factory=lambda: usual_rules(NEW))
    inputs: dict[str, Any] = field(default_factory=lambda: {"input_ids": IDS, "attention_mask": MASK})


@dataclass
class Row:
    """A call, made for a model that it may change.

    Attributes:
        make: makes it.
        matters: whether it changes what the model says.
        slow: True where it must be left to `transformers`; None where either will do.
        theirs: whether `transformers` follows the same rules.
    """

    make: Callable[[Any], Call]
    matters: bool = True
    slow: bool | None = None
    theirs: bool = True


CALLS: dict[str, Row] = {}


def call(name: str, **flags: Any) -> Callable[[Callable[[Any], Call]], None]:
    def enter(make: Callable[[Any], Call]) -> None:
        assert name not in CALLS, name
        CALLS[name] = Row(make, **flags)

    return enter


# What ends a target


@call("a criterion of length")
def _(model):
    return Call({"stopping_criteria": [MaxLengthCriteria(4)]}, usual_rules(3))


@call("a criterion of another end")
def _(model):
    return Call({"stopping_criteria": [EosTokenCriteria(OFTEN)]}, usual_rules(NEW, eos=(OFTEN,)))


@call("criteria of length and of another end")
def _(model):
    return Call({"stopping_criteria": [MaxLengthCriteria(5), EosTokenCriteria(OFTEN)]}, usual_rules(4, eos=(OFTEN,)))


class OneOf(StoppingCriteria):
    """Ends targets after certain tokens."""

    def __call__(self, input_ids, scores, **kwargs):
        return torch.isin(input_ids[:, -1], torch.tensor([11, OFTEN]))


@call("a criterion of one's own", slow=True)
def _(model):
    return Call({"stopping_criteria": [OneOf()]}, usual_rules(NEW, stop=lambda target: target[-1] in (11, OFTEN)))


@call("a criterion of one's own that is a known one's subclass", slow=True)
def _(model):
    class Shorter(MaxLengthCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            return super().__call__(torch.cat((input_ids, input_ids[:, :1]), dim=1), scores, **kwargs)

    return Call({"stopping_criteria": [Shorter(5)]}, usual_rules(3))


@call("several ends")
def _(model):
    return Call({"eos_token_id": [EOS, OFTEN]}, usual_rules(NEW, eos=(EOS, OFTEN)))


@call("several ends in the model's generation config")
def _(model):
    model.generation_config.eos_token_id = [EOS, OFTEN]
    return Call({}, usual_rules(NEW, eos=(EOS, OFTEN)))


@call("a generation config of the call's own")
def _(model):
    config = GenerationConfig(
        max_new_tokens=4, eos_token_id=[EOS, OFTEN], pad_token_id=PAD, decoder_start_token_id=BOS
    )
    return Call({"generation_config": config}, usual_rules(4, eos=(EOS, OFTEN)))


@call("a limit of time that is never reached", matters=False)
def _(model):
    return Call({"max_time": 600.0})


# What changes scores


def processed(processor):
    return Call({"logits_processor": [processor]}, usual_rules(NEW, processors=(processor,)))


@call("a processor that forces an end at a length of its own")
def _(model):
    return processed(ForcedEOSTokenLogitsProcessor(4, EOS, device="cpu"))


@call("a processor that forces the first token")
def _(model):
    return processed(ForcedBOSTokenLogitsProcessor(9))


class Fresh(LogitsProcessor):
    """Makes tokens that were said already less likely."""

    def __call__(self, input_ids, scores):
        return scores.scatter_add(1, input_ids, torch.full(input_ids.shape, -1.5))


@call("a processor of one's own")
def _(model):
    return processed(Fresh())


@call("a processor of one's own that is a known one's subclass")
def _(model):
    class Twice(ForcedBOSTokenLogitsProcessor):
        def __call__(self, input_ids, scores):
            if input_ids.shape[1] == 3:
                return super().__call__(input_ids[:, :1], scores)
            return super().__call__(input_ids, scores)

    return processed(Twice(9))


@call("a penalty of repetition")
def _(model):
    penalty = RepetitionPenaltyLogitsProcessor(1.5)
    return Call({"repetition_penalty": 1.5}, usual_rules(NEW, processors=(penalty,)))


def without(*tokens, until=99):
    """A processor that forbids tokens while targets are shorter than `until`."""

    def process(targets, scores):
        return scores.index_fill(1, torch.tensor(tokens), float("-inf")) if targets.shape[1] < until else scores

    return process


@call("tokens that are suppressed")
def _(model):
    return Call({"suppress_tokens": [OFTEN, 29]}, usual_rules(NEW, processors=(without(OFTEN, 29),)))


@call("a least length")
def _(model):
    return Call({"min_new_tokens": 6}, usual_rules(NEW, processors=(without(EOS, until=7),)))


@call("tokens that a function allows")
def _(model):
    def allowed(sentence, ids):
        return [EOS, *range(5, 16)]

    others = without(0, 1, 3, 4, *range(16, 40))
    return Call({"prefix_allowed_tokens_fn": allowed}, usual_rules(NEW, processors=(others,)))


# What is read


@call("positions of the source, shifted")
def _(model):
    positions = torch.arange(IDS.shape[1]).expand(SENTENCES, -1) + 5
    return Call(
        {"position_ids": positions}, inputs={"input_ids": IDS, "attention_mask": MASK, "position_ids": positions}
    )


@call("positions of the source, backwards")
def _(model):
    positions = torch.arange(IDS.shape[1]).flip(0).repeat(SENTENCES, 1)
    return Call(
        {"position_ids": positions}, inputs={"input_ids": IDS, "attention_mask": MASK, "position_ids": positions}
    )


@call("embeddings of the source")
def _(model):
    embeddings = model.get_input_embeddings()(IDS).detach() * 0.6
    return Call(
        {"input_ids": None, "inputs_embeds": embeddings}, inputs={"inputs_embeds": embeddings, "attention_mask": MASK}
    )


@call("states of the encoder")
def _(model):
    with torch.no_grad():
        states = model.get_encoder()(input_ids=IDS, attention_mask=MASK).last_hidden_state * 0.5
    return Call(
        {"input_ids": None, "encoder_outputs": BaseModelOutput(last_hidden_state=states)},
        inputs={"encoder_outputs": BaseModelOutput(last_hidden_state=states), "attention_mask": MASK},
    )


@call("states of the encoder beside a source")
def _(model):
    given = CALLS["states of the encoder"].make(model)
    return replace(given, settings={"encoder_outputs": given.settings["encoder_outputs"]})


@call("labels, which only a loss would read", matters=False)
def _(model):
    return Call({"labels": IDS})


@call("no mask of the source, which padding tells", matters=False, theirs=False)
def _(model):
    return Call({"attention_mask": None})


@call("a mask with holes")
def _(model):
    mask = MASK.clone()
    mask[:, 2:5] = 0
    return Call({"attention_mask": mask}, inputs={"input_ids": IDS, "attention_mask": mask})


@call("a mask of all ones, padding included")
def _(model):
    mask = torch.ones_like(MASK)
    return Call({"attention_mask": mask}, inputs={"input_ids": IDS, "attention_mask": mask})


@call("a source padded on the left", matters=False)
def _(model):
    ids, mask = pad_batch(sentences([6, 16, 9, 12, 7, 10]), "left")
    return Call({"input_ids": ids, "attention_mask": mask}, inputs={"input_ids": ids, "attention_mask": mask})


PREFIX = torch.tensor([[BOS, 7, 9 + i] for i in range(SENTENCES)])


@call("a beginning of the targets")
def _(model):
    return Call({"decoder_input_ids": PREFIX}, Rules(PREFIX, PREFIX.shape[1] + NEW))


@call("a beginning without the start token, which is put before it")
def _(model):
    return Call({"decoder_input_ids": PREFIX[:, 1:]}, Rules(PREFIX, PREFIX.shape[1] + NEW))


@call("a mask of the targets' beginnings")
def _(model):
    """Every other target has a token less, with padding in its place."""
    prefix, mask = PREFIX.clone(), torch.ones_like(PREFIX)
    prefix[::2, 0], prefix[::2, 1], mask[::2, 0] = PAD, BOS, 0
    return Call(
        {"decoder_input_ids": prefix, "decoder_attention_mask": mask},
        Rules(prefix, prefix.shape[1] + NEW),
        {"input_ids": IDS, "attention_mask": MASK, "decoder_attention_mask": mask},
    )


# How it is decoded


@call("no cache", matters=False, slow=True)
def _(model):
    return Call({"use_cache": False})


@call("no cache by the model's generation config", matters=False, slow=True)
def _(model):
    model.generation_config.use_cache = False
    return Call()


@call("a cache of fixed size", matters=False)
def _(model):
    return Call({"cache_implementation": "static"})


@call("attention weights", matters=False, slow=True)
def _(model):
    return Call({"output_attentions": True})


@call("states of all layers", matters=False, slow=True)
def _(model):
    return Call({"output_hidden_states": True})


@call("logits of all tokens", matters=False)
def _(model):
    return Call({"output_logits": True})


# The tests


@dataclass
class Case:
    """A call, and what a loop finds by its rules."""

    row: Row
    call: Call
    model: Any
    expected: Expected

    @property
    def start(self) -> int:
        return self.call.rules.start.shape[1]

    @cached_property
    def greedy(self) -> Any:
        return self.generate(1)

    @cached_property
    def beams(self) -> Any:
        return self.generate(BEAMS)

    def generate(self, num_beams: int, **more: Any) -> Any:
        search = {"num_beams": num_beams, "num_return_sequences": num_beams, "return_dict_in_generate": True, **more}
        given = {"input_ids": IDS, "attention_mask": MASK, "max_new_tokens": NEW, **self.call.settings}
        if "encoder_outputs" in given:  # which `transformers` repeats for the beams in the caller's own object
            given["encoder_outputs"] = BaseModelOutput(**given["encoder_outputs"])
        config = given.get("generation_config")
        if config is not None:  # `generate` takes either a config or single settings
            config.update(**search)
            del given["max_new_tokens"]
            search = {}
        return self.model.generate(**{name: value for name, value in given.items() if value is not None}, **search)


@cache
def usual() -> Expected:
    """What a loop finds for a call that asks for nothing."""
    call = Call()
    return expect(by_forward(model_to_call(), **call.inputs), SENTENCES, call.rules, BEAMS)


@pytest.fixture(scope="module", params=CALLS)
def case(request):
    row, model = CALLS[request.param], model_to_call()
    call = row.make(model)
    expected = expect(by_forward(model, **call.inputs), SENTENCES, call.rules, BEAMS)
    return Case(row, call, model, expected)


def test_greedy_decoding_gives_what_a_loop_gives(case):
    require_greedy(case.greedy, case.expected, case.start)


def test_beam_search_gives_what_a_search_written_out_gives(case):
    output, scores = case.beams, case.beams.sequences_scores
    if scores is None:  # `transformers` gives them on request only
        scores = case.generate(BEAMS, output_scores=True).sequences_scores
    require_beams(output, scores, case.expected, case.start)


def test_transformers_own_search_gives_the_same(case):
    if not case.row.theirs:
        pytest.skip("a rule of our own")
    with decoded_by_transformers(case.model):
        require_greedy(case.generate(1), case.expected, case.start)
        output = case.generate(BEAMS, output_scores=True)
    require_beams(output, output.sequences_scores, case.expected, case.start)


def test_a_call_matters_unless_its_row_says_otherwise(case):
    assert case.expected.differs_from(usual()) == case.row.matters


def test_what_our_search_does_not_support_is_left_to_transformers(case):
    paths = {path_of(case.greedy), path_of(case.beams)}
    assert all(paths)
    if case.row.slow:
        assert "fast" not in paths
