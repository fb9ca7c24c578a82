"""Small training runs for tests: everything random is on, and what each step did is recorded."""

from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import TrainerCallback

from hf_vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTrainer,
)
from hf_vanilla_transformer.data.encoding import encode_corpus
from hf_vanilla_transformer.tokenization import load_tokenizer
from hf_vanilla_transformer.training.trainer_arguments import TranslationTrainingArguments


class RecordingTrainer(VanillaTransformerTrainer):
    """Keeps the pairs of each batch, and the gradients of the first step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batches: list[list[int]] = []
        self.first_gradients: dict[str, torch.Tensor] = {}

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        self.batches.append(inputs["pair_ids"].tolist())
        return super().training_step(model, inputs, *args, **kwargs)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        if not self.first_gradients:
            parameters = self.accelerator.unwrap_model(model).named_parameters()
            self.first_gradients = {name: p.grad.clone() for name, p in parameters if p.grad is not None}
        return super()._get_grad_norm(model, grad_norm)


class AtStep(TrainerCallback):
    """Calls a function within a given step."""

    def __init__(self, step: int, action: Any) -> None:
        self.step, self.action = step, action

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 == self.step:
            self.action()


def make_corpus(model_folder: Path, pairs: int = 36) -> Any:
    """Pairs of unequal lengths, all different, and their tokenizer."""
    tokenizer = load_tokenizer(model_folder)
    words = ("merci", "chat", "petit", "maison", "je suis", "vieille", "arbres", "la gare", "étudiant", "dort")
    source = [" ".join(words[(n * k) % 10] for k in range(1, 2 + n % 7)) + f" {n}" for n in range(pairs)]
    target = [" ".join(words[(n + 3 * k) % 10] for k in range(1, 2 + n % 5)) + f" {n}" for n in range(pairs)]
    return encode_corpus(datasets.Dataset.from_dict({"source": source, "target": target}), tokenizer), tokenizer


def make_trainer(
    model_folder: Path, run: Path, model: dict[str, Any] | None = None, **settings: Any
) -> RecordingTrainer:
    """A trainer that logs and, where asked, saves; weights by the seed, dropout on."""
    corpus, tokenizer = make_corpus(model_folder)
    settings = {
        "max_tokens": 100,
        "max_steps": 12,
        "gradient_accumulation_steps": 2,
        "warmup_steps": 4,
        "learning_rate": 2e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "predict_with_generate": False,
        "precision": "fp32",
    } | settings
    args = TranslationTrainingArguments(
        output_dir=str(run), use_cpu=True, report_to="none", disable_tqdm=True, **settings
    )
    torch.manual_seed(args.seed)
    sizes = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "dropout": 0.3,
        "label_smoothing": 0.1,
    }
    config = VanillaTransformerConfig(vocab_size=len(tokenizer), **{**sizes, **(model or {})})
    network = VanillaTransformerForConditionalGeneration(config)
    return RecordingTrainer(network, args, train_dataset=corpus, eval_dataset=corpus, processing_class=tokenizer)


def steps_of(trainer: VanillaTransformerTrainer) -> list[tuple[int, float, float]]:
    """(step, loss, rate) of every logged step."""
    lines = trainer.state.log_history
    return [(line["step"], line["loss"], line["learning_rate"]) for line in lines if "loss" in line]


def weights_of(trainer: VanillaTransformerTrainer) -> dict[str, torch.Tensor]:
    """All weights by name."""
    return trainer.accelerator.unwrap_model(trainer.model).state_dict()
