"""Training speed, against `transformers`' Marian under the stock trainer.

Both sides train models of the same size (4 + 4 layers, d_model 256, d_ff 1,024, vocabulary 8,000 or what the text
allows, dropout 0.3, label smoothing 0.1) on the same text. The figure is real target tokens per second, without
padding.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from .markdown import Figures
from .rounds import Spread, figures_of, of_rounds, positive, ratios, sides_in_turn

SIZES = {
    **{"d_model": 256, "encoder_layers": 4, "decoder_layers": 4, "dropout": 0.3},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024},
}
PEER_BATCH = 128  # sentences drawn at random, as Seq2SeqTrainer does
SKIPPED_STEPS = 5  # the first steps allocate memory
SIDES = ("ours", "marian")
TRAINERS = {"ours": "`VanillaTransformerTrainer`", "marian": "Marian, stock `Seq2SeqTrainer`"}


class CountingCollator:
    """Records the number of real target tokens and the padded size of every batch."""

    def __init__(self, collator: Any) -> None:
        self.collator = collator
        self.target_tokens: list[int] = []
        self.slots: list[int] = []

    def __call__(self, features: Any) -> Any:
        batch = self.collator(features)
        self.target_tokens.append(int(batch["labels"].ne(-100).sum()))
        self.slots.append(batch["labels"].numel())
        return batch


def train_side(side: str, corpus_folder: str, steps: int) -> dict[str, Any]:
    """Train one side for some steps in this process; return target tokens per second and the share of padding."""
    from datasets import load_from_disk
    from transformers import DataCollatorForSeq2Seq, TrainerCallback

    from hf_vanilla_transformer.tokenization import load_tokenizer

    tokenizer = load_tokenizer(corpus_folder)
    model = build_model(side, len(tokenizer))
    collator = CountingCollator(DataCollatorForSeq2Seq(tokenizer, model=model))

    class StepClock(TrainerCallback):
        times = [time.perf_counter()]  # noqa: RUF012

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.times.append(time.perf_counter())

    corpus = load_from_disk(str(Path(corpus_folder) / "corpus"))
    trainer = build_trainer(side, model, tokenizer, corpus, collator, steps, [StepClock()])
    trainer.train()
    counted = slice(SKIPPED_STEPS, steps)
    seconds = StepClock.times[steps] - StepClock.times[SKIPPED_STEPS]
    tokens, slots = sum(collator.target_tokens[counted]), sum(collator.slots[counted])
    return {
        **{"target_tokens_per_second": tokens / seconds, "padding_share": 1 - tokens / slots},
        "precision": "bf16" if trainer.args.bf16 else "fp32",
    }


def build_model(side: str, vocab_size: int) -> Any:
    """Make our model or Marian's, of the same size."""
    if side == "ours":
        from hf_vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration

        config = VanillaTransformerConfig(vocab_size=vocab_size, label_smoothing=0.1, **SIZES)
        return VanillaTransformerForConditionalGeneration(config)
    from transformers import MarianConfig, MarianMTModel

    tokens = {"pad_token_id": 0, "eos_token_id": 2, "forced_eos_token_id": 2, "decoder_start_token_id": 0}
    return MarianMTModel(MarianConfig(vocab_size=vocab_size, activation_function="relu", **tokens, **SIZES))


def build_trainer(
    side: str, model: Any, tokenizer: Any, corpus: Any, collator: Any, steps: int, callbacks: list[Any]
) -> Any:
    """Make our trainer with batches by tokens, or the stock one with batches by sentences."""
    common = {
        **{"output_dir": tempfile.mkdtemp(), "max_steps": steps, "learning_rate": 1e-3, "warmup_steps": 100},
        **{"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "logging_steps": steps},
    }
    if side == "ours":
        from hf_vanilla_transformer import VanillaTransformerTrainer
        from hf_vanilla_transformer.model.memory import keep_freed_memory
        from hf_vanilla_transformer.training.trainer_arguments import TranslationTrainingArguments

        keep_freed_memory()
        longest = max(len(ids) for ids in corpus[:1000]["labels"])
        args = TranslationTrainingArguments(max_tokens=PEER_BATCH * longest // 2, **common)
        return VanillaTransformerTrainer(
            model, args, train_dataset=corpus, processing_class=tokenizer, data_collator=collator, callbacks=callbacks
        )
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

    from hf_vanilla_transformer.training.precision import computes_bf16_fast

    args = Seq2SeqTrainingArguments(
        per_device_train_batch_size=PEER_BATCH, label_smoothing_factor=0.1, bf16=computes_bf16_fast(), **common
    )
    rows = corpus.select_columns(["input_ids", "labels"])
    return Seq2SeqTrainer(
        model, args, train_dataset=rows, processing_class=tokenizer, data_collator=collator, callbacks=callbacks
    )


def prepare_corpus(folder: str, source: str | None, target: str | None) -> None:
    """Train a tokenizer and encode the text, once for both sides."""
    from hf_vanilla_transformer import load_parallel_corpus, train_tokenizer
    from hf_vanilla_transformer.data.encoding import encode_corpus

    corpus = load_parallel_corpus(source, target, dataset_name=None if source else "builtin-fr-en")
    texts = [*corpus["source"], *corpus["target"]]
    tokenizer = train_tokenizer(texts, vocab_size=8000 if source else 2000)
    tokenizer.save_pretrained(folder)
    encode_corpus(corpus, tokenizer).save_to_disk(str(Path(folder) / "corpus"))


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Of `training`."""
    command.add_argument("--source", help="training text, source side (default: the built-in corpus)")
    command.add_argument("--target", help="training text, target side")
    command.add_argument("--steps", type=positive, default=30)


def measure_training(options: argparse.Namespace) -> dict[str, Any]:
    """Measure both sides in turn; return the ratio of their target tokens per second.

    Raises:
        ValueError: no step would be counted.
    """
    if options.steps <= SKIPPED_STEPS:
        raise ValueError(f"The first {SKIPPED_STEPS} steps are not counted: give --steps more than that.")
    with tempfile.TemporaryDirectory() as folder:
        prepare_corpus(folder, options.source, options.target)
        arguments = ["training", "--folder", folder, "--steps", str(options.steps)]
        runs = sides_in_turn(arguments, SIDES, options.rounds)
    speeds = [figures_of(runs[side], "target_tokens_per_second") for side in SIDES]
    ratio = ratios(*speeds)
    print(f"ours / Marian, target tokens per second: {ratio.text()}")
    return {"runs": runs, "ratio": ratio._asdict()}


def training_table(options: argparse.Namespace) -> Figures:
    """Measure a row per side."""
    source, target = options.source or (None, None)
    raw = measure_training(argparse.Namespace(**{**vars(options), "source": source, "target": target}))
    ratio = Spread(**raw["ratio"])
    speeds = {side: Spread.of(figures_of(raw["runs"][side], "target_tokens_per_second")) for side in SIDES}
    padding = {side: statistics.median(figures_of(raw["runs"][side], "padding_share")) for side in SIDES}
    text = "the user's text" if options.source else "the built-in corpus"
    precisions = {side: "/".join({run["precision"] for run in runs}) for side, runs in raw["runs"].items()}
    rows = [
        [
            TRAINERS[side],
            precisions[side],
            speeds[side].text(",.0f"),
            f"{padding[side]:.1%}",
            ratio.text() if side == "ours" else "1",
        ]
        for side in SIDES
    ]
    return Figures(
        ["trainer", "precision", "real target tokens per second", "padding of the targets", "ratio"],
        rows,
        f"The same sizes on both sides: 4 + 4 layers, d_model 256, dropout 0.3, label smoothing 0.1; {text}, "
        f"{options.steps} steps, of which the first {SKIPPED_STEPS} are not counted. The stock trainer's batches have "
        f"{PEER_BATCH} random sentences. {of_rounds(options.rounds)}",
        [("training speed, against `transformers`' Marian under the stock trainer", f"{ratio.text()} times")],
        raw,
    )
