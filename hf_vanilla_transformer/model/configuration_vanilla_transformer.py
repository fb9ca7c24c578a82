"""The hyperparameters of the Transformer (Vaswani et al. 2017, arXiv:1706.03762, table 3), validated.

Field names are those of the BART/Marian family; the defaults are the paper's base model.
"""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig

Side = Literal["encoder", "decoder"]
PositionalEncoding = Literal["interleaved", "concatenated", "tensor2tensor", "fairseq", "learned"]

LARGEST = {
    **dict.fromkeys(("vocab_size", "decoder_vocab_size"), 10**7),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 1000),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4096),
    **dict.fromkeys(("d_model", "head_dim", "value_head_dim"), 2**17),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 2**20),
    "max_position_embeddings": 10**9,  # nothing is allocated for it unless positions are learned
    "trained_source_length": 10**9,
    "chunk_size_feed_forward": 2**20,  # of `transformers`; nothing here reads it
}
"""Upper limits far beyond any published model: a larger value is a typo, or meant to exhaust a machine."""
MOST_WEIGHTS, MOST_LABELS = 10**12, 10_000


@strict
class VanillaTransformerConfig(PreTrainedConfig):
    r"""
    Configuration of a [`VanillaTransformerModel`]. The defaults give the base model of "Attention Is All You Need".

    Args:
        vocab_size (`int`, *optional*, defaults to 37000):
            Size of the source vocabulary, and of the target vocabulary unless `decoder_vocab_size` is set (section
            5.1).
        decoder_vocab_size (`int`, *optional*):
            Size of a separate target vocabulary. Needs `share_encoder_decoder_embeddings=False`. `None` means
            `vocab_size`.
        d_model (`int`, *optional*, defaults to 512):
            Width of the residual stream.
        encoder_layers, decoder_layers (`int`, *optional*, defaults to 6):
            Number of layers, N of section 3.1; at least 1.
        encoder_attention_heads, decoder_attention_heads (`int`, *optional*, defaults to 8):
            Number of attention heads, h of section 3.2.2.
        encoder_ffn_dim, decoder_ffn_dim (`int`, *optional*, defaults to 2048):
            Inner width of the feed-forward networks, d_ff of section 3.3.
        head_dim (`int`, *optional*):
            Width of each head's queries and keys, d_k. `None` means `d_model // heads` in each stack; reading the
            attribute then gives the decoder's, `d_model // decoder_attention_heads`, since other tools expect a
            number, and it is saved as `None`.
        value_head_dim (`int`, *optional*):
            Width of each head's values, d_v. `None` means `head_dim`. Rows B of table 3 vary only d_k.
        dropout (`float`, *optional*, defaults to 0.1):
            Residual dropout, P_drop of section 5.4; in [0, 1). It acts on the output of each sub-layer and on the sums
            of embeddings and positions.
        attention_dropout (`float`, *optional*, defaults to 0.0):
            Dropout of attention weights, which the paper does not use; in [0, 1).
        activation_dropout (`float`, *optional*, defaults to 0.0):
            Dropout inside the feed-forward networks, which the paper does not use; in [0, 1).
        activation_function (`str`, *optional*, defaults to `"relu"`):
            Activation of the feed-forward networks, by its name in `transformers.activations.ACT2FN`.
        layer_norm_eps (`float`, *optional*, defaults to 1e-05):
            Epsilon of every LayerNorm; above 0, at most 1. The paper does not state it; this is PyTorch's default.
        normalize_before (`bool`, *optional*, defaults to `False`):
            Pre-norm, x + Sublayer(LayerNorm(x)), instead of the paper's post-norm, LayerNorm(x + Sublayer(x)).
            Pre-norm adds a last LayerNorm to each stack, and is easier to train when deep.
        scale_embedding (`bool`, *optional*, defaults to `True`):
            Multiply embeddings by sqrt(d_model) (section 3.4).
        positional_encoding (`str`, *optional*, defaults to `"interleaved"`):
            How positions are encoded. One of the five conventions in use: `"interleaved"` (the paper's, section
            3.5: sine and cosine alternate), `"concatenated"` (sines, then cosines:
            transformers' Marian), `"tensor2tensor"` (sines, then cosines, the log range divided by d/2 - 1:
            Tensor2Tensor, Marian C++), `"fairseq"` (as `"tensor2tensor"`, positions counted from `pad_token_id + 1`:
            FSMT) or `"learned"` (table 3, row E).
        max_position_embeddings (`int`, *optional*, defaults to 1024):
            Longest sentence, in tokens, that learned positions support. Sinusoids extend to any length, so for them
            this limit is not enforced.
        trained_source_length (`int`, *optional*):
            Length of the longest source seen in training, in tokens, end of sentence included; `None` if unknown.
            Training sets it. Longer sources are still translated, with a warning.
        share_encoder_decoder_embeddings (`bool`, *optional*, defaults to `True`):
            Share one embedding matrix between the two stacks (section 3.4).
        tie_word_embeddings (`bool`, *optional*, defaults to `True`):
            Share the decoder's embedding matrix with the output projection (section 3.4).
        attention_bias (`bool`, *optional*, defaults to `True`):
            Biases in the four attention projections, which the paper does not mention. All toolkits of this family
            except Tensor2Tensor have them.
        logits_bias (`bool`, *optional*, defaults to `False`):
            Add a bias to the logits, as Marian does: the buffer `final_logits_bias` of shape `(1, target vocabulary)`.
        label_smoothing (`float`, *optional*, defaults to 0.0):
            Label smoothing, epsilon_ls of section 5.4; in [0, 1). The loss uses it only in training mode. The
            recipes of the paper set 0.1.
        pad_token_id, bos_token_id, eos_token_id (`int`, *optional*, defaults to 0, 1 and 2):
            Special tokens of the target vocabulary; padding is in both vocabularies.
        decoder_start_token_id (`int`, *optional*, defaults to 1):
            The token that the decoder starts from ("shifted right", figure 1).
        use_cache (`bool`, *optional*, defaults to `True`):
            Return the keys and values of past positions when decoding.

    Raises:
        ValueError: a field is out of range, or two fields contradict each other.

    Example:

    ```python
    >>> from hf_vanilla_transformer import VanillaTransformerConfig, VanillaTransformerModel

    >>> base = VanillaTransformerModel(VanillaTransformerConfig())
    >>> big = VanillaTransformerConfig(
    ...     d_model=1024, encoder_ffn_dim=4096, decoder_ffn_dim=4096,
    ...     encoder_attention_heads=16, decoder_attention_heads=16, dropout=0.3,
    ... )
    ```"""

    model_type = "vanilla_transformer"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012 - an annotation would make it a config field
    attribute_map = {  # noqa: RUF012
        "hidden_size": "d_model",
        "num_hidden_layers": "encoder_layers",
        "num_attention_heads": "encoder_attention_heads",
    }

    # tensor parallelism: heads, the inner width of feed-forward networks and the vocabularies are split
    base_model_tp_plan = {  # noqa: RUF012
        "shared": "embedding_rowwise",
        "encoder.embed_tokens": "embedding_rowwise",
        "decoder.embed_tokens": "embedding_rowwise",
        **{
            f"{side}.layers.*.{attention}.{projection}": "rowwise" if projection == "out_proj" else "colwise"
            for side, attention in (("encoder", "self_attn"), ("decoder", "self_attn"), ("decoder", "encoder_attn"))
            for projection in ("q_proj", "k_proj", "v_proj", "out_proj")
        },
        **{
            f"{side}.layers.*.{layer}": style
            for side in ("encoder", "decoder")
            for layer, style in (("fc1", "colwise"), ("fc2", "rowwise"))
        },
    }

    vocab_size: int = 37000
    decoder_vocab_size: int | None = None
    d_model: int = 512
    encoder_layers: int = 6
    decoder_layers: int = 6
    encoder_attention_heads: int = 8
    decoder_attention_heads: int = 8
    encoder_ffn_dim: int = 2048
    decoder_ffn_dim: int = 2048
    head_dim: int | None = None
    value_head_dim: int | None = None
    dropout: float | int = 0.1
    attention_dropout: float | int = 0.0
    activation_dropout: float | int = 0.0
    activation_function: str = "relu"
    layer_norm_eps: float = 1e-5
    normalize_before: bool = False
    scale_embedding: bool = True
    positional_encoding: PositionalEncoding = "interleaved"
    max_position_embeddings: int = 1024
    trained_source_length: int | None = None
    share_encoder_decoder_embeddings: bool = True
    tie_word_embeddings: bool = True
    attention_bias: bool = True
    logits_bias: bool = False
    label_smoothing: float | int = 0.0
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 1
    use_cache: bool = True
    is_encoder_decoder: bool = True
    is_decoder: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        # transformers reads the decoder's sizes by dropping the prefix, so this field cannot stay None
        if self.decoder_vocab_size is None:
            self.decoder_vocab_size = self.vocab_size
        labels = kwargs.get("num_labels")  # for classifiers: each label gets a name
        if labels is not None and not (isinstance(labels, int) and 0 <= labels <= MOST_LABELS):
            raise ValueError(f"`num_labels` must be at least 0 and at most {MOST_LABELS:,}, got {labels!r}.")
        super().__post_init__(**kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        fields = vars(self)
        if name == "vocab_size" and "decoder_vocab_size" in fields and fields.get("share_encoder_decoder_embeddings"):
            self.decoder_vocab_size = value  # one vocabulary has one size

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name == "head_dim" and value is None:
            fields = vars(self)
            # `get_text_config(decoder=True)` moves the decoder's heads to where `num_attention_heads` is read
            heads = fields.get("decoder_attention_heads", fields.get("encoder_attention_heads"))
            return fields["d_model"] // heads if heads and "d_model" in fields else None
        return value

    @property
    def longest_sentence(self) -> int | None:
        """Longest sentence, source or target, in tokens, that has positions; `None` if there is no limit.

        Sinusoids extend to any length, so `max_position_embeddings` does not limit them.
        """
        return self.max_position_embeddings if self.positional_encoding == "learned" else None

    def head_widths(self, side: Side) -> tuple[int, int, int]:
        """h, d_k and d_v of the encoder or the decoder (section 3.2.2)."""
        heads = getattr(self, f"{side}_attention_heads")
        d_k = vars(self)["head_dim"] or self.d_model // heads
        return heads, d_k, self.value_head_dim or d_k

    @property
    def weight_count(self) -> int:
        """Number of parameters of a model with this config, output projection included."""
        d, words, target_words = self.d_model, self.vocab_size, self.decoder_vocab_size or self.vocab_size
        count = d * (words if self.share_encoder_decoder_embeddings else words + target_words)
        count += target_words * ((0 if self.tie_word_embeddings else d) + self.logits_bias)
        count += 2 * d * self.max_position_embeddings if self.positional_encoding == "learned" else 0
        sides: tuple[tuple[Side, int], ...] = (("encoder", 1), ("decoder", 2))
        for side, attentions in sides:
            (heads, d_k, d_v), inner = self.head_widths(side), getattr(self, f"{side}_ffn_dim")
            attention = 2 * heads * (d_k + d_v) * d + (heads * (2 * d_k + d_v) + d if self.attention_bias else 0)
            layer = attentions * (attention + 2 * d) + 2 * d * inner + inner + d + 2 * d
            count += getattr(self, f"{side}_layers") * layer + (2 * d if self.normalize_before else 0)
        return count

    def validate_architecture(self) -> None:
        """Check ranges, then fields that contradict each other; part of `@strict` validation, after the types."""
        self._validate_sizes()
        self._validate_probabilities()
        self._validate_heads()
        self._validate_vocabularies()
        if self.weight_count > MOST_WEIGHTS:
            raise ValueError(
                f"These sizes make {self.weight_count:,} weights; a model may have at most {MOST_WEIGHTS:,}."
            )
        if self.positional_encoding != "learned" and self.d_model % 2:
            raise ValueError(
                f"Sinusoidal positions pair sines with cosines and need an even `d_model`, got {self.d_model}. "
                'Choose an even width or `positional_encoding="learned"`.'
            )
        if self.positional_encoding == "fairseq" and self.pad_token_id is None:
            raise ValueError(
                '`positional_encoding="fairseq"` counts positions from `pad_token_id + 1` and needs a `pad_token_id`.'
            )
        if self.activation_function not in ACT2FN:
            raise ValueError(
                f"`activation_function` must be one of {', '.join(sorted(ACT2FN))}, got {self.activation_function!r}."
            )

    def _validate_sizes(self) -> None:
        for name, largest in LARGEST.items():
            size = vars(self)[name]  # as given
            least = 0 if name == "chunk_size_feed_forward" else 1
            if size is not None and not least <= size <= largest:
                bound = f"at least {least}" if size < least else f"at most {largest:,}"
                raise ValueError(f"`{name}` must be {bound}, got {size}.")

    def _validate_probabilities(self) -> None:
        for name in ("dropout", "attention_dropout", "activation_dropout", "label_smoothing"):
            probability = getattr(self, name)
            if not 0 <= probability < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1, got {probability}.")
        if not 0 < self.layer_norm_eps <= 1:
            raise ValueError(f"`layer_norm_eps` must be above 0 and at most 1, got {self.layer_norm_eps}.")

    def _validate_heads(self) -> None:
        for name in ("encoder_attention_heads", "decoder_attention_heads"):
            heads = getattr(self, name)
            if vars(self)["head_dim"] is None and self.d_model % heads:
                raise ValueError(
                    f"`d_model` ({self.d_model}) must be a multiple of `{name}` ({heads}) unless `head_dim` (d_k) is "
                    "given. Change one of them or set `head_dim`."
                )

    def _validate_vocabularies(self) -> None:
        if self.share_encoder_decoder_embeddings and self.decoder_vocab_size != self.vocab_size:
            raise ValueError(
                f"Two vocabularies (`vocab_size` {self.vocab_size}, `decoder_vocab_size` {self.decoder_vocab_size}) "
                "cannot share one embedding matrix. Set `share_encoder_decoder_embeddings=False`."
            )
        smallest = min(self.vocab_size, self.decoder_vocab_size or self.vocab_size)
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < smallest:
            raise ValueError(
                f"`pad_token_id` ({self.pad_token_id}) must be a token of both vocabularies, at least 0 and below "
                f"{smallest}."
            )
        words = self.decoder_vocab_size or self.vocab_size
        for name in ("bos_token_id", "eos_token_id", "decoder_start_token_id"):
            given = getattr(self, name)
            for token in given if isinstance(given, list) else [] if given is None else [given]:
                if not 0 <= token < words:
                    raise ValueError(f"`{name}` must be a target token, at least 0 and below {words}, got {token}.")


def is_ours(model: Any) -> bool:
    """Whether a model is a vanilla Transformer, from this or another copy of the code, or a wrapper around one."""
    return getattr(getattr(model, "config", None), "model_type", None) == VanillaTransformerConfig.model_type


def longest_sentence(config: Any) -> int | None:
    """Longest sentence, in tokens, that an encoder-decoder of any class has positions for; `None` if not stated."""
    if isinstance(config, VanillaTransformerConfig):
        return config.longest_sentence
    if getattr(config, "positional_encoding", "learned") != "learned":  # ours, by another copy of this file
        return None
    return getattr(config, "max_position_embeddings", None)


__all__ = ["LARGEST", "Side", "VanillaTransformerConfig", "is_ours", "longest_sentence"]
