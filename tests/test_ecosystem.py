"""What the ecosystem's tools expect of a model: every mode of `generate`, exporters, device maps, quantisers, plans.

`scripts/common_tests.py` runs the ecosystem's own tests; these are ours, faster and kept in the repository.
"""

import sys
from types import SimpleNamespace
from typing import Any

import parallel_processes
import pytest
import torch
from tiny import lively_model, pad_batch, padded_pairs, sentences, tiny_model
from torch import nn
from transformers import AutoModelForSeq2SeqLM, GenerationConfig
from transformers.utils.output_capturing import OutputRecorder

from hf_vanilla_transformer.model.checked_folders import require_finite_weights

ROWS = sentences([4, 9, 6])
NEW = 6
MODES: dict[str, dict[str, Any]] = {
    "greedy": {"num_beams": 1},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True, "num_beams": 1, "num_return_sequences": 2},
    "sampling beams": {"do_sample": True, "num_beams": 3},
}


@pytest.fixture(scope="module")
def model():
    return lively_model()


def generate(model: Any, side: str = "right", **settings: Any) -> Any:
    ids, mask = pad_batch(ROWS, side)
    torch.manual_seed(0)
    return model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, **settings)


# Generation


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cache", [{"use_cache": True}, {"cache_implementation": "static"}])
def test_every_mode_gives_the_same_with_and_without_a_cache(mode, cache, model):
    expected = generate(model, **MODES[mode], use_cache=False)

    assert torch.equal(generate(model, **MODES[mode], **cache), expected)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_returns_what_was_asked_for(mode, model):
    settings = MODES[mode]
    rows = len(ROWS) * settings.get("num_return_sequences", 1)
    running = len(ROWS) * max(settings["num_beams"], settings.get("num_return_sequences", 1))
    asked = {f"output_{name}": True for name in ("scores", "logits", "attentions", "hidden_states")}

    found = generate(model, **settings, **asked, return_dict_in_generate=True)

    config, source_len = model.config, max(map(len, ROWS))
    assert found.sequences.shape == (rows, 1 + NEW)
    for name in ("scores", "logits", "decoder_attentions", "cross_attentions", "decoder_hidden_states"):
        assert len(found[name]) == NEW, name
    assert {step.shape for step in (*found.scores, *found.logits)} == {(running, config.decoder_vocab_size)}
    for step, (own, cross, states) in enumerate(
        zip(found.decoder_attentions, found.cross_attentions, found.decoder_hidden_states, strict=True)
    ):
        assert [w.shape for w in own] == [(running, 2, 1, step + 1)] * config.decoder_layers
        assert [w.shape for w in cross] == [(running, 2, 1, source_len)] * config.decoder_layers
        assert [s.shape for s in states] == [(running, 1, config.d_model)] * (config.decoder_layers + 1)
    assert [w.shape for w in found.encoder_attentions] == [(3, 4, source_len, source_len)] * config.encoder_layers


@pytest.mark.parametrize("mode", ["greedy", "beams"])
def test_no_mode_minds_on_which_side_the_source_is_padded(mode, model):
    expected = generate(model, **MODES[mode])

    for side in ("left", "both"):
        assert torch.equal(generate(model, side, **MODES[mode]), expected)


def test_samples_follow_the_seed(model):
    one, again = generate(model, **MODES["sampling"]), generate(model, **MODES["sampling"])
    ids, mask = pad_batch(ROWS)
    torch.manual_seed(1)
    other = model.generate(ids, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, **MODES["sampling"])

    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_an_assistant_changes_nothing_but_the_work(model):
    """Assisted decoding keeps of another model's guesses what it would have said itself."""
    ids = torch.tensor(ROWS[1:2])
    expected = model.generate(ids, max_new_tokens=12)

    for assistant in (model, lively_model(seed=5)):
        assert torch.equal(model.generate(ids, assistant_model=assistant, max_new_tokens=12), expected)


@pytest.mark.parametrize("mode", ["greedy", "beams"])
def test_embeddings_may_stand_for_the_source(mode, model):
    ids, mask = pad_batch(ROWS)
    settings = {"max_new_tokens": NEW, "min_new_tokens": NEW, **MODES[mode]}

    found = model.generate(inputs_embeds=model.get_input_embeddings()(ids), attention_mask=mask, **settings)

    assert torch.equal(found, generate(model, **MODES[mode]))


# Outputs


@pytest.mark.skipif(
    not hasattr(OutputRecorder, "num_hidden_layers_key"),
    reason="this transformers knows no negative numbers of layers",
)
def test_some_layers_states_may_be_asked_for():
    """Counted in each stack from its own end: the two have different numbers of layers."""
    model = tiny_model()
    whole = model(**padded_pairs(), output_hidden_states=True)
    some = model(**padded_pairs(), output_hidden_states=[0, -1])

    for name in ("encoder_hidden_states", "decoder_hidden_states"):
        states, kept = whole[name], [state for state in some[name] if state is not None]
        assert len(some[name]) == len(states)
        assert [state is not None for state in some[name]] == [True, *[False] * (len(states) - 2), True]
        torch.testing.assert_close(kept[0], states[0])
        torch.testing.assert_close(kept[1], states[-1])


# Loading


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_a_device_map_loads_it(device_map, tmp_path):
    model = lively_model()
    model.save_pretrained(tmp_path)

    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, device_map=device_map, dtype=torch.bfloat16)

    assert loaded.dtype == torch.bfloat16
    fastest = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    expected = fastest if device_map == "auto" else torch.device("cpu")
    assert {parameter.device.type for parameter in loaded.parameters()} == {expected.type}
    loaded.float().to("cpu")
    assert torch.equal(generate(loaded), generate(model.to(torch.bfloat16).float()))


def test_layers_are_never_split_between_devices():
    """A device map may cut between layers only; accelerate knows them by their names."""
    from accelerate import infer_auto_device_map

    model = tiny_model(share_encoder_decoder_embeddings=False, tie_word_embeddings=False)
    sizes = sum(p.numel() * p.element_size() for p in model.parameters())
    places = infer_auto_device_map(
        model, max_memory={"cpu": sizes // 2, "disk": 10 * sizes}, no_split_module_classes=model._no_split_modules
    )

    assert set(places.values()) == {"cpu", "disk"}
    assert not [name for name in places if ".layers." in name and name.split(".layers.")[1].count(".")]


# Exporting


def test_torch_export_gives_the_same_logits_for_any_shape():
    exporter = pytest.importorskip("transformers.exporters.exporter_dynamo", reason="no exporters in transformers")
    model = tiny_model()
    inputs = padded_pairs("right")

    exported = exporter.DynamoExporter().export(model, dict(inputs), config=exporter.DynamoConfig(dynamic=True))

    if isinstance(exported, torch.export.ExportedProgram):  # in the older versions
        exported = exported.module()
    torch.testing.assert_close(exported(**inputs).logits, model(**inputs).logits)
    other = {name: value[:2, :3].contiguous() for name, value in inputs.items()}
    torch.testing.assert_close(exported(**other).logits, model(**other).logits)


# Adapters and quantisers


def test_an_adapter_decodes_as_its_merged_weights(model):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    config = peft.LoraConfig(
        task_type="SEQ_2_SEQ_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False
    )
    torch.manual_seed(0)
    adapted = peft.get_peft_model(lively_model(), config).eval()

    found = generate(adapted, num_beams=3)
    merged = adapted.merge_and_unload()

    assert not torch.equal(found, generate(model, num_beams=3))
    assert torch.equal(found, generate(merged, num_beams=3))


def test_dynamic_quantisation_of_torch(model):
    """int8 products change logits a little and are decoded by transformers' search."""
    quantised = torch.ao.quantization.quantize_dynamic(lively_model(), {nn.Linear}, dtype=torch.qint8)
    inputs = padded_pairs("right")
    difference = (quantised(**inputs).logits - model(**inputs).logits).abs().max()

    assert 0 < difference < 0.5
    found = generate(quantised, num_beams=2, return_dict_in_generate=True)
    assert found.sequences.shape == (3, 1 + NEW)
    assert found.search_path == "a torch.ao.nn.quantized.dynamic.modules.linear.Linear as model.encoder.layers.0.fc1"


def test_int8_weights_of_torchao(tmp_path, model):
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    from transformers import TorchAoConfig

    lively_model().save_pretrained(tmp_path)
    config = TorchAoConfig(quantization.Int8WeightOnlyConfig())
    quantised = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, quantization_config=config)
    inputs = padded_pairs("right")

    assert type(quantised.model.encoder.layers[0].fc1.weight) is not nn.Parameter
    difference = (quantised(**inputs).logits - model(**inputs).logits).abs().max()
    assert 0 < difference < 0.5
    assert generate(quantised, num_beams=2).shape == (3, 1 + NEW)


class Quantised:
    """A quantised tensor as torch knows it: made of others, and comparing nothing itself."""

    def __init__(self, scale: float) -> None:
        self.numbers, self.scale = torch.ones(3, dtype=torch.int8), torch.tensor([scale])

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["numbers", "scale"], None


def test_quantised_weights_that_are_no_numbers_are_refused():
    """They hide in the scales."""
    require_finite_weights(SimpleNamespace(state_dict=lambda: {"fc1.weight": Quantised(0.5)}), "here")

    with pytest.raises(ValueError, match=r"infinities or NaN in fc1\.weight"):
        require_finite_weights(SimpleNamespace(state_dict=lambda: {"fc1.weight": Quantised(float("nan"))}), "here")


# Plans


@pytest.mark.parametrize("separate", [False, True])
def test_each_line_of_the_plan_is_of_a_module_and_each_projection_has_one(separate):
    """Tensor parallelism: heads, inner widths and vocabularies are shared out; nothing else is."""
    fields = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 50} if separate else {}
    model = tiny_model(**fields)
    names = {name for name, _ in model.named_modules()}
    numbered = {".".join("*" if part.isdigit() else part for part in name.split(".")) for name in names}
    wide = {n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Embedding)}
    wide = {".".join("*" if part.isdigit() else part for part in name.split(".")) for name in wide}

    plan = set(model.tp_plan) - {"model.embed_tokens"}  # the older versions add it to every plan
    assert plan <= numbered
    assert wide == plan
    assert model.get_encoder().tp_plan["layers.*.fc1"] == "colwise"


@pytest.mark.slow
def test_two_processes_that_share_out_a_model_compute_as_one(tmp_path):
    """Tensor parallelism and FSDP2 by `from_pretrained`: the same logits, gradients and translations."""
    if sys.platform == "win32":
        pytest.skip("gloo starts no processes here")
    model = lively_model(d_model=32, encoder_attention_heads=4, decoder_attention_heads=4)
    model.save_pretrained(tmp_path / "model")

    torch.multiprocessing.spawn(parallel_processes.main, args=(str(tmp_path),), nprocs=2)

    results = torch.load(tmp_path / "results.pt", weights_only=True)
    inputs = parallel_processes.inputs()
    loss = model(**inputs).loss
    loss.backward()
    for kind in ("tensor parallel", "fully sharded"):
        found = results[kind]
        torch.testing.assert_close(found["loss"], loss.detach(), msg=kind)
        gradient = model.model.encoder.layers[0].fc1.weight.grad
        torch.testing.assert_close(found["gradient"], gradient, atol=1e-6, rtol=1e-4, msg=kind)
        for settings, ids in zip(parallel_processes.SETTINGS, found["generated"], strict=True):
            assert torch.equal(ids, parallel_processes.generate(model, settings)), (kind, settings)
    assert results["tensor parallel"]["local shape"] == [32, 32]  # half of 64 inner units
    assert results["fully sharded"]["local shape"] == [32, 32]


def test_a_generation_config_of_the_caller_is_not_changed(model):
    config = GenerationConfig(num_beams=2, max_new_tokens=3, pad_token_id=0, eos_token_id=2, decoder_start_token_id=1)
    before = config.to_dict()
    ids, mask = pad_batch(ROWS)
    model.generate(ids, attention_mask=mask, generation_config=config)
    assert config.to_dict() == before
