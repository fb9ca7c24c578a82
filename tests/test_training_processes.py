"""However a step's batches are shared out, the same model is trained."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from tiny import SEPARATE_VOCABULARIES, tiny_config, tiny_model
from training_runs import RecordingTrainer, make_corpus, make_trainer, steps_of, weights_of
from two_processes import SHARED_STEPS

import hf_vanilla_transformer
from hf_vanilla_transformer import VanillaTransformerForConditionalGeneration
from hf_vanilla_transformer.training.checkpoints import what_is_wrong
from hf_vanilla_transformer.training.sharding import tied_modules

CONFIGS = Path(hf_vanilla_transformer.__file__).parent / "recipes" / "accelerate"


def launch(config: str, script: str, model_folder: Path, folder: Path) -> Any:
    """What a script leaves in `results.pt` that two gloo processes ran, set up by one of our accelerate configs."""
    options = ["--config_file", str(CONFIGS / f"{config}.yaml"), "--num_processes", "2", "--main_process_port", "0"]
    script = str(Path(__file__).parent / "support" / script)
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *options, script, str(model_folder), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "results.pt", weights_only=True)


@pytest.fixture(scope="module")
def two_processes(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Results of processes that each have the whole model."""
    return launch("ddp", "two_processes.py", tiny_model_folder, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def sharded_processes(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Results of processes that share out the weights, and the folder of the run that they resumed."""
    folder = tmp_path_factory.mktemp("sharded")
    return launch("fsdp2", "sharded_processes.py", tiny_model_folder, folder), folder / "stopped"


def assert_same_training(
    steps: Any, gradients: dict[str, torch.Tensor], weights: dict[str, torch.Tensor], reference: RecordingTrainer
) -> None:
    """Losses, the first gradients, weights and logits within what rounding explains."""
    expected = steps_of(reference)
    assert max(rate for *_, rate in expected) > 1e-3
    assert (
        [step for step, *_ in steps]
        == [step for step, *_ in expected]
        == list(range(1, SHARED_STEPS["max_steps"] + 1))
    )
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
    assert [len(batch) for batch in cut.batches] == [1] * 8 * SHARED_STEPS["max_steps"]
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


@pytest.mark.slow
def test_shared_out_weights_train_as_whole_ones(sharded_processes: Any, tiny_model_folder: Path, tmp_path: Path):
    """FSDP2: the same losses and weights as one process that accumulates; it decodes, evaluates, stops and resumes."""
    results, run = sharded_processes
    assert results["type"] == "DistributedType.FSDP"
    assert results["share"] == pytest.approx(0.5, abs=0.01)
    alone = make_trainer(tiny_model_folder, tmp_path, gradient_accumulation_steps=2, **SHARED_STEPS)
    alone.train()
    assert [loss for _, loss, _ in results["steps"]] == pytest.approx(
        [loss for _, loss, _ in steps_of(alone)], abs=1e-5
    )
    own = weights_of(alone)
    assert results["weights"].keys() == own.keys()
    for name in [name for name in own if not name.endswith("k_proj.bias")]:
        torch.testing.assert_close(results["weights"][name], own[name], atol=1e-3, rtol=0, msg=name)
    assert results["loss"] == pytest.approx(alone.evaluate()["eval_loss"], abs=1e-4)

    assert results["resumed steps"] == results["steps"]
    for name, weight in results["weights"].items():
        assert torch.equal(results["resumed weights"][name], weight), name
    assert what_is_wrong(run) is None
    saved = VanillaTransformerForConditionalGeneration.from_pretrained(run)
    for name, weight in saved.state_dict().items():
        assert torch.equal(results["weights"][name], weight), name
    corpus, _ = make_corpus(tiny_model_folder, pairs=7)
    alone.model.load_state_dict(results["weights"])
    assert results["translations"] == alone.translate_shared(corpus["source"], num_beams=2)


@pytest.mark.parametrize(
    ("config", "kind"), [("ddp", "MULTI_GPU"), ("fsdp2", "FSDP"), ("deepspeed_zero2", "DEEPSPEED")]
)
def test_the_configs_are_what_accelerate_reads(config: str, kind: str):
    """DeepSpeed itself is not installed here; the layers that FSDP wraps are the model's."""
    loaded = load_config_from_file(str(CONFIGS / f"{config}.yaml"))
    assert loaded.distributed_type == kind
    if kind == "FSDP":
        names = loaded.fsdp_config["fsdp_transformer_layer_cls_to_wrap"].split(",")
        assert sorted(names) == sorted(VanillaTransformerForConditionalGeneration._no_split_modules)
    if kind == "DEEPSPEED":
        assert (loaded.deepspeed_config["zero_stage"], loaded.mixed_precision) == (2, "bf16")


def test_tied_weights_are_found():
    model = VanillaTransformerForConditionalGeneration(tiny_config())
    modules = {name: module for name, module in model.named_modules() if name in TIED}
    assert [set(group) for group in tied_modules(model)] == [set(modules.values())]
    assert len(modules) == len(TIED)
    assert tied_modules(tiny_model(tie_word_embeddings=False, **SEPARATE_VOCABULARIES)) == []


TIED = ("model.shared", "model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head")
