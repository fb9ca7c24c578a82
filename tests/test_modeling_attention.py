"""Section 3.2: equation 1 against a second writing of it, its masks, and its weights for those who ask."""

import math

import pytest
import torch
from tiny import logits_of, padded_pairs, tiny_config, tiny_model
from torch import nn

from hf_vanilla_transformer.model import attention_kernels, modeling_vanilla_transformer
from hf_vanilla_transformer.model.modeling_vanilla_transformer import MultiHeadAttention, scaled_dot_product_attention

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
    ours = MultiHeadAttention(tiny_config(attn_implementation="eager"), "encoder").eval()
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


# Attention weights on request


def assert_full_weights(attentions, layers: int, heads: int, query_len: int, key_len: int):
    assert len(attentions) == layers
    for weights in attentions:
        assert weights.shape[1:] == (heads, query_len, key_len)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention", "flash_attention_2"])
def test_attention_weights_come_under_every_implementation(implementation):
    model = tiny_model()
    inputs = padded_pairs()
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
    inputs = {key: value for key, value in padded_pairs().items() if not key.startswith("decoder")}
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

    outputs = modeling_vanilla_transformer.VanillaTransformerForConditionalGeneration(config).eval()(**padded_pairs())

    assert [len(outputs[f"{kind}_attentions"]) for kind in ("encoder", "decoder", "cross")] == [3, 2, 2]


def test_the_switch_to_eager_is_said_once(caplog, monkeypatch):
    logger = attention_kernels.logger
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger.parent, "propagate", True)
    type(logger).warning_once.cache_clear()
    model = tiny_model()
    model.set_attn_implementation("sdpa")

    for _ in range(2):
        model(**padded_pairs(), output_attentions=True)

    assert len([record for record in caplog.records if "computed with eager attention" in record.message]) == 1
