"""What every test shares: no network, no cache of the user's touched, few threads, and one tiny random model."""

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# before anything imports torch, transformers or datasets, and for the processes that tests start
_CACHE = tempfile.mkdtemp(prefix="hf-cache-of-tests-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ.update(HF_HOME=_CACHE, HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
for variable in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE"):
    os.environ.pop(variable, None)
os.environ.setdefault("OMP_NUM_THREADS", "2")

import pytest  # noqa: E402

SENTENCES = (
    *("merci", "je suis étudiant", "le petit chat dort", "la petite maison est vieille", "nous ne parlons pas"),
    *("thanks", "i am a student", "the little cat sleeps", "the little house is old", "we do not speak"),
    *("où est la gare ?", "elle a vu les grands arbres", "where is the station ?", "she saw the tall trees"),
)


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """The garbage of a file's tests is looked for among what they made, not in all libraries and tests: each training
    run collects once or more, which took a third of its time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def sentences() -> tuple[str, ...]:
    """What the tiny tokenizer was learned from."""
    return SENTENCES


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model folder: random weights, a tokenizer learned on `SENTENCES`, the paper's decoding. Read only."""
    from model_folders import save_model_folder

    return save_model_folder(tmp_path_factory.mktemp("tiny") / "model", SENTENCES * 2)


@pytest.fixture(scope="session")
def fresh_processes() -> Iterator[Any]:
    """Starts processes that have imported torch and transformers, but nothing of ours."""
    from fresh_process import TORCH, started_processes

    yield from started_processes(*TORCH, "transformers.generation.utils")


@pytest.fixture(scope="session")
def processes_with_torch() -> Iterator[Any]:
    """Starts processes that have imported torch, but neither transformers nor huggingface_hub."""
    from fresh_process import TORCH, started_processes

    yield from started_processes(*TORCH)


@pytest.fixture(scope="session")
def one_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Hub, and a client that has imported everything; `pushing` empties the Hub for each test."""
    from hub_clients import Pushing, Session
    from hub_server import TestHub

    hub = TestHub(tmp_path_factory.mktemp("hub"))
    session = Session(hub, tmp_path_factory.mktemp("client"))
    yield Pushing(hub, session)
    session.close()
    hub.stop()


@pytest.fixture
def pushing(one_hub: Any) -> Any:
    """An empty Hub without faults, and a client of it."""
    one_hub.hub.forget()
    return one_hub


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model's folder, to change."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))
