"""Adapters of `peft`: ways to change a model without touching its own weights, and one table of them."""

from typing import Any

import pytest
import torch
from changes import Change, Changed, table
from torch import nn

CHANGES, change = table()


def randomise(module: nn.Module, only: str = "", size: float = 0.3) -> None:
    """Fresh adapters change nothing; after this they do."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        if only in name and (only or parameter.requires_grad):
            parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=size)


def adapted(model: Any, kind: str = "LoraConfig", **settings: Any) -> Changed:
    """`model` with a random adapter of some kind."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    torch.manual_seed(0)
    if kind == "LoraConfig":
        settings = {"r": 4, **settings}
    wrapped = peft.get_peft_model(model, getattr(peft, kind)(task_type="SEQ_2_SEQ_LM", **settings)).eval()
    randomise(wrapped)
    return Changed(wrapped, wrapped.get_base_model())


ADAPTED: dict[str, dict[str, Any]] = {
    "LoRA on v_proj": {"target_modules": ["v_proj"]},
    "LoRA on k_proj and v_proj": {"target_modules": ["k_proj", "v_proj"]},
    "LoRA on q_proj": {"target_modules": ["q_proj"]},
    "LoRA on out_proj": {"target_modules": ["out_proj"]},
    "LoRA on fc1 and fc2": {"target_modules": ["fc1", "fc2"]},
    "LoRA on fc2 alone": {"target_modules": ["fc2"]},
    "LoRA on the encoder alone": {"target_modules": r".*\.encoder\.layers\..*(k_proj|fc2)"},
    "LoRA on the decoder's self-attention alone": {"target_modules": r".*\.decoder\.layers\..*self_attn\.v_proj"},
    "LoRA on encoder-decoder attention alone": {"target_modules": r".*encoder_attn\.(k_proj|out_proj)"},
    "LoRA on one layer": {"target_modules": ["v_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
    "LoRA on the last decoder layer's fc2": {"target_modules": r".*\.decoder\.layers\.1\.fc2"},
    "LoRA on lm_head": {"target_modules": ["lm_head"]},
    "LoRA on the decoder's embedding": {"target_modules": r".*\.decoder\.embed_tokens"},
    "LoRA and saved fc1": {"target_modules": ["k_proj"], "modules_to_save": ["fc1"]},
    "LoRA and saved final_layer_norm": {"target_modules": ["k_proj"], "modules_to_save": ["final_layer_norm"]},
    "LoRA on all linear layers": {"target_modules": "all-linear"},
    "LoRA with biases": {"target_modules": ["v_proj"], "bias": "all"},
    "DoRA": {"target_modules": ["v_proj", "fc1"], "use_dora": True},
    "rsLoRA": {"target_modules": ["v_proj"], "use_rslora": True},
    "IA3": {"kind": "IA3Config", "target_modules": ["k_proj", "v_proj", "fc2"], "feedforward_modules": ["fc2"]},
    "LoHa": {"kind": "LoHaConfig", "target_modules": ["v_proj", "fc1"], "r": 4},
    "LoKr": {"kind": "LoKrConfig", "target_modules": ["v_proj", "fc1"], "r": 4},
    "OFT": {"kind": "OFTConfig", "target_modules": ["v_proj"], "oft_block_size": 8, "r": 0},
    "VeRA": {"kind": "VeraConfig", "target_modules": ["v_proj"], "r": 8},
    "AdaLoRA": {"kind": "AdaLoraConfig", "target_modules": ["v_proj", "fc1"], "total_step": 10},
    "layer norms tuned": {"kind": "LNTuningConfig", "target_modules": ["final_layer_norm", "self_attn_layer_norm"]},
    "prompt tuning": {"kind": "PromptTuningConfig", "num_virtual_tokens": 3, "num_transformer_submodules": 1},
    "P-tuning": {"kind": "PromptEncoderConfig", "num_virtual_tokens": 3, "num_transformer_submodules": 1},
    "prefix tuning": {"kind": "PrefixTuningConfig", "num_virtual_tokens": 3},
}

for name, settings in ADAPTED.items():
    kind = settings.get("kind", "")
    # a fast search may read prompts as inputs, and call tuned norms and embeddings as they are
    slow = None if kind.startswith(("Prompt", "LNTuning")) or name.endswith("embedding") else True
    of = {"decoder_attention_heads": 4} if kind.startswith("Prefix") else {}  # one shape of keys for both stacks
    CHANGES[name] = Change(lambda model, monkeypatch, settings=settings: adapted(model, **settings), slow=slow, of=of)


@change("BOFT")
def _(model, monkeypatch):
    layer = pytest.importorskip("peft.tuners.boft.layer", reason="peft is not installed")
    monkeypatch.setattr(layer, "get_fbd_cuda", lambda: None)  # else peft tries to compile it, in the user's cache
    return adapted(model, "BOFTConfig", target_modules=["v_proj"], boft_block_size=8)


@change("an adapter that is disabled", matters=False, slow=None)
def _(model, monkeypatch):
    changed = adapted(model, target_modules=["v_proj"])
    changed.model.base_model.disable_adapter_layers()
    return changed


@change("an adapter that is merged in place", slow=None)
def _(model, monkeypatch):
    changed = adapted(model, target_modules=["v_proj", "fc1"])
    changed.model.merge_adapter()
    return changed


@change("an adapter that is merged and unloaded", slow=False)
def _(model, monkeypatch):
    return adapted(model, target_modules=["v_proj", "fc1"]).model.merge_and_unload()


@change("an adapter that was unloaded", matters=False, slow=False)
def _(model, monkeypatch):
    return adapted(model, target_modules=["v_proj", "fc1"]).model.unload()


@change("an adapter of transformers' own integration")
def _(model, monkeypatch):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    model.add_adapter(peft.LoraConfig(r=4, target_modules=["v_proj"]), adapter_name="one")
    randomise(model, "lora_")
    return model.eval()


@change("two adapters with one active")
def _(model, monkeypatch):
    changed = adapted(model, target_modules=["v_proj"])
    peft = pytest.importorskip("peft", reason="peft is not installed")
    changed.model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["k_proj", "v_proj"]))
    randomise(changed.model, ".other.")
    changed.model.set_adapter("other")
    return changed


@change("an adapter of each sentence's own")
def _(model, monkeypatch):
    """`adapter_names`: one for each sentence of the batch, or `__base__` for none."""
    changed = adapted(model, target_modules=["v_proj"])
    peft = pytest.importorskip("peft", reason="peft is not installed")
    changed.model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["v_proj"]))
    randomise(changed.model, ".other.")
    names = ["default", "other", "__base__", "other", "default", "other"]

    def forward(sentence, **inputs):
        return changed.model(**inputs, adapter_names=[names[i] for i in sentence.tolist()])

    changed.forward, changed.inputs = forward, {"sentence": torch.arange(len(names))}
    changed.settings = {"adapter_names": names}
    return changed
