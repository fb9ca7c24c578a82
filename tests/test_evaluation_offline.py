"""The metric loads from our package with every socket blocked, in two processes at once, and leaves no litter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hf_vanilla_transformer.evaluation

PACKAGE = Path(hf_vanilla_transformer.evaluation.__file__).parent
# Both processes are forked from one that has imported the libraries, because the imports take most of the time.
SCRIPT = """
import json, multiprocessing, socket, sys

def blocked(*args, **kwargs):
    raise AssertionError(f"the network was tried: {args}")

socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = blocked
from hf_vanilla_transformer.evaluation import evaluate_translations
heavy = [name for name in ("evaluate", "sacrebleu", "sacremoses") if name in sys.modules]
assert not heavy, heavy
import evaluate, huggingface_hub

def score(offline):
    huggingface_hub.constants.HF_HUB_OFFLINE = offline
    barrier.wait(timeout=300)
    return evaluate_translations(["a cat sleeps here", "b"] * 500, ["a cat sleeps there", "b"] * 500).to_dict()

fork = multiprocessing.get_context("fork")
barrier = fork.Barrier(2)
with fork.Pool(2) as pool:
    print(json.dumps(pool.map(score, [True, False], chunksize=1)))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)  # seconds on an idle machine: it imports the libraries anew
def test_two_processes_at_once_without_a_network_and_without_litter(tmp_path):
    package_before = sorted(path.name for path in PACKAGE.iterdir())
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    environment |= {"HF_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}

    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=500)

    assert run.returncode == 0, run.stderr
    offline, online = json.loads(run.stdout)
    assert offline == online
    assert offline["sentences"] == 1000
    assert sorted(path.name for path in PACKAGE.iterdir()) == package_before
    left = {path.name for path in tmp_path.rglob("*") if path.is_file() and not path.name.endswith(".lock")}
    assert left == {"__init__.py", "translation_scores.py", "translation_scores.json"}  # evaluate's copy of the module
    assert not [path for path in (tmp_path / "metrics").rglob("*") if path.is_file()]  # sentences stay in memory
