"""What a model's folder records about its training run: settings, languages, validation scores.

Every file may be missing, and none is trusted: unreadable files are ignored.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml

from ..model.json_files import read_json

SETTINGS_NAME = "run.yaml"
"""The settings of a run, as a recipe that repeats it."""

CARD_NAME = "README.md"
AVERAGE_RECORD_NAME = "averaged_checkpoints.json"
"""The file that `average_checkpoints` writes beside averaged weights."""

LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
OWNER_AND_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_PRIVATE = re.compile(r"(^|_)token$|secret|password|hub|output_dir|logging_dir|run_name|resume")
"""Names of settings that are never published: secrets."""


def settings_of_run(folder: Path) -> dict[str, dict[str, Any]] | None:
    """The settings of the run that trained the model, without secrets and with paths reduced to file names.

    They are read from the run's folder, which is the parent of a checkpoint's folder.
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


def _public(value: Any) -> Any:
    """Reduce a path to its last part: the rest reveals details of the machine."""
    if isinstance(value, list):
        return [_public(item) for item in value]
    if isinstance(value, str) and re.search(r"[/\\]", value):
        is_hub_name = OWNER_AND_NAME.fullmatch(value) and not Path(value).exists()
        return value if is_hub_name else PureWindowsPath(value).name
    return value


def recorded_languages(folder: str | os.PathLike[str]) -> tuple[str | None, str | None]:
    """Source and target language of a model, from the settings of its run or else from the card that a push wrote."""
    found = languages_of_settings(settings_of_run(Path(folder)))
    if not found:
        languages = _languages_of_card(Path(folder) / CARD_NAME)
        found = dict(zip(("source_lang", "target_lang"), languages, strict=False))
    return found.get("source_lang"), found.get("target_lang")


def languages_of_settings(settings: Mapping[str, Mapping[str, Any]] | None) -> dict[str, str]:
    """`source_lang` and `target_lang`, as far as the settings of a run name them."""
    data = (settings or {}).get("data", {})
    codes = {side: data.get(side) for side in ("source_lang", "target_lang")}
    return {side: code for side, code in codes.items() if isinstance(code, str) and LANGUAGE.fullmatch(code)}


def _languages_of_card(path: Path) -> list[str]:
    """Both languages in the metadata of a card that a push wrote; in other cards their order has no meaning."""
    try:
        match = re.match(r"---\n(.*?)\n---\n", path.read_text(encoding="utf-8"), re.DOTALL)
        metadata = yaml.safe_load(match[1]) if match else {}
        languages = metadata["language"] if "vanilla-transformer" in metadata["tags"] else []
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return []
    known = [code for code in languages if isinstance(code, str) and LANGUAGE.fullmatch(code)]
    return known if len(known) == len(languages) == 2 else []


def validation_bleu_of(folder: str | os.PathLike[str]) -> float | None:
    """The best validation BLEU in the record of a run or checkpoint; `None` if there is none."""
    try:
        log = json.loads((Path(folder) / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
        return max((float(line["eval_bleu"]) for line in log if "eval_bleu" in line), default=None)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def averaged_checkpoints(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """Names of the checkpoints that the weights in `folder` are an average of; empty if they are not an average."""
    try:
        record = read_json(Path(folder) / AVERAGE_RECORD_NAME)
        return tuple(Path(checkpoint).name for checkpoint in record["averaged"])
    except (OSError, ValueError, TypeError, KeyError):
        return ()
