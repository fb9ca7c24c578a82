"""How a saved folder names its code: the classes for the Auto classes, and the `translate` pipeline."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # never run: transformers copies the files that it sees imported, so these are saved with the model
    from .disk_space import DiskFullError  # noqa: F401
    from .pipeline import TranslationPipeline  # noqa: F401

AUTO_MAP = {
    "AutoConfig": "configuration_vanilla_transformer.VanillaTransformerConfig",
    "AutoModel": "modeling_vanilla_transformer.VanillaTransformerModel",
    "AutoModelForSeq2SeqLM": "modeling_vanilla_transformer.VanillaTransformerForConditionalGeneration",
}
"""File and class for each Auto class."""

PIPELINES: dict[str, Any] = {"translate": {"impl": "pipeline.TranslationPipeline", "pt": ["AutoModelForSeq2SeqLM"]}}
"""File and class of the pipeline that `transformers.pipeline` uses for the folder's model."""


def name_code(config: Any) -> None:
    """Write `AUTO_MAP` and `PIPELINES` into a config that is about to be saved with its code."""
    config.auto_map = dict(AUTO_MAP)
    config.custom_pipelines = {**(getattr(config, "custom_pipelines", None) or {}), **PIPELINES}


__all__ = ["AUTO_MAP", "PIPELINES", "name_code"]
