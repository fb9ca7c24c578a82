"""What cannot be a score of a model's pair is known, whatever mistake was made, and a true test set is let pass."""

import json
import random

import pytest

import hf_vanilla_transformer.translation
from hf_vanilla_transformer.evaluation import evaluate_translations
from hf_vanilla_transformer.evaluation.plausibility import (
    doubts_of_scores,
    faults_by_probability,
    faults_of_languages,
    faults_of_test_set,
    require_text,
)
from hf_vanilla_transformer.evaluation.run_records import validation_bleu_of
from hf_vanilla_transformer.translation import TargetLogProbability

BLANKS = ("", " ", "\t", "\u00a0", "\u200b", "\ufeff", "\u3000 ", "\x00")


def make_test_set(seed: int, size: int = 40) -> tuple[list[str], list[list[str]]]:
    """Sentences of two languages, n a translation of n."""
    draw = random.Random(seed)
    numbers = [[draw.randrange(50) for _ in range(draw.randint(1, 7))] for _ in range(size)]
    sources = [" ".join(f"mot{n}" for n in each) for each in numbers]
    return sources, [[" ".join(f"word{n}" for n in each)] for each in numbers]


class Knowing:
    """A model that finds true translations likely, from one language to the other alone."""

    def __init__(self, monkeypatch, forward: float = -1.0, other: float = -8.0) -> None:
        def log_probabilities(model, tokenizer, sources, targets, batch_tokens, warns):
            true = [source.replace("mot", "word") == target for source, target in zip(sources, targets, strict=True)]
            return [TargetLogProbability(3 * (forward if each else other), 3) for each in true]

        monkeypatch.setattr(hf_vanilla_transformer.translation, "target_log_probabilities", log_probabilities)

    def faults(self, sources, references, validation_bleu=30.0) -> list[str]:
        return faults_by_probability(None, None, sources, references, 4096, validation_bleu)


@pytest.mark.parametrize("seed", range(4))
def test_a_test_set_is_let_pass(seed, monkeypatch):
    sources, references = make_test_set(seed, 1 + seed * 30)
    require_text(sources, references)
    assert faults_of_test_set(sources, references) == []
    assert Knowing(monkeypatch).faults(sources, references) == []
    numbers = [*sources[:-1], "1984"], [*references[:-1], ["1984"]]
    assert len(sources) == 1 or faults_of_test_set(*numbers) == []


@pytest.mark.parametrize("seed", range(16))
def test_lines_without_text_are_found(seed):
    draw = random.Random(seed)
    sources, references = make_test_set(seed)
    line = draw.randrange(len(sources))
    if seed % 2:
        sources[line] = BLANKS[seed // 2]
    else:
        references[line] = [BLANKS[seed // 2]]
    (fault,) = faults_of_test_set(sources, references)
    assert fault == (f"1 of 40 {'sources' if seed % 2 else 'references'} are blank, the first in line {line + 1}.")


@pytest.mark.parametrize("side", ["sources", "references"])
def test_a_side_without_text_has_no_score_at_all(side):
    sources, references = make_test_set(0)
    blank = [random.Random(1).choice(BLANKS) for _ in sources]
    texts = (blank, references) if side == "sources" else (sources, [[text] for text in blank])
    with pytest.raises(ValueError, match=f"all 40 {side} are blank. Check the files"):
        require_text(*texts)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda s, r: (s, [[x] for x in s]), "40 of 40 references equal their sources"),
        (lambda s, r: (s, [[x.upper() + " "] for x in s]), "40 of 40 references equal their sources"),
        (lambda s, r: (s, [[x] for x in s[:30]] + r[30:]), "30 of 40 references equal their sources"),
        (lambda s, r: (s, [r[0]] * 40), "All 40 references are the same"),
        (lambda s, r: ([s[0]] * 40, r), "All 40 sources are the same"),
        (lambda s, r: (s, [each * 2 for each in r]), "The same references were given twice"),
        (lambda s, r: (s, [[*each, x] for each, x in zip(r, s, strict=True)]), "equal their sources"),
    ],
)
def test_texts_that_are_no_test_set_are_found(mistake, message):
    faults = faults_of_test_set(*mistake(*make_test_set(2)))
    assert len(faults) == 1
    assert message in faults[0]


def test_swapped_sides_are_found_by_the_model_itself(monkeypatch):
    sources, references = make_test_set(3)
    swapped = [each[0] for each in references], [[source] for source in sources]
    monkeypatch.setattr("hf_vanilla_transformer.evaluation.plausibility._SAMPLE", 5)

    def log_probabilities(model, tokenizer, texts, targets, batch_tokens, warns):
        assert len(texts) <= 5
        return [TargetLogProbability(-8.0 if text.startswith("word") else -1.0, 1) for text in texts]

    monkeypatch.setattr(hf_vanilla_transformer.translation, "target_log_probabilities", log_probabilities)
    (fault,) = faults_by_probability(None, None, *swapped, 4096, None)
    assert fault.startswith("The sides look swapped: to the model, the sources are likelier")
    assert "(-1.0 nats per token)" in fault
    assert faults_by_probability(None, None, sources, references, 4096, None) == []


@pytest.mark.parametrize("seed", range(4))
def test_lines_of_others_are_found_by_a_model_that_translates(seed, monkeypatch):
    """Shifted by some lines, or of another file; of a model that has learned nothing nobody can know."""
    sources, references = make_test_set(seed)
    shift = random.Random(seed).randint(1, 39)
    shifted = references[shift:] + references[:shift]
    (fault,) = Knowing(monkeypatch).faults(sources, shifted)
    assert fault.startswith("Sources and references do not belong together")
    assert Knowing(monkeypatch).faults(sources, shifted, validation_bleu=None) == []
    assert Knowing(monkeypatch, -8.0).faults(sources, shifted, validation_bleu=1.0) == []


@pytest.mark.parametrize("error", [TypeError, ValueError, RuntimeError])
def test_a_model_that_cannot_be_asked_is_not_asked(error, monkeypatch):
    def refuse(*_):
        raise error("this model must be told its languages")

    monkeypatch.setattr(hf_vanilla_transformer.translation, "target_log_probabilities", refuse)
    assert faults_by_probability(None, None, *make_test_set(0), 4096, 30.0) == []


@pytest.mark.parametrize(
    ("model", "said", "files", "message"),
    [
        (("fr", "en"), (None, None), ("t.en", "t.fr"), "swapped: the model translates fr to en"),
        (("fr", "en"), ("en", "fr"), None, "swapped: the model translates fr to en"),
        (("fr", "en"), (None, "en"), ("t.en", "t.fr"), "swapped: the model translates fr to en"),
        (("fr", "en"), (None, "fr"), ("a", "b"), "target is said to be fr, but the model's is en"),
        (
            ("fr", "en"),
            (None, None),
            ("t.fr", "t.de"),
            "target is de by the names of its files, but the model's is en",
        ),
        (("fr", "en"), (None, None), ("de/t", "en/t"), "source is de by the names of its files"),
        ((None, None), (None, "de"), ("t.fr", "t.en"), "target is en by the names of its files, but it is said to be"),
        ((None, None), ("fr", "en"), ("t.en", "t.fr"), "source is en by the names of its files, but it is said to be"),
        (("fr", "en"), (None, "en"), ("t.fr", "t.en"), None),
        (("pt", "en"), ("pt-BR", "en-GB"), ("t.pt_BR", "t.en"), None),
        (("fra", "eng"), ("fr", "en"), ("t.en", "t.fr"), "source is en by the names of its files"),
        (("fra", "eng"), ("fr", "en"), ("t.fr", "t.en"), None),
        ((None, None), (None, None), ("t.en", "t.fr"), None),
        (("fr", "en"), (None, None), ("valid.src", "valid.ref"), None),
    ],
)
def test_other_languages_are_found(model, said, files, message):
    faults = faults_of_languages(model, said, files or ())
    assert (faults == []) if message is None else any(message in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("hypotheses", "validation", "message"),
    [
        (["", " ", "\u3000", "a b c d e"], None, "3 of 4 translations are empty"),
        (["mot1", "mot2 mot3", "mot4 mot5 mot6", "x"], None, "3 of 4 translations are copies of their sources"),
        (["x", "y", "z", "v"], 30.0, "BLEU 0.00 is far below the 30.00 that the model had in validation"),
        (["x", "y", "z", "v"], None, None),
        (["x", "y", "z", "v"], 2.0, None),
    ],
)
def test_translations_that_hardly_can_be_the_models_are_found(hypotheses, validation, message):
    sources = ["mot1", "mot2 mot3", "mot4 mot5 mot6", "mot7 mot8 mot9"]
    references = ["word1", "word2 word3", "word4 word5 word6", "word7 word8 word9"]
    scores = evaluate_translations(hypotheses, references, sources=sources)
    doubts = doubts_of_scores(scores, validation)
    assert doubts == [] if message is None else message in doubts[0]


def test_the_validation_of_a_run_is_its_best(tmp_path):
    assert validation_bleu_of(tmp_path) is None
    log = [{"step": 1, "loss": 3.0}, {"step": 2, "eval_bleu": 13.7}, {"step": 3, "eval_bleu": 12.1}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": log}), encoding="utf-8")
    assert validation_bleu_of(tmp_path) == 13.7
    (tmp_path / "trainer_state.json").write_text("{", encoding="utf-8")
    assert validation_bleu_of(tmp_path) is None
