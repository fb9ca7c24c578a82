"""A saved folder: bit for bit the same model in a fresh process, with our package and without it."""

import ast
import hashlib
import json
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from fresh_process import WITHOUT_PACKAGE, FreshProcesses
from tiny import lively_model, pad_batch, sentences, tiny_config, tiny_model
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

import hf_vanilla_transformer
from hf_vanilla_transformer import (
    Translator,
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerModel,
)
from hf_vanilla_transformer.hub.files import travelling_code
from hf_vanilla_transformer.model.pipeline import TranslationPipeline

MODEL_ROOM = Path(hf_vanilla_transformer.__file__).parent / "model"
TRAVELLING = {path.name for path in MODEL_ROOM.glob("*.py")} - {"__init__.py"}
INPUTS, MASK = pad_batch(sentences([4, 7]))

PRINT_RESULTS = """
import hashlib, json, sys, torch
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM
trust, ids = sys.argv[1] == "trust", torch.tensor(json.loads(sys.argv[2]))

def digest(tensor):
    return hashlib.sha256(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()

def results_of(folder, resaved):
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=trust)
    base = AutoModel.from_pretrained(folder, trust_remote_code=trust)
    if resaved:
        model.save_pretrained(resaved)
    return {
        "class": [type(x).__module__.split(".")[0] for x in (config, model, base)],
        "dtype": str(model.dtype),
        "logits": digest(model(input_ids=ids).logits),
        "states": digest(base(input_ids=ids).last_hidden_state),
        "generated": model.generate(ids, num_beams=2, max_extra_tokens=3).tolist(),
        "package imported": "hf_vanilla_transformer" in sys.modules,
    }

print(json.dumps([results_of(*folders) for folders in json.loads(sys.argv[3])]))
"""

WITH_PACKAGE = "import hf_vanilla_transformer\n"


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def in_a_fresh_process(
    fresh_processes: FreshProcesses, prelude: str, trust: bool, *folders: tuple[Path, Path | None]
) -> list[dict]:
    """What each folder's model gives, which is then saved again where a place for it is given."""
    names = json.dumps([[str(folder), resaved and str(resaved)] for folder, resaved in folders])
    arguments = ("trust" if trust else "no", json.dumps(INPUTS.tolist()), names)
    done = fresh_processes.run(prelude + PRINT_RESULTS, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def expected_of(model) -> dict:
    return {
        "dtype": str(model.dtype),
        "logits": digest(model(input_ids=INPUTS).logits),
        "states": digest(model.model(input_ids=INPUTS).last_hidden_state),
        "generated": model.generate(INPUTS, num_beams=2, max_extra_tokens=3).tolist(),
    }


@dataclass
class Fresh:
    """Folders, and what fresh processes find in them: one with the package and one without it, since each takes
    seconds to start. In the second each folder's code is a module of its own."""

    folder: Path
    bf16: dict
    pushed_with_package: dict
    first: dict
    second: dict
    pushed: dict
    pushed_and_resaved: dict


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, fresh_processes) -> Fresh:
    folder = tmp_path_factory.mktemp("fresh")
    with zipfile.ZipFile(Path(__file__).parent / "data" / "pushed_by_0.1.0.zip") as kept:
        kept.extractall(folder)
    lively_model().to(torch.bfloat16).save_pretrained(folder / "bf16")
    lively_model().save_pretrained(folder / "first")
    pushed, resaved = folder / "pushed", folder / "pushed and resaved"
    with_package = (folder / "bf16", None), (pushed, resaved)
    without = (folder / "first", folder / "second"), (folder / "second", None), (pushed, None), (resaved, None)
    return Fresh(
        folder,
        *in_a_fresh_process(fresh_processes, WITH_PACKAGE, False, *with_package),
        *in_a_fresh_process(fresh_processes, WITHOUT_PACKAGE, True, *without),
    )


@pytest.mark.slow
def test_a_fresh_process_with_the_package_loads_the_same_bits(fresh):
    expected = expected_of(lively_model().to(torch.bfloat16))

    assert {key: fresh.bf16[key] for key in expected} == expected
    assert fresh.bf16["class"] == ["hf_vanilla_transformer"] * 3


@pytest.mark.slow
def test_a_fresh_process_without_the_package_loads_the_same_bits_and_saves_them_again(fresh):
    expected = expected_of(lively_model())

    for loaded in (fresh.first, fresh.second):
        assert {key: loaded[key] for key in expected} == expected
        assert loaded["class"] == ["transformers_modules"] * 3
        assert not loaded["package imported"]
    first, second = ({p.name for p in (fresh.folder / name).iterdir()} for name in ("first", "second"))
    assert first == second


@pytest.mark.slow
def test_a_folder_pushed_by_the_first_version_still_loads(fresh):
    """Its code is its own, from before the files had a room: with the package that is not read, without it it is."""
    expected = json.loads((fresh.folder / "expected.json").read_text(encoding="utf-8"))

    translator = Translator.from_pretrained(fresh.folder / "pushed", device="cpu")
    found = translator.translate([row["source"] for row in expected])

    assert [translation.text for translation in found] == [row["text"] for row in expected]
    assert [t.score for t in found] == pytest.approx([row["score"] for row in expected], abs=1e-5)
    with_package, without = fresh.pushed_with_package, fresh.pushed
    assert (with_package["package imported"], without["package imported"]) == (True, False)
    for what in ("logits", "states", "generated"):
        assert with_package[what] == without[what]
    assert fresh.pushed_and_resaved["logits"] == without["logits"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("convention", ["interleaved", "fairseq", "learned"])
def test_every_auto_class_loads_the_same_bits(dtype, convention, tmp_path):
    """The precision is that of the file; nothing is computed at loading that a file could not hold."""
    model = tiny_model(positional_encoding=convention).to(dtype)
    model.save_pretrained(tmp_path)

    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path)

    assert type(AutoConfig.from_pretrained(tmp_path)) is VanillaTransformerConfig
    assert (type(loaded), type(base)) == (VanillaTransformerForConditionalGeneration, VanillaTransformerModel)
    assert loaded.dtype == base.dtype == dtype
    assert not loaded.training
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    expected = model(input_ids=INPUTS)
    assert torch.equal(loaded(input_ids=INPUTS).logits, expected.logits)
    assert torch.equal(base(input_ids=INPUTS).encoder_last_hidden_state, expected.encoder_last_hidden_state)


@pytest.mark.parametrize("saved", ["model", "base", "config"])
def test_a_folder_carries_the_code_of_every_auto_class(saved, tmp_path):
    model = tiny_model()
    {"model": model, "base": model.model, "config": model.config}[saved].save_pretrained(tmp_path)

    auto_map = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["auto_map"]

    code = {path.name for path in tmp_path.glob("*.py")}
    if saved == "config":
        assert code == {"configuration_vanilla_transformer.py"}
        assert set(auto_map) == {"AutoConfig"}
        return
    assert set(auto_map) == {"AutoConfig", "AutoModel", "AutoModelForSeq2SeqLM"}
    assert {f"{target.split('.')[0]}.py" for target in auto_map.values()} <= code
    assert code == TRAVELLING
    impl = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["custom_pipelines"]["translate"]["impl"]
    assert impl == f"pipeline.{TranslationPipeline.__name__}"


def test_a_base_model_grows_a_head_and_a_head_is_left_off(tmp_path):
    model = tiny_model()
    model.model.save_pretrained(tmp_path / "base")

    grown = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "base")

    assert torch.equal(grown(input_ids=INPUTS).logits, model(input_ids=INPUTS).logits)


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_a_stack_alone_is_saved_and_loaded(stack, tmp_path):
    part = getattr(tiny_model().model, stack)
    part.save_pretrained(tmp_path)

    loaded = type(part).from_pretrained(tmp_path)

    assert torch.equal(loaded(input_ids=INPUTS).last_hidden_state, part(input_ids=INPUTS).last_hidden_state)


def test_a_missing_weight_is_initialised_and_no_other(tmp_path):
    """Loading builds on the meta device; what the file lacks must not stay what memory held."""
    model = tiny_model()
    model.save_pretrained(tmp_path)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith(("lm_head", "model.encoder.embed"))}
    weights = {k: v.clone() for k, v in weights.items() if k != "model.decoder.embed_tokens.weight"}
    del weights["model.decoder.layers.1.fc1.weight"]

    loaded, report = VanillaTransformerForConditionalGeneration.from_pretrained(
        None, config=tiny_config(), state_dict=weights, output_loading_info=True
    )

    assert set(report["missing_keys"]) == {"model.decoder.layers.1.fc1.weight"}
    fresh = loaded.model.decoder.layers[1].fc1.weight
    assert fresh.abs().max() <= (6 / sum(fresh.shape)) ** 0.5
    assert fresh.std() > 0
    assert torch.equal(loaded.model.shared.weight, model.model.shared.weight)


def test_nothing_but_weights_and_the_logits_bias_is_state():
    """No table of positions to save, to resize or to fill at loading."""
    model = tiny_model(logits_bias=True)

    assert [name for name, _ in model.named_buffers()] == ["final_logits_bias"]
    assert set(model.state_dict()) == {
        "final_logits_bias", *(name for name, _ in model.named_parameters(remove_duplicate=False))
    }  # fmt: skip


def test_the_travelling_files_import_nothing_that_a_stranger_lacks():
    own = {path.stem for path in travelling_code()}
    assert {f"{name}.py" for name in own} == TRAVELLING
    for path in travelling_code():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            elif isinstance(node, ast.ImportFrom):
                assert node.module in own
                assert node.level == 1
                first_line = path.read_text(encoding="utf-8").splitlines()[node.lineno - 1]
                assert f"from .{node.module} import" in first_line, "the copier follows what its pattern finds"
                continue
            else:
                continue
            for name in names:
                root = name.split(".")[0]
                assert root in {"torch", "transformers", "huggingface_hub"} | sys.stdlib_module_names
