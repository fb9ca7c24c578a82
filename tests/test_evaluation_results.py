"""Results on disk can be scored again by the `sacrebleu` command, stay aligned, and are never overwritten unasked."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

from hf_vanilla_transformer.evaluation import evaluate_translations, refuse_existing_results, write_scores
from hf_vanilla_transformer.evaluation.scores import MetricScore, TranslationScores

SOURCES = ["un chat dort ici .", "où\u2028est le chien ?", "il mange une pomme ."]
REFERENCES = ["a cat sleeps here .", "where is the dog ?", "he is eating an apple ."]
HYPOTHESES = ["a cat\nsleeps here .", "where\u2028is the\u0085dog ?", "he eats an apple\r\n."]
SCORES = TranslationScores(
    metrics=(MetricScore("bleu", "BLEU (13a, cased)", 50.0, "nrefs:1", True),),
    sentences=3,
    references_per_sentence=1,
    empty_hypotheses=0,
    copied_sources=None,
)


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def test_the_sacrebleu_command_finds_the_same_figures_in_the_files(tmp_path):
    scores = evaluate_translations(HYPOTHESES, REFERENCES, metrics=["bleu", "chrf", "ter"])
    record = json.loads(read(write_scores(tmp_path / "out", scores, HYPOTHESES, REFERENCES)))
    references = tmp_path / "references.txt"
    references.write_text("".join(f"{line}\n" for line in REFERENCES), encoding="utf-8", newline="\n")

    command = [sys.executable, "-m", "sacrebleu", references, "-i", tmp_path / "out" / "hypotheses.txt"]
    command += ["-m", "bleu", "chrf", "ter", "-w", "9"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout)

    assert [metric["value"] for metric in record["metrics"]] == pytest.approx([m["score"] for m in found], abs=1e-8)
    assert [metric["signature"] for metric in record["metrics"]] == [m["signature"] for m in found]


def test_one_line_for_each_translation_and_nothing_lost(tmp_path):
    path = write_scores(tmp_path, SCORES, HYPOTHESES, REFERENCES)
    lines = read(tmp_path / "hypotheses.txt").split("\n")
    record = json.loads(read(path))

    assert lines == ["a cat sleeps here .", HYPOTHESES[1], "he eats an apple .", ""]
    assert record["hypotheses_with_line_breaks"] == {"0": HYPOTHESES[0], "2": HYPOTHESES[2]}


def test_fingerprints_are_those_of_the_files(tmp_path):
    """What `sha256sum` prints for a file with these lines, one for each set of references."""
    other_references = ["x", "y", "z"]

    def of_file(lines):
        return "sha256:" + hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()

    pairs = list(zip(REFERENCES, other_references, strict=True))
    record = json.loads(read(write_scores(tmp_path, SCORES, HYPOTHESES, pairs, SOURCES)))

    assert record["fingerprints"] == {
        "hypotheses.txt": "sha256:" + hashlib.sha256((tmp_path / "hypotheses.txt").read_bytes()).hexdigest(),
        "references": [of_file(REFERENCES), of_file(other_references)],
        "sources": of_file(SOURCES),
    }


def test_settings_figures_and_counts_are_kept(tmp_path):
    settings = {"num_beams": 4, "length_penalty": 0.6, "model": "modèle"}
    record = json.loads(read(write_scores(tmp_path / "a" / "b", SCORES, HYPOTHESES, REFERENCES, None, settings)))

    assert record["settings"] == settings
    assert record["sentences"] == 3
    assert record["metrics"] == SCORES.to_dict()["metrics"]
    assert record["fingerprints"]["sources"] is None
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["hypotheses.txt", "scores.json"]


@pytest.mark.parametrize("present", ["hypotheses.txt", "scores.json"])
def test_existing_results_stay_unless_asked(tmp_path, present):
    (tmp_path / present).write_text("kept", encoding="utf-8")

    with pytest.raises(FileExistsError, match=rf"already holds {present}. Name another output_dir or pass overwrite"):
        write_scores(tmp_path, SCORES, HYPOTHESES, REFERENCES)
    with pytest.raises(FileExistsError, match="already holds"):
        refuse_existing_results(tmp_path)
    assert os.listdir(tmp_path) == [present]
    assert read(tmp_path / present) == "kept"

    refuse_existing_results(tmp_path, overwrite=True)
    write_scores(tmp_path, SCORES, HYPOTHESES, REFERENCES, overwrite=True)
    assert read(tmp_path / present) != "kept"
    assert sorted(os.listdir(tmp_path)) == ["hypotheses.txt", "scores.json"]


def test_a_failed_write_leaves_the_old_file_and_no_scraps(tmp_path, monkeypatch):
    write_scores(tmp_path, SCORES, HYPOTHESES, REFERENCES)
    before = read(tmp_path / "hypotheses.txt")

    def full_disk(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_scores(tmp_path, SCORES, ["x", "y", "z"], REFERENCES, overwrite=True)

    assert read(tmp_path / "hypotheses.txt") == before
    assert sorted(os.listdir(tmp_path)) == ["hypotheses.txt", "scores.json"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"hypotheses": ["a", "b"]}, ValueError, r"they cover 3 sentences and 2 hypotheses were given"),
        ({"references": ["a", "b"]}, ValueError, r"there are 3 hypotheses and 2 references"),
        ({"sources": ["a"]}, ValueError, r"there are 3 hypotheses and 1 sources"),
        ({"hypotheses": ["a", "b", 3]}, TypeError, r"hypotheses\[2\] must be a string, but it is a int"),
        ({"settings": {"device": object()}}, TypeError, r"JSON, which cannot hold 'device' = <object"),
        ({"settings": {"penalty": float("nan")}}, TypeError, r"JSON, which cannot hold 'penalty' = nan"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(tmp_path, changes, error, message):
    arguments = {"hypotheses": HYPOTHESES, "references": REFERENCES, **changes}

    with pytest.raises(error, match=message):
        write_scores(tmp_path / "out", SCORES, **arguments)
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("kept", encoding="utf-8")

    with pytest.raises(FileExistsError, match=r"written to a folder, but .*out is a file"):
        write_scores(tmp_path / "out", SCORES, HYPOTHESES, REFERENCES, overwrite=True)
