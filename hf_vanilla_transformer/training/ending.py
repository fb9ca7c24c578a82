"""The end of a run: whether a checkpoint was its last, and the state of callbacks that may end it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers.trainer_callback import ExportableState

from ..model.manifest import read_manifest

_ENDED = "ended"


def about_the_end(trainer: Any) -> dict[str, bool]:
    """A manifest entry if a callback ended the run at this step, as early stopping does.

    Reaching the number of steps is not recorded: the same run may be resumed with more steps.
    """
    by_callback = trainer.control.should_training_stop and not trainer.interruption.stopped
    return {_ENDED: True} if by_callback and trainer.state.global_step < trainer.state.max_steps else {}


def was_ended(folder: Path) -> bool:
    """Whether the manifest of a checkpoint or final model says that a callback ended the run there."""
    return bool((read_manifest(folder) or {}).get(_ENDED))


def restore_callbacks(callbacks: Iterable[Any], saved: Mapping[str, Any]) -> None:
    """Restore the state of callbacks, for example how many evaluations brought no improvement (early stopping).

    Args:
        callbacks: the callbacks of the resumed run; they keep their own settings.
        saved: `stateful_callbacks` of a checkpoint's state.
    """
    by_name = defaultdict(list)
    for callback in callbacks:
        if isinstance(callback, ExportableState):
            by_name[type(callback).__name__].append(callback)
    for name, same in by_name.items():
        states = saved.get(name, [])
        for callback, state in zip(same, states if isinstance(states, list) else [states], strict=False):
            for attribute, value in state.get("attributes", {}).items():
                setattr(callback, attribute, value)
