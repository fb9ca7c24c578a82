"""An `evaluate` module for translations: BLEU, chrF and TER by sacreBLEU, and Moses-tokenised BLEU, with signatures.

`evaluate.load` copies this one file into its modules cache, so it imports nothing of this package, and each import has
its own line, because `evaluate` reads them one line at a time. Nothing here needs a network.

Sources: Post (2018) for BLEU and signatures, Popović (2015) for chrF, Snover et al. (2006) for TER. The Moses variant
follows the older practice of `tokenizer.perl`, `lowercase.perl` and `multi-bleu.perl` in this order: text is tokenised
by sacremoses with its case kept, then lower-cased, then split at spaces. Hyphens stay (no `-a`, and none of the
"##AT##-##AT##" compound splitting of the WMT 2014 papers), punctuation is not normalised, and XML is not escaped:
escaping renames tokens equally on both sides and changes no score. Unlike `multi-bleu.perl`, which gives 0 when no
four-gram matches, sacreBLEU's exponential smoothing stays on.

Intervals are bootstrap percentiles (Efron 1979; Koehn 2004 for BLEU): the corpora that sacreBLEU draws with its seed
are scored, and the bounds are the 2.5th and 97.5th percentiles, so each bound is a score that such a corpus can have.
sacreBLEU itself prints the mean of these scores plus or minus half that width, which on a small corpus leaves the
metric's range. The signature says `ci:percentile`.
"""

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import datasets
import evaluate
import numpy as np
import sacrebleu
import sacremoses
from sacrebleu.metrics.base import Metric
from sacremoses.corpus import NonbreakingPrefixes

_CITATION = """\
@inproceedings{post-2018-call,
  title = "A Call for Clarity in Reporting {BLEU} Scores",
  author = "Post, Matt",
  booktitle = "Proceedings of the Third Conference on Machine Translation: Research Papers",
  year = "2018",
  url = "https://aclanthology.org/W18-6319",
}
"""
_DESCRIPTION = "BLEU, chrF and TER by sacreBLEU, and lower-cased, Moses-tokenised BLEU, each with its signature."
_INPUTS = """
Args:
    predictions: one translation per sentence, plain text (neither tokenised nor lower-cased).
    references: one reference per sentence, or a list of references per sentence, all of the same length.
    metrics: names out of "bleu", "chrf", "ter", "moses_bleu"; all by default, computed in this order.
    tokenize: sacreBLEU's tokeniser for "bleu": "13a" (default), "intl", "zh" or "char".
    target_lang: language code for the rules of "moses_bleu", such as "de" or "pt-BR"; English rules by default.
    n_bootstrap: resamples of the corpus for a 95 % percentile interval; no interval by default.

Returns:
    For each metric: `label`, `score` (0 to 100; TER may exceed 100), `signature`, `interval` (two bounds, or `None`
    without resamples), and `higher_is_better`.
"""
_SEED = 12345  # sacreBLEU's default, ignoring SACREBLEU_SEED: scores must be reproducible elsewhere
_PERCENTILES = (2.5, 97.5)
_BLEU_TOKENIZERS = ("13a", "intl", "zh", "char")  # sacreBLEU's others need a download or a package of their own


class _Options(NamedTuple):
    tokenize: str
    target_lang: str | None
    n_bootstrap: int


class _Figure(NamedTuple):
    label: str
    score: float
    signature: str
    interval: list[float] | None


def _figure(
    label: str, metric: Metric, predictions: list[str], streams: list[list[str]], options: _Options
) -> _Figure:
    """One metric over the corpus, with the bounds of its bootstrap interval if resamples are requested."""
    statistics = metric._extract_corpus_statistics(predictions, streams)
    score = _in_range(metric, metric._aggregate_and_compute(statistics).score)
    signature = metric.get_signature()
    if options.n_bootstrap < 2:
        return _Figure(label, score, signature.format(), None)
    signature.update("seed", str(_SEED))
    signature.update("bs", options.n_bootstrap)
    signature.update("ci", "percentile")
    drawn = _resampled_scores(metric, np.array(statistics, dtype=np.float64), options.n_bootstrap)
    bounds = [float(bound) for bound in np.percentile(drawn, _PERCENTILES)]
    return _Figure(label, score, signature.format(), bounds)


def _resampled_scores(metric: Metric, statistics: np.ndarray, n_bootstrap: int) -> list[float]:
    """The scores of resampled corpora, the same that sacreBLEU's `_bootstrap_resample` draws with this seed."""
    draw = np.random.default_rng(_SEED)
    size = len(statistics)  # (sentences, statistics of a sentence)
    scores = []
    for _ in range(n_bootstrap):  # one at a time: all at once would take gigabytes for a large corpus
        times_drawn = np.bincount(draw.choice(size, size=size, replace=True), minlength=size)
        scores.append(_in_range(metric, metric._compute_score_from_stats(times_drawn @ statistics).score))
    return scores


def _in_range(metric: Metric, score: float) -> float:
    """Clip a score to its range: a perfect BLEU comes out as 100.00000000000004; only TER has no upper bound."""
    return float(score) if isinstance(metric, sacrebleu.TER) else min(float(score), 100.0)


def _bleu(predictions: list[str], streams: list[list[str]], options: _Options) -> _Figure:
    metric = sacrebleu.BLEU(tokenize=options.tokenize)
    return _figure(f"BLEU ({options.tokenize}, cased)", metric, predictions, streams, options)


def _chrf(predictions: list[str], streams: list[list[str]], options: _Options) -> _Figure:
    return _figure("chrF2", sacrebleu.CHRF(), predictions, streams, options)


def _ter(predictions: list[str], streams: list[list[str]], options: _Options) -> _Figure:
    return _figure("TER (lower is better)", sacrebleu.TER(), predictions, streams, options)


def _moses_bleu(predictions: list[str], streams: list[list[str]], options: _Options) -> _Figure:
    language, rules = _moses_rules(options.target_lang)
    moses = sacremoses.MosesTokenizer(lang=language)

    def tokenized(sentences: list[str]) -> list[str]:
        return [moses.tokenize(s, aggressive_dash_splits=False, escape=False, return_str=True) for s in sentences]

    # `force` silences the advice to detokenise first: this score is defined on tokenised text
    metric = sacrebleu.BLEU(lowercase=True, tokenize="none", force=True)
    label = "tokenised lower-cased BLEU (Moses, not comparable with scores of plain text)"
    figure = _figure(label, metric, tokenized(predictions), [tokenized(stream) for stream in streams], options)
    signature = figure.signature.replace("tok:none", f"tok:moses-{rules}")
    return figure._replace(signature=f"{signature}|dash:keep|escape:no|sacremoses:{version('sacremoses')}")


_METRICS = {"bleu": _bleu, "chrf": _chrf, "ter": _ter, "moses_bleu": _moses_bleu}


def _moses_rules(target_lang: str | None) -> tuple[str, str]:
    """Return the language whose rules sacremoses applies, and its name in the signature."""
    if target_lang is None:
        return "en", "en-by-default"
    if not isinstance(target_lang, str) or not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*", target_lang):
        raise ValueError(
            f"target_lang must be a language code such as 'de' or 'pt-BR', but {target_lang!r} was given. "
            "Leave it out for English rules."
        )
    language = re.split("[-_]", target_lang)[0].lower()
    known = set(NonbreakingPrefixes().available_langs.values())
    # for an unknown language, sacremoses silently uses English abbreviations
    return language, language if language in known else f"{language}-with-en-prefixes"


def _check_options(metrics: tuple[str, ...], tokenize: str) -> None:
    unknown = [name for name in metrics if name not in _METRICS]
    if unknown or not metrics:
        raise ValueError(
            f"metrics must name one or more of {', '.join(_METRICS)}, but {', '.join(map(repr, unknown)) or 'none'} "
            "was given. Leave the argument out to compute them all."
        )
    if tokenize not in _BLEU_TOKENIZERS:
        raise ValueError(
            f"tokenize must be one of {', '.join(_BLEU_TOKENIZERS)}, but {tokenize!r} was given. "
            "Use '13a' unless the target language is written without spaces."
        )


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class TranslationMetrics(evaluate.Metric):
    """BLEU, chrF, TER and Moses-tokenised BLEU over one corpus."""

    def _info(self) -> evaluate.MetricInfo:
        prediction = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[
                datasets.Features(
                    {"predictions": prediction, "references": datasets.Sequence(datasets.Value("string"))}
                ),
                datasets.Features({"predictions": prediction, "references": datasets.Value("string")}),
            ],
            reference_urls=["https://github.com/mjpost/sacrebleu", "https://github.com/hplt-project/sacremoses"],
        )

    def _compute(
        self,
        predictions: Sequence[str],
        references: Sequence[str] | Sequence[Sequence[str]],
        metrics: Sequence[str] | None = None,
        tokenize: str = "13a",
        target_lang: str | None = None,
        n_bootstrap: int = 0,
    ) -> dict[str, dict[str, Any]]:
        """Return {name: {label, score, signature, interval, higher_is_better}} in the order of `_METRICS`."""
        chosen = tuple(_METRICS) if metrics is None else (metrics,) if isinstance(metrics, str) else tuple(metrics)
        _check_options(chosen, tokenize)
        per_sentence = [[item] if isinstance(item, str) else item for item in references]
        if len({len(item) for item in per_sentence}) != 1:
            raise ValueError("Every sentence must have the same number of references, but these numbers differ.")
        streams = [list(stream) for stream in zip(*per_sentence, strict=True)]  # (references per sentence, sentences)

        options = _Options(tokenize, target_lang, n_bootstrap)
        return {
            name: {**compute(list(predictions), streams, options)._asdict(), "higher_is_better": name != "ter"}
            for name, compute in _METRICS.items()
            if name in chosen
        }
