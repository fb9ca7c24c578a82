"""The doctor: a sound model is sound, and each planted fault is named by the check that is there for it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from originals import marian_folder
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GenerationConfig

from hf_vanilla_transformer import VanillaTransformerForConditionalGeneration
from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.doctor import CHECKS, examine
from hf_vanilla_transformer.model import modeling_vanilla_transformer
from hf_vanilla_transformer.model.manifest import write_manifest

Edit = Callable[[Path], object]


@pytest.fixture(scope="module")
def sound(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a fault: ties, a bias that lets translations end, a manifest. Read only."""
    folder = tmp_path_factory.mktemp("sound") / "model"
    shutil.copytree(tiny_model_folder, folder)
    edit_json(folder / "config.json", tie_word_embeddings=True)
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    weights["final_logits_bias"][:, 2] = 30.0  # it has learned to say nothing but the end
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_manifest(folder)
    return folder


def outcomes(folder: Path, *texts: str) -> dict[str, str]:
    return {finding.check: finding.outcome for finding in examine(folder, texts)}


def failures(folder: Path) -> dict[str, str]:
    """What each failed check found; each says what to do."""
    failed = [finding for finding in examine(folder) if finding.outcome == "fail"]
    assert all(finding.remedy for finding in failed)
    return {finding.check: finding.found for finding in failed}


def edit_json(path: Path, **fields: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **fields}), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def edit_tokenizer(folder: Path, **parts: Any) -> None:
    edit_json(folder / "tokenizer.json", **parts)


def damaged(sound: Path, folder: Path, edit: Edit, sealed: bool = True) -> Path:
    """A copy of the sound model with a fault, that its manifest knows nothing of or (`sealed`) has always known."""
    shutil.copytree(sound, folder)
    edit(folder)
    if sealed:
        write_manifest(folder)
    return folder


def test_a_sound_model_is_sound(sound):
    found = outcomes(sound)

    assert tuple(found) == ("manifest", "finite weights", "loads", *CHECKS[3:])
    assert set(found) == set(CHECKS)
    assert "fail" not in found.values()
    assert [check for check, outcome in found.items() if outcome != "pass"] == [
        "target text"
    ]  # translations are empty


def test_sentences_of_ones_own_are_used(sound):
    assert outcomes(sound, "le petit chat dort", "merci")["batch = single"] == "pass"


@pytest.mark.parametrize("separate", [False, True])
def test_a_marian_model_is_sound_and_must_be_right_padded(separate, tmp_path):
    folder = marian_folder(tmp_path / "marian", separate)
    found = list(examine(folder, ("le petit chat dort", "merci beaucoup", "je suis étudiant")))

    assert [finding.check for finding in found if finding.outcome == "fail"] == []
    assert {f.check: f.found for f in found if f.outcome == "note"}["padding on either side"] == "must be right-padded"


def flip_a_bit(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def without_end(folder: Path) -> None:
    edit_tokenizer(folder, post_processor=None)


SETTINGS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}


def settings(**changes: Any) -> Edit:
    def edit(folder: Path) -> None:
        GenerationConfig(**{**SETTINGS, "max_length": 20, **changes}).save_pretrained(folder)

    return edit


FAULTS: dict[str, tuple[str, str, Edit, bool]] = {
    "a flipped bit": ("manifest", "model.safetensors is not what was saved", flip_a_bit, False),
    "a lost file": (
        "manifest",
        "tokenizer_config.json is missing",
        lambda folder: (folder / "tokenizer_config.json").unlink(),
        False,
    ),
    "not a number": (
        "finite weights",
        "infinities or NaN in model.encoder.layers.1.fc1.bias",
        lambda f: edit_weights(f, lambda w: w["model.encoder.layers.1.fc1.bias"][:1].fill_(float("nan"))),
        True,
    ),
    "a lost tensor": (
        "complete weights",
        "lacks model.encoder.layers.0.fc1.bias",
        lambda f: edit_weights(f, lambda w: w.pop("model.encoder.layers.0.fc1.bias")),
        True,
    ),
    "a tensor too many": (
        "complete weights",
        "unexpected model.encoder.layers.7.fc1.bias",
        lambda f: edit_weights(f, lambda w: w.update({"model.encoder.layers.7.fc1.bias": torch.zeros(32)})),
        True,
    ),
    "a tie torn": (
        "ties",
        "lm_head.weight and model.shared.weight",
        lambda f: edit_weights(f, lambda w: w.update({"lm_head.weight": w["model.shared.weight"] + 0.01})),
        True,
    ),
    "no config": ("loads", "needs config.json", lambda folder: (folder / "config.json").unlink(), True),
    "another padding token": (
        "vocabulary",
        "`pad_token_id` is 0 in the tokenizer and 5 in config.json",
        lambda folder: edit_json(folder / "config.json", pad_token_id=5),
        True,
    ),
    "no length": ("generation settings", "no length limit is set", settings(max_length=None), True),
    "another end": (
        "generation settings",
        "`eos_token_id` is 3, but 2 in config.json",
        settings(eos_token_id=3),
        True,
    ),
    "an end that is no token": (
        "generation settings",
        "outside the target vocabulary",
        settings(eos_token_id=999),
        True,
    ),
    "sampling": ("generation settings", "`do_sample` is true", settings(do_sample=True), True),
    "too many returned": (
        "loads",
        "`num_return_sequences` (3) has to be smaller or equal to `num_beams` (2)",
        lambda f: edit_json(f / "generation_config.json", num_return_sequences=3, num_beams=2),
        True,
    ),
    "sources without end": ("source text", "4 of 4 sentences do not end with `</s>`", without_end, True),
    "no end learned": (
        "end of sentence learned",
        "0 of 4 translations end by themselves",
        lambda f: edit_weights(f, lambda w: w["final_logits_bias"][:, 2].fill_(-1000.0)),
        True,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_planted_fault_is_named(fault, sound, tmp_path):
    check, found, edit, sealed = FAULTS[fault]

    failed = failures(damaged(sound, tmp_path / "model", edit, sealed))

    assert found in failed[check]


def test_a_vocabulary_larger_than_the_embeddings_is_named(sound, tmp_path):
    def add_a_token(folder: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_tokens(["beyond"])
        tokenizer.save_pretrained(folder)

    failed = failures(damaged(sound, tmp_path / "model", add_a_token))
    assert failed["vocabulary"] == "the tokenizer has 301 tokens, but the model has embeddings for 300"


def test_targets_read_by_the_sources_tokenizer_are_named(tmp_path):
    folder = marian_folder(tmp_path / "marian", separate=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["μια γλώσσα που δεν είναι του στόχου"] * 9),
        **{"model_prefix": str(folder / "target"), "vocab_size": 21, "bos_id": -1, "minloglevel": 2},
    )
    (folder / "target.model").replace(folder / "target.spm")

    texts = ("le petit chat dort", "merci beaucoup", "je suis étudiant")
    failed = {f.check: f.found for f in examine(folder, texts) if f.outcome == "fail"}

    assert "tokens are `<unk>`" in failed["target text"]


def test_a_tokenizer_that_pads_where_its_model_must_not_is_named(tmp_path):
    folder = marian_folder(tmp_path / "marian")
    edit_json(folder / "tokenizer_config.json", padding_side="left")

    assert "the tokenizer pads on the left" in failures(folder)["padding on either side"]


def forget_the_past(monkeypatch) -> None:
    monkeypatch.setattr(
        modeling_vanilla_transformer.MultiHeadAttention,
        "keys_and_values",
        lambda self, hidden, source, cache, original=modeling_vanilla_transformer.MultiHeadAttention.keys_and_values: (
            original(self, hidden, source, None)
        ),
    )


def see_padding(monkeypatch) -> None:
    monkeypatch.setattr(modeling_vanilla_transformer, "create_bidirectional_mask", lambda **given: None)


def count_padding(monkeypatch) -> None:
    monkeypatch.setattr(
        modeling_vanilla_transformer,
        "count_positions",
        lambda embeds, mask, past=0: (torch.arange(embeds.shape[1]) + past)[None],
    )


def take_the_second_best(monkeypatch) -> None:
    from hf_vanilla_transformer.model import fast_path

    def search(decoder, prompt, processors, settings):
        decoder.read_prompt(prompt)
        second = decoder.logits(slice(0, len(prompt))).topk(2).indices[:, 1:]
        return torch.cat((prompt, second), dim=1), torch.zeros(len(prompt), 1)

    monkeypatch.setattr(fast_path, "greedy_search", search)


def lose_a_weight(monkeypatch) -> None:
    save = VanillaTransformerForConditionalGeneration.save_pretrained

    def save_all_but_one(self, folder, **options):
        save(self, folder, **options)
        edit_weights(Path(folder), lambda weights: weights["final_logits_bias"].add_(1.0))

    monkeypatch.setattr(VanillaTransformerForConditionalGeneration, "save_pretrained", save_all_but_one)


@pytest.mark.parametrize(
    ("check", "plant"),
    [
        ("cached = uncached", forget_the_past),
        ("batch = single", see_padding),
        ("padding on either side", count_padding),
        ("greedy = beam 1", take_the_second_best),
        ("save and load", lose_a_weight),
    ],
)
def test_a_fault_of_the_models_code_is_named(check, plant, sound, tiny_model_folder, monkeypatch):
    folder = sound if check == "save and load" else tiny_model_folder
    assert check not in failures(folder)

    plant(monkeypatch)

    found = failures(folder)
    assert check in found
    assert check != "save and load" or found[check] == "final_logits_bias changed"


def test_what_cannot_be_run_is_a_failure_with_its_reason(sound, monkeypatch):
    def broken(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("no such kernel\nat line 3")

    monkeypatch.setattr(modeling_vanilla_transformer.VanillaTransformerModel, "forward", broken)
    found = {finding.check: finding for finding in examine(sound)}

    assert found["cached = uncached"].found == "cannot be examined: RuntimeError: no such kernel"
    assert found["ties"].outcome == "pass"


# The command


def test_the_table_says_what_was_found_and_what_to_do(sound, tmp_path, capsys):
    assert main(["doctor", "--model", str(sound)]) == 0
    table = capsys.readouterr().out
    assert [line.split("  ")[0] for line in table.splitlines()[: len(CHECKS)]] == [
        "manifest", "finite weights", "loads", *CHECKS[3:]
    ]  # fmt: skip
    assert table.endswith("is sound.\n")

    folder = damaged(sound, tmp_path / "model", settings(max_length=None))
    assert main(["doctor", "--model", str(folder)]) == 1
    table = capsys.readouterr().out
    assert "generation settings      FAIL" in table
    assert "-> Correct generation_config.json" in table
    assert table.endswith(f"1 of {len(CHECKS)} checks failed.\n")


def test_json_holds_the_same(sound, tmp_path, capsys):
    folder = damaged(sound, tmp_path / "model", without_end)

    assert main(["doctor", "--model", str(folder), "--json", "--text", "merci"]) == 1

    report = json.loads(capsys.readouterr().out)
    assert report["model"] == str(folder)
    assert report["sound"] is False
    failed = [check for check in report["checks"] if check["outcome"] == "fail"]
    assert [check["check"] for check in failed] == ["source text"]
    assert failed[0].keys() == {"check", "outcome", "found", "remedy"}


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--model", "no/such/folder"], "There is no model folder", 1),
        (["--model", "pyproject.toml"], "is a file. Give its folder", 1),
        (["--model", "x", "--text", " "], "--text needs a sentence", 2),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(arguments, message, code, capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    assert main(["doctor", *arguments]) == code
    assert message in capsys.readouterr().err
