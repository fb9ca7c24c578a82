"""The run folder: the final model at its top, and `checkpoint-N` folders that load the same way.

Nothing appears under its final name before it is complete: a checkpoint is written in the folder `.writing`, sealed by
a manifest, and then moved into place. What a killed process leaves behind is in `.writing`, or its manifest shows it.
"""

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ..evaluation.run_records import SETTINGS_NAME
from ..model.json_files import LARGEST_TABLE, read_json
from ..model.manifest import MANIFEST_NAME, damaged_files, read_manifest, write_manifest
from ..model.whole_folders import move_files
from .run_lock import LOCK_NAME

logger = logging.getLogger(__name__)

ARGUMENTS_NAME = "training_args.json"
"""All settings of the Trainer, defaults included, without secrets."""

STREAM_STATE_NAME = "stream.json"
"""State of the stream's pools, in the checkpoint of a run on a stream."""

_STAGING_NAME = ".writing"
_STAGED_MODEL = "model"
_TEMPORARY_FILES = (
    ".tmp*",
    ".*.tmp",
)  # of safetensors, and of all other files that are moved into place when complete


def checkpoints_of(run: Path) -> list[Path]:
    """The `checkpoint-N` folders of a run, oldest first."""
    folders = [path for path in run.glob("checkpoint-*") if path.is_dir() and path.name[11:].isdecimal()]
    return sorted(folders, key=lambda path: int(path.name[11:]))


def newest_complete_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint that its manifest verifies; damaged ones are skipped with a warning."""
    for checkpoint in reversed(checkpoints_of(run)):
        problem = what_is_wrong(checkpoint)
        if problem is None:
            return checkpoint
        logger.warning(f"{checkpoint} is skipped: {problem}. It can be deleted.")
    return None


def what_is_wrong(folder: Path) -> str | None:
    """Why a checkpoint or final model cannot be trusted, or None if its manifest verifies every file."""
    try:
        if read_manifest(folder) is None:
            return f"it has no {MANIFEST_NAME}, so it was not written completely"
        problems = damaged_files(folder)
    except ValueError as error:
        return str(error).rstrip(".")
    return ", ".join(problems[:3]) or None


def has_weights(folder: Path) -> bool:
    """Whether the folder holds a model's weights, in one file or several."""
    return any((folder / name).is_file() for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME))


def read_state(folder: Path) -> dict | None:
    """The Trainer's state in `folder`, or None if it is missing or unreadable."""
    try:
        return read_json(folder / TRAINER_STATE_NAME, LARGEST_TABLE, finite=False)
    except (FileNotFoundError, ValueError):
        return None


def read_epochs(folder: Path, state: Mapping[str, Any]) -> float:
    """The number of epochs that the run with this folder and state was started for."""
    try:
        return float(read_json(folder / ARGUMENTS_NAME, finite=False)["num_train_epochs"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return float(state["num_train_epochs"])  # a whole number


# Writing


def staging_folder(run: Path) -> Path:
    """The folder for incomplete checkpoints and models."""
    return run / _STAGING_NAME


def staged_model(staging: Path) -> Path:
    """The folder inside the staging folder for the final model."""
    return staging / _STAGED_MODEL


def clear_strays(run: Path) -> None:
    """Finish an interrupted move of a final model, and delete what killed processes left in a run folder.

    A folder that holds no run is not changed.
    """
    if not (run / SETTINGS_NAME).exists() and not checkpoints_of(run):
        return
    model = staged_model(staging_folder(run))
    if (model / MANIFEST_NAME).is_file():  # sealed, so it is complete; some of its files may be in place already
        move_files(model, run)
    beside = [path for pattern in _TEMPORARY_FILES for path in run.glob(pattern)]
    for path in [staging_folder(run), *beside]:
        if not path.exists():
            continue
        logger.info(f"Deleting {path}, which a killed process left behind.")
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def publish_checkpoint(staged: Path, run: Path, about: Mapping[str, Any]) -> Path:
    """Seal a staged checkpoint and move it into the run's folder in one step.

    Args:
        staged: the complete checkpoint's folder in `staging_folder(run)`.
        run: the run's folder.
        about: manifest entries besides the files.

    Returns:
        The checkpoint's final folder.
    """
    write_manifest(staged, about)
    checkpoint = run / staged.name
    if checkpoint.exists():  # the same step, saved twice
        _discard(checkpoint, run)
    os.replace(staged, checkpoint)
    return checkpoint


def publish_model(staged: Path, folder: Path, about: Mapping[str, Any]) -> None:
    """Seal a staged model and move its files to `folder` (see `move_files`)."""
    write_manifest(staged, about)
    move_files(staged, folder)
    staged.rmdir()


def delete_oldest_checkpoints(run: Path, keep: int | None, best: str | None) -> None:
    """Delete the oldest checkpoints until `keep` are left; the newest and the best are never deleted.

    Args:
        run: the run's folder.
        keep: how many to keep; None or 0 keeps all.
        best: folder of the best checkpoint so far.
    """
    checkpoints = checkpoints_of(run)
    if not keep:
        return
    protected = {path for path in checkpoints if path == checkpoints[-1] or (best and path.name == Path(best).name)}
    surplus = len(checkpoints) - max(keep, len(protected))
    for checkpoint in [path for path in checkpoints if path not in protected][: max(surplus, 0)]:
        _discard(checkpoint, run)


def _discard(checkpoint: Path, run: Path) -> None:
    """Delete a folder atomically: it is moved away first, so that nobody sees it half deleted."""
    bin_folder = staging_folder(run) / f"deleted-{checkpoint.name}"
    bin_folder.parent.mkdir(exist_ok=True)
    shutil.rmtree(bin_folder, ignore_errors=True)
    os.replace(checkpoint, bin_folder)
    shutil.rmtree(bin_folder)


def require_new_folder(run: Path) -> None:
    """Refuse a folder whose contents a new run would overwrite.

    Raises:
        ValueError: the folder holds a run, or files that do not belong to a run.
    """
    if not run.exists():
        return
    if not run.is_dir():
        raise ValueError(f"The output folder {run} is a file. Choose another `--output_dir`.")
    if checkpoints_of(run) or has_weights(run):
        raise ValueError(
            f"The output folder {run} already holds a run. Continue it with `--resume`, or choose another "
            "`--output_dir`."
        )
    of_a_start = {LOCK_NAME, f".{SETTINGS_NAME}.tmp"}  # written before the settings
    if not (run / SETTINGS_NAME).exists() and any(path.name not in of_a_start for path in run.iterdir()):
        raise ValueError(f"The output folder {run} is not empty and holds no run. Choose another `--output_dir`.")


def nothing_to_resume(run: Path) -> ValueError:
    """The error for a folder without a complete checkpoint; it says what to do."""
    holds_run = checkpoints_of(run) or has_weights(run)
    way_on = (
        "Delete the folder or choose another `--output_dir`, and start without `--resume`."
        if holds_run  # which a new start would refuse
        else "Start without `--resume`, with the command that began it."
    )
    return ValueError(f"There is no complete checkpoint in {run} to resume from. {way_on}")
