"""The Transformer of "Attention Is All You Need" as a plugin of the Hugging Face stack.

Importing the package registers the config and the models with `AutoConfig`, `AutoModel` and `AutoModelForSeq2SeqLM`,
and the translate pipeline with `pipeline`: immediately if `transformers` is already imported, otherwise as soon as it
is. Public names are resolved on first use, so the import itself takes milliseconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import starting  # noqa: F401 - before the slow imports
from .registration import register_with_transformers, restore_translation_pipeline
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .conversion.ctranslate2_export import to_ctranslate2
    from .conversion.fsmt import from_fsmt
    from .conversion.marian import from_marian, to_marian
    from .conversion.onnx_export import to_onnx
    from .data.batching import TokenBudgetBatchSampler
    from .data.reading import load_parallel_corpus
    from .evaluation import compare_systems, evaluate_translations
    from .hub import push_to_hub
    from .illustration import illustrate
    from .model.configuration_vanilla_transformer import VanillaTransformerConfig
    from .model.modeling_vanilla_transformer import (
        VanillaTransformerForConditionalGeneration,
        VanillaTransformerModel,
        VanillaTransformerPreTrainedModel,
    )
    from .model.pipeline import TranslationPipeline
    from .tokenization import train_tokenizer
    from .training.averaging import average_checkpoints
    from .training.trainer import VanillaTransformerTrainer
    from .translation import Translator

_ROOM_OF = {
    "TokenBudgetBatchSampler": "data.batching",
    "TranslationPipeline": "model.pipeline",
    "Translator": "translation",
    "VanillaTransformerConfig": "model.configuration_vanilla_transformer",
    "VanillaTransformerForConditionalGeneration": "model.modeling_vanilla_transformer",
    "VanillaTransformerModel": "model.modeling_vanilla_transformer",
    "VanillaTransformerPreTrainedModel": "model.modeling_vanilla_transformer",
    "VanillaTransformerTrainer": "training.trainer",
    "average_checkpoints": "training.averaging",
    "compare_systems": "evaluation",
    "evaluate_translations": "evaluation",
    "from_fsmt": "conversion.fsmt",
    "from_marian": "conversion.marian",
    "illustrate": "illustration",
    "load_parallel_corpus": "data.reading",
    "push_to_hub": "hub",
    "to_ctranslate2": "conversion.ctranslate2_export",
    "to_marian": "conversion.marian",
    "to_onnx": "conversion.onnx_export",
    "train_tokenizer": "tokenization",
}

__all__ = [
    "TokenBudgetBatchSampler",
    "TranslationPipeline",
    "Translator",
    "VanillaTransformerConfig",
    "VanillaTransformerForConditionalGeneration",
    "VanillaTransformerModel",
    "VanillaTransformerPreTrainedModel",
    "VanillaTransformerTrainer",
    "average_checkpoints",
    "compare_systems",
    "evaluate_translations",
    "from_fsmt",
    "from_marian",
    "illustrate",
    "load_parallel_corpus",
    "push_to_hub",
    "restore_translation_pipeline",
    "to_ctranslate2",
    "to_marian",
    "to_onnx",
    "train_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_ROOM_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_with_transformers()
