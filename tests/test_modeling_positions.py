"""Section 3.5: each of the five positional encodings against its formula, and where positions are counted from."""

import math

import pytest
import torch
from tiny import pad_batch, sentences, tiny_config, tiny_model
from transformers.models.fsmt.modeling_fsmt import SinusoidalPositionalEmbedding as FSMTPositions
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

from hf_vanilla_transformer.model.modeling_vanilla_transformer import SinusoidalPositionalEncoding

D, LENGTH = 12, 50


def encoding(convention: str, d_model: int = D, positions: torch.Tensor | None = None, **fields) -> torch.Tensor:
    config = tiny_config(d_model=d_model, head_dim=4, positional_encoding=convention, **fields)
    return SinusoidalPositionalEncoding(config)(torch.arange(LENGTH) if positions is None else positions)


def by_formula(convention: str, position: int, d_model: int = D) -> list[float]:
    """One position, term by term as each toolkit's documentation writes it."""
    half = d_model // 2
    steps = half if convention in ("interleaved", "concatenated") else half - 1
    position += 1 if convention == "fairseq" else 0  # pad_token_id 0, then counted from pad + 1
    angles = [position / 10000 ** (i / steps) for i in range(half)]
    if convention == "interleaved":
        return [wave(angle) for angle in angles for wave in (math.sin, math.cos)]
    return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]


@pytest.mark.parametrize("convention", ["interleaved", "concatenated", "tensor2tensor", "fairseq"])
def test_sinusoids_follow_their_formula(convention):
    expected = torch.tensor([by_formula(convention, position) for position in range(LENGTH)])

    torch.testing.assert_close(encoding(convention), expected, atol=1e-6, rtol=0)


def test_the_papers_formula_in_the_papers_letters():
    """PE(pos, 2i) = sin(pos / 10000^(2i / d_model)), PE(pos, 2i + 1) = cos of the same."""
    table = encoding("interleaved", d_model=512, positions=torch.tensor([7]))[0]

    for i in (0, 1, 100, 255):
        angle = 7 / 10000 ** (2 * i / 512)
        assert table[2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert table[2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_concatenated_is_the_table_of_transformers_marian():
    marian = MarianSinusoidalPositionalEmbedding(LENGTH, D)

    torch.testing.assert_close(encoding("concatenated"), marian.create_weight(), atol=1e-6, rtol=0)


def test_fairseq_is_the_table_of_transformers_fsmt_to_the_last_bit():
    """In float32, whose angles are off by 2e-5 after 300 tokens, as those that its models were trained with."""
    pad, length = 3, 1000
    fsmt = FSMTPositions(length, D, pad)
    expected = fsmt(torch.full((1, length), pad + 1))[0]

    assert torch.equal(encoding("fairseq", positions=torch.arange(length), pad_token_id=pad), expected)


def test_sinusoids_go_beyond_the_stated_limit_and_stay_exact():
    """In float32 the angle of position 100,000 would be off in its third digit."""
    config = tiny_config()
    far = 100_000

    row = SinusoidalPositionalEncoding(config)(torch.tensor([far]))[0]

    assert far > config.max_position_embeddings
    expected = torch.tensor(by_formula("interleaved", far, config.d_model))
    torch.testing.assert_close(row, expected, atol=1e-6, rtol=0)
    ids = torch.full((1, config.max_position_embeddings + 5), 7)
    assert tiny_model()(input_ids=ids).logits.isfinite().all()


def test_learned_positions_are_a_table_for_each_stack_with_an_end():
    model = tiny_model(positional_encoding="learned", max_position_embeddings=6)
    encoder, decoder = model.model.encoder.embed_positions, model.model.decoder.embed_positions

    assert encoder.weight is not decoder.weight
    torch.testing.assert_close(encoder(torch.tensor([[4, 0]])), encoder.weight[[4, 0]][None])
    model(input_ids=torch.full((1, 6), 7))
    with pytest.raises(ValueError, match=r"has 6 positions, got a sentence of 7 tokens"):
        model(input_ids=torch.full((1, 7), 7))


def test_the_sum_of_embeddings_and_positions():
    """Section 3.4: embeddings are multiplied by sqrt(d_model); 3.5: positions are added."""
    model = tiny_model()
    encoder = model.model.encoder
    ids, _ = pad_batch(sentences([6]))

    states = encoder(input_ids=ids, output_hidden_states=True).hidden_states[0]

    expected = encoder.embed_tokens.weight[ids] * math.sqrt(32) + encoding("interleaved", 32)[: ids.shape[1]]
    torch.testing.assert_close(states, expected)


def test_half_precision_adds_positions_computed_in_full_precision():
    model = tiny_model(dropout=0.0).to(torch.bfloat16)
    encoder = model.model.encoder
    position = 300  # bfloat16 cannot even count this far
    embeds = torch.zeros(1, 1, 32, dtype=torch.bfloat16)

    states = encoder(
        inputs_embeds=embeds, position_ids=torch.tensor([[position + 1]]), output_hidden_states=True
    ).hidden_states[0]

    expected = torch.tensor(by_formula("interleaved", position + 1, 32)).to(torch.bfloat16)
    assert torch.equal(states[0, 0], expected)


@pytest.mark.parametrize("convention", ["interleaved", "concatenated", "tensor2tensor", "fairseq", "learned"])
def test_padding_takes_no_position(convention):
    model = tiny_model(positional_encoding=convention)
    (row,) = sentences([6])
    ids, mask = pad_batch([row, sentences([9])[0]], "left")

    alone = model.model.encoder(input_ids=torch.tensor([row])).last_hidden_state[0]
    padded = model.model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state[0, -len(row) :]

    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)
