"""`evaluate_model`: Python does what the `evaluate` command does, and says it in Python's words."""

import json
from pathlib import Path

import pytest

from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.evaluation import (
    ImplausibleTestSetError,
    Origin,
    evaluate_model,
    evaluate_translations,
    read_ledger,
)
from hf_vanilla_transformer.evaluation.evaluating import results_folder
from hf_vanilla_transformer.translation import Hypothesis, Translation, Translator

SOURCES = ["merci", "le petit chat dort", "la petite maison est vieille", "où est la gare ?"]
REFERENCES = ["thanks", "the little cat sleeps", "the little house is old", "where is the station ?"]


def write_lines(path: Path, lines: list[str]) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    source, reference = write_lines(tmp_path / "test.fr", SOURCES), write_lines(tmp_path / "test.en", REFERENCES)
    return Origin(source, (reference,))


def test_python_and_the_command_keep_and_enter_the_same(folder, origin, tmp_path):
    result = evaluate_model(
        folder, origin, device="cpu", num_beams=2, keep_references=True, training_text=origin, batch_tokens=1000
    )
    (ours,) = read_ledger(folder)
    ours_kept = json.loads((folder / "evaluation" / "test" / "scores.json").read_text(encoding="utf-8"))
    files = ["--source", str(origin.source), "--reference", *map(str, origin.references)]
    more = ["--keep_references", "--nearest_neighbour_from", *origin.files, "--overwrite", "--batch_tokens", "1000"]
    assert main(["evaluate", "--model", str(folder), *files, "--device", "cpu", "--num_beams", "2", *more]) == 0
    assert read_ledger(folder) == (ours,)
    theirs_kept = json.loads((folder / "evaluation" / "test" / "scores.json").read_text(encoding="utf-8"))
    for kept in (ours_kept, theirs_kept):
        assert kept["settings"].pop("sentences_per_second") > 0
    assert ours_kept == theirs_kept

    assert result.ledger == folder / "score_ledger.json"
    assert result.output_dir == folder / "evaluation" / "test"
    assert (result.doubts, result.problem) == ((), None)
    hypotheses = [each.text for each in Translator.from_pretrained(folder, "cpu").translate(SOURCES, num_beams=2)]
    assert ours.hypotheses == tuple(hypotheses)
    assert result.scores == evaluate_translations(hypotheses, REFERENCES, sources=SOURCES, n_bootstrap=1000)
    assert result.scores.table() in result.report()


def test_a_test_set_of_another_pair_is_refused_in_pythons_words_and_scored_if_asked_for(folder, origin, tmp_path):
    origin = Origin(origin.source, (write_lines(tmp_path / "blank.en", ["", *REFERENCES[1:]]),))
    with pytest.raises(ImplausibleTestSetError, match=r"1 of 4 references are blank.* pass record=True to score it"):
        evaluate_model(folder, origin, device="cpu")
    assert not (folder / "evaluation").exists()
    assert evaluate_model(folder, origin, device="cpu", num_beams=1, record=False).ledger is None
    assert read_ledger(folder) == ()
    evaluate_model(folder, origin, device="cpu", num_beams=1, record=True, overwrite=True)
    assert len(read_ledger(folder)) == 1


def test_doubts_keep_figures_out_of_the_ledger(folder, origin, monkeypatch):
    nothing = Translation((Hypothesis("", 0.0, True),))
    monkeypatch.setattr(Translator, "translate", lambda self, sentences, **_: [nothing] * len(sentences))
    result = evaluate_model(folder, origin, device="cpu")
    assert result.ledger is None
    assert result.doubts == ("4 of 4 translations are empty.",)
    assert read_ledger(folder) == ()


def test_a_ledger_that_cannot_be_written_leaves_the_results(folder, origin, monkeypatch, capsys):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hf_vanilla_transformer.evaluation.evaluating.add_to_ledger", fail)
    result = evaluate_model(folder, origin, device="cpu", num_beams=1)
    said = f"The ledger of {folder} cannot be written (No space left on device); the results are kept."
    assert (result.ledger, result.problem) == (None, said)
    assert (folder / "evaluation" / "test" / "scores.json").is_file()
    command = ["evaluate", "--model", str(folder), "--source", origin.files[0], "--reference", origin.files[1]]
    assert main([*command, "--device", "cpu", "--num_beams", "1", "--overwrite"]) == 0
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "given",
    [{}, {"source": "a"}, {"references": ("b",)}, {"source": "a", "references": ("b",), "dataset_name": "c"}],
)
def test_a_test_set_is_files_or_a_split(given):
    with pytest.raises(ValueError, match="A test set is files, `source` and `references`, or a split of a dataset"):
        Origin(**given)


def test_names_of_test_sets():
    of_dataset = Origin(dataset_name="wmt/wmt14", dataset_config_name="fr-en", split="test[:9]")
    assert (of_dataset.name, of_dataset.folder_name) == ("wmt14, fr-en, test[:9]", "wmt14-fr-en-test_9_")
    of_files = Origin("data/newstest.fr", ("data/newstest.en",))
    assert (of_files.name, of_files.folder_name) == ("newstest", "newstest")
    assert Origin(dataset_name="builtin-fr-en").languages == ("fr", "en")


def test_results_need_a_folder_that_is_no_other_models(folder, tmp_path, origin):
    with pytest.raises(FileNotFoundError, match=r"There is no model folder org/name; .* give output_dir"):
        results_folder("org/name", origin)
    with pytest.raises(ValueError, match=r"output_dir is for results, but .* is the folder of another model"):
        results_folder("org/name", origin, folder)
    assert results_folder("org/name", origin, tmp_path / "out") == tmp_path / "out"
    assert results_folder(folder, origin, folder / "mine") == folder / "mine"
