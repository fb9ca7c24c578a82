"""FSMT to ours: fairseq's positions, two vocabularies, its own generation settings."""

import pytest
import torch
from originals import TARGET_VOCAB, VOCAB, fsmt, ragged_batch
from safetensors.torch import load_file, save_file
from tiny import beams_over_the_target_vocabulary

from hf_vanilla_transformer import from_fsmt
from hf_vanilla_transformer.conversion.originals import POSITIONS

PAD, END = 1, 2
GRID = {
    "WMT19": {},
    "gelu": {"activation_function": "gelu"},
    "swish": {"activation_function": "swish"},
    "unscaled": {"scale_embedding": False},
    "tied": {"tie_word_embeddings": True, "tgt_vocab_size": VOCAB},
    "deep encoder": {"encoder_layers": 4, "decoder_layers": 1, "encoder_attention_heads": 8},
}
configs = pytest.mark.parametrize("overrides", GRID.values(), ids=GRID)


@configs
def test_the_logits_are_the_same(overrides):
    original = fsmt(**overrides)
    source = ragged_batch(VOCAB, [300, 7, 41, 2], PAD, END)
    target = ragged_batch(VOCAB, [290, 12, 5, 3], PAD, END, seed=1)["input_ids"]
    target = torch.cat((torch.full((4, 1), END), target), dim=1)

    with torch.no_grad():
        # with a cache to fill, FSMT masks no future
        expected = original(**source, decoder_input_ids=target, use_cache=False).logits
        logits = from_fsmt(original)(**source, decoder_input_ids=target).logits

    real = target.ne(PAD)  # FSMT hides padding of the target too, which nothing reads
    assert (logits - expected)[real].abs().max() <= 1e-5 * expected.abs().max()


@beams_over_the_target_vocabulary
@configs
def test_beams_by_the_originals_own_settings_are_the_same(overrides):
    original = fsmt(**overrides)
    source = ragged_batch(VOCAB, [9, 4, 12, 2, 30, 17], PAD, END)

    translations = from_fsmt(original).generate(**source)

    assert torch.equal(translations, original.generate(**source))
    assert len(translations.unique()) > 6


def test_the_config_says_what_the_original_did():
    config = from_fsmt(fsmt()).config
    assert (config.vocab_size, config.decoder_vocab_size) == (VOCAB, TARGET_VOCAB)
    assert config.positional_encoding == "fairseq"
    assert not config.share_encoder_decoder_embeddings
    assert not config.tie_word_embeddings
    assert not config.normalize_before


def test_a_folder_gives_the_same_weights(tmp_path):
    original = fsmt()
    original.save_pretrained(tmp_path)
    ours, expected = from_fsmt(tmp_path).state_dict(), from_fsmt(original).state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in expected.items())


def test_a_start_from_padding_is_refused():
    original = fsmt()
    original.config.decoder_start_token_id = PAD
    with pytest.raises(
        ValueError, match="decoder_start_token_id 1 and pad_token_id 1: FSMT gives padding no position"
    ):
        from_fsmt(original)


def test_positions_that_are_not_fairseqs_are_refused():
    original = fsmt()
    with torch.no_grad():
        for stack in (original.model.encoder, original.model.decoder):
            stack.embed_positions.weight.normal_()
    with pytest.raises(
        ValueError, match=r"FSMT computes its positions, but .* tables that are not fairseq's sinusoids"
    ):
        from_fsmt(original)


def test_matrices_that_differ_stay_three_whatever_the_config_says_of_ties():
    original = fsmt(tgt_vocab_size=VOCAB)
    original.config.tie_word_embeddings = True
    ours = from_fsmt(original)
    assert not ours.config.tie_word_embeddings
    assert not ours.config.share_encoder_decoder_embeddings
    source = ragged_batch(VOCAB, [9, 4], PAD, END)
    target = torch.tensor([[END, 5, 6], [END, 7, 8]])
    with torch.no_grad():
        expected = original(**source, decoder_input_ids=target, use_cache=False).logits
        torch.testing.assert_close(ours(**source, decoder_input_ids=target).logits, expected)


@pytest.mark.parametrize("tied", [False, True])
def test_positions_that_were_not_saved_are_computed(tied, tmp_path):
    """transformers 4 leaves both tables out of the file."""
    original = fsmt(**({"tie_word_embeddings": True, "tgt_vocab_size": VOCAB} if tied else {}))
    original.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    for name in POSITIONS:
        del weights[name]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})

    ours, expected = from_fsmt(tmp_path), from_fsmt(original)

    assert ours.config.positional_encoding == "fairseq"
    assert ours.config.tie_word_embeddings == tied
    assert all(torch.equal(tensor, ours.state_dict()[name]) for name, tensor in expected.state_dict().items())
