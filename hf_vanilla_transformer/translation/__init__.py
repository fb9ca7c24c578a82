"""Text in, text out: translations with their scores, in order and in bulk, and the log-probability of given ones."""

from ..model.text_decoding import BATCH_TOKENS as DEFAULT_BATCH_TOKENS
from .forced_decoding import TargetLogProbability, target_log_probabilities
from .loading import choose_device, load_model_and_tokenizer
from .translator import Hypothesis, Translation, Translator, describe_decoding

__all__ = [
    "DEFAULT_BATCH_TOKENS",
    "Hypothesis",
    "TargetLogProbability",
    "Translation",
    "Translator",
    "choose_device",
    "describe_decoding",
    "load_model_and_tokenizer",
    "target_log_probabilities",
]
