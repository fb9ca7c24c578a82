"""The translate pipeline: version 4's forms of input and output, every family of models, the names of version 4."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from originals import ENGLISH, FRENCH, fsmt_folder, marian, marian_folder, marian_tokenizer
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    NllbTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
    pipeline,
    pipelines,
)

from hf_vanilla_transformer import TranslationPipeline, Translator, restore_translation_pipeline

LETTERS = sorted({letter for sentence in (*FRENCH, *ENGLISH) for letter in sentence if letter != " "})
TEXTS = ["le petit chat dort", "merci", "la petite maison est vieille", "je suis étudiant"]


@pytest.fixture(scope="module")
def ours(tiny_model_folder: Path) -> TranslationPipeline:
    return pipeline("translate", model=str(tiny_model_folder), device="cpu")


# Forms of input and output


def test_one_sentence_gives_a_list_and_many_one_translation_each(ours):
    alone = ours("merci")

    assert [set(translation) for translation in alone] == [{"translation_text"}]
    assert ours(["merci"]) == alone
    assert ours(TEXTS) == [ours(text)[0] for text in TEXTS]
    assert ours(tuple(TEXTS)) == ours(TEXTS)
    assert ours([]) == []


def test_several_translations_of_each_sentence_come_in_lists_of_their_own(ours):
    alone = ours("merci", num_return_sequences=3)
    many = ours(TEXTS, n_best=3)

    assert [len(translations) for translations in (alone, *many)] == [3] * 5
    assert many[1] == alone
    assert [translations[0] for translations in many] == ours(TEXTS)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 1},
        {"num_beams": 3, "length_penalty": 0.3, "n_best": 2},
        {"num_beams": 1, "max_extra_tokens": 0},  # each ends at a limit of its own, and is filled up
        {"num_beams": 3, "max_extra_tokens": 0, "gnmt_length_penalty": 0.6},
    ],
)
def test_texts_and_scores_are_those_of_the_translator(settings, ours, tiny_model_folder):
    expected = Translator.from_pretrained(tiny_model_folder, device="cpu").translate(TEXTS, **settings)
    found = ours(TEXTS, return_scores=True, **settings)

    found = [[translation] if isinstance(translation, dict) else translation for translation in found]
    assert [[t["translation_text"] for t in f] for f in found] == [[h.text for h in e.hypotheses] for e in expected]
    for one, other in zip(found, expected, strict=True):
        assert [t["score"] for t in one] == pytest.approx([h.score for h in other.hypotheses], abs=1e-5)


def test_a_filled_up_target_is_cut_at_its_own_limit(ours, caplog, monkeypatch):
    monkeypatch.setattr(pipelines.base.logging.get_logger("transformers"), "propagate", True)
    found = ours(TEXTS, num_beams=2, max_extra_tokens=0, return_tensors=True, suppress_tokens=[2])

    lengths = [len(ours.tokenizer(text).input_ids) for text in TEXTS]
    assert [len(translation["translation_token_ids"]) for translation in found] == lengths
    assert "4 of 4 translations ran into their length limit" in caplog.text
    assert "raise `max_extra_tokens`" in caplog.text


def test_generators_and_datasets_give_iterators_that_read_no_more_than_they_need(ours):
    asked = []

    def sentences():
        for text in TEXTS * 2:
            asked.append(text)
            yield text

    translations = ours(sentences(), batch_size=1)
    assert next(translations) == ours(TEXTS[0])
    assert asked == TEXTS[:1]
    assert [translation for (translation,) in translations] == ours(TEXTS * 2)[1:]
    dataset = torch.utils.data.StackDataset(TEXTS)
    column = [row[0] for row in dataset]
    assert list(ours(iter(column))) == [ours(text) for text in TEXTS]
    assert list(ours(Column(dataset))) == [ours(text) for text in TEXTS]


class Column(torch.utils.data.Dataset):
    """A data set of sentences, as `KeyDataset` makes it of one with columns."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index][0]


def test_each_batch_is_decoded_once(ours, monkeypatch):
    sizes = []
    generate = ours.model.generate

    def spy(**arguments):
        sizes.append(tuple(arguments["input_ids"].shape))
        return generate(**arguments)

    monkeypatch.setattr(ours.model, "generate", spy)
    ours(TEXTS, batch_size=2)
    lengths = sorted(len(ours.tokenizer(text).input_ids) for text in TEXTS)
    assert sizes == [(2, lengths[3]), (2, lengths[1])]


def test_settings_may_be_given_when_the_pipeline_is_made(tiny_model_folder, ours):
    made = pipeline("translate", model=str(tiny_model_folder), device="cpu", n_best=2, num_beams=2, batch_size=2)

    assert made(TEXTS) == ours(TEXTS, n_best=2, num_beams=2)
    assert made("merci", n_best=1) == ours("merci", num_beams=2)


def test_a_sentence_without_text_is_not_shown_to_the_model(ours):
    assert ours(" ") == [{"translation_text": ""}]
    assert ours(["", "merci"], return_scores=True)[0] == {"translation_text": "", "score": 0.0}
    assert ours(["", "merci"], n_best=2)[0] == [{"translation_text": ""}]


def test_token_ids_in_place_of_text(ours):
    (translation,) = ours("merci", return_tensors=True)
    (text,) = ours("merci")

    assert set(translation) == {"translation_token_ids"}
    decoded = ours.tokenizer.decode(translation["translation_token_ids"], skip_special_tokens=True)
    assert decoded == text["translation_text"]
    assert ours("merci", return_text=False)[0].keys() == {"translation_token_ids"}


def test_a_model_in_training_translates_without_dropout_and_trains_on(ours):
    expected = ours(TEXTS)
    ours.model.train()
    try:
        assert ours(TEXTS) == expected
        assert ours.model.training
    finally:
        ours.model.eval()


def test_a_generation_config_may_be_given(ours):
    config = GenerationConfig(num_beams=2, max_new_tokens=5, eos_token_id=2, pad_token_id=0, decoder_start_token_id=1)

    found = ours(TEXTS, generation_config=config, return_scores=True)

    assert [translation["translation_text"] for translation in found] == [
        translation["translation_text"] for translation in ours(TEXTS, num_beams=2, max_new_tokens=5)
    ]
    assert config.return_dict_in_generate is not True


def test_a_translation_that_ran_into_its_limit_is_counted(ours, caplog, monkeypatch):
    monkeypatch.setattr(pipelines.base.logging.get_logger("transformers"), "propagate", True)
    ours(TEXTS, num_beams=1, max_new_tokens=1)
    assert "4 of 4 translations ran into their length limit" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((["merci", 3],), TypeError, "must be a string, but sentence 1 is 3"),
        ((7,), TypeError, "The input must be a string or a list of strings, got a int"),
        ((TEXTS, 0), ValueError, "at least 1, got 0"),
    ],
)
def test_what_is_no_text_is_refused(arguments, error, message, ours):
    with pytest.raises(error, match=message):
        ours(arguments[0], **({"batch_size": arguments[1]} if len(arguments) > 1 else {}))


def test_other_models_are_refused(tiny_model_folder):
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(vocab_size=300, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    with pytest.raises(ValueError, match=r"needs a sequence-to-sequence model with `generate`, got a BertModel"):
        TranslationPipeline(model=model, tokenizer=AutoTokenizer.from_pretrained(tiny_model_folder))


# Families of models


def generated(model: Any, tokenizer: Any, texts: list[str], **settings: Any) -> list[str]:
    """What `generate` gives for each sentence alone."""
    results = []
    for text in texts:
        ids = model.generate(**tokenizer(text, return_tensors="pt"), **settings)
        results.append(tokenizer.decode(ids[0], skip_special_tokens=True))
    return results


def texts_of(translations: list[dict[str, Any]]) -> list[str]:
    return [translation["translation_text"] for translation in translations]


@pytest.mark.parametrize("make", [marian_folder, fsmt_folder])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_models_of_one_pair(make, num_beams, tmp_path):
    make(tmp_path / "model")
    translate = pipeline("translate", model=str(tmp_path / "model"), device="cpu")
    settings = {"num_beams": num_beams, "max_new_tokens": 12}
    expected = generated(translate.model, translate.tokenizer, TEXTS, **settings)

    found = translate(TEXTS, return_scores=True, **settings)

    assert texts_of(found) == expected
    scores = Translator(translate.model, translate.tokenizer).translate(TEXTS, **settings)
    assert [t["score"] for t in found] == pytest.approx([t.score for t in scores], abs=1e-5)


def test_a_longer_sentence_than_the_positions_is_refused_or_cut_if_asked(tmp_path):
    marian_folder(tmp_path / "model", max_position_embeddings=24)
    translate = pipeline("translate", model=str(tmp_path / "model"), device="cpu", max_new_tokens=5)
    long = " ".join(FRENCH)

    with pytest.raises(ValueError, match=r"has positions for 24 tokens, but sentence 1 has \d+"):
        translate(["merci", long])
    assert isinstance(translate(long, truncation=True)[0]["translation_text"], str)


def test_an_opus_model_of_several_targets_is_told_which(tmp_path):
    tokenizer = marian_tokenizer(tmp_path / "pieces")
    vocab = {**tokenizer.encoder, ">>fra<<": len(tokenizer.encoder), ">>ita<<": len(tokenizer.encoder) + 1}
    (tmp_path / "pieces" / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    files = (str(tmp_path / "pieces" / name) for name in ("source.spm", "target.spm", "vocab.json"))
    tokenizer = type(tokenizer)(*files)
    model = marian(vocab_size=len(vocab), pad_token_id=vocab["<pad>"], decoder_start_token_id=vocab["<pad>"])
    translate = TranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    settings = {"num_beams": 2, "max_new_tokens": 10}

    expected = generated(model, tokenizer, [f">>ita<< {text}" for text in TEXTS], **settings)
    assert texts_of(translate(TEXTS, tgt_lang="ita", **settings)) == expected
    assert texts_of(translate([f">>ita<< {text}" for text in TEXTS], **settings)) == expected
    assert expected != generated(model, tokenizer, TEXTS, **settings)
    with pytest.raises(ValueError, match=r"translates into 2 languages, but `tgt_lang` is 'it'. Give one .* ita"):
        translate(TEXTS, tgt_lang="it")
    with pytest.raises(ValueError, match="`tgt_lang` is None"):
        translate(TEXTS)


def language_tokens(cls: type) -> list[str]:
    module = sys.modules[cls.__module__]
    return list(module.FAIRSEQ_LANGUAGE_CODES)


def multilingual(kind: str, folder: Path) -> tuple[Any, Any, str, str, str]:
    """A tiny model and tokenizer, two of its codes, and by which setting `generate` learns the target language."""
    sizes: dict[str, Any] = {
        **{"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 128},
        **{"init_std": 1.0},
    }
    special = ["<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS]
    if kind == "m2m100":
        marian_tokenizer(folder)
        (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(special)}), encoding="utf-8")
        tokenizer = M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "source.spm"))
        codes, told = ("fr", "en"), "forced_bos_token_id"
    elif kind == "nllb":
        tokenizer = NllbTokenizer(vocab={token: i for i, token in enumerate([*special, "<mask>"])}, merges=[])
        codes, told = ("fra_Latn", "eng_Latn"), "forced_bos_token_id"
    else:
        cls = MBartTokenizer if kind == "mbart" else MBart50Tokenizer
        tokenizer = cls(vocab=[(token, -1.0) for token in [*special, *language_tokens(cls), "<mask>"]])
        codes, told = ("fr_XX", "en_XX"), "decoder_start_token_id" if kind == "mbart" else "forced_bos_token_id"
    mbart = kind.startswith("mbart")
    config = (MBartConfig if mbart else M2M100Config)(vocab_size=400, **sizes)
    torch.manual_seed(0)
    model = (MBartForConditionalGeneration if mbart else M2M100ForConditionalGeneration)(config)
    model.generation_config.decoder_start_token_id = 2
    model.generation_config.max_length = 200
    return model.eval(), tokenizer, *codes, told


@pytest.mark.parametrize("kind", ["m2m100", "nllb", "mbart", "mbart50"])
def test_models_of_many_languages_read_the_source_code_and_begin_with_the_targets(kind, tmp_path):
    model, tokenizer, source, target, told = multilingual(kind, tmp_path)
    translate = TranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    token = f"__{target}__" if kind == "m2m100" else target
    tokenizer.src_lang = source
    settings: Any = {"num_beams": 2, "max_new_tokens": 8, "forced_eos_token_id": None}
    told_target = {told: tokenizer.convert_tokens_to_ids(token)}
    expected = generated(model, tokenizer, TEXTS, **settings, **told_target)
    tokenizer.src_lang = target  # the call says otherwise

    found = translate(TEXTS, src_lang=source, tgt_lang=target, return_tensors=True, **settings)

    ids = [translation["translation_token_ids"] for translation in found]
    assert [tokenizer.decode(row, skip_special_tokens=True) for row in ids] == expected
    if told == "forced_bos_token_id":
        assert {int(row[0]) for row in ids} == {told_target[told]}
    with pytest.raises(ValueError, match=r"`tgt_lang` is None. Give one of its codes"):
        translate(TEXTS, src_lang=source)
    with pytest.raises(ValueError, match=rf"`src_lang` is '{source[:3]}x'. .*{source}"):
        translate(TEXTS, src_lang=f"{source[:3]}x", tgt_lang=target)


def t5(**fields: Any) -> TranslationPipeline:
    symbols = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((t, -3.0) for t in ["▁", *LETTERS, *"EFGR:"])]
    tokenizer = T5Tokenizer(vocab=symbols, extra_ids=0)
    config = T5Config(
        **{"vocab_size": len(tokenizer), "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2},
        **{"decoder_start_token_id": 0, "initializer_factor": 5.0, **fields},
    )
    torch.manual_seed(0)
    return TranslationPipeline(model=T5ForConditionalGeneration(config).eval(), tokenizer=tokenizer, device="cpu")


T5_TASKS = {"translation_en_to_fr": {"prefix": "translate English to French: ", "num_beams": 2, "max_length": 9}}


def test_t5_is_told_in_words():
    translate = t5(task_specific_params=T5_TASKS)
    prefixed = [f"translate English to French: {text}" for text in TEXTS]
    expected = generated(translate.model, translate.tokenizer, prefixed, num_beams=2, max_length=9)

    assert texts_of(translate(TEXTS, src_lang="en", tgt_lang="fr")) == expected
    assert texts_of(translate(prefixed, num_beams=2, max_length=9)) == expected
    other = [f"translate German to Japanese: {text}" for text in TEXTS]
    settings: Any = {"num_beams": 1, "max_new_tokens": 9}
    assert texts_of(translate(TEXTS, src_lang="de", tgt_lang="Japanese", **settings)) == generated(
        translate.model, translate.tokenizer, other, **settings
    )
    for languages in ({}, {"src_lang": "en"}, {"src_lang": "en", "tgt_lang": "ja"}):
        with pytest.raises(ValueError, match="T5 takes its languages in words"):
            translate(TEXTS, **languages)


def test_a_fine_tuned_t5_takes_the_text_as_it_is():
    translate = t5()
    settings: Any = {"num_beams": 1, "max_new_tokens": 9}
    assert texts_of(translate(TEXTS, **settings)) == generated(translate.model, translate.tokenizer, TEXTS, **settings)


def test_where_nothing_is_said_version_4s_defaults_hold(monkeypatch):
    translate, seen = t5(), {}
    generate = translate.model.generate
    monkeypatch.setattr(translate.model, "generate", lambda **given: seen.update(given) or generate(**given))

    translate("merci")
    assert (seen["num_beams"], seen["max_new_tokens"]) == (4, 256)
    seen.clear()
    translate("merci", max_length=5, num_beams=2)
    assert "max_new_tokens" not in seen
    assert seen["num_beams"] == 2


# Names


@pytest.fixture
def restored(monkeypatch):
    """`restore_translation_pipeline()`, taken back after the test."""
    removed = dict(getattr(pipelines, "REMOVED_TASKS", {}))  # the older versions have no such table
    monkeypatch.setattr(pipelines, "REMOVED_TASKS", removed, raising=False)
    registry = pipelines.PIPELINE_REGISTRY
    monkeypatch.setattr(registry, "supported_tasks", dict(registry.supported_tasks))
    monkeypatch.setattr(registry, "check_task", registry.check_task)
    return restore_translation_pipeline


def test_the_removed_names_come_back_for_those_who_ask(tiny_model_folder, restored):
    """Fails when `transformers` refuses or takes these names in another way, and then has to be looked at."""
    for name in ("translation", "translation_fr_to_en"):
        with pytest.raises(KeyError, match=r"has been removed|Unknown task"):
            pipeline(name, model=str(tiny_model_folder))

    restored()
    restored()

    for name in ("translation", "translation_fr_to_en"):
        translate = pipeline(name, model=str(tiny_model_folder), device="cpu")
        assert translate("merci") == pipeline("translate", model=str(tiny_model_folder), device="cpu")("merci")
    with pytest.raises(KeyError, match=r"has been removed|Unknown task"):
        pipeline("summarization", model=str(tiny_model_folder))
    with pytest.raises(KeyError, match="translation_xx"):
        pipelines.check_task("translation_xx")


def test_the_languages_in_the_name_count(restored):
    translate = t5(task_specific_params=T5_TASKS)
    expected = translate(TEXTS, src_lang="en", tgt_lang="fr")

    restored()
    translate.task = "translation_en_to_fr"

    assert translate(TEXTS) == expected


def test_an_upstream_that_refuses_otherwise_is_told_of(restored, monkeypatch):
    def refuse(task):
        raise KeyError(task)

    monkeypatch.setattr(pipelines, "check_task", refuse)
    with pytest.raises(RuntimeError, match='Use the task "translate", which is the same'):
        restored()


IMPORTS = """
import json, sys
import hf_vanilla_transformer
early = "transformers.pipelines" in sys.modules
from importlib.util import find_spec
find_spec("transformers.pipelines")
from transformers import pipeline
print(json.dumps([early, pipeline("translate", model=sys.argv[1], device="cpu")("merci")]))
"""

STRANGER = """
import json, sys
from transformers import pipeline
found = pipeline("translate", model=sys.argv[1], device="cpu", trust_remote_code=True)("merci")
print(json.dumps(["hf_vanilla_transformer" in sys.modules, found]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [IMPORTS, STRANGER])
def test_a_saved_pipeline_needs_no_trust_with_the_package_and_no_package_with_trust(
    program, ours, tmp_path, fresh_processes
):
    """Its file travels; and importing the package costs no import of pipelines."""
    ours.save_pretrained(tmp_path)
    assert (tmp_path / "pipeline.py").exists()
    again = pipeline("translate", model=str(tmp_path), device="cpu")
    again.save_pretrained(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "config.json").read_text())
    assert saved["custom_pipelines"]["translate"]["impl"] == "pipeline.TranslationPipeline"

    done = fresh_processes.run(program, str(tmp_path))

    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [False, ours("merci")]


def test_a_model_without_generation_settings_of_length_gets_the_papers(tiny_model_folder, monkeypatch):
    model = AutoModelForSeq2SeqLM.from_pretrained(tiny_model_folder)
    del model.generation_config.max_extra_tokens
    translate, seen = (
        pipeline("translate", model=model, tokenizer=AutoTokenizer.from_pretrained(tiny_model_folder), device="cpu"),
        {},
    )
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda **given: seen.update(given) or generate(**given))

    translate("merci")

    assert seen["max_extra_tokens"] == 50
