"""Complete model folders for tests: random weights, a small tokenizer, the paper's decoding.

Imports nothing heavy itself: `conftest` sets variables that are read when libraries are imported.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def save_model_folder(folder: Path, sentences: Sequence[str], **sizes: Any) -> Path:
    """Save a model whose translations differ from sentence to sentence.

    Args:
        folder: to make.
        sentences: what its tokenizer is learned from.
        sizes: fields of the config in place of tiny ones.
    """
    import torch
    from transformers import GenerationConfig

    from hf_vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration
    from hf_vanilla_transformer.tokenization import train_tokenizer

    tokenizer = train_tokenizer(sentences, vocab_size=300)
    torch.manual_seed(0)
    tiny = {
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "tie_word_embeddings": False,
        "logits_bias": True,
    }
    config = VanillaTransformerConfig(vocab_size=len(tokenizer), **{**tiny, **sizes})
    model = VanillaTransformerForConditionalGeneration(config)
    with torch.no_grad():  # far enough from a fresh model's near-uniform guesses that no rounding decides a beam
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
        model.lm_head.weight.normal_()
        model.final_logits_bias[:, config.eos_token_id] = 9.0  # some translations end before their limit
    model.generation_config = GenerationConfig(
        num_beams=4,
        max_extra_tokens=8,
        pad_token_id=config.pad_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
