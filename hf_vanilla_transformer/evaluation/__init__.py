"""Corpus evaluation: scores with their signatures, a baseline from memory alone, results that can be recomputed."""

from .baseline import nearest_neighbour_translations
from .results import refuse_existing_results, write_scores
from .scores import MetricScore, TranslationScores, evaluate_translations, load_metric

__all__ = [
    "MetricScore",
    "TranslationScores",
    "evaluate_translations",
    "load_metric",
    "nearest_neighbour_translations",
    "refuse_existing_results",
    "write_scores",
]
