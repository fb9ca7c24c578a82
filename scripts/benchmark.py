"""Measure this package against what it replaces, both sides in turn, as a ratio.

    python scripts/benchmark.py training
    python scripts/benchmark.py memory
    python scripts/benchmark.py decode
    python scripts/benchmark.py startup
    python scripts/benchmark.py check

Every measurement is a process of its own, A B A B ...

`training`, against `transformers`' Marian under the stock trainer: each side trains the same sizes (4 + 4 layers,
d_model 256, d_ff 1,024, vocabulary 8,000 or what the text allows, dropout 0.3, label smoothing 0.1) on the same text;
the figure is real target tokens per second, padding not counted. Without --source and --target the text is the
built-in corpus.

`memory`, our trainer against the stock one with `label_smoothing_factor`: each side trains the same model on the same
batch for two steps, the second with the optimizer's state in place, on the processor; the figure is the peak of
resident memory less what was resident before the first step.

`decode`, `startup` and `check`: see `benchmark_decoding.py`.
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

import benchmark_decoding

SIZES = {
    **{"d_model": 256, "encoder_layers": 4, "decoder_layers": 4, "dropout": 0.3},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024},
}
PEER_BATCH = 128  # sentences drawn at random, as Seq2SeqTrainer does
SKIPPED_STEPS = 5  # the first steps allocate memory
SIDES = {"training": ("ours", "marian"), "memory": ("ours", "stock")}
FIGURES = {"training": "target_tokens_per_second", "memory": "peak_mib"}
SENTENCE_LENGTH = 64  # of every sentence in the batch whose memory is measured


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
    """Learn a tokenizer and encode the text, once for both sides."""
    from hf_vanilla_transformer import load_parallel_corpus, train_tokenizer
    from hf_vanilla_transformer.data.encoding import encode_corpus

    corpus = load_parallel_corpus(source, target, dataset_name=None if source else "builtin-fr-en")
    texts = [*corpus["source"], *corpus["target"]]
    tokenizer = train_tokenizer(texts, vocab_size=8000 if source else 2000)
    tokenizer.save_pretrained(folder)
    encode_corpus(corpus, tokenizer).save_to_disk(str(Path(folder) / "corpus"))


def memory_of_side(side: str, options: argparse.Namespace) -> dict[str, float]:
    """Train one side for two steps in this process; the MiB that became resident at the peak."""
    import torch

    torch.manual_seed(0)
    trainer = build_memory_trainer(side, options)
    before = resident_mib("VmRSS")
    trainer.train()
    return {"peak_mib": round(resident_mib("VmHWM") - before, 1), "before_mib": round(before, 1)}


def build_memory_trainer(side: str, options: argparse.Namespace) -> Any:
    """Our trainer or the stock one, on one batch of sentences of equal length."""
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
    """The model of both sides, in the proportions of the paper: heads of 64, feed-forward networks 4 times d_model."""
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


def resident_mib(field: str) -> float:
    """Resident memory of this process now (`VmRSS`) or at its peak (`VmHWM`), in MiB."""
    status = Path("/proc/self/status")
    if not status.exists():
        raise SystemExit("`memory` reads the resident memory of a process from /proc, which only Linux has.")
    lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
    return int(lines[field].split()[0]) / 1024


def compare(what: str, arguments: list[str], rounds: int) -> dict[str, Any]:
    """Both sides in turn, `rounds` times, each in its own process."""
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES[what]}
    for number in range(rounds):
        for side in runs:
            command = [sys.executable, __file__, what, "--side", side, *arguments]
            output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            runs[side].append(json.loads(output.strip().split("\n")[-1]))
            print(f"round {number + 1}, {side}: {runs[side][-1]}", flush=True)
    ratios = [ours[FIGURES[what]] / peer[FIGURES[what]] for ours, peer in zip(*runs.values(), strict=True)]
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


def parser() -> argparse.ArgumentParser:
    """One sub-command for each thing measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    commands = parser.add_subparsers(dest="what", required=True)
    training = commands.add_parser("training", help="target tokens per second, against Marian and the stock trainer")
    training.add_argument("--source", help="training text, source side")
    training.add_argument("--target", help="training text, target side")
    training.add_argument("--steps", type=int, default=30)
    training.add_argument("--folder", help=argparse.SUPPRESS)
    memory = commands.add_parser("memory", help="peak memory of a training step, against the stock trainer")
    memory.add_argument("--vocab_size", type=int, default=37000)
    memory.add_argument("--tokens", type=int, default=4096, help="target tokens of the batch")
    memory.add_argument("--d_model", type=int, default=SIZES["d_model"])
    memory.add_argument("--layers", type=int, default=SIZES["encoder_layers"], help="of each side")
    memory.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    decode = commands.add_parser("decode", help="decoding, against Marian and CTranslate2")
    benchmark_decoding.add_arguments(decode)
    decode.add_argument("--workload", help=argparse.SUPPRESS)
    startup = commands.add_parser("startup", help="import and first translation, against transformers and Marian")
    check = commands.add_parser("check", help="what every call pays to know that it may be decoded fast")
    for command in (training, memory, decode, startup, check):
        command.add_argument("--rounds", type=int, default=3)
        command.add_argument("--output", help="keep all figures in this JSON file")
        command.add_argument("--side", help=argparse.SUPPRESS)
    for command in (decode, startup):
        command.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


def measure_training(options: argparse.Namespace) -> dict[str, Any]:
    """The ratio of target tokens per second."""
    with tempfile.TemporaryDirectory() as folder:
        prepare_corpus(folder, options.source, options.target)
        return compare("training", ["--folder", folder, "--steps", str(options.steps)], options.rounds)


def measure_memory(options: argparse.Namespace) -> dict[str, Any]:
    """The ratio of peak memory."""
    names = ("vocab_size", "tokens", "d_model", "layers", "precision")
    return compare("memory", [f"--{name}={getattr(options, name)}" for name in names], options.rounds)


def main() -> int:
    """Parse, measure, print and keep."""
    options = parser().parse_args()
    if options.side and options.what == "training":
        print(json.dumps(train_side(options.side, options.folder, options.steps)))
        return 0
    if options.side and options.what == "memory":
        print(json.dumps(memory_of_side(options.side, options)))
        return 0
    if options.side and options.what == "decode":
        print(json.dumps(benchmark_decoding.run_side(options.side, options.workload, options.folder)))
        return 0
    if options.side:
        benchmark_decoding.start_side(options.side, options.folder)
        return 0
    measure = {
        "training": measure_training,
        "memory": measure_memory,
        "decode": benchmark_decoding.measure_decoding,
        "startup": benchmark_decoding.measure_startup,
        "check": benchmark_decoding.measure_check,
    }[options.what]
    result = {"machine": machine(), **measure(options)}
    print(json.dumps(result["machine"]))
    title = {
        "training": "ours / Marian, target tokens per second",
        "memory": "ours / stock trainer, peak memory of a training step",
    }.get(options.what)
    if title is not None:
        ratio = result["ratio"]
        print(f"{title}: {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})")
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
