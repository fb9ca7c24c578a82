"""Compare CTranslate2 with `generate` on an exported model, and classify the differences.

    python scripts/compare_ctranslate2.py --model runs/quickstart

Both decode the same sentences in float32, greedily and with a beam, with the same length penalty, length limit and
minimum of one token. If they differ, the model itself scores both translations, and the scores determine the kind of
difference:

  tie             the two scores differ by less than 1e-4 of their size: rounding decides
  normalisation   each is better by its own side's score: `generate` divides by the length with the end of sentence,
                  CTranslate2 by the length without it
  stopped early   generate's is better by both scores: CTranslate2 stops once enough hypotheses are finished,
                  `generate` once no unfinished one can become better
  pruned          CTranslate2's is better by both scores: `generate` pruned it, or stopped, before it got ahead
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from hf_vanilla_transformer import to_ctranslate2
from hf_vanilla_transformer.conversion.vocabularies import source_tokens
from hf_vanilla_transformer.data.builtin import builtin_corpus
from hf_vanilla_transformer.translation import load_model_and_tokenizer

MAX_TOKENS = 200
TIE = 1e-4


def read_sentences(path: str | None, count: int) -> list[str]:
    """Read the first sentences of a file, or of the built-in corpus' test set."""
    if path is None:
        return [source for source, _ in builtin_corpus("test")][:count]
    return Path(path).read_text(encoding="utf-8").split("\n")[:count]


@torch.inference_mode()
def by_generate(model: Any, source_ids: list[list[int]], beams: int, length_penalty: float) -> list[list[int]]:
    """Translate sentence by sentence; return ids without the end of sentence."""
    end, translations = model.config.eos_token_id, []
    for ids in source_ids:
        output = model.generate(
            torch.tensor([ids]),
            num_beams=beams,
            do_sample=False,
            length_penalty=length_penalty,
            min_new_tokens=1,
            max_new_tokens=MAX_TOKENS,
        )
        tokens = output[0, 1:].tolist()
        translations.append(tokens[: tokens.index(end)] if end in tokens else tokens)
    return translations


def by_ctranslate2(
    translator: Any, tokenizer: Any, sources: list[list[str]], beams: int, length_penalty: float
) -> list[list[int]]:
    """As `by_generate`."""
    results = translator.translate_batch(
        sources,
        beam_size=beams,
        length_penalty=length_penalty,
        min_decoding_length=1,
        max_decoding_length=MAX_TOKENS,
    )
    return [tokenizer.convert_tokens_to_ids(result.hypotheses[0]) for result in results]


@torch.inference_mode()
def log_probability(model: Any, source: list[int], target: list[int]) -> float:
    """The log-probability of a translation with its end of sentence."""
    labels = torch.tensor([[*target, model.config.eos_token_id]])
    log_probabilities = model(input_ids=torch.tensor([source]), labels=labels).logits.log_softmax(-1)
    return float(log_probabilities.gather(-1, labels[..., None]).double().sum())


def kind_of_difference(
    model: Any, source: list[int], ours: list[int], theirs: list[int], length_penalty: float
) -> str:
    """One of the kinds that the module's docstring lists, or `same`."""
    if ours == theirs:
        return "same"
    ours_log, theirs_log = (log_probability(model, source, target) for target in (ours, theirs))
    # generate's score, then CTranslate2's
    by_both = [
        (
            ours_log / (len(ours) + end) ** length_penalty,
            theirs_log / (len(theirs) + end) ** length_penalty,
        )
        for end in (1, 0)
    ]
    if any(abs(one - other) < TIE * abs(other) for one, other in by_both):
        return "tie"
    better_by = [one > other for one, other in by_both]
    if better_by == [True, True]:
        return "stopped early"
    return "pruned" if better_by == [False, False] else "normalisation"


def main() -> int:
    """Export, decode on both sides, and print one row per beam size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default="runs/quickstart")
    parser.add_argument("--input", help="sentences, one per line (default: the built-in corpus' test set)")
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--length_penalty", type=float, default=1.0)
    options = parser.parse_args()
    import ctranslate2

    model, tokenizer = load_model_and_tokenizer(options.model)
    sentences = read_sentences(options.input, options.sentences)
    source_ids = tokenizer(sentences).input_ids
    sources = [source_tokens(tokenizer, sentence) for sentence in sentences]
    kinds = ("same", "tie", "normalisation", "stopped early", "pruned")
    print(f"{len(source_ids)} sentences, length penalty {options.length_penalty}, float32")
    print("beams  " + "  ".join(kinds))
    with tempfile.TemporaryDirectory() as folder:
        exported = to_ctranslate2(model.float(), tokenizer, Path(folder) / "exported")
        translator = ctranslate2.Translator(str(exported), compute_type="float32")
        for beams in (1, 4):
            ours = by_generate(model, source_ids, beams, options.length_penalty)
            theirs = by_ctranslate2(translator, tokenizer, sources, beams, options.length_penalty)
            counted = Counter(
                kind_of_difference(model, source, one, other, options.length_penalty)
                for source, one, other in zip(source_ids, ours, theirs, strict=True)
            )
            print(f"{beams:>5}  " + "  ".join(f"{counted[kind]:>{len(kind)}}" for kind in kinds))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
