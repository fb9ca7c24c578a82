"""Memory of a long translation: peak resident memory of `Translator.translate_lines`, and its speed.

The model has the quickstart's size and random weights, so translations are limited to two tokens more than their
sources; with --model it is the user's, whose translations end by themselves.
"""

import argparse
import itertools
import tempfile
import time
from typing import Any

from .markdown import Figures
from .rounds import in_a_process, positive, resident_mib

LINES = (10_000, 100_000)
EXTRA_TOKENS = 2
SIZES = {
    **{"d_model": 128, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 512, "decoder_ffn_dim": 512},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4},
}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Of `lines`."""
    command.add_argument("--model", help="folder of a model that translates from French (default: random weights)")
    command.add_argument(
        "--lines", type=positive, nargs="+", default=list(LINES), help="numbers of lines, each in a new process"
    )


def prepare(folder: str) -> None:
    """Save a model with random weights, and a tokenizer trained on the built-in corpus."""
    import torch

    from hf_vanilla_transformer import (
        VanillaTransformerConfig,
        VanillaTransformerForConditionalGeneration,
        train_tokenizer,
    )
    from hf_vanilla_transformer.data.builtin import builtin_corpus

    torch.manual_seed(0)
    tokenizer = train_tokenizer([side for pair in builtin_corpus("train") for side in pair], vocab_size=2000)
    config = VanillaTransformerConfig(vocab_size=len(tokenizer), **SIZES)
    model = VanillaTransformerForConditionalGeneration(config).eval()
    model.generation_config.num_beams = 4
    model.generation_config.max_extra_tokens = EXTRA_TOKENS  # `update` drops settings that transformers does not know
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def translate(model: str, count: int) -> dict[str, float]:
    """Translate in this process; return resident memory before and at the peak, and lines per second."""
    from hf_vanilla_transformer import Translator
    from hf_vanilla_transformer.data.builtin import builtin_corpus

    sources = [source for source, _ in builtin_corpus("train")]
    translator = Translator.from_pretrained(model, device="cpu")
    before, start = resident_mib("VmRSS"), time.perf_counter()
    lines = itertools.islice(itertools.cycle(sources), count)
    translated = sum(1 for _ in translator.translate_lines(lines))
    seconds = time.perf_counter() - start
    assert translated == count
    return {"before_mib": before, "peak_mib": resident_mib("VmHWM"), "lines_per_second": count / seconds}


def measure_lines(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every number of lines in its own process."""
    with tempfile.TemporaryDirectory() as place:
        if options.model is None:
            prepare(place)
        rows = {}
        for count in options.lines:
            arguments = ["lines", "--side", "ours", "--model", options.model or place, "--lines", str(count)]
            rows[count] = in_a_process(arguments)
            print(f"{count:,} lines: {rows[count]}", flush=True)
    return {"rows": rows}


def lines_table(options: argparse.Namespace) -> Figures:
    """Measure a row per number of lines."""
    raw = measure_lines(options)
    rows = [
        [f"{count:,}", f"{run['before_mib']:,.0f}", f"{run['peak_mib']:,.0f}", f"{run['lines_per_second']:,.0f}"]
        for count, run in raw["rows"].items()
    ]
    weights = (
        "a model of the quickstart's size with random weights, whose translations have at most "
        f"{EXTRA_TOKENS} tokens more than their sources"
        if options.model is None
        else "a trained model"
    )
    return Figures(
        ["lines", "resident before, MiB", "at the peak, MiB", "lines per second"],
        rows,
        f"`Translator.translate_lines`, beam 4, on repeated French sentences of the built-in corpus; {weights}. "
        "One round, each row in its own process.",
        [
            (f"memory of translating {row[0]} lines", f"{row[2]} MiB at the peak, {row[3]} lines per second")
            for row in rows[-1:]
        ],
        raw,
    )
