"""Corpus evaluation: scores with their signatures, a baseline from memory alone, results that can be recomputed."""

from .baseline import nearest_neighbour_translations
from .ledger import (
    LEDGER_NAME,
    N_BOOTSTRAP,
    LedgerEntry,
    add_to_ledger,
    averaged_checkpoints,
    make_entry,
    read_ledger,
    remove_from_ledger,
    weights_fingerprint,
    write_ledger,
)
from .results import refuse_existing_results, write_scores
from .scores import MetricScore, TranslationScores, evaluate_translations, load_metric
from .significance import Comparison, compare_systems

__all__ = [
    "LEDGER_NAME",
    "N_BOOTSTRAP",
    "Comparison",
    "LedgerEntry",
    "MetricScore",
    "TranslationScores",
    "add_to_ledger",
    "averaged_checkpoints",
    "compare_systems",
    "evaluate_translations",
    "load_metric",
    "make_entry",
    "nearest_neighbour_translations",
    "read_ledger",
    "refuse_existing_results",
    "remove_from_ledger",
    "weights_fingerprint",
    "write_ledger",
    "write_scores",
]
