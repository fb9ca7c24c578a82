"""SIGTERM, Ctrl-C and a lost terminal end a run after its step, with a checkpoint; a second signal ends it at once."""

import logging
import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback

logger = logging.getLogger(__name__)

SIGNALS = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

# torchrun and `accelerate launch` forward a signal that the terminal has already sent to all processes
_LAUNCHER, _ECHO_SECONDS = "TORCHELASTIC_RUN_ID", 5.0


class Interrupted(Exception):  # noqa: N818 (not an error: the user asked for it)
    """A signal ended the run after a complete step and a checkpoint.

    Attributes:
        exit_code: 128 + the signal's number, as shells report it: 130 after Ctrl-C, 143 after SIGTERM, 129 for SIGHUP.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"The run was stopped by {signal.Signals(signal_number).name} after step {step:,}.")
        self.exit_code = 128 + signal_number


class Interruption(TrainerCallback):
    """Stops training at the end of the step in which a signal arrived, in the same step on all processes."""

    def __init__(self, accelerator: Any) -> None:
        self.accelerator = accelerator
        self.signal_number = 0
        """The signal that all processes agreed to stop for; 0 if none."""
        self.stopped = False
        """Whether the signal has ended training; set after the checkpoint is saved, which records other causes."""
        self._received = 0
        self._since = 0.0
        self._handlers: dict[int, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.signal_number = self._received = 0
        self.stopped = False
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            # signals that the run was started to ignore, as by `nohup`, stay ignored
            heeded = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
            self._handlers = {number: signal.signal(number, self._receive) for number in heeded}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.signal_number:  # another callback kept the last step from being saved
            self._stop(control)
        self.signal_number = self.signal_number or self._agree()
        if self.signal_number:
            control.should_save = not _ends_epoch(state)  # at the end of an epoch, evaluation comes before saving

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.signal_number:
            self._stop(control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.signal_number:
            whole = _ends_epoch(state)
            control.should_evaluate = control.should_evaluate and whole
            control.should_save = whole

    def _stop(self, control: Any) -> None:
        self.stopped = control.should_training_stop = True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self._received:
            self._received, self._since = number, time.monotonic()
            if _LAUNCHER not in os.environ:
                self.restore_handlers()
            logger.warning(
                f"{signal.Signals(number).name}: the run stops after this step. A second signal stops it at once."
            )
        elif time.monotonic() - self._since > _ECHO_SECONDS:
            self.restore_handlers()
            signal.raise_signal(number)

    def restore_handlers(self) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _agree(self) -> int:
        if self.accelerator.num_processes == 1:
            return self._received
        # not the sum: two processes may have received different signals
        numbers = self.accelerator.gather(torch.tensor([self._received], device=self.accelerator.device))
        return int(numbers.max())


def _ends_epoch(state: Any) -> bool:
    return state.epoch is not None and abs(state.epoch - round(state.epoch)) < 1e-6
