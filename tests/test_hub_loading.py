"""What was pushed loads in every way that users load, bit for bit, in fresh processes with empty caches."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from fresh_process import WITHOUT_PACKAGE
from hub_clients import REPO, Client, Pushing, Session, result_of
from hub_server import TestHub
from model_folders import save_model_folder

from hf_vanilla_transformer import Translator

SENTENCES = ["merci", "le petit chat dort", "où est la gare ?"]
TWELVE_MB = {"d_model": 256, "decoder_layers": 2, "encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024}

LOAD = """
import hashlib, json, sys, torch
from pathlib import Path
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer, pipeline
places, sentences, home = json.loads(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3])
trust = {"trust_remote_code": True} if sys.argv[4] == "trust" else {}

def digest(tensor):
    return hashlib.sha256(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()

def load(where, resaved):
    config = AutoConfig.from_pretrained(where, **trust)
    model = AutoModelForSeq2SeqLM.from_pretrained(where, **trust)
    base = AutoModel.from_pretrained(where, **trust)
    tokenizer = AutoTokenizer.from_pretrained(where, **trust)
    ids = tokenizer(sentences[:1], return_tensors="pt").input_ids
    translate = pipeline("translate", model=where, **trust)
    if resaved:
        model.save_pretrained(resaved)
        tokenizer.save_pretrained(resaved)
    return {
        "classes": [type(each).__module__.split(".")[0] for each in (config, model, base)],
        "logits": digest(model(input_ids=ids).logits),
        "states": digest(base(input_ids=ids).last_hidden_state),
        "generated": model.generate(**tokenizer(sentences, padding=True, return_tensors="pt")).tolist(),
        "translated": [each["translation_text"] for each in translate(sentences)],
        "package": "hf_vanilla_transformer" in sys.modules,
    }

refusal = None
if trust:  # first without it
    tokenizer = AutoTokenizer.from_pretrained(places[0][0], trust_remote_code=False)
    assert len(tokenizer("merci").input_ids) > 1  # it needs no code
    try:
        AutoModelForSeq2SeqLM.from_pretrained(places[0][0])
    except ValueError as error:
        refusal = str(error)
    assert not list(home.rglob("modeling_vanilla_transformer.py"))
print()  # transformers may have asked a question
print(json.dumps({"refusal": refusal, "loaded": [load(*place) for place in places]}))
"""


@pytest.fixture(scope="module")
def big_folder(tmp_path_factory, sentences) -> Path:
    folder = save_model_folder(tmp_path_factory.mktemp("big") / "model", sentences * 2, **TWELVE_MB)
    assert (folder / "model.safetensors").stat().st_size > 12_000_000
    return folder


@pytest.fixture(scope="module")
def expected(big_folder) -> dict:
    translator = Translator.from_pretrained(big_folder, device="cpu")
    model, tokenizer = translator.model, translator.tokenizer
    ids = tokenizer(SENTENCES[:1], return_tensors="pt").input_ids
    return {
        "logits": digest(model(input_ids=ids).logits),
        "states": digest(model.model(input_ids=ids).last_hidden_state),
        "generated": model.generate(**tokenizer(SENTENCES, padding=True, return_tensors="pt")).tolist(),
        "translated": [each.text for each in translator.translate(SENTENCES)],
    }


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def load(client, prelude, trust, *places) -> dict:
    """What a fresh process with an empty cache gets from each place, from where it may be saved to another."""
    arguments = (json.dumps(places, default=str), json.dumps(SENTENCES), client.home, "trust" if trust else "no")
    return result_of(client.python(f"{prelude}\n{LOAD}", *arguments))


def pushed(folder: Path, big_folder: Path, xet: bool) -> Pushing:
    """A Hub that holds the model, and the client that pushed it."""
    pushing = Pushing(hub := TestHub(folder / "hub", xet=xet), Session(hub, folder / "home"))
    answer = pushing.push(big_folder)
    assert answer.code == 0, answer.err
    return pushing


def close(pushing: Pushing) -> None:
    pushing.session.close()
    pushing.hub.stop()


@pytest.fixture(scope="module")
def by_lfs(tmp_path_factory, big_folder):
    yield (pushing := pushed(tmp_path_factory.mktemp("lfs"), big_folder, xet=False))
    close(pushing)


@pytest.fixture(scope="module")
def by_xet(tmp_path_factory, big_folder):
    yield (pushing := pushed(tmp_path_factory.mktemp("xet"), big_folder, xet=True))
    close(pushing)


@pytest.fixture
def stranger(by_lfs, processes_with_torch, tmp_path) -> Client:
    """A client that has nothing yet."""
    return Client(processes_with_torch, by_lfs.hub, tmp_path / "home")


@pytest.fixture(params=["by_lfs", "by_xet"])
def pusher(request) -> Pushing:
    """Either kind of upload."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def from_an_empty_cache(pusher, tmp_path):
    """Translate what is on the Hub, as someone without a token and from what is kept of it nowhere: answer, lines."""

    def translate():
        shutil.rmtree(pusher.session.home / "hub", ignore_errors=True)
        (tmp_path / "input").write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
        places = ["--input", tmp_path / "input", "--output", tmp_path / "output"]
        answer = pusher.session.run("translate", "--model", REPO, *places, "--precision", "model", HF_TOKEN=None)
        lines = (tmp_path / "output").read_text(encoding="utf-8").split("\n")[:-1] if answer.code == 0 else []
        return answer, lines

    return translate


@pytest.mark.slow
def test_pushed_again_nothing_happens(pusher, big_folder):
    again = pusher.push(big_folder)
    assert again.out.startswith("Nothing has changed since the last push")
    assert len(pusher.hub.repositories[REPO].commits) == 2


TOKENIZER_OF = """
import json, sys
from hf_vanilla_transformer.translation import loading
asked = []
load_tokenizer = loading.load_tokenizer
loading.load_tokenizer = lambda name, revision=None: asked.append(revision) or load_tokenizer(name, revision=revision)
loading.load_model_and_tokenizer(sys.argv[1])
print(json.dumps(asked))
"""


@pytest.mark.slow
def test_the_tokenizer_is_of_the_models_commit(by_lfs, stranger):
    """Whatever is pushed between the two."""
    assert result_of(stranger.python(TOKENIZER_OF, REPO)) == [by_lfs.hub.repositories[REPO].commits[-1][0]]


@pytest.mark.slow
def test_pulled_into_an_empty_cache_it_translates_the_same(pusher, from_an_empty_cache, expected):
    """Also if the connection is cut in the middle of the weights."""
    if not pusher.hub.xet:  # the client itself reads the local store of xet
        pusher.hub.plan("GET .*/resolve/.*/model.safetensors", "cut")

    answer, lines = from_an_empty_cache()

    assert lines == expected["translated"], answer.err
    assert len(set(lines)) == len(SENTENCES)


@pytest.mark.slow
@pytest.mark.parametrize("pusher", ["by_lfs"], indirect=True)  # the cache is the same
def test_later_it_translates_without_a_network_too(
    pusher, from_an_empty_cache, expected, tmp_path, processes_with_torch
):
    from_an_empty_cache()

    client = Client(processes_with_torch, pusher.hub, pusher.session.home)
    arguments = ["--model", REPO, "--input", tmp_path / "input", "--precision", "model"]
    offline = client.command("translate", *arguments, HF_HUB_OFFLINE="1")

    assert offline.stdout.split("\n")[:-1] == expected["translated"], offline.stderr


@pytest.mark.slow
@pytest.mark.parametrize("pusher", ["by_lfs"], indirect=True)
def test_wrong_bytes_of_the_right_size_are_found_at_loading(pusher, from_an_empty_cache):
    """The client takes them, and keeps them under the right name; the manifest does not."""
    pusher.hub.plan("GET .*/resolve/.*/model.safetensors", "flip")

    answer, _ = from_an_empty_cache()

    assert answer.code == 1
    assert "model.safetensors is not what was saved" in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.slow
def test_a_stranger_with_the_package_trusts_nobody(stranger, expected):
    (result,) = load(stranger, "import hf_vanilla_transformer", False, (REPO, None))["loaded"]
    assert {name: result[name] for name in expected} == expected
    assert result["classes"] == ["hf_vanilla_transformer"] * 3


@pytest.mark.slow
def test_a_stranger_without_it_runs_the_code_that_came_along_if_trusted_and_can_pass_it_on(
    stranger, expected, tmp_path
):
    """Without the flag, code from the Hub is named and not run; without a terminal nobody is waited for."""
    places = (REPO, tmp_path / "saved"), (tmp_path / "saved", None)
    found = load(stranger, WITHOUT_PACKAGE, True, *places)

    assert "Please pass the argument `trust_remote_code=True` to allow custom code to be run." in found["refusal"]
    for result in found["loaded"]:
        assert {name: result[name] for name in expected} == expected
        assert result["classes"] == ["transformers_modules"] * 3
        assert not result["package"]
