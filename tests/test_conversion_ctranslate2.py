"""Ours to CTranslate2: what its own engine computes from the exported folder."""

import json

import numpy as np
import pytest
import torch
from originals import FRENCH, fsmt_folder, marian_folder
from tiny import pad_batch, tiny_config
from transformers import AutoTokenizer

from hf_vanilla_transformer import (
    VanillaTransformerForConditionalGeneration,
    from_fsmt,
    from_marian,
    to_ctranslate2,
    train_tokenizer,
)
from hf_vanilla_transformer.conversion.ctranslate2_options import translate_options
from hf_vanilla_transformer.conversion.vocabularies import source_tokens, target_vocabulary
from hf_vanilla_transformer.tokenization import load_tokenizer

ctranslate2 = pytest.importorskip("ctranslate2", reason="CTranslate2 is not installed")

TEXTS = (*FRENCH, "la petite gare", "le chat mange les arbres et la pomme rouge de la vieille maison")
END = 2
SHAPES = {
    "ours": {},
    "fairseq, pre-norm": {"positional_encoding": "fairseq", "normalize_before": True},
    "learned, without biases": {"positional_encoding": "learned", "attention_bias": False},
    "tensor2tensor, gelu, unscaled": {
        "positional_encoding": "tensor2tensor",
        "activation_function": "gelu",
        "scale_embedding": False,
    },
    "concatenated, tanh gelu": {"positional_encoding": "concatenated", "activation_function": "gelu_new"},
    "silu, large epsilon": {"activation_function": "silu", "layer_norm_eps": 0.1},
    "quick gelu": {"activation_function": "quick_gelu"},
    "tanh": {"activation_function": "tanh"},
}
shapes = pytest.mark.parametrize("overrides", SHAPES.values(), ids=SHAPES)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(FRENCH * 2, vocab_size=300)


def model_for(tokenizer, **overrides) -> VanillaTransformerForConditionalGeneration:
    """A model whose greedy translations vary and end."""
    torch.manual_seed(1)
    fields = {"vocab_size": len(tokenizer), "tie_word_embeddings": False, "logits_bias": True, **overrides}
    model = VanillaTransformerForConditionalGeneration(tiny_config(**fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        embeddings = model.model.decoder.embed_tokens.weight
        model.lm_head.weight.copy_(embeddings.roll(7, 0) * 3)
        model.final_logits_bias.normal_(std=0.1)
        model.final_logits_bias[:, model.config.eos_token_id] += 2
    return model


def source_of(tokenizer) -> list[list[str]]:
    return [tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids) for text in TEXTS]


def greedy(model, tokenizer, steps=20) -> list[list[int]]:
    """Ids up to the end, which is left out."""
    batch = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    ids = model.generate(**batch, num_beams=1, do_sample=False, min_new_tokens=1, max_new_tokens=steps)
    rows = ids[:, 1:].tolist()
    end = model.config.eos_token_id
    return [row[: row.index(end)] if end in row else row for row in rows]


@shapes
def test_greedy_sequences_are_the_same(overrides, tokenizer, tmp_path):
    model = model_for(tokenizer, **overrides)
    translator = ctranslate2.Translator(str(to_ctranslate2(model, tokenizer, tmp_path / "ct2")), inter_threads=1)

    results = translator.translate_batch(
        source_of(tokenizer), beam_size=1, min_decoding_length=1, max_decoding_length=20
    )

    expected = greedy(model, tokenizer)
    assert [tokenizer.convert_tokens_to_ids(result.hypotheses[0]) for result in results] == expected
    assert len({token for row in expected for token in row}) > 4


@shapes
def test_log_probabilities_are_the_same(overrides, tokenizer, tmp_path):
    model = model_for(tokenizer, **overrides)
    translator = ctranslate2.Translator(str(to_ctranslate2(model, tokenizer, tmp_path / "ct2")), inter_threads=1)
    target_ids = [ids[:-1] for ids in tokenizer(list(reversed(TEXTS))).input_ids]

    scores = translator.score_batch(source_of(tokenizer), [tokenizer.convert_ids_to_tokens(ids) for ids in target_ids])

    source, mask = pad_batch(tokenizer(list(TEXTS)).input_ids, value=tokenizer.pad_token_id)
    labels, _ = pad_batch([[*ids, tokenizer.eos_token_id] for ids in target_ids], value=-100)
    with torch.no_grad():
        log_probabilities = model(input_ids=source, attention_mask=mask, labels=labels).logits.log_softmax(-1)
    for row, label, score in zip(log_probabilities, labels, scores, strict=True):
        real = label[label != -100]
        expected = row[: len(real)].gather(1, real[:, None])[:, 0]
        np.testing.assert_allclose(score.log_probs, expected.numpy(), atol=1e-4, rtol=0)


def test_int8_translates_and_is_smaller(tokenizer, tmp_path):
    model = model_for(tokenizer)
    full = to_ctranslate2(model, tokenizer, tmp_path / "float32")
    small = to_ctranslate2(model, tokenizer, tmp_path / "int8", quantization="int8")
    translator = ctranslate2.Translator(str(small), compute_type="int8", inter_threads=1)
    options = json.loads((small / "translate_options.json").read_text(encoding="utf-8"))
    hypotheses = [result.hypotheses[0] for result in translator.translate_batch(source_of(tokenizer), **options)]
    assert all(hypotheses)  # an empty one is not allowed
    assert (small / "model.bin").stat().st_size < 0.6 * (full / "model.bin").stat().st_size


def test_an_int8_export_leaves_the_model_as_it_is(tokenizer, tmp_path):
    model = model_for(tokenizer)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    to_ctranslate2(model, tokenizer, tmp_path / "int8", quantization="int8")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


CONVERTED = {
    "one vocabulary": (marian_folder, {}, from_marian),
    "Marian's two": (marian_folder, {"separate": True}, from_marian),
    "FSMT's two": (fsmt_folder, {}, from_fsmt),
}


@pytest.mark.parametrize(("make", "options", "convert"), CONVERTED.values(), ids=CONVERTED)
def test_the_tokens_of_a_source_are_named_by_its_own_vocabulary(make, options, convert, tmp_path):
    folder = make(tmp_path / "original", **options)
    model, tokenizer = convert(folder), load_tokenizer(folder)
    translator = ctranslate2.Translator(str(to_ctranslate2(model, tokenizer, tmp_path / "ct2")), inter_threads=1)

    results = translator.translate_batch(
        [source_tokens(tokenizer, text) for text in TEXTS],
        **{**translate_options(model, tokenizer), "beam_size": 1, "max_decoding_length": 20},
    )

    model.generation_config.forced_eos_token_id = None
    tokens = target_vocabulary(tokenizer)
    expected = [[tokens[index] for index in ids] for ids in greedy(model, tokenizer)]
    assert [result.hypotheses[0] for result in results] == expected
    assert len({token for row in expected for token in row}) > 4


DECODING = {
    "longest with the start": {"max_length": 6},
    "longest without": {"max_new_tokens": 5},
    "shortest with the start": {"min_length": 8, "min_new_tokens": None},
    "shortest without": {"min_new_tokens": 7},
    "shortest, without the start if there are both": {"min_new_tokens": 3, "min_length": 8},
    "repetition": {"repetition_penalty": 1.5},
    "n-grams": {"no_repeat_ngram_size": 2},
    "bad words, one of them the end": {"bad_words_ids": [[END], [13], [132, 124]]},
    "several ends": {"eos_token_id": [END, 13]},
    "another end and start": {"eos_token_id": 13, "decoder_start_token_id": 50},
}


@pytest.mark.parametrize("settings", DECODING.values(), ids=DECODING)
def test_the_options_decode_as_generate_does(settings, tokenizer, tmp_path):
    model = model_for(tokenizer)
    with torch.no_grad():
        model.final_logits_bias[:, END] += 6
    model.generation_config.update(num_beams=1, min_new_tokens=1, max_length=20)
    free = in_words(model, tokenizer)
    model.generation_config.update(**{"max_length": 20, **settings})
    folder = to_ctranslate2(model, tokenizer, tmp_path / "ct2")
    options = json.loads((folder / "translate_options.json").read_text(encoding="utf-8"))

    results = ctranslate2.Translator(str(folder), inter_threads=1).translate_batch(source_of(tokenizer), **options)

    expected = in_words(model, tokenizer)
    assert [result.hypotheses[0] for result in results] == expected
    assert expected != free


def in_words(model, tokenizer) -> list[list[str]]:
    """What `generate` says by the model's own settings, without the end."""
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    rows = []
    for text in TEXTS:
        ids = model.generate(torch.tensor([tokenizer(text).input_ids]))[0, 1:].tolist()
        rows.append(tokenizer.convert_ids_to_tokens(ids[:-1] if ids[-1] in ends else ids))
    return rows


def test_settings_that_are_not_carried_over_are_named(tokenizer, caplog):
    model = model_for(tokenizer)
    translate_options(model, tokenizer)
    assert not caplog.text
    model.generation_config.update(forced_bos_token_id=5, begin_suppress_tokens=[6], early_stopping=True, max_length=9)
    model.generation_config.max_extra_tokens = 50
    translate_options(model, tokenizer)
    assert (
        "CTranslate2 has no argument for begin_suppress_tokens, forced_bos_token_id, max_extra_tokens, which"
        in caplog.text
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"bad_words_ids": [[5, 300]]},
        {"suppress_tokens": [-1]},
        {"eos_token_id": [2, 300]},
        {"decoder_start_token_id": 300},
    ],
)
def test_tokens_outside_the_vocabulary_are_refused(settings, tokenizer, tmp_path):
    model = model_for(tokenizer)
    model.generation_config.update(**settings)
    message = (
        rf"{next(iter(settings))} must be among the 300 tokens of the target's vocabulary, but there is (300|-1)\."
    )
    with pytest.raises(ValueError, match=message):
        to_ctranslate2(model, tokenizer, tmp_path / "deep" / "ct2")
    assert not (tmp_path / "deep").exists()


def test_embeddings_beyond_the_tokenizer_are_named_unused(tokenizer, tmp_path):
    model = model_for(tokenizer, vocab_size=len(tokenizer) + 2)
    folder = to_ctranslate2(model, tokenizer, tmp_path / "ct2")
    vocabulary = json.loads((folder / "shared_vocabulary.json").read_text(encoding="utf-8"))
    assert vocabulary[-3:] == [tokenizer.convert_ids_to_tokens(299), "<unused 300>", "<unused 301>"]


def test_nothing_is_left_where_saving_fails(tokenizer, tmp_path, monkeypatch):
    def full(*args: object, **kwargs: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(type(tokenizer), "save_pretrained", full)
    with pytest.raises(OSError, match=r"The disk of .* is full"):
        to_ctranslate2(model_for(tokenizer), tokenizer, tmp_path / "deep" / "er" / "ct2")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_holds_the_tokenizer_and_the_generation_settings(tokenizer, tmp_path):
    model = model_for(tokenizer)
    model.generation_config.update(
        num_beams=4, length_penalty=0.6, max_length=100, bad_words_ids=[[5], [6, 7]], suppress_tokens=[8]
    )
    folder = to_ctranslate2(model, tokenizer, tmp_path / "ct2")
    tokens = tokenizer.convert_ids_to_tokens([5, 6, 7, 8])
    assert json.loads((folder / "translate_options.json").read_text(encoding="utf-8")) == {
        **{"beam_size": 4, "length_penalty": 0.6, "min_decoding_length": 1, "max_decoding_length": 99},
        "suppress_sequences": [[tokens[0]], tokens[1:3], [tokens[3]]],
    }
    assert AutoTokenizer.from_pretrained(folder)("merci").input_ids == tokenizer("merci").input_ids
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["decoder_start_token"] == tokenizer.bos_token
    assert config["layer_norm_epsilon"] == model.config.layer_norm_eps


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"activation_function": "leaky_relu"}, "the activation leaky_relu"),
        ({"head_dim": 6}, "4 heads of d_k 6 and d_v 6 in the encoder at d_model 32"),
        ({"eos_token_id": None}, "no eos_token_id"),
    ],
)
def test_what_ctranslate2_has_no_form_for_is_refused_by_name(overrides, reason, tokenizer, tmp_path):
    model = VanillaTransformerForConditionalGeneration(tiny_config(vocab_size=len(tokenizer), **overrides))
    with pytest.raises(ValueError, match=f"CTranslate2 cannot represent a model with .*{reason}"):
        to_ctranslate2(model, tokenizer, tmp_path / "ct2")
    assert not (tmp_path / "ct2").exists()


def test_an_unknown_quantization_is_refused(tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"`quantization` must be one of float32, int8, .*, got 'int4'"):
        to_ctranslate2(model_for(tokenizer), tokenizer, tmp_path / "ct2", quantization="int4")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tokenizer, tmp_path):
    model = VanillaTransformerForConditionalGeneration(tiny_config())
    with pytest.raises(ValueError, match=r"The tokenizer has \d+ source tokens, but the model has embeddings for 40"):
        to_ctranslate2(model, tokenizer, tmp_path / "ct2")


def test_without_the_package_the_error_says_what_to_install(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_vanilla_transformer.conversion.formats.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs ctranslate2\. Install them: pip install ctranslate2"):
        to_ctranslate2(model_for(tokenizer), tokenizer, tmp_path / "ct2")
