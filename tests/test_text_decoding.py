"""Text in, text out, once: what `Translator` and the pipeline share, and what neither may depend on."""

import threading

import pytest
import torch
from tiny import lively_model, prepared_in_bf16, tiny_model
from transformers import GenerationConfig, MarianConfig, MarianMTModel, pipeline

from hf_vanilla_transformer import Translator
from hf_vanilla_transformer.model import fast_path, text_decoding
from hf_vanilla_transformer.model.step_decoder import StepDecoder
from hf_vanilla_transformer.tokenization import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder):
    return load_tokenizer(tiny_model_folder)


def model_for(tokenizer, **overrides):
    model = lively_model(vocab_size=len(tokenizer), **overrides)
    model.generation_config.num_beams = 4
    model.generation_config.max_extra_tokens = 6
    return model


def both(model, tokenizer, texts, **settings):
    """What a translator and a pipeline give, as (text, score) of each hypothesis."""
    n_best = settings.pop("n_best", 1)
    translated = Translator(model, tokenizer).translate(texts, n_best=n_best, **settings)
    piped = pipeline("translate", model=model, tokenizer=tokenizer, device="cpu")(
        texts, n_best=n_best, return_scores=True, **settings
    )
    piped = piped if n_best > 1 else [[one] for one in piped]
    return (
        [[(h.text, h.score) for h in translation.hypotheses] for translation in translated],
        [[(h["translation_text"], h["score"]) for h in found] for found in piped],
    )


def require_same(one, other):
    assert [[text for text, _ in row] for row in one] == [[text for text, _ in row] for row in other]
    for row, theirs in zip(one, other, strict=True):
        assert [score for _, score in row] == pytest.approx([score for _, score in theirs], abs=1e-4)


@pytest.mark.parametrize(
    "settings", [{"num_beams": 1}, {"num_beams": 4, "n_best": 3}, {"num_beams": 2, "use_cache": False}]
)
@pytest.mark.parametrize("penalty", [{"length_penalty": 0.4}, {"gnmt_length_penalty": 0.6}])
def test_translator_and_pipeline_give_the_same(tokenizer, sentences, settings, penalty):
    if "use_cache" in settings and "gnmt_length_penalty" in penalty:
        pytest.skip("refused, see test_call_settings.py")
    texts = [*sentences, "", " ".join(sentences)]
    require_same(*both(model_for(tokenizer), tokenizer, texts, **settings, **penalty))


@pytest.mark.parametrize("change", ["fast", "hook", "marian"])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_sentence_does_not_depend_on_its_neighbours(tokenizer, sentences, change, num_beams):
    """In float32, whoever decodes, a forced end included; several workers or one."""
    if change == "marian":
        torch.manual_seed(0)
        sizes = {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
        sizes |= {f"{side}_ffn_dim": 16 for side in ("encoder", "decoder")}
        ids = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0, "forced_eos_token_id": 2}
        model = MarianMTModel(MarianConfig(vocab_size=len(tokenizer), d_model=16, **sizes, **ids)).eval()
    else:
        model = model_for(tokenizer)
        model.generation_config.forced_eos_token_id = 2
        if change == "hook":
            model.lm_head.register_forward_hook(lambda module, args, output: output * 1.3)
    translator = Translator(model, tokenizer)
    settings = {"num_beams": num_beams, "n_best": num_beams, "max_extra_tokens": 4, "early_stopping": "never"}
    alone = [translator.translate([text], **settings)[0] for text in sentences]
    for batch_tokens in (20, 4096):
        together = translator.translate(list(sentences), batch_tokens=batch_tokens, **settings)
        require_same(
            *([[(h.text, h.score) for h in t.hypotheses] for t in translations] for translations in (together, alone))
        )
        assert all(t.finished for t in together)  # each made to end at its own limit


def test_fewer_hypotheses_than_asked_for_are_given_as_they_are(tokenizer):
    """A target of one token that may only be its end has one hypothesis; `transformers` fills up with -1e9."""
    model = model_for(tokenizer)
    with torch.no_grad():
        model.final_logits_bias[:, 2] = 40.0
    settings = {"num_beams": 4, "n_best": 4, "max_new_tokens": 1, "early_stopping": True}
    allowed = [[2], [5]]
    forbidden = {"suppress_tokens": [i for i in range(len(tokenizer)) if [i] not in allowed]}
    for found in both(model, tokenizer, ["merci", "la maison"], **settings, **forbidden):
        assert [len(row) for row in found] == [2, 2]
        assert all(-1e3 < score <= 0 for row in found for _, score in row)


@pytest.mark.parametrize("fast", [True, False])
def test_a_sentence_without_any_translation_is_an_error_that_names_it(tokenizer, fast):
    model = model_for(tokenizer)
    everything = {"suppress_tokens": list(range(len(tokenizer))), "num_beams": 2, "use_cache": fast}
    with pytest.raises(ValueError, match=r"no translation for line 8: every hypothesis has a score of"):
        Translator(model, tokenizer).translate(["", "merci"], first_line=7, **everything)
    with torch.no_grad():
        model.lm_head.weight[:] = float("nan")
    with pytest.raises(ValueError, match=r"no translation for sentences\[0\]: .* score of nan"):
        Translator(model, tokenizer).translate(["merci"], num_beams=1, use_cache=fast)


@pytest.mark.parametrize("obstacle", [None, "hook", "cache"])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_batch_is_decoded_once_whoever_decodes_it(tokenizer, obstacle, num_beams, monkeypatch):
    """It used to be decoded a second time for its scores where it was left to `transformers`."""
    model, calls = model_for(tokenizer), []
    settings = {"num_beams": num_beams}
    if obstacle == "hook":
        model.lm_head.register_forward_hook(lambda *_: None)
    elif obstacle == "cache":
        settings["use_cache"] = False
    run = fast_path.Call.run
    monkeypatch.setattr(fast_path.Call, "run", lambda self, *given: calls.append(1) or run(self, *given))
    passes = []
    encoder = type(model.model.encoder)
    forward, encode = encoder.forward, fast_path.PackedModel.encode
    if obstacle:
        model.model.encoder.register_forward_hook(lambda *_: passes.append(1))
    monkeypatch.setattr(fast_path.PackedModel, "encode", lambda *given: passes.append(1) or encode(*given))
    for translate in (
        lambda: Translator(model, tokenizer).translate(["merci", "la maison"], **settings),
        lambda: pipeline("translate", model=model, tokenizer=tokenizer, device="cpu")(
            ["merci", "la maison"], return_scores=True, **settings
        ),
    ):
        calls.clear()
        passes.clear()
        translate()
        assert (len(calls), len(passes)) == (1, 1)
    assert encoder.forward is forward


def test_threads_that_share_a_model_do_not_see_each_other(tokenizer, sentences):
    """Eight at once, some in beams and some greedily, some left to `transformers`, with dropout if anyone slips."""
    model = model_for(tokenizer, dropout=0.5)
    model.train()
    texts = list(sentences)[:4]
    translator = Translator(model, tokenizer)
    kinds = [{"num_beams": 1}, {"num_beams": 3}, {"num_beams": 2, "use_cache": False}]
    expected = [translator.translate(texts, **kind) for kind in kinds]
    wrong = []

    def work(number):
        for turn in range(4):
            which = (number + turn) % len(kinds)
            try:
                found = (translator if number % 2 else Translator(model, tokenizer)).translate(texts, **kinds[which])
                if [t.text for t in found] != [t.text for t in expected[which]]:
                    wrong.append((which, "other texts"))
            except Exception as error:
                wrong.append((which, repr(error)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert model.training
    assert all(module.training for module in model.modules())


def test_parts_that_were_not_in_training_are_not_put_into_it(tokenizer):
    model = model_for(tokenizer)
    model.train()
    model.model.encoder.eval()
    before = [module.training for module in model.modules()]
    Translator(model, tokenizer).translate(["merci"], use_cache=False, num_beams=1)
    assert [module.training for module in model.modules()] == before


def test_a_translator_is_a_snapshot_and_generate_is_not(tokenizer, sentences):
    model = model_for(tokenizer)
    texts = list(sentences)[:4]
    translator = Translator(model, tokenizer)
    before = translator.translate(texts)
    for parameter in model.parameters():
        parameter.data.mul_(1.7)
    assert translator.translate(texts) == before
    assert Translator(model, tokenizer).translate(texts) != before
    piped = pipeline("translate", model=model, tokenizer=tokenizer)(texts)
    after = Translator(model, tokenizer).translate(texts)
    assert [each["translation_text"] for each in piped] == [translation.text for translation in after]


def test_a_translator_computes_in_the_weights_own_precision_unless_asked(tokenizer, sentences, monkeypatch):
    monkeypatch.setattr("hf_vanilla_transformer.translation.precision.fastest_precision", lambda model: "int8")
    model = model_for(tokenizer, d_model=64)
    assert Translator(model, tokenizer).precision is None
    assert "precision" not in Translator(model, tokenizer).decoding()
    assert Translator(model, tokenizer, precision="auto").precision == "int8"
    assert Translator(model, tokenizer, precision="bf16").decoding()["precision"] == "bf16"


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_less_precision_changes_scores_a_little(tokenizer, sentences, precision):
    model = model_for(tokenizer, d_model=64)
    texts = list(sentences) * 2
    exact, rounded = (Translator(model, tokenizer, precision=p).translate(texts) for p in (None, precision))
    differences = [abs(one.score - other.score) for one, other in zip(exact, rounded, strict=True)]
    assert 0 < max(differences) < 0.5


def test_autocast_of_accelerate_is_decoded_in_its_precision(tokenizer, sentences):
    """All validation while training meets it."""
    model = model_for(tokenizer)
    exact = Translator(model, tokenizer)
    prepared = prepared_in_bf16(model)
    assert Translator(prepared, tokenizer).precision == "bf16"
    assert exact.precision is None
    assert len(Translator(prepared, tokenizer).translate(list(sentences)[:3])) == 3


def test_several_workers_share_what_one_would_do(tokenizer, sentences, monkeypatch):
    model, threads = model_for(tokenizer), set()
    texts = list(sentences) * 4
    step = StepDecoder.step
    monkeypatch.setattr(StepDecoder, "step", lambda *given: threads.add(threading.get_ident()) or step(*given))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    translator = Translator(model, tokenizer)
    found = translator.translate(texts, batch_tokens=60)
    assert len(threads) > 1
    monkeypatch.setattr(text_decoding, "MOST_WORKERS", 1)
    assert [t.text for t in translator.translate(texts, batch_tokens=60)] == [t.text for t in found]


# The pipeline


@pytest.mark.parametrize("learned", [True, False])
def test_truncation_cuts_where_there_is_a_limit_and_nowhere_else(tokenizer, learned):
    """The tokenizers that this package trains state no length, which used to overflow."""
    positions = {"positional_encoding": "learned", "max_position_embeddings": 12} if learned else {}
    model = model_for(tokenizer, **positions)
    translate = pipeline("translate", model=model, tokenizer=tokenizer, device="cpu")
    long = "la petite maison est vieille " * 5
    ids = tokenizer(long)["input_ids"]
    assert translate(long, truncation=True) == translate(
        tokenizer.decode(ids[:11], skip_special_tokens=True) if learned else long
    )
    if learned:
        with pytest.raises(
            ValueError, match=r"positions for 12 tokens, but sentence 0 .*truncate it with `truncation=True`"
        ):
            translate(long)


@pytest.mark.parametrize("settings", [{"num_beams": 0}, {"n_best": 0}, {"length_penalty": float("nan")}])
def test_the_pipeline_refuses_what_is_out_of_range(tokenizer, settings):
    translate = pipeline("translate", model=model_for(tokenizer), tokenizer=tokenizer, device="cpu")
    with pytest.raises(ValueError, match=r"must be"):
        translate("merci", **settings)
    with pytest.raises(ValueError, match="sentence 1 holds half of a surrogate pair"):
        translate(["merci", "\ud800"])


def test_learned_positions_end_targets_in_the_pipeline_too(tokenizer):
    model = tiny_model(
        vocab_size=len(tokenizer), positional_encoding="learned", max_position_embeddings=12, logits_bias=True
    )
    model.final_logits_bias[:, 2] = -1e9
    model.generation_config = GenerationConfig(
        num_beams=2, decoder_start_token_id=1, eos_token_id=2, pad_token_id=0, max_length=50
    )
    translate = pipeline("translate", model=model, tokenizer=tokenizer, device="cpu")
    found = translate(["merci", "la maison"], return_tensors=True)
    assert [len(each["translation_token_ids"]) for each in found] == [12, 12]
    assert not any(t.finished for t in Translator(model, tokenizer).translate(["merci", "la maison"]))
