"""Whatever is changed in a model, `generate` gives what a loop over its `forward` gives: right, or left to others.

Each row of the tables changes a model that has been decoded with before, so that whatever was kept of it is stale.
"""

import os
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import changed_adapters
import changed_code
import changed_hooks
import changed_modules
import changed_weights
import pytest
import torch
from changes import Change, Changed
from plain_searches import (
    Expected,
    by_forward,
    decoded_by_transformers,
    expect,
    path_of,
    require_beams,
    require_greedy,
    usual_rules,
)
from tiny import EOS, lively_model, pad_batch, sentences

TABLES = (changed_adapters, changed_modules, changed_hooks, changed_code, changed_weights)
assert len({name for table in TABLES for name in table.CHANGES}) == sum(len(table.CHANGES) for table in TABLES)
CHANGES: dict[str, Change] = {name: row for table in TABLES for name, row in table.CHANGES.items()}
NEW, BEAMS = 6, 3
EVERY_ROW = os.environ.get("EVERY_ROW")
"""Set it to compare `transformers`' own search with the loop where the fast search cannot run either."""
ONE_BY_ONE = {"num_beams": 1, "return_dict_in_generate": True}
IN_BEAMS = {"num_beams": BEAMS, "num_return_sequences": BEAMS, "return_dict_in_generate": True}


def model_for(change: Change) -> Any:
    """Targets end after 3 to 6 tokens, and no bias or norm is 0 or 1, as fresh ones are."""
    model = lively_model(4, encoder_layers=2, **change.of)
    generator = torch.Generator().manual_seed(4)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    model.final_logits_bias[:, EOS] += 1.0
    return model


def source_for(change: Change) -> dict[str, torch.Tensor]:
    ids, mask = pad_batch(sentences(list(change.lengths)))
    return {"input_ids": ids, "attention_mask": mask}


@cache
def unchanged(of: tuple[tuple[str, Any], ...], lengths: tuple[int, ...]) -> Expected:
    """What a loop over an unchanged model's `forward` finds."""
    change = Change(lambda *_: None, of=dict(of), lengths=lengths)
    return expect(by_forward(model_for(change), **source_for(change)), len(lengths), usual_rules(NEW), BEAMS)


@dataclass
class Case:
    """A changed model, what a loop over its `forward` finds, and what `generate` does."""

    change: Change
    changed: Changed
    expected: Expected

    def generate(self, **settings: Any) -> Any:
        return self.changed.model.generate(
            **source_for(self.change), max_new_tokens=NEW, **self.changed.settings, **settings
        )

    @cached_property
    def greedy(self) -> Any:
        return self.generate(**ONE_BY_ONE)

    @cached_property
    def beams(self) -> Any:
        # `transformers` gives scores of sequences on request only
        return self.generate(**IN_BEAMS, output_scores=self.change.slow is True)

    def by_transformers(self, **settings: Any) -> Any:
        """The same by `transformers`' own search, called as the user calls ours."""
        with decoded_by_transformers(self.changed.inner):
            return self.generate(**settings)


@pytest.fixture(scope="module", params=CHANGES)
def case(request):
    change = CHANGES[request.param]
    model, source = model_for(change), source_for(change)
    model.generate(**source, **IN_BEAMS, max_new_tokens=2)
    before = set(model.modules())
    with pytest.MonkeyPatch.context() as monkeypatch:
        given = change.apply(model, monkeypatch)
        changed = given if isinstance(given, Changed) else Changed(given or model)
        changed.inner = changed.inner or changed.model
        for module in set(changed.inner.modules()) - before:
            module.training = False  # as fresh modules are: that alone would keep the call from the fast path
        next_logits = by_forward(changed.forward or changed.model, **source, **changed.inputs)
        yield Case(change, changed, expect(next_logits, len(change.lengths), usual_rules(NEW), BEAMS))


def test_greedy_decoding_gives_what_a_loop_gives(case):
    require_greedy(case.greedy, case.expected, tolerance=case.change.tolerance)


def test_beam_search_gives_what_a_search_written_out_gives(case):
    output, scores = case.beams, case.beams.sequences_scores
    if scores is None:
        scores = case.generate(**IN_BEAMS, output_scores=True).sequences_scores
    require_beams(output, scores, case.expected, tolerance=case.change.tolerance)


def test_transformers_own_search_gives_the_same(case):
    """Else the loop would be wrong, or the change one that no search with a cache can follow.

    Where a call has to be left to `transformers`, the tests above say so already.
    """
    if case.change.slow and not EVERY_ROW:
        return
    require_greedy(case.by_transformers(**ONE_BY_ONE), case.expected, tolerance=case.change.tolerance)
    output = case.by_transformers(**IN_BEAMS, output_scores=True)
    require_beams(output, output.sequences_scores, case.expected, tolerance=case.change.tolerance)


def test_a_change_matters_unless_its_row_says_otherwise(case):
    before = unchanged(tuple(case.change.of.items()), case.change.lengths)
    assert case.expected.differs_from(before) == case.change.matters


def test_code_that_is_not_ours_is_left_to_transformers_and_plain_models_are_not(case):
    paths = {path_of(case.greedy), path_of(case.beams)}
    assert all(paths)
    if case.change.slow is not None:
        assert (paths == {"fast"}) if not case.change.slow else ("fast" not in paths)


# Models that are as good as unchanged


@pytest.mark.parametrize("more", [{}, {"output_scores": True}])
def test_an_unchanged_model_is_decoded_fast_and_right(more):
    change = Change(lambda *_: None)
    case = Case(change, Changed(model_for(change)), unchanged((), change.lengths))
    require_greedy(case.greedy, case.expected)
    beams = case.generate(**IN_BEAMS, **more)
    require_beams(beams, beams.sequences_scores, case.expected)
    assert {path_of(case.greedy), path_of(beams)} == {"fast"}


@pytest.fixture
def accelerator():
    """One that wraps a model's `forward` in autocast, and leaves no state to other tests."""
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield accelerate.Accelerator(mixed_precision="bf16", cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_model_that_accelerate_prepared_is_decoded_fast(accelerator):
    change = Change(lambda *_: None)
    model = accelerator.prepare(model_for(change))
    case = Case(change, Changed(model, model), unchanged((), change.lengths))
    assert "forward" in vars(model)

    expected = case.expected.greedy
    found = [row[: len(target)] for row, target in zip(case.greedy.sequences[:, 1:].tolist(), expected, strict=True)]
    assert sum(one == other for one, other in zip(found, expected, strict=True)) >= 3  # bfloat16 rounds near ties
    best = [hypothesis[0][1] for hypothesis in case.expected.beams]
    torch.testing.assert_close(case.beams.sequences_scores[::BEAMS], torch.tensor(best), atol=0.1, rtol=0.05)
    assert {path_of(case.greedy), path_of(case.beams)} == {"fast"}


def test_a_hook_that_is_removed_leaves_a_model_that_is_decoded_fast():
    change = Change(lambda *_: None)
    case = Case(change, Changed(model_for(change)), unchanged((), change.lengths))
    handle = case.changed.model.model.decoder.layers[0].fc1.register_forward_hook(lambda module, args, x: x * 1.5)
    hooked = case.generate(**ONE_BY_ONE)
    handle.remove()

    require_greedy(case.greedy, case.expected)
    assert path_of(hooked) != "fast"
    assert path_of(case.greedy) == "fast"
