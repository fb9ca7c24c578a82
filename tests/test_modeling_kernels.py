"""The implementations behind equation 1 (sdpa, flex, flash, one's own) give what the eager one gives."""

import pytest
import torch
from tiny import lively_model, logits_of, pad_batch, padded_pairs, sentences, tiny_model
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, modeling_flash_attention_utils
from transformers.integrations import flex_attention as flex_integration
from transformers.masking_utils import eager_mask

from hf_vanilla_transformer.model.modeling_vanilla_transformer import (
    eager_attention_forward,
    pad_to_one_head_dim,
    scaled_dot_product_attention,
)

UNEQUAL_HEADS = {"head_dim": 6, "value_head_dim": 10}


@pytest.mark.parametrize("sizes", [{}, UNEQUAL_HEADS, {"head_dim": 10, "value_head_dim": 6}])
@pytest.mark.parametrize("decoder_padding", ["right", "left"])
def test_eager_and_sdpa_agree(sizes, decoder_padding):
    model = tiny_model(**sizes)
    inputs = padded_pairs()
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
    inputs = {key: value for key, value in padded_pairs().items() if not key.startswith("decoder")}
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
    inputs = padded_pairs() | {"decoder_input_ids": ids, "decoder_attention_mask": mask}

    eager = logits_of(model, "eager", **inputs)
    flex = logits_of(model, "flex_attention", **inputs)

    torch.testing.assert_close(flex[mask.bool()], eager[mask.bool()], atol=1e-5, rtol=0)


@pytest.mark.usefixtures("uncompiled_flex_attention")
@pytest.mark.parametrize("cache_implementation", ["dynamic", "static"])
def test_flex_attention_decodes_alike(cache_implementation):
    model = lively_model()
    inputs = {key: value for key, value in padded_pairs().items() if not key.startswith("decoder")}
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
    inputs = padded_pairs() | {"input_ids": input_ids, "attention_mask": attention_mask}

    eager = logits_of(model, "eager", **inputs)
    model.config._attn_implementation_internal = "flash_attention_2"  # its setter asks for the real kernels
    with torch.no_grad():
        flash_logits = model(**inputs).logits

    torch.testing.assert_close(flash_logits, eager, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("torch_flash_kernels")
@pytest.mark.parametrize("cache_implementation", ["dynamic", "static"])
def test_flash_attention_decodes_alike(cache_implementation):
    model = lively_model()
    inputs = {key: value for key, value in padded_pairs().items() if not key.startswith("decoder")}
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
    inputs = padded_pairs()

    expected = logits_of(model, "eager", **inputs)
    given = logits_of(model, "counting", **inputs)

    torch.testing.assert_close(given, expected)
    assert calls == [False] * 3 + [True, False] * 2  # only the decoder's self-attention is causal
