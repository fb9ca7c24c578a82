"""A tokenizer is loaded from its folder without a network, or the error says what is missing."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_vanilla_transformer.tokenization import load_tokenizer, train_tokenizer

VOCAB_SIZE = 262


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ours")
    train_tokenizer(["one text", "one text"], VOCAB_SIZE).save_pretrained(folder)
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch):
    """A machine that cannot reach the Hub; any name that it is asked for is noted."""
    calls: list[str] = []

    class Unreachable:
        def model_info(self, name: str, **_: object) -> None:
            calls.append(name)

    monkeypatch.setattr("huggingface_hub.HfApi", Unreachable)
    return calls


def test_any_other_tokenizer_loads(tmp_path: Path):
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "hello": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path))("hello you").input_ids == [1, 0]


def test_a_tokenizer_without_vocabulary_file_loads(tmp_path: Path):
    """ByT5 reads bytes: its folder holds a tokenizer_config.json only."""
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}', encoding="utf-8")
    assert load_tokenizer(tmp_path)("a").input_ids == [ord("a") + 3, 1]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, "nothing"),
        ({"config.json": "{}", "model.safetensors": ""}, "config.json, model.safetensors"),
        ({"tokenizer_config.json": '{"tokenizer_class": "TokenizersBackend"}'}, "tokenizer_config.json"),
        ({f"{n:02}.txt": "" for n in range(20)}, "11.txt and 8 more"),
    ],
)
def test_a_folder_without_tokenizer(tmp_path: Path, no_network: list[str], files: dict[str, str], found: str):
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=rf"needs tokenizer\.json .*{tmp_path.name} holds .*{found}: learn"):
        load_tokenizer(tmp_path)
    assert not no_network


def test_a_broken_tokenizer_file(tmp_path: Path, folder: Path):
    whole = (folder / "tokenizer.json").read_text(encoding="utf-8")
    for text, why in (
        (whole[:500], "it is not JSON"),
        ('{"version": "1.0",' + whole[1:], "it names 'version' twice"),
        ('{"a":' * 10**5 + "1" + "}" * 10**5, "nested more than 64 deep"),
    ):
        (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=rf"tokenizer\.json cannot be read \(.*{why}"):
            load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(ValueError, match=r"must be readable by AutoTokenizer, .* holds tokenizer\.json: copy"):
        load_tokenizer(tmp_path)


def test_a_file_instead_of_its_folder(folder: Path):
    with pytest.raises(NotADirectoryError, match=r"read from a folder, but .*tokenizer\.json is a file"):
        load_tokenizer(folder / "tokenizer.json")


@pytest.mark.parametrize("path", ["/no/such/folder", "./nowhere", "runs/missing", "a b", "nowhere/", Path("nowhere")])
def test_a_missing_folder_never_asks_the_hub(
    path: str | Path, tmp_path: Path, no_network: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        load_tokenizer(path)
    assert not no_network


def test_an_empty_name():
    with pytest.raises(ValueError, match="must not be empty"):
        load_tokenizer("")


def test_a_hub_name_that_cannot_be_reached_is_not_asked_for(no_network: list[str]):
    with pytest.raises(FileNotFoundError, match=r"no/such is neither a folder here nor whole .* Check the spelling"):
        load_tokenizer("no/such")
    assert not no_network


def test_a_hub_name_is_read_from_the_cache_without_network(
    folder: Path, no_network: list[str], monkeypatch: pytest.MonkeyPatch
):
    """Stands in for the cache: whoever asks for local files only gets them."""
    read = AutoTokenizer.from_pretrained

    def cached(name: str, *, local_files_only: bool, trust_remote_code: bool) -> PreTrainedTokenizerFast:
        assert (name, local_files_only, trust_remote_code) == ("org/name", True, False)
        return read(folder, local_files_only=True, trust_remote_code=False)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", cached)
    assert len(load_tokenizer("org/name")) == VOCAB_SIZE
    assert not no_network
