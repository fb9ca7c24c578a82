"""`evaluate`: what it prints, what it keeps and where, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.evaluation import evaluate_translations, read_ledger
from hf_vanilla_transformer.model.manifest import damaged_files, write_manifest
from hf_vanilla_transformer.translation import Hypothesis, Translation, Translator

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


# The ledger


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def entries_of(folder: Path) -> list[str]:
    return [entry.test_set for entry in read_ledger(folder)]


def fingerprints(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def french_english(folder: Path) -> Path:
    """A model whose run recorded its pair."""
    languages = {"data": {"source_lang": "fr", "target_lang": "en"}}
    (folder / "run.yaml").write_text(yaml.safe_dump(languages), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("source", "reference", "message"),
    [
        (("t.en", REFERENCES), ("t.fr", SOURCES), "sides are swapped: the model translates fr to en"),
        (("t.fr", SOURCES), ("t.de", REFERENCES), "target is de by the names of its files, but the model's is en"),
        (("a", SOURCES), ("b", ["", *REFERENCES[1:]]), "1 of 4 references are blank, the first in line 1"),
        (("a", [*SOURCES[:3], " "]), ("b", REFERENCES), "1 of 4 sources are blank, the first in line 4"),
        (("a", SOURCES), ("b", SOURCES), "4 of 4 references equal their sources"),
        (("a", SOURCES), ("b", ["the same"] * 4), "All 4 references are the same"),
    ],
)
def test_what_is_no_test_set_of_the_pair_enters_no_ledger_unasked(
    source, reference, message, french_english, tmp_path, capsys
):
    files = [str(write_lines(tmp_path / name, lines)) for name, lines in (source, reference)]
    command = ["evaluate", "--model", str(french_english), "--source", files[0], "--reference", files[1]]
    command += ["--device", "cpu", "--num_beams", "1"]
    before = fingerprints(french_english)
    for more in ([], ["--output_dir", str(tmp_path / "elsewhere")]):
        assert main([*command, *more]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert "or give --record to score it" in error
        assert fingerprints(french_english) == before
        assert not (tmp_path / "elsewhere").exists()


def test_what_is_no_test_set_is_scored_and_entered_if_asked_for(french_english, tmp_path, capsys):
    files = [write_lines(tmp_path / "t.en", ["", *REFERENCES[1:]]), write_lines(tmp_path / "t.fr", SOURCES)]
    command = ["evaluate", "--model", str(french_english), "--source", str(files[0]), "--reference", str(files[1])]
    for more, entries in ((["--no_record"], []), (["--record", "--overwrite"], ["t"])):
        assert main([*command, "--device", "cpu", "--num_beams", "1", *more]) == 0
        error = capsys.readouterr().err
        assert "The sides are swapped" in error
        assert "1 of 4 sources are blank" in error
        assert entries_of(french_english) == entries


@pytest.mark.parametrize("more", [[], ["--record"], ["--no_record"]])
def test_a_side_without_any_text_is_never_scored(more, folder, tmp_path, capsys):
    files = [write_lines(tmp_path / "a", SOURCES), write_lines(tmp_path / "b", [""] * 4)]
    command = ["evaluate", "--model", str(folder), "--source", str(files[0]), "--reference", str(files[1])]
    assert main([*command, *more]) == 1
    assert "all 4 references are blank" in capsys.readouterr().err
    assert not (folder / "evaluation").exists()


def test_elsewhere_means_elsewhere(folder, files, tmp_path, capsys):
    """The model's folder stays as it is, bit for bit, unless the entry is asked for."""
    command = ["evaluate", "--model", str(folder), *files, "--num_beams", "1", "--output_dir", str(tmp_path / "out")]
    before = fingerprints(folder)
    assert main(command) == 0
    assert fingerprints(folder) == before
    assert entries_of(tmp_path / "out") == ["test"]
    printed = capsys.readouterr().out
    assert f"recorded in {tmp_path / 'out' / 'score_ledger.json'}" in printed
    assert f"the ledger of {folder} is unchanged; --record records the score there" in printed

    assert main([*command, "--overwrite", "--record"]) == 0
    assert entries_of(folder) == ["test"]
    inside = ["--output_dir", str(folder / "results" / "mine")]
    assert main(["evaluate", "--model", str(folder), *files, "--num_beams", "2", *inside]) == 0
    assert entries_of(folder) == ["test", "test"]


def test_results_do_not_go_into_another_models_folder(folder, files, tmp_path, capsys):
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    assert main(["evaluate", "--model", str(folder), *files, "--output_dir", str(other)]) == 2
    assert f"but {other} is the folder of another model" in capsys.readouterr().err


def test_doubtful_translations_are_kept_and_not_entered_unasked(folder, files, capsys, monkeypatch):
    nothing = Translation((Hypothesis("", 0.0, True),))
    monkeypatch.setattr(Translator, "translate", lambda self, sentences, **_: [nothing] * len(sentences))
    command = ["evaluate", "--model", str(folder), *files, "--num_beams", "1"]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert "kept in" in captured.out
    assert "recorded in" not in captured.out
    assert "4 of 4 translations are empty. Nothing was recorded; --record (with --overwrite)" in captured.err
    assert (folder / "evaluation" / "test" / "scores.json").is_file()
    assert entries_of(folder) == []
    assert main([*command, "--record", "--overwrite"]) == 0
    assert entries_of(folder) == ["test"]


def test_entries_are_listed_and_taken_out(folder, files, capsys):
    for beams in ("1", "2"):
        command = ["evaluate", "--model", str(folder), *files, "--num_beams", beams, "--overwrite"]
        assert main(command) == 0
    first, second = read_ledger(folder)
    capsys.readouterr()
    ledger = ["evaluate", "--model", str(folder)]
    assert main([*ledger, "--entries"]) == 0
    listed = capsys.readouterr().out
    assert f"{first.id}  test, 4 sentences (num_beams 1," in listed
    assert f"{second.id}  test, 4 sentences (num_beams 2," in listed
    assert f"{first.metrics[0]}" in listed

    before = fingerprints(folder)
    for wanted, message in ((["nothing"], "no entry 'nothing'"), (["test"], "2 entries named 'test'")):
        assert main([*ledger, "--forget", first.id, *wanted]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert f"{first.id} (test), {second.id} (test)" in error
        assert fingerprints(folder) == before
    assert main([*ledger, "--forget", first.id]) == 0
    printed = capsys.readouterr().out
    assert f"removed: {first.id}  test" in printed
    assert "num_beams 1," not in printed.split("\n", 1)[1]
    assert read_ledger(folder) == (second,)
    assert main([*ledger, "--forget", "test"]) == 0
    assert read_ledger(folder) == ()
    assert main([*ledger, "--entries"]) == 1
    assert "has none" in capsys.readouterr().err


@pytest.mark.parametrize("damaged", [False, True])
def test_a_sealed_ledger_stays_sealed_and_a_damaged_one_damaged(folder, files, damaged):
    """What was published holds its ledger in its manifest."""
    evaluate = ["evaluate", "--model", str(folder), *files]
    assert main([*evaluate, "--num_beams", "1"]) == 0
    write_manifest(folder)
    if damaged:
        path = folder / "score_ledger.json"
        path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert main([*evaluate, "--num_beams", "2", "--overwrite"]) == 0
    of_ledger = damaged_files(folder, ["score_ledger.json"])
    assert bool(of_ledger) == damaged
    assert len(read_ledger(folder)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a test set is needed: give --source and --reference, or --dataset_name"),
        (["--source", "a"], "a test set is needed"),
        (["--source", "a", "--reference", "b", "--dataset_name", "c"], "leave out one of them"),
        (["--dataset_name", "c"], "There is no model folder org/name; if it is a name on the Hub"),
        (["--dataset_name", "c", "--nearest_neighbour_from", "1", "2", "3"], "takes two text files"),
        (["--source", "a", "--reference", "b", "--split", "test"], "--split is for a dataset"),
        (["--source", "a", "--reference", "b", "--dataset_config_name", "c"], "--dataset_config_name is for"),
        (["--source", "a", "--reference", "b", "--source_lang", "fr"], "--source_lang needs --target_lang"),
        (["--dataset_name", "c", "--keep_references", "--no_record"], "--keep_references is for the ledger"),
        (["--dataset_name", "c", "--record", "--no_record"], "not allowed with argument"),
        (["--entries", "--source", "a", "--num_beams", "2"], "evaluate nothing: leave out --num_beams, --source"),
        (["--forget", "x", "--overwrite"], "evaluate nothing: leave out --overwrite"),
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
