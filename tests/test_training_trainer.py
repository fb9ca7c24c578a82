"""The trainer: batches by tokens, exact loss, BLEU of every sentence, and nothing pickled."""

import json
import math
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from hf_vanilla_transformer import VanillaTransformerTrainer
from hf_vanilla_transformer.data.encoding import encode_corpus
from hf_vanilla_transformer.tokenization import load_tokenizer
from hf_vanilla_transformer.training import trainer as trainer_module
from hf_vanilla_transformer.training import trainer_arguments
from hf_vanilla_transformer.training.schedule import paper_learning_rate
from hf_vanilla_transformer.training.trainer_arguments import TranslationTrainingArguments
from hf_vanilla_transformer.translation.loading import load_model


@pytest.fixture
def tokenizer(tiny_model_folder: Path) -> Any:
    return load_tokenizer(tiny_model_folder)


@pytest.fixture
def corpus(sentences: tuple[str, ...], tokenizer: Any) -> datasets.Dataset:
    """Every sentence paired with the next: sides of unequal lengths."""
    pairs = {"source": list(sentences), "target": [*sentences[1:], sentences[0]]}
    return encode_corpus(datasets.Dataset.from_dict(pairs), tokenizer)


@pytest.fixture
def make_trainer(tiny_model_folder: Path, tokenizer: Any, corpus: datasets.Dataset, tmp_path: Path) -> Any:
    def make(**settings: Any) -> VanillaTransformerTrainer:
        settings = {
            "output_dir": str(tmp_path / "run"),
            "max_tokens": 40,
            "warmup_steps": 4,
            "logging_steps": 2,
        } | settings
        args = TranslationTrainingArguments(use_cpu=True, report_to="none", disable_tqdm=True, **settings)
        return VanillaTransformerTrainer(
            load_model(tiny_model_folder), args, train_dataset=corpus, eval_dataset=corpus, processing_class=tokenizer
        )

    return make


def test_the_rate_of_each_step_is_the_papers(make_trainer: Any, tmp_path: Path):
    trainer = make_trainer(max_steps=6, logging_steps=1, save_strategy="no")
    trainer.train()
    rates = [line["learning_rate"] for line in trainer.state.log_history if "learning_rate" in line]
    by_hand = [paper_learning_rate(step, d_model=16, warmup_steps=4) for step in range(1, 7)]
    assert rates == pytest.approx(by_hand)


def test_a_given_rate_is_the_peak_of_the_same_curve(make_trainer: Any):
    trainer = make_trainer(max_steps=6, learning_rate=0.01)
    trainer.create_optimizer_and_scheduler(6)
    assert trainer.args.learning_rate == 0.01
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 / 4)


def test_adam_is_the_papers(make_trainer: Any):
    optimizer = make_trainer(max_steps=1).create_optimizer()
    group = optimizer.param_groups[0]
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.98), 1e-9, 0.0)


def test_every_batch_keeps_to_the_budget_and_every_pair_comes_once(make_trainer: Any, corpus: datasets.Dataset):
    batches = list(make_trainer().get_train_dataloader())
    assert sum(len(batch["labels"]) for batch in batches) == len(corpus)
    assert len(batches) > 1
    for batch in batches:
        assert max(batch["input_ids"].numel(), batch["labels"].numel()) <= 40


def test_the_loss_falls_and_the_folder_holds_no_pickled_arguments(make_trainer: Any, tmp_path: Path):
    trainer = make_trainer(max_steps=40, learning_rate=0.01, save_steps=40)
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[-1] < losses[0] / 2
    names = {path.name for path in (tmp_path / "run" / "checkpoint-40").iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"} <= names
    assert "training_args.bin" not in names


def test_log_lines_go_to_a_file_with_speed_and_padding(make_trainer: Any, tmp_path: Path, corpus: datasets.Dataset):
    make_trainer(num_train_epochs=1, logging_steps=1, save_strategy="no").train()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().split("\n") if line]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    assert all(line["target_tokens_per_second"] > 0 and 0 <= line["padding_share"] < 1 for line in steps)


@pytest.mark.parametrize("max_tokens", [40, 400])
def test_validation_loss_is_the_mean_over_tokens(max_tokens: int, make_trainer: Any, corpus: datasets.Dataset):
    """However the batches are cut; sentence by sentence is the second implementation."""
    trainer = make_trainer(max_tokens=max_tokens, predict_with_generate=False)
    model = trainer.model.eval()
    total = tokens = 0.0
    with torch.no_grad():
        for pair in corpus:
            labels = torch.tensor([pair["labels"]])
            logits = model(input_ids=torch.tensor([pair["input_ids"]]), labels=labels).logits
            total += torch.nn.functional.cross_entropy(logits[0], labels[0], reduction="sum").item()
            tokens += labels.numel()
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(total / tokens, rel=1e-5)
    assert metrics["eval_perplexity"] == pytest.approx(math.exp(total / tokens), rel=1e-4)
    assert not any("bleu" in name for name in metrics)


def test_validation_bleu_scores_every_sentence(
    make_trainer: Any, corpus: datasets.Dataset, sentences: tuple[str, ...]
):
    import sacrebleu

    trainer = make_trainer()
    hypotheses = trainer.translate_shared(corpus["source"], num_beams=1)
    assert len(hypotheses) == len(sentences)
    by_hand = sacrebleu.corpus_bleu(hypotheses, [list(corpus["target"])]).score
    assert trainer.evaluate(num_beams=1)["eval_bleu"] == pytest.approx(by_hand, abs=0.01)


def test_validation_takes_no_time_from_the_speed_of_training(make_trainer: Any, monkeypatch: pytest.MonkeyPatch):
    trainer = make_trainer(predict_with_generate=False)
    excluded: list[float] = []
    monkeypatch.setattr(trainer.token_count, "exclude", excluded.append)
    trainer.evaluate()
    assert excluded[0] > 0


def test_several_validation_sets_are_told_apart(make_trainer: Any, corpus: datasets.Dataset):
    trainer = make_trainer(predict_with_generate=False)
    metrics = trainer.evaluate({"a": corpus, "b": corpus.select(range(3))})
    assert metrics["eval_a_loss"] != metrics["eval_b_loss"]


def test_validation_by_bleu_needs_the_text(make_trainer: Any, corpus: datasets.Dataset):
    with pytest.raises(ValueError, match=r"columns `source` and `target`, but target is not among"):
        make_trainer().evaluate(corpus.remove_columns("target"))


def test_what_the_trainer_cannot_do_without(make_trainer: Any, tmp_path: Path, tokenizer: Any):
    from transformers import Seq2SeqTrainingArguments

    with pytest.raises(TypeError, match="needs TranslationTrainingArguments, got Seq2SeqTrainingArguments"):
        VanillaTransformerTrainer(None, Seq2SeqTrainingArguments(str(tmp_path)), processing_class=tokenizer)
    trainer = make_trainer()
    with pytest.raises(ValueError, match="pass it as `processing_class`"):
        VanillaTransformerTrainer(trainer.model, trainer.args)
    trainer.train_dataset = trainer.eval_dataset = None
    with pytest.raises(ValueError, match="needs a `train_dataset`"):
        trainer.get_train_dataloader()
    with pytest.raises(ValueError, match="needs an `eval_dataset`"):
        trainer.evaluate()


def test_bf16_is_chosen_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for fast in (True, False):
        monkeypatch.setattr(trainer_arguments, "computes_bf16_fast", lambda use_cpu, fast=fast: fast)
        assert TranslationTrainingArguments(output_dir=str(tmp_path), use_cpu=True).bf16 is fast
        assert TranslationTrainingArguments(output_dir=str(tmp_path), use_cpu=True, precision="fp32").bf16 is False
        assert TranslationTrainingArguments(output_dir=str(tmp_path), use_cpu=True, precision="bf16").bf16 is True


def test_bf16_on_a_machine_without_accelerator_needs_no_word_about_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(trainer_arguments, "computes_bf16_fast", lambda use_cpu: True)
    args = TranslationTrainingArguments(output_dir=str(tmp_path))
    assert (args.bf16, args.device.type) == (True, "cpu")


def test_processes_that_settled_on_different_precisions_are_stopped(
    make_trainer: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trainer_module, "gather_object", lambda mine: [*mine, "bf16"])
    with pytest.raises(
        ValueError, match=r"same precision, but they settled on fp32 and bf16\. Give `--precision bf16`"
    ):
        make_trainer(precision="fp32").train()


def test_settings_that_cannot_be(tmp_path: Path):
    with pytest.raises(ValueError, match="must be auto, bf16 or fp32, got 'fp8'"):
        TranslationTrainingArguments(output_dir=str(tmp_path), precision="fp8")
    with pytest.raises(ValueError, match="must be a JSON object, got 'x'"):
        TranslationTrainingArguments(output_dir=str(tmp_path), accelerator_config="x")


def test_keeping_freed_memory_is_harmless():
    from hf_vanilla_transformer.model.memory import keep_freed_memory

    assert keep_freed_memory() in (True, False)
    assert torch.ones(1 << 20).sum() == 1 << 20


def test_tensorboard_gets_the_log(tiny_model_folder: Path, make_trainer: Any, tmp_path: Path):
    trainer = make_trainer(max_steps=2, save_strategy="no")
    trainer.args.report_to = ["tensorboard"]
    again = VanillaTransformerTrainer(
        load_model(tiny_model_folder),
        trainer.args,
        train_dataset=trainer.train_dataset,
        processing_class=trainer.processing_class,
    )
    again.train()
    assert list((tmp_path / "run").rglob("events.out.tfevents.*"))
