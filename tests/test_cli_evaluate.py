"""`evaluate`: what it prints, what it keeps and where, and what it refuses."""

import json
from pathlib import Path

import pytest

from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.evaluation import evaluate_translations
from hf_vanilla_transformer.translation import Translator

SOURCES = ["merci", "le petit chat dort", "la petite maison est vieille", "où est la gare ?"]
REFERENCES = ["thanks", "the little cat sleeps", "the little house is old", "where is the station ?"]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name, lines in (("test.fr", SOURCES), ("test.en", REFERENCES)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return ["--source", str(tmp_path / "test.fr"), "--reference", str(tmp_path / "test.en"), "--device", "cpu"]


def test_scores_are_printed_and_kept_beside_the_model(folder, files, capsys):
    assert main(["evaluate", "--model", str(folder), *files, "--num_beams", "2", "--max_extra_tokens", "3"]) == 0
    printed = capsys.readouterr().out
    translator = Translator.from_pretrained(folder, device="cpu")
    hypotheses = [each.text for each in translator.translate(SOURCES, num_beams=2, max_extra_tokens=3)]
    expected = evaluate_translations(hypotheses, REFERENCES, sources=SOURCES, n_bootstrap=1000)

    assert expected.table() in printed
    assert "num_beams 2, length_penalty 1.0, max_extra_tokens 3" in printed
    assert "sentences per second (cpu, float32, batches of 4,096 source tokens)" in printed
    kept = folder / "evaluation" / "test"
    assert printed.endswith(f"kept in {kept}\nrecorded in {folder / 'score_ledger.json'}\n")
    record = json.loads((kept / "scores.json").read_text(encoding="utf-8"))
    assert record["metrics"] == expected.to_dict()["metrics"]
    assert record["settings"]["decoding"] == {"num_beams": 2, "length_penalty": 1.0, "max_extra_tokens": 3}
    assert record["settings"]["sentences_per_second"] > 0
    lines = (kept / "hypotheses.txt").read_text(encoding="utf-8").split("\n")
    assert len(lines) == len(SOURCES) + 1


def test_results_are_not_overwritten_unasked(folder, files, capsys, tmp_path, monkeypatch):
    command = ["evaluate", "--model", str(folder), *files, "--num_beams", "1", "--output_dir", str(tmp_path / "kept")]
    assert main(command) == 0
    assert main([*command, "--overwrite"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(Translator, "from_pretrained", lambda *_, **__: pytest.fail("the model was loaded"))
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "kept already holds hypotheses.txt and scores.json" in error
    assert "give --overwrite" in error


def test_several_references_and_a_baseline(folder, files, capsys, tmp_path):
    (tmp_path / "other.en").write_text("".join(f"{line} !\n" for line in REFERENCES), encoding="utf-8")
    at = files.index("--device")
    command = [*files[:at], str(tmp_path / "other.en"), *files[at:], "--num_beams", "1"]
    command += ["--nearest_neighbour_from", str(tmp_path / "test.fr"), str(tmp_path / "test.en")]
    assert main(["evaluate", "--model", str(folder), *command]) == 0
    printed = capsys.readouterr().out
    assert "4 sentences, 2 reference(s) each" in printed
    assert "nearest neighbour in the training text: BLEU (13a, cased) 100.00, chrF2 100.00" in printed


def test_a_split_of_a_dataset(folder, capsys, tmp_path):
    rows = "".join(f"{a}\t{b}\n" for a, b in zip(["fr", *SOURCES], ["en", *REFERENCES], strict=True))
    (tmp_path / "table.tsv").write_text(rows, encoding="utf-8")
    command = ["evaluate", "--model", str(folder), "--dataset_name", str(tmp_path / "table.tsv"), "--split", "train"]
    command += ["--num_beams", "1", "--device", "cpu", "--target_lang", "en"]
    assert main([*command, "--nearest_neighbour_from", str(tmp_path / "table.tsv")]) == 0
    assert "chrF2 100.00" in capsys.readouterr().out
    assert (folder / "evaluation" / "table.tsv-train" / "scores.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a test set is needed: give --source and --reference, or --dataset_name"),
        (["--source", "a"], "a test set is needed"),
        (["--source", "a", "--reference", "b", "--dataset_name", "c"], "leave out one of them"),
        (["--dataset_name", "c"], "there is no model folder org/name; if it is a name on the Hub"),
        (["--dataset_name", "c", "--nearest_neighbour_from", "1", "2", "3"], "takes two text files"),
    ],
)
def test_wrong_usage_exits_with_2(arguments, message, capsys):
    assert main(["evaluate", "--model", "org/name", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_unequal_files_are_refused(folder, files, capsys, tmp_path):
    (tmp_path / "test.en").write_text("thanks\n", encoding="utf-8")
    assert main(["evaluate", "--model", str(folder), *files]) == 1
    assert "test.fr has 4 lines" in capsys.readouterr().err
    assert not (folder / "evaluation").exists()
