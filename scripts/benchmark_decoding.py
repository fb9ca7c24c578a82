"""Measure decoding against `transformers`' Marian and CTranslate2, and what a start costs.

    python scripts/benchmark.py decode
    python scripts/benchmark.py decode --model runs/mine --input test.en --reference test.de
    python scripts/benchmark.py decode --against ../an-earlier-checkout
    python scripts/benchmark.py startup
    python scripts/benchmark.py check

Both sides of a row have the same weights, by conversion, and as many threads; each measurement is a process of its
own, which decodes the first 400 sentences once before its time is taken, in turn, A B A B ...; a row is the peer's
time divided by ours, as the median of the rounds and their spread.
Without --model the weights are those of the paper's base model at vocabulary 32,000, at random; every target then has
32 tokens, by the settings of both sides, since random weights end nowhere in particular.

`check` times what every call of `generate` pays to know whether the fast path computes it, at the paper's base size,
as a share of greedy decoding of one sentence to 8 tokens, a very short call, and of 32 sentences with 4 beams.

With --against the peer of every row is another checkout of this project, by its own script.

  call     one `generate` of 32 sentences, beam 4; in bf16 and int8 one `Translator.translate` of them, whose weights
           are rounded when it is made
  opus     the same, with bad words, a forced end and renormalised logits, as OPUS-MT folders ask for
  sentence one sentence after the other, beam 4, likewise
  file     all sentences in file order, beam 4: here `Translator.translate`, Marian in batches of 32 in that order,
           CTranslate2 by `translate_batch` with `batch_type="tokens"`, which sorts by length itself

CTranslate2 runs in the best of several ways, found before its time is taken: all threads for one batch or one thread a
batch, and for `file` batches of 1,024, 1,536 or 2,048 tokens. It ends a search when as many hypotheses as beams are
finished; in the rows against it, so do we (`early_stopping=True`), in those against Marian both decode by its default.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEAMS, CALL_SENTENCES, LONE_SENTENCES, FORCED_TOKENS = 4, 32, 12, 32
WARM_UP_SENTENCES = 400
ROWS = {  # workload, our precision, peer
    "call": ("call", "model", "marian float32"),
    "call in bf16": ("call", "bf16", "marian bfloat16"),
    "opus": ("opus", "model", "marian float32"),
    "file": ("file", "model", "marian float32"),
    "file, CTranslate2": ("file until full", "model", "ctranslate2 float32"),
    "file, int8": ("file until full", "int8", "ctranslate2 int8"),
    "file, bf16 and int8": ("file until full", "bf16", "ctranslate2 int8"),
    "sentence": ("sentence", "model", "marian float32"),
    "sentence, int8": ("sentence until full", "int8", "ctranslate2 int8"),
}
IMPORTS = {"ours": "import hf_vanilla_transformer", "theirs": "from transformers import PreTrainedModel"}
EXTRA_SETTINGS: dict[str, dict[str, Any]] = {
    "opus": {"bad_words_ids": [[3]], "renormalize_logits": True, "forced_eos_token_id": 2},
    # CTranslate2's way to end a search
    "file until full": {"early_stopping": True},
    "sentence until full": {"early_stopping": True},
}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Of `decode`."""
    command.add_argument(
        "--model", help="folder of a model that Marian can express; random base-size weights if not given"
    )
    command.add_argument("--input", help="sentences, one a line; the built-in corpus' test set if not given")
    command.add_argument("--reference", help="their translations, to score both sides")
    command.add_argument("--sentences", type=int, default=1000, help="of the file (default: %(default)s)")
    command.add_argument("--against", type=Path, metavar="DIR", help="another checkout of this project as the peer")
    command.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), help="all if not given")


# One side, in a process of its own


def run_side(side: str, workload: str, folder: Path) -> dict[str, Any]:
    """Load a side and time its workload; seconds, and the translations of a file."""
    work = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    name, precision = side.split()
    forced = work["forced"]
    decode = {"ours": _ours, "marian": _marian, "ctranslate2": _ctranslate2}[name](folder, precision, workload, forced)
    sentences = work["sentences"]
    if workload.startswith("sentence"):
        chosen = sentences[:: max(1, len(sentences) // LONE_SENTENCES)][:LONE_SENTENCES]
    else:
        chosen = sentences if workload.startswith("file") else sentences[:CALL_SENTENCES]
    decode(chosen[:WARM_UP_SENTENCES])  # memory, kernels, threads; of CTranslate2 the best way
    start = time.perf_counter()
    translations = decode(chosen)
    return {"seconds": time.perf_counter() - start, "translations": translations}


def _settings(forced: bool, workload: str) -> dict[str, Any]:
    lengths = {"min_new_tokens": FORCED_TOKENS, "max_new_tokens": FORCED_TOKENS} if forced else {"max_new_tokens": 200}
    return {"num_beams": BEAMS, "length_penalty": 1.0, **lengths, **EXTRA_SETTINGS.get(workload, {})}


def _batched_generate(model: Any, tokenizer: Any, settings: dict[str, Any], size: int) -> Callable[..., list[str]]:
    import torch

    @torch.inference_mode()
    def decode(sentences: list[str]) -> list[str]:
        translations = []
        for start in range(0, len(sentences), size):
            batch = tokenizer(sentences[start : start + size], padding=True, return_tensors="pt")
            ids = model.generate(batch.input_ids, attention_mask=batch.attention_mask, **settings)
            translations += tokenizer.batch_decode(ids, skip_special_tokens=True)
        return translations

    return decode


def _ours(folder: Path, precision: str, workload: str, forced: bool) -> Callable[[list[str]], list[str]]:
    from hf_vanilla_transformer import Translator

    translator = Translator.from_pretrained(folder / "ours", device="cpu", precision=precision)
    settings = _settings(forced, workload)
    if workload.startswith("file"):
        return lambda sentences: [t.text for t in translator.translate(sentences, **settings)]
    size = 1 if workload.startswith("sentence") else CALL_SENTENCES
    if precision != "model":

        def by_snapshot(sentences: list[str]) -> list[str]:
            batches = [sentences[start : start + size] for start in range(0, len(sentences), size)]
            return [t.text for batch in batches for t in translator.translate(batch, **settings)]

        return by_snapshot
    return _batched_generate(translator.model, translator.tokenizer, settings, size)


def _marian(folder: Path, precision: str, workload: str, forced: bool) -> Callable[[list[str]], list[str]]:
    import torch
    from transformers import AutoTokenizer, MarianMTModel

    model = MarianMTModel.from_pretrained(folder / "marian").to(getattr(torch, precision)).eval()
    size = 1 if workload.startswith("sentence") else CALL_SENTENCES
    return _batched_generate(
        model, AutoTokenizer.from_pretrained(folder / "tokenizer"), _settings(forced, workload), size
    )


def _ctranslate2(folder: Path, precision: str, workload: str, forced: bool) -> Callable[[list[str]], list[str]]:
    import ctranslate2
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    threads = os.cpu_count() or 1
    of_threads = [
        {"intra_threads": threads},
        {"inter_threads": threads if workload.startswith("file") else 1, "intra_threads": 1},
    ]
    translators = [
        ctranslate2.Translator(str(folder / precision), compute_type=precision, **way) for way in of_threads
    ]
    budgets = (1024, 1536, 2048) if workload.startswith("file") else (0,)
    ways = [(translator, budget) for translator in translators for budget in budgets]
    lengths = (FORCED_TOKENS, FORCED_TOKENS) if forced else (1, 200)

    def by(translator: Any, budget: int, sentences: list[str]) -> list[str]:
        source = [tokenizer.convert_ids_to_tokens(ids) for ids in tokenizer(sentences).input_ids]
        batches = {"max_batch_size": budget, "batch_type": "tokens"} if workload.startswith("file") else {}
        results = translator.translate_batch(
            source,
            beam_size=BEAMS,
            length_penalty=1.0,
            min_decoding_length=lengths[0],
            max_decoding_length=lengths[1],
            **batches,
        )
        ids = [tokenizer.convert_tokens_to_ids(result.hypotheses[0]) for result in results]
        # random weights also say rows of the vocabulary that the tokenizer has no token for
        ids = [[0 if token is None else token for token in row] for row in ids]
        return tokenizer.batch_decode(ids, skip_special_tokens=True)

    def decode(way: tuple[Any, int], sentences: list[str]) -> list[str]:
        if workload.startswith("sentence"):
            return [by(*way, [sentence])[0] for sentence in sentences]
        return by(*way, sentences)

    def choose_then_decode(sentences: list[str]) -> list[str]:
        """The first, uncounted call finds the best way."""
        if len(ways) > 1:
            seconds = []
            for way in ways:
                decode(way, sentences)
                start = time.perf_counter()
                decode(way, sentences)
                seconds.append(time.perf_counter() - start)
            ways[:] = [ways[seconds.index(min(seconds))]]
        return decode(ways[0], sentences)

    return choose_then_decode


# All sides


def prepare(options: argparse.Namespace, folder: Path) -> None:
    """The same weights in every format, and the sentences."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    from hf_vanilla_transformer import to_ctranslate2, to_marian
    from hf_vanilla_transformer.data.builtin import builtin_corpus
    from hf_vanilla_transformer.translation import load_model_and_tokenizer

    disable_progress_bar()
    if options.input:
        sentences = Path(options.input).read_text(encoding="utf-8").rstrip("\n").split("\n")
    else:
        sentences = [source for source, _ in builtin_corpus("test")] * 2
    if options.model:
        model, tokenizer = load_model_and_tokenizer(options.model)
    else:
        torch.manual_seed(0)
        model, tokenizer = random_base_model(sentences)
    model.generation_config.update(max_length=None, num_beams=BEAMS, length_penalty=1.0)
    for name in ("gnmt_length_penalty", "max_extra_tokens"):
        if hasattr(model.generation_config, name):
            delattr(model.generation_config, name)
    model.save_pretrained(folder / "ours")
    tokenizer.save_pretrained(folder / "ours")
    tokenizer.save_pretrained(folder / "tokenizer")  # the peers load it without our package
    to_marian(model).save_pretrained(folder / "marian")
    for quantization in ("float32", "int8"):
        to_ctranslate2(model, tokenizer, folder / quantization, quantization)
    work = {"sentences": sentences[: options.sentences], "forced": not options.model}
    (folder / "work.json").write_text(json.dumps(work), encoding="utf-8")


def random_base_model(sentences: list[str]) -> tuple[Any, Any]:
    """The paper's base model with fresh weights, and a tokenizer learned from the sentences."""
    from hf_vanilla_transformer import (
        VanillaTransformerConfig,
        VanillaTransformerForConditionalGeneration,
        train_tokenizer,
    )

    tokenizer = train_tokenizer(sentences, vocab_size=500)
    return VanillaTransformerForConditionalGeneration(VanillaTransformerConfig(vocab_size=32000)).eval(), tokenizer


def measure_decoding(options: argparse.Namespace) -> dict[str, Any]:
    """Every row, both sides in turn."""
    rows = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(options, folder)
        for name in options.rows:
            workload, precision, peer = ROWS[name]
            runs: list[list[dict[str, Any]]] = [[], []]
            sides = [(f"ours {precision}", Path(__file__).parents[1])]
            sides.append((peer, sides[0][1]) if options.against is None else (f"ours {precision}", options.against))
            for _ in range(options.rounds):
                for (side, checkout), kept in zip(sides, runs, strict=True):
                    kept.append(_in_a_process(side, workload, folder, checkout))
            rows[name] = summarise(name, runs, options)
            print(as_line(rows[name]), flush=True)
    return {"rows": rows}


def _in_a_process(side: str, workload: str, folder: Path, checkout: Path) -> dict[str, Any]:
    script = checkout / "scripts" / "benchmark.py"
    command = [sys.executable, str(script), "decode", "--side", side, "--workload", workload, "--folder", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{side} failed on {workload}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().split("\n")[-1])


def summarise(name: str, runs: list[list[dict[str, Any]]], options: argparse.Namespace) -> dict[str, Any]:
    """Seconds, the ratio with its spread, how many translations agree, and scores if there are references."""
    workload, precision, peer = ROWS[name]
    seconds = [[run["seconds"] for run in side] for side in runs]
    ratios = [theirs / ours for ours, theirs in zip(*seconds, strict=True)]
    ours, theirs = (side[0]["translations"] for side in runs)
    row = {
        **{
            "row": name,
            "workload": workload,
            "ours": precision,
            "peer": peer if options.against is None else f"ours in {options.against}",
        },
        **{"ours_seconds": statistics.median(seconds[0]), "peer_seconds": statistics.median(seconds[1])},
        "ratio": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
        "same_translations": sum(one == other for one, other in zip(ours, theirs, strict=True)) / len(ours),
    }
    if options.reference and workload.startswith("file"):
        from hf_vanilla_transformer import evaluate_translations

        references = Path(options.reference).read_text(encoding="utf-8").split("\n")[: len(ours)]
        row["bleu"] = [
            round(evaluate_translations(texts, references, metrics=("bleu",))["bleu"].value, 2)
            for texts in (ours, theirs)
        ]
    return row


def as_line(row: dict[str, Any]) -> str:
    """A row for people."""
    ratio = row["ratio"]
    bleu = f", BLEU {row['bleu'][0]} / {row['bleu'][1]}" if "bleu" in row else ""
    return (
        f"{row['row']:<20} ours {row['ours']:<6} {row['ours_seconds']:8.3f} s  {row['peer']:<20} "
        f"{row['peer_seconds']:8.3f} s  ratio {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}), "
        f"{row['same_translations']:.1%} the same{bleu}"
    )


# Starting


def measure_startup(options: argparse.Namespace) -> dict[str, Any]:
    """The import, and a first translation from a cold process."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare_small(folder)
        rows = {}
        script = str(Path(__file__).with_name("benchmark.py"))
        pairs = {
            "import": [[sys.executable, "-c", code] for code in IMPORTS.values()],
            "first translation": [
                [sys.executable, script, "startup", "--side", side, "--folder", str(folder)]
                for side in ("ours", "marian")
            ],
        }
        for name, commands in pairs.items():
            seconds: list[list[float]] = [[], []]
            for round_number in range(options.rounds + 1):
                for command, kept in zip(commands, seconds, strict=True):
                    start = time.perf_counter()
                    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
                    if round_number:  # the first fills the system's caches
                        kept.append(time.perf_counter() - start)
            ratios = [ours / theirs for ours, theirs in zip(*seconds, strict=True)]
            rows[name] = {
                **{"ours_seconds": statistics.median(seconds[0]), "peer_seconds": statistics.median(seconds[1])},
                "ratio": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
            }
            ratio, (ours, theirs) = rows[name]["ratio"], map(statistics.median, seconds)
            print(
                f"{name:<18} ours {ours:.3f} s, theirs {theirs:.3f} s, "
                f"ours / theirs {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})",
                flush=True,
            )
    return {"rows": rows}


def prepare_small(folder: Path) -> None:
    """A small model of ours, sealed by a manifest, and the same weights as Marian's."""
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
    """What a user's first lines do: load, translate one sentence."""
    if side == "ours":
        import hf_vanilla_transformer  # noqa: F401
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model, tokenizer = (auto.from_pretrained(folder / side) for auto in (AutoModelForSeq2SeqLM, AutoTokenizer))
    batch = tokenizer(["où est la gare ?"], return_tensors="pt")
    model.generate(batch.input_ids, attention_mask=batch.attention_mask)


# The check


def measure_check(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of settling and admitting a call, and its share of a short and of a usual call."""
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
