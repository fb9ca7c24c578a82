"""Ours to CTranslate2: what its own engine computes from the exported folder."""

import json

import numpy as np
import pytest
import torch
from originals import FRENCH, marian_folder
from tiny import pad_batch, tiny_config
from transformers import AutoTokenizer

from hf_vanilla_transformer import (
    VanillaTransformerForConditionalGeneration,
    from_marian,
    to_ctranslate2,
    train_tokenizer,
)
from hf_vanilla_transformer.conversion.ctranslate2_export import translate_options

ctranslate2 = pytest.importorskip("ctranslate2", reason="CTranslate2 is not installed")

TEXTS = (*FRENCH, "la petite gare", "le chat mange les arbres et la pomme rouge de la vieille maison")
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


@pytest.mark.parametrize("separate", [False, True], ids=["one vocabulary", "two vocabularies"])
def test_an_opus_folder_with_its_sentencepiece_tokenizer(separate, tmp_path):
    folder = marian_folder(tmp_path / "opus", separate)
    model, tokenizer = from_marian(folder), AutoTokenizer.from_pretrained(folder)
    translator = ctranslate2.Translator(str(to_ctranslate2(model, tokenizer, tmp_path / "ct2")), inter_threads=1)
    # with two vocabularies this tokenizer names ids by the target's
    source = [[*tokenizer.tokenize(text), tokenizer.eos_token] for text in TEXTS]
    if not separate:
        assert source == source_of(tokenizer)

    results = translator.translate_batch(
        source,
        beam_size=1,
        min_decoding_length=1,
        max_decoding_length=20,
        suppress_sequences=translate_options(model, tokenizer)["suppress_sequences"],
    )

    model.generation_config.forced_eos_token_id = None
    expected = [tokenizer.convert_ids_to_tokens(ids) for ids in greedy(model, tokenizer)]
    assert [result.hypotheses[0] for result in results] == expected


def test_the_folder_holds_the_tokenizer_and_the_generation_settings(tokenizer, tmp_path):
    model = model_for(tokenizer)
    model.generation_config.update(
        num_beams=4, length_penalty=0.6, max_length=100, bad_words_ids=[[5], [6, 7]], suppress_tokens=[8]
    )
    folder = to_ctranslate2(model, tokenizer, tmp_path / "ct2")
    tokens = tokenizer.convert_ids_to_tokens([5, 6, 7, 8])
    assert json.loads((folder / "translate_options.json").read_text(encoding="utf-8")) == {
        **{"beam_size": 4, "length_penalty": 0.6, "min_decoding_length": 1, "max_decoding_length": 100},
        "suppress_sequences": [[tokens[0]], tokens[1:3], [tokens[3]]],
    }
    assert AutoTokenizer.from_pretrained(folder)("merci").input_ids == tokenizer("merci").input_ids
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["decoder_start_token"] == tokenizer.bos_token


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
    with pytest.raises(ValueError, match=f"CTranslate2 has no form for a model with .*{reason}"):
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
    monkeypatch.setattr("hf_vanilla_transformer.conversion.exports.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs ctranslate2\. Install them: pip install ctranslate2"):
        to_ctranslate2(model_for(tokenizer), tokenizer, tmp_path / "ct2")
