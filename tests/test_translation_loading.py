"""A model folder loads whole or not at all, with a sentence that says what is wrong with it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_vanilla_transformer.translation import Translator, choose_device, load_model_and_tokenizer


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


def change_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **fields}), encoding="utf-8")


def test_a_sound_folder_loads_with_its_weights(folder):
    model, tokenizer = load_model_and_tokenizer(folder)
    assert not model.training
    assert len(tokenizer) == model.config.vocab_size
    assert model.generation_config.max_extra_tokens == 8
    for name, tensor in load_file(folder / "model.safetensors").items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=0, atol=0)


def test_the_model_goes_to_the_device_asked_for(folder):
    assert Translator.from_pretrained(folder, device="cpu").model.device.type == "cpu"
    assert Translator.from_pretrained(str(folder)).model.device.type == choose_device().type


def test_an_accelerator_that_torch_was_built_for_and_is_not_there_is_not_chosen(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert choose_device() == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta:x"])
def test_a_device_that_is_not_there_is_named(folder, name):
    with pytest.raises(ValueError, match=rf"The device {name} cannot be used here \(.+\)\. Try cpu"):
        Translator.from_pretrained(folder, device=name)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", r"needs config\.json, but .*model has none"),
        ("model.safetensors", r"needs its weights, but .*model has no model\.safetensors"),
        ("tokenizer.json", r"needs tokenizer\.json"),
    ],
)
def test_a_missing_file_is_named(folder, missing, message):
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        load_model_and_tokenizer(folder)


def test_a_run_without_final_model_points_to_its_checkpoints(folder):
    (folder / "config.json").unlink()
    (folder / "checkpoint-10").mkdir()
    with pytest.raises(FileNotFoundError, match=r"It holds checkpoint-10: give one of these"):
        load_model_and_tokenizer(folder)


def test_pickled_weights_are_not_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin is not read, since pickles run code"):
        load_model_and_tokenizer(folder)


@pytest.mark.parametrize("kept", [0, 5, 100, -10])
def test_damaged_weights_are_said_to_be_damaged(folder, kept):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"weights in .*model are damaged"):
        load_model_and_tokenizer(folder)


def test_a_missing_tensor_is_an_error_and_not_a_random_one(folder):
    change_weights(folder, lambda weights: weights.pop("model.encoder.layers.0.fc1.weight"))
    with pytest.raises(ValueError, match=r"they lack model\.encoder\.layers\.0\.fc1\.weight"):
        load_model_and_tokenizer(folder)


def test_tensors_beyond_the_config_are_an_error(folder):
    change_config(folder, encoder_layers=1)
    with pytest.raises(ValueError, match=r"hold, beyond what the config describes, model\.encoder\.layers\.1.* more"):
        load_model_and_tokenizer(folder)


def test_a_tensor_of_another_shape_is_an_error(folder):
    change_config(folder, encoder_ffn_dim=33)
    shapes = r"model\.encoder\.layers\.0\.fc1\.weight \(\(32, 16\) instead of \(33, 16\)\)"
    with pytest.raises(ValueError, match=rf"they have another shape in .*{shapes}"):
        load_model_and_tokenizer(folder)


def test_all_kinds_of_difference_are_said_at_once(folder):
    change_config(folder, encoder_ffn_dim=33, decoder_layers=2)
    change_weights(folder, lambda weights: weights.update(extra=torch.ones(1)))
    with pytest.raises(
        ValueError, match=r"they lack (\S+, ){9}\S+ and \d+ more; they hold.* extra; they have another"
    ):
        load_model_and_tokenizer(folder)


DAMAGED = {"empty": b"", "cut off": b"{", "binary": b"\xff\xfe\x00", "list": b"[]", "null": b"null", "string": b'"a"'}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_settings_that_are_no_json_object_are_an_error(folder, name, content):
    """transformers would decode by its defaults."""
    (folder / name).write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"model/{name} (cannot be read|must hold a JSON object of settings, but it)"
    ):
        load_model_and_tokenizer(folder)


def test_generation_settings_may_be_left_out_but_not_be_a_folder(folder):
    (folder / "generation_config.json").unlink()
    load_model_and_tokenizer(folder)
    (folder / "generation_config.json").mkdir()
    with pytest.raises(ValueError, match=r"generation_config\.json cannot be read \(Is a directory\)"):
        load_model_and_tokenizer(folder)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"encoder_layers": "two"}, "encoder_layers"),
        ({"dropout": 3.0}, "dropout"),
        ({"pad_token_id": 4000}, "pad_token_id"),
        ({"model_type": "marian", "encoder_attention_heads": 0}, ""),
        ({"model_type": "marian", "pad_token_id": 4000}, ""),
        ({"model_type": "marian", "activation_function": []}, ""),
        ({"model_type": ["a"]}, ""),
    ],
)
def test_a_config_that_is_none_of_a_model_is_one_sentence(folder, fields, what):
    change_config(folder, **fields)
    with pytest.raises(ValueError, match=rf"model cannot be loaded as a translation model: .*{what}") as raised:
        load_model_and_tokenizer(folder)
    assert "\n" not in str(raised.value)


def test_an_empty_name_is_refused():
    with pytest.raises(ValueError, match=r"folder or Hub name must not be empty"):
        load_model_and_tokenizer("")


def test_code_that_came_with_a_model_is_never_run(folder):
    """Nor is the terminal asked about it."""
    change_config(folder, model_type="unheard_of", auto_map={"AutoConfig": "own.Config"})
    (folder / "own.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    with pytest.raises(ValueError, match=r"cannot be loaded as a translation model"):
        load_model_and_tokenizer(folder)


def test_a_tokenizer_with_more_entries_than_embeddings_is_refused(folder):
    _, tokenizer = load_model_and_tokenizer(folder)
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"has 302 entries, but its model has embeddings for 300"):
        load_model_and_tokenizer(folder)


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "runs/a/b", "../model"])
def test_what_can_only_be_a_path_is_not_looked_up_on_the_hub(name):
    with pytest.raises(FileNotFoundError, match=r"There is no model folder"):
        load_model_and_tokenizer(name)


@pytest.mark.parametrize("name", ["someone/nowhere", "nowhere"])
def test_what_may_be_a_hub_name_says_both(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"is neither a folder here nor whole in the cache of the Hub, and HF_HUB"
    ):
        load_model_and_tokenizer(name)


def test_a_name_inside_a_folder_that_is_here_is_a_slip_and_not_looked_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(FileNotFoundError, match=r"There is no model folder runs/mien\. Check the path"):
        load_model_and_tokenizer("runs/mien")


def test_a_file_is_no_model_folder(folder):
    with pytest.raises(NotADirectoryError, match=r"config\.json is a file\. Give its folder"):
        load_model_and_tokenizer(folder / "config.json")
