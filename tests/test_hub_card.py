"""The card says what is known, calls the rest unknown, and takes nobody's markup, YAML or bare scores."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from hf_vanilla_transformer.evaluation import (
    LedgerEntry,
    add_to_ledger,
    evaluate_translations,
    make_entry,
    weights_fingerprint,
)
from hf_vanilla_transformer.evaluation.run_records import recorded_languages
from hf_vanilla_transformer.hub import CardDetails, write_publication
from hf_vanilla_transformer.hub.card import fenced, plain, require_signatures, write_card
from hf_vanilla_transformer.hub.facts import gather_facts
from hf_vanilla_transformer.model.manifest import write_manifest
from hf_vanilla_transformer.translation import load_model_and_tokenizer

HYPOTHESES = ["the cat sleeps here .", "thanks", "the house is very old ."]
REFERENCES = [["the cat sleeps here ."], ["thank you"], ["the house is old ."]]
SOURCES = ["le chat dort ici .", "merci", "la maison est vieille ."]
HOSTILE = "</script><img src=x onerror=alert(1)> |`\n---\nlicense: mit\n# x\n```\n[a](javascript:b) {data}"
ABOUT = {
    "step": 4740,
    "versions": {"torch": "2.13.0"},
    "fingerprint": {"training text": "ab12"},
    "text": {"pairs_read": 29000, "left_out": {"a side is empty": 3}, "pairs_kept": 28997},
    "training": {"seconds": 3725.0, "hardware": "8 x H100", "precision": "bf16"},
}
RECIPE = {
    "model": {"d_model": 16},
    "data": {"train_source": "/home/alice/secret/train.en", "source_lang": "no", "target_lang": "de"},
    "training": {"eval_strategy": "no", "max_tokens": 4096, "hub_token": "hf_secret", "output_dir": "/home/alice/run"},
}


@pytest.fixture(scope="module")
def entry() -> LedgerEntry:
    scores = evaluate_translations(HYPOTHESES, REFERENCES, n_bootstrap=100)
    return make_entry(
        "test_2016",
        HYPOTHESES,
        scores,
        SOURCES,
        REFERENCES,
        decoding={"num_beams": 4, "length_penalty": 1.0},
        scoring={"n_bootstrap": 100},
        averaged_checkpoints=("checkpoint-8", "checkpoint-9"),
    )


def card_of(folder, entries=(), **details) -> str:
    model, tokenizer = load_model_and_tokenizer(folder)
    return write_card(gather_facts(folder, model, tokenizer, entries, CardDetails(**details)), "someone/no-de")


def metadata_of(card: str) -> dict:
    return yaml.safe_load(card.split("\n---\n")[0])


def test_what_the_run_left_behind_is_told(folder, entry):
    (folder / "run.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    write_manifest(folder, ABOUT)
    card = card_of(folder, [entry], license="cc-by-4.0", datasets=("org/corpus",), limits="Captions alone.")

    for told in (
        "translates no to de",
        "Hardware: 8 x H100",
        "Time: 1 h 2 min",
        "Steps: 4,740",
        "pairs read: 29,000",
        "left out, a side is empty: 3",
        "pairs kept: 28,997",
        "all pairs): ab12",
        "train.en",
        "max_tokens: 4096",
        "2 encoder and 1 decoder layers, d_model 16, 2 heads, d_ff 32",
        "- the output projection is not the embedding matrix",
        "BPE over bytes, 300 entries; learned on the training text.",
        "Captions alone.",
        "average of checkpoint-8, checkpoint-9",
    ):
        assert told in card, told
    for hidden in ("alice", "hf_secret", "output_dir", "hub_token"):
        assert hidden not in card
    metadata = metadata_of(card)
    assert metadata["language"] == ["no", "de"]  # not False: Norwegian
    assert metadata["license"] == "cc-by-4.0"
    assert metadata["datasets"] == ["org/corpus"]


def test_what_is_unknown_says_so_and_is_no_metadata(folder):
    card = card_of(folder)
    for line in (
        "translates an unknown language to an unknown language",
        "Licence of the weights: unknown",
        "Training text: unknown.",
        "Pairs read, left out and kept: unknown.",
        "of all pairs): unknown",
        "- Hardware: unknown",
        "- Time: unknown",
        "- Steps: unknown",
        "Recipe: unknown.",
        "learned on unknown text.",
        "Unknown: this model has not been scored.",
        "Other limits: unknown.",
    ):
        assert line in card, line
    assert metadata_of(card) == {
        "license": "unknown",
        "library_name": "transformers",
        "pipeline_tag": "translation",
        "tags": ["translation", "vanilla-transformer"],
    }
    assert "{" not in card.split("## Limits")[0].replace("{data}", "")


def test_the_client_of_the_hub_reads_each_figure_with_all_that_belongs_to_it(folder, entry):
    results = ModelCard(card_of(folder, [entry])).data.eval_results

    assert len(results) == len(entry.metrics) == 4
    for result, metric in zip(results, entry.metrics, strict=True):
        assert (result.task_type, result.dataset_name) == ("translation", "test_2016")
        assert result.metric_value == round(metric.value, 2)
        assert result.metric_name == metric.label
        assert result.metric_args == {
            "metric": metric.name,
            "signature": metric.signature,
            "interval_95": [round(bound, 2) for bound in metric.interval],
            "decoding": "num_beams 4, length_penalty 1.0",
            "averaged_checkpoints": ["checkpoint-8", "checkpoint-9"],
            "sentences": 3,
            "hypotheses": entry.fingerprints["hypotheses"],
        }
        assert "|bs:100|seed:12345|" in metric.signature


def test_each_figure_of_the_table_has_its_interval_and_signature(folder, entry):
    rows = [line for line in card_of(folder, [entry]).split("\n") if line.startswith("| test_2016")]
    assert len(rows) == 4
    for row, metric in zip(rows, entry.metrics, strict=True):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
        assert cells[3] == f"{metric.value:.2f} [{metric.interval[0]:.2f}, {metric.interval[1]:.2f}]"
        assert cells[-1].strip("`").replace("\\|", "|") == metric.signature


def test_untrusted_text_is_shown_and_does_nothing(folder, entry):
    """Names of files and test sets, settings, and what the owner types."""
    recipe = {"data": {"train_source": HOSTILE, "source_lang": HOSTILE}, HOSTILE[:40]: {"a": 1}}
    (folder / "run.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    hostile = HOSTILE
    write_manifest(folder, {"training": {"hardware": hostile}, "fingerprint": {"training text": hostile}})
    bad = replace(entry, test_set=hostile, decoding={hostile: hostile}, averaged_checkpoints=(hostile,))
    card = card_of(folder, [bad], limits=hostile, data=hostile)

    assert metadata_of(card)["license"] == "unknown"
    assert "language" not in metadata_of(card)
    result = ModelCard(card).data.eval_results[0]
    assert result.dataset_name == " ".join(hostile.split())
    body = card.split("\n---\n", 1)[1]
    blocks = re.split(r"^(`{3,})\w*\n.*?^\1$", body, flags=re.M | re.S)
    shown = re.sub(r"`[^`\n]*`", "", "".join(block for block in blocks if not block.startswith("```")))
    assert "<img" not in shown
    assert "</script>" not in shown
    assert not re.search(r"(?<!\\)\[a", shown)
    assert shown.count("\n# ") == 1  # the title alone


def test_what_is_filled_in_is_not_filled_again(folder):
    (folder / "run.yaml").write_text(yaml.safe_dump({"data": {"train_split": "{limits}"}}), encoding="utf-8")
    assert "train_split: '{limits}'" in card_of(folder)
    assert "\\{limits\\}" in card_of(folder, data="{limits}")


def test_a_block_of_code_is_not_ended_by_what_is_in_it():
    assert fenced("a\n```\nb", "yaml") == "````yaml\na\n```\nb\n````"


@pytest.mark.parametrize(
    "text", ["BLEU 38", "a BLEU of 38.7", "38.7 BLEU", "| BLEU | 38 |", "**BLEU**: 38", "name: BLEU"]
)
def test_a_bare_score_is_refused(text):
    with pytest.raises(ValueError, match='"BLEU" alone is ambiguous'):
        require_signatures(f"---\n---\n{text}\n")


@pytest.mark.parametrize("text", ["BLEU (13a, cased)", "sacreBLEU's", "tokenised lower-cased BLEU (Moses)", "bleu"])
def test_a_score_that_says_which_is_none_of_these(text):
    require_signatures(text)


@pytest.mark.parametrize("field", ["data", "limits"])
def test_owners_tell_no_scores_in_words(field):
    with pytest.raises(ValueError, match=f"cannot be stated in words in {field}"):
        CardDetails(**{field: "reaches 40 BLEU"})


def test_a_test_set_named_after_a_score_cannot_smuggle_one_in(folder, entry):
    with pytest.raises(ValueError, match='"BLEU" alone is ambiguous'):
        card_of(folder, [replace(entry, test_set="38.7 BLEU")])


def test_scores_of_earlier_weights_stay_out_of_the_card(folder, entry, tmp_path):
    add_to_ledger(folder, replace(entry, weights=weights_fingerprint(folder)))
    add_to_ledger(folder, replace(entry, weights="sha256:00", decoding={"num_beams": 1}))

    notes = write_publication(folder, "someone/x", tmp_path / "out")

    assert notes == ("Scores of earlier weights are left out (test_2016): evaluate again.",)
    ledger = json.loads((tmp_path / "out" / "score_ledger.json").read_text(encoding="utf-8"))
    assert [entry["decoding"]["num_beams"] for entry in ledger["entries"]] == [4]
    assert "num_beams 1" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_checkpoint_knows_the_recipe_of_its_run(folder, tmp_path):
    run = tmp_path / "run"
    checkpoint = Path(shutil.copytree(folder, run / "checkpoint-5"))
    (run / "run.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    assert "max_tokens: 4096" in card_of(checkpoint)


@pytest.mark.parametrize(
    ("files", "languages"),
    [
        ({}, (None, None)),
        ({"run.yaml": "data: {source_lang: fi, target_lang: sw}"}, ("fi", "sw")),
        ({"run.yaml": "data: {dataset_name: x}"}, (None, None)),
        ({"README.md": "---\nlanguage: [fi, sw]\ntags: [vanilla-transformer]\n---\n"}, ("fi", "sw")),
        ({"README.md": "---\nlanguage: [fi, sw]\ntags: [marian]\n---\n"}, (None, None)),
        ({"README.md": "---\nlanguage: [fi]\ntags: [vanilla-transformer]\n---\n"}, (None, None)),
        ({"README.md": "---\n{: \n---\n"}, (None, None)),
        ({"README.md": "---\nlanguage: 3\ntags: 4\n---\n"}, (None, None)),
    ],
)
def test_the_pair_of_a_model_is_that_of_its_run_or_of_its_card(files, languages, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert recorded_languages(tmp_path) == languages


def test_plain_text_is_left_as_it_is():
    assert plain("French to English, max_extra_tokens 50 (test set); 3.5") == (
        "French to English, max_extra_tokens 50 (test set); 3.5"
    )
