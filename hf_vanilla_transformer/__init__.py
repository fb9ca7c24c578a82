"""The Transformer of "Attention Is All You Need" as a plugin of the Hugging Face stack.

Importing the package registers the config and the models with `AutoConfig`, `AutoModel` and `AutoModelForSeq2SeqLM`.
Everything else is resolved on first use, so that the import costs what `from transformers import
PreTrainedModel` does.
"""

import importlib
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

from .configuration_vanilla_transformer import VanillaTransformerConfig
from .modeling_vanilla_transformer import (
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerModel,
    VanillaTransformerPreTrainedModel,
)

if TYPE_CHECKING:
    from .conversion.ctranslate2_export import to_ctranslate2
    from .conversion.fsmt import from_fsmt
    from .conversion.marian import from_marian, to_marian
    from .conversion.onnx_export import to_onnx
    from .data.batching import TokenBudgetBatchSampler
    from .data.reading import load_parallel_corpus
    from .evaluation import evaluate_translations
    from .illustration import illustrate
    from .tokenization import train_tokenizer
    from .training.averaging import average_checkpoints
    from .training.trainer import VanillaTransformerTrainer
    from .translation import Translator

__version__ = "0.1.0"

_ROOM_OF = {
    "TokenBudgetBatchSampler": "data.batching",
    "Translator": "translation",
    "VanillaTransformerTrainer": "training.trainer",
    "average_checkpoints": "training.averaging",
    "evaluate_translations": "evaluation",
    "from_fsmt": "conversion.fsmt",
    "from_marian": "conversion.marian",
    "illustrate": "illustration",
    "load_parallel_corpus": "data.reading",
    "to_ctranslate2": "conversion.ctranslate2_export",
    "to_marian": "conversion.marian",
    "to_onnx": "conversion.onnx_export",
    "train_tokenizer": "tokenization",
}

__all__ = [
    "TokenBudgetBatchSampler",
    "Translator",
    "VanillaTransformerConfig",
    "VanillaTransformerForConditionalGeneration",
    "VanillaTransformerModel",
    "VanillaTransformerPreTrainedModel",
    "VanillaTransformerTrainer",
    "average_checkpoints",
    "evaluate_translations",
    "from_fsmt",
    "from_marian",
    "illustrate",
    "load_parallel_corpus",
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


def _register() -> None:
    AutoConfig.register("vanilla_transformer", VanillaTransformerConfig, exist_ok=True)
    AutoModel.register(VanillaTransformerConfig, VanillaTransformerModel, exist_ok=True)
    AutoModelForSeq2SeqLM.register(VanillaTransformerConfig, VanillaTransformerForConditionalGeneration, exist_ok=True)
    VanillaTransformerConfig.register_for_auto_class()
    VanillaTransformerModel.register_for_auto_class("AutoModel")
    VanillaTransformerForConditionalGeneration.register_for_auto_class("AutoModelForSeq2SeqLM")


_register()
