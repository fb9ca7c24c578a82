"""The folder of a run: the final model at its top, `checkpoint-N` folders that load the same way."""

import json
import logging
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

logger = logging.getLogger(__name__)

SETTINGS_NAME = "run.yaml"
"""The settings of the run, as a recipe that starts it again."""


def checkpoints_of(run: Path) -> list[Path]:
    """The `checkpoint-N` folders of a run, oldest first."""
    folders = [path for path in run.glob("checkpoint-*") if path.is_dir() and path.name[11:].isdecimal()]
    return sorted(folders, key=lambda path: int(path.name[11:]))


def newest_complete_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint that was written to its end; incomplete ones are named and passed over."""
    for checkpoint in reversed(checkpoints_of(run)):
        if is_complete(checkpoint):
            return checkpoint
        logger.warning(f"{checkpoint} was not written to its end and is passed over; it can be deleted.")
    return None


def is_complete(checkpoint: Path) -> bool:
    """Whether the weights are there and the Trainer's state, which it writes last, can be read."""
    return has_weights(checkpoint) and read_state(checkpoint) is not None


def has_weights(folder: Path) -> bool:
    """Whether the folder holds a model's weights, in one file or several."""
    return any((folder / name).is_file() for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME))


def read_state(folder: Path) -> dict | None:
    """The Trainer's state in `folder`, or None if there is none that can be read."""
    try:
        return json.loads((folder / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def remove_pickled_arguments(folder: str | Path) -> None:
    """Delete the Trainer's pickle of its arguments, which may hold a Hub token; `run.yaml` has the settings."""
    (Path(folder) / TRAINING_ARGS_NAME).unlink(missing_ok=True)


def require_new_folder(run: Path) -> None:
    """Refuse a folder whose contents a new run would overwrite.

    Raises:
        ValueError: the folder holds a run, or files that are no run's.
    """
    if not run.exists():
        return
    if not run.is_dir():
        raise ValueError(f"The output folder {run} is a file. Choose another `--output_dir`.")
    holds_run = checkpoints_of(run) or has_weights(run) or (run / TRAINER_STATE_NAME).exists()
    if holds_run:
        raise ValueError(
            f"The output folder {run} already holds a run. Continue it with `--resume`, or choose another "
            "`--output_dir`."
        )
    if any(run.iterdir()) and not (run / SETTINGS_NAME).exists():
        raise ValueError(f"The output folder {run} is not empty and holds no run. Choose another `--output_dir`.")
