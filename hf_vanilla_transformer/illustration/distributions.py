"""Distributions over the vocabulary: at each step of decoding (section 3.4), and against a target (section 5.4)."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .contents import Candidate, Guess, Step, Token

TOP = 12
TOP_GUESSES = 5
BINS = 48

Naming = Callable[[Sequence[int]], list[Token]]
"""Maps ids to tokens, each id on its own."""


def read_steps(logits: torch.Tensor, chosen: Sequence[int], name: Naming) -> list[Step]:
    """The output distribution at each position.

    Args:
        logits: (target_len, vocab).
        chosen: the token of the translation at each position.
        name: maps ids to tokens.
    """
    return [_step(row, index, name) for row, index in zip(logits, chosen, strict=True)]


def _step(logits: torch.Tensor, chosen: int, name: Naming) -> Step:
    probabilities = logits.double().softmax(-1)
    ids = probabilities.topk(min(TOP, len(logits))).indices.tolist()
    ids += [chosen] if chosen not in ids else []
    candidates = _candidates(ids, logits, probabilities, name)
    finite = logits[logits.isfinite()]
    lowest, highest = float(finite.min()), float(finite.max())
    bins = torch.histc(finite, BINS, lowest, highest) if highest > lowest else torch.tensor([float(len(finite))])
    return Step(
        chosen=candidates[ids.index(chosen)],
        candidates=candidates,
        rest=max(0.0, 1.0 - float(probabilities[ids].sum())),
        others=len(logits) - len(ids),
        histogram=[int(count) for count in bins],
        lowest=lowest,
        highest=highest,
    )


def _candidates(ids: list[int], logits: torch.Tensor, probabilities: torch.Tensor, name: Naming) -> list[Candidate]:
    values = zip(name(ids), logits[ids].tolist(), probabilities[ids].tolist(), strict=True)
    return [Candidate(*value) for value in values]


def read_guesses(
    logits: torch.Tensor, wanted: Sequence[int], columns: Sequence[int], smoothing: float, name: Naming
) -> list[Guess]:
    """Compare a model's output with the one-hot and the smoothed target, at each position.

    The smoothed target is (1 - eps) one-hot + eps / vocab, as in training.

    Args:
        logits: (target_len, vocab).
        wanted: the target ids.
        columns: ids whose probabilities are kept.
        smoothing: eps, in [0, 1).
        name: maps ids to tokens.
    """
    vocab = logits.shape[1]
    target = torch.full((vocab,), smoothing / vocab, dtype=torch.float64)
    guesses = []
    for row, index in zip(logits.double(), wanted, strict=True):
        log_probabilities = row.log_softmax(-1)
        smoothed = target.clone()
        smoothed[index] += 1 - smoothing
        cross_entropy = -float((smoothed * log_probabilities.clamp(min=-1e9))[smoothed > 0].sum())
        entropy = -float(torch.special.xlogy(smoothed, smoothed).sum())
        probabilities = log_probabilities.exp()
        best = probabilities.topk(min(TOP_GUESSES, vocab)).indices.tolist()
        guesses.append(
            Guess(
                log_probability=float(log_probabilities[index]),
                smoothed_cross_entropy=cross_entropy,
                smoothed_kl=cross_entropy - entropy,
                columns=probabilities[list(columns)].tolist(),
                candidates=_candidates(best, row, probabilities, name),
            )
        )
    return guesses


def untrained_twin(model: Any) -> Any:
    """A freshly initialised model of the same class and shape, with a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        twin = type(model)(copy.deepcopy(model.config))
    return twin.to(device=model.device, dtype=model.dtype).eval()
