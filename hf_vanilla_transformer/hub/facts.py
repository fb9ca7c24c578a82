"""What is known about a model, from its folder and its owner; nothing is guessed.

Sources: the config and weights, the tokenizer, the manifest (step, versions, text, machines, time), the settings of
the run (`run.yaml`), the score ledger. Fields that none of them states are `None` or empty.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..evaluation.ledger import LedgerEntry
from ..evaluation.run_records import (
    LANGUAGE,
    OWNER_AND_NAME,
    averaged_checkpoints,
    languages_of_settings,
    settings_of_run,
)
from ..model.configuration_vanilla_transformer import VanillaTransformerConfig
from ..model.modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration
from .files import ILLUSTRATION_NAME, about_the_model

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


@dataclass(frozen=True)
class CardDetails:
    """What only a model's owner knows.

    Args:
        license: licence of the weights, by the Hub's identifier, such as `apache-2.0`.
        source_lang, target_lang: language codes, such as `en` or `pt-BR`.
        datasets: Hub names of the training data.
        data: the training data in words: release, size, licence.
        limits: what the model was not trained for.

    Raises:
        ValueError: an invalid licence or language code, an invalid Hub name of a dataset, or a score in words.
    """

    license: str | None = None
    source_lang: str | None = None
    target_lang: str | None = None
    datasets: tuple[str, ...] = ()
    data: str | None = None
    limits: str | None = None

    def __post_init__(self) -> None:
        for name in ("source_lang", "target_lang"):
            _check_code(name, getattr(self, name), LANGUAGE, "a language code such as en or pt-BR")
        _check_code("license", self.license, _LICENSE, "the Hub's name of a licence, such as apache-2.0 or cc-by-4.0")
        for dataset in self.datasets:
            _check_code("datasets", dataset, OWNER_AND_NAME, "a name on the Hub such as org/name")
        for name in ("data", "limits"):
            if "bleu" in (getattr(self, name) or "").lower():
                raise ValueError(
                    f"A score needs its signature, settings and interval, so it cannot be stated in words in {name}. "
                    "Score the model with `evaluate`: the scores go into the card."
                )


def _check_code(name: str, value: str | None, pattern: re.Pattern[str], what: str) -> None:
    if value is not None and not pattern.fullmatch(value):
        raise ValueError(f"{name} must be {what}, but {value!r} was given.")


@dataclass(frozen=True)
class ModelFacts:
    """All that a card can say."""

    config: VanillaTransformerConfig
    parameters: int
    dtype: str
    decoding: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    details: CardDetails
    entries: tuple[LedgerEntry, ...]
    source_lang: str | None
    target_lang: str | None
    about: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] | None = None
    averaged: tuple[str, ...] = ()
    has_illustration: bool = False

    @property
    def datasets(self) -> list[str]:
        """Hub names of the training data."""
        named = (self.recipe or {}).get("data", {}).get("dataset_name")
        found = [named] if isinstance(named, str) and OWNER_AND_NAME.fullmatch(named) else []
        return list(dict.fromkeys([*self.details.datasets, *found]))

    @property
    def base_model(self) -> str | None:
        """Hub name of the model that training started from."""
        named = (self.recipe or {}).get("model", {}).get("init_from")
        return named if isinstance(named, str) and OWNER_AND_NAME.fullmatch(named) else None


def gather_facts(
    folder: Path,
    model: VanillaTransformerForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    entries: Sequence[LedgerEntry],
    details: CardDetails,
) -> ModelFacts:
    """Collect the facts in a model's folder.

    Args:
        folder: the model's folder.
        model, tokenizer: loaded from it.
        entries: the ledger's entries for these weights.
        details: the owner's statements, which take precedence.
    """
    recipe = settings_of_run(folder)
    languages = _languages(recipe, entries)
    return ModelFacts(
        config=model.config,
        parameters=sum(tensor.numel() for tensor in model.parameters()),  # a tied one counts once
        dtype=str(model.dtype).removeprefix("torch."),
        decoding=_decoding(model),
        tokenizer=_describe_tokenizer(tokenizer),
        details=details,
        entries=tuple(entry.without_paths() for entry in entries),
        source_lang=details.source_lang or languages.get("source_lang"),
        target_lang=details.target_lang or languages.get("target_lang"),
        about=about_the_model(folder),
        recipe=recipe,
        averaged=averaged_checkpoints(folder),
        has_illustration=(folder / ILLUSTRATION_NAME).is_file(),
    )


def _languages(recipe: Mapping[str, Any] | None, entries: Sequence[LedgerEntry]) -> dict[str, str]:
    """Languages of the run, or else of the test sets if they agree."""
    found = languages_of_settings(recipe)
    for side in ("source_lang", "target_lang"):
        said = {entry.origin[side] for entry in entries if isinstance(entry.origin.get(side), str)}
        if side not in found and len(said) == 1 and LANGUAGE.fullmatch(code := said.pop()):
            found[side] = code
    return found


def _decoding(model: VanillaTransformerForConditionalGeneration) -> dict[str, Any]:
    from ..translation import describe_decoding

    return describe_decoding(model.generation_config)


def _describe_tokenizer(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The algorithm, as the tokenizers library names it, or the class of a tokenizer not based on that library."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {"algorithm": type(tokenizer).__name__, "size": len(tokenizer)}
    record = json.loads(backend.to_str())
    pre_tokenizer = json.dumps(record.get("pre_tokenizer"))
    over_bytes = "ByteLevel" in pre_tokenizer or bool(record["model"].get("byte_fallback"))
    algorithm = record["model"].get("type") or type(backend.model).__name__
    return {"algorithm": algorithm + (" over bytes" if over_bytes else ""), "size": len(tokenizer)}
