"""The config: the paper's table 3, every check, and the round trip through a file."""

import dataclasses
import json
import random

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from peft import LoraConfig, get_peft_model
from tiny import SEPARATE_VOCABULARIES, tiny_config
from transformers import AutoConfig, MarianConfig, MarianMTModel, T5Config

from hf_vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration
from hf_vanilla_transformer.model.configuration_vanilla_transformer import is_ours, longest_sentence

# Rows of table 3: what differs from base, and parameters in millions as printed there
TABLE_3 = {
    "base": ({}, 65),
    "A: 1 head, d_k = d_v = 512": ({"encoder_attention_heads": 1, "decoder_attention_heads": 1}, 65),
    "A: 4 heads": ({"encoder_attention_heads": 4, "decoder_attention_heads": 4}, 65),
    "A: 16 heads": ({"encoder_attention_heads": 16, "decoder_attention_heads": 16}, 65),
    "A: 32 heads": ({"encoder_attention_heads": 32, "decoder_attention_heads": 32}, 65),
    "B: d_k = 16": ({"head_dim": 16, "value_head_dim": 64}, 58),
    "B: d_k = 32": ({"head_dim": 32, "value_head_dim": 64}, 60),
    "C: N = 2": ({"encoder_layers": 2, "decoder_layers": 2}, 36),
    "C: N = 4": ({"encoder_layers": 4, "decoder_layers": 4}, 50),
    "C: N = 8": ({"encoder_layers": 8, "decoder_layers": 8}, 80),
    "C: d_model = 256": ({"d_model": 256, "head_dim": 32}, 28),
    "C: d_model = 1024": ({"d_model": 1024, "head_dim": 128}, 168),
    "C: d_ff = 1024": ({"encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024}, 53),
    "C: d_ff = 4096": ({"encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096}, 90),
    "D: no dropout": ({"dropout": 0.0}, 65),
    "D: dropout 0.2": ({"dropout": 0.2}, 65),
    "D: no label smoothing": ({"label_smoothing": 0.0}, 65),
    "D: label smoothing 0.2": ({"label_smoothing": 0.2}, 65),
    "E: learned positions": ({"positional_encoding": "learned"}, 65),
    "big": (
        {
            "d_model": 1024,
            "encoder_ffn_dim": 4096,
            "decoder_ffn_dim": 4096,
            "encoder_attention_heads": 16,
            "decoder_attention_heads": 16,
            "dropout": 0.3,
        },
        213,
    ),
}


@pytest.mark.parametrize("row", TABLE_3)
def test_every_row_of_table_3_has_the_papers_number_of_parameters(row):
    """Within 4.5 million: the paper does not state its exact vocabulary."""
    fields, millions = TABLE_3[row]

    with torch.device("meta"):
        model = VanillaTransformerForConditionalGeneration(VanillaTransformerConfig(**fields))

    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(millions * 1e6, abs=4.5e6)


def test_the_default_is_the_papers_base_model():
    config = VanillaTransformerConfig()

    assert (config.d_model, config.encoder_layers, config.decoder_layers) == (512, 6, 6)
    assert (config.encoder_attention_heads, config.decoder_attention_heads) == (8, 8)
    assert (config.encoder_ffn_dim, config.decoder_ffn_dim) == (2048, 2048)
    assert (config.dropout, config.attention_dropout, config.activation_dropout) == (0.1, 0.0, 0.0)
    assert (config.vocab_size, config.decoder_vocab_size) == (37000, 37000)
    assert (config.positional_encoding, config.normalize_before) == ("interleaved", False)
    assert config.share_encoder_decoder_embeddings
    assert config.tie_word_embeddings
    assert config.scale_embedding


def test_the_default_config_is_made_in_silence(caplog, capsys):
    VanillaTransformerConfig()

    assert not caplog.records
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"d_model": 0}, "`d_model` must be at least 1, got 0"),
        ({"encoder_layers": 0}, "`encoder_layers` must be at least 1, got 0"),
        ({"head_dim": -1}, "`head_dim` must be at least 1, got -1"),
        ({"max_position_embeddings": 0}, "`max_position_embeddings` must be at least 1, got 0"),
        ({"dropout": 1.0}, r"`dropout` must be at least 0 and below 1, got 1.0"),
        ({"label_smoothing": -0.1}, "`label_smoothing` must be at least 0 and below 1, got -0.1"),
        ({"d_model": 30}, r"`d_model` \(30\) must be a multiple of `encoder_attention_heads` \(4\)"),
        ({"decoder_attention_heads": 5}, r"`d_model` \(32\) must be a multiple of `decoder_attention_heads` \(5\)"),
        ({"decoder_vocab_size": 50}, r"`vocab_size` 40, `decoder_vocab_size` 50\) cannot share one embedding matrix"),
        ({"d_model": 33, "head_dim": 8}, "need an even `d_model`, got 33"),
        ({"positional_encoding": "fairseq", "pad_token_id": None}, "needs a `pad_token_id`"),
        ({"pad_token_id": 40}, r"`pad_token_id` \(40\) must be a token of both vocabularies, at least 0 and below 40"),
        ({"activation_function": "rellu"}, r"`activation_function` must be one of .*relu.*, got 'rellu'"),
        ({"positional_encoding": "rotary"}, "positional_encoding"),
        ({"dropout": "0.1"}, "dropout"),
        ({"d_model": 32.5}, "d_model"),
        ({"layer_norm_eps": -1.0}, "`layer_norm_eps` must be above 0 and at most 1, got -1.0"),
        ({"encoder_layers": 1_000_000}, "`encoder_layers` must be at most 1,000, got 1000000"),
        ({"eos_token_id": [2, 40]}, "`eos_token_id` must be a target token, at least 0 and below 40, got 40"),
        ({"num_labels": 10**9}, "`num_labels` must be at least 0 and at most 10,000, got 1000000000"),
        (
            {"d_model": 2**16, "encoder_ffn_dim": 2**20, "encoder_layers": 1000},
            r"These sizes make [\d,]{16,} weights; a model may have at most 1,000,000,000,000",
        ),
    ],
)
def test_each_impossible_config_is_refused_with_a_reason(fields, message):
    with pytest.raises((ValueError, TypeError, StrictDataclassError), match=message):
        tiny_config(**fields)


NUMBERS = {
    field.name: str(field.type)
    for field in dataclasses.fields(VanillaTransformerConfig)
    if any(kind in str(field.type).replace("|", " ").split() for kind in ("int", "float", "<class 'int'>"))
    or field.type in (int, float)
}
NO_NUMBERS = {"id2label", "label2id"}
FAR = [float("nan"), float("inf"), -float("inf"), -1, -0.5, -(10**30), 10**10, 1e10, 10**30, 1e30, 10**400]


@pytest.mark.parametrize("name", sorted(NUMBERS.keys() - NO_NUMBERS))
def test_every_number_of_the_config_has_its_range(name):
    """NaN, infinities, what is negative and what is too large, of either kind of number."""
    for value in FAR:
        with pytest.raises((ValueError, TypeError, StrictDataclassError), match=name):
            tiny_config(**{name: value})


def test_the_walk_over_all_fields_misses_none():
    others = {field.name for field in dataclasses.fields(VanillaTransformerConfig)} - NUMBERS.keys()
    assert NUMBERS.keys() >= {"layer_norm_eps", "dropout", "eos_token_id", "head_dim", "chunk_size_feed_forward"}
    config = tiny_config()
    for name in others:  # truth values and names
        assert not isinstance(getattr(config, name), (int, float)) or isinstance(getattr(config, name), bool), name


@pytest.mark.parametrize("seed", range(4))
def test_the_count_of_weights_is_that_of_the_model(seed):
    chance = random.Random(seed)
    for _ in range(5):
        flags = ("tie_word_embeddings", "attention_bias", "logits_bias", "normalize_before")
        fields = {name: chance.random() < 0.5 for name in flags}
        fields |= {"positional_encoding": chance.choice(["learned", "interleaved"])}
        fields |= {"head_dim": chance.choice([None, 6]), "value_head_dim": chance.choice([None, 10])}
        config = tiny_config(**fields, **chance.choice([{}, SEPARATE_VOCABULARIES]))
        with torch.device("meta"):
            model = VanillaTransformerForConditionalGeneration(config)
        saved = model.state_dict(keep_vars=True)
        assert config.weight_count == sum(tensor.numel() for tensor in {id(t): t for t in saved.values()}.values())


def test_learned_positions_take_an_odd_width():
    assert tiny_config(d_model=33, head_dim=8, positional_encoding="learned").d_model == 33


def test_a_config_comes_back_from_its_file_unchanged(tmp_path):
    config = tiny_config(
        head_dim=6,
        value_head_dim=10,
        decoder_vocab_size=50,
        share_encoder_decoder_embeddings=False,
        positional_encoding="fairseq",
        eos_token_id=[2, 3],
        label_smoothing=0.1,
    )

    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)

    assert type(loaded) is VanillaTransformerConfig
    assert {**loaded.to_dict(), "_name_or_path": ""} == {**config.to_dict(), "_name_or_path": ""}


def test_caches_see_the_sizes_of_the_decoder():
    """`transformers` sizes caches by `get_text_config(decoder=True)`, which drops the prefix of `decoder_*`."""
    config = tiny_config(decoder_vocab_size=50, share_encoder_decoder_embeddings=False)

    decoder = config.get_text_config(decoder=True)

    assert (decoder.num_hidden_layers, decoder.num_attention_heads, decoder.vocab_size) == (2, 2, 50)
    assert (config.num_hidden_layers, config.num_attention_heads, config.hidden_size) == (3, 4, 32)


def test_one_vocabulary_keeps_one_size():
    """Tools that shrink a config for a test, or grow it, set `vocab_size` alone."""
    shared, separate = tiny_config(), tiny_config(**SEPARATE_VOCABULARIES)
    shared.vocab_size = separate.vocab_size = 77

    assert (shared.decoder_vocab_size, separate.decoder_vocab_size) == (77, 50)
    assert type(shared).from_dict(shared.to_dict()).decoder_vocab_size == 77


def test_head_dim_reads_as_a_number_and_is_saved_as_given(tmp_path):
    """Other tools read `getattr(config, "head_dim", d_model // heads)`; None would be no width."""
    config = VanillaTransformerConfig(d_model=64, encoder_attention_heads=2, decoder_attention_heads=4)
    assert config.head_dim == 16
    assert config.head_widths("encoder") == (2, 32, 32)
    assert config.head_widths("decoder") == (4, 16, 16)
    assert config.get_text_config(decoder=True).head_dim == 16
    assert config.to_dict()["head_dim"] is None

    config.d_model = 128
    assert config.head_dim == 32
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8")).get("head_dim") is None
    loaded = VanillaTransformerConfig.from_pretrained(tmp_path)
    loaded.decoder_attention_heads = 8
    assert loaded.head_dim == 16
    loaded.head_dim = 7
    assert loaded.head_dim == loaded.to_dict()["head_dim"] == loaded.head_widths("encoder")[1] == 7


@pytest.mark.parametrize(
    ("positions", "longest"),
    [({}, None), ({"positional_encoding": "fairseq"}, None), ({"positional_encoding": "learned"}, 1024)],
)
def test_the_config_knows_how_long_a_sentence_may_be(positions, longest):
    config = VanillaTransformerConfig(**positions)
    assert config.longest_sentence == longest_sentence(config) == longest
    assert longest_sentence(MarianConfig(max_position_embeddings=77)) == 77
    assert longest_sentence(T5Config()) is None


def test_a_model_of_ours_is_known_whatever_wraps_it():
    model = VanillaTransformerForConditionalGeneration(tiny_config())
    assert is_ours(model)
    assert is_ours(get_peft_model(model, LoraConfig(target_modules=["q_proj"])))
    assert not is_ours(torch.nn.Linear(2, 2))
    marian = {"vocab_size": 20, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "pad_token_id": 0}
    assert not is_ours(MarianMTModel(MarianConfig(**marian)))
