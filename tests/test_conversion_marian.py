"""Marian to ours and back: the same function, and Marian -> ours -> Marian bit for bit."""

import pytest
import torch
from originals import SEPARATE, TARGET_VOCAB, VOCAB, marian, ragged_batch
from tiny import beams_over_the_target_vocabulary, lively_model, pad_batch, sentences, tiny_config
from torch import nn
from transformers import AutoModelForSeq2SeqLM, MarianMTModel

from hf_vanilla_transformer import VanillaTransformerForConditionalGeneration, from_marian, to_marian
from hf_vanilla_transformer.model.modeling_vanilla_transformer import SinusoidalPositionalEncoding

LENGTHS = [300, 7, 41, 2]
GRID = {
    "OPUS-MT": {},
    "relu": {"activation_function": "relu"},
    "gelu": {"activation_function": "gelu"},
    "unscaled": {"scale_embedding": False},
    "untied": {"tie_word_embeddings": False},
    "separate": SEPARATE,
    "separate, untied": {**SEPARATE, "seed": 2, "tie_word_embeddings": False},
    "deep encoder": {"encoder_layers": 4, "decoder_layers": 1, "encoder_attention_heads": 8, "seed": 2},
    "one head": {"encoder_attention_heads": 1, "decoder_attention_heads": 1},
    "start at another token": {"decoder_start_token_id": 5},
}
configs = pytest.mark.parametrize("overrides", GRID.values(), ids=GRID)


def inputs_for(model, lengths=LENGTHS, seed=0) -> dict[str, torch.Tensor]:
    config = model.config
    vocab_size = min(config.vocab_size, config.decoder_vocab_size or config.vocab_size)
    source = ragged_batch(vocab_size, lengths, config.pad_token_id, 2, seed)
    target = ragged_batch(vocab_size, [5, 290, 12, 3], config.pad_token_id, 2, seed + 1)["input_ids"]
    return {**source, "decoder_input_ids": target}


def require_same_function(ours: nn.Module, theirs: nn.Module) -> None:
    inputs = inputs_for(theirs)
    with torch.no_grad():
        expected = theirs(**inputs).logits
        worst = (ours(**inputs).logits - expected).abs().max()
    assert worst <= 1e-5 * expected.abs().max()


def differing(one, other) -> set[str]:
    """Names of the settings that differ."""
    settings, expected = one.to_dict(), other.to_dict()
    names = (settings.keys() | expected.keys()) - {"_from_model_config"}
    return {name for name in names if settings.get(name) != expected.get(name)}


def require_same_bits(one: nn.Module, other: nn.Module) -> None:
    weights, expected = one.state_dict(), other.state_dict()
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(weights[name], tensor), name


@configs
def test_the_logits_are_the_same(overrides):
    original = marian(**overrides)
    require_same_function(from_marian(original), original)


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(o, id=n, marks=beams_over_the_target_vocabulary if "separate" in n else ())
        for n, o in GRID.items()
    ],
)
def test_beams_by_the_originals_own_settings_are_the_same(overrides):
    """Bad words, forced end, renormalised logits, length penalty; and outputs that vary, so that this says much."""
    original = marian(**overrides)
    source = ragged_batch(VOCAB, [9, 4, 12, 2, 30, 17], original.config.pad_token_id, 0)

    translations = from_marian(original).generate(**source)

    assert torch.equal(translations, original.generate(**source))
    assert len(translations.unique()) > 6


@configs
def test_there_and_back_is_the_same_model(overrides):
    original = marian(**overrides)
    back = to_marian(from_marian(original))
    require_same_bits(back, original)
    assert differing(back.config, original.config) <= {"dtype", "decoder_vocab_size", "architectures"}
    assert not differing(back.generation_config, original.generation_config)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_folder_in_half_precision_stays_so_and_comes_back(dtype, tmp_path):
    """Sinusoids rounded to half precision are still known for what they are."""
    original = marian().to(dtype)
    original.save_pretrained(tmp_path)

    ours = from_marian(tmp_path)

    assert (ours.dtype, ours.config.positional_encoding) == (dtype, "concatenated")
    require_same_bits(to_marian(ours), AutoModelForSeq2SeqLM.from_pretrained(tmp_path))


def test_the_original_is_left_alone():
    original = marian()
    before = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    ours = from_marian(original)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in original.state_dict().items())


def test_tied_weights_stay_one(tmp_path):
    ours = from_marian(marian())
    assert ours.lm_head.weight is ours.model.shared.weight is ours.model.encoder.embed_tokens.weight
    ours.save_pretrained(tmp_path)
    require_same_bits(AutoModelForSeq2SeqLM.from_pretrained(tmp_path), ours)


def test_one_matrix_saved_for_both_stacks_is_enough(tmp_path):
    """transformers 4 shared both stacks' embeddings beside an untied output, and saved one."""
    from safetensors.torch import load_file, save_file

    original = marian(tie_word_embeddings=False)
    original.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    saved = {name: t for name, t in weights.items() if "embed_tokens" not in name}
    save_file(saved, tmp_path / "model.safetensors", metadata={"format": "pt"})

    ours = from_marian(tmp_path)

    assert ours.config.share_encoder_decoder_embeddings
    assert not ours.config.tie_word_embeddings
    require_same_function(ours, original)


def test_embeddings_of_each_stacks_own_are_kept_and_one_that_nothing_reads_is_named(caplog):
    """With an untied output transformers 5 trains three matrices, whatever the config says of sharing."""
    original = marian(tie_word_embeddings=False)
    with torch.no_grad():
        original.model.decoder.embed_tokens.weight.add_(0.1)
        original.model.shared.weight.zero_()
    ours = from_marian(original)
    assert not ours.config.share_encoder_decoder_embeddings
    assert "model.shared.weight is left out: each stack has embeddings of its own" in caplog.text
    require_same_function(ours, original)


def test_learned_positions_are_kept():
    original = marian(max_position_embeddings=300)
    with torch.no_grad():
        for side in ("encoder", "decoder"):
            getattr(original.model, side).embed_positions.weight.normal_(std=0.3)
    ours = from_marian(original)
    assert ours.config.positional_encoding == "learned"
    require_same_function(ours, original)


def test_positions_of_marian_cpp_change_the_table_alone():
    original = marian()
    ours = from_marian(original, positions="tensor2tensor")
    assert ours.config.positional_encoding == "tensor2tensor"
    require_same_bits(ours, from_marian(original))
    half = 16
    angles = torch.arange(512.0, dtype=torch.float64)[:, None] * 10000.0 ** (-torch.arange(half) / (half - 1))
    with torch.no_grad():
        for side in ("encoder", "decoder"):
            getattr(original.model, side).embed_positions.weight.copy_(torch.cat((angles.sin(), angles.cos()), dim=1))
    require_same_function(ours, original)


@pytest.mark.parametrize("convention", ["tensor2tensor", "interleaved"])
def test_a_table_of_other_sinusoids_is_recognised(convention):
    original = marian()
    config = tiny_config(positional_encoding=convention)
    table = SinusoidalPositionalEncoding(config)(torch.arange(original.config.max_position_embeddings))
    with torch.no_grad():
        for side in ("encoder", "decoder"):
            getattr(original.model, side).embed_positions.weight.copy_(table)
    ours = from_marian(original)
    assert ours.config.positional_encoding == convention
    require_same_function(ours, original)


def test_an_output_of_its_own_is_not_tied_whatever_the_config_says():
    original = marian()
    original.lm_head.weight = nn.Parameter(original.lm_head.weight.detach() + 0.1 * torch.randn(VOCAB, 32))
    ours = from_marian(original)
    assert not ours.config.tie_word_embeddings
    assert ours.config.share_encoder_decoder_embeddings
    require_same_function(ours, original)


# Ours to Marian


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"scale_embedding": False, "tie_word_embeddings": False},
        {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 50},
        {"attention_bias": False, "logits_bias": True},
        {"activation_function": "gelu", "positional_encoding": "concatenated"},
    ],
    ids=["interleaved", "untied", "separate", "without biases", "concatenated"],
)
def test_a_model_of_ours_is_the_same_function_as_marian(overrides):
    model = noisy_model(max_position_embeddings=320, **overrides)
    require_same_function(model, to_marian(model))


def noisy_model(**overrides) -> VanillaTransformerForConditionalGeneration:
    torch.manual_seed(0)
    model = VanillaTransformerForConditionalGeneration(tiny_config(**overrides)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        if model.config.logits_bias:
            model.final_logits_bias.normal_()
    return model


def test_marian_finds_the_same_beams():
    model = lively_model()
    model.generation_config.update(num_beams=4, max_length=20)
    ids, mask = pad_batch(sentences([9, 4, 12]))
    assert torch.equal(to_marian(model).generate(ids, attention_mask=mask), model.generate(ids, attention_mask=mask))


def test_marian_gets_a_limit_for_the_one_it_does_not_know(caplog):
    model = lively_model()
    model.generation_config.max_extra_tokens = 50
    assert to_marian(model).generation_config.max_length == 512
    assert "Marian knows no limit of source + n tokens" in caplog.text
    assert model.generation_config.max_extra_tokens == 50


def test_marian_keeps_a_limit_beside_the_one_it_does_not_know():
    model = lively_model()
    model.generation_config.max_extra_tokens = 50
    model.generation_config.max_length = 77
    assert to_marian(model).generation_config.max_length == 77


def test_marian_forces_the_end_only_where_ours_does():
    """Its config's own default would."""
    model = lively_model()
    assert to_marian(model).config.forced_eos_token_id is None
    model.generation_config.forced_eos_token_id = 2
    marian = to_marian(model)
    assert (marian.config.forced_eos_token_id, marian.generation_config.forced_eos_token_id) == (2, 2)


def test_the_exported_folder_is_marians(tmp_path):
    model = noisy_model(max_position_embeddings=320)
    to_marian(model).save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(loaded) is MarianMTModel
    require_same_function(model, loaded)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"positional_encoding": "tensor2tensor"}, "tensor2tensor positions"),
        ({"positional_encoding": "fairseq"}, "fairseq positions"),
        ({"positional_encoding": "learned"}, "learned positions"),
        ({"normalize_before": True}, r"LayerNorm before each sub-layer \(normalize_before\)"),
        ({"head_dim": 6}, "4 heads of d_k 6 and d_v 6 in the encoder at d_model 32"),
        ({"value_head_dim": 5}, "2 heads of d_k 16 and d_v 5 in the decoder at d_model 32"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps 1e-06"),
    ],
)
def test_what_marian_has_no_form_for_is_refused_by_name(overrides, reason):
    model = VanillaTransformerForConditionalGeneration(tiny_config(**overrides))
    with pytest.raises(ValueError, match=rf"Marian cannot represent a model with .*{reason}.* Export it to another"):
        to_marian(model)


def test_all_that_stands_in_the_way_is_said_at_once():
    model = VanillaTransformerForConditionalGeneration(tiny_config(positional_encoding="learned", head_dim=6))
    with pytest.raises(ValueError, match=r"learned positions, 4 heads .* encoder .*, 2 heads .* decoder"):
        to_marian(model)


def test_another_class_is_refused():
    with pytest.raises(TypeError, match="needs a VanillaTransformerForConditionalGeneration, got MarianMTModel"):
        to_marian(marian())
    assert TARGET_VOCAB != VOCAB  # the grid tells source and target apart
