"""What is known of a model, gathered from its folder and from what its owner says; nothing is guessed.

Sources: the config and weights, the tokenizer, the manifest (step, versions, text, machines, time), the settings of
the run (`run.yaml`), the score ledger. Each field is `None` or empty where none of them says anything.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml

from ..evaluation.ledger import LedgerEntry, averaged_checkpoints
from .files import CARD_NAME, ILLUSTRATION_NAME, about_the_model

SETTINGS_NAME = "run.yaml"
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_PRIVATE = re.compile(r"(^|_)token$|secret|password|hub|output_dir|logging_dir|run_name|resume")
"""Settings that are nobody's business, by their names."""


@dataclass(frozen=True)
class CardDetails:
    """What only a model's owner knows.

    Args:
        license: of the weights, as the Hub names it, such as `apache-2.0`.
        source_lang, target_lang: language codes, such as `en` or `pt-BR`.
        datasets: names on the Hub of the training data.
        data: the training data in words: release, size, licence.
        limits: what the model was not trained for.

    Raises:
        ValueError: a licence or language that is no code, a dataset that is no name on the Hub, or a score in words.
    """

    license: str | None = None
    source_lang: str | None = None
    target_lang: str | None = None
    datasets: tuple[str, ...] = ()
    data: str | None = None
    limits: str | None = None

    def __post_init__(self) -> None:
        for name in ("source_lang", "target_lang"):
            _check_code(name, getattr(self, name), _LANGUAGE, "a language code such as en or pt-BR")
        _check_code("license", self.license, _LICENSE, "the Hub's name of a licence, such as apache-2.0 or cc-by-4.0")
        for dataset in self.datasets:
            _check_code("datasets", dataset, HUB_ID, "a name on the Hub such as org/name")
        for name in ("data", "limits"):
            if "bleu" in (getattr(self, name) or "").lower():
                raise ValueError(
                    f"A score needs its signature, settings and interval, so it cannot be told in words in {name}. "
                    "Score the model with `evaluate`: its figures go into the card."
                )


def _check_code(name: str, value: str | None, pattern: re.Pattern[str], what: str) -> None:
    if value is not None and not pattern.fullmatch(value):
        raise ValueError(f"{name} must be {what}, but {value!r} was given.")


@dataclass(frozen=True)
class ModelFacts:
    """All that a card can say."""

    config: Any
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
        """Names on the Hub of the training data."""
        named = (self.recipe or {}).get("data", {}).get("dataset_name")
        found = [named] if isinstance(named, str) and HUB_ID.fullmatch(named) else []
        return list(dict.fromkeys([*self.details.datasets, *found]))

    @property
    def base_model(self) -> str | None:
        """Name on the Hub of the model that training began from."""
        named = (self.recipe or {}).get("model", {}).get("init_from")
        return named if isinstance(named, str) and HUB_ID.fullmatch(named) else None


def gather_facts(
    folder: Path, model: Any, tokenizer: Any, entries: Sequence[LedgerEntry], details: CardDetails
) -> ModelFacts:
    """Read what a model's folder says.

    Args:
        folder: the model's.
        model, tokenizer: loaded from it.
        entries: the part of the ledger that is about these weights.
        details: what the owner says; it wins.
    """
    recipe = read_recipe(folder)
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


def read_recipe(folder: Path) -> dict[str, Any] | None:
    """The settings of the run that made the model, without secrets and with files by their names alone.

    They are in the run's folder; a checkpoint's folder is in it.
    """
    places = [folder, *([folder.resolve().parent] if folder.name.startswith("checkpoint-") else [])]
    for place in places:
        try:
            recipe = yaml.safe_load((place / SETTINGS_NAME).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            continue
        if isinstance(recipe, dict):
            return {
                str(section): {str(k): _public(v) for k, v in settings.items() if not _PRIVATE.search(str(k))}
                for section, settings in recipe.items()
                if isinstance(settings, dict)
            }
    return None


def recorded_languages(folder: Path) -> tuple[str | None, str | None]:
    """Source and target of a model, by the settings of its run, else by the card of ours in its folder."""
    found = _languages(read_recipe(folder), ())
    if not found:
        found = dict(zip(("source_lang", "target_lang"), _languages_of_card(folder / CARD_NAME), strict=False))
    return found.get("source_lang"), found.get("target_lang")


def _languages_of_card(path: Path) -> list[str]:
    """Both languages in the metadata of a card that a push wrote; other cards' are in no order."""
    try:
        match = re.match(r"---\n(.*?)\n---\n", path.read_text(encoding="utf-8"), re.DOTALL)
        metadata = yaml.safe_load(match[1]) if match else {}
        languages = metadata["language"] if "vanilla-transformer" in metadata["tags"] else []
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return []
    known = [code for code in languages if isinstance(code, str) and _LANGUAGE.fullmatch(code)]
    return known if len(known) == len(languages) == 2 else []


def _public(value: Any) -> Any:
    """A path by its last part: the rest tells of somebody's machine."""
    if isinstance(value, list):
        return [_public(item) for item in value]
    if isinstance(value, str) and re.search(r"[/\\]", value):
        is_hub_name = HUB_ID.fullmatch(value) and not Path(value).exists()
        return value if is_hub_name else PureWindowsPath(value).name
    return value


def _languages(recipe: Mapping[str, Any] | None, entries: Sequence[LedgerEntry]) -> dict[str, str]:
    """Of the run, else of the test sets if they agree."""
    data = (recipe or {}).get("data", {})
    found = {}
    for side in ("source_lang", "target_lang"):
        said = {entry.origin[side] for entry in entries if isinstance(entry.origin.get(side), str)}
        code = data.get(side) or (said.pop() if len(said) == 1 else None)
        if isinstance(code, str) and _LANGUAGE.fullmatch(code):
            found[side] = code
    return found


def _decoding(model: Any) -> dict[str, Any]:
    from ..translation import describe_decoding

    return describe_decoding(model.generation_config)


def _describe_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """Its algorithm, as the tokenizers library names it, or its class where that library is not behind it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {"algorithm": type(tokenizer).__name__, "size": len(tokenizer)}
    record = json.loads(backend.to_str())
    pre_tokenizer = json.dumps(record.get("pre_tokenizer"))
    over_bytes = "ByteLevel" in pre_tokenizer or bool(record["model"].get("byte_fallback"))
    algorithm = record["model"].get("type") or type(backend.model).__name__
    return {"algorithm": algorithm + (" over bytes" if over_bytes else ""), "size": len(tokenizer)}
