"""What cannot be converted is refused by name, in one sentence, and leaves nothing behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from originals import fsmt, marian, marian_folder
from safetensors.torch import load_file, save_file
from tiny import tiny_config, tiny_model
from transformers import MarianMTModel, T5Config, T5ForConditionalGeneration

from hf_vanilla_transformer import from_fsmt, from_marian
from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.conversion.formats import EXPORT_FORMATS
from hf_vanilla_transformer.conversion.originals import new_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An OPUS-MT folder to damage."""
    return marian_folder(tmp_path / "opus")


def change_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **fields}), encoding="utf-8")


def refusal(folder: Path, capsys: pytest.CaptureFixture, kind: str = "marian") -> str:
    """What `convert` says of a folder that it must refuse."""
    output = folder.with_name("converted")
    capsys.readouterr()
    assert main(["convert", "--from", kind, "--model", str(folder), "--output", str(output)]) == 1
    said = [line for line in capsys.readouterr().err.strip().split("\n") if "has no manifest.json" not in line]
    assert not output.exists()
    assert [path.name for path in folder.parent.iterdir() if path.name.endswith(".tmp")] == []
    assert len(said) == 1
    return said[0]


def test_a_t5_folder(tmp_path, capsys):
    T5ForConditionalGeneration(
        T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    ).save_pretrained(tmp_path / "t5")
    said = refusal(tmp_path / "t5", capsys)
    assert "A model of type marian is needed, but the config of" in said
    assert "says its type is t5" in said


def test_a_marian_folder_called_fsmt(folder, capsys):
    assert "A model of type fsmt is needed" in refusal(folder, capsys, "fsmt")


def test_a_truncated_file_of_weights(folder, capsys):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    said = refusal(folder, capsys)
    assert "The weights in" in said
    assert "are damaged" in said


def test_a_config_without_weights(folder, capsys):
    (folder / "model.safetensors").unlink()
    assert "needs its weights, but" in refusal(folder, capsys)


def test_weights_without_config(folder, capsys):
    (folder / "config.json").unlink()
    assert "needs config.json, but" in refusal(folder, capsys)


def test_no_such_folder(tmp_path, capsys):
    assert "There is no model folder" in refusal(tmp_path / "nowhere", capsys)


def test_pickled_weights_are_not_read(folder, capsys):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pytorch_model.bin is not read, since pickles run code" in refusal(folder, capsys)


def test_tensors_left_over_are_listed(folder, capsys):
    change_weights(folder, lambda weights: weights.update({"model.encoder.layer_norm.weight": torch.ones(32)}))
    said = refusal(folder, capsys)
    assert "hold, beyond what the config describes, model.encoder.layer_norm.weight" in said


def test_missing_tensors_are_listed(folder, capsys):
    change_weights(folder, lambda weights: weights.pop("model.encoder.layers.0.fc1.bias"))
    assert "lack model.encoder.layers.0.fc1.bias" in refusal(folder, capsys)


@pytest.mark.slow
def test_the_sentence_stands_alone_on_stderr(folder):
    """In a process of its own, since logging keeps the stderr that it first saw."""
    change_config(folder, encoder_ffn_dim=47)
    change_weights(folder, lambda weights: weights.pop("model.encoder.layers.0.fc2.bias"))
    command = ("convert", "--from", "marian", "--model", str(folder), "--output", str(folder.with_name("converted")))
    done = subprocess.run(
        [sys.executable, "-m", "hf_vanilla_transformer", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    said = done.stderr.strip().split("\n")
    assert len(said) == 2, done.stderr
    assert "has no manifest.json" in said[0]  # of any folder that was downloaded by hand
    assert "they lack model.encoder.layers.0.fc2.bias; they have another shape in" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("bos_token_id", 4000), ("eos_token_id", 4000), ("decoder_start_token_id", -1)]
)
def test_special_tokens_outside_the_vocabulary(folder, capsys, name, value):
    change_config(folder, **{name: value})
    said = refusal(folder, capsys)
    assert f"`{name}` must be a target token, at least 0 and below 60, got {value}" in said


def test_forced_tokens_outside_the_vocabulary(folder, capsys):
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "forced_eos_token_id": 4000}), encoding="utf-8")
    said = refusal(folder, capsys)
    assert "Special tokens must be among the 60 of the target's vocabulary, but there are forced_eos_token_id" in said


def test_infinite_weights(folder, capsys):
    change_weights(folder, lambda weights: weights["model.encoder.layers.0.fc1.bias"].fill_(float("inf")))
    assert "hold infinities or NaN in model.encoder.layers.0.fc1.bias" in refusal(folder, capsys)


def test_a_tokenizer_that_does_not_fit_the_vocabulary(tmp_path, capsys):
    folder = marian_folder(tmp_path / "opus")
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    size = len(vocabulary)
    vocabulary["extra"] = size
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    said = refusal(folder, capsys)
    assert f"it has {size + 1} source tokens where the model has embeddings for {size}" in said


def test_a_tokenizer_that_does_not_fit_the_targets_vocabulary(tmp_path, capsys):
    folder = marian_folder(tmp_path / "opus", separate=True)
    path = folder / "target_vocab.json"
    vocabulary = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**vocabulary, "extra": len(vocabulary)}), encoding="utf-8")
    said = refusal(folder, capsys)
    assert f"it has {len(vocabulary) + 1} target tokens where the model has embeddings for {len(vocabulary)}" in said


def test_a_tokenizer_that_ends_with_another_token(folder, capsys):
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "<unk>"}), encoding="utf-8")
    assert "its end of sentence is token 1 where the model's is 0" in refusal(folder, capsys)


def test_generation_settings_that_transformers_does_not_save(folder, capsys):
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "temperature": 0.5}), encoding="utf-8")
    said = refusal(folder, capsys)
    assert "The settings in generation_config.json must be valid" in said
    assert "`temperature`" in said


def test_generation_settings_that_are_damaged(folder, capsys):
    (folder / "generation_config.json").write_text("{", encoding="utf-8")
    assert "generation_config.json cannot be read (it is not JSON" in refusal(folder, capsys)


def test_a_tokenizer_that_pads_with_another_token(folder, capsys):
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": "<unk>"}), encoding="utf-8")
    assert "its padding is token 1 where the model's is" in refusal(folder, capsys)


def test_a_folder_without_tokenizer(tmp_path, capsys):
    marian().save_pretrained(tmp_path / "opus")
    assert "A tokenizer's folder needs" in refusal(tmp_path / "opus", capsys)


@pytest.mark.parametrize("field", ["normalize_before", "normalize_embedding", "add_final_layer_norm"])
def test_settings_that_transformers_does_not_compute(folder, capsys, field):
    change_config(folder, **{field: True})
    said = refusal(folder, capsys)
    assert f"says {field}=True" in said
    assert "which transformers' marian does not compute" in said


def test_positions_that_differ_between_the_stacks():
    original = marian()
    with torch.no_grad():
        original.model.decoder.embed_positions.weight.normal_()
    with pytest.raises(ValueError, match="encoder's table is concatenated and the decoder's learned"):
        from_marian(original)


def test_trained_positions_are_not_replaced():
    original = marian()
    with torch.no_grad():
        for stack in (original.model.encoder, original.model.decoder):
            stack.embed_positions.weight.normal_()
    with pytest.raises(ValueError, match="positions were learned"):
        from_marian(original, positions="tensor2tensor")


def test_unknown_positions():
    with pytest.raises(ValueError, match=r"`positions` may be tensor2tensor, or left out .* got 'learned'"):
        from_marian(marian(), positions="learned")  # type: ignore[arg-type]


@pytest.mark.parametrize(("convert", "other"), [(from_marian, fsmt), (from_fsmt, marian)])
def test_another_model_in_memory(convert, other):
    with pytest.raises(TypeError, match=r"needs a model folder, a Hub name or a (Marian|FSMT)"):
        convert(other())


def test_layer_drop_is_said(caplog):
    original = marian(encoder_layerdrop=0.1)
    from_marian(original)
    assert "was trained with layer drop in its encoder" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.update(extra=torch.ones(1)), "extra is left over"),
        (lambda weights: weights.pop("lm_head.weight"), r"lm_head\.weight is missing"),
        (
            lambda weights: weights.update({"lm_head.weight": torch.ones(3, 4)}),
            r"lm_head\.weight has shape \(3, 4\) instead of \(40, 32\)",
        ),
    ],
)
def test_every_tensor_must_have_its_place(change, message):
    model = tiny_model(tie_word_embeddings=False)
    weights = dict(model.state_dict())
    change(weights)
    with pytest.raises(ValueError, match=f"must have its place in the converted model, but {message}"):
        new_model(model.config, weights, model.generation_config)


def test_tying_changes_no_weight():
    model = tiny_model(tie_word_embeddings=False)
    weights = dict(model.state_dict())
    config = tiny_config(tie_word_embeddings=True)
    with pytest.raises(ValueError, match=r"must be equal, but (lm_head|model\.\S+)\.weight would be replaced"):
        new_model(config, weights, model.generation_config)


def test_an_output_that_is_not_empty_is_left_alone(folder, tmp_path, capsys):
    output = tmp_path / "mine"
    output.mkdir()
    (output / "thesis.txt").write_text("years of work", encoding="utf-8")
    for command in (["convert", "--from", "marian"], ["export", "--to", "marian"]):
        assert main([*command, "--model", str(folder), "--output", str(output)]) == 1
        assert "A new folder is needed, but" in capsys.readouterr().err
    assert [path.name for path in output.iterdir()] == ["thesis.txt"]


def test_positions_of_a_format_that_has_one_kind(capsys):
    command = ["convert", "--from", "fsmt", "--model", "m", "--output", "o", "--positions", "tensor2tensor"]
    assert main(command) == 2
    assert "--positions is for marian" in capsys.readouterr().err


def test_exporting_another_kind_of_model(folder, tmp_path, capsys):
    output = tmp_path / "exported"
    for kind in EXPORT_FORMATS:
        if kind == "ctranslate2":
            pytest.importorskip("ctranslate2")
        assert main(["export", "--to", kind, "--model", str(folder), "--output", str(output)]) == 1
        assert "needs a VanillaTransformerForConditionalGeneration, got MarianMTModel" in capsys.readouterr().err
    assert not output.exists()
    assert isinstance(marian(), MarianMTModel)
