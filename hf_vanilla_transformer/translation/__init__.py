"""Text in, text out: translations with their scores, in order and in bulk, and the log-probability of given ones."""

from .forced_decoding import TargetLogProbability, target_log_probabilities
from .loading import choose_device, load_model_and_tokenizer
from .translator import DEFAULT_BATCH_TOKENS, Hypothesis, Translation, Translator

__all__ = [
    "DEFAULT_BATCH_TOKENS",
    "Hypothesis",
    "TargetLogProbability",
    "Translation",
    "Translator",
    "choose_device",
    "load_model_and_tokenizer",
    "target_log_probabilities",
]
