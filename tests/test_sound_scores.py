"""A score is a number, and one of a hypothesis: weights that overflow are an error that names the sentence."""

import math
import random
from contextlib import suppress

import pytest
import torch
from model_folders import save_model_folder
from safetensors.torch import load_file, save_file
from tiny import EOS, lively_model, pad_batch, sentences
from transformers import MarianConfig, MarianMTModel, pipeline

from hf_vanilla_transformer import Translator
from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.model import checked_folders
from hf_vanilla_transformer.model.sound_scores import NoScoreError, is_score
from hf_vanilla_transformer.tokenization import load_tokenizer
from hf_vanilla_transformer.translation import target_log_probabilities

NONE = r"The model has no translation for {}: every hypothesis has a score of \S+, which is not valid"
TEXTS = ["merci", "le petit chat dort", "", "la petite maison est vieille"]
LARGE = 1e38


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder):
    return load_tokenizer(tiny_model_folder)


def model_for(tokenizer, **overrides):
    model = lively_model(vocab_size=len(tokenizer), **overrides)
    model.generation_config.update(num_beams=4, max_length=None)
    model.generation_config.max_extra_tokens = 6
    return model


def marian_for(tokenizer, seed=0):
    torch.manual_seed(seed)
    sizes = {"d_model": 32, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    sizes |= {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    ids = {"pad_token_id": 0, "eos_token_id": EOS, "decoder_start_token_id": 0, "forced_eos_token_id": None}
    model = MarianMTModel(MarianConfig(vocab_size=len(tokenizer), **sizes, **ids)).eval()
    model.generation_config.update(num_beams=4, max_new_tokens=6, bad_words_ids=None)
    return model


def overflow(model, name: str) -> None:
    """Make one matrix so large that what it computes is no number; every weight stays finite."""
    with torch.no_grad():
        weight = model.get_parameter(name)
        weight.copy_(torch.where(weight < 0, -LARGE, LARGE))


WAYS = [{"num_beams": 1}, {"num_beams": 3}, {"num_beams": 3, "n_best": 3}, {"num_beams": 3, "early_stopping": True}]


@pytest.mark.parametrize("kind", ["ours", "marian"])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_overflows_is_an_error_that_names_the_sentence(tokenizer, kind, way):
    model = model_for(tokenizer) if kind == "ours" else marian_for(tokenizer)
    overflow(model, "model.decoder.layers.0.encoder_attn.k_proj.weight")
    with pytest.raises(ValueError, match=NONE.format(r"sentences\[[013]\]")):
        Translator(model, tokenizer).translate(TEXTS, **way)
    piped = pipeline("translate", model=model, tokenizer=tokenizer, device="cpu")
    for with_scores in (True, False):
        with pytest.raises(ValueError, match=NONE.format(r"sentence [013]")):
            piped(TEXTS, return_scores=with_scores, **way)
    with pytest.raises(ValueError, match=r"no probability for targets\[0\]: its logarithm is nan, which is not valid"):
        target_log_probabilities(model, tokenizer, TEXTS, TEXTS)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("returned", [1, 3])
def test_generate_on_the_fast_path_refuses_it_by_its_row(num_beams, returned):
    model = lively_model()
    with torch.no_grad():
        model.model.encoder.embed_tokens.weight[7] = LARGE  # of the second sentence alone
    ids, mask = pad_batch([[5, 6, EOS], [5, 7, 9, EOS], [8, EOS]])
    settings = {"num_beams": num_beams, "num_return_sequences": min(returned, num_beams), "max_new_tokens": 5}
    model.generate(ids[:1], attention_mask=mask[:1], **settings)
    with pytest.raises(ValueError, match=NONE.format("row 1 of the batch")):
        model.generate(ids, attention_mask=mask, **settings)


def test_one_hypothesis_that_overflows_is_enough():
    """A beam that is no number ended the search of its sentence, and another was given as the best."""
    model = lively_model(share_encoder_decoder_embeddings=False)
    ids, mask = pad_batch(sentences([4, 6]))
    settings = {"num_beams": 4, "max_new_tokens": 8, "return_dict_in_generate": True}
    found = model.generate(ids, attention_mask=mask, num_return_sequences=4, **settings)
    others = set(found.sequences[:, 1].tolist()) - {found.sequences[0, 1].item(), EOS}
    with torch.no_grad():
        for token in others:  # first tokens of worse hypotheses
            model.model.decoder.embed_tokens.weight[token] = LARGE
    assert others
    with pytest.raises(ValueError, match=NONE.format("row [01] of the batch")):
        model.generate(ids, attention_mask=mask, **settings)


@pytest.mark.parametrize("seed", range(8))
def test_weights_scaled_at_random_give_scores_or_an_error(tokenizer, seed):
    """Never a hypothesis whose score is none: by either search, greedy or not, with any penalty."""
    chance = random.Random(seed)
    model = (marian_for if seed % 4 == 3 else model_for)(tokenizer, seed=seed)
    names = [name for name, parameter in model.named_parameters() if parameter.dim() == 2]
    with torch.no_grad():
        for name in chance.sample(names, 2):
            model.get_parameter(name).mul_(10.0 ** chance.choice([5, 20, 30, 37]))
    for way in WAYS:
        penalty = chance.choice([{}, {"length_penalty": chance.choice([-1.0, 0.0, 2.5, 10.0])}])
        with suppress(NoScoreError):
            found = Translator(model, tokenizer).translate(TEXTS, **way, **penalty)
            scores = [hypothesis.score for each in found for hypothesis in each.hypotheses]
            assert all(is_score(score) and score <= 1e-3 for score in scores)


def test_hypotheses_that_there_are_none_of_are_left_out(tokenizer):
    """One continuation so certain that the beam fills up with copies of it, scored with a billion less."""
    model = model_for(tokenizer)
    with torch.no_grad():
        model.lm_head.weight.mul_(1e36)
    for each in Translator(model, tokenizer).translate(TEXTS, n_best=3, length_penalty=1.0):
        assert len({hypothesis.text for hypothesis in each.hypotheses}) == len(each.hypotheses)
        assert all(hypothesis.score > -1e6 for hypothesis in each.hypotheses)


@pytest.mark.parametrize("settings", [{"bad_words_ids": [[EOS], [9], [10]]}, {"suppress_tokens": [9, EOS]}])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_token_may_be_forbidden(tokenizer, num_beams, settings):
    for model in (model_for(tokenizer), marian_for(tokenizer)):
        found = Translator(model, tokenizer).translate(TEXTS, num_beams=num_beams, **settings)
        assert all(is_score(each.score) for each in found)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_model_that_overflows_in_half_precision_alone_says_so(tokenizer, num_beams):
    model = model_for(tokenizer)
    with torch.no_grad():
        model.model.decoder.layers[0].fc1.weight.mul_(1e4)
        model.model.decoder.layers[0].fc2.weight.mul_(1e3)
    Translator(model, tokenizer).translate(TEXTS, num_beams=num_beams)
    with pytest.raises(
        ValueError, match=r"which is not valid\. float16 can overflow where float32 does not: try float32\."
    ):
        Translator(model.half(), tokenizer).translate(TEXTS, num_beams=num_beams)


@pytest.fixture
def overflowing(tmp_path, sentences, monkeypatch):
    """A model that loads: its weights are looked at, too, which alone would not see every one that overflows."""
    monkeypatch.setattr(checked_folders, "LARGEST_WEIGHT", math.inf)
    folder = save_model_folder(tmp_path / "model", sentences * 2)
    (folder / "manifest.json").unlink(missing_ok=True)
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = "model.decoder.layers.0.encoder_attn.k_proj.weight"
    weights[name] = torch.where(weights[name] < 0, -LARGE, LARGE)
    save_file(weights, path, metadata={"format": "pt"})
    return folder


def test_no_command_gives_a_score_that_is_none(overflowing, tmp_path, capsys):
    """Nothing is written, no ledger begun, and the exit code says that it failed."""
    text, output = tmp_path / "text", tmp_path / "output"
    text.write_text("\nmerci\n", encoding="utf-8")
    common = ["--model", str(overflowing), "--device", "cpu"]
    for beams in ("1", "4"):
        for shape in ("text", "jsonl"):
            command = ["translate", *common, "--input", str(text), "--output", str(output), "--format", shape]
            assert main([*command, "--num_beams", beams]) == 1
            assert "no translation for line 2: every hypothesis has a score of nan" in capsys.readouterr().err
    text.write_text("merci\n", encoding="utf-8")
    reference = tmp_path / "reference"
    reference.write_text("thanks\n", encoding="utf-8")
    assert main(["evaluate", *common, "--source", str(text), "--reference", str(reference)]) == 1
    assert "no translation for line 1" in capsys.readouterr().err
    assert main(["score", *common, "--source", str(text), "--target", str(text), "--output", str(output)]) == 1
    assert "no probability for line 1 of the target: its logarithm is nan" in capsys.readouterr().err
    assert not output.exists()
    assert not (overflowing / "score_ledger.json").exists()
    assert not (overflowing / "evaluation").exists()
