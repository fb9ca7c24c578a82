"""The model card: the template `model_card.md` filled with what is known, and results as the Hub's `model-index`.

Unknown facts are stated as unknown. Text from a folder, such as a file name, is escaped: it can end neither a line of
YAML, nor a table cell, nor a code block, and adds no HTML. Only `result_rows` and `model_index` write scores, always
with their signatures.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index

from ..evaluation import LedgerEntry, MetricScore
from ..evaluation.ledger import decoding_in_words
from .architecture import describe_architecture, list_deviations
from .escaping import bullets, code, fenced, one_line, plain
from .facts import ModelFacts

UNKNOWN = "unknown"
LANGUAGES_UNKNOWN = "an unknown language"
_TEMPLATE = Path(__file__).with_name("model_card.md")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_METRIC_TYPES = {"bleu": "sacrebleu", "chrf": "chrf", "ter": "ter", "moses_bleu": "bleu"}
"""Names of the metrics in the Hub's list."""


def write_card(facts: ModelFacts, repo_id: str) -> str:
    """Write the text of a card.

    Args:
        facts: what is known about the model.
        repo_id: its name on the Hub.

    Raises:
        ValueError: the card would state a score without its signature.
    """
    sections = {
        "model_name": repo_id,
        "repo_id": repo_id,
        "source_lang": plain(facts.source_lang or LANGUAGES_UNKNOWN),
        "target_lang": plain(facts.target_lang or LANGUAGES_UNKNOWN),
        "other_uses": _other_uses(facts, repo_id),
        "architecture": describe_architecture(facts),
        "deviations": bullets(list_deviations(facts)) or "none.",
        "tokenizer": _tokenizer(facts),
        "license": facts.details.license or UNKNOWN,
        "data": _data(facts),
        "training": _training(facts),
        "recipe": _recipe(facts),
        "results": _results(facts),
        "limits": _limits(facts),
    }
    _, _, body = _template().split("---\n", 2)
    filled = _PLACEHOLDER.sub(lambda match: sections[match[1]], body)  # one pass: inserted text is not searched again
    metadata = yaml.safe_dump(card_metadata(facts, repo_id), sort_keys=False, allow_unicode=True, width=10_000)
    card = f"---\n{metadata}---\n{filled}"
    require_signatures(card)
    return card


def _template() -> str:
    text = _TEMPLATE.read_text(encoding="utf-8")
    if not text.startswith("---"):  # a checkout without symbolic links holds the link's target instead
        text = (_TEMPLATE.parent / text.strip()).read_text(encoding="utf-8")
    return text


def card_metadata(facts: ModelFacts, repo_id: str) -> dict[str, Any]:
    """The card's YAML metadata in the Hub's terms; unknown fields are left out, except the licence."""
    languages = [code for code in (facts.source_lang, facts.target_lang) if code is not None]
    metadata: dict[str, Any] = {
        "language": languages,
        "license": facts.details.license or UNKNOWN,
        "library_name": "transformers",
        "pipeline_tag": "translation",
        "tags": ["translation", "vanilla-transformer"],
        "base_model": facts.base_model,
        "datasets": facts.datasets,
        "metrics": list(dict.fromkeys(_METRIC_TYPES[m.name] for entry in facts.entries for m in entry.metrics)),
        "model-index": model_index(repo_id.split("/")[-1], facts.entries),
    }
    return {name: value for name, value in metadata.items() if value}


def model_index(model_name: str, entries: Sequence[LedgerEntry]) -> list[dict[str, Any]]:
    """All scores of the ledger, in the form that the Hub renders."""
    results = [_eval_result(entry, metric) for entry in entries for metric in entry.metrics]
    return eval_results_to_model_index(model_name, results) if results else []


def _eval_result(entry: LedgerEntry, metric: MetricScore) -> EvalResult:
    test_set, decoding = one_line(entry.test_set), one_line(decoding_in_words(entry.decoding))
    config, split = (entry.origin.get(name) for name in ("dataset_config_name", "split"))
    details = {
        "metric": metric.name,
        "signature": metric.signature,
        "interval_95": metric.interval and [round(bound, 2) for bound in metric.interval],
        "decoding": decoding,
        "averaged_checkpoints": list(map(one_line, entry.averaged_checkpoints)) or None,
        "sentences": len(entry.hypotheses),
        "hypotheses": entry.fingerprints["hypotheses"],
    }
    return EvalResult(
        task_type="translation",
        task_name="Translation",
        dataset_type=one_line(entry.origin.get("dataset_name", test_set)),
        dataset_name=test_set,
        dataset_config=config and one_line(config),
        dataset_split=split and one_line(split),
        metric_type=_METRIC_TYPES[metric.name],
        metric_name=one_line(metric.label),
        metric_value=round(metric.value, 2),
        metric_args={name: value for name, value in details.items() if value is not None},
    )


# Results

RESULTS_HEADER = ("test set", "sentences", "metric", "figure [95 % interval]", "decoding", "checkpoints", "signature")


def result_rows(entries: Sequence[LedgerEntry]) -> list[tuple[str, ...]]:
    """The cells of the results table, escaped, one row per score."""
    return [
        (
            *(plain(entry.test_set), f"{len(entry.hypotheses):,}", plain(metric.label), metric.figure()),
            plain(decoding_in_words(entry.decoding)),
            plain(_checkpoints(entry.averaged_checkpoints)),
            code(metric.signature),
        )
        for entry in entries
        for metric in entry.metrics
    ]


def _checkpoints(names: Sequence[str]) -> str:
    return f"average of {', '.join(names)}" if names else "one"


def _results(facts: ModelFacts) -> str:
    if not facts.entries:
        return "Unknown: this model has not been scored."
    rows = [RESULTS_HEADER, tuple("---" for _ in RESULTS_HEADER), *result_rows(facts.entries)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"{table}\n\nIntervals are 95 % bootstrap percentile intervals; the signature states the number of resamples "
        "and the seed. All translations are in `score_ledger.json`; `vanilla-transformer verify --model` with this "
        "repository's name recomputes every score from them, and with `--decode` from the model."
    )


_SCORE = re.compile(r"(?<!\w)BLEU(?![\w-])(?! \()")


def require_signatures(card: str) -> None:
    """Refuse a card that states a score without its definition.

    Raises:
        ValueError: "BLEU" is not followed by its tokenisation.
    """
    if found := _SCORE.search(card):
        line = card[: found.start()].count("\n")
        raise ValueError(
            f'"BLEU" alone is ambiguous, since its variants differ by points, but the card would contain '
            f"{card.split(chr(10))[line].strip()[:80]!r}. Reword this; scores come from `evaluate`."
        )


# Words


def _other_uses(facts: ModelFacts, repo_id: str) -> str:
    lines = [
        "Without that package (this runs Python files from this repository on your computer, so read them first):\n\n"
        "```python\nfrom transformers import pipeline\n\n"
        f'print(pipeline("translate", model="{repo_id}", trust_remote_code=True)("..."))\n```'
    ]
    if facts.has_illustration:
        lines.append(
            "How it translates a sentence, illustrated: "
            f"[illustration.html](https://huggingface.co/{repo_id}/blob/main/illustration.html), one page to download "
            "and open."
        )
    return "\n\n".join(lines)


def _tokenizer(facts: ModelFacts) -> str:
    known = facts.tokenizer
    text = f"{plain(known['algorithm'])}, {known['size']:,} entries; learned on "
    recipe = facts.recipe
    if recipe is None:
        return f"{text}{UNKNOWN} text."
    given = recipe.get("tokenizer", {}).get("tokenizer") or recipe.get("model", {}).get("init_from")
    return f"{text}{UNKNOWN} text, taken from {plain(given)}." if given else f"{text}the training text."


def _data(facts: ModelFacts) -> str:
    lines = [plain(facts.details.data)] if facts.details.data else []
    data = (facts.recipe or {}).get("data", {})
    files = ("dataset_name", "dataset_config_name", "train_split", "train_source", "train_target")
    named = [f"{name} {data[name]}" for name in files if data.get(name) is not None]
    lines.append(f"Training text: {plain(', '.join(named)) or UNKNOWN}.")
    counts = facts.about.get("text")
    if isinstance(counts, Mapping):
        lines.append(bullets([f"{words}: {count:,}" for words, count in _flat(counts)]))
    else:
        lines.append(f"Pairs read, left out and kept: {UNKNOWN}.")
    print_of_text = facts.about.get("fingerprint", {}).get("training text")
    lines.append(f"Fingerprint (SHA-256 of the token ids of all pairs): {plain(print_of_text or UNKNOWN)}")
    return "\n\n".join(lines)


def _flat(counts: Mapping[str, Any]) -> list[tuple[str, int]]:
    left_out = [(f"left out, {reason}", count) for reason, count in counts.get("left_out", {}).items()]
    rows = [("pairs read", counts.get("pairs_read")), *left_out, ("pairs kept", counts.get("pairs_kept"))]
    return [(words, count) for words, count in rows if isinstance(count, int)]


def _training(facts: ModelFacts) -> str:
    about = facts.about.get("training", {})
    seconds = about.get("seconds")
    step = facts.about.get("step")
    versions = ", ".join(f"{name} {version}" for name, version in facts.about.get("versions", {}).items())
    lines = [
        f"Hardware: {plain(about.get('hardware') or UNKNOWN)}",
        f"Time: {_duration(seconds) if isinstance(seconds, int | float) else UNKNOWN}",
        f"Steps: {f'{step:,}' if isinstance(step, int) else UNKNOWN}",
        f"Precision: {plain(about.get('precision') or UNKNOWN)}",
        f"Versions: {plain(versions or UNKNOWN)}",
    ]
    if facts.averaged:
        lines.append(f"Weights: {plain(_checkpoints(facts.averaged))}")
    if converted := facts.about.get("converted_from"):
        lines.append(f"Converted from: {plain(', '.join(f'{k} {v}' for k, v in converted.items()))}")
    return "\n".join(f"- {line}" for line in lines)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _recipe(facts: ModelFacts) -> str:
    if facts.recipe is None:
        return f"Recipe: {UNKNOWN}."
    text = yaml.safe_dump(dict(facts.recipe), sort_keys=False, allow_unicode=True)
    return f"Recipe:\n\n{fenced(text, 'yaml')}"


def _limits(facts: ModelFacts) -> str:
    lines = [plain(facts.details.limits)] if facts.details.limits else []
    if (facts.recipe or {}).get("data", {}).get("dataset_name") == "builtin-fr-en":
        lines.append("Its training text was generated by a grammar: a few hundred words and no natural text.")
    if facts.config.longest_sentence is not None:
        lines.append(f"A sentence may have at most {facts.config.longest_sentence:,} tokens.")
    lines.append("It translates sentence by sentence.")
    if not facts.details.limits:
        lines.append("Other limits: unknown.")
    return " ".join(lines)
