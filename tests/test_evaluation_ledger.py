"""The ledger gives back what was put in, keeps one entry for a test set and a decoding, and believes nobody."""

import hashlib
import json
import random
from dataclasses import replace

import pytest

from hf_vanilla_transformer import compare_systems
from hf_vanilla_transformer.evaluation import (
    LedgerEntry,
    add_to_ledger,
    evaluate_translations,
    make_entry,
    read_ledger,
    weights_fingerprint,
    write_ledger,
)

HYPOTHESES = ["the cat\nsleeps here .", "where\u2028is the dog ?", "he eats an apple ."]
REFERENCES = [["a cat sleeps here .", "x"], ["where is the dog ?", "y"], ["he is eating an apple .", "z"]]
SOURCES = ["un chat dort ici .", "où est le chien ?", "il mange une pomme ."]


@pytest.fixture(scope="module")
def entry() -> LedgerEntry:
    scores = evaluate_translations(HYPOTHESES, REFERENCES, n_bootstrap=50)
    known = {"decoding": {"num_beams": 4}, "scoring": {"n_bootstrap": 50}, "weights": "sha256:1"}
    origin = {"source": "/home/alice/test.fr", "references": ["/home/alice/a.en", "/home/alice/b.en"]}
    return make_entry("test", HYPOTHESES, scores, SOURCES, REFERENCES, origin=origin, **known)


def test_what_is_written_is_read_again(entry, tmp_path):
    for each in (entry, replace(entry, sources=tuple(SOURCES), references=tuple(map(tuple, REFERENCES)))):
        write_ledger(tmp_path, [each])
        assert read_ledger(tmp_path) == (each,)


def test_figures_are_computed_again_from_what_was_read(entry, tmp_path):
    write_ledger(tmp_path, [entry])
    assert read_ledger(tmp_path)[0].recompute(REFERENCES).metrics == entry.metrics


def test_the_same_test_set_decoded_the_same_way_takes_the_place_of_the_old(entry, tmp_path):
    for each in (entry, replace(entry, decoding={"num_beams": 1}), replace(entry, weights="sha256:2")):
        add_to_ledger(tmp_path, each)
    assert [(each.decoding["num_beams"], each.weights) for each in read_ledger(tmp_path)] == [
        (1, "sha256:1"),
        (4, "sha256:2"),
    ]


def test_strangers_see_no_paths(entry):
    assert entry.without_paths().origin == {"source": "test.fr", "references": ["a.en", "b.en"]}


def test_weights_are_known_by_their_sha256(tmp_path):
    assert weights_fingerprint(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert weights_fingerprint(tmp_path) == f"sha256:{hashlib.sha256(b'weights').hexdigest()}"
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"more")
    both = weights_fingerprint(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"mote")
    assert both != weights_fingerprint(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: record.update(format=9),
        lambda record: record.pop("entries"),
        lambda record: record["entries"][0].pop("hypotheses"),
        lambda record: record["entries"][0].update(hypotheses=[1, 2, 3]),
        lambda record: record["entries"][0].update(fingerprints={}),
        lambda record: record["entries"][0].update(decoding=[]),
        lambda record: record["entries"][0]["scoring"].update(n_bootstrap=10**9),
        lambda record: record["entries"][0]["scoring"].update(metrics=["comet"]),
        lambda record: record["entries"][0]["metrics"][0].update(value="high"),
        lambda record: record["entries"][0]["metrics"][0].update(name="comet"),
        lambda record: record["entries"][0]["metrics"][0].update(interval=[1]),
    ],
)
def test_a_ledger_that_is_none_is_refused(entry, tmp_path, damage):
    path = write_ledger(tmp_path, [entry])
    record = json.loads(path.read_text(encoding="utf-8"))
    damage(record)
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ValueError, match=r"score_ledger\.json must be a score ledger of format 1, but it is damaged"):
        read_ledger(tmp_path)


# Intervals and comparisons


def test_an_interval_surrounds_the_figure_and_is_the_same_each_time():
    hypotheses = [f"the cat number {n} sleeps on the old {'mat' if n % 3 else 'rug'} ." for n in range(60)]
    references = [f"the cat number {n} sleeps on the old mat ." for n in range(60)]
    scores = evaluate_translations(hypotheses, references, n_bootstrap=200)
    assert scores == evaluate_translations(hypotheses, references, n_bootstrap=200)
    for metric in scores:
        low, high = metric.interval
        assert low < metric.value < high
        assert "|bs:200|seed:12345|" in metric.signature
    narrow = evaluate_translations(hypotheses * 9, references * 9, metrics=["bleu"], n_bootstrap=200)["bleu"].interval
    wide = scores["bleu"].interval
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 2


def test_more_resamples_or_none_change_no_figure():
    plain = evaluate_translations(HYPOTHESES, REFERENCES)
    assert [metric.value for metric in plain] == [
        metric.value for metric in evaluate_translations(HYPOTHESES, REFERENCES, n_bootstrap=9)
    ]
    assert all(metric.interval is None and "bs:" not in metric.signature for metric in plain)


def noisy_corpus(seed: int, sentences: int, damage: float) -> tuple[list[str], list[str]]:
    """Hypotheses and references of one to nine words, a share of the words wrong."""
    draw = random.Random(seed)
    words = ("the", "a", "cat", "dog", "sat", "on", "mat", "in", "sun", "big", "red", "house")
    references = [" ".join(draw.choices(words, k=draw.randint(1, 9))) for _ in range(sentences)]
    hypotheses = [
        " ".join(draw.choice(words) if draw.random() < damage else word for word in [*text.split(), *words[:1]])
        for text in references
    ]
    return hypotheses, references


@pytest.mark.parametrize("seed", range(6))
def test_intervals_are_percentiles_of_what_sacrebleu_draws(seed):
    """Second implementation: sacreBLEU's own resamples; its own bounds leave the range on such corpora."""
    import numpy
    import sacrebleu
    from sacrebleu.significance import _bootstrap_resample

    hypotheses, references = noisy_corpus(seed, (1, 2, 3, 5, 40, 120)[seed], 0.1 * seed)
    scores = evaluate_translations(hypotheses, references, n_bootstrap=300)
    for name, metric in {"bleu": sacrebleu.BLEU(), "chrf": sacrebleu.CHRF(), "ter": sacrebleu.TER()}.items():
        statistics = metric._extract_corpus_statistics(hypotheses, [references])
        drawn = [each.score for each in _bootstrap_resample(statistics, metric, 300)[1]]
        assert scores[name].interval == pytest.approx(numpy.percentile(drawn, (2.5, 97.5)), abs=1e-3)


@pytest.mark.parametrize("seed", range(12))
def test_no_bound_lies_where_no_score_does(seed):
    hypotheses, references = noisy_corpus(seed, 1 + seed % 4, (0.0, 0.5, 1.0)[seed % 3])
    if seed % 5 == 0:
        hypotheses = references if seed % 2 else [f"{text} and much more of this and that" for text in hypotheses]
    for metric in evaluate_translations(hypotheses, references, n_bootstrap=100):
        low, high = metric.interval
        assert 0 <= low <= high, metric
        assert metric.name == "ter" or (high <= 100 and metric.value <= 100), metric
        assert "|ci:percentile|" in metric.signature


def test_another_seed_of_sacrebleus_changes_no_interval(monkeypatch):
    """A figure is computed again on other machines, whose variables are their own."""
    before = evaluate_translations(HYPOTHESES, REFERENCES, n_bootstrap=50)
    monkeypatch.setenv("SACREBLEU_SEED", "7")
    assert evaluate_translations(HYPOTHESES, REFERENCES, n_bootstrap=50) == before


def test_an_interval_of_an_earlier_version_is_read_as_none(entry, tmp_path):
    path = write_ledger(tmp_path, [entry])
    path.write_text(path.read_text(encoding="utf-8").replace("|ci:percentile", ""), encoding="utf-8")
    (read,) = read_ledger(tmp_path)
    assert [(each.value, each.interval) for each in read.metrics] == [(each.value, None) for each in entry.metrics]


def test_a_real_difference_is_significant_and_none_is_not():
    references = [f"the cat number {n} sleeps on the old mat in the sun ." for n in range(80)]
    worse = [text.replace("mat in the", "rug at this") if n % 2 else text for n, text in enumerate(references)]
    other = [text.replace("mat in the", "rug at this") if n % 2 == 0 else text for n, text in enumerate(references)]
    better = {each.name: each for each in compare_systems(references, worse, references)}
    equal = compare_systems(worse, other, references)
    same = compare_systems(worse, worse, references)

    assert better["BLEU (13a, cased)"].value == pytest.approx(100)
    assert better["BLEU (13a, cased)"].p_value < 0.01
    assert better["TER (lower is better)"].value < better["TER (lower is better)"].other_value
    assert all(each.p_value > 0.05 for each in equal)
    assert all(each.p_value == 1 for each in same)  # sacreBLEU says 0.001 here
    assert "bs:1000|seed:12345" in str(equal[0])


def test_systems_of_different_length_are_not_compared():
    with pytest.raises(ValueError, match="3 hypotheses and 2 references"):
        compare_systems(HYPOTHESES, HYPOTHESES, ["a", "b"])
