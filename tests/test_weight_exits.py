"""Whatever reads weights sees what `forward` computes with, or refuses by name."""

import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import lively_model, pad_batch, padded_pairs, prepared_in_bf16, sentences
from torch import nn
from torch.nn.utils import prune
from transformers import AutoModelForSeq2SeqLM, MarianConfig, MarianMTModel

from hf_vanilla_transformer import average_checkpoints, push_to_hub, to_ctranslate2, to_marian, to_onnx
from hf_vanilla_transformer.doctor import examine
from hf_vanilla_transformer.tokenization import load_tokenizer
from hf_vanilla_transformer.translation import load_model_and_tokenizer

IDS_OF_MARIAN = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0, "forced_eos_token_id": None}
IDS, MASK = pad_batch(sentences([4, 9, 6]))


def adapters(model):
    model.add_adapter(LoraConfig(target_modules=["v_proj"], init_lora_weights=False))


def peft(model):
    return get_peft_model(model, LoraConfig(target_modules=["fc1"], init_lora_weights=False))


def quantised(model):
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def quantised_head(model):
    model.lm_head = torch.ao.quantization.quantize_dynamic(nn.Sequential(model.lm_head), {nn.Linear})[0]


def parametrised(model):
    nn.utils.parametrizations.weight_norm(model.model.encoder.layers[0].fc1)


def pruned(model):
    prune.random_unstructured(model.model.encoder.layers[0].fc1, "weight", 0.5)


def hooked(model):
    model.model.encoder.layers[0].register_forward_hook(lambda module, args, output: output * 2)


def another_forward(model):
    model.lm_head.forward = lambda x: x.new_zeros(*x.shape[:-1], 40)


CHANGES = {
    adapters: "adapters. Merge them into the weights first",
    peft: "adapters. Merge them into the weights first",
    quantised: "quantised weights",
    quantised_head: "quantised weights",
    parametrised: "a .*ParametrizedLinear as model.encoder.layers.0.fc1",
    pruned: "a hook on model.encoder.layers.0.fc1",
    hooked: "a hook on model.encoder.layers.0",
    another_forward: "another `forward` of lm_head",
}


@pytest.mark.parametrize("export", ["Marian", "CTranslate2", "ONNX"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_an_export_refuses_what_it_would_drop(change, export, tiny_model_folder, tmp_path):
    model, tokenizer = lively_model(positional_encoding="concatenated"), load_tokenizer(tiny_model_folder)
    model = change(model) or model
    run = {
        "Marian": lambda: to_marian(model),
        "CTranslate2": lambda: to_ctranslate2(model, tokenizer, tmp_path / "there"),
        "ONNX": lambda: to_onnx(model, tokenizer, tmp_path / "there"),
    }[export]
    with pytest.raises(ValueError, match=f"The export to {export} reads weights, .* this model has {CHANGES[change]}"):
        run()
    assert not (tmp_path / "there").exists()


def test_a_model_that_is_training_or_prepared_by_accelerate_is_exported():
    model = lively_model(positional_encoding="concatenated")
    expected = to_marian(model).state_dict()
    model.train()
    prepared = prepared_in_bf16(model)
    prepared(**padded_pairs(), output_attentions=True)  # leaves hooks that do nothing
    for name, weight in to_marian(prepared).state_dict().items():
        assert torch.equal(weight, expected[name]), name


def test_merged_adapters_are_exported_as_what_forward_computes_with():
    model = peft(lively_model(positional_encoding="concatenated")).eval()
    expected = model(**padded_pairs("right")).logits
    merged = model.merge_and_unload()
    torch.testing.assert_close(to_marian(merged)(**padded_pairs("right")).logits, expected, atol=1e-4, rtol=1e-4)


# Folders


def folder_with_adapters(folder):
    """A whole model, and beside its weights adapters that only `transformers` would see."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    adapters(model)
    model.save_pretrained(folder)
    return folder


def test_what_reads_folders_refuses_adapters_beside_the_weights(folder, tmp_path):
    folder_with_adapters(folder)
    shutil.copytree(folder, tmp_path / "second")
    for read in (
        lambda: load_model_and_tokenizer(folder),
        lambda: average_checkpoints([folder, tmp_path / "second"], tmp_path / "mean"),
        lambda: push_to_hub(folder, "someone/adapted"),
    ):
        with pytest.raises(ValueError, match=r"holds adapters \(adapter_config.json\), .* merge them"):
            read()
    loads = next(finding for finding in examine(folder) if finding.check == "loads")
    assert loads.outcome == "fail"
    assert "holds adapters" in loads.found


@pytest.mark.parametrize("others", [False, True])
def test_saving_with_adapters_works_as_for_marian(tmp_path, others):
    """The stock trainer saves so at each checkpoint."""
    model = lively_model()
    if others:
        sizes = {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
        model = MarianMTModel(MarianConfig(vocab_size=40, d_model=16, **IDS_OF_MARIAN, **sizes)).eval()
    model.save_pretrained(tmp_path / "base")
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "base")
    adapters(model)
    model.eval()

    model.save_pretrained(tmp_path / "adapters")
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "adapters").eval()

    assert (tmp_path / "adapters" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "adapters" / "model.safetensors").exists()
    mode = (tmp_path / "base" / "config.json").stat().st_mode
    assert others or (tmp_path / "adapters" / "adapter_model.safetensors").stat().st_mode == mode
    inputs = padded_pairs()
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    given = {"inputs": IDS, "attention_mask": MASK, "max_new_tokens": 5}
    assert torch.equal(loaded.generate(**given), model.generate(**given))
