"""Models small enough to test in milliseconds, of sizes that differ so that none can be taken for another."""

import inspect
from typing import Any

import pytest
import torch
from transformers import GenerationMixin

from hf_vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration

PAD, BOS, EOS = 0, 1, 2
SEPARATE_VOCABULARIES = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 50}

beams_over_the_target_vocabulary = pytest.mark.skipif(
    "get_text_config().vocab_size" in inspect.getsource(GenerationMixin._beam_search),
    reason="this transformers cuts the scores of beams by the size of the source's vocabulary",
)


def tiny_config(**overrides: Any) -> VanillaTransformerConfig:
    """Three encoder layers of four heads, two decoder layers of two; `overrides` win."""
    sizes: dict[str, Any] = {
        "vocab_size": 40,
        "d_model": 32,
        "encoder_layers": 3,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": 64,
    }
    return VanillaTransformerConfig(**{**sizes, **overrides})


def tiny_model(seed: int = 0, **overrides: Any) -> VanillaTransformerForConditionalGeneration:
    """A freshly initialised model in evaluation mode."""
    torch.manual_seed(seed)
    return VanillaTransformerForConditionalGeneration(tiny_config(**overrides)).eval()


def lively_model(seed: int = 0, **overrides: Any) -> VanillaTransformerForConditionalGeneration:
    """A model whose translations vary from sentence to sentence and end at spread lengths.

    Fresh weights repeat one token for ever, which would hide most faults of decoding; here each token calls for
    another one, the source disturbs that, and the end of sentence is a little likelier.
    """
    model = tiny_model(seed, **{"tie_word_embeddings": False, "logits_bias": True, **overrides})
    with torch.no_grad():
        embeddings = model.model.decoder.embed_tokens.weight
        model.lm_head.weight.mul_(2.0).add_(embeddings.roll(7, 0))
        for layer in model.model.decoder.layers:
            layer.encoder_attn.q_proj.weight.mul_(3.0)
            layer.encoder_attn.out_proj.weight.mul_(0.5)
        model.final_logits_bias[:, EOS] += 1.0
    return model


def until_end(ids: torch.Tensor) -> list[list[int]]:
    """Each row of generated ids before its first EOS and without padding at its end.

    What follows the end does not count: `generate` fills up with PAD when greedy and with EOS after beam search.
    """
    rows = [row.tolist() for row in ids]
    rows = [row[: row.index(EOS)] if EOS in row else row for row in rows]
    return [row[: max((i + 1 for i, token in enumerate(row) if token != PAD), default=0)] for row in rows]


def sentences(lengths: list[int], vocab_size: int = 40, seed: int = 0) -> list[list[int]]:
    """Random token ids ending in EOS, one list for each length (EOS counted)."""
    generator = torch.Generator().manual_seed(seed)
    return [[*torch.randint(3, vocab_size, (length - 1,), generator=generator).tolist(), EOS] for length in lengths]


def pad_batch(rows: list[list[int]], side: str = "right", value: int = PAD) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of `rows` padded on the left, on the right or (`"both"`) on both sides; (batch, length) each."""
    longest = max(map(len, rows)) + (2 if side == "both" else 0)
    ids = torch.full((len(rows), longest), value)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        start = {"left": longest - len(row), "right": 0, "both": 1}[side]
        ids[i, start : start + len(row)] = torch.tensor(row)
        mask[i, start : start + len(row)] = 1
    return ids, mask


def padded_pairs(side: str = "both") -> dict[str, torch.Tensor]:
    """Three unequal sentences padded on `side`, and targets for them padded on the right."""
    input_ids, attention_mask = pad_batch(sentences([4, 9, 6]), side)
    decoder_input_ids, _ = pad_batch(sentences([5, 3, 7], seed=1))
    return {"input_ids": input_ids, "attention_mask": attention_mask, "decoder_input_ids": decoder_input_ids}


def logits_of(
    model: VanillaTransformerForConditionalGeneration, implementation: str, **inputs: torch.Tensor
) -> torch.Tensor:
    """The logits under one implementation of attention, which the model keeps."""
    model.set_attn_implementation(implementation)
    with torch.no_grad():
        return model(**inputs).logits


def prepared_in_bf16(model: Any) -> Any:
    """As accelerate's `prepare` gives a model back under `mixed_precision="bf16"`, whatever other tests prepared."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    prepared = Accelerator(mixed_precision="bf16", cpu=True).prepare(model)
    AcceleratorState._reset_state(reset_partial_state=True)
    return prepared
