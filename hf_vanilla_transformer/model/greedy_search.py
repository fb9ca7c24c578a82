"""Greedy decoding on any `Decoder`: the most likely token at each step, with the same results as `transformers`."""

from typing import Any

import torch

from .next_tokens import allow_only
from .search_settings import SearchSettings, allowed_tokens, is_late, who_stays
from .step_decoder import Decoder


def greedy_search(
    decoder: Decoder, prompt: torch.Tensor, processors: Any, settings: SearchSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose the most likely token at each step.

    Returns:
        Targets with their prompt, (sentences, length), and the log-probability of each new token before logits
        processors, 0 after the end, (sentences, new tokens).
    """
    sentences, length = prompt.shape
    alive = torch.arange(sentences, device=prompt.device)
    done = torch.zeros(sentences, dtype=torch.bool, device=prompt.device)
    tokens, scores = [prompt], []
    ids = prompt
    decoder.read_prompt(prompt)
    while True:
        logits = decoder.logits(slice(0, len(alive)))
        processed = processors(ids, logits.clone() if processors else logits)
        chosen = allow_only(processed, allowed_tokens(settings, alive, length, prompt.shape[1])).argmax(-1)
        log_probability = logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(-1)
        chosen = chosen.masked_fill(done, settings.fill)
        newest = torch.full((sentences, 1), settings.fill, device=prompt.device)
        newest[alive, 0] = chosen
        tokens.append(newest)
        score = torch.zeros(sentences, dtype=torch.float32, device=prompt.device)
        score[alive] = log_probability.masked_fill(done, 0.0)
        scores.append(score)
        ids, length = torch.cat((ids, chosen[:, None]), dim=1), length + 1
        done = done | torch.isin(chosen, settings.eos)
        if settings.limits is not None:
            done = done | (length >= settings.limits[alive])
        going = int((~done).sum())  # the only read from the device in a step
        if length >= settings.max_length or is_late(settings) or not going:
            return torch.cat(tokens, dim=1), torch.stack(scores, dim=1)
        stay = None if processors else who_stays(done, going)
        if stay is not None:
            alive, ids, done, chosen = alive[stay], ids[stay], done[stay], chosen[stay]
            decoder.keep(stay)
        decoder.step(chosen[:, None])


__all__ = ["greedy_search"]
