"""Progress of a run: a progress bar, or without a terminal a line per minute, and the log file `metrics.jsonl`."""

import math
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback

from ..model.disk_space import writing_to
from ..model.json_files import parse_json, to_json

SECONDS_BETWEEN_LINES = 60.0


class TokenProgress(TrainerCallback):
    """One bar over optimizer steps on the main process's stderr, or lines if that is not a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._next_line = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                unit="step",
                mininterval=0.5,
                dynamic_ncols=True,
                disable=not sys.stderr.isatty(),
            )
            self._next_line = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if self._bar is None or not logs:
            return
        if "target_tokens_per_second" in logs:
            source, target = logs["source_tokens_per_second"], logs["target_tokens_per_second"]
            speed = f"{source:,.0f} + {target:,.0f} tokens/s, padding {logs['padding_share']:.1%}"
            text = f"loss {logs['loss']:.3f}, {speed}"
            if not self._bar.disable:
                self._bar.set_postfix_str(text, refresh=False)
            elif time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
                self._write(f"step {state.global_step:,} of {state.max_steps:,}: {text}")
        elif any(name.startswith("eval") for name in logs):
            scores = ", ".join(f"{name[5:]} {value:.4g}" for name, value in logs.items() if name.startswith("eval_"))
            self._write(f"step {state.global_step:,}: {scores}")

    def _write(self, line: str) -> None:
        with suppress(OSError):  # a closed terminal must not keep the run from saving a checkpoint
            self._bar.write(line, file=sys.stderr)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the bar's line, so that later output starts on a new line."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()
            self._bar = None


METRICS_NAME = "metrics.jsonl"
KEPT = "no checkpoint is lost: what was saved before is whole"
"""The reassurance in the message about a full disk."""


class MetricsFile(TrainerCallback):
    """Appends every log line to `metrics.jsonl` in the run's folder.

    A resumed run first drops the lines of steps that it is about to repeat.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        path = Path(args.output_dir) / METRICS_NAME
        if state.is_world_process_zero and path.exists():
            kept = [
                line for line in path.read_text(encoding="utf-8").split("\n") if _step_of(line) <= state.global_step
            ]
            beside = path.with_name(f".{METRICS_NAME}.tmp")
            with writing_to(args.output_dir, KEPT):
                beside.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8", newline="\n")
                os.replace(beside, path)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and logs:
            line = to_json({"step": state.global_step, **{name: _number(value) for name, value in logs.items()}})
            path = Path(args.output_dir) / METRICS_NAME
            with writing_to(args.output_dir, KEPT), open(path, "a", encoding="utf-8", newline="\n") as file:
                file.write(line + "\n")


def _number(value: Any) -> Any:
    """A value for JSON: NaN and infinity become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _step_of(line: str) -> float:
    """The step of a log line; infinity for an incomplete line of a killed run."""
    try:
        return parse_json(line, finite=False)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
