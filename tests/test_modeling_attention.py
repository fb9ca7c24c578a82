"""Section 3.2: equation 1 against a second writing of it, its masks, and the four implementations behind it."""

import math

import pytest
import torch
from tiny import lively_model, pad_batch, sentences, tiny_config, tiny_model
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, modeling_flash_attention_utils
from transformers.integrations import flex_attention as flex_integration
from transformers.masking_utils import eager_mask

from hf_vanilla_transformer import modeling_vanilla_transformer
from hf_vanilla_transformer.modeling_vanilla_transformer import (
    MultiHeadAttention,
    eager_attention_forward,
    pad_to_one_head_dim,
    scaled_dot_product_attention,
)

# Equation 1


def test_equation_1_written_out_number_by_number():
    torch.manual_seed(0)
    query, key = torch.randn(1, 1, 3, 4), torch.randn(1, 1, 5, 4)
    value = torch.randn(1, 1, 5, 2)

    output, weights = scaled_dot_product_attention(query, key, value)

    for i in range(3):
        scores = [
            sum(query[0, 0, i, d].item() * key[0, 0, j, d].item() for d in range(4)) / math.sqrt(4) for j in range(5)
        ]
        total = sum(math.exp(score) for score in scores)
        expected = [math.exp(score) / total for score in scores]
        torch.testing.assert_close(weights[0, 0, i], torch.tensor(expected))
        for d in range(2):
            mean = sum(weight * value[0, 0, j, d].item() for j, weight in enumerate(expected))
            assert output[0, 0, i, d].item() == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("kind", ["boolean", "additive"])
def test_masked_key_cannot_change_the_output(kind):
    """Section 3.2.3: a key at minus infinity takes no part, whatever its value."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 4, 5, 8) for _ in range(3))  # (batch, heads, len, head_dim)
    seen = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    seen[..., -1] = False
    mask = seen if kind == "boolean" else torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))

    before, weights = scaled_dot_product_attention(query, key, value, mask)
    value[..., -1, :] = 1e6
    after, _ = scaled_dot_product_attention(query, key, value, mask)

    torch.testing.assert_close(after, before)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 5))


def test_a_query_that_may_see_nothing_gives_no_nan():
    query, key, value = (torch.randn(1, 2, 3, 4) for _ in range(3))

    output, weights = scaled_dot_product_attention(query, key, value, torch.zeros(1, 1, 3, 3, dtype=torch.bool))

    assert output.isfinite().all()
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 3))


def test_multi_head_attention_is_torchs_with_the_same_weights():
    torch.manual_seed(0)
    ours = MultiHeadAttention(tiny_config(attn_implementation="eager"), num_heads=4).eval()
    ours.config._attn_implementation = "eager"
    theirs = nn.MultiheadAttention(32, 4, batch_first=True).eval()
    theirs.in_proj_weight.data = torch.cat([ours.q_proj.weight, ours.k_proj.weight, ours.v_proj.weight])
    theirs.in_proj_bias.data = torch.cat([ours.q_proj.bias, ours.k_proj.bias, ours.v_proj.bias])
    theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    target, source = torch.randn(2, 5, 32), torch.randn(2, 7, 32)

    output, weights = ours(target, key_value_states=source)

    expected, expected_weights = theirs(target, source, source, average_attn_weights=False)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(weights, expected_weights)


def test_without_biases_there_are_none():
    names = [name for name, _ in tiny_model(attention_bias=False).named_parameters() if "_attn." in name]

    assert names
    assert not [name for name in names if name.endswith("bias")]


# The implementations


def batch() -> dict[str, torch.Tensor]:
    """Unequal sentences padded on both sides, and targets padded on the right."""
    input_ids, attention_mask = pad_batch(sentences([4, 9, 6]), "both")
    decoder_input_ids, _ = pad_batch(sentences([5, 3, 7], seed=1))
    return {"input_ids": input_ids, "attention_mask": attention_mask, "decoder_input_ids": decoder_input_ids}


def logits_of(model, implementation: str, **inputs) -> torch.Tensor:
    model.set_attn_implementation(implementation)
    with torch.no_grad():
        return model(**inputs).logits


UNEQUAL_HEADS = {"head_dim": 6, "value_head_dim": 10}


@pytest.mark.parametrize("sizes", [{}, UNEQUAL_HEADS, {"head_dim": 10, "value_head_dim": 6}])
@pytest.mark.parametrize("decoder_padding", ["right", "left"])
def test_eager_and_sdpa_agree(sizes, decoder_padding):
    model = tiny_model(**sizes)
    inputs = batch()
    rows = sentences([5, 3, 7], seed=1)
    ids, mask = pad_batch(rows, decoder_padding)
    inputs |= {"decoder_input_ids": ids, "decoder_attention_mask": mask}

    eager = logits_of(model, "eager", **inputs)
    sdpa = logits_of(model, "sdpa", **inputs)

    assert sdpa.isfinite().all()
    torch.testing.assert_close(sdpa[mask.bool()], eager[mask.bool()], atol=1e-5, rtol=0)


@pytest.mark.parametrize("cache_implementation", ["dynamic", "static"])
def test_eager_and_sdpa_decode_alike(cache_implementation):
    model = lively_model()
    inputs = {key: value for key, value in batch().items() if not key.startswith("decoder")}
    settings = {"max_new_tokens": 6, "output_logits": True, "return_dict_in_generate": True}

    results = {}
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        results[implementation] = model.generate(**inputs, cache_implementation=cache_implementation, **settings)

    assert torch.equal(results["eager"].sequences, results["sdpa"].sequences)
    eager, sdpa = (torch.stack(results[name].logits) for name in ("eager", "sdpa"))
    torch.testing.assert_close(sdpa, eager, atol=1e-5, rtol=0)


@pytest.fixture
def uncompiled_flex_attention(monkeypatch):
    """The same mathematics without half a minute of compiling."""
    monkeypatch.setattr(torch, "compile", lambda function=None, **kwargs: function)
    monkeypatch.setattr(flex_integration.WrappedFlexAttention, "_is_flex_compiled", False)
    monkeypatch.setattr(flex_integration.WrappedFlexAttention, "_instance", None)


@pytest.mark.usefixtures("uncompiled_flex_attention")
@pytest.mark.parametrize("sizes", [{}, UNEQUAL_HEADS])
@pytest.mark.parametrize("decoder_padding", ["right", "left"])
def test_flex_attention_agrees(sizes, decoder_padding):
    model = tiny_model(**sizes)
    ids, mask = pad_batch(sentences([5, 3, 7], seed=1), decoder_padding)
    inputs = batch() | {"decoder_input_ids": ids, "decoder_attention_mask": mask}

    eager = logits_of(model, "eager", **inputs)
    flex = logits_of(model, "flex_attention", **inputs)

    torch.testing.assert_close(flex[mask.bool()], eager[mask.bool()], atol=1e-5, rtol=0)


@pytest.mark.usefixtures("uncompiled_flex_attention")
@pytest.mark.parametrize("cache_implementation", ["dynamic", "static"])
def test_flex_attention_decodes_alike(cache_implementation):
    model = lively_model()
    inputs = {key: value for key, value in batch().items() if not key.startswith("decoder")}
    settings = {"max_new_tokens": 4, "cache_implementation": cache_implementation}

    model.set_attn_implementation("eager")
    eager = model.generate(**inputs, **settings)
    model.set_attn_implementation("flex_attention")

    assert torch.equal(model.generate(**inputs, **settings), eager)


# Flash attention: transformers' own path around the kernels, with the kernels written in torch


def flash_varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, causal=False, softmax_scale=None, **kwargs):
    """What `flash_attn_varlen_func` computes: sentences end to end, (tokens, heads, width)."""
    assert q.shape[-1] == k.shape[-1] == v.shape[-1], "flash kernels take one head width"
    outputs = []
    for i in range(len(cu_seqlens_q) - 1):
        rows, keys = slice(*cu_seqlens_q[i : i + 2].tolist()), slice(*cu_seqlens_k[i : i + 2].tolist())
        one = flash(q[None, rows], k[None, keys], v[None, keys], causal=causal, softmax_scale=softmax_scale)
        outputs.append(one[0])
    return torch.cat(outputs)


def flash(q, k, v, causal=False, softmax_scale=None, **kwargs):
    """What `flash_attn_func` computes: (batch, len, heads, width), the causal diagonal ending at the last key."""
    assert q.shape[-1] == k.shape[-1] == v.shape[-1], "flash kernels take one head width"
    q, k, v = (states.transpose(1, 2) for states in (q, k, v))
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool)
    mask = mask.tril(k.shape[2] - q.shape[2]) if causal else mask
    return scaled_dot_product_attention(q, k, v, mask, softmax_scale)[0].transpose(1, 2)


def unpad(states, mask):
    lengths = mask.sum(-1, dtype=torch.int32)
    indices = mask.flatten().nonzero().flatten()
    ends = nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
    return states.flatten(0, 1)[indices], indices, ends, int(lengths.max()), lengths


def pad(states, indices, batch_size, length):
    padded = states.new_zeros(batch_size * length, *states.shape[1:])
    padded[indices] = states
    return padded.view(batch_size, length, *states.shape[1:])


@pytest.fixture
def torch_flash_kernels(monkeypatch):
    kernels = (flash, flash_varlen, None, pad, unpad)
    monkeypatch.setattr(modeling_flash_attention_utils, "_loaded_implementation", None)
    monkeypatch.setattr(modeling_flash_attention_utils, "_lazy_imports", lambda *args, **kwargs: kernels)


@pytest.mark.usefixtures("torch_flash_kernels")
@pytest.mark.parametrize("sizes", [{}, UNEQUAL_HEADS, {"head_dim": 10, "value_head_dim": 6}])
@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_flash_attention_agrees_on_padded_batches(sizes, side):
    """`transformers` would apply the source's mask to the target's positions as well, and zero some of them."""
    model = tiny_model(**sizes)
    input_ids, attention_mask = pad_batch(sentences([4, 9, 6]), side)
    inputs = batch() | {"input_ids": input_ids, "attention_mask": attention_mask}

    eager = logits_of(model, "eager", **inputs)
    model.config._attn_implementation_internal = "flash_attention_2"  # its setter asks for the real kernels
    with torch.no_grad():
        flash_logits = model(**inputs).logits

    torch.testing.assert_close(flash_logits, eager, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("torch_flash_kernels")
@pytest.mark.parametrize("cache_implementation", ["dynamic", "static"])
def test_flash_attention_decodes_alike(cache_implementation):
    model = lively_model()
    inputs = {key: value for key, value in batch().items() if not key.startswith("decoder")}
    settings = {"max_new_tokens": 6, "num_beams": 3, "cache_implementation": cache_implementation}

    model.set_attn_implementation("eager")
    eager = model.generate(**inputs, **settings)
    model.config._attn_implementation_internal = "flash_attention_2"
    flash_ids = model.generate(**inputs, **settings)

    assert torch.equal(flash_ids, eager)


@pytest.mark.parametrize(("d_k", "d_v"), [(4, 6), (6, 4), (5, 5)])
def test_one_head_dim_changes_no_result(d_k, d_v):
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 2, 3, d_k), torch.randn(1, 2, 4, d_k), torch.randn(1, 2, 4, d_v)
    expected, _ = scaled_dot_product_attention(query, key, value)

    padded = pad_to_one_head_dim(query, key, value)
    output, _ = scaled_dot_product_attention(*padded, scaling=d_k**-0.5)

    assert {states.shape[-1] for states in padded} == {max(d_k, d_v)}
    torch.testing.assert_close(output[..., :d_v], expected)
    assert not output[..., d_v:].any()


def test_a_kernel_of_ones_own_is_used():
    """Registered with both interfaces of `transformers`, as its documentation asks."""
    calls = []

    def counting(module, *args, **kwargs):
        calls.append(module.is_causal)
        return eager_attention_forward(module, *args, **kwargs)

    AttentionInterface.register("counting", counting)
    AttentionMaskInterface.register("counting", eager_mask)
    model = tiny_model()
    inputs = batch()

    expected = logits_of(model, "eager", **inputs)
    given = logits_of(model, "counting", **inputs)

    torch.testing.assert_close(given, expected)
    assert calls == [False] * 3 + [True, False] * 2  # only the decoder's self-attention is causal


# Attention weights on request


def assert_full_weights(attentions, layers: int, heads: int, query_len: int, key_len: int):
    assert len(attentions) == layers
    for weights in attentions:
        assert weights.shape[1:] == (heads, query_len, key_len)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention", "flash_attention_2"])
def test_attention_weights_come_under_every_implementation(implementation):
    model = tiny_model()
    inputs = batch()
    expected = logits_of(model, "eager", **inputs)
    model.config._attn_implementation_internal = implementation

    outputs = model(**inputs, output_attentions=True, output_hidden_states=True)

    source_len, target_len = inputs["input_ids"].shape[1], inputs["decoder_input_ids"].shape[1]
    assert_full_weights(outputs.encoder_attentions, 3, 4, source_len, source_len)
    assert_full_weights(outputs.decoder_attentions, 2, 2, target_len, target_len)
    assert_full_weights(outputs.cross_attentions, 2, 2, target_len, source_len)
    assert [len(states) for states in (outputs.encoder_hidden_states, outputs.decoder_hidden_states)] == [4, 3]
    assert torch.equal(outputs.encoder_hidden_states[-1], outputs.encoder_last_hidden_state)
    torch.testing.assert_close(outputs.logits, expected, atol=1e-5, rtol=0)
    assert model.config._attn_implementation == implementation


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("cache_implementation", ["dynamic", "static"])
@pytest.mark.parametrize("implementation", ["sdpa", "flex_attention", "flash_attention_2"])
def test_attention_weights_come_while_decoding(num_beams, cache_implementation, implementation):
    model = tiny_model()
    model.config._attn_implementation_internal = implementation
    inputs = {key: value for key, value in batch().items() if not key.startswith("decoder")}
    source_len = inputs["input_ids"].shape[1]

    outputs = model.generate(
        **inputs,
        min_new_tokens=3,
        max_new_tokens=3,
        num_beams=num_beams,
        cache_implementation=cache_implementation,
        output_attentions=True,
        return_dict_in_generate=True,
    )

    assert_full_weights(outputs.encoder_attentions, 3, 4, source_len, source_len)
    assert len(outputs.decoder_attentions) == len(outputs.cross_attentions) == 3
    for step in range(3):
        key_len = step + 1 if cache_implementation == "dynamic" else 3
        assert_full_weights(outputs.decoder_attentions[step], 2, 2, 1, key_len)
        assert_full_weights(outputs.cross_attentions[step], 2, 2, 1, source_len)


def test_asking_by_the_config_gives_weights_too():
    config = tiny_config()
    config.output_attentions = True

    outputs = modeling_vanilla_transformer.VanillaTransformerForConditionalGeneration(config).eval()(**batch())

    assert [len(outputs[f"{kind}_attentions"]) for kind in ("encoder", "decoder", "cross")] == [3, 2, 2]


def test_the_switch_to_eager_is_said_once(caplog, monkeypatch):
    logger = modeling_vanilla_transformer.logger
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger.parent, "propagate", True)
    type(logger).warning_once.cache_clear()
    model = tiny_model()
    model.set_attn_implementation("sdpa")

    for _ in range(2):
        model(**batch(), output_attentions=True)

    assert len([record for record in caplog.records if "computed with eager attention" in record.message]) == 1
