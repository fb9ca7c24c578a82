"""A name on the Hub without a network: one sentence after one question, or the copy in the cache, said in a line."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import pytest
import transformers  # noqa: F401 - what takes seconds is imported before the clock runs
from datasets import load_dataset
from hub_clients import REPO
from huggingface_hub import close_session, constants

from hf_vanilla_transformer import from_marian, hub_access, load_parallel_corpus
from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.data import stream_parallel_corpus
from hf_vanilla_transformer.hub.answers import explained
from hf_vanilla_transformer.hub.fetching import fetch
from hf_vanilla_transformer.hub_access import HubNotReachedError, find_obstacle, require_copy_or_hub
from hf_vanilla_transformer.tokenization import load_tokenizer
from hf_vanilla_transformer.translation import Translator, load_model_and_tokenizer

NAME = "nobody/nothing"
PATIENCE = 0.3
SILENCE, REFUSAL, UNKNOWN = r"no answer within 0\.3 s", "refused", r"hub\d+\.invalid"


@dataclass
class Host:
    """Something on loopback that is asked: what it answers, if it does, and how often it was asked."""

    answer: bytes
    port: int = 0
    requests: list[bytes] = field(default_factory=list)

    def times_asked(self) -> int:
        """Waits for the first question, which may be on its way."""
        end = time.monotonic() + 10
        while not self.requests and time.monotonic() < end:
            time.sleep(0.01)
        return len(self.requests)

    def serve(self, listener: socket.socket) -> None:
        kept = []
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            kept.append(connection)
            self.requests.append(connection.recv(1 << 16))
            if self.answer:
                connection.sendall(self.answer)


@pytest.fixture
def host() -> Iterator[Callable[[bytes], Host]]:
    """Makes hosts that answer everything with the same bytes, or never."""
    listeners = []

    def start(answer: bytes = b"") -> Host:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        host = Host(answer, listener.getsockname()[1])
        threading.Thread(target=host.serve, args=(listener,), daemon=True).start()
        return host

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def online(monkeypatch) -> Iterator[Callable[[str], None]]:
    """Lets this process ask a Hub at an address, with little patience."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_access, "ANSWER_WITHIN", PATIENCE)
    monkeypatch.delenv("HF_HUB_ETAG_TIMEOUT", raising=False)
    close_session()
    yield lambda endpoint: monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    close_session()


@pytest.fixture
def patient(online, monkeypatch) -> None:
    """Enough for a host that answers, on a machine that is busy."""
    monkeypatch.setattr(hub_access, "ANSWER_WITHIN", 60.0)


@pytest.fixture(params=["refused", "no such host", "silent"])
def unreachable(request, online, host) -> tuple[str, Host | None]:
    """The ways in which a network is missing: what is said of each, and who was asked."""
    if request.param == "refused":
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        online(f"http://127.0.0.1:{port}")
        return REFUSAL, None
    if request.param == "no such host":
        online(f"http://hub{time.monotonic_ns()}.invalid")
        return UNKNOWN, None
    silent = host()
    online(f"http://127.0.0.1:{silent.port}")
    return SILENCE, silent


LOADERS: dict[str, Callable[[], object]] = {
    "Translator": lambda: Translator.from_pretrained(NAME),
    "model and tokenizer": lambda: load_model_and_tokenizer(NAME),
    "tokenizer": lambda: load_tokenizer(NAME),
    "original": lambda: from_marian(NAME),
    "corpus": lambda: load_parallel_corpus(dataset_name=NAME),
    "stream": lambda: stream_parallel_corpus(dataset_name=NAME),
    "corpus of an address": lambda: load_parallel_corpus(dataset_name=f"hf://datasets/{NAME}"),
    "evidence": lambda: fetch(NAME),
    "whole repository": lambda: fetch(NAME, whole=True),
    "before imports": lambda: require_copy_or_hub(NAME),
}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_without_a_network_every_loader_fails_at_once_in_one_sentence(unreachable, load, capfd, caplog):
    reason, silent = unreachable
    began = time.monotonic()
    with pytest.raises(HubNotReachedError, match=reason) as raised:
        load()
    assert time.monotonic() - began < 5
    assert isinstance(raised.value, FileNotFoundError)
    assert isinstance(raised.value, ConnectionError)
    assert f"{NAME} is neither a folder here nor whole in the cache of the Hub" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert silent is None or silent.times_asked() == 1
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


COMMANDS = {
    "translate": ["translate", "--model", NAME],
    "score": ["score", "--model", NAME, "--source", "a", "--target", "b"],
    "evaluate": ["evaluate", "--model", NAME, "--dataset_name", "builtin-fr-en", "--output_dir", "out"],
    "convert": ["convert", "--from", "fsmt", "--model", NAME, "--output", "out"],
    "export": ["export", "--to", "onnx", "--model", NAME, "--output", "out"],
    "illustrate": ["illustrate", "--model", NAME, "--text", "merci", "--figures", "out"],
    "verify": ["verify", "--model", NAME],
    "doctor": ["doctor", "--model", NAME],
    "train from": ["train", "--dataset_name", "builtin-fr-en", "--output_dir", "out", "--init_from", NAME],
    "train with": ["train", "--dataset_name", "builtin-fr-en", "--output_dir", "out", "--tokenizer", NAME],
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_every_command_says_so_before_anything_else(online, host, arguments, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    silent = host()
    online(f"http://127.0.0.1:{silent.port}")
    assert main(arguments) == 1
    lines = capfd.readouterr().err.splitlines()
    if arguments[0] == "train":  # whose first line says how the settings were read
        lines = lines[1:]
    assert [line.partition(" is neither ")[0] for line in lines] == [
        f"vanilla-transformer {arguments[0]}: error: {NAME}"
    ]
    assert silent.times_asked() == 1


def test_the_network_that_the_user_keeps_off_is_not_asked(online, host, monkeypatch):
    silent = host()
    online(f"http://127.0.0.1:{silent.port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        HubNotReachedError, match=r"and HF_HUB_OFFLINE keeps the network off\. .* unset HF_HUB_OFFLINE"
    ):
        load_model_and_tokenizer(NAME)
    assert not silent.requests


def test_a_push_does_not_begin(unreachable):
    with (
        pytest.raises(
            ConnectionError, match=r"^someone/x is on the Hub, but the Hub cannot be reached .* try again\.$"
        ),
        explained("someone/x"),
    ):
        raise AssertionError("it began")


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("status", [200, 301, 401, 404, 405, 500])
def test_whatever_it_answers_the_hub_is_there(online, host, status):
    answering = host(b"HTTP/1.1 %d x\r\nLocation: http://hub.invalid/\r\nContent-Length: 0\r\n\r\n" % status)
    online(f"http://127.0.0.1:{answering.port}")
    assert find_obstacle() is None


@pytest.mark.usefixtures("patient")
def test_it_is_asked_through_the_proxy_of_the_environment(online, host, monkeypatch):
    proxy = host(b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n")
    online("http://hub.invalid")
    for name in ("NO_PROXY", "no_proxy", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    assert find_obstacle() is None
    assert proxy.requests[0].startswith(b"HEAD http://hub.invalid")


def test_who_has_a_slow_network_waits_longer(online, host, monkeypatch):
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "1")
    silent = host()
    online(f"http://127.0.0.1:{silent.port}")
    obstacle = find_obstacle()
    assert obstacle is not None
    assert "no answer within 1 s" in obstacle.what
    assert "raise HF_HUB_ETAG_TIMEOUT" in obstacle.remedy


def test_a_network_that_comes_back_is_found(unreachable, online, host, monkeypatch):
    """Only silence is remembered, and for seconds."""
    monkeypatch.setattr(hub_access, "REMEMBERED", 0.0)
    assert find_obstacle() is not None
    monkeypatch.setattr(hub_access, "ANSWER_WITHIN", 60.0)
    answering = host(b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n")
    online(f"http://127.0.0.1:{answering.port}")
    assert find_obstacle() is None


def test_a_prepared_data_set_is_used_without_a_network(unreachable, tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    _, silent = unreachable
    owner = f"someone{time.monotonic_ns()}"  # once in the life of a process a copy is told of
    prepare_as_if_downloaded(tmp_path, owner, "pairs")
    capfd.readouterr()

    corpus = load_parallel_corpus(dataset_name=f"{owner}/pairs", source_lang="fr", target_lang="en")

    assert corpus["source"][:] == ["merci"]
    assert [record.getMessage() for record in caplog.records if "copy" in record.getMessage()] == [caplog.messages[-1]]
    assert caplog.messages[-1].startswith(f"The copy of {owner}/pairs in the cache is used, since the Hub cannot be")
    assert "Using the latest" not in capfd.readouterr().err
    assert silent is None or silent.times_asked() == 1
    with pytest.raises(HubNotReachedError, match=r"/pairs \(other\) is neither a folder here nor whole in"):
        load_parallel_corpus(dataset_name=f"{owner}/pairs", dataset_config_name="other")


def prepare_as_if_downloaded(folder: Path, owner: str, name: str) -> None:
    """What `datasets` keeps of a data set of the Hub."""
    (folder / "rows.jsonl").write_text('{"fr": "merci", "en": "thanks"}\n', encoding="utf-8")
    made = load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train")
    prepared = Path(made.cache_files[0]["filename"]).parent
    wanted = folder / "cache" / f"{owner}___{name}" / "default" / "0.0.0" / "abc"
    wanted.parent.mkdir(parents=True)
    prepared.rename(wanted)
    (wanted / "json-train.arrow").rename(wanted / f"{name}-train.arrow")
    info = json.loads((wanted / "dataset_info.json").read_text(encoding="utf-8"))
    info.update(config_name="default", dataset_name=name)
    (wanted / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")


@pytest.mark.slow
def test_a_downloaded_model_is_used_without_a_network(pushing, folder, tmp_path):
    pushing.push(folder)
    (tmp_path / "input").write_text("merci\n", encoding="utf-8")
    translate = ["translate", "--model", REPO, "--input", tmp_path / "input", "--overwrite", "--output"]
    commands = (
        [*translate, tmp_path / "output"],
        ["verify", "--model", REPO],
        ["doctor", "--model", REPO],
    )
    with_network = [pushing.session.run(*command) for command in commands]
    translated = (tmp_path / "output").read_text(encoding="utf-8")
    pushing.hub.plan("", "die", times=99)  # also on connections that are kept
    try:
        without = [pushing.session.run(*command) for command in commands]
        unknown = pushing.session.run("verify", "--model", NAME)
    finally:
        pushing.hub.forget()
        pushing.hub.start()

    said = f"The copy of {REPO} in the cache is used, since the Hub cannot be reached ({pushing.hub.url}: "
    assert without[0].err.startswith(said)
    assert without[0].err.count("\n") == with_network[0].err.count("\n") + 1
    assert [answer.err for answer in without[1:]] == [answer.err for answer in with_network[1:]]  # it is said once
    assert [answer.out for answer in without] == [answer.out for answer in with_network]
    assert [answer.code for answer in without] == [answer.code for answer in with_network]
    assert without[0].code == 0
    assert (tmp_path / "output").read_text(encoding="utf-8") == translated != ""
    assert unknown.err.count("\n") == 1
    assert unknown.code == 1


@pytest.mark.slow
def test_a_slow_hub_is_waited_for(pushing, folder, tmp_path):
    """Only its first answer is bounded."""
    pushing.push(folder)
    (tmp_path / "input").write_text("merci\n", encoding="utf-8")
    plain, slow = pushing.hub.fault_of, []

    def slowly(request):
        if "/resolve/" in request and len(slow) < 2:
            slow.append(request)
            time.sleep(2)
        return plain(request)

    pushing.hub.fault_of = slowly
    translate = ["translate", "--model", REPO, "--input", tmp_path / "input", "--output", tmp_path / "output"]
    try:
        answer = pushing.session.run(*translate, HF_HUB_ETAG_TIMEOUT="1")
    finally:
        pushing.hub.fault_of = plain
        pushing.session.run("--version", HF_HUB_ETAG_TIMEOUT=None)
    assert answer.code == 0, answer.err
    assert "cache" not in answer.err
    assert len(slow) == 2
