"""A run that was stopped and resumed is the run that was never stopped, number for number."""

import json
import logging
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.distributed.fsdp import StateDictType
from training_runs import AtStep, RecordingTrainer, make_trainer, steps_of, weights_of

from hf_vanilla_transformer.training.checkpoints import checkpoints_of, what_is_wrong
from hf_vanilla_transformer.training.finite_steps import NotFiniteError
from hf_vanilla_transformer.training.interruption import Interrupted


def stop_by_signal(trainer: RecordingTrainer, step: int, number: int = signal.SIGTERM) -> Interrupted:
    """Train until a signal comes in the middle of a step."""
    trainer.add_callback(AtStep(step, lambda: os.kill(os.getpid(), number)))
    with pytest.raises(Interrupted) as stop:
        trainer.train()
    return stop.value


@pytest.fixture
def steps_an_epoch(tiny_model_folder: Path, tmp_path: Path) -> int:
    loader = make_trainer(tiny_model_folder, tmp_path / "unused").get_train_dataloader()
    return -(-len(loader) // 2)


@pytest.mark.parametrize("where", ["within the first epoch", "at an epoch's end", "after one", "within the second"])
def test_resumed_equals_uninterrupted(where: str, steps_an_epoch: int, tiny_model_folder: Path, tmp_path: Path):
    """Dropout, shuffling, label smoothing and accumulation on; `==`, not nearly."""
    assert steps_an_epoch >= 3
    offsets = {"within the first epoch": 2, "at an epoch's end": 0, "after one": 1, "within the second": 2}
    step = offsets[where] + (0 if "first" in where else steps_an_epoch)
    whole = make_trainer(tiny_model_folder, tmp_path / "whole")
    whole.train()

    stopped = make_trainer(tiny_model_folder, tmp_path / "run")
    assert stop_by_signal(stopped, step).exit_code == 143
    assert [path.name for path in checkpoints_of(tmp_path / "run")] == [f"checkpoint-{step}"]
    resumed = make_trainer(tiny_model_folder, tmp_path / "run")
    resumed.train(resume_from_checkpoint=True)

    assert stopped.batches + resumed.batches == whole.batches
    assert steps_of(resumed) == steps_of(whole)
    for name, weight in weights_of(whole).items():
        assert torch.equal(weights_of(resumed)[name], weight), name


def test_the_log_of_a_killed_run_goes_back_to_its_checkpoint(tiny_model_folder: Path, tmp_path: Path):
    stop_by_signal(make_trainer(tiny_model_folder, tmp_path), 3)
    log = tmp_path / "metrics.jsonl"
    with open(log, "a") as file:
        file.write('{"step": 4, "loss": 99.0}\n{"step": 5, "lo')
    make_trainer(tiny_model_folder, tmp_path).train(resume_from_checkpoint=True)
    lines = [json.loads(line) for line in log.read_text().split("\n") if line]
    assert [line["step"] for line in lines if "learning_rate" in line] == list(range(1, 13))
    assert not any(line.get("loss") == 99.0 for line in lines)


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "batch size": ({"max_tokens": 90}, r"max_tokens \(was 100, is 90\)"),
    "accumulation": ({"gradient_accumulation_steps": 3}, r"batches of a step \(was 2, is 3\)"),
    "rate": ({"learning_rate": 1e-3}, r"learning_rate \(was 0\.002, is 0\.001\)"),
    "seed": ({"seed": 7}, r"seed \(was 42, is 7\)"),
    "model": ({"model": {"dropout": 0.2}}, r"dropout \(was 0\.3, is 0\.2\)"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_run_is_refused_by_name(change: str, tiny_model_folder: Path, tmp_path: Path):
    stop_by_signal(make_trainer(tiny_model_folder, tmp_path), 2)
    settings, message = CHANGES[change]
    with pytest.raises(ValueError, match=message):
        make_trainer(tiny_model_folder, tmp_path, **settings).train(resume_from_checkpoint=True)


def test_another_text_is_refused_unless_forced(tiny_model_folder: Path, tmp_path: Path):
    stop_by_signal(make_trainer(tiny_model_folder, tmp_path), 2)
    for forced in (False, True):
        trainer = make_trainer(tiny_model_folder, tmp_path, resume_changed=forced, max_steps=3)
        trainer.train_dataset = trainer.train_dataset.select(range(1, 36))
        if forced:
            trainer.train(resume_from_checkpoint=True)
            assert trainer.state.global_step == 3
            return
        with pytest.raises(ValueError, match=r"these changed: training text\. Change them back, or .*--resume_c"):
            trainer.train(resume_from_checkpoint=True)


def test_a_run_may_get_longer(tiny_model_folder: Path, tmp_path: Path):
    """The paper's schedule does not know how long a run is."""
    make_trainer(tiny_model_folder, tmp_path, max_steps=4, save_strategy="steps", save_steps=4).train()
    longer = make_trainer(tiny_model_folder, tmp_path, max_steps=6)
    longer.train(resume_from_checkpoint=True)
    assert [step for step, *_ in steps_of(longer)] == list(range(1, 7))


def test_nothing_to_resume(tiny_model_folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="no complete checkpoint"):
        make_trainer(tiny_model_folder, tmp_path).train(resume_from_checkpoint=True)


def test_a_second_signal_is_the_systems_again(tiny_model_folder: Path, tmp_path: Path):
    trainer = make_trainer(tiny_model_folder, tmp_path)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    caught = []

    def interrupt_twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        caught.append([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)])

    trainer.add_callback(AtStep(2, interrupt_twice))
    with pytest.raises(Interrupted, match=r"stopped by SIGINT after step 2") as stop:
        trainer.train()
    assert stop.value.exit_code == 130
    assert caught == [handlers]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="a lost terminal is told by SIGHUP")
def test_a_lost_terminal_leaves_a_checkpoint(tiny_model_folder: Path, tmp_path: Path):
    assert stop_by_signal(make_trainer(tiny_model_folder, tmp_path), 2, signal.SIGHUP).exit_code == 129
    assert [path.name for path in checkpoints_of(tmp_path)] == ["checkpoint-2"]


def test_a_signal_that_a_launcher_passes_on_is_no_second_one(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The terminal sends it to the launcher and to its processes, and the launcher to these again."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    before = signal.getsignal(signal.SIGTERM)
    trainer = make_trainer(tiny_model_folder, tmp_path)
    trainer.add_callback(AtStep(2, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert stop_by_signal(trainer, 2, signal.SIGTERM).exit_code == 143
    assert [path.name for path in checkpoints_of(tmp_path)] == ["checkpoint-2"]
    later = make_trainer(tiny_model_folder, tmp_path / "later")
    monkeypatch.setattr("hf_vanilla_transformer.training.interruption._ECHO_SECONDS", -1.0)
    caught: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: caught.append(number))
    try:
        later.add_callback(AtStep(2, lambda: os.kill(os.getpid(), signal.SIGTERM)))
        stop_by_signal(later, 2)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught == [signal.SIGTERM]


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGTERM"])
def test_a_signal_that_was_ignored_stays_ignored(name: str, tiny_model_folder: Path, tmp_path: Path):
    """As `nohup` does, and a shell for Ctrl-C with what it starts in the background."""
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        trainer = make_trainer(tiny_model_folder, tmp_path, max_steps=2)
        trainer.add_callback(AtStep(1, lambda: os.kill(os.getpid(), number)))
        trainer.train()
        assert trainer.state.global_step == 2
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("poison", ["gradient", "weights"])
def test_a_step_that_is_not_finite_ends_the_run(poison: str, tiny_model_folder: Path, tmp_path: Path):
    """The error names step, pairs, rate and norm; the last checkpoint is finite and the newest."""
    trainer = make_trainer(tiny_model_folder, tmp_path, save_strategy="steps", save_steps=1)
    weight = trainer.model.model.decoder.layers[0].fc1.bias

    def spoil() -> None:
        with torch.no_grad():
            weight[0] = float("nan")

    if poison == "weights":  # found by the loss of the step after
        trainer.add_callback(AtStep(3, spoil))
        weight.register_hook(lambda gradient: torch.zeros_like(gradient))
    else:
        weight.register_hook(lambda gradient: gradient * (float("nan") if trainer.state.global_step == 2 else 1.0))
    with pytest.raises(ValueError) as error:  # noqa: PT011 (which of the two is judged below)
        trainer.train()
    message = str(error.value)
    newest = checkpoints_of(tmp_path)[-1]
    assert newest.name == "checkpoint-2"
    assert what_is_wrong(newest) is None
    if poison == "gradient":
        assert isinstance(error.value, NotFiniteError)
        pairs = ", ".join(str(pair) for batch in trainer.batches[-2:] for pair in batch)
        assert message.startswith("Step 3 is not finite: loss ")
        assert f"gradient norm nan, pairs {pairs[:40]}" in message
        assert "learning rate 0.0015" in message
        assert f"{newest} is the last checkpoint before it" in message
    else:
        assert "hold infinities or NaN in model.decoder.layers.0.fc1.bias" in message


def test_no_secret_and_no_pickle_of_arguments_is_written(tiny_model_folder: Path, tmp_path: Path):
    secret = "hf_" + "s3cr3t" * 5
    trainer = make_trainer(
        tiny_model_folder, tmp_path, max_steps=2, save_strategy="steps", save_steps=1, hub_token=secret
    )
    trainer.train()
    trainer.save_model()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"training_args.json", "manifest.json", "trainer_state.json"} <= {path.name for path in files}
    assert not any(path.name == "training_args.bin" for path in files)
    assert not any(secret.encode() in path.read_bytes() for path in files)
    assert what_is_wrong(tmp_path) is None
    assert json.loads((tmp_path / "manifest.json").read_text())["step"] == 2


@pytest.mark.parametrize("kind", ["SHARDED_STATE_DICT", "LOCAL_STATE_DICT"])
def test_state_in_shards_is_refused_since_torch_unpickles_it(
    kind: str, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Before anything is trained or read; as if launched with FSDP, which needs several processes."""
    create = RecordingTrainer.create_accelerator_and_postprocess

    def create_with_fsdp(trainer: RecordingTrainer) -> None:
        create(trainer)
        plugin = SimpleNamespace(state_dict_type=StateDictType[kind])
        monkeypatch.setitem(trainer.accelerator.state._shared_state, "fsdp_plugin", plugin)
        trainer.is_fsdp_enabled = True

    monkeypatch.setattr(RecordingTrainer, "create_accelerator_and_postprocess", create_with_fsdp)
    with pytest.raises(ValueError, match=rf"FSDP is set to write {kind}, which torch unpickles\. Set `fsdp_state_d"):
        make_trainer(tiny_model_folder, tmp_path)


def test_resuming_with_deepspeed_says_that_it_unpickles(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    trainer = make_trainer(tiny_model_folder, tmp_path)
    trainer.is_deepspeed_enabled = True
    monkeypatch.setattr("transformers.Seq2SeqTrainer.train", lambda *args, **kwargs: None)
    with caplog.at_level(logging.WARNING):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert "checkpoint-2, which can run code: resume only what you wrote." in caplog.text
