"""Folders load whole or not at all: what `from_pretrained` of our classes refuses."""

import os
import re
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_model
from transformers import AutoModelForSeq2SeqLM

from hf_vanilla_transformer.model.manifest import MANIFEST_NAME, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model with a manifest."""
    tiny_model().save_pretrained(tmp_path)
    write_manifest(tmp_path, {"step": 1})
    return tmp_path


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Write other weights; None leaves a tensor out."""
    weights = load_file(folder / "model.safetensors")
    for name, tensor in changes.items():
        name = name.replace("__", ".")
        weights.pop(name) if tensor is None else weights.update({name: tensor})
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_sound_folder_loads(folder: Path):
    loaded = AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert torch.equal(loaded.lm_head.weight, tiny_model().lm_head.weight)


def test_one_flipped_bit_is_refused(folder: Path):
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match=r"hold what was saved there, but model\.safetensors is not what was saved"):
        AutoModelForSeq2SeqLM.from_pretrained(folder)
    (folder / MANIFEST_NAME).unlink()
    AutoModelForSeq2SeqLM.from_pretrained(folder)  # nobody can tell any more


def test_lost_weights_are_named(folder: Path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors is missing"):
        AutoModelForSeq2SeqLM.from_pretrained(folder)


def test_a_missing_tensor_is_an_error(folder: Path):
    change_weights(folder, model__encoder__layers__0__fc1__weight=None)
    (folder / MANIFEST_NAME).unlink()
    with pytest.raises(ValueError, match=r"lack model\.encoder\.layers\.0\.fc1\.weight, which would be random"):
        AutoModelForSeq2SeqLM.from_pretrained(folder)
    _, report = AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    assert report["missing_keys"] == {"model.encoder.layers.0.fc1.weight"}


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (float("nan"), "infinities or NaN"),
        (float("inf"), "infinities or NaN"),
        (-float("inf"), "infinities or NaN"),
        (-3e19, "numbers of 3e+19, which overflow,"),
    ],
)
def test_weights_that_are_no_numbers_are_an_error(value: float, what: str, folder: Path):
    bias = torch.zeros(64)
    bias[7] = value
    change_weights(folder, model__encoder__layers__0__fc1__bias=bias)
    (folder / MANIFEST_NAME).unlink()
    with pytest.raises(ValueError, match=rf"hold {re.escape(what)} in model\.encoder\.layers\.0\.fc1\.bias"):
        AutoModelForSeq2SeqLM.from_pretrained(folder)


def test_saving_over_a_folder_takes_its_manifest_away(folder: Path):
    tiny_model(seed=1).save_pretrained(folder)
    assert not (folder / MANIFEST_NAME).exists()
    loaded = AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert torch.equal(loaded.lm_head.weight, tiny_model(seed=1).lm_head.weight)


def test_a_state_given_by_hand_is_taken_as_it_is(folder: Path):
    (folder / "model.safetensors").write_bytes(b"")
    config = tiny_model().config
    model = type(tiny_model()).from_pretrained(None, config=config, state_dict=tiny_model().state_dict())
    assert torch.equal(model.lm_head.weight, tiny_model().lm_head.weight)


@pytest.mark.skipif(os.name == "nt", reason="permissions are the system's own")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_have_the_permissions_that_the_umask_asks_for(umask: int, tmp_path: Path):
    before = os.umask(umask)
    try:
        tiny_model().save_pretrained(tmp_path)
        write_manifest(tmp_path)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert {"model.safetensors", "manifest.json", "config.json"} <= set(modes)
    assert set(modes.values()) == {0o666 & ~umask}, modes
