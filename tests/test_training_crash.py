"""Runs that are killed or interrupted go on as if they had not been."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
@pytest.mark.timeout(900)
def test_a_run_killed_at_any_file_goes_on_exactly(tmp_path: Path):
    """Killed before every file of a checkpoint and of the final model; SIGTERM, Ctrl-C and SIGHUP within a step."""
    driver = Path(__file__).parent / "support" / "crash_driver.py"
    done = subprocess.run(
        [sys.executable, str(driver), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.strip().split("\n")[-1])
    tried = "\n".join(report["tried"])
    for name in ("model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json", ".manifest.json.tmp"):
        assert f".writing/checkpoint-4/{name}" in tried
    assert "os.rename .writing/checkpoint-4" in report["tried"]
    assert len(report["tried"]) > 40
    assert report["wrong"] == {}
