"""Checks that every export makes first, and the special tokens of the exported model."""

import tempfile

from transformers import GenerationConfig

from ..model.model_admission import has_adapters, require_plain_weights
from ..model.modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration

LONGEST = 512
"""Tokens that OPUS-MT models may generate, for a model whose own limit (source + n) the format cannot express."""


def require_ours(model: object, format_name: str) -> None:
    """Check that `model` is one of this package's models and computes with its plain weights only.

    Args:
        model: the model to export.
        format_name: the format to export to.

    Raises:
        TypeError: another class of model.
        ValueError: adapters, quantised or sharded layers, parametrisations, hooks, or replaced modules or methods.
    """
    # a PEFT wrapper is checked through the model inside it, whose message names the adapters
    if not isinstance(model, VanillaTransformerForConditionalGeneration) and not has_adapters(model):
        raise TypeError(
            f"An export needs a VanillaTransformerForConditionalGeneration, got {type(model).__name__}. Load one "
            "with AutoModelForSeq2SeqLM."
        )
    require_plain_weights(model, f"The export to {format_name}")


def refuse_if_any(cannot: list[str], name: str) -> None:
    """Raise if the format cannot represent something of the model.

    Args:
        cannot: what it cannot represent, one phrase each.
        name: name of the format.

    Raises:
        ValueError: `cannot` is not empty.
    """
    if cannot:
        raise ValueError(f"{name} cannot represent a model with {', '.join(cannot)}. Export it to another format.")


def require_saveable_settings(settings: GenerationConfig) -> None:
    """Refuse settings that `transformers` reads but does not save, such as a temperature without sampling.

    Raises:
        ValueError: there is such a setting.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            settings.save_pretrained(folder)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"The settings in generation_config.json must be valid, or transformers does not save them: {reason}"
        ) from error


def start_id(model: VanillaTransformerForConditionalGeneration) -> int | None:
    """The decoder's start token, as in `generate`: from the generation config, or else from the config."""
    start = model.generation_config.decoder_start_token_id
    return model.config.decoder_start_token_id if start is None else start


def end_ids(model: VanillaTransformerForConditionalGeneration) -> list[int]:
    """The end-of-sentence tokens, as in `generate`; empty if neither config states one."""
    ends = model.generation_config.eos_token_id
    ends = model.config.eos_token_id if ends is None else ends
    if ends is None:
        return []
    return list(ends) if isinstance(ends, list) else [ends]
