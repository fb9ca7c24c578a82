"""Score the quickstart's model on the held-out sets of the built-in corpus, and show sample translations.

python scripts/quickstart_report.py --model runs/quickstart
"""

import argparse
import json
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from hf_vanilla_transformer import Translator, evaluate_translations
from hf_vanilla_transformer.data.builtin import BUILTIN_NAME, builtin_corpus
from hf_vanilla_transformer.evaluation import (
    N_BOOTSTRAP,
    add_to_ledger,
    make_entry,
    nearest_neighbour_translations,
    weights_fingerprint,
    write_scores,
)

SETS = {"test": "held-out sentences", "test_combinations": "held-out combinations"}
ARTICLE = (("merci", "thanks"), ("je suis étudiant", "i am a student"))
SHOWN = 8


def score_set(split: str, translator: Translator, model: Path) -> tuple[list[str], list[tuple[str, str, str]], str]:
    """Translate a split and save the hypotheses; return its table row, sample sentences and BLEU's signature."""
    sources, references = (list(side) for side in zip(*builtin_corpus(split), strict=True))
    hypotheses = [translation.text for translation in translator.translate(sources)]
    scoring = {"target_lang": "en", "n_bootstrap": N_BOOTSTRAP}
    scores = evaluate_translations(hypotheses, references, sources=sources, **scoring)
    settings = {"dataset": BUILTIN_NAME, "split": split, **translator.decoding()}
    write_scores(model / "evaluation" / split, scores, hypotheses, references, sources, settings, overwrite=True)
    entry = make_entry(
        f"{BUILTIN_NAME}, {split}",
        hypotheses,
        scores,
        sources,
        [[reference] for reference in references],
        decoding=translator.decoding(),
        scoring=scoring,
        weights=weights_fingerprint(model),
        origin={"dataset_name": BUILTIN_NAME, "split": split},
    )
    add_to_ledger(model, entry)

    neighbours = nearest_neighbour_translations(sources, *zip(*builtin_corpus("train"), strict=True))
    baseline = evaluate_translations(neighbours, references, metrics=("bleu",))
    row = [SETS[split], f"{len(sources):,}"]
    row += [f"{scores[name].value:.1f}" for name in ("bleu", "chrf", "ter")] + [f"{baseline['bleu'].value:.1f}"]
    signature = scores["bleu"].signature
    return row, list(zip(sources, hypotheses, references, strict=True))[:SHOWN], signature


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Print a table, its columns as wide as their widest cells."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def main() -> int:
    """Report on both sets, the article's pairs, and a few sentences of each set."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default="runs/quickstart")
    disable_progress_bar()
    model = Path(parser.parse_args().model)
    translator = Translator.from_pretrained(model)
    print(f"Decoding: {json.dumps(translator.decoding())}")

    scored = [score_set(split, translator, model) for split in SETS]
    print_table(
        ["set", "sentences", "BLEU", "chrF2", "TER", "BLEU of the nearest training pair"],
        [row for row, _, _ in scored],
    )
    print(f"BLEU: {scored[0][2]}; further scores, and all translations, are in {model / 'evaluation'}.\n")
    article = translator.translate([french for french, _ in ARTICLE])
    shown = [(f, t.text, e) for (f, e), t in zip(ARTICLE, article, strict=True)]
    shown += [example for _, examples, _ in scored for example in examples]
    rows = [[f, e, "" if e == reference else f"expected: {reference}"] for f, e, reference in shown]
    print_table(["French", "the model's English", ""], rows)
    wrong = [f for (f, e), t in zip(ARTICLE, article, strict=True) if t.text != e]
    if wrong:
        print(f"\nThe article's pairs were translated wrongly: {', '.join(wrong)}. Training failed.")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
