"""Saving of checkpoints and models that appear complete or not at all, each sealed by a manifest.

Mixed into a `Seq2SeqTrainer`: the Trainer writes into a staging folder, and the main process moves the result into
place when every process has written its part. Left out: the Trainer's pickled arguments, which may hold a Hub token.
"""

import json
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME

from ..model.checked_folders import require_finite_weights
from ..model.disk_space import writing_to
from ..model.whole_folders import staged_in
from ..version import __version__
from .checkpoints import (
    ARGUMENTS_NAME,
    delete_oldest_checkpoints,
    publish_checkpoint,
    publish_model,
    staged_model,
    staging_folder,
)
from .ending import about_the_end
from .fingerprint import run_fingerprint
from .progress import KEPT
from .record import RunRecord

if TYPE_CHECKING:
    from transformers import Seq2SeqTrainer

    from .publishing import Publishing

    class _Trainer(Publishing, Seq2SeqTrainer):
        """The class that `SafeSaving` is mixed into."""

else:
    _Trainer = object


class SafeSaving(_Trainer):
    """Overrides how a `Seq2SeqTrainer` writes folders."""

    model: Any
    record: RunRecord
    _staging: Path | None = None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write model, tokenizer and settings; unless part of a checkpoint, they appear complete, with a manifest."""
        if self._staging is not None:  # part of a checkpoint
            self._write_model(Path(output_dir or self._staging))
            return
        target = Path(output_dir or self.args.output_dir)
        with self._staged(target) as staging:
            staged = staged_model(staging)
            self._write_model(staged)
            if self.args.should_save:
                self.state.save_to_json(str(staged / TRAINER_STATE_NAME))
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                publish_model(staged, target, self._about())
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        run = Path(self.args.output_dir)
        with self._staged(run) as staging:
            super()._save_checkpoint(model, trial)
            staged = staging / f"checkpoint-{self.state.global_step}"
            self._name_best_checkpoint(run)
            if self.args.should_save:
                self.save_stream_state(staged)  # type: ignore[attr-defined]
                self.state.save_to_json(str(staged / TRAINER_STATE_NAME))
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                checkpoint = publish_checkpoint(staged, run, self._about())
                self.publish_in_background(checkpoint)
                delete_oldest_checkpoints(run, self.args.save_total_limit, self.state.best_model_checkpoint)

    @contextmanager
    def _staged(self, run: Path) -> Iterator[Path]:
        """A staging folder for all processes, deleted when the last of them has finished."""
        self._staging = staging_folder(run)
        try:
            with writing_to(run, KEPT), staged_in(self._staging):
                yield self._staging
                self.accelerator.wait_for_everyone()
        finally:
            if self.args.should_save:
                shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None
        self.accelerator.wait_for_everyone()

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging) if self._staging is not None else super()._get_output_dir(trial)

    def _name_best_checkpoint(self, run: Path) -> None:
        """Point the Trainer, which looked in the staging folder, to the best checkpoint in the run folder."""
        step = self.state.best_global_step
        best = run / f"checkpoint-{step}"
        if step and (best.is_dir() or step == self.state.global_step):
            self.state.best_model_checkpoint = str(best)

    def _write_model(self, folder: Path) -> None:
        require_finite_weights(self.model, "this run")
        super().save_model(str(folder), _internal_call=True)
        if self.args.should_save:
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            arguments = json.dumps(self.args.to_dict(), ensure_ascii=False, indent=1, default=str)  # tokens masked
            (folder / ARGUMENTS_NAME).write_text(arguments + "\n", encoding="utf-8", newline="\n")

    def _about(self) -> dict[str, Any]:
        """Manifest entries besides the files."""
        return {
            "step": self.state.global_step,
            "versions": {
                "hf_vanilla_transformer": __version__,
                "transformers": transformers.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "fingerprint": run_fingerprint(self),
            **about_the_end(self),
            **self.record.about(self),
        }


__all__ = ["SafeSaving"]
