"""The record of a run for manifests and the model card: its text, hardware and time."""

import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..data.filtering import FilterReport
from ..data.stream_batching import StreamingBatches
from ..model.manifest import read_manifest


class RunRecord:
    """Kept by a trainer; unknown facts are left out."""

    def __init__(self) -> None:
        self.report: FilterReport | None = None
        self._seconds_before = 0.0
        self._started: float | None = None

    def start(self) -> None:
        """Start the clock when training starts or resumes."""
        self._started = time.perf_counter()

    def resume(self, checkpoint: Path) -> None:
        """Add the training time recorded in a checkpoint."""
        record = (read_manifest(checkpoint) or {}).get("training")
        self._seconds_before = float(record["seconds"]) if isinstance(record, Mapping) and "seconds" in record else 0.0

    def about(self, trainer: Any) -> dict[str, Any]:
        """Manifest entries: pairs read, pairs dropped by reason, hardware, precision and training time."""
        text = trainer.train_dataset
        report = text.report if isinstance(text, StreamingBatches) else self.report
        about: dict[str, Any] = {} if report is None else {"text": report.as_record()}
        if self._started is not None:
            seconds = self._seconds_before + time.perf_counter() - self._started
            about["training"] = {
                "seconds": round(seconds, 1),
                "hardware": describe_hardware(trainer.args.device, trainer.args.world_size),
                "precision": trainer.args.precision,
            }
        return about


def describe_hardware(device: torch.device, processes: int) -> str:
    """The accelerators by name and count, or the CPU and its number of threads."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        name = f"{_processor_name()}, threads: {torch.get_num_threads()}"
    else:
        name = device.type
    return name if processes == 1 else f"{processes} x {name}"


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n")
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or a CPU without a name
        return platform.processor() or platform.machine()
