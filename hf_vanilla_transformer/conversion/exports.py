"""What every export checks first: a model of ours, that the format has a form for; and how such a model decodes."""

import tempfile

from transformers import GenerationConfig

from ..model.model_admission import has_adapters, require_plain_weights
from ..model.modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration

LONGEST = 512
"""Tokens that OPUS-MT models may generate, for a model whose own limit (source + n) the format cannot express."""


def require_ours(model: object, format_name: str) -> None:
    """Raise for any other class, and for a model whose weights are not all that it computes with.

    Args:
        model: to be exported.
        format_name: what it is exported to.

    Raises:
        TypeError: another class.
        ValueError: adapters, quantised or sharded layers, parametrisations, hooks, or other modules or methods.
    """
    # a wrapper of PEFT answers for the model inside it, which says what is in its way
    if not isinstance(model, VanillaTransformerForConditionalGeneration) and not has_adapters(model):
        raise TypeError(
            f"What is exported is a VanillaTransformerForConditionalGeneration, got {type(model).__name__}. Load one "
            "with AutoModelForSeq2SeqLM."
        )
    require_plain_weights(model, f"The export to {format_name}")


def refuse_if_any(cannot: list[str], name: str) -> None:
    """Raise if there is anything that a format cannot represent.

    Args:
        cannot: one phrase each.
        name: of the format.

    Raises:
        ValueError: there is.
    """
    if cannot:
        raise ValueError(f"{name} has no form for a model with {', '.join(cannot)}. Export it to another format.")


def require_saveable_settings(settings: GenerationConfig) -> None:
    """Refuse what `transformers` reads but does not save, such as a temperature without sampling.

    Raises:
        ValueError: there is some.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            settings.save_pretrained(folder)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"The settings in generation_config.json must be such that transformers saves them, but it says: {reason}"
        ) from error


def start_id(model: VanillaTransformerForConditionalGeneration) -> int | None:
    """The token that a translation starts from, as in `generate`: the generation config's, or else the config's."""
    start = model.generation_config.decoder_start_token_id
    return model.config.decoder_start_token_id if start is None else start


def end_ids(model: VanillaTransformerForConditionalGeneration) -> list[int]:
    """The tokens that end a translation, as in `generate`; none if neither config states one."""
    ends = model.generation_config.eos_token_id
    ends = model.config.eos_token_id if ends is None else ends
    if ends is None:
        return []
    return list(ends) if isinstance(ends, list) else [ends]
