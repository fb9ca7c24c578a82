"""The cost of starting, and the cost per call of `generate` of checking whether the fast path applies.

The check is timed at the paper's base size, as a share of greedy decoding of one sentence to 8 tokens, a very short
call, and of decoding 32 sentences with 4 beams.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .decoding_sides import BEAMS, CALL_SENTENCES
from .markdown import Figures
from .rounds import SCRIPT, Spread, of_rounds, ratios

STARTS = {  # row: what is compared, with what
    "import": ("`import hf_vanilla_transformer`", "`from transformers import PreTrainedModel`"),
    "first translation": ("a first translation in a new process", "the same with Marian"),
    "help": ("`vanilla-transformer --help`", "`python -c pass`"),
    "help of translate": ("`vanilla-transformer translate --help`", "`python -c pass`"),
}


def commands_of(row: str, folder: Path) -> list[list[str]]:
    """The command of each side of a row."""
    if row == "import":
        code = ("import hf_vanilla_transformer", "from transformers import PreTrainedModel")
        return [[sys.executable, "-c", line] for line in code]
    if row == "first translation":
        start = [sys.executable, str(SCRIPT), "startup", "--folder", str(folder), "--side"]
        return [[*start, side] for side in ("ours", "marian")]
    command = ["translate"] if row == "help of translate" else []
    return [
        [sys.executable, "-m", "hf_vanilla_transformer", *command, "--help"],
        [sys.executable, "-c", "pass"],
    ]


def measure_startup(options: argparse.Namespace) -> dict[str, Any]:
    """Time every start, both sides in turn."""
    rows = {}
    with tempfile.TemporaryDirectory() as place:
        prepare_small(Path(place))
        for name in STARTS:
            commands = commands_of(name, Path(place))
            seconds: list[list[float]] = [[], []]
            for round_number in range(options.rounds + 1):
                for command, kept in zip(commands, seconds, strict=True):
                    spent = _seconds_of(command)
                    if round_number:  # the first round fills the system's caches
                        kept.append(spent)
            rows[name] = {"seconds": seconds, "ratio": ratios(*seconds)._asdict()}
            ours, theirs = map(Spread.of, seconds)
            ratio = Spread(**rows[name]["ratio"])
            print(
                f"{name:<18} ours {ours.median:.3f} s, theirs {theirs.median:.3f} s, ours / theirs {ratio.text()}",
                flush=True,
            )
    return {"rows": rows}


def _seconds_of(command: list[str]) -> float:
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"`{shlex.join(command)}` failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - start


def startup_table(options: argparse.Namespace) -> Figures:
    """Measure a row per start."""
    raw = measure_startup(options)
    rows, medians = [], {}
    for name, (ours, theirs) in STARTS.items():
        spreads = [Spread.of(seconds) for seconds in raw["rows"][name]["seconds"]]
        medians[name] = spreads[0].median
        ratio = Spread(**raw["rows"][name]["ratio"])
        rows.append([ours, spreads[0].text(), theirs, spreads[1].text(), ratio.text()])
    headlines = [
        (STARTS[name][0], f"{medians[name]:.2f} s, {Spread(**raw['rows'][name]['ratio']).text()} of {STARTS[name][1]}")
        for name in ("import", "first translation")
    ]
    return Figures(
        ["what", "seconds", "compared with", "its seconds", "ratio"],
        rows,
        "Each in its own process, with its files in the system's cache; the first translation loads a model of 4 + 4 "
        f"layers, d_model 256, and checks its manifest. {of_rounds(options.rounds)}",
        [*headlines, (STARTS["help"][0], f"{medians['help']:.2f} s")],
        raw,
    )


def prepare_small(folder: Path) -> None:
    """Save a small model of ours with a manifest, and the same weights as a Marian model."""
    import torch

    from hf_vanilla_transformer import (
        VanillaTransformerConfig,
        VanillaTransformerForConditionalGeneration,
        to_marian,
        train_tokenizer,
    )
    from hf_vanilla_transformer.data.builtin import builtin_corpus
    from hf_vanilla_transformer.model.manifest import write_manifest

    torch.manual_seed(0)
    tokenizer = train_tokenizer([source for source, _ in builtin_corpus("test")], vocab_size=500)
    config = VanillaTransformerConfig(
        vocab_size=len(tokenizer), d_model=256, encoder_layers=4, decoder_layers=4, encoder_ffn_dim=1024,
        decoder_ffn_dim=1024, encoder_attention_heads=4, decoder_attention_heads=4,
    )  # fmt: skip
    model = VanillaTransformerForConditionalGeneration(config).eval()
    model.generation_config.update(num_beams=BEAMS, max_length=20)
    for name, saved in (("ours", model), ("marian", to_marian(model))):
        saved.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    write_manifest(folder / "ours")


def start_side(side: str, folder: Path) -> None:
    """Do what a user's first lines do: load a model, translate one sentence."""
    if side == "ours":
        import hf_vanilla_transformer  # noqa: F401
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model, tokenizer = (auto.from_pretrained(folder / side) for auto in (AutoModelForSeq2SeqLM, AutoTokenizer))
    batch = tokenizer(["où est la gare ?"], return_tensors="pt")
    model.generate(batch.input_ids, attention_mask=batch.attention_mask)


def measure_check(options: argparse.Namespace) -> dict[str, Any]:
    """Time the check of a call in milliseconds, and as a share of a short and of a typical call."""
    import torch

    from hf_vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration
    from hf_vanilla_transformer.model.fast_path import Call

    model = VanillaTransformerForConditionalGeneration(VanillaTransformerConfig(vocab_size=32000)).eval()
    rows = {}
    for name, sentences, beams, tokens in (("one sentence", 1, 1, 8), ("32 sentences", CALL_SENTENCES, BEAMS, 32)):
        ids = torch.randint(3, 32000, (sentences, 20))
        given = {"inputs": ids, "num_beams": beams, "min_new_tokens": tokens, "max_new_tokens": tokens}
        whole = _times(lambda given=given: model.generate(**given), options.rounds)
        check = _times(lambda given=given: Call(model, given), 20 * options.rounds)
        rows[name] = {"check_seconds": statistics.median(check), "share": statistics.median(check) / min(whole)}
        print(
            f"{name:<14} the check takes {1000 * rows[name]['check_seconds']:.2f} ms "
            f"({1000 * min(check):.2f} to {1000 * max(check):.2f}), {rows[name]['share']:.2%} of the call",
            flush=True,
        )
    return {"rows": rows}


def _times(work: Callable[[], Any], rounds: int) -> list[float]:
    work()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


def check_table(options: argparse.Namespace) -> Figures:
    """Measure a row per call."""
    raw = measure_check(options)
    rows = [[name, f"{1000 * row['check_seconds']:.2f}", f"{row['share']:.2%}"] for name, row in raw["rows"].items()]
    return Figures(
        ["call", "milliseconds of the check", "share of the call"],
        rows,
        "The cost per call of `generate` of checking whether the fast path applies, at the paper's base size: one "
        f"sentence decoded greedily to 8 tokens, and {CALL_SENTENCES} sentences with {BEAMS} beams to 32 tokens. "
        f"Median of {20 * options.rounds} checks, share of the fastest of {options.rounds} calls.",
        [("the check of every call", f"{rows[-1][1]} ms, {rows[-1][2]} of a call of {CALL_SENTENCES} sentences")],
        raw,
    )
