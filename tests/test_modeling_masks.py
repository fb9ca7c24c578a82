"""What may not be seen is not seen: the future of the target, and padding on either side."""

import pytest
import torch
from tiny import BOS, PAD, pad_batch, sentences, tiny_model
from transformers.modeling_outputs import BaseModelOutput

SIDES = ("left", "right", "both")


def teacher_forced(model, rows: list[list[int]], target: list[list[int]], side: str, **inputs) -> torch.Tensor:
    ids, mask = pad_batch(rows, side)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask, decoder_input_ids=torch.tensor(target), **inputs).logits


def test_future_target_tokens_change_nothing_earlier():
    model = tiny_model()
    (row,) = sentences([6])
    first, second = [BOS, 5, 6, 7, 8], [BOS, 5, 6, 30, 31]

    before = teacher_forced(model, [row], [first], "right")
    after = teacher_forced(model, [row], [second], "right")

    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_the_encoder_and_cross_attention_see_the_whole_source():
    """The last source token changes the first encoder state and the first target position."""
    model = tiny_model()
    ids = torch.tensor(sentences([6]))
    changed = ids.clone()
    changed[:, -2] += 1

    before, after = (model(input_ids=x, decoder_input_ids=torch.tensor([[BOS]])) for x in (ids, changed))

    assert not torch.allclose(before.encoder_last_hidden_state[:, 0], after.encoder_last_hidden_state[:, 0])
    assert not torch.allclose(before.logits, after.logits)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("side", SIDES)
def test_a_padded_source_gives_what_each_sentence_gives_alone(side, implementation):
    model = tiny_model()
    model.set_attn_implementation(implementation)
    rows = sentences([4, 9, 6])
    target = [[BOS, 5, 6, 7]] * 3

    together = teacher_forced(model, rows, target, side)

    for i, row in enumerate(rows):
        alone = teacher_forced(model, [row], target[:1], "right")
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", SIDES)
def test_what_stands_in_the_padding_does_not_matter(side):
    model = tiny_model()
    rows = sentences([4, 9, 6])
    target = torch.tensor([[BOS, 5, 6, 7]] * 3)
    ids, mask = pad_batch(rows, side)
    others, _ = pad_batch(rows, side, value=33)

    before, after = (model(input_ids=x, attention_mask=mask, decoder_input_ids=target).logits for x in (ids, others))

    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_target_padded_on_the_left_gives_what_it_gives_alone(implementation):
    model = tiny_model()
    model.set_attn_implementation(implementation)
    source = torch.tensor(sentences([6]) * 2)
    rows = [[BOS, 5, 6], [BOS, 7, 8, 9, 10, 11]]
    ids, mask = pad_batch(rows, "left", value=33)

    together = model(input_ids=source, decoder_input_ids=ids, decoder_attention_mask=mask).logits

    for i, row in enumerate(rows):
        alone = model(input_ids=source[:1], decoder_input_ids=torch.tensor([row])).logits[0]
        torch.testing.assert_close(together[i, -len(row) :], alone, atol=1e-5, rtol=0)


def test_a_target_padded_on_the_right_needs_no_mask():
    """Causality hides it, and the start token may well be the pad token."""
    model = tiny_model(decoder_start_token_id=PAD)
    source = torch.tensor(sentences([6]) * 2)
    ids, _ = pad_batch([[PAD, 5, 6], [PAD, 7, 8, 9, 10, 11]])

    together = model(input_ids=source, decoder_input_ids=ids).logits

    alone = model(input_ids=source[:1], decoder_input_ids=ids[:1, :3]).logits
    torch.testing.assert_close(together[:1, :3], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", SIDES)
def test_a_missing_source_mask_is_made_from_the_pad_token(side):
    model = tiny_model()
    ids, mask = pad_batch(sentences([4, 9, 6]), side)
    target = torch.tensor([[BOS, 5, 6, 7]] * 3)
    given = model(input_ids=ids, attention_mask=mask, decoder_input_ids=target)

    inferred = model(input_ids=ids, decoder_input_ids=target)
    encoded = model.model.encoder(input_ids=ids)
    with_states = model(input_ids=ids, encoder_outputs=encoded, decoder_input_ids=target)

    assert torch.equal(inferred.logits, given.logits)
    assert torch.equal(with_states.logits, given.logits)
    assert torch.equal(encoded.last_hidden_state, given.encoder_last_hidden_state)


def test_encoder_outputs_alone_are_all_real():
    model = tiny_model()
    ids = torch.tensor(sentences([6]))
    target = torch.tensor([[BOS, 5]])
    states = model.model.encoder(input_ids=ids).last_hidden_state

    expected = model(input_ids=ids, decoder_input_ids=target).logits

    for encoder_outputs in ((states,), BaseModelOutput(last_hidden_state=states)):
        given = model(encoder_outputs=encoder_outputs, decoder_input_ids=target).logits
        torch.testing.assert_close(given, expected)


def test_without_a_pad_token_nothing_is_taken_for_padding():
    model = tiny_model(pad_token_id=None)
    ids, mask = pad_batch(sentences([4, 9]))
    target = torch.tensor([[BOS, 5]] * 2)

    given = model(input_ids=ids, decoder_input_ids=target).logits

    expected = model(input_ids=ids, attention_mask=torch.ones_like(mask), decoder_input_ids=target).logits
    assert torch.equal(given, expected)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_an_empty_sentence_in_a_batch_spoils_nothing(implementation):
    model = tiny_model()
    model.set_attn_implementation(implementation)
    (row,) = sentences([5])
    ids = torch.tensor([row, [PAD] * 5])
    target = torch.tensor([[BOS, 5, 6]] * 2)

    logits = model(input_ids=ids, decoder_input_ids=target).logits

    assert logits.isfinite().all()
    alone = model(input_ids=ids[:1], decoder_input_ids=target[:1]).logits
    torch.testing.assert_close(logits[:1], alone, atol=1e-5, rtol=0)


def test_embeddings_may_stand_for_tokens_on_both_sides():
    model = tiny_model()
    source, target = torch.tensor(sentences([6])), torch.tensor([[BOS, 5, 6]])
    embed = model.get_input_embeddings()

    by_ids = model(input_ids=source, decoder_input_ids=target).logits
    by_embeddings = model(inputs_embeds=embed(source), decoder_inputs_embeds=embed(target)).logits

    assert torch.equal(by_embeddings, by_ids)


def test_without_a_target_the_decoder_reads_the_source_shifted_right():
    model = tiny_model()
    source = torch.tensor(sentences([6]))
    shifted = torch.cat((torch.tensor([[BOS]]), source[:, :-1]), dim=1)

    assert torch.equal(model(input_ids=source).logits, model(input_ids=source, decoder_input_ids=shifted).logits)


def test_each_call_without_its_inputs_is_refused_with_a_reason():
    model = tiny_model()
    states = torch.zeros(1, 3, 32)

    with pytest.raises(ValueError, match=r"The encoder takes either token ids or their embeddings, got neither"):
        model(decoder_input_ids=torch.tensor([[BOS]]))
    with pytest.raises(ValueError, match=r"The encoder takes either token ids or their embeddings, got both"):
        model(input_ids=torch.tensor([[5]]), inputs_embeds=states[:, :1])
    with pytest.raises(ValueError, match=r"The decoder needs `decoder_input_ids`, .* got none of them"):
        model(encoder_outputs=(states,))
    model.config.decoder_start_token_id = None
    with pytest.raises(ValueError, match=r"needs `config.decoder_start_token_id`, which is None"):
        model(input_ids=torch.tensor([[5]]), labels=torch.tensor([[5]]))
