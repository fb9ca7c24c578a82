"""Averaging of checkpoints against the mean computed by hand, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_vanilla_transformer.model.manifest import damaged_files, read_manifest, write_manifest
from hf_vanilla_transformer.training.averaging import average_checkpoints

SHARED = "model.shared.weight"


@pytest.fixture
def run(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """Checkpoints 8, 9 and 10 of a run: random weights, and the training state that an average must not carry."""
    folder = tmp_path / "run"
    torch.manual_seed(1)
    for step in (8, 9, 10):
        checkpoint = folder / f"checkpoint-{step}"
        shutil.copytree(tiny_model_folder, checkpoint)
        weights = {name: torch.randn_like(tensor) for name, tensor in load_weights(checkpoint).items()}
        save_weights(checkpoint, weights)
        for name in ("optimizer.pt", "rng_state.pth", "training_args.bin", "trainer_state.json"):
            (checkpoint / name).write_text("{}", encoding="utf-8")
    (folder / "checkpoint-best").mkdir()  # no number: not one of them
    return folder


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def save_weights(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def shard(folder: Path) -> None:
    """The same weights in two files and an index."""
    weights = load_weights(folder)
    (folder / "model.safetensors").unlink()
    places = {}
    for number, names in enumerate((sorted(weights)[::2], sorted(weights)[1::2])):
        save_file({name: weights[name] for name in names}, folder / f"model-{number}.safetensors")
        places |= dict.fromkeys(names, f"model-{number}.safetensors")
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


@pytest.mark.parametrize(("last", "steps"), [(None, (8, 9, 10)), (2, (9, 10)), (1, (10,))])
def test_the_average_is_the_mean_of_the_newest_by_number(run, tmp_path, last, steps):
    output = average_checkpoints(run, tmp_path / "average", last)
    chosen = [load_weights(run / f"checkpoint-{step}") for step in steps]
    averaged = load_weights(output)
    assert averaged.keys() == chosen[0].keys()
    for name, tensor in averaged.items():
        mean = torch.stack([weights[name].double() for weights in chosen]).mean(0).float()
        torch.testing.assert_close(tensor, mean)
    record = json.loads((output / "averaged_checkpoints.json").read_text(encoding="utf-8"))
    assert record == {"averaged": [str(run / f"checkpoint-{step}") for step in steps]}


def test_the_average_is_a_complete_model_folder_without_training_state(run, tmp_path):
    newest = run / "checkpoint-10"
    output = average_checkpoints(run, tmp_path / "average", 2)
    model = AutoModelForSeq2SeqLM.from_pretrained(output)
    assert model.generation_config.num_beams == 4
    assert model.model.encoder.embed_tokens.weight is model.model.shared.weight  # still tied
    torch.testing.assert_close(model.model.shared.weight.data, load_weights(output)[SHARED], rtol=0, atol=0)
    assert AutoTokenizer.from_pretrained(output).get_vocab() == AutoTokenizer.from_pretrained(newest).get_vocab()
    state = {"optimizer.pt", "rng_state.pth", "training_args.bin", "trainer_state.json"}
    files = {path.name for path in newest.iterdir()} - state
    assert {path.name for path in output.iterdir()} == files | {"averaged_checkpoints.json", "manifest.json"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["average", "run"]  # nothing left beside


def test_folders_can_be_listed(run, tmp_path):
    pair = [run / "checkpoint-8", str(run / "checkpoint-10")]
    averaged = load_weights(average_checkpoints(pair, tmp_path / "average"))
    first, second = (load_weights(Path(folder)) for folder in pair)
    torch.testing.assert_close(averaged[SHARED], (first[SHARED] + second[SHARED]) / 2)


def test_shards_average_like_one_file(run, tmp_path):
    whole = load_weights(average_checkpoints(run, tmp_path / "whole"))
    shard(run / "checkpoint-9")
    shard(run / "checkpoint-10")
    sharded = load_weights(average_checkpoints(run, tmp_path / "sharded"))
    assert whole.keys() == sharded.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(sharded[name], tensor, rtol=0, atol=0)
    assert not (tmp_path / "sharded" / "model.safetensors.index.json").exists()


def test_half_precision_is_summed_in_more_and_stored_as_it_was(run, tmp_path):
    """In bfloat16 256 + 1 is 256: the mean of 256, 1, 1 would be 85.5 and is 86."""
    for step, value in ((8, 256.0), (9, 1.0), (10, 1.0)):
        folder = run / f"checkpoint-{step}"
        save_weights(folder, {name: torch.full_like(t, value).bfloat16() for name, t in load_weights(folder).items()})
    averaged = load_weights(average_checkpoints(run, tmp_path / "average"))
    assert averaged[SHARED].dtype == torch.bfloat16
    assert averaged[SHARED].unique().tolist() == [86.0]


def change(weights: dict[str, torch.Tensor], name: str, tensor: torch.Tensor | None) -> dict[str, torch.Tensor]:
    changed = {**weights, name: tensor}
    return {key: value for key, value in changed.items() if value is not None}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda w: change(w, SHARED, None), r"differ in model\.shared\.weight"),
        (lambda w: change(w, "extra", torch.ones(1)), r"checkpoint-9 differ in extra"),
        (lambda w: change(w, SHARED, w[SHARED][:-1].clone()), r"is \(300, 16\) in .*checkpoint-8 and \(299, 16\) in"),
        (lambda w: change(w, SHARED, w[SHARED] / 0), r"model\.shared\.weight in .*checkpoint-9 holds infinities"),
    ],
)
def test_what_has_no_mean_is_refused_and_leaves_nothing(
    run: Path, tmp_path: Path, changed: Callable[..., dict[str, torch.Tensor]], message: str
):
    save_weights(run / "checkpoint-9", changed(load_weights(run / "checkpoint-9")))
    with pytest.raises(ValueError, match=message):
        average_checkpoints(run, tmp_path / "average")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_whole_numbers_must_agree(run, tmp_path):
    for step in (8, 9, 10):
        weights = load_weights(run / f"checkpoint-{step}")
        save_weights(run / f"checkpoint-{step}", {**weights, "steps": torch.tensor([7])})
    assert load_weights(average_checkpoints(run, tmp_path / "average"))["steps"].tolist() == [7]
    save_weights(run / "checkpoint-10", {**weights, "steps": torch.tensor([8])})
    with pytest.raises(ValueError, match=r"steps differs between .*checkpoint-8 and .*checkpoint-10"):
        average_checkpoints(run, tmp_path / "other")


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (5, r"average of 5 needs 5 checkpoints, but .*run has 3 \(checkpoint-8, checkpoint-9, checkpoint-10\)"),
        (0, r"`last` is a number of checkpoints and must be at least 1, got 0"),
    ],
)
def test_too_few_checkpoints_are_refused(run, tmp_path, last, message):
    with pytest.raises(ValueError, match=message):
        average_checkpoints(run, tmp_path / "average", last)


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has 0 \(none\)"):
        average_checkpoints(tmp_path, tmp_path / "average")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere with checkpoints"):
        average_checkpoints(tmp_path / "nowhere", tmp_path / "average")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint folder .*nowhere"):
        average_checkpoints([tmp_path / "nowhere"], tmp_path / "average")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("model.safetensors", r"checkpoint-9 has no model\.safetensors: it was not written completely"),
        ("config.json", r"checkpoint-9 has no config\.json"),
    ],
)
def test_an_incomplete_checkpoint_is_named(run, tmp_path, missing, message):
    (run / "checkpoint-9" / missing).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        average_checkpoints(run, tmp_path / "average")


def test_a_newest_checkpoint_without_tokenizer_is_refused(run, tmp_path):
    (run / "checkpoint-10" / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"needs tokenizer\.json"):
        average_checkpoints(run, tmp_path / "average")


def test_damaged_weights_are_named(run, tmp_path):
    weights = run / "checkpoint-9" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"checkpoint-9/model\.safetensors cannot be read as safetensors"):
        average_checkpoints(run, tmp_path / "average")


def test_the_average_is_sealed_anew_and_belongs_to_whom_the_umask_says(run, tmp_path):
    for step in (8, 9, 10):
        (run / f"checkpoint-{step}" / "training_args.json").write_text("{}", encoding="utf-8")
        write_manifest(run / f"checkpoint-{step}", {"step": step})
    output = average_checkpoints(run, tmp_path / "average", last=2)
    assert not damaged_files(output)
    assert read_manifest(output)["averaged"] == [str(run / "checkpoint-9"), str(run / "checkpoint-10")]
    assert "step" not in read_manifest(output)
    assert not (output / "training_args.json").exists()
    assert (output / "model.safetensors").stat().st_mode == (output / "config.json").stat().st_mode
    AutoModelForSeq2SeqLM.from_pretrained(output)


def test_weights_that_are_not_what_was_saved_are_refused(run, tmp_path):
    write_manifest(run / "checkpoint-9")
    shutil.copyfile(run / "checkpoint-8" / "model.safetensors", run / "checkpoint-9" / "model.safetensors")
    with pytest.raises(ValueError, match=r"checkpoint-9 must hold what was saved there, but model"):
        average_checkpoints(run, tmp_path / "average")


def test_only_an_empty_folder_is_written_to(run, tmp_path):
    output = tmp_path / "average"
    output.mkdir()
    average_checkpoints(run, output)
    with pytest.raises(FileExistsError, match=r"average exists and is not empty"):
        average_checkpoints(run, output)
