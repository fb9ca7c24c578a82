"""Average the weights of checkpoints (section 6.1): the last 5 of a base model, the last 20 of a big one.

The arithmetic mean, tensor by tensor, summed in float64 and stored in the dtype of the newest checkpoint. Besides the
result, only one tensor of one checkpoint is in memory at a time. Left out: moving and weighted averages.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers.trainer import TRAINER_STATE_NAME

from ..evaluation.ledger import LEDGER_NAME
from ..evaluation.run_records import AVERAGE_RECORD_NAME as RECORD_NAME
from ..model.checked_folders import give_weights_the_mode_of_the_config, require_no_adapters
from ..model.json_files import read_json, to_json
from ..model.manifest import MANIFEST_NAME, read_manifest
from ..model.sound_folders import require_sound_files, unchanged
from ..model.whole_folders import require_empty_folder, sealed_folder
from ..tokenization import load_tokenizer
from .checkpoints import ARGUMENTS_NAME, SETTINGS_NAME, STREAM_STATE_NAME, checkpoints_of

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
STATE = (TRAINER_STATE_NAME, ARGUMENTS_NAME, STREAM_STATE_NAME)
OF_OTHER_WEIGHTS = (MANIFEST_NAME, INDEX, RECORD_NAME, LEDGER_NAME, "README.md", "illustration.html")
LEFT_OUT = (*STATE, *OF_OTHER_WEIGHTS)
LEFT_OUT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")

PathLike = str | os.PathLike[str]


def average_checkpoints(
    checkpoints: PathLike | Sequence[PathLike], output_dir: PathLike, last: int | None = None
) -> Path:
    """Average checkpoints into a complete model folder, with the config, tokenizer and code of the newest.

    Args:
        checkpoints: a run folder, for its `checkpoint-N` folders in the order of N; or checkpoint folders, oldest
            first.
        output_dir: the folder to create; it appears complete or not at all.
        last: how many of the newest checkpoints to average; all if not given.

    Returns:
        `output_dir`. Besides the model it holds a manifest and `averaged_checkpoints.json`, which lists the averaged
        checkpoints.

    Raises:
        FileExistsError: `output_dir` holds something.
        FileNotFoundError: a folder, its weights, config or tokenizer is missing.
        ValueError: there are fewer checkpoints than asked for; files are damaged or differ from their manifest;
            tensors differ in name, shape or (integers) value, or hold infinities or NaN; or a folder changes while it
            is read.
    """
    output = Path(output_dir)
    require_empty_folder(output)
    folders = _choose(checkpoints, last)
    newest = folders[-1]
    averaged = {"averaged": [str(folder) for folder in folders]}
    with ExitStack() as stack:
        beside = stack.enter_context(sealed_folder(output, {**_about_the_run(newest), **averaged}))
        for folder in folders:
            stack.enter_context(unchanged(folder))
            _check_checkpoint(folder)
        load_tokenizer(newest)
        save_file(_mean_of(folders), beside / WEIGHTS, metadata={"format": "pt"})
        _copy_model_files(newest, beside)
        give_weights_the_mode_of_the_config(beside)
        record = to_json(averaged, indent=2)
        (beside / RECORD_NAME).write_text(record + "\n", encoding="utf-8", newline="\n")
    return output


def _about_the_run(newest: Path) -> dict[str, Any]:
    """What the newest checkpoint's manifest says about its run; it holds for the average too."""
    manifest = read_manifest(newest) or {}
    return {name: manifest[name] for name in ("versions", "fingerprint", "text", "training") if name in manifest}


def _choose(checkpoints: PathLike | Sequence[PathLike], last: int | None) -> list[Path]:
    if last is not None and last < 1:
        raise ValueError(f"`last` is a number of checkpoints and must be at least 1, got {last}.")
    if isinstance(checkpoints, (str, os.PathLike)):
        run = Path(checkpoints)
        if not run.is_dir():
            raise FileNotFoundError(f"There is no folder {run} with checkpoints in it. Check the path.")
        folders, where = checkpoints_of(run), str(run)
    else:
        folders, where = [Path(folder) for folder in checkpoints], "the list"
    wanted = max(len(folders), 1) if last is None else last
    if len(folders) < wanted:
        names = ", ".join(folder.name for folder in folders) or "none"
        raise ValueError(
            f"An average of {wanted} needs {wanted} checkpoints, but {where} has {len(folders)} ({names}). "
            "Average fewer, or keep more while training (`save_total_limit`)."
        )
    return folders[-wanted:]


def _check_checkpoint(folder: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no checkpoint folder {folder}. Check the path.")
    require_no_adapters(folder)
    if not ((folder / WEIGHTS).is_file() or (folder / INDEX).is_file()):
        raise FileNotFoundError(f"The checkpoint {folder} has no {WEIGHTS}: it was not written completely. Delete it.")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"The checkpoint {folder} has no config.json. Copy that of its run.")
    require_sound_files(folder)


def _mean_of(folders: list[Path]) -> dict[str, torch.Tensor]:
    """The mean of each tensor, by name."""
    with ExitStack() as stack:
        tensors = [stack.enter_context(_open_tensors(folder)) for folder in folders]
        names = sorted(tensors[-1])
        for folder, other in zip(folders, tensors, strict=True):
            _check_names(folders[-1], set(names), folder, set(other))
        return {
            name: _mean(name, {folder: files[name] for folder, files in zip(folders, tensors, strict=True)})
            for name in names
        }


@contextmanager
def _open_tensors(folder: Path) -> Iterator[dict[str, Any]]:
    """The open file that holds each tensor, by the tensor's name; weights may be in one file or in shards."""
    names = [WEIGHTS]
    if not (folder / WEIGHTS).is_file():
        names = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
    with ExitStack() as stack:
        holders = {}
        for name in names:
            try:
                file = stack.enter_context(safe_open(folder / name, framework="pt"))
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{folder / name} cannot be read as safetensors ({error}). Copy it again.") from error
            holders.update(dict.fromkeys(file.keys(), file))
        yield holders


def _check_names(newest: Path, names: set[str], folder: Path, others: set[str]) -> None:
    differing = sorted(names ^ others)
    if differing:
        raise ValueError(
            f"Checkpoints of one run hold the same tensors, but {newest} and {folder} differ in "
            f"{', '.join(differing[:3])}{' and more' if len(differing) > 3 else ''}. Average checkpoints of one model."
        )


def _mean(name: str, files: Mapping[Path, Any]) -> torch.Tensor:
    """The mean of one tensor over all checkpoints, in the dtype of the last; integers must be equal in all."""
    folders = list(files)
    newest = first = files[folders[0]].get_tensor(name)
    total = first.double()
    _check_tensor(name, folders[0], first, folders[0], first)
    for folder in folders[1:]:
        newest = files[folder].get_tensor(name)
        _check_tensor(name, folders[0], first, folder, newest)
        total += newest
    return (total / len(files)).to(newest.dtype) if newest.is_floating_point() else newest


def _check_tensor(name: str, first_folder: Path, first: torch.Tensor, folder: Path, tensor: torch.Tensor) -> None:
    if tensor.shape != first.shape:
        raise ValueError(
            f"Checkpoints of one run have tensors of one shape, but {name} is {tuple(first.shape)} in {first_folder} "
            f"and {tuple(tensor.shape)} in {folder}. Average checkpoints of one model."
        )
    if tensor.is_floating_point():
        if not tensor.isfinite().all():
            raise ValueError(f"Only finite weights have a mean, but {name} in {folder} holds infinities or NaN.")
    elif not torch.equal(tensor, first):
        raise ValueError(f"Whole numbers have no mean, but {name} differs between {first_folder} and {folder}.")


def _copy_model_files(checkpoint: Path, folder: Path) -> None:
    """Copy config, generation config, tokenizer and code: all files except weights and training state."""
    for path in checkpoint.iterdir():
        if path.is_file() and path.name not in LEFT_OUT and path.suffix not in LEFT_OUT_SUFFIXES:
            shutil.copyfile(path, folder / path.name)
    settings = checkpoint.parent / SETTINGS_NAME  # kept once per run, for all its checkpoints
    if settings.is_file():
        shutil.copyfile(settings, folder / SETTINGS_NAME)
