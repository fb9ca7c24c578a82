"""`convert` and `export`: from a foreign folder to one that translates by itself, and out again."""

import json

import pytest
from originals import FRENCH, fsmt_folder, marian, marian_folder
from tiny import beams_over_the_target_vocabulary
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_vanilla_transformer import Translator, VanillaTransformerForConditionalGeneration
from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.model.manifest import damaged_files, read_manifest
from hf_vanilla_transformer.model.whole_folders import sealed_folder


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


def test_fsmts_tokenizer_knows_both_sides_in_any_order(tmp_path):
    from hf_vanilla_transformer.tokenization import load_tokenizer

    folder = converted(fsmt_folder(tmp_path / "wmt19"), tmp_path / "ours", "fsmt")
    source = load_tokenizer(folder)("le chat").input_ids  # before any target
    tokenizer = load_tokenizer(folder)
    target = tokenizer(text_target="the cat").input_ids
    assert tokenizer(text_target="the cat").input_ids == target
    with pytest.raises((ValueError, TypeError, AttributeError)):
        tokenizer(text_target=[3.5])
    assert (len(tokenizer.encoder), tokenizer.src_lang) == (len(load_tokenizer(folder).encoder), "fr")
    both = tokenizer("le chat", text_target="the cat")
    assert (both.input_ids, both.labels) == (source, target)
    tokenizer.save_pretrained(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again")("le chat", text_target="the cat").labels == target


def test_a_converted_wmt19_folder_translates_by_command(tmp_path, capsys):
    folder = converted(fsmt_folder(tmp_path / "wmt19"), tmp_path / "ours", "fsmt")
    (tmp_path / "in").write_text("merci beaucoup\nle petit chat dort\n", encoding="utf-8")
    command = ["translate", "--model", str(folder), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main([*command, "--device", "cpu"]) == 0, capsys.readouterr().err
    expected = Translator.from_pretrained(folder, device="cpu").translate(["merci beaucoup", "le petit chat dort"])
    said = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
    assert said == [translation.text for translation in expected]
    assert any(said)


@pytest.mark.parametrize("kind", ["marian", "ctranslate2"])
def test_exports_of_a_converted_folder(kind, tmp_path, capsys):
    original = marian_folder(tmp_path / "opus")
    folder = converted(original, tmp_path / "ours")
    output = tmp_path / kind
    if kind == "ctranslate2":
        pytest.importorskip("ctranslate2")
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


def test_embeddings_padded_to_a_round_number_are_converted(tmp_path):
    original = marian_folder(tmp_path / "opus")
    tokens = len(AutoTokenizer.from_pretrained(original))
    padding = tokens - 1  # the tokenizer's, not the model's last
    padded = marian(
        vocab_size=tokens + 8, pad_token_id=padding, decoder_start_token_id=padding, decoder_vocab_size=tokens + 8
    )
    padded.generation_config.bad_words_ids = [[padding], *([token] for token in range(tokens, tokens + 8))]
    padded.save_pretrained(original)
    folder = converted(original, tmp_path / "ours")
    assert translations(folder) == translations(original)


def test_quantized_weights_are_those_of_the_option(tiny_model_folder, tmp_path):
    pytest.importorskip("ctranslate2", reason="CTranslate2 is not installed")
    command = ["export", "--to", "ctranslate2", "--model", str(tiny_model_folder), "--output"]
    assert main([*command, str(tmp_path / "full")]) == 0
    assert main([*command, str(tmp_path / "int8"), "--quantization", "int8"]) == 0
    full, small = ((tmp_path / name / "model.bin").stat().st_size for name in ("full", "int8"))
    assert small < 0.9 * full
    assert read_manifest(tmp_path / "int8")["exported_to"] == {"format": "ctranslate2", "quantization": "int8"}


def test_a_quantization_of_another_format_is_wrong_usage(capsys):
    command = ["export", "--to", "onnx", "--model", "m", "--output", "o", "--quantization", "int8"]
    assert main(command) == 2
    assert "--quantization is for ctranslate2" in capsys.readouterr().err


def test_an_unknown_quantization_is_refused_before_the_model_is_read(capsys):
    command = ["export", "--to", "ctranslate2", "--model", "./nowhere", "--output", "o", "--quantization", "int4"]
    assert main(command) == 2
    assert "--quantization must be one of float32, int8" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["convert", "--from", "marian"], ["export", "--to", "ctranslate2"]])
def test_an_empty_name_is_wrong_usage(command, capsys):
    assert main([*command, "--model", "", "--output", "o"]) == 2
    assert "--model must not be empty" in capsys.readouterr().err


def test_an_empty_quantization_is_refused(capsys):
    command = ["export", "--to", "ctranslate2", "--model", "./nowhere", "--output", "o", "--quantization", ""]
    assert main(command) == 2
    assert "--quantization must be one of float32, int8" in capsys.readouterr().err


def test_the_output_may_be_at_home_or_behind_a_link(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    original = marian_folder(tmp_path / "opus")
    converted(original, "~/ours")
    assert (tmp_path / "ours" / "config.json").is_file()
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    converted(original, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "config.json").is_file()


def test_where_no_folder_can_be_put_is_refused_before_the_work(tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    command = ["convert", "--from", "marian", "--model", "nowhere/at/all", "--output"]
    assert main([*command, "."]) == 1
    assert "A new folder is needed, but . is the current folder. Name one inside it." in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.path.ismount", lambda path: str(path) == str(tmp_path / "empty"))
    assert main([*command, str(tmp_path / "empty")]) == 1
    assert "is a mount point" in capsys.readouterr().err


def test_folders_that_were_made_go_with_what_failed_and_others_stay(tmp_path):
    def fill_the_disk() -> None:
        with sealed_folder(tmp_path / "mine" / "a" / "b") as beside:
            (beside / "file").write_text("half", encoding="utf-8")
            raise RuntimeError("full")

    (tmp_path / "mine").mkdir()
    with pytest.raises(RuntimeError, match="full"):
        fill_the_disk()
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]
