"""Evaluate models: scores with signatures, a nearest-neighbour baseline, and reproducible results."""

from .baseline import nearest_neighbour_translations
from .evaluating import EvaluationResult, ImplausibleTestSetError, ModelEvaluation, evaluate_model
from .ledger import (
    LEDGER_NAME,
    N_BOOTSTRAP,
    LedgerEntry,
    add_to_ledger,
    make_entry,
    read_ledger,
    remove_from_ledger,
    weights_fingerprint,
    write_ledger,
)
from .origins import Origin
from .results import refuse_existing_results, write_scores
from .run_records import averaged_checkpoints
from .scores import MetricScore, TranslationScores, evaluate_translations, load_metric
from .significance import Comparison, compare_systems

__all__ = [
    "LEDGER_NAME",
    "N_BOOTSTRAP",
    "Comparison",
    "EvaluationResult",
    "ImplausibleTestSetError",
    "LedgerEntry",
    "MetricScore",
    "ModelEvaluation",
    "Origin",
    "TranslationScores",
    "add_to_ledger",
    "averaged_checkpoints",
    "compare_systems",
    "evaluate_model",
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
