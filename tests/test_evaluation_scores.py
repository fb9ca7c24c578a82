"""Scores equal those of sacreBLEU and sacremoses called by hand, say how they were made, and refuse bad corpora."""

import json
import logging
import random
from importlib.metadata import version
from pathlib import Path

import evaluate
import pytest

from hf_vanilla_transformer.evaluation import TranslationScores, evaluate_translations, load_metric
from hf_vanilla_transformer.evaluation.scores import METRIC_FILE

REFERENCES = [
    "Two men are standing at the stove, preparing food.",
    'A girl in a "Karate Kid" T-shirt breaks a stick (1,000 times) with a kick.',
    "Who doesn't know Mr. Smith's dog?",
    "Five people wearing winter jackets & helmets stand in the snow.",
    "People are fixing the roof of a house.",
]
HYPOTHESES = [
    "Two men stand at the stove preparing food.",
    'A girl in a "karate kid" t-shirt breaks a stick with a front kick.',
    "Who doesn't know Mr. Smith?",
    "Five people in winter jackets and helmets stand in the snow.",
    "Some people are fixing the roof of a house.",
]
OTHER_REFERENCES = [reference.replace("the ", "a ") for reference in REFERENCES]


@pytest.fixture(scope="module")
def scores():
    return evaluate_translations(HYPOTHESES, REFERENCES, target_lang="en")


@pytest.mark.parametrize("streams", [[REFERENCES], [REFERENCES, OTHER_REFERENCES]], ids=["one", "two"])
def test_sacrebleu_called_directly_gives_the_same_figures_and_signatures(streams):
    """Second implementation: sacreBLEU's own API, which takes one list per set of references."""
    import sacrebleu

    scores = evaluate_translations(HYPOTHESES, list(zip(*streams, strict=True)))

    for name, metric in {"bleu": sacrebleu.BLEU(), "chrf": sacrebleu.CHRF(), "ter": sacrebleu.TER()}.items():
        assert scores[name].value == metric.corpus_score(HYPOTHESES, streams).score
        assert scores[name].signature == str(metric.get_signature())
    assert scores["bleu"].value == sacrebleu.corpus_bleu(HYPOTHESES, streams).score
    assert "|tok:13a|" in scores["bleu"].signature
    assert "|case:mixed|" in scores["bleu"].signature
    assert scores["bleu"].signature.startswith(f"nrefs:{len(streams)}|")
    assert all(f"version:{version('sacrebleu')}" in metric.signature for metric in scores)


@pytest.mark.parametrize(("target_lang", "rules"), [("fr", "fr"), ("de", "de"), ("pt-BR", "pt"), ("en", "en")])
@pytest.mark.parametrize("escape", [True, False])
def test_moses_bleu_is_what_one_gets_by_hand(target_lang, rules, escape):
    """Tokenise, lower-case, split at spaces; escaping XML renames tokens and changes no figure."""
    import sacrebleu
    from sacremoses import MosesTokenizer

    moses = MosesTokenizer(lang=rules)
    sides = [[" ".join(moses.tokenize(text, escape=escape)).lower() for text in s] for s in (HYPOTHESES, REFERENCES)]
    by_hand = sacrebleu.corpus_bleu(sides[0], [sides[1]], tokenize="none", force=True).score

    scores = evaluate_translations(HYPOTHESES, REFERENCES, target_lang=target_lang, metrics=["moses_bleu"])

    assert scores["moses_bleu"].value == pytest.approx(by_hand, abs=1e-9)
    assert f"|tok:moses-{rules}|" in scores["moses_bleu"].signature
    assert f"|sacremoses:{version('sacremoses')}" in scores["moses_bleu"].signature


def test_moses_bleu_ignores_case_and_keeps_hyphenated_words_whole():
    scores = evaluate_translations(["a T-Shirt and shoes ."], ["A t-shirt and SHOES."], metrics=["bleu", "moses_bleu"])

    assert scores["moses_bleu"].value == pytest.approx(100)
    assert scores["bleu"].value < 50
    split = evaluate_translations(["a red t shirt here"], ["a red t-shirt here"], metrics=["moses_bleu"])
    assert split["moses_bleu"].value < 50


@pytest.mark.parametrize(("target_lang", "said"), [(None, "moses-en-by-default"), ("eo", "moses-eo-with-en-prefixes")])
def test_signature_says_which_rules_stood_in_for_missing_ones(target_lang, said):
    scores = evaluate_translations(HYPOTHESES, REFERENCES, target_lang=target_lang, metrics=["moses_bleu"])

    assert f"|tok:{said}|" in scores["moses_bleu"].signature


def test_a_perfect_translation_has_full_marks():
    scores = evaluate_translations(REFERENCES, REFERENCES)

    assert [(metric.name, round(metric.value, 9)) for metric in scores] == [
        ("bleu", 100),
        ("chrf", 100),
        ("ter", 0),
        ("moses_bleu", 100),
    ]


def test_more_damage_scores_worse_under_every_metric():
    def damaged(words_per_sentence):
        draw = random.Random(0)
        sentences = [reference.split() for reference in REFERENCES]
        for sentence in sentences:
            for place in draw.sample(range(len(sentence)), words_per_sentence):
                sentence[place] = "zzz"
        return evaluate_translations([" ".join(sentence) for sentence in sentences], REFERENCES)

    mild, severe = damaged(1), damaged(4)

    for name in ("bleu", "chrf", "moses_bleu"):
        assert 100 > mild[name].value > severe[name].value
        assert mild[name].higher_is_better
    assert 0 < mild["ter"].value < severe["ter"].value
    assert not mild["ter"].higher_is_better


def test_no_figure_is_printed_without_its_signature(scores):
    lines = scores.table().split("\n")

    assert len(lines) == 5
    for metric, line in zip(scores, lines, strict=False):
        assert line.startswith(metric.label)
        assert f"{metric.value:.2f}" in line
        assert line.endswith(metric.signature)
        assert metric.signature in str(metric)
    assert "tokenised lower-cased BLEU (Moses, not comparable with scores of plain text)" in lines[3]
    assert "5 sentences, 1 reference(s) each" in lines[4]


def test_dict_survives_json(scores):
    record = scores.to_dict()

    assert json.loads(json.dumps(record)) == {**record, "metrics": list(record["metrics"])}
    assert record["metrics"][0]["signature"] == scores["bleu"].signature
    assert record["sentences"] == 5


def test_empty_and_copied_translations_are_counted():
    hypotheses = ["", " ", *HYPOTHESES[2:]]
    sources = ["", "b", HYPOTHESES[2] + " ", "d", "e"]

    scores = evaluate_translations(hypotheses, REFERENCES, sources=sources, metrics=["chrf"])

    assert (scores.empty_hypotheses, scores.copied_sources) == (2, 1)
    assert "2 translations empty, 1 equal to their source" in scores.table()
    assert evaluate_translations(hypotheses, REFERENCES, metrics=["chrf"]).copied_sources is None


def test_chosen_metrics_come_alone_and_the_others_are_a_clear_key_error():
    scores = evaluate_translations(HYPOTHESES, REFERENCES, metrics=["ter", "chrf"])

    assert [metric.name for metric in scores] == ["chrf", "ter"]
    with pytest.raises(KeyError, match=r"No metric 'bleu' was computed; there are chrf, ter"):
        scores["bleu"]


def test_text_without_spaces_is_warned_about_and_scored_by_characters(caplog):
    hypotheses, references = ["我喜欢红色的苹果。"], ["我喜欢绿色的苹果。"]

    with caplog.at_level(logging.WARNING, logger="hf_vanilla_transformer"):
        words = evaluate_translations(hypotheses, references, target_lang="zh-CN", metrics=["bleu"])
        assert "pass tokenize='zh'" in caplog.text
        caplog.clear()
        characters = evaluate_translations(
            hypotheses, references, target_lang="zh-CN", metrics=["bleu"], tokenize="char"
        )
        assert not caplog.records

    assert characters["bleu"].value > words["bleu"].value
    assert "|tok:char|" in characters["bleu"].signature
    assert characters["bleu"].label == "BLEU (char, cased)"


def test_the_module_itself_takes_flat_and_nested_references():
    metric = load_metric()
    flat = metric.compute(predictions=HYPOTHESES, references=REFERENCES, metrics=["bleu"])
    nested = metric.compute(predictions=HYPOTHESES, references=[[r] for r in REFERENCES], metrics="bleu")

    assert flat == nested
    with pytest.raises(ValueError, match="the same number of references"):
        metric.compute(predictions=["a", "b"], references=[["a"], ["b", "c"]])
    assert (
        metric.compute(predictions=HYPOTHESES, references=REFERENCES, metrics=["bleu"]) == flat
    )  # after an error too


def test_odd_text_is_scored_as_it_stands():
    """Line breaks, separators, NUL and emoji reach sacreBLEU unchanged; an iterator is read once."""
    import sacrebleu

    odd = ["a\nb c d e", "f\u2028g\x00h i j", "🙂 \u200d x y z", ""]
    references = ["a b c d e", "f g h i j", "🙂 x y z", ""]

    scores = evaluate_translations(odd, iter(references))

    assert scores["chrf"].value == sacrebleu.corpus_chrf(odd, [references]).score
    assert isinstance(scores, TranslationScores)


@pytest.mark.parametrize(
    ("hypotheses", "references", "sources", "error", "message"),
    [
        (["a", "b"], ["a"], None, ValueError, r"there are 2 hypotheses and 1 references"),
        (["a"], ["a"], ["a", "b"], ValueError, r"there are 1 hypotheses and 2 sources"),
        (["a", "b", "c"], [["a", "b", "c"], ["d", "e", "f"]], None, ValueError, r"go into one list per sentence"),
        ([], [], None, ValueError, r"at least one sentence, but hypotheses holds 0"),
        (["a"], [], None, ValueError, r"at least one sentence, but references holds 0"),
        (["a", "b"], [["a", "x"], ["b"]], None, ValueError, r"references\[0\] has 2 and references\[1\] has 1"),
        (["a", "b"], [["a"], []], None, ValueError, r"references\[1\] is an empty list"),
        (["a", "b"], [["a"], "b"], None, TypeError, r"references\[1\] is a str among lists"),
        (["a", None], ["a", "b"], None, TypeError, r"hypotheses\[1\] must be a string, but it is a NoneType"),
        ([[1, 2]], ["a"], None, TypeError, r"hypotheses\[0\] must be a string, but it is a list"),
        (["a"], [[3]], None, TypeError, r"references\[0\]\[0\] must be a string, but it is a int"),
        ("a", ["a"], None, TypeError, r"hypotheses must be a list of strings, one per sentence, but one str"),
        (["a"], "a", None, TypeError, r"references must be a list of strings, one per sentence, but one str"),
        (["a"], None, None, TypeError, r"references must be a list of strings, one per sentence, but one NoneType"),
        (["a"], ["\udc80"], None, ValueError, r"references\[0\] must be valid Unicode, but it holds the lone surr"),
    ],
)
def test_bad_corpora_are_refused(hypotheses, references, sources, error, message):
    with pytest.raises(error, match=message):
        evaluate_translations(hypotheses, references, sources=sources)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["bleu", "meteor"]}, r"one or more of bleu, chrf, ter, moses_bleu, but 'meteor' was given"),
        ({"metrics": []}, r"metrics must name one or more .* but none was given"),
        ({"tokenize": "ja-mecab"}, r"tokenize must be one of 13a, intl, zh, char, but 'ja-mecab' was given"),
        ({"target_lang": "german"}, r"a language code such as 'de' or 'pt-BR', but 'german' was given"),
        ({"target_lang": ""}, r"a language code such as 'de' or 'pt-BR', but '' was given"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_translations(HYPOTHESES, REFERENCES, **options)


@pytest.mark.parametrize(
    "damage", [b"", METRIC_FILE.read_bytes()[:300], METRIC_FILE.read_bytes().replace(b"100", b"101")]
)
def test_a_damaged_copy_of_the_metric_is_made_again(caplog, damage):
    """`evaluate` would take it as it is."""
    load_metric()
    [copy] = Path(evaluate.config.HF_MODULES_CACHE).rglob(METRIC_FILE.name)
    copy.write_bytes(damage)
    load_metric()
    assert f"The cached copy {copy} is damaged; it is made again." in caplog.text
    assert copy.read_bytes() == METRIC_FILE.read_bytes()
