"""A model's architecture in words, and its deviations from the paper (Vaswani et al. 2017, sections 3 and 6.1)."""

from ..evaluation.ledger import decoding_in_words
from ..model.call_settings import PAPER_DECODING
from .facts import ModelFacts


def describe_architecture(facts: ModelFacts) -> str:
    """State layers, widths, heads, vocabulary and parameters, as in the paper's table 3."""
    c = facts.config
    vocabulary = f"{c.vocab_size:,} tokens"
    if c.decoder_vocab_size != c.vocab_size:
        vocabulary = f"{c.vocab_size:,} source and {c.decoder_vocab_size:,} target tokens"
    return (
        f"{c.encoder_layers} encoder and {c.decoder_layers} decoder layers, d_model {c.d_model:,}, "
        f"{_both(c.encoder_attention_heads, c.decoder_attention_heads)} heads, d_ff "
        f"{_both(c.encoder_ffn_dim, c.decoder_ffn_dim)}, dropout {c.dropout:g}, vocabulary of {vocabulary}, "
        f"{facts.parameters:,} parameters in {facts.dtype}."
    )


def _both(encoder: int, decoder: int) -> str:
    return f"{encoder:,}" if encoder == decoder else f"{encoder:,} (encoder) and {decoder:,} (decoder)"


def list_deviations(facts: ModelFacts) -> list[str]:
    """List the settings that differ from the paper, one line each."""
    c = facts.config
    separate = c.decoder_vocab_size != c.vocab_size
    widths = [c.head_widths(side) for side in ("encoder", "decoder")]
    free = [d_k for heads, d_k, _ in widths if d_k != c.d_model // heads]
    deviations = {
        "biases in the projections of attention (the paper writes none)": c.attention_bias,
        "LayerNorm before each sub-layer, not after the residual sum": c.normalize_before,
        f"positions by the convention {c.positional_encoding!r}": c.positional_encoding != "interleaved",
        f"{c.activation_function} in the feed-forward networks, not ReLU": c.activation_function != "relu",
        "embeddings are not multiplied by sqrt(d_model)": not c.scale_embedding,
        "encoder and decoder have separate embeddings": not c.share_encoder_decoder_embeddings,
        "source and target have separate vocabularies": separate,
        "the output projection is not the embedding matrix": not c.tie_word_embeddings,
        "a bias on the logits": c.logits_bias,
        f"head width {free[0] if free else 0}, not d_model / heads": bool(free),
        f"dropout of attention weights, {c.attention_dropout:g}": c.attention_dropout > 0,
        f"dropout within the feed-forward networks, {c.activation_dropout:g}": c.activation_dropout > 0,
        f"decoding by default with {decoding_in_words(facts.decoding)}": not _decodes_as_the_paper(facts),
    }
    return [words for words, holds in deviations.items() if holds]


def _decodes_as_the_paper(facts: ModelFacts) -> bool:
    return {name: value for name, value in facts.decoding.items() if name != "precision"} == PAPER_DECODING
