"""Ours to ONNX: onnxruntime, in a process that knows neither torch nor this package, says the same tokens."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import lively_model, pad_batch, sentences, tiny_config

from hf_vanilla_transformer import VanillaTransformerForConditionalGeneration, to_onnx, train_tokenizer

needs_exporters = pytest.mark.skipif(
    find_spec("transformers.exporters") is None, reason="this transformers has no exporters"
)
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SOURCES = sentences([9, 4, 12, 2])


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["merci", "thanks"] * 9, vocab_size=270)


@pytest.fixture(scope="module")
def model():
    model = lively_model()
    model.generation_config.update(max_length=24)
    return model


@pytest.fixture(scope="module")
def exported(model, tokenizer, tmp_path_factory) -> Path:
    return to_onnx(model, tokenizer, tmp_path_factory.mktemp("exported") / "onnx")


def translator_of(folder: Path):
    from hf_vanilla_transformer.conversion.onnx_runner import OnnxTranslator

    return OnnxTranslator(folder)


def generated(model, **settings) -> list[list[int]]:
    ids, mask = pad_batch(SOURCES)
    return model.generate(ids, attention_mask=mask, num_beams=1, do_sample=False, **settings).tolist()


def in_onnxruntime(folder: Path, **settings) -> list[list[int]]:
    ids, mask = pad_batch(SOURCES)
    return translator_of(folder).generate(ids.numpy(), mask.numpy(), **settings).tolist()


def require_the_tokens_of_generate(folder: Path, model) -> None:
    assert in_onnxruntime(folder) == generated(model)
    # batches and lengths of every size, from one sentence of one token on
    one = np.array([[2]])
    expected = model.generate(torch.tensor(one), num_beams=1, do_sample=False, max_new_tokens=5).tolist()
    assert translator_of(folder).generate(one, max_new_tokens=5).tolist() == expected


@pytest.mark.slow
@needs_exporters
def test_the_tokens_are_those_of_generate(exported, model):
    require_the_tokens_of_generate(exported, model)


@pytest.mark.slow
@needs_exporters
@pytest.mark.parametrize(
    "overrides",
    [
        {"positional_encoding": "fairseq", "normalize_before": True, "share_encoder_decoder_embeddings": False}
        | {"decoder_vocab_size": 50},
        {"positional_encoding": "learned", "head_dim": 6, "value_head_dim": 5, "attention_bias": False},
    ],
    ids=["fairseq, pre-norm, separate", "learned, free widths"],
)
def test_the_tokens_of_other_shapes_are_those_of_generate(overrides, tokenizer, tmp_path):
    """Of a layer each: several are exported above."""
    model = lively_model(encoder_layers=1, decoder_layers=1, **overrides)
    model.generation_config.update(max_length=24)
    require_the_tokens_of_generate(to_onnx(model, tokenizer, tmp_path / "onnx"), model)


@pytest.mark.slow
@needs_exporters
def test_generation_settings_hold_in_onnxruntime_too(exported, model, tmp_path):
    folder = Path(shutil.copytree(exported, tmp_path / "onnx"))
    (folder / "manifest.json").unlink()  # as one does after a change of one's own
    free = generated(model, max_length=20)
    said = [*dict.fromkeys(token for row in free for token in row if token > 2)]
    after_it = sorted({row[2] for row in generated(model, max_length=12, forced_bos_token_id=said[3])})
    for settings in (
        {"max_length": 9},
        {"max_new_tokens": 6},
        {"max_length": 20, "bad_words_ids": [[said[0]], said[1:3]]},
        {"max_length": 20, "suppress_tokens": said[:2], "begin_suppress_tokens": [said[2]]},
        {"max_length": 12, "forced_bos_token_id": said[3], "forced_eos_token_id": 2},
        {"max_length": 20, "min_length": 8},
        {"max_length": 20, "min_new_tokens": 8},
        {"max_length": 20, "eos_token_id": [2, said[4]]},
        {"max_length": 20, "min_length": 8, "min_new_tokens": 3},
        {"max_length": 12, "forced_bos_token_id": said[3], "begin_suppress_tokens": after_it},
        {"max_length": 20, "bad_words_ids": [[2], [said[0]], [*said[:4], *said[:4]], [1, said[1]]]},
        {"max_extra_tokens": 3},
        {"max_extra_tokens": 1, "forced_eos_token_id": said[5]},
        {"max_length": 2, "forced_eos_token_id": said[5], "forced_bos_token_id": said[4]},
    ):
        path = folder / "generation_config.json"
        defaults = json.loads(path.read_text(encoding="utf-8"))
        for name in ("max_length", "max_new_tokens", "max_extra_tokens"):
            defaults.pop(name, None)
        path.write_text(json.dumps({**defaults, **settings}), encoding="utf-8")
        assert in_onnxruntime(folder) == generated(model, **settings), settings
        path.write_text(json.dumps(defaults), encoding="utf-8")
    ids, _ = pad_batch(SOURCES)
    translator = translator_of(folder)
    expected = translator.generate(ids.numpy(), max_new_tokens=5).tolist()
    for given in (ids.tolist(), ids.numpy().astype(np.int32)):  # and the mask is made from padding
        assert translator.generate(given, max_new_tokens=5).tolist() == expected
    with pytest.raises(ValueError, match=r"At least 1 new token must be allowed, got 0"):
        translator.generate(ids.numpy(), max_new_tokens=0)
    for wrong in ([[3, 2], [3]], [3, 2], [[0.5, 2.0]], "abc"):
        with pytest.raises(
            ValueError, match=r"`input_ids` must be whole numbers, \(batch, source_len\), each sentence"
        ):
            translator.generate(wrong)
    with pytest.raises(
        ValueError, match=r"`attention_mask` must have the shape of `input_ids`, \(4, 12\), got \(4, 2\)"
    ):
        translator.generate(ids.numpy(), ids[:, :2].numpy())


RUN_ALONE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from onnx_runner import OnnxTranslator
import numpy as np
print(json.dumps(OnnxTranslator(sys.argv[1]).generate(np.array(json.loads(sys.argv[2]))).tolist()))
assert not {"torch", "transformers", "hf_vanilla_transformer"} & set(sys.modules)
"""


@pytest.mark.slow
@needs_exporters
def test_the_folder_runs_by_itself_with_onnxruntime_and_numpy(exported, model):
    ids, _ = pad_batch(SOURCES)
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALONE, str(exported), json.dumps(ids.tolist())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == generated(model)


def test_settings_that_the_runner_does_not_know_are_refused(tokenizer, tmp_path):
    if find_spec("transformers.exporters") is None:
        pytest.skip("this transformers has no exporters")
    model = VanillaTransformerForConditionalGeneration(tiny_config())
    model.generation_config.update(repetition_penalty=1.3)
    with pytest.raises(ValueError, match="but the generation config also has repetition_penalty"):
        to_onnx(model, tokenizer, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_a_folder_that_is_no_export_is_named(tmp_path):
    (tmp_path / "encoder.onnx").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"has no decoder\.onnx, generation_config\.json: give a folder of"):
        translator_of(tmp_path)


def test_the_runner_too_refuses_settings_that_it_does_not_know(tmp_path):
    """They may have been edited after the export."""
    for name in ("encoder.onnx", "decoder.onnx"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "generation_config.json").write_text('{"no_repeat_ngram_size": 2}', encoding="utf-8")
    with pytest.raises(ValueError, match="but the generation config also has no_repeat_ngram_size"):
        translator_of(tmp_path)


def test_without_the_packages_the_error_says_what_to_install(tokenizer, tmp_path, monkeypatch):
    if find_spec("transformers.exporters") is None:
        pytest.skip("this transformers has no exporters")
    monkeypatch.setattr("hf_vanilla_transformer.conversion.formats.find_spec", lambda name: None)
    model = VanillaTransformerForConditionalGeneration(tiny_config())
    with pytest.raises(ImportError, match=r"needs onnx, onnxscript, onnxruntime\. Install them: pip install onnx"):
        to_onnx(model, tokenizer, tmp_path / "onnx")
