"""Section 5: where dropout falls, how weights start, what the loss is, and that the whole learns."""

import math

import pytest
import torch
from tiny import BOS, EOS, pad_batch, sentences, tiny_config, tiny_model
from torch import nn

from hf_vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration


def batch(side: str = "right") -> dict[str, torch.Tensor]:
    input_ids, attention_mask = pad_batch(sentences([4, 9, 6]), side)
    labels, _ = pad_batch(sentences([5, 3, 7], seed=1), value=-100)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


# Dropout, as in section 5.4


def dropouts_of(model, monkeypatch) -> list[float]:
    """The probability of each dropout of one training step that is not idle, in the order of computation."""
    real, calls = nn.functional.dropout, []

    def counting(x, p=0.5, training=True, inplace=False):
        if training and p:
            calls.append(p)
        return real(x, p, training, inplace)

    monkeypatch.setattr(nn.functional, "dropout", counting)
    model(**batch())
    return calls


def test_dropout_is_where_the_paper_puts_it_and_nowhere_else(monkeypatch):
    """On the output of each sub-layer, before it is added, and on the sums of embeddings and positions."""
    model = tiny_model(dropout=0.25).train()
    encoder, decoder = 1 + 2 * 3, 1 + 3 * 2  # an embedding sum, then two or three sub-layers in each layer

    assert dropouts_of(model, monkeypatch) == [0.25] * (encoder + decoder)


def test_dropout_of_weights_and_activations_is_there_when_asked_for(monkeypatch):
    model = tiny_model(dropout=0.25, attention_dropout=0.5, activation_dropout=0.75).train()
    model.set_attn_implementation("eager")

    calls = dropouts_of(model, monkeypatch)

    assert calls.count(0.5) == 3 + 2 * 2  # attentions
    assert calls.count(0.75) == 3 + 2  # feed-forward networks


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_dropout_changes_training_and_not_evaluation(implementation):
    model = tiny_model(dropout=0.0, attention_dropout=0.5)
    model.set_attn_implementation(implementation)
    inputs = batch()

    assert torch.equal(model(**inputs).logits, model(**inputs).logits)
    model.train()
    assert not torch.allclose(model(**inputs).loss, model(**inputs).loss)


# Initialisation


def test_weights_start_as_the_docstring_says():
    model = tiny_model(d_model=64, vocab_size=500, head_dim=16, value_head_dim=8, logits_bias=True)

    embeddings = model.model.shared.weight
    assert not embeddings[0].any()  # the pad token's
    assert embeddings[1:].std().item() == pytest.approx(64**-0.5, rel=0.03)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            limit = math.sqrt(6 / (module.in_features + module.out_features))
            assert module.weight.abs().max() <= limit
            assert module.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.1)
            assert not module.bias.any()
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all()
            assert not module.bias.any()
    assert not model.final_logits_bias.any()


def test_an_untied_output_starts_as_a_tied_one_would():
    model = tiny_model(tie_word_embeddings=False, vocab_size=500)

    assert model.lm_head.weight.std().item() == pytest.approx(32**-0.5, rel=0.03)


def test_a_fresh_model_knows_nothing():
    """Its first loss is about that of a uniform guess, ln(vocab), plus what its unit-variance logits cost."""
    model = tiny_model(vocab_size=500)

    loss = model(**batch()).loss.item()

    assert math.log(500) - 0.5 < loss < math.log(500) + 2.0


@pytest.mark.slow
def test_six_post_norm_layers_train_from_scratch_with_the_papers_warm_up():
    """Deep post-norm is what fails without care; here it learns to copy, by equation 3 and Adam of section 5.3."""
    torch.manual_seed(0)
    d_model, warmup_steps, steps = 64, 1000, 175
    config = VanillaTransformerConfig(
        vocab_size=16,
        d_model=d_model,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        dropout=0.0,
    )
    model = VanillaTransformerForConditionalGeneration(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: d_model**-0.5 * min((step + 1) ** -0.5, (step + 1) * warmup_steps**-1.5)
    )

    losses = []
    for step in range(steps):
        ids = torch.tensor(sentences([4] * 24, vocab_size=16, seed=step))  # three of 13 words, then the end
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())

    without_reading_the_source = 3 / 4 * math.log(13)
    assert sum(losses[-20:]) / 20 < 0.6 * without_reading_the_source


# The loss


def test_labels_are_smoothed_in_training_only_and_not_shifted():
    model = tiny_model(dropout=0.0, label_smoothing=0.1)
    inputs = batch()

    evaluated, trained = (model.train(mode)(**inputs, skip_logits=False) for mode in (False, True))

    labels = inputs["labels"].flatten()
    for outputs, smoothing in ((evaluated, 0.0), (trained, 0.1)):
        expected = nn.functional.cross_entropy(outputs.logits.flatten(0, 1), labels, label_smoothing=smoothing)
        torch.testing.assert_close(outputs.loss, expected)


def test_decoder_inputs_are_the_labels_shifted_right():
    model = tiny_model()
    labels = torch.tensor([[5, 6, EOS, -100]])

    shifted = model.prepare_decoder_input_ids_from_labels(labels)

    assert shifted.tolist() == [[BOS, 5, 6, EOS]]
    assert model.prepare_decoder_input_ids_from_labels(torch.tensor([[5, EOS, -100, -100]])).tolist() == [
        [BOS, 5, EOS, model.config.pad_token_id]
    ]
    inputs = batch()
    given = model(**inputs, decoder_input_ids=model.prepare_decoder_input_ids_from_labels(inputs["labels"]))
    assert torch.equal(model(**inputs).logits, given.logits)


def test_a_batch_cut_in_pieces_has_the_gradient_of_the_whole():
    """With the number of tokens of the whole batch, however unequal the pieces."""
    model = tiny_model(dropout=0.0).train()
    inputs = batch()
    tokens = (inputs["labels"] != -100).sum()

    model(**inputs).loss.backward()
    whole = model.model.shared.weight.grad.clone()
    model.zero_grad()
    for i in range(3):
        piece = {name: value[i : i + 1] for name, value in inputs.items()}
        model(**piece, num_items_in_batch=tokens).loss.backward()

    torch.testing.assert_close(model.model.shared.weight.grad, whole, atol=1e-6, rtol=1e-4)


def test_only_the_logits_asked_for_are_computed():
    model = tiny_model()
    inputs = {name: value for name, value in batch().items() if name != "labels"}
    whole = model(**inputs).logits

    torch.testing.assert_close(model(**inputs, logits_to_keep=2).logits, whole[:, -2:])
    torch.testing.assert_close(model(**inputs, logits_to_keep=torch.tensor([0, 3])).logits, whole[:, [0, 3]])


# Memory and precision


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(use_reentrant):
    model = tiny_model(dropout=0.0).train()
    inputs = batch()
    model(**inputs).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()

    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    if use_reentrant:
        model.enable_input_require_grads()
    model(**inputs).loss.backward()

    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_half_precision_is_finite_and_near(dtype, implementation):
    model = tiny_model()
    model.set_attn_implementation(implementation)
    inputs = batch("both")
    expected = model(**inputs)

    outputs = model.to(dtype)(**inputs)

    assert outputs.logits.dtype == dtype
    torch.testing.assert_close(outputs.logits.float(), expected.logits, atol=0.1, rtol=0.1)
    assert outputs.loss.item() == pytest.approx(expected.loss.item(), abs=0.05)
    outputs.loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_every_weight_gets_a_gradient():
    for normalize_before in (False, True):
        model = tiny_model(normalize_before=normalize_before, positional_encoding="learned").train()
        model(**batch()).loss.backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_the_decoder_config_is_not_the_models_mistake():
    """No field named `is_decoder` or the like turns cross-attention off in a whole model."""
    model = tiny_model(is_decoder=True)

    assert torch.equal(model(**batch()).logits, tiny_model().eval()(**batch()).logits)
    assert tiny_config().is_encoder_decoder
