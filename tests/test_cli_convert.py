"""`convert` and `export`: from a foreign folder to one that translates by itself, and out again."""

import json

import pytest
from originals import FRENCH, fsmt_folder, marian_folder
from tiny import beams_over_the_target_vocabulary
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_vanilla_transformer import Translator, VanillaTransformerForConditionalGeneration
from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.manifest_vanilla_transformer import damaged_files, read_manifest


def converted(folder, output, kind="marian", *options: str):
    assert main(["convert", "--from", kind, "--model", str(folder), "--output", str(output), *options]) == 0
    return output


def translations(folder) -> list[str]:
    """By `generate` with the folder's own settings, in one padded batch."""
    model, tokenizer = (auto.from_pretrained(folder) for auto in (AutoModelForSeq2SeqLM, AutoTokenizer))
    batch = tokenizer(list(FRENCH), padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    return tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True)


@pytest.mark.parametrize("separate", [False, pytest.param(True, marks=beams_over_the_target_vocabulary)])
def test_an_opus_folder_translates_by_itself_as_before(separate, tmp_path, capsys):
    original = marian_folder(tmp_path / "opus", separate)
    folder = converted(original, tmp_path / "ours")
    assert f"The model is in {folder}: " in capsys.readouterr().out
    assert isinstance(AutoModelForSeq2SeqLM.from_pretrained(folder), VanillaTransformerForConditionalGeneration)
    assert translations(folder) == translations(original)
    assert len(set(translations(folder))) > 2


@beams_over_the_target_vocabulary
def test_a_wmt19_folder_translates_by_itself_as_before(tmp_path):
    original = fsmt_folder(tmp_path / "wmt19")
    folder = converted(original, tmp_path / "ours", "fsmt")
    assert translations(folder) == translations(original)


def test_the_folder_is_sealed_and_says_where_it_came_from(tmp_path):
    folder = converted(marian_folder(tmp_path / "opus"), tmp_path / "ours", "marian", "--positions", "tensor2tensor")
    manifest = read_manifest(folder)
    assert manifest is not None
    assert damaged_files(folder, manifest["files"]) == []
    assert manifest["converted_from"] == {"format": "marian", "positions": "tensor2tensor"}
    assert str(tmp_path) not in json.dumps(manifest)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["positional_encoding"] == "tensor2tensor"


def test_the_translator_reads_what_convert_wrote(tmp_path, capsys):
    folder = converted(marian_folder(tmp_path / "opus"), tmp_path / "ours")
    text = Translator.from_pretrained(folder).translate(["merci beaucoup"])[0].text
    assert text == translations(folder)[0]


def test_targets_are_encoded_by_their_own_vocabulary(tmp_path):
    """transformers' FSMT tokenizer looks targets up in the source's vocabulary."""
    from hf_vanilla_transformer.tokenization import load_tokenizer

    tokenizer = load_tokenizer(converted(fsmt_folder(tmp_path / "wmt19"), tmp_path / "ours", "fsmt"))
    ids = tokenizer(text_target="the cat").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the cat"
    assert tokenizer("le chat").input_ids != tokenizer(text_target="le chat").input_ids


@pytest.mark.parametrize("kind", ["marian", "ctranslate2"])
def test_exports_of_a_converted_folder(kind, tmp_path, capsys):
    original = marian_folder(tmp_path / "opus")
    folder = converted(original, tmp_path / "ours")
    output = tmp_path / kind
    assert main(["export", "--to", kind, "--model", str(folder), "--output", str(output)]) == 0
    assert f"The model is in {output}, for {kind}." in capsys.readouterr().out
    assert damaged_files(output, read_manifest(output)["files"]) == []
    if kind == "marian":
        assert translations(output) == translations(original)


def test_our_own_tokenizer_goes_along_to_marian(tiny_model_folder, tmp_path):
    output = tmp_path / "marian"
    assert main(["export", "--to", "marian", "--model", str(tiny_model_folder), "--output", str(output)]) == 0
    sentences = ["merci", "le petit chat dort"]
    ids = AutoTokenizer.from_pretrained(output)(sentences).input_ids
    assert ids == AutoTokenizer.from_pretrained(tiny_model_folder)(sentences).input_ids
    assert json.loads((output / "config.json").read_text(encoding="utf-8"))["model_type"] == "marian"


@pytest.mark.slow
def test_export_to_onnx(tiny_model_folder, tmp_path):
    pytest.importorskip("transformers.exporters", reason="this transformers has no exporters")
    output = tmp_path / "onnx"
    assert main(["export", "--to", "onnx", "--model", str(tiny_model_folder), "--output", str(output)]) == 0
    assert {"encoder.onnx", "decoder.onnx", "onnx_runner.py", "tokenizer.json"} <= {p.name for p in output.iterdir()}


def test_a_quantization_of_another_format_is_wrong_usage(capsys):
    command = ["export", "--to", "onnx", "--model", "m", "--output", "o", "--quantization", "int8"]
    assert main(command) == 2
    assert "--quantization is for ctranslate2" in capsys.readouterr().err


def test_an_unknown_quantization_is_refused_before_the_model_is_read(capsys):
    command = ["export", "--to", "ctranslate2", "--model", "nowhere", "--output", "o", "--quantization", "int4"]
    assert main(command) == 1
    assert "`quantization` must be one of float32, int8" in capsys.readouterr().err
