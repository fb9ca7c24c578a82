"""Read a model to import, and account for every setting and tensor in it.

`FIELDS` are the settings that configs of the BART family name as ours does; other names are in each format's file.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from ..model.checked_folders import require_finite_weights
from ..model.configuration_vanilla_transformer import VanillaTransformerConfig
from ..model.generation import lasting_generation_config
from ..model.modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration
from ..translation.loading import load_model_and_report, require_matching_weights

logger = logging.getLogger(__name__)

SIDES = ("encoder", "decoder")
FIELDS = (
    *("d_model", "max_position_embeddings", "activation_function", "scale_embedding", "use_cache"),
    *("dropout", "attention_dropout", "activation_dropout"),
    *(f"{side}_{size}" for side in SIDES for size in ("layers", "attention_heads", "ffn_dim")),
    *("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"),
)
POSITIONS = tuple(f"model.{side}.embed_positions.weight" for side in SIDES)
EMBEDDINGS = tuple(f"model.{side}.embed_tokens.weight" for side in SIDES)

# Older configs copied these from other models of the family; the classes read here compute none of them
_NOT_COMPUTED = {
    "normalize_before": "LayerNorm before each sub-layer",
    "normalize_embedding": "LayerNorm on the embeddings",
    "add_final_layer_norm": "a last LayerNorm on each stack",
}


def read_original(source: Any, model_class: type[PreTrainedModel], model_type: str) -> Any:
    """Return the model itself, or load it from a folder or Hub name in the dtype of its saved weights.

    Args:
        source: an instance of `model_class`, or a folder or Hub name of one.
        model_class: the only class that is accepted.
        model_type: its name in configs.

    Raises:
        TypeError: another kind of object.
        FileNotFoundError, NotADirectoryError, ValueError: as in `load_model_and_report`; missing or unexpected
            tensors, infinities or NaN; settings that `model_class` does not compute.
    """
    if isinstance(source, model_class):
        model, name = source, type(source).__name__
    elif isinstance(source, (str, os.PathLike)):
        name = str(source)
        model, report = load_model_and_report(source, model_type)
        # FSMT's positions, which transformers 4 does not save, are computed where they are missing
        report["missing_keys"] = set(report["missing_keys"]).difference(POSITIONS)
        _restore_shared_embeddings(model, report)
        require_matching_weights(report, name)
    else:
        raise TypeError(
            f"A conversion needs a model folder, a Hub name or a {model_class.__name__}, got "
            f"{type(source).__name__}. Give one of these."
        )
    require_finite_weights(model, name)
    _check_settings(model.config, name)
    return model


def _restore_shared_embeddings(model: Any, report: dict[str, Any]) -> None:
    """Fill both stacks' embeddings from the single matrix that was saved.

    With an untied output, `transformers` 4 shared and saved one matrix; 5 expects three and initialises the other two.
    """
    missing = set(report["missing_keys"])
    if getattr(model.config, "share_encoder_decoder_embeddings", False) and "model.shared.weight" not in missing:
        for name in missing.intersection(EMBEDDINGS):
            with torch.no_grad():
                model.get_parameter(name).copy_(model.model.shared.weight)
        report["missing_keys"] = missing.difference(EMBEDDINGS)


def _check_settings(config: PreTrainedConfig, name: str) -> None:
    for field, what in _NOT_COMPUTED.items():
        if getattr(config, field, False):
            raise ValueError(
                f"The config of {name} says {field}={getattr(config, field)}, {what}, which transformers' "
                f"{config.model_type} does not compute, so it is unclear how the weights were trained. "
                f"If its translations are good in transformers, set {field} to false in its config.json."
            )
    dropped = [side for side in SIDES if getattr(config, f"{side}_layerdrop", 0)]
    if dropped:
        logger.warning(
            f"{name} was trained with layer drop in its {' and '.join(dropped)}; fine-tuning will not use it."
        )


def common_fields(config: PreTrainedConfig) -> dict[str, Any]:
    """The settings that both configs have under the same name."""
    return {name: getattr(config, name) for name in FIELDS}


def new_config(name: str, **fields: Any) -> VanillaTransformerConfig:
    """Make our config from these fields.

    Raises:
        ValueError: our config does not allow these values; the message names the field.
    """
    try:
        # in training, the original had no positions beyond this
        return VanillaTransformerConfig(trained_source_length=fields["max_position_embeddings"], **fields)
    except StrictDataclassError as error:  # wraps the sentence that says what is wrong
        raise ValueError(f"{name} cannot be converted. {error.__cause__ or error}") from error


def new_model(
    config: VanillaTransformerConfig, weights: Mapping[str, torch.Tensor], generation_config: GenerationConfig
) -> VanillaTransformerForConditionalGeneration:
    """Make our model, in evaluation mode, with copies of exactly these weights.

    Args:
        config: its config.
        weights: under our names, tied ones under each of their names.
        generation_config: its generation config; copied.

    Raises:
        ValueError: tensors are left over, missing or of another shape, or would be tied though they differ; special or
            forced tokens are outside the vocabulary.
    """
    with torch.device("meta"):
        model = VanillaTransformerForConditionalGeneration(config)
    require_same_tensors(weights, model.state_dict())
    model.load_state_dict({name: tensor.detach().clone() for name, tensor in weights.items()}, assign=True)
    model.tie_weights()
    require_same_values(weights, model.state_dict())
    model.config.dtype = model.dtype
    model.generation_config = lasting_generation_config(generation_config)
    require_known_tokens(model.config, model.generation_config)
    return model.eval()


def require_same_tensors(given: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    """Check that the given tensors match the wanted ones in name and shape.

    Raises:
        ValueError: they do not; the message lists all that are left over, missing or of another shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in given.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    problems = [f"{name} is left over" for name in sorted(shapes.keys() - expected.keys())]
    problems += [f"{name} is missing" for name in sorted(expected.keys() - shapes.keys())]
    problems += [
        f"{name} has shape {shapes[name]} instead of {expected[name]}"
        for name in sorted(shapes.keys() & expected.keys())
        if shapes[name] != expected[name]
    ]
    if problems:
        raise ValueError(f"Every tensor must have its place in the converted model, but {'; '.join(problems)}.")


def require_same_values(given: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    """Check that tying weights, which replaces all but one of them, has changed no values.

    Raises:
        ValueError: it has; the message lists which.
    """
    changed = [name for name in sorted(given) if not is_same_tensor(found[name], given[name])]
    if changed:
        raise ValueError(
            f"Weights that the converted model ties must be equal, but {', '.join(changed)} would be replaced by "
            "another. Check that config and weights come from the same model."
        )


SPECIAL_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
FORCED_TOKENS = ("forced_bos_token_id", "forced_eos_token_id")


def require_known_tokens(config: VanillaTransformerConfig, generation_config: GenerationConfig) -> None:
    """Check that the tokens that begin, end or pad a target are in its vocabulary.

    Raises:
        ValueError: one is not; the message names all such settings.
    """
    rows = config.decoder_vocab_size or config.vocab_size
    outside = []
    for settings, names in ((config, SPECIAL_TOKENS), (generation_config, SPECIAL_TOKENS + FORCED_TOKENS)):
        for name in names:
            value = getattr(settings, name, None)
            for index in value if isinstance(value, list) else [value]:
                if index is not None and not 0 <= index < rows:
                    outside.append(f"{name} {index}")
    if outside:
        raise ValueError(
            f"Special tokens must be among the {rows:,} of the target's vocabulary, but there are "
            f"{', '.join(dict.fromkeys(outside))}. Correct config.json and generation_config.json of the model."
        )


def is_same_tensor(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two weights have equal values."""
    return one is other or (one.shape == other.shape and torch.equal(one, other))
