"""The Transformer of Vaswani et al. (2017), arXiv:1706.03762, in the order of its section 3.

Shapes use: batch, source_len, target_len, query_len, key_len, heads, d_k, d_v, d_model, d_ff, vocab.

Deviations, each an option of the config: biases in the attention projections (`attention_bias`); dropout of attention
weights and feed-forward activations (`attention_dropout`, `activation_dropout`; off by default, as in the paper);
pre-norm (`normalize_before`); other positional encodings; untied or unshared embeddings. Initialisation, which the
paper does not state, is described at `VanillaTransformerPreTrainedModel._init_weights`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, auto_docstring, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention_kernels import config_for_call, drop_source_padding, is_flash, pad_to_one_head_dim
from .checked_folders import CheckedFolders
from .configuration_vanilla_transformer import Side, VanillaTransformerConfig
from .generation import TranslationGenerationMixin, lasting_generation_config
from .loss import chunked_cross_entropy, label_smoothed_cross_entropy
from .masks import positions_from_mask, source_mask
from .model_admission import known_to_the_fast_path
from .resizing import ResizableEmbeddings, ResizableOutput
from .saved_code import name_code

# 3.1 Encoder and decoder stacks: residual connections and layer normalisation


class TransformerLayer(GradientCheckpointingLayer):
    """Base of encoder and decoder layers: residual connections around sub-layers, and the feed-forward sub-layer."""

    def __init__(self, config: VanillaTransformerConfig, ffn_dim: int) -> None:
        super().__init__()
        self.normalize_before = config.normalize_before
        self.dropout = config.dropout
        self.activation_dropout = config.activation_dropout
        self.activation_fn = ACT2FN[config.activation_function]
        self.fc1 = nn.Linear(config.d_model, ffn_dim)
        self.fc2 = nn.Linear(ffn_dim, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)

    def add_and_norm(
        self, x: torch.Tensor, sublayer: Callable[[torch.Tensor], torch.Tensor], layer_norm: nn.LayerNorm
    ) -> torch.Tensor:
        """LayerNorm(x + Dropout(Sublayer(x))) (sections 3.1 and 5.4), or its pre-norm form; (batch, len, d_model)."""
        output = sublayer(layer_norm(x) if self.normalize_before else x)
        x = x + nn.functional.dropout(output, p=self.dropout, training=self.training)
        return x if self.normalize_before else layer_norm(x)

    # 3.3 Position-wise feed-forward networks
    def feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        """max(0, x W1 + b1) W2 + b2, equation 2; (batch, len, d_model) to the same."""
        inner = self.activation_fn(self.fc1(x))  # (batch, len, d_ff)
        return self.fc2(nn.functional.dropout(inner, p=self.activation_dropout, training=self.training))


# 3.2.1 Scaled dot-product attention


def scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(Q K^T / sqrt(d_k)) V, equation 1.

    Args:
        query: (batch, heads, query_len, d_k).
        key: (batch, heads, key_len, d_k).
        value: (batch, heads, key_len, d_v).
        mask: added to the scores, or boolean with True where a key may be seen; broadcast to
            (batch, heads, query_len, key_len).
        scaling: 1 / sqrt(d_k) if not given.
        dropout: probability of dropping an attention weight.

    Returns:
        The output (batch, heads, query_len, d_v) and the weights (batch, heads, query_len, key_len).
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query @ key.transpose(-2, -1) * scaling  # (batch, heads, query_len, key_len)
    if mask is not None and mask.dtype == torch.bool:
        # -inf would turn a row of padding alone into NaN; the dtype's minimum keeps it uniform, and harmless
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout)
    return weights @ value, weights


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Equation 1 in the form of `transformers`' attention interface: the output is (batch, query_len, heads, d_v)."""
    output, weights = scaled_dot_product_attention(query, key, value, attention_mask, scaling, dropout)
    return output.transpose(1, 2).contiguous(), weights


# 3.2.2 Multi-head attention, and 3.2.3 its three uses


class MultiHeadAttention(nn.Module):
    """Concat(head_1, ..., head_h) W^O with head_i = Attention(Q W^Q_i, K W^K_i, V W^V_i).

    Its three uses (section 3.2.3): encoder self-attention (`is_causal=False`, no `key_value_states`), decoder
    self-attention (`is_causal=True`), and encoder-decoder attention (`key_value_states` is the encoder's output).
    """

    def __init__(
        self, config: VanillaTransformerConfig, side: Side, layer_idx: int = 0, is_causal: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = is_causal  # kernels of transformers assume causal if it is missing
        num_heads, self.d_k, self.d_v = config.head_widths(side)
        self.scaling = self.d_k**-0.5
        self.dropout = config.attention_dropout
        self.q_proj = nn.Linear(config.d_model, num_heads * self.d_k, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.d_model, num_heads * self.d_k, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.d_model, num_heads * self.d_v, bias=config.attention_bias)
        self.out_proj = nn.Linear(num_heads * self.d_v, config.d_model, bias=config.attention_bias)

    def forward(
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        output_attentions: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(batch, query_len, d_model) to the same; also the weights (batch, heads, query_len, key_len) if eager."""
        batch, query_len, _ = hidden_states.shape
        query = self.q_proj(hidden_states).view(batch, query_len, -1, self.d_k).transpose(1, 2)
        key, value = self.keys_and_values(hidden_states, key_value_states, past_key_values)

        config = config_for_call(self.config, output_attentions, past_key_values)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, eager_attention_forward)
        if is_flash(config):
            query, key, value = pad_to_one_head_dim(query, key, value)
            if key_value_states is not None and attention_mask is not None:
                key, value, lengths = drop_source_padding(key, value, attention_mask, query_len)
                attention_mask, kwargs = None, {**kwargs, **lengths}
        heads, weights = attend(  # heads: (batch, query_len, heads, d_v)
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        heads = heads[..., : self.d_v]
        return self.out_proj(heads.reshape(batch, query_len, -1)), weights

    def keys_and_values(
        self, hidden_states: torch.Tensor, key_value_states: torch.Tensor | None, past_key_values: Cache | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys (batch, heads, key_len, d_k) and values (batch, heads, key_len, d_v), cached ones included."""
        is_cross_attention = key_value_states is not None
        cache = past_key_values
        if isinstance(past_key_values, EncoderDecoderCache):
            if is_cross_attention and past_key_values.is_updated.get(self.layer_idx):
                # the source does not change while decoding: project it once
                layer: Any = past_key_values.cross_attention_cache.layers[self.layer_idx]
                return layer.keys, layer.values
            cache = (
                past_key_values.cross_attention_cache if is_cross_attention else past_key_values.self_attention_cache
            )
        states = key_value_states if key_value_states is not None else hidden_states
        batch, key_len, _ = states.shape
        key = self.k_proj(states).view(batch, key_len, -1, self.d_k).transpose(1, 2)
        value = self.v_proj(states).view(batch, key_len, -1, self.d_v).transpose(1, 2)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
            if is_cross_attention and isinstance(past_key_values, EncoderDecoderCache):
                past_key_values.is_updated[self.layer_idx] = True
        return key, value


# 3.4 Embeddings and softmax

ONE_EMBEDDING = {
    "encoder.embed_tokens.weight": "shared.weight",
    "decoder.embed_tokens.weight": "shared.weight",
}
"""Encoder and decoder share one embedding matrix (`share_encoder_decoder_embeddings`); names of the weights."""

ONE_MATRIX = {f"model.{name}": f"model.{source}" for name, source in ONE_EMBEDDING.items()} | {
    "lm_head.weight": "model.shared.weight"
}
"""The linear transformation before the softmax shares it too (`tie_word_embeddings`)."""


def embedding_scale(config: VanillaTransformerConfig) -> float:
    """The factor on embeddings: sqrt(d_model), or 1 without `scale_embedding`."""
    return math.sqrt(config.d_model) if config.scale_embedding else 1.0


def next_token_logits(states: torch.Tensor, projection: nn.Linear, bias: torch.Tensor | None) -> torch.Tensor:
    """Logits of the next token, before the softmax: (batch, len, d_model) to (batch, len, vocab)."""
    logits = projection(states)
    return logits if bias is None else logits + bias


# 3.5 Positional encoding


class SinusoidalPositionalEncoding(nn.Module):
    """PE(pos, 2i) = sin(pos / 10000^(2i / d_model)), PE(pos, 2i + 1) = cos(...), and its variants; any length.

    Computed from the positions at each call, in float64 where the device supports it: there is no table to save,
    resize or lose precision in, and no maximum length. Tensor2Tensor and Marian C++ divide the logarithmic range by
    d/2 - 1. fairseq also counts from `pad_token_id + 1` and computes in float32, as its models were trained; that is
    off by 2e-5 after 300 tokens.
    """

    def __init__(self, config: VanillaTransformerConfig) -> None:
        super().__init__()
        self.d_model = config.d_model
        self.convention = config.positional_encoding
        self.first_position = (config.pad_token_id or 0) + 1 if self.convention == "fairseq" else 0

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        """Positions (..., len) counted from 0 to encodings (..., len, d_model), float32."""
        half = self.d_model // 2
        steps = half if self.convention in ("interleaved", "concatenated") else max(half - 1, 1)
        in_float32 = self.convention == "fairseq" or position_ids.device.type == "mps"
        dtype = torch.float32 if in_float32 else torch.float64
        exponents = torch.arange(half, dtype=dtype, device=position_ids.device) * -(math.log(10000.0) / steps)
        angles = (position_ids + self.first_position)[..., None] * exponents.exp()  # (..., len, d_model / 2)
        if self.convention == "interleaved":
            encoding = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)
        else:
            encoding = torch.cat((angles.sin(), angles.cos()), dim=-1)
        return encoding.float()


class LearnedPositionalEmbedding(nn.Embedding):
    """Table 3, row E: a learned vector for each of the first `max_position_embeddings` positions."""

    def __init__(self, config: VanillaTransformerConfig) -> None:
        super().__init__(config.max_position_embeddings, config.d_model)

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        """Positions (..., len) counted from 0 to embeddings (..., len, d_model)."""
        if not torch.compiler.is_compiling() and position_ids.numel() and position_ids.max() >= self.num_embeddings:
            raise ValueError(
                f"The learned positional embedding has {self.num_embeddings:,} positions, got a sentence of "
                f"{int(position_ids.max()) + 1:,} tokens. Shorten it, or train with a larger "
                "`max_position_embeddings` or with sinusoids, which have no limit."
            )
        return super().forward(position_ids)


def count_positions(
    inputs_embeds: torch.Tensor, mask: torch.Tensor | None, past_len: int | torch.Tensor = 0
) -> torch.Tensor:
    """Positions of the tokens in `inputs_embeds`, (batch or 1, len), from 0; a 2-D mask makes them skip padding."""
    length = inputs_embeds.shape[1]
    if mask is not None and mask.dim() == 2:
        return positions_from_mask(mask)[:, -length:].to(inputs_embeds.device)
    return (torch.arange(length, device=inputs_embeds.device) + past_len)[None]


# Figure 1, assembled


class EncoderLayer(TransformerLayer):
    """Self-attention, then feed-forward (figure 1, left)."""

    def __init__(self, config: VanillaTransformerConfig, layer_idx: int) -> None:
        super().__init__(config, config.encoder_ffn_dim)
        self.self_attn = MultiHeadAttention(config, "encoder", layer_idx)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        def self_attention(x: torch.Tensor) -> torch.Tensor:
            return self.self_attn(x, attention_mask=attention_mask, **kwargs)[0]

        hidden_states = self.add_and_norm(hidden_states, self_attention, self.self_attn_layer_norm)
        return self.add_and_norm(hidden_states, self.feed_forward, self.final_layer_norm)


class DecoderLayer(TransformerLayer):
    """Masked self-attention, encoder-decoder attention, feed-forward (figure 1, right)."""

    num_hidden_layers_key = "decoder_layers"  # for `output_hidden_states=[-1]`, instead of the encoder's

    def __init__(self, config: VanillaTransformerConfig, layer_idx: int) -> None:
        super().__init__(config, config.decoder_ffn_dim)
        self.self_attn = MultiHeadAttention(config, "decoder", layer_idx, is_causal=True)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)
        self.encoder_attn = MultiHeadAttention(config, "decoder", layer_idx)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        def self_attention(x: torch.Tensor) -> torch.Tensor:
            return self.self_attn(x, attention_mask=attention_mask, past_key_values=past_key_values, **kwargs)[0]

        def encoder_decoder_attention(x: torch.Tensor) -> torch.Tensor:
            return self.encoder_attn(
                x,
                key_value_states=encoder_hidden_states,
                attention_mask=encoder_attention_mask,
                past_key_values=past_key_values,
                **kwargs,
            )[0]

        hidden_states = self.add_and_norm(hidden_states, self_attention, self.self_attn_layer_norm)
        if encoder_hidden_states is not None:
            hidden_states = self.add_and_norm(hidden_states, encoder_decoder_attention, self.encoder_attn_layer_norm)
        return self.add_and_norm(hidden_states, self.feed_forward, self.final_layer_norm)


@auto_docstring
class VanillaTransformerPreTrainedModel(CheckedFolders, PreTrainedModel):
    config: VanillaTransformerConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _no_split_modules = ["EncoderLayer", "DecoderLayer"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Xavier uniform projections and N(0, 1/d_model) embeddings; biases are 0, LayerNorm weights 1.

        The paper states no initialisation. Glorot & Bengio (2010) for projections and d_model^-0.5 for embeddings are
        what Tensor2Tensor (the authors' code) and fairseq use. Scaled by sqrt(d_model), embeddings then have unit
        variance, like the sinusoids added to them, and so do the logits of the tied output projection.
        """
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=self.config.d_model**-0.5)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.Linear):
            if module is getattr(self, "lm_head", None):  # an untied output projection starts as a tied one would
                init.normal_(module.weight, mean=0.0, std=self.config.d_model**-0.5)
            else:
                init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, VanillaTransformerForConditionalGeneration) and self.config.logits_bias:
            init.zeros_(module.final_logits_bias)

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """The ties of section 3.4, each by its own option; `transformers` has one option, `tie_word_embeddings`."""
        if all_submodels:
            return super().get_expanded_tied_weights_keys(all_submodels)
        ties = self._tied_weights_keys or {}
        return {k: v for k, v in ties.items() if self.config.tie_word_embeddings or not k.startswith("lm_head.")}

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As in `PreTrainedModel`, but the folder names the code of every Auto class, not only of the saved class."""
        if self.is_remote_code():
            name_code(self.config)
        super().save_pretrained(*args, **kwargs)

    @property
    def dummy_inputs(self) -> dict[str, torch.Tensor]:
        input_ids = torch.tensor([[3, 4, 2], [3, 2, self.config.pad_token_id or 0]], device=self.device)
        return {"input_ids": input_ids, "decoder_input_ids": input_ids}


class TransformerStack(VanillaTransformerPreTrainedModel):
    """Base of encoder and decoder: embeddings plus positions, N layers, and a last LayerNorm for pre-norm."""

    def __init__(self, config: VanillaTransformerConfig, vocab_size: int, layers: Sequence[TransformerLayer]) -> None:
        super().__init__(config)
        self.embed_scale = embedding_scale(config)
        self.embed_tokens = nn.Embedding(vocab_size, config.d_model, config.pad_token_id)
        learned = config.positional_encoding == "learned"
        self.embed_positions = LearnedPositionalEmbedding(config) if learned else SinusoidalPositionalEncoding(config)
        self.layers = nn.ModuleList(layers)
        self.layer_norm = (
            nn.LayerNorm(config.d_model, eps=config.layer_norm_eps) if config.normalize_before else nn.Identity()
        )
        self.gradient_checkpointing = False
        self.post_init()
        # this stack's part of the plan for the whole model
        prefix, plan = f"{self.side}.", config.base_model_tp_plan
        self._tp_plan = {key.removeprefix(prefix): way for key, way in plan.items() if key.startswith(prefix)}

    def token_embeddings(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
        """Rows of the embedding matrix, before scaling: (batch, len, d_model)."""
        if (input_ids is None) == (inputs_embeds is None):
            given = "neither" if input_ids is None else "both"
            raise ValueError(f"The {self.side} takes either token ids or their embeddings, got {given}.")
        return self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds

    def embed(self, inputs_embeds: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        """Embeddings times sqrt(d_model) (section 3.4) plus positions (3.5), dropped out (5.4)."""
        hidden_states = inputs_embeds * self.embed_scale
        hidden_states = hidden_states + self.embed_positions(position_ids).to(hidden_states.dtype)
        return nn.functional.dropout(hidden_states, p=self.config.dropout, training=self.training)


class VanillaTransformerEncoder(TransformerStack):
    """N encoder layers (section 3.1)."""

    side = "encoder"
    _can_record_outputs = {"hidden_states": EncoderLayer, "attentions": MultiHeadAttention}  # noqa: RUF012

    def __init__(self, config: VanillaTransformerConfig) -> None:
        layers = [EncoderLayer(config, layer_idx) for layer_idx in range(config.encoder_layers)]
        super().__init__(config, config.vocab_size, layers)

    @merge_with_config_defaults
    @capture_outputs
    @auto_docstring
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        if attention_mask is None and input_ids is not None:
            attention_mask = source_mask(input_ids, self.config.pad_token_id)
        inputs_embeds = self.token_embeddings(input_ids, inputs_embeds)
        if position_ids is None:
            position_ids = count_positions(inputs_embeds, attention_mask)
        hidden_states = self.embed(inputs_embeds, position_ids)
        self_attention_mask = create_bidirectional_mask(
            config=config_for_call(self.config, kwargs.get("output_attentions")),
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
        )
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask=self_attention_mask, **kwargs)
        return BaseModelOutput(last_hidden_state=self.layer_norm(hidden_states))


class VanillaTransformerDecoder(TransformerStack):
    """N decoder layers (section 3.1). Without encoder states, encoder-decoder attention is skipped."""

    side = "decoder"
    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": DecoderLayer,
        "attentions": OutputRecorder(MultiHeadAttention, index=1, layer_name="self_attn"),
        "cross_attentions": OutputRecorder(MultiHeadAttention, index=1, layer_name="encoder_attn"),
    }

    def __init__(self, config: VanillaTransformerConfig) -> None:
        layers = [DecoderLayer(config, layer_idx) for layer_idx in range(config.decoder_layers)]
        super().__init__(config, config.decoder_vocab_size or config.vocab_size, layers)

    @merge_with_config_defaults
    @capture_outputs
    @auto_docstring
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        inputs_embeds = self.token_embeddings(input_ids, inputs_embeds)
        past_key_values = self.prepare_cache(past_key_values, use_cache, encoder_hidden_states)
        past_len = past_key_values.get_seq_length() if past_key_values is not None else 0
        if position_ids is None:
            position_ids = count_positions(inputs_embeds, attention_mask, past_len)
        hidden_states = self.embed(inputs_embeds, position_ids)

        config = config_for_call(self.config, kwargs.get("output_attentions"), past_key_values)
        if attention_mask is None and getattr(past_key_values, "is_compileable", False) and is_flash(config):
            # without a mask, flash kernels would read a static cache beyond its filled part
            attention_mask = inputs_embeds.new_ones(inputs_embeds.shape[0], int(past_len) + inputs_embeds.shape[1])
        self_attention_mask = create_causal_mask(
            config=config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            past_key_values=getattr(past_key_values, "self_attention_cache", past_key_values),
        )
        cross_attention_mask = None
        if encoder_hidden_states is not None:
            cross_attention_mask = create_bidirectional_mask(
                config=config,
                inputs_embeds=inputs_embeds,
                attention_mask=encoder_attention_mask,
                encoder_hidden_states=encoder_hidden_states,
            )
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                encoder_hidden_states,
                attention_mask=self_attention_mask,
                encoder_attention_mask=cross_attention_mask,
                past_key_values=past_key_values,
                **kwargs,
            )
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=self.layer_norm(hidden_states), past_key_values=past_key_values
        )

    def prepare_cache(
        self, past_key_values: Cache | None, use_cache: bool | None, encoder_hidden_states: torch.Tensor | None
    ) -> Cache | None:
        """The cache to use: a new one if asked for, with a part for cross-attention if there is a source."""
        if past_key_values is None and use_cache:
            past_key_values = DynamicCache(config=self.config)
        if (
            past_key_values is not None
            and encoder_hidden_states is not None
            and not isinstance(past_key_values, EncoderDecoderCache)
        ):
            # a single cache would append the source's keys to the target's
            past_key_values = EncoderDecoderCache(past_key_values, DynamicCache(config=self.config))
        return past_key_values


def shift_tokens_right(ids: torch.Tensor, config: VanillaTransformerConfig) -> torch.Tensor:
    """The decoder's input for the targets `ids` ("outputs (shifted right)", figure 1); (batch, target_len)."""
    start, pad = config.decoder_start_token_id, config.pad_token_id
    if start is None or pad is None:
        name = "decoder_start_token_id" if start is None else "pad_token_id"
        raise ValueError(f"Shifting targets right needs `config.{name}`, which is None. Set it in the config.")
    shifted = torch.cat((torch.full_like(ids[:, :1], start), ids[:, :-1]), dim=1)
    return shifted.masked_fill(shifted == -100, pad)


@auto_docstring
class VanillaTransformerModel(ResizableEmbeddings, VanillaTransformerPreTrainedModel):
    _tied_weights_keys = ONE_EMBEDDING

    def __init__(self, config: VanillaTransformerConfig) -> None:
        super().__init__(config)
        if config.share_encoder_decoder_embeddings:
            self.shared = nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)
        else:
            self._tied_weights_keys = {}
        self.encoder = VanillaTransformerEncoder(config)
        self.decoder = VanillaTransformerDecoder(config)
        self.post_init()
        if not config.share_encoder_decoder_embeddings:
            self._tp_plan = {name: way for name, way in self.tp_plan.items() if name != "shared"}

    def get_input_embeddings(self) -> nn.Embedding:
        return self.shared if self.config.share_encoder_decoder_embeddings else self.encoder.embed_tokens

    def set_input_embeddings(self, value: Any) -> None:
        self.encoder.embed_tokens = value
        if self.config.share_encoder_decoder_embeddings:
            self.shared = value
            self.decoder.embed_tokens = value

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: tuple[Any, ...] | BaseModelOutput | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqModelOutput:
        r"""
        attention_mask (`torch.Tensor` of shape `(batch, source_len)`, *optional*):
            1 at tokens of the source, 0 at padding. Made from `pad_token_id` if not given.
        decoder_input_ids (`torch.LongTensor` of shape `(batch, target_len)`, *optional*):
            The target shifted right, `decoder_start_token_id` first. Without it the decoder reads `input_ids`
            shifted right.
        decoder_attention_mask (`torch.Tensor` of shape `(batch, past_len + target_len)`, *optional*):
            1 at tokens of the target, 0 at padding. All ones if not given: the start token may be the pad token, and
            causal masking hides padding on the right.
        decoder_position_ids (`torch.LongTensor` of shape `(batch, target_len)`, *optional*):
            Positions of the target's tokens, counted from 0. Counted from the mask if not given.
        """
        if attention_mask is None and input_ids is not None:
            attention_mask = source_mask(input_ids, self.config.pad_token_id)
        if encoder_outputs is None:
            encoded: BaseModelOutput = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                position_ids=position_ids,
                **kwargs,
            )
        else:
            given = encoder_outputs
            encoded = given if isinstance(given, BaseModelOutput) else BaseModelOutput(*given)

        if decoder_input_ids is None and decoder_inputs_embeds is None:
            if input_ids is None:
                raise ValueError(
                    "The decoder needs `decoder_input_ids`, `decoder_inputs_embeds`, `labels` or, to use the source "
                    "shifted right, `input_ids`; got none of them."
                )
            decoder_input_ids = shift_tokens_right(input_ids, self.config)
        decoder_outputs = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            position_ids=decoder_position_ids,
            use_cache=use_cache,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoder_outputs.last_hidden_state,
            past_key_values=decoder_outputs.past_key_values,
            decoder_hidden_states=decoder_outputs.hidden_states,
            decoder_attentions=decoder_outputs.attentions,
            cross_attentions=decoder_outputs.cross_attentions,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
            encoder_attentions=encoded.attentions,
        )


@known_to_the_fast_path
@auto_docstring(custom_intro="The Transformer with the output projection and softmax of section 3.4: a translator.")
class VanillaTransformerForConditionalGeneration(
    ResizableOutput, VanillaTransformerPreTrainedModel, TranslationGenerationMixin
):
    _tied_weights_keys = ONE_MATRIX
    _tp_plan = {"lm_head": "colwise_gather_output"}  # noqa: RUF012
    final_logits_bias: torch.Tensor

    def __init__(self, config: VanillaTransformerConfig) -> None:
        super().__init__(config)
        self.model = VanillaTransformerModel(config)
        vocab_size = config.decoder_vocab_size or config.vocab_size
        self.lm_head = nn.Linear(config.d_model, vocab_size, bias=False)
        if config.logits_bias:
            self.register_buffer("final_logits_bias", torch.zeros(1, vocab_size))
        if not config.share_encoder_decoder_embeddings:
            self._tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}
        self.post_init()
        self.generation_config = lasting_generation_config(self.generation_config)

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: tuple[Any, ...] | BaseModelOutput | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: int | torch.Tensor | None = None,
        skip_logits: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqLMOutput:
        r"""
        decoder_input_ids (`torch.LongTensor` of shape `(batch, target_len)`, *optional*):
            The target shifted right, `decoder_start_token_id` first. Made from `labels` if those are given.
        labels (`torch.LongTensor` of shape `(batch, target_len)`, *optional*):
            The target, end of sentence included; -100 marks positions to ignore. Not shifted. The loss is the
            cross-entropy over real tokens. It uses `config.label_smoothing` only in training mode (section 5.4), so
            that in evaluation mode its exponential is the perplexity.
        decoder_position_ids (`torch.LongTensor` of shape `(batch, target_len)`, *optional*):
            Positions of the target's tokens, counted from 0. Counted from the mask if not given.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*):
            Number of real target tokens in the whole batch of an optimizer step, by which the summed loss is divided.
        skip_logits (`bool`, *optional*):
            Whether to compute the loss without ever holding the logits of all tokens, and return None for the logits.
            The default is to do so in training mode if there are `labels` and gradients are recorded.
        """
        if labels is not None:
            use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            position_ids=position_ids,
            decoder_position_ids=decoder_position_ids,
            **kwargs,
        )
        logits = None
        if not self._skips_logits(skip_logits, labels, logits_to_keep):
            logits = self._logits(outputs.last_hidden_state, logits_to_keep)
        return Seq2SeqLMOutput(
            loss=self._loss(outputs.last_hidden_state, logits, labels, num_items_in_batch),
            logits=logits,
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
        )

    def _skips_logits(
        self, asked: bool | None, labels: torch.Tensor | None, logits_to_keep: int | torch.Tensor
    ) -> bool:
        keeps_some = isinstance(logits_to_keep, torch.Tensor) or logits_to_keep != 0
        if asked is None:
            return self.training and torch.is_grad_enabled() and labels is not None and not keeps_some
        if asked and labels is None:
            raise ValueError(
                "`skip_logits` computes only the loss, which needs `labels`, but none are given. Pass them."
            )
        if asked and keeps_some:
            raise ValueError("`skip_logits` computes no logits, but `logits_to_keep` asks for some. Pass only one.")
        return asked

    def _logits(self, hidden_states: torch.Tensor, logits_to_keep: int | torch.Tensor) -> torch.Tensor:
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return next_token_logits(hidden_states[:, kept], self.lm_head, self._logits_bias())

    def _logits_bias(self) -> torch.Tensor | None:
        """Bias of the logits, (1, vocab), as in Marian; None if the config has none."""
        return self.final_logits_bias if self.config.logits_bias else None

    def _loss(
        self,
        hidden_states: torch.Tensor,
        logits: torch.Tensor | None,
        labels: torch.Tensor | None,
        num_items_in_batch: int | torch.Tensor | None,
    ) -> torch.Tensor | None:
        if labels is None:
            return None
        smoothing = self.config.label_smoothing if self.training else 0.0
        if logits is not None:
            return label_smoothed_cross_entropy(logits, labels.to(logits.device), smoothing, num_items_in_batch)
        return chunked_cross_entropy(
            hidden_states, self.lm_head, labels, smoothing, num_items_in_batch, self._logits_bias()
        )

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """`labels` shifted right, for collators that hide the labels from the model; (batch, target_len)."""
        return shift_tokens_right(labels, self.config)


__all__ = [
    "VanillaTransformerForConditionalGeneration",
    "VanillaTransformerModel",
    "VanillaTransformerPreTrainedModel",
]
