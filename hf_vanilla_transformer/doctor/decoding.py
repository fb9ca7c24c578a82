"""Does the model decode correctly, whatever the batch, the padding and the cache?

Each check computes the log-probabilities of short targets in two ways, in float32, and compares them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from transformers import GenerationConfig, GenerationMixin

from ..model.configuration_vanilla_transformer import is_ours
from .findings import LONGEST_TARGET, Finding, Patient

TOLERANCE = 1e-3  # nats; rounding in float32 causes 1e-5, a fault 0.1 or more


def check_greedy(patient: Patient) -> Finding:
    """Whether greedy decoding by `generate` takes the likeliest tokens, computed without a cache."""
    name = "greedy = beam 1"
    wrong, count = [], 0
    for place, ids in enumerate(patient.source_ids):
        with plain_settings(patient.model):
            found = patient.model.generate(
                torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)
            )
        tokens = found[0].tolist()
        count += len(tokens) - 1
        if not follows_the_likeliest(patient, ids, tokens):
            wrong.append(place)
    if wrong:
        remedy = "`generate` does not choose the model's likeliest tokens: check its cache and its start token."
        return Finding(name, "fail", f"sentences {numbers(wrong)} differ", remedy)
    return Finding(name, "pass", f"{count} tokens are the likeliest without a cache")


def follows_the_likeliest(patient: Patient, ids: list[int], tokens: list[int]) -> bool:
    """Whether each token after the first is the likeliest in a single pass over all of them, up to rounding."""
    if tokens[0] != patient.start:
        return False
    with torch.inference_mode():
        steps = patient.log_probabilities(*batched([ids], patient.pad), torch.tensor([tokens[:-1]]))[0]
    chosen = steps.gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
    return bool((steps.amax(1) - chosen < TOLERANCE).all())


def check_cache(patient: Patient) -> Finding:
    """Whether decoding token by token with a cache equals a single pass over all tokens."""
    worst = 0.0
    with torch.inference_mode():
        for ids, target in zip(patient.source_ids, patient.targets, strict=True):
            source, mask = batched([ids], patient.pad)
            decoder_ids = torch.tensor([[patient.start, *target]])
            whole = patient.log_probabilities(source, mask, decoder_ids)
            worst = max(worst, difference(whole, token_by_token(patient, source, mask, decoder_ids)))
    remedy = "The cache of keys and values is wrong: decode with `use_cache=False` until the model is fixed."
    return compared("cached = uncached", worst, remedy)


def token_by_token(patient: Patient, ids: torch.Tensor, mask: torch.Tensor, decoder_ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities with a cache, (1, target_len, vocab)."""
    states = patient.model.get_encoder()(input_ids=ids, attention_mask=mask)
    cache, steps = None, []
    for step in range(decoder_ids.shape[1]):
        outputs = patient.model(
            encoder_outputs=states,
            attention_mask=mask,
            decoder_input_ids=decoder_ids[:, step : step + 1],
            past_key_values=cache,
            use_cache=True,
        )
        cache = outputs.past_key_values
        steps.append(outputs.logits.float().log_softmax(-1))
    return torch.cat(steps, dim=1)


def check_batch(patient: Patient) -> Finding:
    """Whether a sentence in a right-padded batch gives the same output as alone."""
    remedy = "Padding changes the model's output: decode one sentence at a time, and check its masks."
    return compared("batch = single", batch_difference(patient, "right"), remedy)


def check_padding(patient: Patient) -> Finding:
    """Whether padding on the left changes nothing either; many models count padding as positions."""
    name = "padding on either side"
    worst = batch_difference(patient, "left")
    side = patient.tokenizer.padding_side
    if worst < TOLERANCE:
        return Finding(name, "pass", f"largest difference {worst:.1e}")
    if is_ours(patient.model):
        return compared(name, worst, "Padding must not change positions or attention: check its masks.")
    if side == "left":
        remedy = 'This model counts padding as positions: set `padding_side="right"` and save the tokenizer.'
        return Finding(name, "fail", f"the tokenizer pads on the left, which changes up to {worst:.2f}", remedy)
    return Finding(name, "note", "must be right-padded", "The tokenizer does so; do not change its `padding_side`.")


def check_end(patient: Patient) -> Finding:
    """Whether translations end with the end-of-sentence token."""
    name = "end of sentence learned"
    finished = sum(translation.finished for translation in patient.translations)
    found = f"{finished} of {len(patient.translations)} translations end by themselves"
    if finished:
        return Finding(name, "pass", found)
    remedy = (
        "If `eos_token_id` is right, the model was trained on targets without end of sentence: tokenise targets so "
        "that they end with it, and do not mask it in the labels."
    )
    return Finding(name, "fail", found, remedy)


def batch_difference(patient: Patient, side: Literal["left", "right"]) -> float:
    """The largest difference between a batch padded on that side and each sentence alone."""
    source, mask = batched(patient.source_ids, patient.pad, side)
    longest = max(map(len, patient.targets))
    rows = [[patient.start, *target] for target in patient.targets]
    decoder_ids = torch.tensor([row + [patient.pad] * (longest + 1 - len(row)) for row in rows])
    worst = 0.0
    with torch.inference_mode():
        together = patient.log_probabilities(source, mask, decoder_ids)
        for place, (ids, row) in enumerate(zip(patient.source_ids, rows, strict=True)):
            alone = patient.log_probabilities(*batched([ids], patient.pad), torch.tensor([row]))
            worst = max(worst, difference(alone, together[place : place + 1, : len(row)]))
    return worst


def batched(
    rows: list[list[int]], pad: int, side: Literal["left", "right"] = "right"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad sentences to a batch: ids and mask, (sentences, longest) each."""
    longest = max(map(len, rows))
    masks = [[1] * len(row) for row in rows]
    fill = [[0] * (longest - len(row)) for row in rows]
    pads = [[pad] * len(zeros) for zeros in fill]
    if side == "left":
        rows, masks = (
            [p + r for p, r in zip(pads, rows, strict=True)],
            [z + m for z, m in zip(fill, masks, strict=True)],
        )
    else:
        rows, masks = (
            [r + p for r, p in zip(rows, pads, strict=True)],
            [m + z for m, z in zip(masks, fill, strict=True)],
        )
    return torch.tensor(rows), torch.tensor(masks)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest absolute difference; infinite if either tensor contains NaN."""
    # the bias of OPUS-MT's padding token is minus infinity
    largest = (one.nan_to_num(neginf=-1e4) - other.nan_to_num(neginf=-1e4)).abs().max()
    return float("inf") if one.isnan().any() or other.isnan().any() else float(largest)


def compared(name: str, worst: float, remedy: str) -> Finding:
    """Pass or fail by the largest difference of log-probabilities."""
    found = f"log-probabilities differ by at most {worst:.1e}"
    return Finding(name, "pass", found) if worst < TOLERANCE else Finding(name, "fail", found, remedy)


def numbers(places: list[int]) -> str:
    """List numbers of sentences, counted from 1."""
    return ", ".join(str(place + 1) for place in places)


@contextmanager
def plain_settings(model: GenerationMixin) -> Iterator[None]:
    """Greedy decoding of a few tokens, without penalties or forced tokens."""
    before = model.generation_config
    names = ("decoder_start_token_id", "eos_token_id", "pad_token_id", "bos_token_id")
    tokens = {name: getattr(before, name) for name in names}
    model.generation_config = GenerationConfig(**tokens, num_beams=1, max_new_tokens=LONGEST_TARGET)
    try:
        with torch.inference_mode():
            yield
    finally:
        model.generation_config = before
