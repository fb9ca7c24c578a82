"""Greedy decoding and beam search by their definition, over whole forward passes without a cache.

Each step reads every target from its start, for all sentences and hypotheses at once: slow, and plain to see through.
A search is a generator that asks for logits; `run` answers several at once, with one forward pass a step.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import getattr_static
from typing import Any

import torch
from tiny import BOS, EOS, PAD
from transformers import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput

NextLogits = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Numbers of sentences (rows,) and as many targets so far (rows, length) to the next tokens' logits (rows, vocab)."""
Search = Generator[tuple[list[int], list[list[int]]], torch.Tensor, Any]
"""Yields such numbers and targets, is sent the logits, and returns what it found."""


@dataclass
class Rules:
    """What a call is decoded by.

    Attributes:
        start: the first tokens of each target, (sentences, any), or one row for all.
        max_length: most tokens of a target, `start` included.
        eos: tokens that end a target.
        stop: what else ends a target, given its tokens.
        processors: change scores (rows, vocab), given targets (rows, length).
    """

    start: torch.Tensor
    max_length: int
    eos: tuple[int, ...] = (EOS,)
    stop: Callable[[list[int]], bool] = lambda target: False
    processors: tuple[Callable[..., torch.Tensor], ...] = ()

    def is_over(self, target: list[int]) -> bool:
        return target[-1] in self.eos or len(target) >= self.max_length or self.stop(target)

    def process(self, targets: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for processor in self.processors:
            scores = processor(targets, scores)
        return scores

    def starts(self, sentences: int) -> list[list[int]]:
        return self.start.expand(sentences, -1).tolist()


def usual_rules(max_new_tokens: int, **others: Any) -> Rules:
    """Those of a call that only limits its new tokens."""
    return Rules(torch.tensor([[BOS]]), 1 + max_new_tokens, **others)


def by_forward(forward: Callable[..., Any], **inputs: Any) -> NextLogits:
    """Logits by calls of `forward`; `inputs` have a row for each sentence, `decoder_attention_mask` grows by ones."""

    @torch.no_grad()
    def next_logits(rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        some = {name: _rows_of(value, rows) for name, value in inputs.items()}
        mask = some.get("decoder_attention_mask")
        if mask is not None:
            grown = mask.new_ones(len(rows), targets.shape[1] - mask.shape[1])
            some["decoder_attention_mask"] = torch.cat((mask, grown), dim=1)
        return forward(**some, decoder_input_ids=targets, use_cache=False).logits[:, -1].float()

    return next_logits


def _rows_of(value: Any, rows: torch.Tensor) -> Any:
    if isinstance(value, BaseModelOutput):
        return BaseModelOutput(last_hidden_state=value.last_hidden_state[rows])
    return value[rows]


def run(next_logits: NextLogits, *searches: Search) -> list[Any]:
    """What each of the searches finds; they start alike, so that all targets are of one length at each step."""
    found: dict[Search, Any] = {}
    asking = {search: next(search) for search in searches}
    while asking:
        rows = [row for numbers, _ in asking.values() for row in numbers]
        targets = [target for _, targets in asking.values() for target in targets]
        logits = next_logits(torch.tensor(rows), torch.tensor(targets))
        answers = logits.split([len(numbers) for numbers, _ in asking.values()])
        for search, answer in list(zip(asking, answers, strict=True)):
            try:
                asking[search] = search.send(answer)
            except StopIteration as over:
                del asking[search]
                found[search] = over.value
    return [found[search] for search in searches]


def greedily(sentences: int, rules: Rules) -> Search:
    """Targets without their start, and by how much each token's score exceeds the second best's."""
    targets = rules.starts(sentences)
    leads: list[list[float]] = [[] for _ in targets]
    running = list(range(sentences))
    while running:
        some = [targets[i] for i in running]
        logits = yield running, some
        best = rules.process(torch.tensor(some), logits).topk(2)
        for i, tokens, scores in zip(running, best.indices.tolist(), best.values.tolist(), strict=True):
            targets[i].append(tokens[0])
            leads[i].append(scores[0] - scores[1])
        running = [i for i in running if not rules.is_over(targets[i])]
    start = rules.start.shape[1]
    return [target[start:] for target in targets], leads


Hypothesis = tuple[list[int], float]


def by_beams(sentences: int, rules: Rules, beams: int) -> Search:
    """Of each sentence the best targets without their start, and their scores: log-probability / new tokens.

    As in `transformers` with `early_stopping=False`: a target ends only if it is among the best `beams` candidates,
    and a sentence is done as soon as its best running target, ended here, would not be among its finished ones.
    """
    start = rules.start.shape[1]
    running: list[list[Hypothesis]] = [[(target, 0.0)] for target in rules.starts(sentences)]
    finished: list[list[Hypothesis]] = [[] for _ in running]
    new = 0
    while any(running):
        new += 1
        flat = [(i, hypothesis) for i, hypotheses in enumerate(running) for hypothesis in hypotheses]
        targets = [target for _, (target, _) in flat]
        logits = yield [i for i, _ in flat], targets
        log_probabilities = rules.process(torch.tensor(targets), logits.log_softmax(-1))
        totals = log_probabilities + torch.tensor([score for _, (_, score) in flat])[:, None]
        for i, own in enumerate(totals.split([len(hypotheses) for hypotheses in running])):
            if not running[i]:
                continue
            candidates = _best(own, running[i], max(2, 1 + len(rules.eos)) * beams)
            over = [rules.is_over(target) for target, _ in candidates]
            for (target, score), ends in list(zip(candidates, over, strict=True))[:beams]:
                if ends:
                    finished[i].append((target[start:], score / new))
            finished[i] = sorted(finished[i], key=lambda hypothesis: -hypothesis[1])[:beams]
            running[i] = [c for c, ends in zip(candidates, over, strict=True) if not ends][:beams]
            full = len(finished[i]) == beams
            if running[i] and full and running[i][0][1] / new <= finished[i][-1][1]:
                running[i] = []
    return finished


def _best(totals: torch.Tensor, hypotheses: list[Hypothesis], count: int) -> list[Hypothesis]:
    """The best continuations of one sentence's hypotheses, (hypotheses, vocab), without impossible ones."""
    best = totals.flatten().topk(min(count, totals.numel()))
    places = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    vocab = totals.shape[1]
    return [([*hypotheses[at // vocab][0], at % vocab], score) for score, at in places if score > float("-inf")]


# Comparing


@dataclass
class Expected:
    """What the searches above find: `greedily`'s targets and leads, and `by_beams`' hypotheses."""

    greedy: list[list[int]]
    leads: list[list[float]]
    beams: list[list[Hypothesis]]

    def differs_from(self, other: "Expected", least: float = 1e-3) -> bool:
        """Whether any token is another one, or a score by `least`."""
        mine, theirs = ([h for hypotheses in one.beams for h in hypotheses] for one in (self, other))
        if self.greedy != other.greedy or [target for target, _ in mine] != [target for target, _ in theirs]:
            return True
        return any(abs(one - another) > least for (_, one), (_, another) in zip(mine, theirs, strict=True))


def expect(next_logits: NextLogits, sentences: int, rules: Rules, beams: int) -> Expected:
    (greedy, leads), hypotheses = run(next_logits, greedily(sentences, rules), by_beams(sentences, rules, beams))
    return Expected(greedy, leads, hypotheses)


def is_filled_up(row: list[int], target: list[int]) -> bool:
    """Whether a row of `generate` is this target and filling: PAD when greedy, else EOS."""
    return row[: len(target)] == target and set(row[len(target) :]) <= {PAD, EOS}


def require_greedy(output: Any, expected: Expected, start: int = 1, tolerance: float = 1e-4) -> None:
    """The same tokens, up to one whose lead in the loop is small.

    A logit may be off by a few times the `tolerance` of scores, which are means over tokens.
    """
    for row, target, leads in zip(output.sequences[:, start:].tolist(), expected.greedy, expected.leads, strict=True):
        if not is_filled_up(row, target):
            parting = next(i for i in range(len(target) + 1) if row[i : i + 1] != target[i : i + 1])
            assert parting < len(target), f"{row} goes on after {target}"
            assert leads[parting] < 4 * tolerance, f"{row} instead of {target}"


def require_beams(
    output: Any, scores: torch.Tensor, expected: Expected, start: int = 1, tolerance: float = 1e-4
) -> None:
    """The same scores; and the same tokens, where `tolerance` is not so large that ranks may change."""
    hypotheses = [hypothesis for of_sentence in expected.beams for hypothesis in of_sentence]
    found = list(zip(output.sequences[:, start:].tolist(), scores.tolist(), strict=True))
    assert len(found) == len(hypotheses)
    for (row, score), (target, wanted) in zip(found, hypotheses, strict=True):
        assert abs(score - wanted) <= tolerance, f"{row} scores {score}, {target} {wanted}"
        assert tolerance > 1e-3 or is_filled_up(row, target), f"{row} instead of {target}"


OURS_TO_KEEP = {"create_masks_for_generate", "compute_transition_scores"}


@contextmanager
def decoded_by_transformers(model: Any) -> Iterator[None]:
    """Meanwhile `model.generate` is `transformers`' own from its first line on, the encoder's call included."""
    ours = type(model)
    mixin = next(kind for kind in ours.__mro__ if kind.__name__ == "TranslationGenerationMixin")
    names = [name for name in vars(mixin) if name in vars(GenerationMixin) and not name.startswith("__")]
    theirs = {name: getattr_static(GenerationMixin, name) for name in names if name not in OURS_TO_KEEP}
    model.__class__ = type("Stock", (ours,), theirs)
    try:
        yield
    finally:
        model.__class__ = ours


def path_of(output: Any) -> str:
    """How a call was decoded: "fast", or why not."""
    return output.search_path
