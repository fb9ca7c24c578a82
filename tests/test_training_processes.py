"""However a step's batches are shared out, the same model is trained."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import RecordingTrainer, make_corpus, make_trainer, steps_of, weights_of
from two_processes import SHARED_STEPS

LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1"]


@pytest.fixture(scope="module")
def two_processes(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Results of `two_processes.py` on two gloo processes."""
    folder = tmp_path_factory.mktemp("two")
    script = Path(__file__).with_name("two_processes.py")
    options = ["--multi_gpu", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    done = subprocess.run(
        [*LAUNCH, *options, str(script), str(tiny_model_folder), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "results.pt", weights_only=True)


def assert_same_training(
    steps: Any, gradients: dict[str, torch.Tensor], weights: dict[str, torch.Tensor], reference: RecordingTrainer
) -> None:
    """Losses, the first gradients, weights and logits within what rounding explains."""
    expected = steps_of(reference)
    assert max(rate for *_, rate in expected) > 1e-3
    assert [step for step, *_ in steps] == [step for step, *_ in expected] == list(range(1, 31))
    assert [loss for _, loss, _ in steps] == pytest.approx([loss for _, loss, _ in expected], abs=1e-5)
    assert gradients.keys() == reference.first_gradients.keys()
    for name, gradient in reference.first_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-6, rtol=0, msg=name)
    # the true gradient of a key's bias is zero: softmax does not see what is added to all scores of a query
    own = weights_of(reference)
    for name in [name for name in own if not name.endswith("k_proj.bias")]:
        torch.testing.assert_close(weights[name], own[name], atol=1e-3, rtol=0, msg=name)
    model = reference.model.eval()
    pairs = reference.train_dataset.select_columns(["input_ids", "labels"])
    batch = reference.data_collator([pairs[n] for n in range(4)])
    batch = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    with torch.no_grad():
        logits = model(**batch).logits
        model.load_state_dict(weights)
        torch.testing.assert_close(model(**batch).logits, logits, atol=1e-3, rtol=0)


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates(two_processes: Any, tiny_model_folder: Path, tmp_path: Path):
    alone = make_trainer(tiny_model_folder, tmp_path, gradient_accumulation_steps=2, **SHARED_STEPS)
    alone.train()
    shared = two_processes["shared"]
    assert_same_training(shared["steps"], shared["gradients"], shared["weights"], alone)


class CutBatches(RecordingTrainer):
    """Takes the batches of a plan of eight sentences each, whole or one sentence at a time."""

    sentences = 8

    def _token_sampler(self, dataset: Any, shuffle: bool) -> Any:
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0)).tolist()
        order = order[: len(order) // 8 * 8]
        return FixedBatches([order[n : n + self.sentences] for n in range(0, len(order), self.sentences)])


class FixedBatches(list):
    """A batch sampler of given batches."""

    def set_epoch(self, epoch: int) -> None:
        """The same in every epoch."""


@pytest.mark.parametrize("stock_smoothing", [False, True])
def test_one_by_eight_is_eight_by_one(stock_smoothing: bool, tiny_model_folder: Path, tmp_path: Path):
    """Eight accumulated sentences are one batch of eight, though their lengths differ."""
    trainers = []
    for sentences in (8, 1):
        settings = {**SHARED_STEPS, "gradient_accumulation_steps": 8 // sentences}
        if stock_smoothing:  # the Trainer's own
            settings |= {"label_smoothing_factor": 0.1, "model": {"dropout": 0.0, "label_smoothing": 0.0}}
        trainer = make_trainer(tiny_model_folder, tmp_path / str(sentences), **settings)
        trainer.__class__ = CutBatches
        trainer.sentences = sentences
        trainer.train()
        trainers.append(trainer)
    whole, cut = trainers
    assert [len(batch) for batch in cut.batches] == [1] * 240
    assert_same_training(steps_of(cut), cut.first_gradients, weights_of(cut), whole)


@pytest.mark.slow
def test_each_sentence_is_translated_once(two_processes: Any, tiny_model_folder: Path, tmp_path: Path):
    corpus, _ = make_corpus(tiny_model_folder, pairs=7)
    alone = make_trainer(tiny_model_folder, tmp_path).translate_shared(corpus["source"], num_beams=2)
    assert len(set(alone)) > 1
    assert two_processes["translations"] == alone


@pytest.mark.slow
@pytest.mark.parametrize("where", ["within an epoch", "after an epoch"])
def test_two_processes_resume_exactly(where: str, two_processes: Any):
    """A signal to one of them stops both in the same step; what follows is equal, not nearly."""
    results = two_processes[where]
    assert results["stopped_at"] == {"within an epoch": [2, 2], "after an epoch": [5, 5]}[where]
    assert results["same_batches"] == [True, True]
    first, second = results["batches"]
    assert first != second
    assert results["resumed"]["steps"] == results["whole"]["steps"]
    for name, weight in results["whole"]["weights"].items():
        assert torch.equal(results["resumed"]["weights"][name], weight), name
