"""Measure this package against `transformers`' Marian under the stock trainer, both sides in turn, as a ratio.

    python scripts/benchmark.py training

Each side trains the same sizes (4 + 4 layers, d_model 256, d_ff 1,024, vocabulary 8,000 or what the text allows,
dropout 0.3, label smoothing 0.1) on the same text in a process of its own, A B A B ...; the figure is real target
tokens per second, padding not counted. Without --source and --target the text is the built-in corpus.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = {
    **{"d_model": 256, "encoder_layers": 4, "decoder_layers": 4, "dropout": 0.3},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024},
}
PEER_BATCH = 128  # sentences drawn at random, as Seq2SeqTrainer does
SKIPPED_STEPS = 5  # the first steps allocate memory
SIDES = ("ours", "marian")


class CountingCollator:
    """Remembers the real target tokens and the padded size of every batch it made."""

    def __init__(self, collator: Any) -> None:
        self.collator = collator
        self.target_tokens: list[int] = []
        self.slots: list[int] = []

    def __call__(self, features: Any) -> Any:
        batch = self.collator(features)
        self.target_tokens.append(int(batch["labels"].ne(-100).sum()))
        self.slots.append(batch["labels"].numel())
        return batch


def train_side(side: str, corpus_folder: str, steps: int) -> dict[str, float]:
    """Train one side for some steps in this process; its target tokens per second and padding share."""
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
    build_trainer(side, model, tokenizer, corpus, collator, steps, [StepClock()]).train()
    counted = slice(SKIPPED_STEPS, steps)
    seconds = StepClock.times[steps] - StepClock.times[SKIPPED_STEPS]
    tokens, slots = sum(collator.target_tokens[counted]), sum(collator.slots[counted])
    return {"target_tokens_per_second": tokens / seconds, "padding_share": 1 - tokens / slots}


def build_model(side: str, vocab_size: int) -> Any:
    """The same sizes as our model or as Marian's."""
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
    """Our trainer with batches by tokens, or the stock one with batches by sentences."""
    common = {
        **{"output_dir": tempfile.mkdtemp(), "max_steps": steps, "learning_rate": 1e-3, "warmup_steps": 100},
        **{"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "logging_steps": steps},
    }
    if side == "ours":
        from hf_vanilla_transformer import VanillaTransformerTrainer
        from hf_vanilla_transformer.training.memory import keep_freed_memory
        from hf_vanilla_transformer.training.trainer_arguments import TranslationTrainingArguments

        keep_freed_memory()
        longest = max(len(ids) for ids in corpus[:1000]["labels"])
        args = TranslationTrainingArguments(max_tokens=PEER_BATCH * longest // 2, **common)
        return VanillaTransformerTrainer(
            model, args, train_dataset=corpus, processing_class=tokenizer, data_collator=collator, callbacks=callbacks
        )
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

    from hf_vanilla_transformer.training.trainer_arguments import computes_bf16_fast

    args = Seq2SeqTrainingArguments(
        per_device_train_batch_size=PEER_BATCH, label_smoothing_factor=0.1, bf16=computes_bf16_fast(), **common
    )
    rows = corpus.select_columns(["input_ids", "labels"])
    return Seq2SeqTrainer(
        model, args, train_dataset=rows, processing_class=tokenizer, data_collator=collator, callbacks=callbacks
    )


def prepare_corpus(folder: str, source: str | None, target: str | None) -> None:
    """Learn a tokenizer and encode the text, once for both sides."""
    from hf_vanilla_transformer import load_parallel_corpus, train_tokenizer
    from hf_vanilla_transformer.data.encoding import encode_corpus

    corpus = load_parallel_corpus(source, target, dataset_name=None if source else "builtin-fr-en")
    texts = [*corpus["source"], *corpus["target"]]
    tokenizer = train_tokenizer(texts, vocab_size=8000 if source else 2000)
    tokenizer.save_pretrained(folder)
    encode_corpus(corpus, tokenizer).save_to_disk(str(Path(folder) / "corpus"))


def compare(folder: str, steps: int, rounds: int) -> dict[str, Any]:
    """Both sides in turn, `rounds` times, each in its own process."""
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side in SIDES:
            command = [sys.executable, __file__, "training", "--side", side, "--folder", folder, "--steps", str(steps)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            runs[side].append(json.loads(output.strip().split("\n")[-1]))
            print(f"round {number + 1}, {side}: {runs[side][-1]}", flush=True)
    pairs = zip(*(runs[side] for side in SIDES), strict=True)
    ratios = [ours["target_tokens_per_second"] / peer["target_tokens_per_second"] for ours, peer in pairs]
    return {"runs": runs, "ratio": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)}}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch
    import transformers

    return {
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def main() -> int:
    """Parse, measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("what", choices=["training"])
    parser.add_argument("--source", help="training text, source side")
    parser.add_argument("--target", help="training text, target side")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", help="keep all figures in this JSON file")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(train_side(options.side, options.folder, options.steps)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        prepare_corpus(folder, options.source, options.target)
        result = {"machine": machine(), **compare(folder, options.steps, options.rounds)}
    ratio = result["ratio"]
    print(json.dumps(result["machine"]))
    print(f"ours / Marian, target tokens per second: {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})")
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
