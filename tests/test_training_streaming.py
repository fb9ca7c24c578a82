"""A run on a stream: exact after a stop, on every process its share, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_training_resume import stop_by_signal
from training_runs import RecordingTrainer, make_corpus, make_trainer, steps_of, weights_of

from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.data import FilterSettings
from hf_vanilla_transformer.data.stream_batching import StreamingBatches
from hf_vanilla_transformer.data.streaming import ParallelStream
from hf_vanilla_transformer.training.arguments import DataArguments
from hf_vanilla_transformer.training.checkpoints import checkpoints_of
from hf_vanilla_transformer.training.corpora import encode_training_text, sentences_for_tokenizer


def stream_trainer(model_folder: Path, run: Path, pool_size: int = 20, pairs: int = 36, **settings: Any) -> Any:
    """As `make_trainer`, on a stream of the same pairs, read in pools."""
    trainer = make_trainer(model_folder, run, **settings)
    corpus, tokenizer = make_corpus(model_folder, pairs)
    text = list(zip(corpus["source"], corpus["target"], strict=True))
    stream = ParallelStream(lambda: text, "a list")
    trainer.train_dataset = StreamingBatches(
        stream, tokenizer, FilterSettings(max_tokens=60), 100, pool_size=pool_size
    )
    return trainer


@pytest.fixture
def steps_an_epoch(tiny_model_folder: Path, tmp_path: Path) -> int:
    """Optimizer steps in which the stream is read through once."""
    trainer = stream_trainer(tiny_model_folder, tmp_path / "unused")
    trainer.train()
    assert trainer.train_dataset.seen["knows_all"]
    return sum(pool[1] for pool in trainer.train_dataset.seen["pools"]) // 2


@pytest.mark.parametrize("where", ["within a pool", "over a pass"])
def test_resumed_equals_uninterrupted(where: str, steps_an_epoch: int, tiny_model_folder: Path, tmp_path: Path):
    """Losses, rates, batches, epochs and weights with `==`; the known pools are not encoded again."""
    step = {"within a pool": 2, "over a pass": steps_an_epoch + 1}[where]
    whole = stream_trainer(tiny_model_folder, tmp_path / "whole")
    whole.train()
    stopped = stream_trainer(tiny_model_folder, tmp_path / "run")
    stop_by_signal(stopped, step)
    assert json.loads((tmp_path / "run" / f"checkpoint-{step}" / "stream.json").read_text())["pools"]
    resumed = stream_trainer(tiny_model_folder, tmp_path / "run")
    resumed.train(resume_from_checkpoint=True)

    assert stopped.batches + resumed.batches == whole.batches
    assert steps_of(resumed) == steps_of(whole)
    assert epochs_of(resumed) == epochs_of(whole)
    for name, weight in weights_of(whole).items():
        assert torch.equal(weights_of(resumed)[name], weight), name


def epochs_of(trainer: RecordingTrainer) -> list[float]:
    return [line["epoch"] for line in trainer.state.log_history if "loss" in line]


def test_a_message_can_name_the_rows_of_the_stream(tiny_model_folder: Path, tmp_path: Path):
    trainer = stream_trainer(tiny_model_folder, tmp_path, max_steps=6)
    trainer.train()
    rows = [row for batch in trainer.batches for row in batch]
    assert sorted(rows[:20]) == list(range(20))
    assert sorted(rows[20:36]) == list(range(20, 36))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"pool_size": 30}, r"pool_size \(was 20, is 30\)"), ({"pairs": 30}, "these changed: training text")],
)
def test_another_stream_is_refused_by_name(
    change: dict[str, int], message: str, tiny_model_folder: Path, tmp_path: Path
):
    stop_by_signal(stream_trainer(tiny_model_folder, tmp_path), 2)
    with pytest.raises(ValueError, match=message):
        stream_trainer(tiny_model_folder, tmp_path, **change).train(resume_from_checkpoint=True)


def test_each_process_gets_its_share(tiny_model_folder: Path):
    """What the run makes of its settings, for the second of three processes."""
    corpus, tokenizer = make_corpus(tiny_model_folder)
    text = ParallelStream(lambda: zip(corpus["source"], corpus["target"], strict=True), "a list")
    args = SimpleNamespace(max_tokens=100, data_seed=None, seed=5, process_index=1, world_size=3)
    settings: Any = SimpleNamespace(training=args, data=DataArguments(pool_size=17, max_length=60))
    batches, _ = encode_training_text(text, tokenizer, settings)
    assert isinstance(batches, StreamingBatches)
    assert (batches.rank, batches.num_processes, batches.seed) == (1, 3, 5)
    assert (batches.pool_size, batches.max_tokens, batches.filters.max_tokens) == (17, 100, 60)


def test_a_tokenizer_is_learned_from_the_beginning_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hf_vanilla_transformer.training.corpora._PAIRS_FOR_TOKENIZER", 2)
    pairs = [("a", "b"), ("c", "d"), ("e", "f")]
    assert list(sentences_for_tokenizer(ParallelStream(lambda: pairs, "a list"))) == ["a", "b", "c", "d"]


Train = Callable[..., int]


@pytest.fixture
def train(tmp_path: Path, sentences: tuple[str, ...]) -> Train:
    """The command, on files."""
    recipe = (
        "model: {d_model: 16, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2,\n"
        "  decoder_attention_heads: 2, encoder_ffn_dim: 32, decoder_ffn_dim: 32}\n"
        "tokenizer: {vocab_size: 270}\n"
        "data: {streaming: true, pool_size: 30, max_length: 60}\n"
        "training: {max_tokens: 60, max_steps: 8, save_steps: 4, eval_strategy: 'no', use_cpu: true,\n"
        "  report_to: none, logging_steps: 1}\n"
    )
    (tmp_path / "tiny.yaml").write_text(recipe, encoding="utf-8")
    pairs = [(a, b) for a in sentences for b in sentences if a != b]
    for side in (0, 1):
        (tmp_path / f"train.{side}").write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
    files = [f"--train_source={tmp_path / 'train.0'}", f"--train_target={tmp_path / 'train.1'}"]
    return lambda run, *options: main(
        ["train", "--recipe", str(tmp_path / "tiny.yaml"), "--output_dir", str(tmp_path / run), *files, *options]
    )


def test_the_command_trains_and_resumes_on_a_stream(train: Train, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert train("whole") == 0
    assert train("run", "--max_steps", "4") == 0
    assert [path.name for path in checkpoints_of(tmp_path / "run")] == ["checkpoint-4"]
    assert main(["train", "--resume", "--output_dir", str(tmp_path / "run"), "--max_steps", "8"]) == 0
    whole, resumed = (tmp_path / name / "model.safetensors" for name in ("whole", "run"))
    assert whole.read_bytes() == resumed.read_bytes()
    assert not (tmp_path / "whole" / "stream.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max_steps", "-1", "--num_train_epochs", "2"], "A stream has no length, so the run needs one"),
        (["--save_strategy", "epoch"], "save_strategy is epoch. Set `--save_strategy steps` and `--save_steps`"),
        (["--max_length", "0"], "filter's max_tokens must be at most the 60 tokens of a batch, but it is None"),
        (["--pool_size", "0"], "pool_size must be a whole number of at least 1, but it is 0"),
        (["--train_source", "/nowhere.a"], "/nowhere.a"),
    ],
)
def test_what_a_stream_cannot_do_is_said(
    train: Train, options: list[str], message: str, capfd: pytest.CaptureFixture[str]
):
    assert train("run", *options) == 1
    error = capfd.readouterr().err
    assert message in error
    assert "Traceback" not in error
