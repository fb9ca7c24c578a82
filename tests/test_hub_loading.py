"""What was pushed loads in every way that users load, bit for bit, in fresh processes with empty caches."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from hub_clients import WITHOUT_PACKAGE, command, python, result_of
from hub_server import TestHub
from model_folders import save_model_folder

from hf_vanilla_transformer import Translator

REPO = "someone/fr-en"
SENTENCES = ["merci", "le petit chat dort", "où est la gare ?"]
TWELVE_MB = {"d_model": 256, "decoder_layers": 2, "encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024}

LOAD = """
import hashlib, json, sys, torch
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer, pipeline
where, sentences, resaved = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
trust = {"trust_remote_code": True} if sys.argv[4] == "trust" else {}

def digest(tensor):
    return hashlib.sha256(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()

config = AutoConfig.from_pretrained(where, **trust)
model = AutoModelForSeq2SeqLM.from_pretrained(where, **trust)
base = AutoModel.from_pretrained(where, **trust)
tokenizer = AutoTokenizer.from_pretrained(where, **trust)
ids = tokenizer(sentences[:1], return_tensors="pt").input_ids
result = {
    "classes": [type(each).__module__.split(".")[0] for each in (config, model, base)],
    "logits": digest(model(input_ids=ids).logits),
    "states": digest(base(input_ids=ids).last_hidden_state),
    "generated": model.generate(**tokenizer(sentences, padding=True, return_tensors="pt")).tolist(),
    "package": "hf_vanilla_transformer" in sys.modules,
}
result["translated"] = [each["translation_text"] for each in pipeline("translate", model=where, **trust)(sentences)]
if resaved != "-":
    model.save_pretrained(resaved)
    tokenizer.save_pretrained(resaved)
print(json.dumps(result))
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


def load(hub, home, prelude, where, trust, resaved="-", **variables) -> dict:
    arguments = [
        "-c",
        f"{prelude}\n{LOAD}",
        str(where),
        json.dumps(SENTENCES),
        str(resaved),
        "trust" if trust else "no",
    ]
    return result_of(python(hub, home, arguments, token=None, **variables))


@pytest.fixture(scope="module", params=["lfs", "xet"])
def either_hub(request, tmp_path_factory, big_folder):
    """A Hub that holds the model, pushed through either kind of upload."""
    folder = tmp_path_factory.mktemp(request.param)
    hub = TestHub(folder / "hub", xet=request.param == "xet")
    done = command(hub, folder / "pusher", ["push", "--model", big_folder, "--repo_id", REPO])
    assert done.returncode == 0, done.stderr
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def hub(tmp_path_factory, big_folder):
    """The same, for what does not depend on the kind of upload."""
    folder = tmp_path_factory.mktemp("hub")
    hub = TestHub(folder / "hub")
    assert command(hub, folder / "pusher", ["push", "--model", big_folder, "--repo_id", REPO]).returncode == 0
    yield hub
    hub.stop()


@pytest.mark.slow
def test_pushed_again_nothing_happens(either_hub, big_folder, tmp_path):
    again = command(either_hub, tmp_path, ["push", "--model", big_folder, "--repo_id", REPO])
    assert again.stdout.startswith("Nothing has changed since the last push")
    assert len(either_hub.repositories[REPO].commits) == 2


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
def test_the_tokenizer_is_of_the_models_commit(hub, tmp_path):
    """Whatever is pushed between the two."""
    done = python(hub, tmp_path, ["-c", TOKENIZER_OF, REPO], token=None)
    assert result_of(done) == [hub.repositories[REPO].commits[-1][0]]


@pytest.mark.slow
def test_pulled_into_an_empty_cache_it_translates_the_same_later_without_a_network_too(
    either_hub, big_folder, tmp_path
):
    """Also if the connection is cut in the middle of the weights."""
    if not either_hub.xet:  # the client itself reads the local store of xet
        either_hub.plan("GET .*/resolve/.*/model.safetensors", "cut")
    (tmp_path / "input").write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    translate = ["translate", "--model", REPO, "--input", tmp_path / "input", "--precision", "model"]

    pulled = command(either_hub, tmp_path / "home", translate, token=None)
    offline = command(either_hub, tmp_path / "home", translate, token=None, HF_HUB_OFFLINE="1")

    expected = [each.text for each in Translator.from_pretrained(big_folder, device="cpu").translate(SENTENCES)]
    assert pulled.stdout.split("\n")[:-1] == expected, pulled.stderr
    assert offline.stdout == pulled.stdout, offline.stderr
    assert len(set(expected)) == len(SENTENCES)


@pytest.mark.slow
def test_a_stranger_with_the_package_trusts_nobody(hub, expected, tmp_path):
    result = load(hub, tmp_path, "import hf_vanilla_transformer", REPO, trust=False)
    assert {name: result[name] for name in expected} == expected
    assert result["classes"] == ["hf_vanilla_transformer"] * 3


@pytest.mark.slow
def test_a_stranger_without_it_runs_the_code_that_came_along_and_can_pass_it_on(hub, expected, tmp_path):
    first = load(hub, tmp_path, WITHOUT_PACKAGE, REPO, trust=True, resaved=tmp_path / "saved")
    again = load(hub, tmp_path / "other", WITHOUT_PACKAGE, tmp_path / "saved", trust=True)

    for result in (first, again):
        assert {name: result[name] for name in expected} == expected
        assert result["classes"] == ["transformers_modules"] * 3
        assert not result["package"]


NO_FLAG = """
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("someone/fr-en", trust_remote_code=False)
print(len(tokenizer("merci").input_ids) > 1)
AutoModelForSeq2SeqLM.from_pretrained("someone/fr-en")
"""


@pytest.mark.slow
def test_without_the_flag_code_from_the_hub_is_named_and_not_run(hub, tmp_path):
    """Without a terminal nobody is waited for."""
    done = python(hub, tmp_path, ["-c", WITHOUT_PACKAGE + NO_FLAG], token=None)

    assert done.returncode == 1
    assert done.stdout.startswith("True\n")  # the tokenizer needs no code
    assert "Please pass the argument `trust_remote_code=True` to allow custom code to be run." in done.stderr
    assert not list(tmp_path.rglob("modeling_vanilla_transformer.py"))


@pytest.mark.slow
def test_wrong_bytes_of_the_right_size_are_found_at_loading(hub, tmp_path):
    """The client takes them, and keeps them under the right name; the manifest does not."""
    hub.plan("GET .*/resolve/.*/model.safetensors", "flip")
    (tmp_path / "input").write_text("merci\n", encoding="utf-8")

    done = command(hub, tmp_path, ["translate", "--model", REPO, "--input", tmp_path / "input"], token=None)

    assert done.returncode == 1
    assert "model.safetensors is not what was saved" in done.stderr
    assert done.stderr.count("\n") == 1
