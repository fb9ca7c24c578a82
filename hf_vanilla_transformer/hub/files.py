"""Which files of a model's folder are published: an allow-list.

It holds weights in safetensors, configs, the tokenizer, the code for `trust_remote_code`, the `translate` pipeline,
the manifest, the card, the score ledger and one illustrated page. Optimizer states, the Trainer's arguments, logs and
temporary files are not published. Published files are also searched for access tokens.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..evaluation.ledger import LEDGER_NAME, LedgerEntry, write_ledger
from ..evaluation.run_records import CARD_NAME
from ..model.json_files import read_json, read_json_object, to_json
from ..model.manifest import MANIFEST_NAME, read_manifest, write_manifest
from ..model.saved_code import AUTO_MAP, PIPELINES

ILLUSTRATION_NAME = "illustration.html"

_MODEL_ROOM = Path(__file__).parent.parent / "model"
_EARLIER_CODE = re.compile(r"[a-z]+_vanilla_transformer\.py|pipeline\.py")  # of pushes by version 0.1.0
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_CONFIGS = ("config.json", "generation_config.json")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
# the manifest's fields besides its files; paths of this machine are left out or reduced to file names
_ABOUT = ("step", "versions", "fingerprint", "text", "training", "converted_from", "averaged")


def travelling_code() -> list[Path]:
    """The files of this package that are published with the weights, including the pipeline."""
    return sorted(path for path in _MODEL_ROOM.glob("*.py") if path.name != "__init__.py")


def weight_files(folder: Path) -> list[Path]:
    """The file with the weights, or the index of sharded weights and the shards.

    Raises:
        ValueError: the index cannot be read, or names files outside the folder.
    """
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    index = folder / _INDEX
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{index} must say which files hold the weights, but it cannot be read ({error}).") from error
    if not all(isinstance(name, str) and _SHARD.fullmatch(name) for name in names):
        raise ValueError(f"{index} must name files such as model-00001-of-00002.safetensors there, but does not.")
    return [index, *(folder / name for name in names)]


def files_of_model(folder: Path, vocabulary_files: Iterable[str]) -> list[Path]:
    """Files that are published unchanged: weights, generation config, tokenizer, the illustrated page.

    Args:
        folder: a complete model folder.
        vocabulary_files: names of the vocabulary files of the tokenizer's class.
    """
    names = dict.fromkeys((_CONFIGS[1], *_TOKENIZER, *vocabulary_files, ILLUSTRATION_NAME))
    return [*weight_files(folder), *(folder / name for name in names if (folder / name).is_file())]


def is_publishable(name: str) -> bool:
    """Whether a file of a repository may have been put there by a push."""
    code = {path.name for path in travelling_code()}
    known = {_WEIGHTS, _INDEX, *_CONFIGS, *_TOKENIZER, CARD_NAME, LEDGER_NAME, MANIFEST_NAME, ILLUSTRATION_NAME, *code}
    return name in known or any(kind.fullmatch(name) for kind in (_SHARD, _EARLIER_CODE))


def stage(folder: Path, staged: Path, vocabulary_files: Iterable[str], entries: Sequence[LedgerEntry]) -> None:
    """Copy the published files, except the card, and write a manifest of exactly these files.

    Args:
        folder: a complete model folder.
        staged: an empty folder.
        vocabulary_files: as in `files_of_model`.
        entries: the ledger to publish.
    """
    for path in [*files_of_model(folder, vocabulary_files), *travelling_code()]:
        shutil.copyfile(path, staged / path.name)
    config = read_json_object(folder / _CONFIGS[0])
    (staged / _CONFIGS[0]).write_text(_as_text(_published_config(config)), encoding="utf-8", newline="\n")
    if entries:
        write_ledger(staged, [entry.without_paths() for entry in entries])
    write_manifest(staged, about_the_model(folder))


def about_the_model(folder: Path) -> dict[str, Any]:
    """Step, versions, text and training from the folder's manifest, without private paths."""
    manifest = read_manifest(folder) or {}
    about = {name: manifest[name] for name in _ABOUT if name in manifest}
    if isinstance(about.get("averaged"), list):
        about["averaged"] = [Path(str(checkpoint)).name for checkpoint in about["averaged"]]
    if isinstance(about.get("converted_from"), Mapping):
        about["converted_from"] = {name: _no_path(value) for name, value in about["converted_from"].items()}
    return about


def _no_path(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) and Path(value).expanduser().exists() else value


def _published_config(config: Mapping[str, Any]) -> dict[str, Any]:
    published = {name: value for name, value in config.items() if not name.startswith("_")}
    published["auto_map"] = AUTO_MAP
    published["custom_pipelines"] = PIPELINES
    return published


def _as_text(record: Mapping[str, Any]) -> str:
    return to_json(record, indent=2, sort_keys=True) + "\n"


# Access tokens

_TOKEN = re.compile(rb"(?:hf_|api_org_)[A-Za-z0-9]{20,}")
_BLOCK, _LONGEST = 1 << 20, 512  # bytes


def require_no_token(folder: Path, tokens: Iterable[str]) -> None:
    """Refuse to publish a file that contains an access token.

    Args:
        folder: the folder to publish.
        tokens: tokens known here; anything that looks like a Hub token is found too.

    Raises:
        ValueError: a file contains a token; the message names the file, never the token.
    """
    known = [token.encode() for token in tokens if len(token) >= 8]
    for path in sorted(folder.iterdir()):
        if any(_TOKEN.search(block) or any(token in block for token in known) for block in _blocks(path)):
            raise ValueError(
                f"{path.name} holds what looks like an access token, so nothing is published. Remove it from the "
                "model's folder, and revoke it: https://huggingface.co/settings/tokens"
            )


def _blocks(path: Path) -> Iterator[bytes]:
    """Read a file in overlapping blocks: each begins with the end of the one before."""
    end = b""
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            yield end + block
            end = block[-_LONGEST:]
