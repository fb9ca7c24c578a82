"""Peak memory of a training step, against the stock trainer with `label_smoothing_factor`.

Each side trains the same model on the same batch for two steps on the CPU, the second with the optimizer's state in
place; the figure is the peak of resident memory minus the resident memory before the first step.
"""

import argparse
import tempfile
from typing import Any

from .markdown import Figures
from .rounds import Spread, figures_of, of_rounds, positive, ratios, resident_mib, sides_in_turn

SENTENCE_LENGTH = 64  # tokens of every sentence in the batch
SIDES = ("ours", "stock")
MODELS = (("small", 256, 4), ("base", 512, 6))  # name, d_model, layers per stack


def memory_of_side(side: str, options: argparse.Namespace) -> dict[str, float]:
    """Train one side for two steps in this process; return the growth of resident memory at the peak, in MiB."""
    import torch

    torch.manual_seed(0)
    trainer = build_memory_trainer(side, options)
    before = resident_mib("VmRSS")
    trainer.train()
    return {"peak_mib": round(resident_mib("VmHWM") - before, 1), "before_mib": round(before, 1)}


def build_memory_trainer(side: str, options: argparse.Namespace) -> Any:
    """Make our trainer or the stock one, on one batch of sentences of equal length."""
    import torch
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

    from hf_vanilla_transformer import VanillaTransformerTrainer, train_tokenizer
    from hf_vanilla_transformer.model.memory import keep_freed_memory
    from hf_vanilla_transformer.training.trainer_arguments import TranslationTrainingArguments

    sentences = options.tokens // SENTENCE_LENGTH
    ids = torch.randint(4, options.vocab_size, (sentences, SENTENCE_LENGTH)).tolist()
    data = {
        "train_dataset": Dataset.from_dict({"input_ids": ids, "labels": ids}),
        "processing_class": train_tokenizer(["only its padding token matters here"] * 9, vocab_size=280),
    }
    common = {
        **{"output_dir": tempfile.mkdtemp(), "max_steps": 2, "use_cpu": True, "bf16": options.precision == "bf16"},
        **{"save_strategy": "no", "report_to": "none", "disable_tqdm": True},
    }
    if side == "ours":
        keep_freed_memory()
        args = TranslationTrainingArguments(
            max_tokens=sentences * SENTENCE_LENGTH, precision=options.precision, **common
        )
        return VanillaTransformerTrainer(memory_model(options, label_smoothing=0.1), args, **data)
    args = Seq2SeqTrainingArguments(per_device_train_batch_size=sentences, label_smoothing_factor=0.1, **common)
    model = memory_model(options, label_smoothing=0.0)
    collator = DataCollatorForSeq2Seq(data["processing_class"], model=model)
    return Seq2SeqTrainer(model, args, data_collator=collator, **data)


def memory_model(options: argparse.Namespace, label_smoothing: float) -> Any:
    """Make the model of both sides, in the paper's proportions: head width 64, d_ff 4 times d_model."""
    from hf_vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration

    heads, ffn_dim = max(options.d_model // 64, 1), 4 * options.d_model
    config = VanillaTransformerConfig(
        vocab_size=options.vocab_size,
        d_model=options.d_model,
        encoder_layers=options.layers,
        decoder_layers=options.layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=ffn_dim,
        decoder_ffn_dim=ffn_dim,
        label_smoothing=label_smoothing,
    )
    return VanillaTransformerForConditionalGeneration(config)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Of `memory`."""
    command.add_argument("--vocab_size", type=positive, default=37000)
    command.add_argument("--tokens", type=positive, default=4096, help="target tokens of the batch")
    command.add_argument("--d_model", type=positive, default=256)
    command.add_argument("--layers", type=positive, default=4, help="layers per stack")
    command.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")


def measure_memory(options: argparse.Namespace) -> dict[str, Any]:
    """Measure both sides in turn; return the ratio of their peaks."""
    names = ("vocab_size", "tokens", "d_model", "layers", "precision")
    arguments = ["memory", *(f"--{name}={getattr(options, name)}" for name in names)]
    runs = sides_in_turn(arguments, SIDES, options.rounds)
    ratio = ratios(*(figures_of(runs[side], "peak_mib") for side in SIDES))
    print(f"ours / stock trainer, peak memory of a training step: {ratio.text()}")
    return {"runs": runs, "ratio": ratio._asdict()}


def memory_table(options: argparse.Namespace) -> Figures:
    """Measure a small model and the paper's base model."""
    rows, headlines, raw = [], [], {}
    for name, d_model, layers in MODELS:
        sizes = {**vars(options), "d_model": d_model, "layers": layers}
        raw[name] = measured = measure_memory(argparse.Namespace(**sizes))
        ratio = Spread(**measured["ratio"])
        peaks = [Spread.of(figures_of(measured["runs"][side], "peak_mib")).text(",.0f") for side in SIDES]
        rows.append([f"{name}: {layers} + {layers} layers, d_model {d_model}", *peaks, ratio.text()])
        headlines.append(
            (f"memory of a training step, {name} model, against the stock trainer", f"{ratio.text()} times")
        )
    return Figures(
        ["model", "here, MiB", "stock `Seq2SeqTrainer`, MiB", "ratio"],
        rows,
        f"Peak memory of a training step, minus what was resident before; vocabulary {options.vocab_size:,}, "
        f"{options.tokens:,} target tokens, label smoothing 0.1, {options.precision}, on the CPU. "
        f"{of_rounds(options.rounds)}",
        headlines,
        raw,
    )
