"""Decoding against `transformers`' Marian and CTranslate2.

Both sides of a row have the same (converted) weights and number of threads. Each measurement runs in its own process,
which decodes the first 400 sentences once as a warm-up; sides alternate, A B A B ... A row is the peer's time divided
by ours, as the median of the rounds and their spread.

Without --model the weights are random, and both sides force 32 tokens per target, since random weights do not predict
a sensible end of sentence. With --against the peer of every row is another checkout of this project, by its own
script. The peer of a model with `normalize_before` is Pegasus, since Marian is post-norm.

  call     one `generate` of 32 sentences, beam 4; in bf16 and int8 one `Translator.translate` of them, whose weights
           are rounded when it is created
  opus     the same, with bad words, a forced end and renormalised logits, as in OPUS-MT folders
  sentence one sentence at a time, beam 4, by the same functions
  file     all sentences in file order, beam 4: here `Translator.translate`, Marian in batches of 32 in that order,
           CTranslate2 by `translate_batch` with `batch_type="tokens"`, which sorts by length itself

CTranslate2 ends a search when as many hypotheses as beams are finished; so do we in the rows against it
(`early_stopping=True`). In the rows against Marian both use its default. The length penalty is 1.0 everywhere.
"""

import argparse
import importlib.util
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .decoding_sides import BEAMS, CALL_SENTENCES, FORCED_TOKENS, LENGTH_PENALTY
from .markdown import Figures
from .rounds import SCRIPT, Spread, figures_of, in_a_process, of_rounds, positive, ratios
from .stock_models import to_stock_model

SIZES: dict[str, dict[str, Any]] = {
    "small": {
        **{"vocab_size": 8000, "d_model": 256, "encoder_layers": 4, "decoder_layers": 4},
        **{"encoder_attention_heads": 4, "decoder_attention_heads": 4},
        **{"encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024},
    },
    "base": {"vocab_size": 32000},
}
OF_SIZES = (
    f"*small* and *base* have random weights, and {FORCED_TOKENS} tokens in every target: 4 + 4 layers, d_model 256, "
    "vocabulary 8,000; and the paper's base model with vocabulary 32,000."
)
REPORTED = {"small": 200, "base": 64}  # sentences of a file


class Row(NamedTuple):
    """A comparison: its names for the command line and for display, and both sides."""

    workload: str
    precision: str
    peer: str
    what: str
    ours: str
    theirs: str


ROWS = {
    "call": Row(
        "call", "model", "marian float32", f"one `generate` of {CALL_SENTENCES} sentences", "fp32", "Marian fp32"
    ),
    "call in bf16": Row("call", "bf16", "marian bfloat16", "the same", "bf16", "Marian bf16"),
    "opus": Row("opus", "model", "marian float32", "the same with OPUS-MT's settings", "fp32", "Marian fp32"),
    "file": Row("file", "model", "marian float32", "a whole file", "fp32", "Marian fp32, 32 at a time"),
    "file, CTranslate2": Row(
        "file until full", "model", "ctranslate2 float32", "a whole file", "fp32", "CTranslate2 float32"
    ),
    "file, int8": Row("file until full", "int8", "ctranslate2 int8", "a whole file", "int8", "CTranslate2 int8"),
    "file, bf16 and int8": Row(
        "file until full", "bf16", "ctranslate2 int8", "a whole file", "bf16", "CTranslate2 int8"
    ),
    "sentence": Row("sentence", "model", "marian float32", "one sentence at a time", "fp32", "Marian fp32"),
    "sentence, int8": Row(
        "sentence until full", "int8", "ctranslate2 int8", "one sentence at a time", "int8", "CTranslate2 int8"
    ),
}
HEADLINES = {
    "call": "decoding one call, against `transformers`' Marian",
    "file": "decoding a file, against `transformers`' Marian",
    "file, CTranslate2": "decoding a file, against CTranslate2",
    "file, int8": "decoding a file in int8, against CTranslate2",
}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Of `decode`."""
    command.add_argument("--model", help="folder of a model, such as runs/mine (default: random weights)")
    command.add_argument(
        "--size", choices=list(SIZES), default="base", help="size of the random model (default: base)"
    )
    command.add_argument("--input", help="sentences, one per line (default: the built-in corpus' test set)")
    command.add_argument("--reference", help="their translations, to score both sides")
    command.add_argument(
        "--sentences", type=positive, default=1000, help="number of sentences to use (default: %(default)s)"
    )
    command.add_argument("--against", type=Path, metavar="DIR", help="another checkout of this project as the peer")
    command.add_argument(
        "--rows", nargs="+", choices=list(ROWS), default=list(ROWS), help="rows to measure (default: all)"
    )


def require_peers(rows: Sequence[str]) -> None:
    """Check that the peers of all rows are installed.

    Raises:
        ValueError: one is not; the message says how to install it.
    """
    if any("ctranslate2" in ROWS[name].peer for name in rows) and importlib.util.find_spec("ctranslate2") is None:
        raise ValueError(
            "Decoding is compared with CTranslate2, which is not installed. Install it with "
            "`pip install -e '.[conversion]'`."
        )


def prepare(options: argparse.Namespace, folder: Path) -> None:
    """Write the same weights in every format that a row needs, and the sentences."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    from hf_vanilla_transformer import to_ctranslate2
    from hf_vanilla_transformer.data.builtin import builtin_corpus
    from hf_vanilla_transformer.translation import load_model_and_tokenizer

    disable_progress_bar()
    sentences = _lines(options.input) if options.input else [source for source, _ in builtin_corpus("test")] * 2
    if options.model:
        model, tokenizer = load_model_and_tokenizer(options.model)
    else:
        torch.manual_seed(0)
        model, tokenizer = random_model(options.size, sentences)
    model.float().generation_config.update(max_length=None, num_beams=BEAMS, length_penalty=LENGTH_PENALTY)
    for name in ("gnmt_length_penalty", "max_extra_tokens"):
        if hasattr(model.generation_config, name):
            delattr(model.generation_config, name)
    model.save_pretrained(folder / "ours")
    tokenizer.save_pretrained(folder / "ours")
    tokenizer.save_pretrained(folder / "tokenizer")  # the peers load it without our package
    peers = set() if options.against else {tuple(ROWS[name].peer.split()) for name in options.rows}
    if "ctranslate2" in dict(peers) and not (folder / "tokenizer" / "tokenizer.json").is_file():
        raise ValueError(
            f"CTranslate2's side reads a tokenizer.json, but the tokenizer of {options.model} has none. Choose "
            "another model, or rows without CTranslate2 (`decode --rows`)."
        )
    for peer, form in peers:
        if peer == "ctranslate2":
            to_ctranslate2(model, tokenizer, folder / form, form)
        elif not (folder / peer).exists():
            to_stock_model(model).save_pretrained(folder / peer)
    work = {"sentences": sentences[: options.sentences], "forced": not options.model}
    (folder / "work.json").write_text(json.dumps(work), encoding="utf-8")


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").rstrip("\n").split("\n")


def random_model(size: str, sentences: list[str]) -> tuple[Any, Any]:
    """A model with fresh weights, and a tokenizer learned from the sentences."""
    from hf_vanilla_transformer import (
        VanillaTransformerConfig,
        VanillaTransformerForConditionalGeneration,
        train_tokenizer,
    )

    model = VanillaTransformerForConditionalGeneration(VanillaTransformerConfig(**SIZES[size])).eval()
    return model, train_tokenizer(sentences, vocab_size=500)


def measure_decoding(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every row, both sides in turn."""
    if options.against is None:
        require_peers(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        prepare(options, Path(folder))
        return {"rows": measure_rows(options, Path(folder))}


def measure_rows(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure every row from the files prepared in a folder."""
    rows = {}
    here = SCRIPT.parents[1]
    for name in options.rows:
        workload, precision, peer = ROWS[name][:3]
        sides = [(f"ours {precision}", here)]
        sides.append((peer, here) if options.against is None else (f"ours {precision}", options.against))
        runs: list[list[dict[str, Any]]] = [[], []]
        for _ in range(options.rounds):
            for (side, checkout), kept in zip(sides, runs, strict=True):
                arguments = ["decode", "--side", side, "--workload", workload, "--folder", str(folder)]
                kept.append(in_a_process(arguments, checkout))
        rows[name] = summarise(name, runs, options)
        print(as_line(rows[name]), flush=True)
    return rows


def summarise(name: str, runs: list[list[dict[str, Any]]], options: argparse.Namespace) -> dict[str, Any]:
    """Summarise seconds, the ratio with its spread, the share of equal translations, and BLEU if possible."""
    workload, precision, peer = ROWS[name][:3]
    seconds = [figures_of(side, "seconds") for side in runs]
    ours, theirs = (side[0]["translations"] for side in runs)
    row = {
        **{"row": name, "workload": workload, "ours": precision},
        "peer": peer if options.against is None else f"ours in {options.against}",
        **{"ours_seconds": statistics.median(seconds[0]), "peer_seconds": statistics.median(seconds[1])},
        "ratio": ratios(seconds[1], seconds[0])._asdict(),
        "same_translations": sum(one == other for one, other in zip(ours, theirs, strict=True)) / len(ours),
    }
    if options.reference and workload.startswith("file"):
        row["bleu"] = [_bleu(texts, _lines(options.reference)[: len(ours)]) for texts in (ours, theirs)]
    return row


def _bleu(hypotheses: list[str], references: list[str]) -> float:
    from hf_vanilla_transformer import evaluate_translations

    return evaluate_translations(hypotheses, references, metrics=("bleu",))["bleu"].value


def as_line(row: dict[str, Any]) -> str:
    """Format a row as readable text."""
    bleu = ", BLEU {:.2f} / {:.2f}".format(*row["bleu"]) if "bleu" in row else ""
    return (
        f"{row['row']:<20} ours {row['ours']:<6} {row['ours_seconds']:8.3f} s  {row['peer']:<20} "
        f"{row['peer_seconds']:8.3f} s  ratio {Spread(**row['ratio']).text()}, "
        f"{row['same_translations']:.1%} the same{bleu}"
    )


# The table


def decoding_table(options: argparse.Namespace) -> Figures:
    """Measure a column per model: two with random weights, and a trained one if the user gives one."""
    if bool(options.source) != bool(options.model):
        raise ValueError(
            "A trained model translates a text with references: give --model DIR and --source SRC REF, or neither."
        )
    common = {"rounds": options.rounds, "rows": list(ROWS), "against": None, "model": None, "size": None}
    columns = {
        size: {**common, "size": size, "input": None, "reference": None, "sentences": sentences}
        for size, sentences in REPORTED.items()
    }
    if options.source:
        texts = {"input": options.source[0], "reference": options.source[1]}
        columns["trained"] = {**common, **texts, "model": options.model, "sentences": options.sentences}
    measured, counts = {}, {}
    with tempfile.TemporaryDirectory() as place:
        for name, settings in columns.items():  # convert first: failures must show before the long work
            prepare(argparse.Namespace(**settings), Path(place, name))
        for name, settings in columns.items():
            print(f"{name}:", flush=True)
            measured[name] = measure_rows(argparse.Namespace(**settings), Path(place, name))
            work = json.loads(Path(place, name, "work.json").read_text(encoding="utf-8"))
            counts[name] = len(work["sentences"])
        pre_norm = bool(options.model) and _is_pre_norm(Path(place, "trained", "ours"))
    return decoding_figures(measured, counts, options.rounds, pre_norm)


def _is_pre_norm(model: Path) -> bool:
    return json.loads((model / "config.json").read_text(encoding="utf-8"))["normalize_before"]


def decoding_figures(
    measured: dict[str, dict[str, Any]], counts: dict[str, int], rounds: int, pre_norm: bool = False
) -> Figures:
    """Make the table.

    Args:
        measured: the rows of each column.
        counts: the number of sentences in each column's file.
        rounds: number of rounds per cell.
        pre_norm: whether the trained model is pre-norm.
    """
    of_trained = ["translations the same", "BLEU, ours / peer"] if "trained" in measured else []
    rows = []
    for name, row in ROWS.items():
        cells = [Spread(**of_column[name]["ratio"]).text() for of_column in measured.values()]
        if of_trained:
            trained = measured["trained"][name]
            bleu = "{:.1f} / {:.1f}".format(*trained["bleu"]) if "bleu" in trained else "–"
            cells += [f"{trained['same_translations']:.1%}", bleu]
        rows.append([row.what, row.ours, row.theirs, *cells])
    sentences = ", ".join(f"{count:,} ({name})" for name, count in counts.items())
    headlines = [
        (what, ", ".join(f"{Spread(**column[row]['ratio']).text()} ({name})" for name, column in measured.items()))
        for row, what in HEADLINES.items()
    ]
    notes = (
        f"The peer's time divided by ours. {of_rounds(rounds)} {OF_SIZES} "
        f"Sentences of a whole file: {sentences}. Beam {BEAMS}, `length_penalty` {LENGTH_PENALTY} everywhere. In the "
        "rows against Marian both sides end a search by its default, in those against CTranslate2 by CTranslate2's "
        "rule (`early_stopping=True`); CTranslate2 has its best batches and threads."
    )
    if of_trained:
        notes += " *trained* is the user's model, whose translations end by themselves; BLEU of whole files."
    if pre_norm:
        notes += " It has LayerNorm before each sub-layer, so its peer is Pegasus, a pre-norm Marian."
    return Figures(["what", "ours", "peer", *measured, *of_trained], rows, notes, headlines, {"columns": measured})
