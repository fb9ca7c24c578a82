"""One side of a decoding benchmark: load a model in its format, decode a workload, report the seconds.

CTranslate2 runs with the best of several settings, found before timing in the first round of a row: all threads for
one batch or one thread per batch, and for a file batches of 1,024 or 2,048 tokens, or all or half of a short one.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

BEAMS, CALL_SENTENCES, LONE_SENTENCES, FORCED_TOKENS = 4, 32, 12, 32
LENGTH_PENALTY = 1.0  # on both sides
WARM_UP_SENTENCES = 400


EXTRA_SETTINGS: dict[str, dict[str, Any]] = {
    "opus": {"bad_words_ids": [[3]], "renormalize_logits": True, "forced_eos_token_id": 2},
    # CTranslate2's stopping rule
    "file until full": {"early_stopping": True},
    "sentence until full": {"early_stopping": True},
}


def run_side(side: str, workload: str, folder: Path) -> dict[str, Any]:
    """Load a side and time its workload; return seconds, and the translations of a file."""
    work = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    name, precision = side.split()
    forced = work["forced"]
    decode = {"ours": _ours, "marian": _marian, "ctranslate2": _ctranslate2}[name](folder, precision, workload, forced)
    sentences = work["sentences"]
    if workload.startswith("sentence"):
        chosen = sentences[:: max(1, len(sentences) // LONE_SENTENCES)][:LONE_SENTENCES]
    else:
        chosen = sentences if workload.startswith("file") else sentences[:CALL_SENTENCES]
    decode(
        chosen[:WARM_UP_SENTENCES]
    )  # warm-up: memory, kernels, threads; for CTranslate2 also the search for the best settings
    start = time.perf_counter()
    translations = decode(chosen)
    return {"seconds": time.perf_counter() - start, "translations": translations}


def _settings(forced: bool, workload: str) -> dict[str, Any]:
    lengths = {"min_new_tokens": FORCED_TOKENS, "max_new_tokens": FORCED_TOKENS} if forced else {"max_new_tokens": 200}
    return {"num_beams": BEAMS, "length_penalty": LENGTH_PENALTY, **lengths, **EXTRA_SETTINGS.get(workload, {})}


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
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "marian").to(getattr(torch, precision)).eval()
    size = 1 if workload.startswith("sentence") else CALL_SENTENCES
    return _batched_generate(
        model, AutoTokenizer.from_pretrained(folder / "tokenizer"), _settings(forced, workload), size
    )


def _ctranslate2(folder: Path, precision: str, workload: str, forced: bool) -> Callable[[list[str]], list[str]]:
    """CTranslate2 without torch, whose OpenMP would slow down its threads several times."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    lengths = (FORCED_TOKENS, FORCED_TOKENS) if forced else (1, 200)

    def by(translator: Any, budget: int, sentences: list[str]) -> list[str]:
        source = [encoding.tokens for encoding in tokenizer.encode_batch(sentences)]
        batches = {"max_batch_size": budget, "batch_type": "tokens"} if budget else {}
        results = translator.translate_batch(
            source,
            beam_size=BEAMS,
            length_penalty=LENGTH_PENALTY,
            min_decoding_length=lengths[0],
            max_decoding_length=lengths[1],
            **batches,
        )
        # random weights may also produce tokens that the tokenizer does not have
        ids = [[tokenizer.token_to_id(token) or 0 for token in result.hypotheses[0]] for result in results]
        return tokenizer.decode_batch(ids)

    def decode(way: Way, sentences: list[str]) -> list[str]:
        threads, budget = way
        at_once = _threads() // threads if budget else 1
        translator = _translator(folder / precision, precision, threads, at_once)
        if workload.startswith("sentence"):
            return [by(translator, budget, [sentence])[0] for sentence in sentences]
        return by(translator, budget, sentences)

    def by_best_way(sentences: list[str]) -> list[str]:
        kept = folder / f"best way, {precision}, {workload}.json"
        if not kept.exists():
            budgets = [0]
            if workload.startswith("file"):
                tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch(sentences))
                budgets = [1024, 2048] if tokens > 2048 else [tokens, -(-tokens // 2)]
            kept.write_text(json.dumps(_best_way(budgets, sentences, decode)), encoding="utf-8")
        threads, budget = json.loads(kept.read_text(encoding="utf-8"))
        return decode((threads, budget), sentences)

    return by_best_way


Way = tuple[int, int]  # threads per batch; maximum tokens of a batch, 0 for all sentences in one batch


@cache
def _translator(model: Path, precision: str, threads: int, batches: int) -> Any:
    import ctranslate2

    assert "torch" not in sys.modules
    return ctranslate2.Translator(str(model), compute_type=precision, inter_threads=batches, intra_threads=threads)


def _threads() -> int:
    """As many as torch uses: those of OMP_NUM_THREADS, or one for each core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(os.environ.get("OMP_NUM_THREADS") or cores)


def _best_way(budgets: list[int], sentences: list[str], decode: Callable[[Way, list[str]], Any]) -> Way:
    """The fastest settings for these sentences."""
    ways = [(threads, budget) for threads in {_threads(), 1} for budget in budgets]
    seconds = []
    for way in ways:
        decode(way, sentences[:8])  # warm-up: memory, kernels, threads
        start = time.perf_counter()
        decode(way, sentences)
        seconds.append(time.perf_counter() - start)
    return ways[seconds.index(min(seconds))]
