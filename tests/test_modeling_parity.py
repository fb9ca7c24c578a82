"""The whole model against other writings of it: torch.nn.Transformer, and transformers' Marian and FSMT."""

import pytest
import torch
from tiny import SEPARATE_VOCABULARIES, beams_over_the_target_vocabulary, pad_batch, sentences, tiny_config
from torch import nn
from transformers import FSMTConfig, FSMTForConditionalGeneration, MarianConfig, MarianMTModel

from hf_vanilla_transformer import VanillaTransformerForConditionalGeneration, VanillaTransformerModel

EQUAL_HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
EQUAL_SIDES = {**EQUAL_HEADS, "decoder_ffn_dim": 64}
SIDES, SIZES = ("encoder", "decoder"), ("layers", "attention_heads", "ffn_dim")


def randomise(model: nn.Module) -> None:
    """Leave no bias at zero and no gain at one, so that each is seen to be used."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)


def copy_attention(ours: nn.Module, theirs: nn.MultiheadAttention) -> None:
    projections = (ours.q_proj, ours.k_proj, ours.v_proj)
    theirs.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
    theirs.in_proj_bias.copy_(torch.cat([projection.bias for projection in projections]))
    theirs.out_proj.load_state_dict(ours.out_proj.state_dict())


@torch.no_grad()
def torch_transformer_of(model: VanillaTransformerModel) -> nn.Transformer:
    """`torch.nn.Transformer` with the weights of `model`."""
    config = model.config
    theirs = nn.Transformer(
        config.d_model,
        config.encoder_attention_heads,
        config.encoder_layers,
        config.decoder_layers,
        config.encoder_ffn_dim,
        norm_first=config.normalize_before,
        batch_first=True,
    ).eval()
    for stack, their_stack in ((model.encoder, theirs.encoder), (model.decoder, theirs.decoder)):
        for layer, their_layer in zip(stack.layers, their_stack.layers, strict=True):
            copy_attention(layer.self_attn, their_layer.self_attn)
            norms = [layer.self_attn_layer_norm, layer.final_layer_norm]
            if stack is model.decoder:
                copy_attention(layer.encoder_attn, their_layer.multihead_attn)
                norms.insert(1, layer.encoder_attn_layer_norm)
            for i, norm in enumerate(norms, start=1):
                getattr(their_layer, f"norm{i}").load_state_dict(norm.state_dict())
            their_layer.linear1.load_state_dict(layer.fc1.state_dict())
            their_layer.linear2.load_state_dict(layer.fc2.state_dict())
        # post-norm ends in a LayerNorm anyway: torch's second one has no place in the paper
        if config.normalize_before:
            their_stack.norm.load_state_dict(stack.layer_norm.state_dict())
        else:
            their_stack.norm = nn.Identity()
    return theirs


@pytest.mark.parametrize("normalize_before", [False, True])
def test_torchs_transformer_with_the_same_weights_gives_the_same_states(normalize_before):
    model = VanillaTransformerModel(tiny_config(normalize_before=normalize_before, **EQUAL_SIDES)).eval()
    randomise(model)
    theirs = torch_transformer_of(model)
    source, mask = pad_batch(sentences([4, 7, 6]))
    target, _ = pad_batch(sentences([5, 3, 6], seed=1))
    hidden = mask == 0

    outputs = model(input_ids=source, attention_mask=mask, decoder_input_ids=target, output_hidden_states=True)
    expected = theirs(
        outputs.encoder_hidden_states[0],
        outputs.decoder_hidden_states[0],
        tgt_mask=torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1),
        src_key_padding_mask=hidden,
        memory_key_padding_mask=hidden,
        tgt_is_causal=True,
    )

    torch.testing.assert_close(outputs.last_hidden_state, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "vocabularies", [{}, pytest.param(SEPARATE_VOCABULARIES, marks=beams_over_the_target_vocabulary)]
)
def test_marian_with_the_same_weights_gives_the_same_logits_and_beams(vocabularies):
    """`positional_encoding="concatenated"` is transformers' Marian, whose weight names ours are."""
    config = tiny_config(positional_encoding="concatenated", logits_bias=True, **vocabularies)
    model = VanillaTransformerForConditionalGeneration(config).eval()
    randomise(model)
    model.final_logits_bias.normal_()
    names = set(config.to_dict()) & set(MarianConfig().to_dict()) - {"architectures", "transformers_version"}
    fields = {name: getattr(config, name) for name in names}
    marian = MarianMTModel(MarianConfig(**fields, forced_eos_token_id=None)).eval()
    missing, unexpected = marian.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected
    assert all("embed_positions" in name for name in missing)
    source, mask = pad_batch(sentences([4, 9, 6]))
    target, _ = pad_batch(sentences([5, 3, 7], seed=1))
    inputs = {"input_ids": source, "attention_mask": mask, "decoder_input_ids": target}

    torch.testing.assert_close(model(**inputs).logits, marian(**inputs).logits, atol=1e-5, rtol=0)
    settings = {"num_beams": 3, "max_new_tokens": 8, "input_ids": source, "attention_mask": mask}
    assert torch.equal(model.generate(**settings), marian.generate(**settings))


def test_fsmt_with_the_same_weights_gives_the_same_logits():
    """`positional_encoding="fairseq"`: fairseq's positions, which skip padding, and its start from EOS."""
    pad = 1
    config = tiny_config(
        positional_encoding="fairseq",
        share_encoder_decoder_embeddings=False,
        tie_word_embeddings=False,
        decoder_vocab_size=50,
        pad_token_id=pad,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    model = VanillaTransformerForConditionalGeneration(config).eval()
    fsmt_config = FSMTConfig(
        langs=["en", "de"],
        src_vocab_size=config.vocab_size,
        tgt_vocab_size=50,
        activation_function="relu",
        scale_embedding=True,
        tie_word_embeddings=False,
        **{"pad_token_id": pad, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2},
        **{name: getattr(config, name) for name in ("d_model", "max_position_embeddings")},
        **{f"{side}_{size}": getattr(config, f"{side}_{size}") for side in SIDES for size in SIZES},
    )
    fsmt = FSMTForConditionalGeneration(fsmt_config).eval()
    randomise(model)
    weights = model.state_dict()
    weights["model.decoder.output_projection.weight"] = weights.pop("lm_head.weight")
    missing, unexpected = fsmt.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all("embed_positions" in name for name in missing)
    source, mask = pad_batch(sentences([4, 9, 6]), value=pad)
    target, _ = pad_batch([[2, *row] for row in sentences([5, 5, 5], seed=1)], value=pad)

    ours = model(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
    # with a cache to fill, FSMT masks no future
    theirs = fsmt(input_ids=source, attention_mask=mask, decoder_input_ids=target, use_cache=False).logits

    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
