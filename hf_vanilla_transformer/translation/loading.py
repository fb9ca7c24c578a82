"""Load a model with its tokenizer, whole or not at all, with a clear message if something is missing.

Code that comes with a model is never run, and pickled weights are never read: both could execute anything.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..hub_access import from_hub_or_cache, may_be_hub_id
from ..model.checked_folders import CheckedFolders, require_finite_weights, require_no_adapters
from ..model.json_files import read_json_object
from ..model.sound_folders import UnsoundFolderError, read_whole, require_sound_download
from ..model.weight_headers import require_fitting_weights
from ..tokenization import load_tokenizer

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def load_model_and_tokenizer(folder_or_id: str | os.PathLike[str]) -> tuple[Any, Any]:
    """Read a translation model and its tokenizer from a folder, without touching the network, or from the Hub.

    Where the Hub cannot be reached, what was downloaded earlier is used, and a warning says so.

    Args:
        folder_or_id: a complete model folder, or a Hub name such as "org/name".

    Returns:
        The model, on the CPU, in evaluation mode and in the type its weights were saved in, and the tokenizer.

    Raises:
        FileNotFoundError: no such folder or Hub name, or a folder without config, weights or tokenizer.
        HubNotReachedError: such an error, and a `ConnectionError`: the Hub cannot be reached, and no copy is in the
            cache.
        NotADirectoryError: a file was given.
        ValueError: damaged weights or configs; weights that are missing, unexpected or of another shape than in the
            config; files that differ from the folder's manifest; a model that needs its own code; a tokenizer with
            more entries than the model has embeddings; or a folder that is written to while it is read.
    """

    folder = Path(folder_or_id).expanduser()
    is_folder = bool(str(folder_or_id)) and folder.is_dir()

    def read() -> tuple[Any, Any]:
        model = load_model(folder_or_id)
        commit = None if is_folder else _downloaded_commit(str(folder_or_id))
        tokenizer = load_tokenizer(folder_or_id, revision=commit)
        check_vocabulary(model, tokenizer, str(folder_or_id))
        return model, tokenizer

    return read_whole(folder, read) if is_folder else read()


def load_model(folder_or_id: str | os.PathLike[str]) -> Any:
    """Read a sequence-to-sequence model, as `load_model_and_tokenizer` does, without its tokenizer."""
    model, report = load_model_and_report(folder_or_id)
    require_matching_weights(report, str(folder_or_id))
    return model


def load_model_and_report(
    folder_or_id: str | os.PathLike[str], model_type: str | None = None
) -> tuple[Any, dict[str, Any]]:
    """Read a sequence-to-sequence model; missing or unexpected weights are only reported.

    Args:
        folder_or_id: as in `load_model_and_tokenizer`.
        model_type: refuse models of any other type, by their config, before weights are read.

    Returns:
        The model, and the report of `from_pretrained`, which `require_matching_weights` checks.

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError: as in `load_model_and_tokenizer`, or another type of model.
    """
    if not str(folder_or_id):
        raise ValueError("A model's folder or Hub name must not be empty. Give one of the two.")
    folder = Path(folder_or_id).expanduser()
    if folder.exists():
        if not folder.is_dir():
            raise NotADirectoryError(f"A model is loaded from its folder, but {folder} is a file. Give its folder.")
        return read_whole(folder, lambda: _load_folder(folder, model_type))
    name = str(folder_or_id)
    if not may_be_hub_id(name):
        raise FileNotFoundError(f"There is no model folder {folder_or_id}. Check the path.")
    return from_hub_or_cache(name, lambda cached: _load_named(name, model_type, cached))


def _load_folder(folder: Path, model_type: str | None) -> tuple[Any, dict[str, Any]]:
    _check_config_file(folder)
    if model_type is not None:
        _check_type(str(folder), model_type, local_files_only=True)
    _check_weights_file(folder)
    require_fitting_weights(folder)
    return _load(str(folder), local_files_only=True)


def _load_named(name: str, model_type: str | None, local_files_only: bool) -> tuple[Any, dict[str, Any]]:
    if model_type is not None:
        _check_type(name, model_type, local_files_only)
    model, report = _load(name, local_files_only)
    _check_downloaded_generation_config(name)
    if not isinstance(model, CheckedFolders):  # ours has done this itself
        require_sound_download(name, {"local_files_only": local_files_only})
    return model, report


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """The device of that name; without a name, the accelerator if there is one, else the CPU.

    Raises:
        ValueError: there is no such device.
    """
    if name is None:
        # a torch that was built for an accelerator names it even if there is none
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"The device {name} cannot be used here ({_first_line(error)}). Try cpu.") from error


def check_vocabulary(model: Any, tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer with tokens that the model has no embeddings for.

    Raises:
        ValueError: the tokenizer has more entries than the model has embeddings.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ValueError(
            f"The tokenizer in {name} has {len(tokenizer):,} entries, but its model has embeddings for {rows:,}. "
            "Use the tokenizer that the model was trained with."
        )


def _check_config_file(folder: Path) -> None:
    require_no_adapters(folder)
    if not (folder / "config.json").is_file():
        checkpoints = sorted(path.name for path in folder.glob("checkpoint-*"))
        hint = f" It holds {', '.join(checkpoints)}: give one of these." if checkpoints else " Check the path."
        raise FileNotFoundError(f"A model folder needs config.json, but {folder} has none.{hint}")
    _require_json_object(folder / "config.json")
    _check_generation_config(folder / "generation_config.json")


def _check_generation_config(path: Path) -> None:
    """Check the generation config, since `transformers` silently uses defaults if it cannot read it."""
    if os.path.lexists(path):
        _require_json_object(path)


def _require_json_object(path: Path) -> None:
    try:
        read_json_object(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}). Copy or download it again.") from error


def _check_weights_file(folder: Path) -> None:
    if not any((folder / name).is_file() for name in WEIGHTS):
        pickled = [path.name for path in folder.glob("*.bin")]
        hint = f" {pickled[0]} is not read, since pickles run code: convert it." if pickled else ""
        raise FileNotFoundError(f"A model folder needs its weights, but {folder} has no {WEIGHTS[0]}.{hint}")


def _check_type(name: str, model_type: str, local_files_only: bool) -> None:
    from transformers import PreTrainedConfig

    with _explained(name):
        found = PreTrainedConfig.get_config_dict(name, local_files_only=local_files_only)[0].get("model_type")
    if found != model_type:
        raise ValueError(
            f"A model of type {model_type} is needed, but the config of {name} says its type is {found}. Give another "
            "model, or convert it as that type."
        )


def _load(name: str, local_files_only: bool) -> tuple[Any, dict[str, Any]]:
    from transformers import AutoModelForSeq2SeqLM

    with _explained(name), _silent_transformers():
        # `trust_remote_code=False` also keeps transformers from asking about it on the terminal
        model, report = AutoModelForSeq2SeqLM.from_pretrained(
            name,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=local_files_only,
            adapter_kwargs={"local_files_only": local_files_only},  # else PEFT asks for adapters all the same
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # `require_matching_weights` names them
        )
    if not isinstance(model, CheckedFolders):  # which has done this itself
        require_finite_weights(model, name)
    return model.eval(), report


def _check_downloaded_generation_config(name: str) -> None:
    path = _downloaded(name, "generation_config.json")
    if path is not None:
        _check_generation_config(path)


def _downloaded(name: str, file: str) -> Path | None:
    """The path in the Hub's cache of a file of the last downloaded commit, or None if it has no such file."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, file)
    return Path(path) if isinstance(path, str) else None


def _downloaded_commit(name: str) -> str | None:
    """The commit that was downloaded last: the name of its folder in the cache."""
    config = _downloaded(name, "config.json")
    return None if config is None else config.parent.name


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """Hide the table of mismatched tensors that `transformers` logs: our error message names them."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn the errors of `transformers` into one clear sentence each."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except UnsoundFolderError:  # already clear
        raise
    except SafetensorError as error:
        raise ValueError(f"The weights in {name} are damaged ({error}). Copy or download them again.") from error
    except OSError as error:
        if os.path.isdir(name):
            raise ValueError(f"{name} cannot be read as a model: {_first_line(error)}") from error
        raise FileNotFoundError(
            f"{name} is neither a local folder nor a model that the Hub returned ({_first_line(error)}). "
            "Check the spelling, and the network if it is a Hub name."
        ) from error
    except (ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f"{name} cannot be loaded as a translation model: {_first_line(error)}") from error
    except (ImportError, MemoryError):  # already clear
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, StrictDataclassError) and error.__cause__ else error
        raise ValueError(
            f"{name} cannot be loaded as a translation model: its config.json is not a valid model config "
            f"({_first_line(cause).rstrip('.') or type(cause).__name__}). Copy or download it again."
        ) from error


NAMES_SHOWN = 10


def require_matching_weights(report: dict[str, Any], name: str) -> None:
    """Refuse missing and unexpected weights: `from_pretrained` fills in random numbers for one, and drops the other.

    Raises:
        ValueError: weights are missing, unexpected or of another shape; the message names up to ten of each.
    """
    kinds = {
        "lack": sorted(report["missing_keys"]),
        "hold, beyond what the config describes,": sorted(report["unexpected_keys"]),
        "have another shape in": [
            f"{key} ({tuple(found)} instead of {tuple(wanted)})"
            for key, found, wanted in sorted(report.get("mismatched_keys") or ())
        ],
    }
    problems = []
    for what, names in kinds.items():
        if names:
            more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
            problems.append(f"{what} {', '.join(names[:NAMES_SHOWN])}{more}")
    if problems:
        raise ValueError(
            f"The weights in {name} must be those that its config.json describes, but they "
            f"{'; they '.join(problems)}. Check that both files come from the same model."
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
