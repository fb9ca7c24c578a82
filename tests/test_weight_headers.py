"""A config that asks for more than the weights hold, or weights that are whole numbers: refused before any is made."""

import json
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, MarianConfig, MarianMTModel, PreTrainedModel

from hf_vanilla_transformer import VanillaTransformerForConditionalGeneration
from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.model.configuration_vanilla_transformer import LARGEST
from hf_vanilla_transformer.model.weight_headers import HEADS, INNER, LAYERS, WORDS, require_fitting_weights
from hf_vanilla_transformer.translation.loading import load_model


@pytest.fixture
def folder(tiny_model_folder, tmp_path):
    shutil.copytree(tiny_model_folder, tmp_path / "model")
    (tmp_path / "model" / "manifest.json").unlink(missing_ok=True)
    return tmp_path / "model"


@pytest.fixture
def marian(tmp_path):
    sizes = {"d_model": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 60}
    sizes |= {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    MarianMTModel(MarianConfig(pad_token_id=0, decoder_start_token_id=0, **sizes)).save_pretrained(tmp_path / "marian")
    return tmp_path / "marian"


@pytest.fixture
def nothing_is_made(monkeypatch):
    monkeypatch.setattr(PreTrainedModel, "__init__", lambda *_, **__: pytest.fail("a model was made"))


def change(folder, name="config.json", **fields):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")


@pytest.mark.parametrize(
    "name", [*LAYERS[:2], *INNER[:2], WORDS[0], "d_model", "num_labels", "max_position_embeddings"]
)
@pytest.mark.parametrize("value", [10**6, 10**9, 10**30])
def test_a_hostile_size_costs_nothing(marian, folder, nothing_is_made, name, value):
    if not (name == "max_position_embeddings" and value == 10**6):
        change(marian, **{name: value})
        with pytest.raises(ValueError, match=r"asks for a larger model than its weights are: .*Check that both files"):
            load_model(marian)
    change(folder, **{name: value, "positional_encoding": "learned"})
    for load in (load_model, VanillaTransformerForConditionalGeneration.from_pretrained):
        with pytest.raises(ValueError, match=f"{name}|a width of"):
            load(folder)


@pytest.mark.parametrize("seed", range(6))
def test_sizes_changed_at_random_are_refused_or_load(folder, seed):
    """In a second, whatever they are: what is made is no larger than the weights are, times a few."""
    chance = random.Random(seed)
    names = [name for name in (*LARGEST, *HEADS[:2]) if name != "chunk_size_feed_forward"]
    for name in chance.sample(names, 2):
        change(folder, **{name: chance.choice([0, -1, 3, 64, 10**5, 10**8, 2**63, None])})
    try:
        model = load_model(folder)
    except ValueError:
        return
    assert sum(parameter.numel() for parameter in model.parameters()) < 10**6


@pytest.mark.parametrize("kind", [torch.int64, torch.int8, torch.uint8, torch.bool])
def test_weights_of_whole_numbers_are_refused(folder, nothing_is_made, kind):
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = "model.encoder.layers.0.fc1.weight"
    save_file({**weights, name: (weights[name] * 100).to(kind)}, path, metadata={"format": "pt"})
    for load in (load_model, AutoModelForSeq2SeqLM.from_pretrained):
        with pytest.raises(ValueError, match=rf"must be floating-point numbers, .* there are {name} \([IUB]\w+\)"):
            load(folder)


def test_what_older_models_count_by_and_quantised_weights_pass(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file({**weights, "model.encoder.position_ids": torch.arange(9)}, path, metadata={"format": "pt"})
    require_fitting_weights(folder)
    save_file({**weights, "lm_head.weight": weights["lm_head.weight"].to(torch.int8)}, path)
    change(folder, quantization_config={"quant_method": "torchao"})
    require_fitting_weights(folder)


def test_a_folder_of_several_files_is_read_by_its_index(folder, nothing_is_made):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {}
    for number, names in enumerate((sorted(weights)[::2], sorted(weights)[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in names}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(names, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    require_fitting_weights(folder)
    change(folder, encoder_ffn_dim=10**5)
    with pytest.raises(
        ValueError, match=r"encoder_ffn_dim 100,000 and a width of 16, 2 times, but they hold [\d,]+ num"
    ):
        load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a":' * 10**5 + "1" + "}" * 10**5, '{"a": NaN}'])
def test_no_loader_of_ours_reads_json_that_is_not_sound(folder, nothing_is_made, name, text, capsys):
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{name} cannot be read \("):
        VanillaTransformerForConditionalGeneration.from_pretrained(folder)
    assert main(["score", "--model", str(folder), "--source", str(folder / name), "--target", str(folder / name)]) == 1
    error = capsys.readouterr().err
    assert f"{name} cannot be read (" in error
    assert "Traceback" not in error
