"""The tree of a beam search, observed inside `generate`, for any model that it decodes.

A logits processor that changes nothing is called at each step with the active hypotheses and the log-probabilities of
their continuations; the next call shows which were kept. So the tree belongs to the very search that returned the
translation, and its best leaf is checked against the returned sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from ..model.call_settings import as_ids, settle
from .contents import Beam, Node
from .distributions import Naming

NEVER = -1e8  # `transformers` scores candidates that must not be chosen with -1e9
TOLERANCE = 1e-3


class UnclearSearch(Exception):  # noqa: N818  # not an error for callers: the page shows the message instead
    """The observed search does not explain the returned sequence; the message tells the reader why."""


@dataclass
class SeenStep:
    """The active hypotheses, (beams, length), and the best continuations of each, (beams, candidates)."""

    rows: list[list[int]]
    log_probabilities: list[list[float]]
    tokens: list[list[int]]


class Watcher(LogitsProcessor):
    """Records the scores in a search, and returns them unchanged.

    Args:
        count: number of candidates per step.
        normalises: whether the scores must still be normalised to log-probabilities.
    """

    def __init__(self, count: int, normalises: bool) -> None:
        self.count = count
        self.normalises = normalises
        self.steps: list[SeenStep] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        values = scores.float().log_softmax(-1) if self.normalises else scores.float()
        best = values.topk(min(self.count, values.shape[1]))
        self.steps.append(SeenStep(input_ids.tolist(), best.values.tolist(), best.indices.tolist()))
        return scores


@dataclass
class Search:
    """The search for one sentence: what was observed, and what was returned.

    Attributes:
        steps: the steps in order.
        prompt_len: number of decoder tokens before the first new one.
        returned: new tokens of each hypothesis, with the end of sentence, best first.
        scores: their normalised scores; empty for greedy decoding.
        width: number of beams.
        ends: end-of-sentence ids.
    """

    steps: list[SeenStep]
    prompt: list[int]
    returned: list[list[int]]
    scores: list[float]
    width: int
    ends: list[int]


def search(model: Any, source_ids: Sequence[int], **settings: Any) -> Search:
    """Decode one sentence by `generate`, and record the search.

    Args:
        model: an encoder-decoder of `transformers`.
        source_ids: the sentence, with its end.
        settings: settings of `generate`; the model's own by default. Sampling is switched off.
    """
    settled = settle(settings, None, model.generation_config)
    width, ends = settled.num_beams, list(settled.eos_ids or as_ids(model.config.eos_token_id))
    renormalises = bool(settled.values.get("renormalize_logits"))
    watcher = Watcher(max(2, 1 + len(ends)) * width, normalises=renormalises or width == 1)
    ids = torch.tensor([list(source_ids)], device=model.device)
    with torch.inference_mode():
        found = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            logits_processor=LogitsProcessorList([watcher]),
            **{"do_sample": False, "num_return_sequences": width, **settings},
            return_dict_in_generate=True,
            output_scores=width > 1,  # in greedy decoding the watcher has them, and requesting them is slower
        )
    prompt = watcher.steps[0].rows[0]
    scores = getattr(found, "sequences_scores", None)
    scores = [] if scores is None else scores.tolist()
    real = [n for n in range(len(found.sequences)) if not scores or scores[n] > NEVER]
    longest = len(watcher.steps)
    returned = [_until_end(found.sequences[n, len(prompt) :].tolist()[:longest], ends) for n in real]
    if scores == [] and width == 1:
        returned = returned[:1]
    return Search(watcher.steps, prompt, returned, [scores[n] for n in real] if scores else [], width, ends)


def _until_end(tokens: list[int], ends: list[int]) -> list[int]:
    end = next((place for place, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tokens[: end + 1]


def length_penalty(model: Any, settings: dict[str, Any]) -> tuple[str, Any]:
    """The length normalisation of this model's hypotheses: in words, and as a function of the number of tokens."""
    settled = settle(settings, None, model.generation_config)
    return settled.normaliser_in_words(), settled.normaliser


class TreeBuilder:
    """Turns the recorded steps into nodes."""

    def __init__(self, found: Search, normaliser: Any, name: Naming) -> None:
        self.found, self.normaliser, self.name = found, normaliser, name
        self.nodes: list[Node] = []
        self.tokens: list[tuple[int, ...]] = []  # new tokens of each node

    def build(self, penalty: str) -> Beam:
        """Build the tree, and find the returned leaf.

        Raises:
            UnclearSearch: the returned sequence is not among the leaves, or has another score.
        """
        alive: list[int] = [-1]  # the node of each row of the batch; at first all rows are the start
        for number, seen in enumerate(self.found.steps):
            following = self.found.steps[number + 1].rows if number + 1 < len(self.found.steps) else None
            alive = self._step(seen, alive, following, number + 1)
        returned = [self._leaf(tokens) for tokens in self.found.returned]
        scores = self.found.scores or [self.nodes[returned[0]].score or 0.0]
        for index, score in zip(returned, scores, strict=True):
            own = self.nodes[index].score
            if own is None or abs(own - score) > TOLERANCE * max(1.0, abs(score)):
                raise UnclearSearch(
                    "The search's scores contain more than log-probabilities and a length penalty, so its tree "
                    "cannot be drawn correctly."
                )
        return Beam(self.found.width, penalty, self.nodes, returned[0], scores[0], returned)

    def _step(self, seen: SeenStep, alive: list[int], following: list[list[int]] | None, step: int) -> list[int]:
        candidates = []
        for row, parent in enumerate(alive):
            before = self.nodes[parent].total if parent >= 0 else 0.0
            pairs = zip(seen.log_probabilities[row], seen.tokens[row], strict=True)
            candidates += [(before + value, parent, token, value) for value, token in pairs if value > NEVER]
        candidates.sort(key=lambda candidate: -candidate[0])
        count = max(2, 1 + len(self.found.ends)) * self.found.width
        first = len(self.nodes)
        for rank, (total, parent, token, value) in enumerate(candidates[:count]):
            tokens = (*(self.tokens[parent] if parent >= 0 else ()), token)
            fate = self._fate(tokens, rank, following)
            score = total / self.normaliser(step) if fate == "finished" else None
            (named,) = self.name([token])
            self.nodes.append(Node(step, parent, named, value, total, fate, score))
            self.tokens.append(tokens)
        if following is None:
            return []
        made = {tokens: first + place for place, tokens in enumerate(self.tokens[first:])}
        wanted = [tuple(row[len(self.found.prompt) :]) for row in following]
        if not all(tokens in made for tokens in wanted):
            raise UnclearSearch("The search continued with hypotheses that were not among the best observed.")
        return [made[tokens] for tokens in wanted]

    def _fate(self, tokens: tuple[int, ...], rank: int, following: list[list[int]] | None) -> str:
        """The fate of a node; ended ones count only among the first `width`, as in the search."""
        if tokens[-1] in self.found.ends:
            return "finished" if rank < self.found.width else "pruned"
        if following is not None:
            rows = {tuple(row[len(self.found.prompt) :]) for row in following}
            return "kept" if tokens in rows else "pruned"
        if list(tokens) in self.found.returned:  # stopped by the length limit
            return "finished"
        return "stopped" if rank < self.found.width else "pruned"

    def _leaf(self, tokens: list[int]) -> int:
        for index in range(len(self.nodes) - 1, -1, -1):
            if self.tokens[index] == tuple(tokens):
                return index
        raise UnclearSearch("The returned sequence is not among the observed hypotheses.")


def build_tree(model: Any, found: Search, settings: dict[str, Any], name: Naming) -> Beam:
    """Build the tree of a recorded search.

    Raises:
        UnclearSearch: it does not explain the returned sequence.
    """
    penalty, normaliser = length_penalty(model, settings)
    return TreeBuilder(found, (lambda tokens: 1.0) if found.width == 1 else normaliser, name).build(
        "nothing: greedy decoding adds log-probabilities up" if found.width == 1 else penalty
    )
