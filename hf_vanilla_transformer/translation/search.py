"""How a call decodes: its settings, settled, and what is kept of each step of the search."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.generation import GenerationConfig, StoppingCriteria

from ..model.generation import gnmt_normaliser

DEFAULT_EXTRA_TOKENS = 50  # section 6.1, for a model whose generation config states no length at all
PAPER_DECODING = {"num_beams": 4, "max_extra_tokens": DEFAULT_EXTRA_TOKENS, "gnmt_length_penalty": 0.6}
"""Section 6.1."""
RESERVED_SETTINGS = (
    *("inputs", "input_ids", "attention_mask", "generation_config", "num_return_sequences"),
    *("return_dict_in_generate", "output_scores", "stopping_criteria", "streamer"),
)


@dataclass(frozen=True)
class Search:
    """How to decode, settled: what the call said, else what the model's generation config says.

    Attributes:
        num_beams: 1 is greedy.
        n_best: hypotheses to give back, at most `num_beams`.
        length_penalty: exponent of the length in the score, or None where `gnmt_length_penalty` holds.
        gnmt_length_penalty: alpha of Wu et al. 2016, or None.
        max_extra_tokens: tokens a target may have beyond its source's; `None` where another length was asked for.
        eos_ids: ids that end a sentence.
        settings: everything else, for `generate`.
    """

    num_beams: int
    n_best: int
    length_penalty: float | None
    gnmt_length_penalty: float | None
    max_extra_tokens: int | None
    eos_ids: frozenset[int]
    settings: dict[str, Any] = field(default_factory=dict)

    def length_settings(self) -> dict[str, float]:
        """The one length penalty that holds, as an argument of `generate`."""
        if self.gnmt_length_penalty is not None:
            return {"gnmt_length_penalty": self.gnmt_length_penalty}
        assert self.length_penalty is not None
        return {"length_penalty": self.length_penalty}

    def normaliser(self, tokens: int) -> float:
        """What the log-probability of so many tokens is divided by."""
        if self.gnmt_length_penalty is not None:
            return gnmt_normaliser(tokens, self.gnmt_length_penalty)
        assert self.length_penalty is not None
        return tokens**self.length_penalty


def settle_search(
    defaults: GenerationConfig, num_beams: int | None, n_best: int, settings: Mapping[str, Any]
) -> Search:
    """Put together what the call says and, where it says nothing, what the model's generation config says.

    Raises:
        TypeError: a setting that the translator makes itself.
        ValueError: a number out of range.
    """
    taken = [name for name in settings if name in RESERVED_SETTINGS]
    if taken:
        raise TypeError(f"The translator itself sets {', '.join(taken)} of `generate`: leave it out.")
    num_beams = num_beams if num_beams is not None else defaults.num_beams or 1
    if num_beams < 1:
        raise ValueError(f"num_beams must be at least 1 (1 is greedy), got {num_beams}.")
    if not 1 <= n_best <= num_beams:
        raise ValueError(
            f"n_best must be at least 1 and at most num_beams, got n_best {n_best} and num_beams {num_beams}. "
            "Raise num_beams to see more hypotheses."
        )
    settings = {name: value for name, value in settings.items() if value is not None}
    length_penalty, gnmt = settings.get("length_penalty"), settings.get("gnmt_length_penalty")
    if length_penalty is None and gnmt is None:
        length_penalty, gnmt = defaults.length_penalty, getattr(defaults, "gnmt_length_penalty", None)
    elif length_penalty is not None and gnmt is not None:
        raise ValueError(
            f"A length penalty is of one kind, but length_penalty {length_penalty} and gnmt_length_penalty {gnmt} "
            "were given. Leave one of them out."
        )
    settled = ("length_penalty", "gnmt_length_penalty", "max_extra_tokens")
    eos = settings.get("eos_token_id", defaults.eos_token_id)
    return Search(
        num_beams=num_beams,
        n_best=n_best,
        length_penalty=None if gnmt is not None else 1.0 if length_penalty is None else length_penalty,
        gnmt_length_penalty=gnmt,
        max_extra_tokens=_extra_tokens(defaults, settings),
        eos_ids=frozenset() if eos is None else frozenset([eos] if isinstance(eos, int) else eos),
        settings={name: value for name, value in settings.items() if name not in settled},
    )


def _extra_tokens(defaults: GenerationConfig, settings: Mapping[str, Any]) -> int | None:
    """The allowance of section 6.1, or `None` where another length holds."""
    lengths = ("max_length", "max_new_tokens")
    if any(name in settings for name in lengths):
        return None
    extra = settings.get("max_extra_tokens", getattr(defaults, "max_extra_tokens", None))
    if extra is None and all(getattr(defaults, name, None) is None for name in lengths):
        return DEFAULT_EXTRA_TOKENS
    if extra is not None and extra < 0:
        raise ValueError(f"max_extra_tokens must be at least 0, got {extra}.")
    return extra


def cut_at_end(tokens: list[int], limit: int, eos_ids: frozenset[int]) -> tuple[list[int], bool]:
    """The tokens that belong to a hypothesis, its end included, and whether it ended by itself."""
    for position, token in enumerate(tokens[:limit]):
        if token in eos_ids:
            return tokens[: position + 1], True
    return tokens[:limit], False


class StepScores(StoppingCriteria):
    """Stops nothing: watches the scores of each step go by, and lets go of them.

    `generate` gives `sequences_scores` only to those who also take the scores of every token of the vocabulary at
    every step, which is gigabytes for a batch of beams. Here each step's memory is released as the next begins.

    Args:
        keep_chosen: remember the log-probability of the token chosen, which makes sense for greedy decoding only.
    """

    def __init__(self, keep_chosen: bool) -> None:
        self.keep_chosen = keep_chosen
        self.chosen: list[torch.Tensor] = []  # for each step (batch,)

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if self.keep_chosen:
            step = scores[-1]  # (batch, vocab), not normalised
            self.chosen.append(step.gather(-1, input_ids[:, -1:])[:, 0] - step.logsumexp(-1))
        if scores:
            scores[-1].set_()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    def log_probabilities(self) -> torch.Tensor:
        """Of each token chosen, (batch, steps)."""
        return torch.stack(self.chosen, dim=1)
