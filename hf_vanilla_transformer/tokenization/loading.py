"""Load any Hugging Face tokenizer, ours or another's, with one clear sentence when there is none.

Left out: running a tokenizer's own code. Nothing downloaded is executed.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hub_access import from_hub_or_cache, may_be_hub_id
from ..model.json_files import LARGEST_TABLE, read_json
from ..model.sound_folders import VOCABULARY_FILE, UnsoundFolderError, read_whole, require_sound_download
from .panics import explained_panics

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A few need none: ByT5 and CANINE read bytes and characters
CONFIG_FILE = "tokenizer_config.json"
TRIAL = "A word, 1 number."
SETTINGS_FILE = re.compile(r"(tokenizer|tekken|tokenizer_config|special_tokens_map|added_tokens|.*vocab.*)\.json")


def load_tokenizer(folder_or_id: str | os.PathLike[str], revision: str | None = None) -> PreTrainedTokenizerBase:
    """Read a tokenizer from a folder, without touching the network, or by its name from the Hub.

    Where the Hub cannot be reached, what was downloaded earlier is used, and a warning says so.

    Args:
        folder_or_id: a folder that holds a tokenizer (a saved model's folder does), or a Hub name such as "org/name".
        revision: branch, tag or commit of a Hub name; the main branch if not given.

    Returns:
        What `AutoTokenizer` makes of it.

    Raises:
        FileNotFoundError: no such folder, no tokenizer in it, or no such name on the Hub.
        HubNotReachedError: such an error, and a `ConnectionError`: the Hub cannot be reached, and no copy is in the
            cache.
        NotADirectoryError: a file was given.
        ValueError: an empty name, tokenizer files that cannot be read, or files that differ from their manifest.
    """
    if not str(folder_or_id):
        raise ValueError("A tokenizer's folder or Hub name must not be empty: give one of the two.")
    folder = Path(folder_or_id).expanduser()
    if folder.is_dir():
        return read_whole(folder, lambda: _load_from_folder(folder), tokenizer_alone=True)
    if folder.exists():
        raise NotADirectoryError(f"A tokenizer is read from a folder, but {folder} is a file: give its folder.")
    if isinstance(folder_or_id, str) and may_be_hub_id(folder_or_id):
        return from_hub_or_cache(folder_or_id, lambda cached: _load_from_hub(folder_or_id, revision, cached))
    raise FileNotFoundError(f"There is no folder {folder} to read a tokenizer from: check the path.")


def _load_from_folder(folder: Path) -> PreTrainedTokenizerBase:
    found = sorted(path.name for path in folder.iterdir())
    has_vocabulary = any(VOCABULARY_FILE.fullmatch(name) for name in found)
    if not has_vocabulary and CONFIG_FILE not in found:
        raise _nothing_to_load(folder, found)
    for name in found:
        if SETTINGS_FILE.fullmatch(name) and (folder / name).is_file():
            read_json(folder / name, LARGEST_TABLE)
    try:
        return _read(str(folder), local_files_only=True)
    except Exception as error:
        if not has_vocabulary:
            raise _nothing_to_load(folder, found) from error
        if "sentencepiece" in str(error).lower() and find_spec("sentencepiece") is None:
            raise ValueError(
                f"The tokenizer in {folder} needs the package sentencepiece. Install it: pip install sentencepiece"
            ) from error
        raise ValueError(
            f"The tokenizer files in {folder} must be readable by AutoTokenizer, but it says {_first_line(error)} "
            f"The folder holds {_listing(found)}: copy the tokenizer's files again, whole."
        ) from error


def _nothing_to_load(folder: Path, found: list[str]) -> FileNotFoundError:
    return FileNotFoundError(
        f"A tokenizer's folder needs tokenizer.json (or another vocabulary file), but {folder} holds "
        f"{_listing(found)}: learn a tokenizer with `train_tokenizer` and save it there, "
        "or copy the files of the one that the model was trained with."
    )


def _load_from_hub(name: str, revision: str | None, local_files_only: bool) -> PreTrainedTokenizerBase:
    """Of a repository that the Hub refuses, such as one that was deleted, what is in the cache."""
    from huggingface_hub import HfApi

    refusal: Exception | None = None
    if not local_files_only:
        try:
            HfApi().model_info(name, revision=revision)
        except Exception as error:
            refusal = error
    options: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only or refusal is not None}
    try:
        tokenizer = _read(name, **options)
        require_sound_download(name, options)
        return tokenizer
    except UnsoundFolderError:
        raise
    except Exception as error:
        raise FileNotFoundError(
            f"{name!r} must be a folder here or a tokenizer on the Hub, but there is no such folder and the Hub says "
            f"{_first_line(refusal or error)} Check the spelling, and the network if it is a Hub name."
        ) from error


def _read(folder_or_id: str, local_files_only: bool, revision: str | None = None) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    # `False` also keeps AutoTokenizer from asking on the terminal about the model's code beside the tokenizer
    options: Any = {"local_files_only": local_files_only, "trust_remote_code": False}
    if revision is not None:
        options["revision"] = revision
    with explained_panics():
        tokenizer = AutoTokenizer.from_pretrained(folder_or_id, **options)
        with suppress(Exception):  # some need a language first; what panics now would panic at the first sentence
            tokenizer.decode(tokenizer(TRIAL, verbose=False)["input_ids"])
    if type(tokenizer).__name__ == "FSMTTokenizer":
        from .fsmt import FSMTTokenizer

        tokenizer = FSMTTokenizer.from_pretrained(folder_or_id, **options)
    for how_it_was_read in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(how_it_was_read, None)  # else the next `save_pretrained` writes it down
    return tokenizer


def _listing(names: list[str], limit: int = 12) -> str:
    """The first names of a folder and how many more there are."""
    if not names:
        return "nothing"
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().split("\n")
    return f"{type(error).__name__}: {lines[0].rstrip('. ')}."
